//! Drift that a new backup heals, and two runs at once.

use std::fs;

use crate::{
    harness::{Kind, ROLE, Scene},
    support::cluster::Stop,
};

const POLICY: &str = "schedule = \"0 2 * * *\"\nretention = { redundancy = 3 }";
const OBJECTIVE_MISSED: i32 = 6;
const UNREACHABLE: i32 = 8;

#[tokio::test]
async fn wal_that_is_gone_for_good_makes_a_backup_due() {
    let Some(scene) = Scene::new(17, Kind::Directory, POLICY) else {
        return;
    };
    scene.run(&["reconcile", "--once"]).exits(0);
    for _ in 0..3 {
        scene
            .cluster
            .sql("CREATE TEMP TABLE t AS SELECT generate_series(1, 1000)");
        scene.archive_all().await;
    }
    scene.run(&["status"]).exits(0);
    let gone = lose_wal(&scene);
    fs::remove_file(scene.cluster.pgdata().join("pg_wal").join(gone)).expect("it is there");
    scene.run(&["status"]).exits(OBJECTIVE_MISSED).says("gap");
    scene.run(&["plan"]).exits(0).says("+ backup").says("gap");
    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.ids("main", "DONE").len(), 2);
    scene.archive_all().await;
    scene.run(&["status"]).exits(0).says("converged");
    scene.run(&["plan", "--detailed-exitcode"]).exits(0);
}

/// Somebody deletes the last segment but one of the archive. Returns its name.
fn lose_wal(scene: &Scene) -> String {
    let mut segments = scene.place.keys("main/wals/");
    segments.retain(|key| !key.contains(".backup"));
    let gone = &segments[segments.len() - 2];
    scene.place.remove(gone);
    let file = gone.rsplit('/').next().expect("a file");
    file[..24].to_owned()
}

#[tokio::test]
async fn wal_that_is_gone_and_still_in_pg_wal_is_archived_again() {
    let Some(scene) = Scene::new(17, Kind::Directory, POLICY) else {
        return;
    };
    scene.run(&["reconcile", "--once"]).exits(0);
    scene.cluster.sql("CREATE TABLE t (id int)");
    for _ in 0..3 {
        let rows = "INSERT INTO t SELECT generate_series(1, 1000)";
        scene.cluster.sql(rows);
        scene.archive_all().await;
    }
    let before = scene.place.keys("main/wals/");
    let gone = lose_wal(&scene);
    scene.run(&["status"]).says("still in pg_wal");
    scene
        .run(&["plan"])
        .exits(0)
        .says("+ archive")
        .says("1 to archive again");
    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.keys("main/wals/"), before, "{gone}");
    assert_eq!(scene.place.ids("main", "DONE").len(), 1, "no backup is due");
    scene.run(&["status"]).exits(0).says("converged");
    let copy = scene.restore(&[], "latest").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "3000");
    // What waits for the archiver is not touched, nor what another cluster left under the name.
    let gone = lose_wal(&scene);
    let file = scene.cluster.pgdata().join("pg_wal").join(gone);
    let mut content = fs::read(&file).expect("it is there");
    content[24] ^= 1;
    fs::write(&file, content).expect("written");
    scene.run(&["plan"]).says("+ backup").says("gap");
}

#[tokio::test]
async fn archiving_that_is_off_or_fails_is_told() {
    let Some(mut scene) = Scene::new(17, Kind::Directory, POLICY) else {
        return;
    };
    scene.run(&["reconcile", "--once"]).exits(0);
    scene.cluster.configure(&[("archive_mode", "off")]);
    scene.cluster.stop(Stop::Fast);
    scene.cluster.start();
    scene
        .run(&["status"])
        .exits(OBJECTIVE_MISSED)
        .says("archive_mode is off");
    scene.run(&["check"]).exits(1).says("archive_mode");
}

#[tokio::test]
async fn one_server_that_is_down_does_not_hold_up_another() {
    let Some(scene) = Scene::new(17, Kind::Directory, POLICY) else {
        return;
    };
    let connection = scene.cluster.conninfo(ROLE);
    let nowhere = connection.replace("port=5432", "port=5433");
    scene.place.configure(&format!(
        "[servers.down]\nconnection = \"{nowhere}\"\nlabels = {{ team = \"a\" }}\n{POLICY}\n\
         [servers.main]\nconnection = \"{connection}\"\nlabels = {{ team = \"b\" }}\n{POLICY}"
    ));
    scene
        .run(&["reconcile", "--once"])
        .exits(UNREACHABLE)
        .says("down");
    assert_eq!(scene.place.ids("main", "DONE").len(), 1);
    scene
        .run(&["plan", "--detailed-exitcode", "--select", "team=b"])
        .exits(0);
    scene.run(&["status", "main"]).exits(0);
    scene
        .run(&["status", "--select", "team=a"])
        .exits(UNREACHABLE);
    scene.run(&["check", "down"]).exits(UNREACHABLE);
}

#[tokio::test]
async fn two_runs_at_once_leave_good_backups_and_nothing_else() {
    let Some(scene) = Scene::new(17, Kind::Moto, POLICY) else {
        return;
    };
    let both = [(); 2].map(|()| scene.place.start(&["reconcile", "--once"]));
    for running in both {
        running.end().exits(0);
    }
    assert_eq!(scene.place.keys("main/barkeep/attempts/"), [""; 0]);
    assert_eq!(scene.place.uploads(), [""; 0]);
    let done = scene.place.ids("main", "DONE").len();
    assert_eq!(scene.place.backups("main").len(), done);
    scene.run(&["plan", "--detailed-exitcode"]).exits(0);
}
