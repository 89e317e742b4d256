//! `barman-cloud-backup-keep`: sets, releases and tells the keep of a backup.

use super::{
    Command, Session,
    arguments::{Connection, Taken, Upload},
    error::Error,
};
use crate::model::backup::KeepTarget;

/// `barman-cloud-backup-keep`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackupKeep {
    pub(super) connection: Connection,
    pub(super) backup: String,
    pub(super) what: Keeping,
}

/// What is done with a keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    Release,
    Status,
    Set(KeepTarget),
}

impl From<Taken> for BackupKeep {
    fn from(mut taken: Taken) -> Self {
        let target = match taken.word("target").as_str() {
            "standalone" => KeepTarget::Standalone,
            _ => KeepTarget::Full,
        };
        Self {
            connection: taken.source(),
            backup: taken.word("backup_id"),
            what: if taken.flag("release") {
                Keeping::Release
            } else if taken.flag("status") {
                Keeping::Status
            } else {
                Keeping::Set(target)
            },
        }
    }
}

impl Command for BackupKeep {
    const EXCEPTION: &'static str = "Barman cloud keep exception";

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
