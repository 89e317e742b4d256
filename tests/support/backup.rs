//! Taking base backups of throw-away clusters, and starting what was restored of them.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use barkeep::{
    actor,
    clock::Clock,
    execute::base_backup::{
        BackupRequest, Error, Ports, RestorePoint, Server, Taken, WalArrival, WalProof, take_backup,
    },
    format::keys::{ArchiveName, BaseObject, ObjectKey, backup_directory},
    model::{
        backup::{Backup, BackupId},
        compression::Compression,
        desired::{Checkpoint, FilesOptions, Method},
        names::{DestinationName, ServerName},
        progress::Unwatched,
        recovery::{RecoveryTarget, TargetTimeline},
        schedule::Zone,
        semantics::Records,
        wal::SegmentName,
    },
    pipeline::{throttle::Throttle, untar::Durability},
    postgres::{Connector, Environment},
    recover::base::{
        ArchiveMode, Becomes, Inclusive, Recovery, RestorePorts, RestoreRequest, RestoredCluster,
        TablespaceRule, TargetAction, restore,
    },
    store::{self, Archive, SharedStore},
};
use tokio_util::sync::CancellationToken;

use super::{
    bed::bed,
    cluster::{Cluster, Stop},
    wait::until,
};

/// Every compression from which Barman restores base backups.
pub(crate) const EVERY: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Bzip2,
    Compression::Snappy,
    Compression::Lz4,
];

/// The server's name in every catalog of these tests.
pub(crate) const SERVER: &str = "orders";

/// A number that changes with every row of the table that [`fill`] makes.
pub(crate) const DIGEST: &str = "SELECT count(*), sum(hashtext(t::text)) FROM t";

/// A few megabytes of rows.
pub(crate) fn fill(cluster: &Cluster) {
    cluster.sql(
        "CREATE TABLE t (id int, filler text); \
         INSERT INTO t SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, 5000) i",
    );
}

/// Damages the fourth page of the table that [`fill`] makes, and gives its file. The server is stopped for that and started again.
pub(crate) fn damage(cluster: &mut Cluster) -> PathBuf {
    let path = cluster.sql("CHECKPOINT; SELECT pg_relation_filepath('t')");
    cluster.stop(Stop::Fast);
    let path = cluster.pgdata().join(path);
    let mut content = std::fs::read(&path).expect("the table");
    content[3 * 8192 + 5000] ^= 0xff;
    std::fs::write(&path, content).expect("written");
    cluster.start();
    path
}

/// A tablespace `space` with a table of its own whose ids add up to 500500.
pub(crate) fn fill_tablespace(cluster: &Cluster) {
    let space = cluster.new_directory("space");
    cluster.sql(&format!(
        "CREATE TABLESPACE space LOCATION '{}'; \
         CREATE TABLE in_space (id int) TABLESPACE space; \
         INSERT INTO in_space SELECT generate_series(1, 1000)",
        space.display()
    ));
}

/// The catalog of the server of these tests.
pub(crate) fn catalog(store: SharedStore) -> Archive {
    Archive::new(store, &server_name())
}

/// A backup as a restore needs it.
pub(crate) async fn read(catalog: &Archive, id: &BackupId) -> Backup {
    let info = catalog.read_info(id).await.expect("a readable record");
    let objects = catalog
        .objects(&backup_directory(id))
        .await
        .expect("a list");
    let archives = objects
        .iter()
        .filter_map(|object| match catalog.parse(&object.key) {
            Some(ObjectKey::Base(_, BaseObject::Archive(name))) => Some(name.stored(object.size)),
            _ => None,
        });
    let info = info.expect("a record").info;
    let backup = info.to_backup(id.clone(), archives.collect(), None, &Zone::utc());
    backup.expect("a backup")
}

/// The names of a backup's archives.
pub(crate) async fn archives(catalog: &Archive, id: &BackupId) -> Vec<String> {
    let archives = read(catalog, id).await.archives;
    let name = |archive| ArchiveName::from(archive).to_string();
    archives.iter().map(name).collect()
}

/// The servers of these tests archive into a directory of their own.
pub(crate) struct InDirectory(pub(crate) PathBuf);

#[async_trait]
impl WalArrival for InDirectory {
    async fn has_arrived(&self, segment: SegmentName) -> store::Result<bool> {
        Ok(self.0.join(segment.to_string()).exists())
    }
}

fn server_name() -> ServerName {
    ServerName::parse(SERVER).expect("a name")
}

fn destination_name() -> DestinationName {
    DestinationName::parse("primary").expect("a name")
}

