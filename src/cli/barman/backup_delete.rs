//! `barman-cloud-backup-delete`: deletes one backup, or what a policy no longer wants.

use super::{
    Command, Session,
    arguments::{Connection, Taken, Upload},
    error::Error,
};

/// `barman-cloud-backup-delete`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackupDelete {
    pub(super) connection: Connection,
    pub(super) doomed: Doomed,
    pub(super) minimum_redundancy: u32,
    pub(super) dry_run: bool,
    /// How many objects one request deletes.
    pub(super) batch_size: Option<i128>,
    pub(super) check_object_lock: bool,
}

/// What is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doomed {
    /// The backup that this means: an id, a name or a shortcut.
    Backup(String),
    /// What this policy no longer wants.
    Policy(String),
}

impl From<Taken> for BackupDelete {
    fn from(mut taken: Taken) -> Self {
        let policy = taken.text("retention_policy");
        let minimum = taken.counted("minimum_redundancy");
        Self {
            connection: taken.source(),
            doomed: match taken.text("backup_id") {
                Some(backup) => Doomed::Backup(backup),
                None => Doomed::Policy(policy.unwrap_or_default()),
            },
            minimum_redundancy: u32::try_from(minimum).unwrap_or(u32::MAX),
            dry_run: taken.flag("dry_run"),
            batch_size: taken.number("delete_batch_size"),
            check_object_lock: taken.flag("check_object_lock"),
        }
    }
}

impl Command for BackupDelete {
    const EXCEPTION: &'static str = "Barman cloud backup delete exception";

    fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn run(self, _session: &Session) -> Result<(), Error> {
        let Some(_archive) = self.connection.reach(&Upload::default()).await? else {
            return Ok(());
        };
        Err(Error::General("this command is not there yet".to_owned()))
    }
}
