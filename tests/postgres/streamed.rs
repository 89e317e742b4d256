//! Base backups that real servers send, and what is restored of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use barkeep::{
    execute::base_backup::{BackupRequest, TakenState, Warning},
    format::keys::{ObjectKey, OwnObject},
    model::{
        backup::BackupId, compression::Compression, desired::Method, recovery::RecoveryTarget,
    },
    pipeline::throttle::Throttle,
    store::{Archive, StoreExt as _},
};

use crate::support::{
    backup::{
        DIGEST, catalog, fill, fill_tablespace, read, request, start_restored, take_of, take_slowly,
    },
    cluster::Cluster,
    wait::until,
};

fn store() -> Archive {
    let now = barkeep::clock::Clock::System.now();
    catalog(Arc::new(barkeep::store::memory::Memory::new(now)))
}

fn streamed(compression: Compression) -> BackupRequest {
    BackupRequest {
        method: Method::Stream,
        ..request(compression)
    }
}

macro_rules! on_majors {
    ($($name:ident: $major:literal),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            a_backup_under_load_restores($major).await;
        }
    )*};
}

on_majors! {
    a_backup_of_version_13_restores: 13,
    a_backup_of_version_15_restores: 15,
    a_backup_of_version_17_restores: 17,
    a_backup_of_version_18_restores: 18,
}

async fn a_backup_under_load_restores(major: u32) {
    let Some(mut cluster) = Cluster::create_with(major, &["-k"]) else {
        return;
    };
    cluster.start();
    fill_tablespace(&cluster);
    fill(&cluster);
    for (compression, server_compression) in [
        (Compression::None, Compression::Gzip),
        (Compression::Lz4, Compression::None),
    ] {
        let catalog = store();
        let request = BackupRequest {
            server_compression,
            ..streamed(compression)
        };
        let taken = under_load(&cluster, take_of(&cluster, None, &catalog, &request));
        let taken = taken.expect("a backup");
        assert_eq!(taken.state, TakenState::Done);
        assert_eq!(taken.damaged_files, 0, "{:?}", taken.damaged);
        assert_eq!(taken.warnings, []);
        let manifest = ObjectKey::Own(OwnObject::Manifest(taken.backup.clone()));
        let manifest = catalog.store().get_bytes(&catalog.key(&manifest)).await;
        assert!(manifest.expect("a manifest").ends_with(b"\"}\n"));
        let expected = cluster.sql(DIGEST);
        let last = cluster.sql("SELECT pg_walfile_name(pg_switch_wal())");
        until("the archiver", async || {
            cluster.archive().join(&last).exists().then_some(())
        })
        .await;
        let latest = RecoveryTarget::Latest;
        let (copy, _) = start_restored(&cluster, &catalog, &taken.backup, latest).await;
        assert_eq!(copy.sql(DIGEST), expected, "{compression}");
        assert_eq!(copy.sql("SELECT sum(id) FROM in_space"), "500500");
    }
}

