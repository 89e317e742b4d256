//! `barman-cloud-backup`: a base backup of a server that runs here.

//!
//! The executor is the one of `barkeep backup`; what differs is the request: no records, PostgreSQL's archiver has the word on WAL, the id is
//! the local time. As a hook script of a Barman server the command relays what that server has on its disk.

use std::{
    collections::BTreeSet,
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
};

use super::{
    Command, Session,
    arguments::{Connection, Taken, Upload},
    dsn,
    error::Error,
    hook::{Finished, Hook},
    zone,
};
use crate::{
    actor,
    clock::Clock,
    execute::base_backup::{
        self, BackupRequest, Ports, Relay, RelayPorts, RestorePoint, Server, WalProof, Warning,
        relay_backup, take_backup,
    },
    failure::chain,
    model::{
        compression::Compression,
        desired::{Checkpoint, FilesOptions, Method},
        progress::Unwatched,
        semantics::BARMAN,
    },
    pipeline::throttle::Throttle,
    postgres::{self, Connector, Environment},
    store::Archive,
};

/// S3 allows no more on an object.
const TAGS_MAX: usize = 10;

/// Barman makes no larger archives.
const ARCHIVE_BYTES_MAX: u64 = 1 << 40;

/// The size of an upload's parts, unless archives may become larger than all parts of it together.
const PART_BYTES: u64 = 8 << 20;

/// How many parts an object has at most, in every store.
const PARTS_MAX: u64 = 10_000;

/// More archives at once would only take more memory.
const JOBS_MAX: u64 = 64;

/// `barman-cloud-backup`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backup {
    pub(super) connection: Connection,
    pub(super) upload: Upload,
    pub(super) compression: Compression,
    pub(super) host: Option<String>,
    pub(super) port: Option<String>,
    pub(super) user: Option<String>,
    /// A database's name, or a connection string.
    pub(super) dbname: String,
    pub(super) checkpoint: Checkpoint,
    pub(super) jobs: u64,
    /// Bytes, as the next two.
    pub(super) max_archive_size: u64,
    pub(super) min_chunk_size: Option<u64>,
    /// Per second.
    pub(super) max_bandwidth: Option<u64>,
    pub(super) name: Option<String>,
    pub(super) snapshot: Snapshot,
}

/// Of what, and where, a backup is made by snapshots of disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) instance: Option<String>,
    pub(super) disks: Vec<String>,
    pub(super) gcp_project: Option<String>,
    pub(super) gcp_zone: Option<String>,
    pub(super) aws_region: Option<String>,
    /// Seconds.
    pub(super) aws_await_timeout: u64,
    /// `governance` or `compliance`.
    pub(super) aws_lock_mode: Option<String>,
    /// Hours.
    pub(super) aws_lock_cool_off: Option<u64>,
    /// Days.
    pub(super) aws_lock_duration: Option<u64>,
    /// `YYYY-MM-DDThh:mm:ss.sssZ`
    pub(super) aws_lock_expiration: Option<String>,
    pub(super) azure_subscription: Option<String>,
    pub(super) azure_resource_group: Option<String>,
}

impl From<Taken> for Backup {
    fn from(mut taken: Taken) -> Self {
        Self {
            connection: taken.destination(),
            upload: taken.upload(),
            compression: taken.compression(),
            host: taken.text("host"),
            port: taken.text("port"),
            user: taken.text("user"),
            dbname: taken.word("dbname"),
            checkpoint: if taken.flag("immediate_checkpoint") {
                Checkpoint::Immediate
            } else {
                Checkpoint::Spread
            },
            jobs: taken.counted("jobs"),
            max_archive_size: taken.counted("max_archive_size"),
            min_chunk_size: taken.count("min_chunk_size"),
            max_bandwidth: taken.count("max_bandwidth"),
            name: taken.text("backup_name"),
            snapshot: taken.snapshot(),
        }
    }
}

