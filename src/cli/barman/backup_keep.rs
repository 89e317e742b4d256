//! `barman-cloud-backup-keep`: sets, releases and tells the keep of a backup.

use super::{
    Command, Session,
    arguments::{Connection, Taken, Upload},
    catalog,
    error::Error,
};
use crate::{
    cli::output,
    clock::Clock,
    execute,
    model::{
        backup::{BackupId, KeepTarget},
        record::{KeepRecord, SetBy},
        semantics::BARMAN,
    },
    store::Archive,
};

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
        let Some(archive) = self.connection.reach(&Upload::default()).await? else {
            return Ok(());
        };
        let id = catalog::resolve(&archive, &self.backup).await?;
        let other = self.connection.other_spelling(&archive);
        match self.what {
            Keeping::Status => {
                let target = catalog::kept(&archive, other.as_ref(), &id).await?;
                let target = target.filter(|target| !target.is_empty());
                let target = target.as_deref().unwrap_or("nokeep");
                output::data(&format!("Keep: {target}\n"))?;
            }
            Keeping::Release => {
                for archive in std::iter::once(&archive).chain(&other) {
                    let released = execute::release_keep(archive, &id, BARMAN.records).await;
                    released.map_err(|error| Error::general(&error))?;
                }
            }
            Keeping::Set(target) => set(&archive, &id, target).await?,
        }
        if let (Keeping::Set(target), Some(other)) = (self.what, other) {
            other.write_keep(&id, target).await?;
        }
        Ok(())
    }
}

async fn set(archive: &Archive, id: &BackupId, target: KeepTarget) -> Result<(), Error> {
    let Some(found) = catalog::record(archive, id).await? else {
        return Err(Error::General(format!("backup {id} is not in the catalog")));
    };
    let status = found.text("status");
    if status != "DONE" {
        return Err(Error::Operation(format!(
            "Cannot add keep to backup {id} because it has status {status}. Only backups with \
             status DONE can be kept."
        )));
    }
    let record = KeepRecord {
        backup: id.clone(),
        target,
        reason: String::new(),
        until: None,
        set_at: Clock::System.now(),
        by: SetBy::default(),
    };
    let kept = execute::set_keep(archive, &record, BARMAN.records).await;
    kept.map_err(|error| Error::general(&error))
}
