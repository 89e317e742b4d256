//! Backups that the server sends, with the program: taken by somebody who cannot read its files, restored, and gone when they should.

use barkeep::postgres::grants;

use crate::harness::{Kind, ROLE, Scene};

const SETTINGS: &str = "method = \"stream\"\n\
    incremental = { full_every = \"7d\" }\n\
    schedule = \"none\"\n\
    retention = { redundancy = 1 }\n\
    deletes = { max_backups = 10, max_percent = 100 }";

#[tokio::test]
async fn a_chain_is_taken_restored_and_goes_as_one() {
    let Some(scene) = Scene::new(17, Kind::Strict, SETTINGS) else {
        return;
    };
    let cluster = &scene.cluster;
    scene
        .run(&["backup", "main"])
        .exits(8)
        .says("Only roles with the REPLICATION attribute");
    cluster.sql(&format!(
        "{}; ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf(); \
         CREATE TABLE t AS SELECT i AS id, md5(i::text) AS filler FROM generate_series(1, 5000) i",
        grants::replication(ROLE)
    ));
    scene.run(&["check"]).exits(0).says("the server lets us in");
    scene.run(&["backup", "main"]).exits(0);
    for number in 1..=2 {
        cluster.sql(&format!(
            "UPDATE t SET filler = 'changed' WHERE id = {number}"
        ));
        scene.run(&["backup", "--incremental", "main"]).exits(0);
    }
    let chain = scene.place.ids("main", "DONE");
    assert_eq!(chain.len(), 3);
    let rows = "SELECT count(*), count(*) FILTER (WHERE filler = 'changed') FROM t";
    let programs = crate::support::bed::bed()
        .postgresql(17)
        .expect("its programs");
    let programs = programs.display().to_string();
    let arguments = ["--target-immediate", "--pg-bin", &programs];
    let copy = scene.restore(&arguments, &chain[2]).await;
    assert_eq!(copy.sql(rows), "5000|2");

    // A new full backup is all that the policy wants: the chain goes, the newest first, with its manifests.
    scene.run(&["backup", "main"]).exits(0);
    let full = scene.place.ids("main", "DONE").pop().expect("a backup");
    scene
        .run(&["plan"])
        .exits(0)
        .says(&format!("- delete   {}", chain[2]))
        .says("3 to delete");
    scene
        .run(&["reconcile", "--once"])
        .exits(0)
        .says("Left: Nothing to do.");
    assert_eq!(scene.place.ids("main", "DONE"), std::slice::from_ref(&full));
    let manifests = scene.place.keys("main/barkeep/manifest/");
    assert_eq!(manifests, [format!("main/barkeep/manifest/{full}")]);
}
