//! Backups of a standby, and servers that are not on this host.

use serde_json::json;

use crate::{
    harness::{Kind, ROLE, Scene, text},
    support::{cluster::Cluster, wait::until},
};

const POLICY: &str = "schedule = \"0 2 * * *\"\nretention = { redundancy = 2 }";

#[tokio::test]
async fn a_standby_is_backed_up_and_its_wal_comes_from_the_primary() {
    for major in [15, 18] {
        a_standby_is_backed_up(major).await;
    }
}

async fn a_standby_is_backed_up(major: u32) {
    let Some(mut scene) = Scene::new(major, Kind::Directory, POLICY) else {
        return;
    };
    scene
        .cluster
        .sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    let mut standby = scene.cluster.standby();
    standby.surround(&scene.place.environment());
    standby.start();
    caught_up(&scene.cluster, &standby).await;
    scene.place.configure(&format!(
        "[servers.main]\nconnection = \"{}\"\nprimary_connection = \"{}\"\n{POLICY}",
        standby.conninfo(ROLE),
        scene.cluster.conninfo(ROLE)
    ));
    scene.run(&["check"]).exits(0);
    scene.run(&["reconcile", "--once"]).exits(0);
    let backups = scene.place.backups("main");
    assert_eq!(backups.len(), 1);
    assert_eq!(backups[0]["status"], "DONE");
    assert_eq!(backups[0]["pgdata"], text(&standby.pgdata()).as_str());
    scene.run(&["plan", "--detailed-exitcode"]).exits(0);
    scene.run(&["status"]).exits(0).says("converged");

    scene
        .cluster
        .sql("INSERT INTO t SELECT generate_series(1001, 1500)");
    scene.archive_all().await;
    let copy = scene.restore(&[], "latest").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "1500");
}

/// Waits until the standby has replayed what the primary has written.
async fn caught_up(primary: &Cluster, standby: &Cluster) {
    let position = primary.sql("SELECT pg_current_wal_lsn()");
    let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
    until("the standby", async || {
        (standby.sql(&sql) == "t").then_some(())
    })
    .await;
}

#[tokio::test]
async fn on_another_host_a_due_backup_waits_and_that_is_no_failure() {
    let Some(scene) = Scene::new(17, Kind::Directory, POLICY) else {
        return;
    };
    let other = Cluster::create(17).expect("this version is here");
    for pgdata in [text(&other.pgdata()), text(&scene.place.path("nowhere"))] {
        scene.configure(&format!("{POLICY}\npgdata = \"{pgdata}\""));
        let plan = scene.run(&["plan", "--format", "json"]).exits(0).json();
        assert_eq!(plan["plans"][0]["steps"], json!([]));
        let waiting = &plan["plans"][0]["targets"]["d"]["waiting"][0];
        assert_eq!(waiting["waiting"], "not-local", "{plan}");
        scene
            .run(&["plan", "--detailed-exitcode"])
            .exits(0)
            .says("waiting");
        scene.run(&["reconcile", "--once"]).exits(0);
        scene.run(&["status"]).exits(0);
        assert_eq!(scene.place.keys("main/base/"), [""; 0]);
        // Whoever insists is told.
        scene.run(&["backup", "main"]).exits(1);
    }
}
