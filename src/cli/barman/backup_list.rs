//! `barman-cloud-backup-list`: the backups of a server.

use super::{
    Command, Session,
    arguments::{Connection, Form, Taken, Upload},
    error::Error,
};

/// `barman-cloud-backup-list`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackupList {
    pub(super) connection: Connection,
    pub(super) form: Form,
}

impl From<Taken> for BackupList {
    fn from(mut taken: Taken) -> Self {
        Self {
            connection: taken.source(),
            form: taken.form(),
        }
    }
}

impl Command for BackupList {
    const EXCEPTION: &'static str = "Barman cloud backup list exception";

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
