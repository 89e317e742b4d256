//! `barman-cloud-backup-delete`: deletes one backup, or what a policy no longer wants.
//!
//! What goes is what Barman's judgement of the catalog lets go, less what the guard refuses and what is no longer as it was judged. All of
//! it goes in one plan, archives before `backup.info`, backups before their WAL.

mod desk;
mod dry_run;
mod locks;

use tracing::warn;

use super::{
    Command, Session,
    arguments::{CloudProvider, Connection, Taken, Upload},
    error::Error,
};
use crate::model::{
    judge::Verdicts,
    wal_expiry::{Going, WantedBy},
};
use desk::Desk;

/// `barman-cloud-backup-delete`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackupDelete {
    pub(super) connection: Connection,
    pub(super) doomed: Doomed,
    pub(super) minimum_redundancy: u32,
    pub(super) dry_run: bool,
    pub(super) check_object_lock: bool,
}

/// What is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doomed {
    /// The backup that this means: an id, a name or a shortcut.
    Backup(String),
    /// What this policy no longer wants.
    Policy(String),
    /// Nothing: what was given is empty.
    Nothing,
}

impl From<Taken> for BackupDelete {
    fn from(mut taken: Taken) -> Self {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let backup = given(taken.text("backup_id")).map(Doomed::Backup);
        let policy = given(taken.text("retention_policy")).map(Doomed::Policy);
        let minimum = taken.counted("minimum_redundancy");
        Self {
            connection: taken.source(),
            doomed: backup.or(policy).unwrap_or(Doomed::Nothing),
            minimum_redundancy: u32::try_from(minimum).unwrap_or(u32::MAX),
            dry_run: taken.flag("dry_run"),
            check_object_lock: taken.flag("check_object_lock"),
        }
    }
}

impl Command for BackupDelete {
    const EXCEPTION: &'static str = "Barman cloud backup delete exception";

    fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn run(self, session: &Session) -> Result<(), Error> {
        let is_s3 = self.connection.provider == CloudProvider::AwsS3;
        if self.check_object_lock && !is_s3 {
            warn!("--check-object-lock is for aws-s3 only: locks are not looked at");
        }
        let Some(archive) = self.connection.reach(&Upload::default()).await? else {
            return Ok(());
        };
        let desk = Desk::open(&self.connection, archive).await?;
        let (verdicts, going) = match &self.doomed {
            Doomed::Backup(text) => {
                let Some(id) = desk.named(text, self.minimum_redundancy)? else {
                    return Ok(());
                };
                let going = Going {
                    backups: [id].into(),
                    wanted_by: WantedBy::Person,
                };
                (Verdicts::default(), going)
            }
            Doomed::Policy(text) => desk.obsolete(text, self.minimum_redundancy)?,
            Doomed::Nothing => return Ok(()),
        };
        if self.dry_run {
            return dry_run::tell(&desk, &self.connection, &going).await;
        }
        if !self.check_object_lock || !is_s3 {
            return desk.delete(&verdicts, &going, &session.cancel).await;
        }
        let (free, locked) = locks::split(&desk, going).await?;
        desk.delete(&verdicts, &free, &session.cancel).await?;
        locked.map_or(Ok(()), Err)
    }
}
