//! Destinations on Azure and on Google Cloud: the whole way there, and copies from S3 to each.

use crate::{
    harness::{Kind, Scene},
    support::{
        cloud::Cloud,
        gcs::{Gcs, Rules},
    },
};

#[tokio::test]
async fn on_azure_backups_are_taken_deleted_and_restored() {
    let Some((scene, backups)) = two_backups(Kind::Azure).await else {
        return;
    };
    deleted_and_restored(&scene, &backups).await;
}

/// And what is held there stays until it is released.
#[tokio::test]
async fn on_google_cloud_backups_are_taken_held_deleted_and_restored() {
    let Some((scene, backups)) = two_backups(Kind::Gcs).await else {
        return;
    };
    let old = &backups[0];
    scene
        .place
        .hold(&format!("main/base/{old}/data.tar.lz4"), true);
    scene
        .run(&["plan"])
        .exits(0)
        .says(&format!("! blocked  {old}  legal hold"));
    scene.run(&["reconcile", "--once"]).exits(4);
    assert_eq!(scene.place.ids("main", "DONE"), backups);
    scene
        .place
        .hold(&format!("main/base/{old}/data.tar.lz4"), false);
    deleted_and_restored(&scene, &backups).await;
}

/// A server with two backups, of which the policy wants one.
async fn two_backups(kind: Kind) -> Option<(Scene, Vec<String>)> {
    let settings = "schedule = \"none\"\nretention = { redundancy = 1 }";
    let scene = Scene::new(17, kind, settings)?;
    scene.run(&["backup", "main"]).exits(0);
    scene.archive_all().await;
    scene.cluster.sql("CREATE TABLE t AS SELECT 1 AS id");
    scene.run(&["backup", "main"]).exits(0);
    scene.archive_all().await;
    let backups = scene.place.ids("main", "DONE");
    assert_eq!(backups.len(), 2);
    Some((scene, backups))
}

async fn deleted_and_restored(scene: &Scene, backups: &[String]) {
    let (old, new) = (&backups[0], &backups[1]);
    scene
        .run(&["plan"])
        .exits(0)
        .says(&format!("- delete   {old}"));
    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.ids("main", "DONE"), [new.as_str()]);
    scene.run(&["plan", "--detailed-exitcode"]).exits(0);
    if let Some(listed) = scene.place.barman_list("main") {
        let listed = listed["backups_list"].as_array().expect("a list");
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0]["backup_id"], new.as_str());
    }
    let copy = scene.restore(&[], "latest").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "1");
}

/// From a bucket to another one, to Azure, and to a bucket on Google Cloud that forbids overwriting.
#[tokio::test]
async fn a_backup_is_copied_from_s3_to_every_cloud_and_restored_from_each() {
    let nothing = "schedule = \"none\"\nretention = \"none\"";
    let Some(mut scene) = Scene::new(17, Kind::Moto, nothing) else {
        return;
    };
    let Some(azurite) = Cloud::azurite() else {
        return;
    };
    azurite.create_bucket("copies");
    let service = Gcs::start();
    let retained = Rules {
        retained_seconds: Some(3600),
        ..Rules::default()
    };
    service.create_bucket("copies", retained);
    let another = scene.place.another_bucket("copies");
    let azure = scene.place.beside(azurite, "copies");
    let google = scene.place.beside(Cloud::Gcs(service), "copies");
    scene.configure(&format!(
        "{nothing}\n\
         [[servers.main.backups]]\ndestination = \"d\"\n\
         [[servers.main.backups]]\ndestination = \"s\"\ncopy_of = \"d\"\n\
         [[servers.main.backups]]\ndestination = \"a\"\ncopy_of = \"d\"\n\
         [[servers.main.backups]]\ndestination = \"g\"\ncopy_of = \"d\"\n\
         [destinations.s]\n{another}\n\
         [destinations.a]\n{azure}\n\
         [destinations.g]\n{google}\ncontrol = \"d\"\n"
    ));
    scene.cluster.sql("CREATE TABLE t AS SELECT 1 AS id");
    scene
        .run(&["backup", "main", "--destination", "d"])
        .exits(0);
    scene.archive_all().await;
    scene.run(&["reconcile", "--once"]).exits(0).says("copy");
    scene.run(&["plan", "--detailed-exitcode"]).exits(0);
    let id = scene.place.ids("main", "DONE")[0].clone();
    for destination in ["s", "a", "g"] {
        let copy = scene.restore(&["--destination", destination], &id).await;
        assert_eq!(copy.sql("SELECT count(*) FROM t"), "1", "{destination}");
    }
    let own = scene.place.keys("main/barkeep/control/g/");
    assert!(!own.is_empty(), "what must be rewritten lies elsewhere");
}
