//! `barman-cloud-restore`: a base backup, into a directory.

//!
//! Nothing is written but what the archives hold and what makes it a cluster: no recovery settings, no signal file. An id is believed
//! whatever its status; `auto` chooses among complete backups.

mod snapshots;

use std::{path::PathBuf, sync::Arc};

use super::{
    Command, Session,
    arguments::{Connection, Taken, Upload},
    catalog,
    error::Error,
    zone,
};
use crate::{
    clock::Clock,
    failure::chain,
    format::{
        backup_info,
        keys::{WALS, backup_directory},
        python::Value,
    },
    model::{
        backup::{Backup, BackupId},
        desired::ObjectLock,
        progress::Unwatched,
        recovery::{self, RecoveryTarget},
        timeline::TimelineId,
    },
    observe::{Context, Deletes, Depth, catalog as observed},
    pipeline::untar::Durability,
    recover::base::{self, RestorePorts, RestoreRequest, TablespaceRule},
    store::{Archive, StoreExt as _},
};

/// `barman-cloud-restore`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Restore {
    pub(super) connection: Connection,
    pub(super) backup: String,
    pub(super) directory: String,
    /// Each `NAME:LOCATION`, as typed.
    pub(super) tablespaces: Vec<String>,
    /// `current`, `latest` or a number.
    pub(super) target_tli: Option<String>,
    pub(super) target_lsn: Option<String>,
    pub(super) target_time: Option<String>,
    pub(super) snapshot_instance: Option<String>,
    pub(super) gcp_zone: Option<String>,
    pub(super) aws_region: Option<String>,
    pub(super) azure_resource_group: Option<String>,
}

impl From<Taken> for Restore {
    fn from(mut taken: Taken) -> Self {
        let timeline = taken.0.remove("target_tli");
        Self {
            connection: taken.source(),
            backup: taken.word("backup_id"),
            directory: taken.word("recovery_dir"),
            tablespaces: taken.texts("tablespace"),
            target_tli: match timeline {
                Some(Value::Int(number)) => Some(number.to_string()),
                Some(Value::Str(word)) => Some(word),
                _ => None,
            },
            target_lsn: taken.text("target_lsn"),
            target_time: taken.text("target_time"),
            snapshot_instance: taken.text("snapshot_recovery_instance"),
            gcp_zone: taken.text("gcp_zone"),
            aws_region: taken.text("aws_region"),
            azure_resource_group: taken.text("azure_resource_group"),
        }
    }
}

impl Command for Restore {
    const EXCEPTION: &'static str = "Barman cloud restore exception";

    fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn run(self, session: &Session) -> Result<(), Error> {
        let Some(archive) = self.connection.reach(&Upload::default()).await? else {
            return Ok(());
        };
        let id = self.resolve(&archive).await?;
        let rules = self.tablespace_rules()?;
        let backup = observed::backup(&archive, &context(), &id).await?;
        let backup = backup.ok_or_else(|| {
            let server = &self.connection.server;
            Error::Operation(format!("Backup {id} for server {server} does not exists"))
        })?;
        if !backup.snapshots.is_empty() {
            return self.attach_snapshots(&archive, &id).await;
        }
        let request = RestoreRequest {
            destination: self.connection.destination(),
            chain: Vec::new(),
            programs: Vec::new(),
            directory: PathBuf::from(&self.directory),
            tablespaces: known(rules, &backup),
            backup,
            recovery: None,
            durability: Durability::SyncFileSystem,
        };
        let ports = RestorePorts {
            catalog: archive,
            progress: Arc::new(Unwatched),
            cancel: session.cancel.clone(),
        };
        let restored = base::restore(&request, &ports).await;
        let restored = restored.map_err(|error| self.told(&error))?;
        for (link, target) in restored.links {
            let (link, target) = (link.display(), target.display());
            tracing::info!("{link} leads out of the restored directory, to {target}");
        }
        Ok(())
    }
}

impl Restore {
    /// The backup that the command line means.
    async fn resolve(&self, archive: &Archive) -> Result<BackupId, Error> {
        let text = &self.backup;
        if text == "auto" {
            return self.choose(archive).await;
        }
        catalog::resolve(archive, text).await
    }

