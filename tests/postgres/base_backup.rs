//! Base backups of real servers, restored and started.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use barkeep::{
    actor,
    clock::Clock,
    execute::base_backup::{
        BackupRequest, Error, Finished, Ports, RestorePoint, Server, Taken, TakenState, WalArrival,
        Warning, finish_backup, take_backup,
    },
    format::keys::{ArchiveName, BaseObject, ObjectKey, backup_directory},
    model::{
        backup::{Backup, BackupId},
        compression::Compression,
        desired::{Checkpoint, FilesOptions},
        names::{DestinationName, ServerName},
        progress::Unwatched,
        recovery::{RecoveryTarget, TargetTimeline},
        schedule::Zone,
        wal::SegmentName,
    },
    pipeline::untar::Durability,
    postgres::{Connector, Environment},
    recover::base::{
        ArchiveMode, Becomes, Inclusive, Recovery, RestorePorts, RestoreRequest, RestoredCluster,
        TablespaceRule, TargetAction, restore,
    },
    store::{self, Archive, directory::Directory},
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    bed::bed,
    cluster::{Cluster, Stop},
    wait::until,
};

const EVERY: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Bzip2,
    Compression::Snappy,
    Compression::Lz4,
];

/// A place for backups.
struct Store {
    directory: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory }
    }

    fn catalog(&self) -> Archive {
        let store = Directory::new(self.directory.path(), Clock::System);
        Archive::new(Arc::new(store), &server_name())
    }

    /// The backup as a restore needs it.
    async fn backup(&self, id: &BackupId) -> Backup {
        let catalog = self.catalog();
        let info = catalog.read_info(id).await.expect("a readable record");
        let objects = catalog
            .objects(&backup_directory(id))
            .await
            .expect("a list");
        let archives = objects
            .iter()
            .filter_map(|object| match catalog.parse(&object.key) {
                Some(ObjectKey::Base(_, BaseObject::Archive(name))) => {
                    Some(name.stored(object.size))
                }
                _ => None,
            });
        let info = info.expect("a record").info;
        let backup = info.to_backup(id.clone(), archives.collect(), None, &Zone::utc());
        backup.expect("a backup")
    }

    /// The names of a backup's archives.
    async fn archives(&self, id: &BackupId) -> Vec<String> {
        let archives = self.backup(id).await.archives;
        archives
            .iter()
            .map(|archive| ArchiveName::from(archive).to_string())
            .collect()
    }
}

/// The servers of these tests archive into a directory of their own.
struct InDirectory(PathBuf);

#[async_trait]
impl WalArrival for InDirectory {
    async fn has_arrived(&self, segment: SegmentName) -> store::Result<bool> {
        Ok(self.0.join(segment.to_string()).exists())
    }
}

fn server_name() -> ServerName {
    ServerName::parse("orders").expect("a name")
}

fn request(compression: Compression) -> BackupRequest {
    BackupRequest {
        server: server_name(),
        destination: DestinationName::parse("primary").expect("a name"),
        above: None,
        due: None,
        name: None,
        zone: Zone::utc(),
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
        wal_patience: Duration::from_secs(20),
        restore_point: RestorePoint::None,
        actor: actor::current(),
    }
}

fn connector(cluster: &Cluster) -> Connector {
    let conninfo = cluster.conninfo("postgres");
    Connector::new(&conninfo, None, &Environment::default()).expect("a connection string")
}

async fn take(cluster: &Cluster, store: &Store, request: &BackupRequest) -> Result<Taken, Error> {
    take_of(cluster, None, store, request).await
}

