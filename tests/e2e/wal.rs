//! PostgreSQL archives with the program and recovers with it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    harness::{Kind, Place, ROLE, Scene, archived, recovered, text},
    support::{bed::bed, cluster::Cluster, wait::until},
};

const POLICY: &str = "schedule = \"none\"\nretention = { redundancy = 2 }";

/// The names of stored segments, in order.
fn segments(place: &Place) -> Vec<String> {
    let keys = place.keys("main/wals/").into_iter();
    let name = |key: String| {
        let name = key.rsplit('/').next().expect("a name");
        let name = name.split('.').next().expect("a stem").to_owned();
        (!key.contains(".backup") && !key.contains(".history")).then_some(name)
    };
    keys.filter_map(name).collect()
}

#[tokio::test]
async fn under_load_everything_arrives_and_a_recovery_reads_it_ahead() {
    let Some(scene) = Scene::new(17, Kind::Strict, POLICY) else {
        return;
    };
    scene.cluster.sql("CREATE TABLE t (id int, filler text)");
    scene.run(&["backup", "main"]).exits(0);
    let before = segments(&scene.place).len();
    let write = "INSERT INTO t SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i";
    for _ in 0..10 {
        scene.cluster.sql(write);
    }
    let digest = "SELECT count(*), sum(hashtext(t::text)) FROM t";
    let expected = scene.cluster.sql(digest);
    scene.archive_all().await;
    let after = segments(&scene.place);
    assert!(after.len() > before + 8, "{} segments", after.len());
    contiguous(&after);
    scene.run(&["status"]).exits(0).says("converged");

    let copy = scene.restore(&[], "latest").await;
    assert_eq!(copy.sql(digest), expected);
    assert!(copy.sql("SHOW restore_command").contains("wal-restore"));
}

#[tokio::test]
async fn after_an_outage_the_backlog_arrives_without_a_gap() {
    let Some(scene) = Scene::new(17, Kind::Directory, POLICY) else {
        return;
    };
    scene.run(&["backup", "main"]).exits(0);
    scene.archive_all().await;
    let before = segments(&scene.place).len();
    let store = scene.place.path("store");
    let set = |mode| fs::set_permissions(&store, Permissions::from_mode(mode)).expect("chmod");
    set(0o000);
    for _ in 0..12 {
        scene
            .cluster
            .sql("CREATE TABLE IF NOT EXISTS t (); DROP TABLE t; SELECT pg_switch_wal()");
    }
    until("the archiver to fail", async || {
        let failed = scene
            .cluster
            .sql("SELECT failed_count > 0 FROM pg_stat_archiver");
        (failed == "t").then_some(())
    })
    .await;
    scene.run(&["check"]).exits(1).says("archiver");
    set(0o755);
    // Completing a segment is what wakes an archiver that has given up for a minute.
    scene.cluster.sql("CREATE TABLE t ()");
    scene.archive_all().await;
    let after = segments(&scene.place);
    assert!(after.len() >= before + 12, "{before}, then {after:?}");
    contiguous(&after);
    scene.run(&["check"]).exits(0);
    scene.run(&["reconcile", "--once"]).exits(0);
    scene.run(&["status"]).exits(0).says("converged");
}

/// Insists that no segment is missing between the first and the last.
#[track_caller]
fn contiguous(segments: &[String]) {
    let number = |name: &str| usize::from_str_radix(&name[16..], 16).expect("a number");
    let (first, last) = (number(&segments[0]), number(&segments[segments.len() - 1]));
    assert_eq!(last - first + 1, segments.len(), "{segments:?}");
}

#[tokio::test]
async fn a_segment_with_other_content_is_refused_loudly_and_the_first_stays() {
    let Some(scene) = Scene::new(17, Kind::Directory, POLICY) else {
        return;
    };
    scene
        .cluster
        .sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    let segment = scene.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())");
    archived(&scene.cluster, &segment).await;
    let original = fs::read(scene.cluster.pgdata().join("pg_wal").join(&segment)).expect("it");
    let copy = scene.place.path(&segment);
    let archive = |content: &[u8]| {
        fs::write(&copy, content).expect("written");
        bed().give(&copy);
        scene.run(&["wal-archive", "main", &text(&copy)])
    };
    let key = format!("main/wals/{}/{segment}.zst", &segment[..16]);
    let stored = || fs::read(scene.place.file(&key)).expect("stored");
    let before = stored();
    archive(&original).exits(0);
    let mut changed = original.clone();
    changed[100_000] ^= 1;
    let ran = archive(&changed).exits(1);
    assert!(
        ran.stderr.contains(&segment) && ran.stderr.starts_with("error: "),
        "{ran}"
    );
    assert_eq!(stored(), before);
    assert_eq!(scene.place.keys("main/barkeep/conflicts/").len(), 1);

    let restored = scene.place.path("restored");
    let ran = scene.run(&["wal-restore", "main", &segment, &text(&restored)]);
    ran.exits(0);
    assert_eq!(fs::read(&restored).expect("restored"), original);
}

