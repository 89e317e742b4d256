//! `barman-cloud-backup-show`: what is recorded of one backup.

use super::{
    Command, Session,
    arguments::{Connection, Form, Taken, Upload},
    catalog,
    error::Error,
    json::Json,
    show::Show,
};
use crate::{cli::output, format::python::Value};

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
        let Some(archive) = self.connection.reach(&Upload::default()).await? else {
            return Ok(());
        };
        let id = catalog::resolve(&archive, &self.backup).await?;
        let Some(record) = catalog::record(&archive, &id).await? else {
            let server = archive.server();
            return Err(Error::Operation(format!(
                "Backup {id} for server {server} does not exist"
            )));
        };
        let text = match self.form {
            Form::Console => Show(&record).to_string(),
            Form::Json => {
                let entry = (record.value("server_name").clone(), record.to_dict());
                format!("{}\n", Json(&Value::Dict(vec![entry])))
            }
        };
        Ok(output::data(&text)?)
    }
}