impl Taken {
    fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            instance: self.text("snapshot_instance"),
            disks: self.texts("snapshot_disks"),
            gcp_project: self.text("gcp_project"),
            gcp_zone: self.text("gcp_zone"),
            aws_region: self.text("aws_region"),
            aws_await_timeout: self.counted("aws_await_snapshots_timeout"),
            aws_lock_mode: self.text("aws_snapshot_lock_mode"),
            aws_lock_cool_off: self.count("aws_snapshot_lock_cool_off_period"),
            aws_lock_duration: self.count("aws_snapshot_lock_duration"),
            aws_lock_expiration: self.text("aws_snapshot_lock_expiration_date"),
            azure_subscription: self.text("azure_subscription_id"),
            azure_resource_group: self.text("azure_resource_group"),
        }
    }
}

impl Command for Backup {
    const EXCEPTION: &'static str = "Barman cloud backup exception";

    fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn run(self, session: &Session) -> Result<(), Error> {
        self.check()?;
        let Some(archive) = self.connection.reach(&self.upload).await? else {
            return Ok(());
        };
        if let Some(hook) = Hook::read("barman-cloud-backup") {
            let finished = hook.backup(self.name.as_deref())?;
            return self.relay(finished, archive, session).await;
        }
        self.take(archive, session).await
    }
}

impl Snapshot {
    fn is_wanted(&self) -> bool {
        self.instance.is_some() || !self.disks.is_empty()
    }
}

impl Backup {
    /// What no option refuses by itself.
    fn check(&self) -> Result<(), Error> {
        let refused = |why: &str| Err(Error::General(why.to_owned()));
        if self.snapshot.is_wanted() && self.compression != Compression::None {
            return refused("Compression options cannot be used with snapshot backups");
        }
        let lock_mode = self.snapshot.aws_lock_mode.as_deref();
        if lock_mode == Some("governance") && self.snapshot.aws_lock_cool_off.is_some() {
            return refused(
                "'aws_snapshot_lock_mode' = 'governance' cannot be used with \
                 'aws_snapshot_lock_cool_off_period'",
            );
        }
        if self.upload.tags.len() > TAGS_MAX {
            return refused(
                "Maximum number of tags per object exceeded. S3 allows no more than 10 tags per object.",
            );
        }
        let mut keys = BTreeSet::new();
        let mut twice = BTreeSet::new();
        for (key, _) in &self.upload.tags {
            if !keys.insert(key.as_str()) {
                twice.insert(key.as_str());
            }
        }
        if twice.is_empty() {
            return Ok(());
        }
        let twice: Vec<_> = twice.into_iter().collect();
        let twice = twice.join(", ");
        refused(&format!(
            "Duplicate tag keys found: {twice}. Tag keys must be unique."
        ))
    }

    /// Backs up the server that the command line names.
    async fn take(&self, archive: Archive, session: &Session) -> Result<(), Error> {
        let conninfo = dsn::conninfo(self);
        let connector = Connector::new(&conninfo, None, &Environment::read());
        let connector = connector.map_err(|error| {
            Error::General(format!("Cannot connect to postgres: {}", chain(&error)))
        })?;
        let disks = if self.snapshot.is_wanted() {
            Some(self.disks().await?)
        } else {
            None
        };
        let request = BackupRequest {
            destination: self.connection.destination(),
            above: None,
            due: None,
            name: self.name.clone(),
            zone: zone(),
            method: match disks {
                Some(_) => Method::Snapshot,
                None => Method::Files,
            },
            server_compression: Compression::None,
            parent: None,
            files: self.files(),
            pgdata: None,
            pinned: None,
            wal: WalProof::Archiver,
            records: BARMAN.records,
            restore_point: RestorePoint::Create,
            actor: actor::current(),
        };
        let mut ports = Ports {
            wal: Arc::new(archive.clone()),
            catalog: archive,
            postgres: Box::new(Server::new(connector, None)),
            disks,
            throttle: self.throttle(),
            progress: Arc::new(Unwatched),
            clock: Clock::System,
            cancel: session.cancel.clone(),
        };
        let taken = take_backup(&request, &mut ports).await;
        let taken = taken.map_err(|error| untaken(&error))?;
        tell(&taken.warnings);
        for damaged in &taken.damaged {
            let (path, pages) = (damaged.path.display(), damaged.pages);
            tracing::warn!("{path} has {pages} damaged pages");
        }
        let bound = taken.memory.total();
        tracing::info!(backup = %taken.backup, bound, "backup taken, in no more bytes of memory");
        Ok(())
    }