/// What backup is wanted: small parts, so that several are sent.
pub(crate) fn request(compression: Compression) -> BackupRequest {
    BackupRequest {
        destination: destination_name(),
        above: None,
        due: None,
        name: None,
        zone: Zone::utc(),
        method: Method::Files,
        server_compression: Compression::None,
        parent: None,
        files: FilesOptions {
            compression,
            level: (compression == Compression::Gzip).then_some(1),
            jobs: NonZeroUsize::new(2).expect("not zero"),
            max_archive_bytes: 1 << 36,
            part_bytes: 1 << 20,
            checkpoint: Checkpoint::Immediate,
            name: None,
        },
        pgdata: None,
        pinned: None,
        wal: WalProof::Destination(Duration::from_secs(20)),
        records: Records::Written,
        restore_point: RestorePoint::None,
        actor: actor::current(),
    }
}

fn connector(cluster: &Cluster) -> Connector {
    let conninfo = cluster.conninfo("postgres");
    Connector::new(&conninfo, None, &Environment::default()).expect("a connection string")
}

/// Takes a backup of a server, or of a standby with its primary.
pub(crate) async fn take_of(
    cluster: &Cluster,
    primary: Option<&Cluster>,
    catalog: &Archive,
    request: &BackupRequest,
) -> Result<Taken, Error> {
    let archive = primary.unwrap_or(cluster).archive();
    let mut ports = Ports {
        catalog: catalog.clone(),
        postgres: Box::new(Server::new(connector(cluster), primary.map(connector))),
        wal: Arc::new(InDirectory(archive)),
        disks: None,
        throttle: None,
        progress: Arc::new(Unwatched),
        clock: Clock::System,
        cancel: CancellationToken::new(),
    };
    take_backup(request, &mut ports).await
}

/// Takes a backup that is sent no faster than this, and waits for no WAL.
pub(crate) async fn take_slowly(
    conninfo: &str,
    catalog: &Archive,
    request: &BackupRequest,
    throttle: Throttle,
) -> Result<Taken, Error> {
    let connector = Connector::new(conninfo, None, &Environment::default());
    let connector = connector.expect("a connection string");
    let mut ports = Ports {
        catalog: catalog.clone(),
        postgres: Box::new(Server::new(connector, None)),
        wal: Arc::new(catalog.clone()),
        disks: None,
        throttle: Some(throttle),
        progress: Arc::new(Unwatched),
        clock: Clock::System,
        cancel: CancellationToken::new(),
    };
    take_backup(request, &mut ports).await
}

fn recovery(from: &Cluster, target: RecoveryTarget) -> Recovery {
    Recovery {
        target,
        inclusive: Inclusive::Yes,
        timeline: TargetTimeline::Latest,
        action: TargetAction::Promote,
        restore_command: format!("cp {}/%f %p", from.archive().display()),
        becomes: Becomes::Primary,
        archive_mode: ArchiveMode::Off,
    }
}

/// A backup and before it all that it builds on.
async fn chain(catalog: &Archive, id: &BackupId) -> Vec<Backup> {
    let mut chain = vec![read(catalog, id).await];
    while let Some(parent) = chain[0].parent.clone() {
        chain.insert(0, read(catalog, &parent).await);
    }
    chain
}

/// Restores into the directory of a new cluster and starts it.
pub(crate) async fn start_restored(
    from: &Cluster,
    catalog: &Archive,
    id: &BackupId,
    target: RecoveryTarget,
) -> (Cluster, RestoredCluster) {
    let mut copy = Cluster::empty(from.major()).expect("this version is here");
    let mut chain = chain(catalog, id).await;
    let backup = chain.pop().expect("the backup itself");
    let rules = backup.tablespaces.iter().map(|space| TablespaceRule {
        name: space.name.clone(),
        location: copy.archive().parent().expect("a parent").join(&space.name),
    });
    let request = RestoreRequest {
        destination: destination_name(),
        tablespaces: rules.collect(),
        backup,
        chain,
        programs: bed().postgresql(from.major()).into_iter().collect(),
        directory: copy.pgdata(),
        recovery: Some(recovery(from, target)),
        durability: Durability::Leave,
    };
    let ports = RestorePorts {
        catalog: catalog.clone(),
        progress: Arc::new(Unwatched),
        cancel: CancellationToken::new(),
    };
    let restored = restore(&request, &ports).await.expect("restored");
    copy.start();
    until("the end of recovery", async || {
        (copy.sql("SELECT pg_is_in_recovery()") == "f").then_some(())
    })
    .await;
    (copy, restored)
}

/// Waits until the segment before the present one is in the archive.
pub(crate) async fn archived(cluster: &Cluster) {
    let wanted = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn() - 16777216)");
    until("the archiver", async || {
        cluster.archive().join(&wanted).exists().then_some(())
    })
    .await;
}