    async fn choose(&self, archive: &Archive) -> Result<BackupId, Error> {
        let target = self.target()?;
        let timeline = self.timeline(archive).await?;
        let catalog = observed::read(archive, &context()).await?;
        let chosen = recovery::last_before(&catalog, &target, timeline);
        let none = || Error::Operation("Cannot find any candidate backup for recovery.".to_owned());
        chosen.map(|backup| backup.id.clone()).ok_or_else(none)
    }

    fn target(&self) -> Result<RecoveryTarget, Error> {
        if let Some(text) = &self.target_time {
            let time = backup_info::parse_time(text, &zone());
            let why = format!("Unable to parse the target time parameter '{text}'");
            return time.map(RecoveryTarget::Time).ok_or(Error::General(why));
        }
        let Some(text) = &self.target_lsn else {
            return Ok(RecoveryTarget::Latest);
        };
        let lsn = text.parse().map(RecoveryTarget::Lsn);
        lsn.map_err(|_| Error::General(format!("Invalid LSN: {text}")))
    }

    async fn timeline(&self, archive: &Archive) -> Result<Option<TimelineId>, Error> {
        let text = match self.target_tli.as_deref() {
            None => return Ok(None),
            Some("latest") => return newest_timeline(archive).await.map(Some),
            Some(text) => text,
        };
        let timeline = text.parse().ok().and_then(TimelineId::new);
        let why = "is not a valid timeline keyword when recovering without a backup_id";
        let wrong = || Error::General(format!("'{text}' {why}"));
        timeline.map(Some).ok_or_else(wrong)
    }

    /// What Barman foresees ends with 1, anything else with 4.
    fn told(&self, error: &base::Error) -> Error {
        match error {
            base::Error::NotEmpty(path) => Error::Operation(format!(
                "Destination {} already exists and it is not empty",
                path.display()
            )),
            base::Error::MissingArchive { backup, root } => {
                let server = &self.connection.server;
                let path = self.connection.path();
                let path = format!("{path}{server}/{}{root}", backup_directory(backup));
                Error::Operation(format!("Missing file {path}.* for server {server}"))
            }
            base::Error::MissingFile { .. }
            | base::Error::Unfinished(_)
            | base::Error::Overlap { .. }
            | base::Error::Interrupted => Error::Operation(chain(error)),
            _ => Error::general(error),
        }
    }

    fn tablespace_rules(&self) -> Result<Vec<TablespaceRule>, Error> {
        let rule = |text: &String| {
            let (name, location) = text.split_once(':')?;
            let name = name.to_owned();
            Some(TablespaceRule {
                name,
                location: PathBuf::from(location),
            })
        };
        let rules = self.tablespaces.iter().map(|text| {
            rule(text).ok_or_else(|| {
                Error::Usage(format!(
                    "Invalid tablespace relocation rule '{text}'\n\
                     HINT: The valid syntax for a relocation rule is NAME:LOCATION"
                ))
            })
        });
        rules.collect()
    }
}

/// Rules for tablespaces that the backup does not have mean nothing to Barman; of two for one, the last counts.
fn known(rules: Vec<TablespaceRule>, backup: &Backup) -> Vec<TablespaceRule> {
    let is_known = |rule: &TablespaceRule| {
        let mut spaces = backup.tablespaces.iter();
        spaces.any(|space| space.name == rule.name)
    };
    rules.into_iter().rev().filter(is_known).collect()
}

fn context() -> Context<'static> {
    Context {
        snapshots: None,
        earlier: None,
        zone: zone(),
        clock: Clock::System,
        depth: Depth::Backups,
        deletes: Deletes::Recent,
        object_lock: ObjectLock::Ignore,
    }
}

/// The timeline of the last name in the WAL archive, of which only the names of directories and histories are looked at.
async fn newest_timeline(archive: &Archive) -> Result<TimelineId, Error> {
    let (directories, objects) = archive.store().list_children(&archive.prefix(WALS)).await?;
    let objects = objects.iter().map(|object| object.key.as_str());
    let names = directories.iter().map(String::as_str).chain(objects);
    let timeline = |name: &str| {
        let name = name.trim_end_matches('/').rsplit('/').next()?;
        TimelineId::parse(name.get(..8)?)
    };
    let newest = names.filter_map(timeline).max();
    newest.ok_or_else(|| Error::General("there is no WAL in the archive".to_owned()))
}
