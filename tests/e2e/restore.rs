//! Where a recovery stops, and what is not restored.

use std::fs;

use crate::{
    harness::{Kind, Scene, text},
    support::bed::bed,
};

const POLICY: &str = "schedule = \"none\"\nretention = { redundancy = 2 }";

#[tokio::test]
async fn a_recovery_stops_where_it_was_told() {
    let Some(scene) = Scene::new(18, Kind::Directory, POLICY) else {
        return;
    };
    let sql = |sql: &str| scene.cluster.sql(sql);
    sql("CREATE TABLE t (id int)");
    scene.run(&["backup", "main", "--name", "first"]).exits(0);
    sql("INSERT INTO t VALUES (1)");
    sql("SELECT pg_create_restore_point('here')");
    let xid = sql("WITH i AS (INSERT INTO t VALUES (2)) SELECT pg_current_xact_id()");
    sql("INSERT INTO t VALUES (3)");
    let lsn = sql("SELECT pg_current_wal_insert_lsn()");
    sql("INSERT INTO t VALUES (4)");
    let time =
        sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')");
    sql("INSERT INTO t VALUES (5)");
    scene.archive_all().await;
    scene.run(&["backup", "main"]).exits(0);
    let xid_before = ["--target-xid", &xid, "--exclusive"];
    for (arguments, rows) in [
        (&["--target-immediate"][..], "0"),
        (&["--target-name", "here"], "1"),
        (&xid_before, "1"),
        (&["--target-xid", &xid], "2"),
        (&["--target-lsn", &lsn], "3"),
        (&["--target-time", &time], "4"),
        (&["--target-timeline", "current"], "5"),
    ] {
        let copy = scene.restore(arguments, "first").await;
        assert_eq!(copy.sql("SELECT count(*) FROM t"), rows, "{arguments:?}");
    }
    // The newest one before the target.
    let copy = scene.restore(&["--target-time", &time], "auto").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "4");
    let nowhere = text(&scene.place.path("nowhere"));
    scene
        .run(&[
            "restore",
            "main",
            "latest",
            &nowhere,
            "--target-time",
            &time,
        ])
        .exits(3)
        .says("auto");
}

#[tokio::test]
async fn what_is_there_is_never_restored_over() {
    let Some(scene) = Scene::new(17, Kind::Directory, POLICY) else {
        return;
    };
    scene.run(&["backup", "main"]).exits(0);
    let full = scene.place.path("full");
    fs::create_dir(&full).expect("mkdir");
    fs::write(full.join("mine"), "precious").expect("written");
    bed().give(&full);
    scene
        .run(&["restore", "main", "latest", &text(&full)])
        .exits(4)
        .says("not empty");
    assert_eq!(fs::read_dir(&full).expect("a directory").count(), 1);
    let pgdata = text(&scene.cluster.pgdata());
    scene.run(&["restore", "main", "latest", &pgdata]).exits(4);
    assert_eq!(scene.cluster.sql("SELECT 1"), "1");

    let nowhere = scene.place.path("nowhere");
    let to = text(&nowhere);
    scene
        .run(&["restore", "main", "20200101T000000", &to])
        .exits(1);
    scene
        .run(&[
            "restore",
            "main",
            "latest",
            &to,
            "--tablespace",
            "none:/tmp/x",
        ])
        .exits(3);
    scene
        .run(&["restore", "main", "latest", &to, "--target-time", "noon"])
        .exits(3);
    scene
        .run(&[
            "restore",
            "main",
            "auto",
            &to,
            "--target-time",
            "2001-01-01 00:00:00",
        ])
        .exits(1);
    assert!(!nowhere.exists());
}
