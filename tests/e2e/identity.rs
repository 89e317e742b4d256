//! One prefix, one cluster: another one that comes with the same name changes nothing.

use crate::{
    harness::{Kind, ROLE, Scene, create_role, text},
    support::cluster::Cluster,
};

const REFUSED: i32 = 4;

#[tokio::test]
async fn another_cluster_in_the_same_prefix_is_blocked_and_writes_nothing() {
    let settings = "schedule = \"0 2 * * *\"\nretention = { redundancy = 1 }";
    let Some(scene) = Scene::new(17, Kind::Directory, settings) else {
        return;
    };
    for _ in 0..2 {
        scene.run(&["backup", "main"]).exits(0);
    }
    scene.archive_all().await;
    let mut other = Cluster::create(17).expect("this version is here");
    other.configure(&[("archive_command", &scene.place.archive_command("main"))]);
    other.surround(&scene.place.environment());
    other.start();
    create_role(&other);
    let connection = other.conninfo(ROLE);
    scene.place.configure(&format!(
        "[servers.main]\nconnection = \"{connection}\"\n{settings}"
    ));
    let before = scene.place.frozen();

    let segment = other.sql("SELECT pg_walfile_name(pg_switch_wal())");
    let path = text(&other.pgdata().join("pg_wal").join(segment));
    scene.run(&["wal-archive", "main", &path]).exits(1);
    scene
        .run(&["plan"])
        .exits(0)
        .says("! blocked")
        .says("belongs to");
    scene.run(&["status"]).exits(REFUSED).says("blocked");
    scene.run(&["check"]).exits(REFUSED);
    scene.run(&["backup", "main"]).exits(REFUSED);
    scene.run(&["reconcile", "--once"]).exits(REFUSED);
    scene.run(&["delete", "main", "oldest"]).exits(REFUSED);
    assert_eq!(scene.place.frozen(), before);
    // Reading is free.
    assert_eq!(scene.place.ids("main", "DONE").len(), 2);
}
