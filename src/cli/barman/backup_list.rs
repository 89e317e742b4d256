//! `barman-cloud-backup-list`: the backups of a server.

use super::{
    Command, Session,
    arguments::{Connection, Form, Taken, Upload},
    catalog::Listed,
    error::Error,
    json::Json,
    record::Record,
};
use crate::{cli::output, format::python::Value};

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
        let Some(archive) = self.connection.reach(&Upload::default()).await? else {
            return Ok(());
        };
        let listed = Listed::of(&archive).await?;
        let records = listed.records(&archive).await?;
        let text = match self.form {
            Form::Console => {
                let keeps = listed.keeps(&archive).await?;
                let keep = |id| keeps.get(id).map_or("", String::as_str);
                let rows = records.iter().map(|record| row(record, keep(&record.id)));
                let header = [
                    "Backup ID",
                    "End Time",
                    "Begin Wal",
                    "Archival Status",
                    "Name",
                ];
                std::iter::once(line(header)).chain(rows).collect()
            }
            Form::Json => {
                let records = records.iter().map(Record::to_dict).collect();
                let list = (Value::from("backups_list"), Value::List(records));
                format!("{}\n", Json(&Value::Dict(vec![list])))
            }
        };
        Ok(output::data(&text)?)
    }
}

fn row(record: &Record, keep: &str) -> String {
    let end = record.time("end_time");
    let end = end.map_or(String::new(), |end| {
        end.format("%Y-%m-%d %H:%M:%S").to_string()
    });
    let archival = match record.text("status") {
        "DONE" if keep.is_empty() => String::new(),
        "DONE" => format!("KEEP:{}", keep.to_uppercase()),
        status => status.to_owned(),
    };
    let [begin, name] = ["begin_wal", "backup_name"].map(|field| record.text(field));
    line([record.id.as_str(), &end, begin, &archival, name])
}

fn line([id, end, begin, archival, name]: [&str; 5]) -> String {
    format!("{id:<20}{end:<25}{begin:<30}{archival:<17}{name:<20}\n")
}
