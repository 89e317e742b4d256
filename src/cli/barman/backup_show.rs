//! `barman-cloud-backup-show`: what is recorded of one backup.

use super::{
    Command, Session,
    arguments::{Connection, Form, Taken, Upload},
    error::Error,
};

/// `barman-cloud-backup-show`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackupShow {
    pub(super) connection: Connection,
    pub(super) backup: String,
    pub(super) form: Form,
}

impl From<Taken> for BackupShow {
    fn from(mut taken: Taken) -> Self {
        Self {
            connection: taken.source(),
            backup: taken.word("backup_id"),
            form: taken.form(),
        }
    }
}

impl Command for BackupShow {
    const EXCEPTION: &'static str = "Barman cloud backup show exception";

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
