//! Damaged pages, damaged backups: found, told, and never taken for good.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
};

use serde_json::Value;

use crate::{
    harness::{Kind, Place, Scene, create_role},
    support::cluster::{Cluster, Stop},
};

const VERIFICATION: i32 = 9;
const OBJECTIVE_MISSED: i32 = 6;

#[tokio::test]
async fn damaged_pages_are_recorded_and_the_clean_backup_stays() {
    let Some(mut cluster) = Cluster::create_with(17, &["-k"]) else {
        return;
    };
    let place = Place::new(Kind::Directory).expect("a directory");
    cluster.configure(&[("archive_command", &place.archive_command("main"))]);
    cluster.surround(&place.environment());
    cluster.start();
    create_role(&cluster);
    let mut scene = Scene { cluster, place };
    scene.configure("schedule = \"0 2 * * *\"\nretention = { redundancy = 1 }");
    scene
        .cluster
        .sql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS id");
    let relation = scene.cluster.sql("SELECT pg_relation_filepath('t')");
    scene.run(&["backup", "main"]).exits(0);
    scene.archive_all().await;
    let clean = scene.place.ids("main", "DONE");

    scene.cluster.stop(Stop::Fast);
    let path = scene.cluster.pgdata().join(&relation);
    let mut file = File::options().write(true).open(path).expect("the table");
    file.seek(SeekFrom::Start(8192 + 4000))
        .expect("a second page");
    file.write_all(b"damage").expect("written");
    scene.cluster.start();
    scene
        .run(&["backup", "main"])
        .exits(VERIFICATION)
        .says("damaged pages");
    let backups = scene.place.ids("main", "DONE");
    assert_eq!(backups.len(), 2);
    let evidence = scene
        .place
        .file(&format!("main/barkeep/evidence/{}/pages", backups[1]));
    let evidence = std::fs::read_to_string(evidence).expect("evidence");
    let evidence: Value = serde_json::from_str(&evidence).expect("JSON");
    assert_eq!(evidence["files"], 1, "{evidence}");
    assert!(evidence.to_string().contains(&relation), "{evidence}");

    scene.archive_all().await;
    scene.run(&["reconcile", "--once"]);
    let left = scene.place.ids("main", "DONE");
    assert!(left.contains(&clean[0]), "the last clean backup: {left:?}");
}

#[tokio::test]
async fn a_backup_that_lost_an_archive_or_wal_counts_for_nothing() {
    let settings = "schedule = \"none\"\nretention = { redundancy = 1 }";
    let Some(scene) = Scene::new(17, Kind::Directory, settings) else {
        return;
    };
    for _ in 0..2 {
        scene.run(&["backup", "main"]).exits(0);
    }
    scene.archive_all().await;
    let ids = scene.place.ids("main", "DONE");
    scene
        .place
        .remove(&format!("main/base/{}/data.tar.lz4", ids[1]));
    scene
        .run(&["status"])
        .exits(OBJECTIVE_MISSED)
        .says(&format!("{} is damaged", ids[1]));
    scene.run(&["reconcile", "--once"]).exits(OBJECTIVE_MISSED);
    assert_eq!(scene.place.ids("main", "DONE"), ids);
    scene
        .run(&["restore", "main", &ids[1], "/tmp/nowhere"])
        .exits(1);
    // The older one is what a restore can still use.
    scene.restore(&[], &ids[0]).await;
}

#[tokio::test]
async fn what_was_stored_is_read_back_and_a_flipped_bit_is_found() {
    for (method, compression) in [("files", "none"), ("files", "lz4"), ("stream", "gzip")] {
        let settings = format!(
            "method = \"{method}\"\ncompression = \"{compression}\"\nschedule = \"none\"\n\
             retention = \"none\"\nverify = {{ every = \"7d\" }}"
        );
        let Some(scene) = Scene::new(17, Kind::Directory, &settings) else {
            return;
        };
        scene.cluster.sql("ALTER ROLE barkeep REPLICATION");
        crate::support::backup::fill_tablespace(&scene.cluster);
        scene.run(&["backup", "main"]).exits(0);
        scene
            .run(&["verify", "main", "latest"])
            .exits(0)
            .says("verified");
        scene.run(&["reconcile", "--once"]).exits(0);
        let id = scene.place.ids("main", "DONE").remove(0);
        let archives = scene.place.keys(&format!("main/base/{id}/data.tar"));
        let path = scene.place.file(&archives[0]);
        let mut content = std::fs::read(&path).expect("the archive");
        let middle = content.len() / 2;
        content[middle] ^= 1;
        std::fs::write(&path, content).expect("written");
        scene
            .run(&["verify", "main"])
            .exits(VERIFICATION)
            .says("is not sound");
        scene
            .run(&["status"])
            .exits(OBJECTIVE_MISSED)
            .says("reading it back found faults");
    }
}

#[tokio::test]
async fn reconcile_reads_back_what_is_due_and_says_what_it_found() {
    let settings = "schedule = \"none\"\nretention = \"none\"\nverify = { every = \"7d\" }";
    let Some(scene) = Scene::new(17, Kind::Directory, settings) else {
        return;
    };
    scene.run(&["backup", "main"]).exits(0);
    scene.run(&["plan"]).exits(0).says("never read back");
    scene.run(&["reconcile", "--once"]).exits(0);
    let id = scene.place.ids("main", "DONE").remove(0);
    let evidence = |name: &str| {
        scene
            .place
            .file(&format!("main/barkeep/evidence/{id}/{name}"))
    };
    assert!(evidence("verified").exists());
    scene.run(&["plan", "--detailed-exitcode"]).exits(0);
    // Read long ago, and damaged since.
    let archives = scene.place.keys(&format!("main/base/{id}/data.tar"));
    let archive = scene.place.file(&archives[0]);
    File::options()
        .append(true)
        .open(&archive)
        .expect("it")
        .write_all(b"x")
        .expect("written");
    std::fs::remove_file(evidence("verified")).expect("it is there");
    scene.run(&["reconcile", "--once"]).exits(VERIFICATION);
    assert!(evidence("faults").exists() && !evidence("verified").exists());
}