#[tokio::test]
async fn a_standby_from_the_archive_follows_is_promoted_and_archives_its_timeline() {
    let Some(scene) = Scene::new(17, Kind::Directory, POLICY) else {
        return;
    };
    scene
        .cluster
        .sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    scene.run(&["backup", "main"]).exits(0);
    let mut standby = Cluster::empty(17).expect("this version is here");
    let directory = text(&standby.pgdata());
    let restore = [
        "restore",
        "main",
        "latest",
        &directory,
        "--standby",
        "--keep-archiving",
    ];
    scene.run(&restore).exits(0);
    standby.surround(&scene.place.environment());
    standby.start();
    scene
        .cluster
        .sql("INSERT INTO t SELECT generate_series(1001, 2000)");
    scene.archive_all().await;
    until("the standby to follow", async || {
        (standby.sql("SELECT count(*) FROM t") == "2000").then_some(())
    })
    .await;

    standby.promote();
    recovered(&standby).await;
    // The old primary goes on for a while: its timeline stays as it is.
    scene.cluster.sql("INSERT INTO t VALUES (0)");
    scene.archive_all().await;
    standby.sql("INSERT INTO t SELECT generate_series(2001, 2500)");
    let last = standby.sql("SELECT pg_walfile_name(pg_switch_wal())");
    archived(&standby, &last).await;
    let timelines: Vec<_> = segments(&scene.place)
        .iter()
        .map(|name| name[..8].to_owned())
        .collect();
    assert!(
        timelines.contains(&"00000001".to_owned()) && timelines.contains(&"00000002".to_owned())
    );
    assert_eq!(scene.place.keys("main/wals/00000002.history").len(), 1);

    let connection = standby.conninfo(ROLE);
    scene.place.configure(&format!(
        "[servers.main]\nconnection = \"{connection}\"\n{POLICY}"
    ));
    scene.run(&["backup", "main"]).exits(0);
    // What lies before the first backup goes.
    scene.run(&["reconcile", "--once"]).exits(0);
    scene.run(&["status"]).exits(0).says("converged");
    let backups = scene.place.backups("main");
    assert_eq!(
        (&backups[0]["timeline"], &backups[1]["timeline"]),
        (&1.into(), &2.into())
    );
    let last = standby.sql("SELECT pg_walfile_name(pg_switch_wal())");
    archived(&standby, &last).await;
    // From the first backup over the change of timelines.
    let copy = scene
        .restore(&["--target-timeline", "latest"], "oldest")
        .await;
    assert_eq!(copy.sql("SELECT count(*), max(id) FROM t"), "2500|2500");
    let copy = scene.restore(&["--target-timeline", "1"], "oldest").await;
    assert_eq!(copy.sql("SELECT count(*), min(id) FROM t"), "2001|0");
}

#[tokio::test]
async fn absence_ends_a_recovery_and_an_outage_does_not() {
    let Some(mut scene) = Scene::new(17, Kind::Strict, POLICY) else {
        return;
    };
    scene.run(&["backup", "main"]).exits(0);
    scene.archive_all().await;
    let to = text(&scene.place.path("RECOVERYXLOG"));
    let missing = "0000000100000000000000FF";
    scene.run(&["wal-restore", "main", missing, &to]).exits(1);
    scene
        .run(&["wal-restore", "main", "00000009.history", &to])
        .exits(1);
    assert!(!Path::new(&to).exists());
    scene
        .run(&["wal-restore", "nobody", missing, &to])
        .exits(255);

    scene.place.s3().kill();
    // A minute each, at the same time.
    let plain = data_directory(&scene.place, "plain");
    let standby = data_directory(&scene.place, "standby");
    fs::write(standby.join("standby.signal"), "").expect("written");
    let fetch = |directory: &Path| {
        let to = text(&directory.join("pg_wal/RECOVERYXLOG"));
        scene.place.start(&["wal-restore", "main", missing, &to])
    };
    let (recovery, following) = (fetch(&plain), fetch(&standby));
    recovery.end().exits(255).says("error: ");
    following.end().exits(1).says("error: ");
}

/// What looks to the program like a cluster's data directory.
fn data_directory(place: &Place, name: &str) -> PathBuf {
    let path = place.path(name);
    fs::create_dir_all(path.join("pg_wal")).expect("mkdir");
    fs::write(path.join("PG_VERSION"), "17\n").expect("written");
    bed().give(&path);
    path
}