/// Does some work while rows come and go.
fn under_load<T>(cluster: &Cluster, work: impl Future<Output = T>) -> T {
    let stop = AtomicBool::new(false);
    let load = || {
        while !stop.load(Ordering::Relaxed) {
            cluster.sql(
                "INSERT INTO t SELECT i, 'more' FROM generate_series(1, 200) i; \
                 DELETE FROM t WHERE id % 7 = 3 AND filler = 'more'",
            );
        }
    };
    thread::scope(|scope| {
        let loading = scope.spawn(load);
        let done = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work));
        stop.store(true, Ordering::Relaxed);
        loading.join().expect("no panic");
        done
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_fails_its_backup() {
    let Some(mut cluster) = Cluster::create(17) else {
        return;
    };
    cluster.start();
    fill(&cluster);
    // More than the sockets and the queue between server and store hold.
    cluster.sql(
        "CREATE TABLE large AS SELECT repeat(md5(i::text), 50) FROM generate_series(1, 40000) i",
    );
    let catalog = store();
    let conninfo = cluster.conninfo("postgres");
    let mut request = streamed(Compression::None);
    request.files.part_bytes = 1 << 20;
    let throttle = Throttle::new(4_000_000.try_into().expect("not 0"));
    let taking = take_slowly(&conninfo, &catalog, &request, throttle);
    let stopping = async {
        until_sent(&cluster).await;
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_basebackup");
    };
    let (taken, ()) = futures_util::join!(taking, stopping);
    let error = barkeep::failure::chain(&taken.expect_err("it was ended"));
    assert!(error.starts_with("cannot receive the backup"), "{error}");
    let uploads = catalog.store().list_uploads("orders/").await;
    assert_eq!(uploads.expect("a list").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_fails_the_backup_and_the_next_one_comes_from_the_new_primary() {
    let Some(mut primary) = Cluster::create(17) else {
        return;
    };
    primary.start();
    fill(&primary);
    let mut standby = primary.standby();
    standby.start();
    let catalog = store();
    let mut request = streamed(Compression::None);
    request.files.part_bytes = 1 << 20;
    let conninfo = standby.conninfo("postgres");
    let throttle = Throttle::new(12_000_000.try_into().expect("not 0"));
    let taking = take_slowly(&conninfo, &catalog, &request, throttle);
    let promoting = async {
        until_sent(&standby).await;
        standby.promote();
    };
    let (taken, ()) = futures_util::join!(taking, promoting);
    let error = barkeep::failure::chain(&taken.expect_err("it became a primary"));
    assert!(error.contains("promoted"), "{error}");
    standby.sql("INSERT INTO t VALUES (-1, 'on the new timeline')");
    let newest = BackupRequest {
        above: Some(failed(&catalog).await),
        ..streamed(Compression::None)
    };
    // Its WAL goes where that of the old one went.
    let taken = take_of(&standby, Some(&primary), &catalog, &newest).await;
    let taken = taken.expect("a backup of the new primary");
    assert_eq!(taken.state, TakenState::Done);
    let immediate = RecoveryTarget::Immediate;
    let (copy, _) = start_restored(&primary, &catalog, &taken.backup, immediate).await;
    assert_eq!(copy.sql(DIGEST), standby.sql(DIGEST));
}

/// The only backup, which failed.
async fn failed(catalog: &Archive) -> BackupId {
    let objects = catalog.objects("base/").await.expect("a list");
    let parsed = objects
        .first()
        .and_then(|object| catalog.parse(&object.key));
    let id = parsed.and_then(|key| key.backup().cloned());
    id.expect("a record")
}

/// Waits until a server sends its files.
async fn until_sent(cluster: &Cluster) {
    until("the backup to be sent", async || {
        let sql = "SELECT count(*) FROM pg_stat_progress_basebackup \
            WHERE phase = 'streaming database files'";
        (cluster.sql(sql) == "1").then_some(())
    })
    .await;
}

/// What a table holds after each backup of a chain.
struct Members {
    catalog: Archive,
    /// Each with what the table held when it was taken.
    members: Vec<(BackupId, String)>,
}

/// A full backup and incrementals on one another, with changes before each, a tablespace that comes and one that goes.
async fn members(cluster: &Cluster, catalog: Archive, wanted: usize) -> Members {
    fill_tablespace(cluster);
    fill(cluster);
    let mut members: Vec<(BackupId, String)> = Vec::new();
    while members.len() < wanted {
        let number = members.len();
        cluster.sql(&format!(
            "INSERT INTO t SELECT i, 'in {number}' FROM generate_series(1, 50) i; \
             UPDATE t SET filler = 'changed' WHERE id = {number}; CHECKPOINT"
        ));
        if number == 1 {
            let space = cluster.new_directory("later");
            cluster.sql(&format!(
                "CREATE TABLESPACE later LOCATION '{}'; CREATE TABLE l (id int) TABLESPACE later",
                space.display()
            ));
        }
        let mut request = streamed(Compression::Lz4);
        request.parent = members.last().map(|(id, _)| id.clone());
        request.above.clone_from(&request.parent);
        let taken = take_of(cluster, None, &catalog, &request).await;
        let taken = taken.expect("a backup");
        assert_eq!(taken.state, TakenState::Done);
        assert_eq!(taken.warnings, [], "it is as incremental as was asked");
        members.push((taken.backup, cluster.sql(DIGEST)));
    }
    Members { catalog, members }
}

async fn every_member_of_a_chain_restores(major: u32) {
    let Some(mut cluster) = Cluster::create(major) else {
        return;
    };
    cluster.configure(&[("summarize_wal", "on")]);
    cluster.start();
    let Members { catalog, members } = members(&cluster, store(), 4).await;
    for (at, (id, expected)) in members.iter().enumerate() {
        let backup = read(&catalog, id).await;
        assert_eq!(
            backup.parent.as_ref(),
            at.checked_sub(1).map(|at| &members[at].0)
        );
        let child = members.get(at + 1).map(|(id, _)| id.clone());
        assert_eq!(backup.children, Vec::from_iter(child));
        if at > 0 {
            let first = read(&catalog, &members[0].0).await;
            assert!(backup.stored_bytes() < first.stored_bytes() / 2, "{at}");
        }
        let immediate = RecoveryTarget::Immediate;
        let (copy, restored) = start_restored(&cluster, &catalog, id, immediate).await;
        assert_eq!(copy.sql(DIGEST), *expected, "member {at}");
        assert_eq!(copy.sql("SELECT sum(id) FROM in_space"), "500500");
        assert_eq!(restored.tablespaces.len(), 1 + usize::from(at > 0));
        let left = std::fs::read_dir(copy.pgdata()).expect("a directory");
        let left = left.map(|entry| entry.expect("an entry").file_name());
        let ours: Vec<_> = left
            .filter(|name| name.to_string_lossy().starts_with("barkeep"))
            .collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_a_chain_of_version_17_restores() {
    every_member_of_a_chain_restores(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_a_chain_of_version_18_restores() {
    every_member_of_a_chain_restores(18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_summaries_sends_a_full_backup_instead() {
    let Some(mut cluster) = Cluster::create(17) else {
        return;
    };
    cluster.start();
    fill(&cluster);
    let catalog = store();
    let full = take_of(&cluster, None, &catalog, &streamed(Compression::Lz4)).await;
    let full = full.expect("a backup").backup;
    let mut request = streamed(Compression::Lz4);
    request.parent = Some(full.clone());
    request.above = Some(full.clone());
    let taken = take_of(&cluster, None, &catalog, &request).await;
    let taken = taken.expect("a backup");
    assert!(
        matches!(&taken.warnings[..], [Warning::NotIncremental { .. }]),
        "{:?}",
        taken.warnings
    );
    let backup = read(&catalog, &taken.backup).await;
    assert_eq!(backup.parent, None);
    let parent = read(&catalog, &full).await;
    assert!(parent.children.is_empty(), "it has no children");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_a_chain_that_a_standby_sent_restores() {
    for major in [17, 18] {
        let Some(mut primary) = Cluster::create(major) else {
            continue;
        };
        primary.configure(&[("summarize_wal", "on")]);
        primary.start();
        fill(&primary);
        let mut standby = primary.standby();
        standby.start();
        let catalog = store();
        let mut members: Vec<(BackupId, String)> = Vec::new();
        for number in 0..3 {
            // A standby begins a backup where it has replayed a checkpoint.
            primary.sql(&format!(
                "UPDATE t SET filler = 'changed' WHERE id = {number}; CHECKPOINT"
            ));
            let end = primary.sql("SELECT pg_current_wal_flush_lsn()");
            until("the standby", async || {
                let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
                (standby.sql(&sql) == "t").then_some(())
            })
            .await;
            let mut request = streamed(Compression::Lz4);
            request.parent = members.last().map(|(id, _)| id.clone());
            request.above.clone_from(&request.parent);
            let taken = take_of(&standby, Some(&primary), &catalog, &request).await;
            let taken = taken.expect("a backup");
            assert_eq!(taken.state, TakenState::Done);
            assert_eq!(taken.warnings, [], "it is as incremental as was asked");
            members.push((taken.backup, primary.sql(DIGEST)));
        }
        // Without another checkpoint there is nothing to begin at.
        let mut request = streamed(Compression::Lz4);
        request.parent = members.last().map(|(id, _)| id.clone());
        request.above.clone_from(&request.parent);
        let taken = take_of(&standby, Some(&primary), &catalog, &request).await;
        let warnings = taken.expect("a backup").warnings;
        assert!(
            matches!(&warnings[..], [Warning::NotIncremental { .. }]),
            "{warnings:?}"
        );
        for (id, expected) in &members {
            let immediate = RecoveryTarget::Immediate;
            let (copy, _) = start_restored(&primary, &catalog, id, immediate).await;
            assert_eq!(copy.sql(DIGEST), *expected, "{major} {id}");
        }
    }
}
