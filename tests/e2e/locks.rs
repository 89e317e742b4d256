//! Object locks in a bucket that has them: what is locked is not deleted, and people are told until when.

use crate::harness::{Kind, Scene};

const REFUSED: i32 = 4;
const OBJECTIVE_MISSED: i32 = 6;

/// A server whose backups go to a bucket with object locks.
fn scene(settings: &str) -> Option<Scene> {
    let plain = "schedule = \"none\"\nretention = \"none\"";
    let scene = Scene::new(17, Kind::Moto, plain)?;
    let server = scene.place.server().expect("moto");
    let lock = "x-amz-bucket-object-lock-enabled: true\r\n";
    server.send("PUT", "/vault", lock, "");
    let url = server.url();
    scene.configure(&format!(
        "destination = \"vault\"\nschedule = \"none\"\nretention = {{ redundancy = 1 }}\n\
         [destinations.vault]\nurl = \"s3://vault/prod\"\n{settings}\n\
         s3 = {{ endpoint_url = \"{url}\", region = \"us-east-1\", addressing_style = \"path\" }}\n"
    ));
    Some(scene)
}

#[tokio::test]
async fn what_is_locked_stays_with_its_date_and_what_is_held_until_somebody_lifts_it() {
    let Some(scene) = scene("") else { return };
    for _ in 0..2 {
        scene.run(&["backup", "main"]).exits(0);
        scene.archive_all().await;
    }
    let ids = scene.place.ids("main", "DONE");
    let old = ids[0].clone();
    let key = format!("/vault/prod/main/base/{old}/data.tar.lz4");
    let send = |what: &str, body: &str| {
        let server = scene.place.server().expect("moto");
        server.send("PUT", &format!("{key}?{what}"), "", body);
    };
    let retention = "<Retention><Mode>GOVERNANCE</Mode>\
                     <RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>";
    send("retention", retention);
    let blocked = format!("! blocked  {old}  object lock until 2099-01-01T00:00:00Z");
    scene
        .run(&["plan"])
        .exits(0)
        .says(&blocked)
        .says("1 blocked");
    scene
        .run(&["explain", "main", &old])
        .exits(0)
        .says("locked");
    scene.run(&["reconcile", "--once"]).exits(0);
    scene
        .run(&["delete", "main", &old])
        .exits(REFUSED)
        .says("2099-01-01");
    assert_eq!(scene.place.ids("main", "DONE"), ids);

    let held = "<LegalHold><Status>ON</Status></LegalHold>";
    send("legal-hold", held);
    scene.run(&["plan"]).exits(0).says("legal hold");
    scene
        .run(&["delete", "main", &old])
        .exits(REFUSED)
        .says("legal hold");
    assert_eq!(scene.place.ids("main", "DONE"), ids);
}

#[tokio::test]
async fn a_delete_that_hides_says_so_and_a_bucket_that_does_not_lock_is_named() {
    let Some(scene) = scene("object_lock = \"require\"") else {
        return;
    };
    for _ in 0..2 {
        scene.run(&["backup", "main"]).exits(0);
        scene.archive_all().await;
    }
    let ids = scene.place.ids("main", "DONE");
    scene
        .run(&["plan"])
        .exits(0)
        .says(&format!("- delete   {}", ids[0]))
        .says("what is deleted stays as an old version until somebody removes it");
    scene
        .run(&["check"])
        .exits(1)
        .says("new objects are not locked")
        .says("default retention");
    scene
        .run(&["reconcile", "--once"])
        .exits(OBJECTIVE_MISSED)
        .says("object locks are required");
    assert_eq!(scene.place.ids("main", "DONE"), ids[1..]);
}
