//! Base backups of real servers, restored and started.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use barkeep::{
    clock::Clock,
    execute::base_backup::{
        BackupRequest, Error, Finished, Taken, TakenState, WalProof, Warning, finish_backup,
    },
    model::{compression::Compression, desired::Method, recovery::RecoveryTarget},
    store::{Archive, directory::Directory},
};

use crate::support::{
    backup::{
        DIGEST, EVERY, InDirectory, archived, archives, catalog, damage, fill, fill_tablespace,
        request, start_restored, take_of,
    },
    bed::bed,
    cluster::Cluster,
    wait::until,
};

/// A directory for backups.
struct Store {
    directory: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory }
    }

    fn catalog(&self) -> Archive {
        catalog(Arc::new(Directory::new(
            self.directory.path(),
            Clock::System,
        )))
    }
}

async fn take(cluster: &Cluster, store: &Store, request: &BackupRequest) -> Result<Taken, Error> {
    take_of(cluster, None, &store.catalog(), request).await
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
    fill_tablespace(&cluster);
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
        let (copy, _) = start_restored(&cluster, &store.catalog(), &taken.backup, latest).await;
        assert_eq!(copy.sql(DIGEST), expected, "{compression}");
        assert_eq!(copy.sql("SELECT sum(id) FROM in_space"), "500500");
        assert_eq!(copy.sql("SHOW archive_mode"), "off");
    }
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
    let archives = archives(&store.catalog(), &taken.backup).await;
    assert!(archives.len() > 3, "{archives:?}");
    let immediate = RecoveryTarget::Immediate;
    let (copy, restored) =
        start_restored(&cluster, &store.catalog(), &taken.backup, immediate).await;
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
        let (copy, _) = start_restored(&cluster, &store.catalog(), &id, target).await;
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
    let path = damage(&mut cluster);
    for method in [Method::Files, Method::Stream] {
        let store = Store::new();
        let mut request = request(Compression::Lz4);
        request.method = method;
        let taken = take(&cluster, &store, &request).await.expect("a backup");
        assert_eq!(taken.state, TakenState::Done, "the backup is completed");
        let damaged = (taken.damaged_files, &taken.damaged[0].path);
        assert_eq!(damaged, (1, &path), "{method}");
        assert_eq!(taken.damaged[0].blocks, [3]);
    }
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
    for method in [Method::Files, Method::Stream] {
        let store = Store::new();
        let catalog = store.catalog();
        let mut request = request(Compression::Lz4);
        request.method = method;
        let taken = take_of(&standby, Some(&primary), &catalog, &request).await;
        let taken = taken.expect("a backup");
        assert_eq!(taken.state, TakenState::Done);
        // PostgreSQL notices that it is consistent only when it reads on.
        primary.sql(&format!(
            "CREATE TABLE after_{method} (id int); SELECT pg_switch_wal()"
        ));
        archived(&primary).await;
        let immediate = RecoveryTarget::Immediate;
        let (copy, restored) = start_restored(&primary, &catalog, &taken.backup, immediate).await;
        assert_eq!(copy.sql(DIGEST), primary.sql(DIGEST), "{method}");
        assert_eq!(
            restored.removed,
            [""; 0].map(PathBuf::from),
            "a signal file is never stored"
        );
    }
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
    request.wal = WalProof::Destination(Duration::from_millis(200));
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
    start_restored(&cluster, &store.catalog(), &taken.backup, immediate).await;
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