    /// Stores a backup that a Barman server has finished.
    async fn relay(
        &self,
        finished: Finished,
        archive: Archive,
        session: &Session,
    ) -> Result<(), Error> {
        let relay = Relay {
            id: finished.id,
            directory: finished.directory,
            info: finished.info,
            files: self.files(),
        };
        let ports = RelayPorts {
            catalog: archive,
            throttle: self.throttle(),
            progress: Arc::new(Unwatched),
            cancel: session.cancel.clone(),
        };
        let relayed = relay_backup(&relay, &ports).await.map_err(|error| {
            let error = chain(&error);
            Error::Operation(format!("Backup upload failed uploading data ({error})"))
        })?;
        tell(&relayed.warnings);
        Ok(())
    }

    fn files(&self) -> FilesOptions {
        if self.max_archive_size > ARCHIVE_BYTES_MAX {
            tracing::warn!("max-archive-size is capped at 1 TiB");
        }
        let max_archive_bytes = self.max_archive_size.min(ARCHIVE_BYTES_MAX);
        let jobs = usize::try_from(self.jobs.min(JOBS_MAX)).ok();
        FilesOptions {
            compression: self.compression,
            level: None,
            jobs: jobs
                .and_then(NonZeroUsize::new)
                .unwrap_or(NonZeroUsize::MIN),
            max_archive_bytes,
            part_bytes: part_bytes(max_archive_bytes, self.min_chunk_size),
            checkpoint: self.checkpoint,
            name: None,
        }
    }

    fn throttle(&self) -> Option<Throttle> {
        let limit = self.max_bandwidth.and_then(NonZeroU64::new);
        limit.map(Throttle::new)
    }
}

/// So large that an archive may become as large as was asked for.
fn part_bytes(max_archive_bytes: u64, min_chunk_size: Option<u64>) -> u64 {
    let needed = max_archive_bytes
        .div_ceil(PARTS_MAX)
        .next_multiple_of(1 << 20);
    needed.max(PART_BYTES).max(min_chunk_size.unwrap_or(0))
}

fn tell(warnings: &[Warning]) {
    for warning in warnings {
        match warning {
            // With a limit so low somebody meant it.
            Warning::LargeFile { .. } => tracing::info!("{warning}"),
            _ => tracing::warn!("{warning}"),
        }
    }
}

/// Barman connects before anything else, and gives what goes wrong there another text; a server that is too old is an exception.
fn untaken(error: &base_backup::Error) -> Error {
    use postgres::Error as Server;
    if let base_backup::Error::Disks(source) = error {
        return Error::general(source);
    }
    if let base_backup::Error::Server { source, .. } = error {
        match source {
            Server::Version(_) => return Error::general(error),
            Server::Tls(_)
            | Server::LookUp { .. }
            | Server::Connect { .. }
            | Server::Unsuited { .. }
            | Server::Nowhere(_) => {
                let source = chain(source);
                return Error::Operation(format!("Cannot connect to postgres: {source}"));
            }
            _ => {}
        }
    }
    Error::Operation(format!("Backup failed uploading data ({})", chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_large_as_the_archive_that_they_make_needs() {
        for (archive, chunk, bytes) in [
            (100 << 30, None, 11 << 20),
            (1 << 20, None, 8 << 20),
            (1 << 40, None, 105 << 20),
            (100 << 30, Some(64 << 20), 64 << 20),
            (100 << 30, Some(1), 11 << 20),
        ] {
            assert_eq!(part_bytes(archive, chunk), bytes);
            assert!(part_bytes(archive, chunk) * PARTS_MAX >= archive);
        }
    }
}