async fn take_of(
    cluster: &Cluster,
    primary: Option<&Cluster>,
    store: &Store,
    request: &BackupRequest,
) -> Result<Taken, Error> {
    let archive = primary.unwrap_or(cluster).archive();
    let mut ports = Ports {
        catalog: store.catalog(),
        postgres: Box::new(Server::new(connector(cluster), primary.map(connector))),
        wal: Arc::new(InDirectory(archive)),
        throttle: None,
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

/// Restores into the directory of a new cluster and starts it.
async fn start_restored(
    from: &Cluster,
    store: &Store,
    id: &BackupId,
    target: RecoveryTarget,
) -> (Cluster, RestoredCluster) {
    let mut copy = Cluster::empty(from.major()).expect("this version is here");
    let backup = store.backup(id).await;
    let rules = backup.tablespaces.iter().map(|space| TablespaceRule {
        name: space.name.clone(),
        location: copy.archive().parent().expect("a parent").join(&space.name),
    });
    let request = RestoreRequest {
        server: server_name(),
        destination: DestinationName::parse("primary").expect("a name"),
        tablespaces: rules.collect(),
        backup,
        directory: copy.pgdata(),
        recovery: Some(recovery(from, target)),
        durability: Durability::Leave,
    };
    let ports = RestorePorts {
        catalog: store.catalog(),
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

/// A number that changes with every row.
const DIGEST: &str = "SELECT count(*), sum(hashtext(t::text)) FROM t";

fn fill(cluster: &Cluster) {
    cluster.sql(
        "CREATE TABLE t (id int, filler text); \
         INSERT INTO t SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, 5000) i",
    );
}

macro_rules! on_majors {
    ($($name:ident: $major:literal),* $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn every_compression_restores() {
                super::every_compression_restores($major).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn whatever_is_unusual_restores() {
                super::whatever_is_unusual_restores($major).await;
            }
        }
    )*};
}

on_majors! { v15: 15, v17: 17, v18: 18 }

async fn every_compression_restores(major: u32) {
    let Some(mut cluster) = Cluster::create(major) else {
        return;
    };
    cluster.start();
    let space = cluster.new_directory("space");
    cluster.sql(&format!(
        "CREATE TABLESPACE space LOCATION '{}'; \
         CREATE TABLE in_space (id int) TABLESPACE space; \
         INSERT INTO in_space SELECT generate_series(1, 1000)",
        space.display()
    ));
    fill(&cluster);
    for compression in EVERY {
        let store = Store::new();
        let taken = take(&cluster, &store, &request(compression)).await;
        let taken = taken.expect("a backup");
        assert_eq!(taken.state, TakenState::Done);
        assert_eq!(taken.damaged_files, 0, "{:?}", taken.damaged);
        assert_eq!(taken.warnings, []);
        cluster.sql(&format!(
            "INSERT INTO t VALUES (-1, '{compression}'); SELECT pg_switch_wal()"
        ));
        let expected = cluster.sql(DIGEST);
        archived(&cluster).await;
        let latest = RecoveryTarget::Latest;
        let (copy, _) = start_restored(&cluster, &store, &taken.backup, latest).await;
        assert_eq!(copy.sql(DIGEST), expected, "{compression}");
        assert_eq!(copy.sql("SELECT sum(id) FROM in_space"), "500500");
        assert_eq!(copy.sql("SHOW archive_mode"), "off");
    }
}

/// Waits until the segment before the present one is in the archive.
async fn archived(cluster: &Cluster) {
    let wanted = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn() - 16777216)");
    until("the archiver", async || {
        cluster.archive().join(&wanted).exists().then_some(())
    })
    .await;
}

/// WAL elsewhere, configuration elsewhere, a tablespace inside PGDATA, links, split archives, temporary tables, page checksums.
async fn whatever_is_unusual_restores(major: u32) {
    let outside = tempfile::Builder::new()
        .prefix("bed.")
        .tempdir_in("/tmp")
        .expect("a directory");
    bed().give(outside.path());
    let wal = outside.path().join("wal");
    let wal_directory = wal.to_str().expect("a path");
    let Some(mut cluster) = Cluster::create_with(major, &["-k", "-X", wal_directory]) else {
        return;
    };
    let hba = outside.path().join("pg_hba.conf");
    std::fs::rename(cluster.pgdata().join("pg_hba.conf"), &hba).expect("moved");
    cluster.configure(&[("hba_file", hba.to_str().expect("a path"))]);
    std::os::unix::fs::symlink(outside.path(), cluster.pgdata().join("mine")).expect("a link");
    cluster.start();
    let inside = cluster.pgdata().join("inside");
    std::fs::create_dir(&inside).expect("a directory");
    bed().give(&inside);
    cluster.sql(&format!(
        "SET client_min_messages = error; \
         CREATE TABLESPACE inside LOCATION '{}'; \
         CREATE TABLE in_space (id int) TABLESPACE inside; \
         INSERT INTO in_space SELECT generate_series(1, 1000)",
        inside.display()
    ));
    fill(&cluster);
    let store = Store::new();
    let mut request = request(Compression::Lz4);
    request.files.max_archive_bytes = 2 << 20;
    let taken = take(&cluster, &store, &request).await.expect("a backup");
    let link = cluster.pgdata().join("mine");
    assert_eq!(taken.warnings, [Warning::DirectoryLink(link)]);
    assert_eq!(taken.damaged_files, 0, "{:?}", taken.damaged);
    let archives = store.archives(&taken.backup).await;
    assert!(archives.len() > 3, "{archives:?}");
    let immediate = RecoveryTarget::Immediate;
    let (copy, restored) = start_restored(&cluster, &store, &taken.backup, immediate).await;
    assert_eq!(copy.sql(DIGEST), cluster.sql(DIGEST));
    assert_eq!(copy.sql("SELECT sum(id) FROM in_space"), "500500");
    let hba = copy.pgdata().join("pg_hba.conf");
    assert_eq!(Path::new(&copy.sql("SHOW hba_file")), hba);
    let overridden: Vec<_> = restored
        .overrides
        .iter()
        .map(|change| &change.name)
        .collect();
    assert_eq!(overridden, ["hba_file"]);
    assert!(!copy.pgdata().join("inside").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_stops_where_it_is_told_to() {
    let Some(mut cluster) = Cluster::create(17) else {
        return;
    };
    cluster.start();
    cluster.sql("CREATE TABLE steps (step text)");
    let store = Store::new();
    let taken = take(&cluster, &store, &request(Compression::Lz4)).await;
    let id = taken.expect("a backup").backup;
    let step = |name: &str| cluster.sql(&format!("INSERT INTO steps VALUES ('{name}')"));
    step("a");
    let time = cluster
        .sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    cluster.sql("SELECT pg_sleep(0.01)");
    step("b");
    let lsn = cluster.sql("SELECT pg_current_wal_insert_lsn()");
    step("c");
    let xid =
        cluster.sql("BEGIN; INSERT INTO steps VALUES ('d'); SELECT pg_current_xact_id(); COMMIT");
    let xid: u64 = xid.parse().expect("a transaction id");
    step("e");
    cluster.sql("SELECT pg_create_restore_point('the point')");
    step("f");
    cluster.sql("SELECT pg_switch_wal()");
    archived(&cluster).await;
    let targets = [
        (RecoveryTarget::Immediate, ""),
        (RecoveryTarget::Time(time.parse().expect("an instant")), "a"),
        (RecoveryTarget::Lsn(lsn.parse().expect("a position")), "ab"),
        (RecoveryTarget::Xid(xid), "abcd"),
        (RecoveryTarget::Name("the point".to_owned()), "abcde"),
        (RecoveryTarget::Latest, "abcdef"),
    ];
    for (target, steps) in targets {
        let name = format!("{target:?}");
        let (copy, _) = start_restored(&cluster, &store, &id, target).await;
        let found = copy.sql("SELECT coalesce(string_agg(step, '' ORDER BY step), '') FROM steps");
        assert_eq!(found, steps, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupted_page_is_found_and_named() {
    let Some(mut cluster) = Cluster::create_with(17, &["-k"]) else {
        return;
    };
    cluster.start();
    fill(&cluster);
    let path = cluster.sql("CHECKPOINT; SELECT pg_relation_filepath('t')");
    cluster.stop(Stop::Fast);
    let path = cluster.pgdata().join(path);
    let mut content = std::fs::read(&path).expect("the table");
    content[3 * 8192 + 5000] ^= 0xff;
    std::fs::write(&path, content).expect("written");
    cluster.start();
    let store = Store::new();
    let taken = take(&cluster, &store, &request(Compression::Lz4)).await;
    let taken = taken.expect("a backup");
    assert_eq!(taken.state, TakenState::Done, "the backup is completed");
    assert_eq!((taken.damaged_files, &taken.damaged[0].path), (1, &path));
    assert_eq!(taken.damaged[0].blocks, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_backed_up_while_its_primary_switches_wal() {
    let Some(mut primary) = Cluster::create(17) else {
        return;
    };
    primary.start();
    fill(&primary);
    let mut standby = primary.standby();
    standby.start();
    let store = Store::new();
    let request = request(Compression::Lz4);
    let taken = take_of(&standby, Some(&primary), &store, &request).await;
    let taken = taken.expect("a backup");
    assert_eq!(taken.state, TakenState::Done);
    let immediate = RecoveryTarget::Immediate;
    let (copy, restored) = start_restored(&primary, &store, &taken.backup, immediate).await;
    assert_eq!(copy.sql(DIGEST), primary.sql(DIGEST));
    assert_eq!(
        restored.removed,
        [""; 0].map(PathBuf::from),
        "a signal file is never stored"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_wal_does_not_arrive_waits_for_it() {
    let Some(mut cluster) = Cluster::create(17) else {
        return;
    };
    cluster.configure(&[("archive_command", "false")]);
    cluster.start();
    let store = Store::new();
    let mut request = request(Compression::None);
    request.wal_patience = Duration::from_millis(200);
    let taken = take(&cluster, &store, &request).await.expect("a backup");
    assert!(matches!(taken.state, TakenState::WaitingForWals(_)));
    let archive = cluster.archive();
    let command = format!("cp %p {}/%f", archive.display());
    cluster.sql(&format!(
        "ALTER SYSTEM SET archive_command = '{command}'; SELECT pg_reload_conf()"
    ));
    let arrival = InDirectory(archive);
    until("the backup to be finished", async || {
        let finished = finish_backup(&store.catalog(), &taken.backup, &arrival).await;
        (finished.expect("an answer") == Finished::Done).then_some(())
    })
    .await;
    let immediate = RecoveryTarget::Immediate;
    start_restored(&cluster, &store, &taken.backup, immediate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_another_server_are_never_copied() {
    let (Some(mut cluster), Some(mut other)) = (Cluster::create(17), Cluster::create(17)) else {
        return;
    };
    cluster.start();
    other.start();
    let store = Store::new();
    let mut request = request(Compression::None);
    request.pgdata = Some(other.pgdata());
    let error = take(&cluster, &store, &request)
        .await
        .expect_err("not its files");
    assert!(matches!(error, Error::NotLocal(_)), "{error}");
    let left = std::fs::read_dir(store.directory.path()).expect("a directory");
    assert_eq!(left.count(), 0, "nothing was written");
}
