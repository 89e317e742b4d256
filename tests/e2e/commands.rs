//! What the smaller commands print, refuse, and end with.

use serde_json::Value;

use crate::{
    harness::{Kind, Scene},
    support::cluster::Stop,
};

const REFUSED: i32 = 4;
const USAGE: i32 = 3;
const UNREACHABLE: i32 = 8;

/// The top level of what a command prints as JSON.
#[track_caller]
fn shape(scene: &Scene, arguments: &[&str]) -> Vec<String> {
    let ran = scene
        .run(&[arguments, &["--format", "json"]].concat())
        .exits(0);
    assert_eq!(ran.stdout.lines().count(), 1, "one line: {ran}");
    match ran.json() {
        Value::Object(fields) => fields.into_iter().map(|(name, _)| name).collect(),
        other => panic!("no object: {other}"),
    }
}

#[tokio::test]
async fn kept_backups_and_the_minimum_are_not_deleted() {
    let settings = "schedule = \"none\"\nretention = { redundancy = 1 }";
    let Some(scene) = Scene::new(17, Kind::Directory, settings) else {
        return;
    };
    scene.run(&["backup", "main", "--name", "before"]).exits(0);
    scene.run(&["delete", "main", "before"]).exits(REFUSED);
    scene.run(&["backup", "main"]).exits(0);
    scene.archive_all().await;
    let ids = scene.place.ids("main", "DONE");

    let keep = [
        "keep", "main", "before", "--target", "full", "--reason", "audit",
    ];
    scene.run(&keep).exits(0);
    scene
        .run(&["delete", "main", &ids[0]])
        .exits(REFUSED)
        .says("is kept");
    scene
        .run(&["list"])
        .exits(0)
        .says("full  before")
        .says("before");
    scene
        .run(&["explain", "main", "before"])
        .exits(0)
        .says("audit")
        .says("protected");
    let ran = scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.ids("main", "DONE"), ids, "{ran}");

    scene.run(&["keep", "main", "before", "--release"]).exits(0);
    scene
        .run(&["delete", "main", "before", "--dry-run"])
        .exits(0)
        .says(&ids[0]);
    assert_eq!(scene.place.ids("main", "DONE"), ids);
    scene.run(&["delete", "main", "before"]).exits(0);
    assert_eq!(scene.place.ids("main", "DONE"), ids[1..]);
    assert_eq!(scene.place.keys(&format!("main/base/{}", ids[0])), [""; 0]);
    scene.run(&["delete", "main", &ids[0]]).exits(1);
    scene
        .run(&["keep", "main", &ids[0], "--target", "full"])
        .exits(1);
    scene.run(&["show", "main", &ids[0]]).exits(1);
    scene.run(&["explain", "main", &ids[0]]).exits(1);
}

#[tokio::test]
async fn what_is_printed_as_json_has_a_known_shape() {
    let Some(scene) = Scene::new(17, Kind::Directory, "schedule = \"none\"") else {
        return;
    };
    scene.run(&["backup", "main", "--name", "first"]).exits(0);
    let plans = ["format", "plans"];
    assert_eq!(shape(&scene, &["plan"]), plans);
    assert_eq!(shape(&scene, &["status"]), ["format", "now", "servers"]);
    assert_eq!(
        shape(&scene, &["reconcile", "--once"]),
        ["format", "done", "failed", "refused", "plans"]
    );
    assert_eq!(shape(&scene, &["list"]), ["format", "catalogs"]);
    assert_eq!(shape(&scene, &["check"]), ["format", "checks"]);
    assert_eq!(
        shape(&scene, &["explain", "main", "first"]),
        ["format", "server", "explanations"]
    );
    let shown = shape(&scene, &["show", "main", "first"]);
    assert!(
        ["id", "status", "archives"]
            .iter()
            .all(|key| shown.iter().any(|k| k == key))
    );
    let made = scene
        .run(&["backup", "main", "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(made["backup"], scene.place.ids("main", "DONE")[1].as_str());
}

#[tokio::test]
async fn what_is_not_there_is_told_from_what_cannot_be_reached() {
    let settings = "schedule = \"0 2 * * *\"\nretention = { redundancy = 1 }";
    let Some(mut scene) = Scene::new(17, Kind::Strict, settings) else {
        return;
    };
    scene.run(&["reconcile", "--once"]).exits(0);
    for arguments in [
        &["plan", "nobody"][..],
        &["status", "nobody"],
        &["list", "nobody"],
        &["backup", "nobody"],
        &["keep", "nobody", "latest", "--release"],
        &["delete", "nobody", "latest"],
        &["explain", "nobody", "latest"],
        &["reconcile", "--once", "nobody"],
        &["restore", "nobody", "latest", "/nowhere"],
        &["plan", "--select", "team=none"],
        &["backup", "main", "--destination", "other"],
        &["reconcile", "--now", "2026-11-20T04:10:11Z"],
        &["nonsense"],
    ] {
        scene.run(arguments).exits(USAGE);
    }

    // Without the server its catalog can still be read, and nothing is done that needs it.
    scene.cluster.stop(Stop::Immediate);
    scene.run(&["list"]).exits(0);
    scene.run(&["check"]).exits(UNREACHABLE);
    scene.run(&["backup", "main"]).exits(UNREACHABLE);
    scene.run(&["status"]).exits(UNREACHABLE);
    scene.run(&["reconcile", "--once"]).exits(UNREACHABLE);
    scene.cluster.start();
    scene.run(&["check"]).exits(0);

    scene.place.s3().kill();
    // Each tries for some seconds.
    let commands = [
        &["plan"][..],
        &["status"],
        &["list"],
        &["check"],
        &["backup", "main"],
        &["show", "main", "latest"],
        &["explain", "main", "latest"],
        &["keep", "main", "latest", "--release"],
        &["delete", "main", "latest"],
        &["reconcile", "--once"],
    ];
    let running: Vec<_> = commands
        .map(|arguments| scene.place.start(arguments))
        .into();
    for running in running {
        running.end().exits(UNREACHABLE);
    }
}
