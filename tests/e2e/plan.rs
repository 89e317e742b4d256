//! A plan is a pure read: the same bytes for the same question, nothing written, nothing left to do after it was done.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use crate::harness::{Kind, Scene, text};

/// An instant that is later than any run of these tests, and at which the first backup is long due.
const LATER: &str = "2100-01-01T03:00:00Z";

const SETTINGS: &str = "schedule = \"0 2 * * *\"\nretention = { redundancy = 2 }";

#[tokio::test]
async fn the_same_question_has_the_same_answer_in_a_directory() {
    the_same_question_has_the_same_answer(Kind::Directory).await;
}

#[tokio::test]
async fn the_same_question_has_the_same_answer_in_s3() {
    the_same_question_has_the_same_answer(Kind::Strict).await;
}

async fn the_same_question_has_the_same_answer(kind: Kind) {
    let Some(scene) = Scene::new(17, kind, SETTINGS) else {
        return;
    };
    scene.run(&["backup", "main"]).exits(0);
    // The server goes on archiving, and must have ended.
    scene.archive_all().await;
    let before = scene.place.frozen();
    for format in ["text", "json"] {
        let question = ["plan", "--now", LATER, "--format", format];
        let first = scene.run(&question).exits(0).says(LATER);
        let second = scene.run(&question).exits(0);
        assert_eq!(first.stdout, second.stdout);
    }
    let out = text(&scene.place.path("plan.json"));
    scene.run(&["plan", "--now", LATER, "--out", &out]).exits(0);
    scene.run(&["status", "--now", LATER]).exits(0);
    scene
        .run(&["explain", "main", "latest", "--now", LATER])
        .exits(0);
    assert_eq!(scene.place.frozen(), before, "something was written");
}

#[tokio::test]
async fn a_plan_is_empty_after_it_was_done_and_says_so_again() {
    let Some(scene) = Scene::new(17, Kind::Directory, SETTINGS) else {
        return;
    };
    let now = scene.cluster.sql(
        "SELECT to_char(now() AT TIME ZONE 'UTC' + '1 minute', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')",
    );
    let due = scene
        .run(&["plan", "--now", &now, "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(
        due["plans"][0]["steps"][0]["action"], "take-backup",
        "{due}"
    );
    scene.run(&["reconcile", "--once"]).exits(0);
    let question = ["plan", "--now", &now, "--format", "json"];
    let done = scene.run(&question).exits(0);
    assert_eq!(
        done.json()["plans"][0]["steps"],
        serde_json::json!([]),
        "{done}"
    );
    assert_eq!(scene.run(&question).stdout, done.stdout);
}

#[tokio::test]
async fn a_plan_needs_no_right_to_write_and_leaves_nothing() {
    let Some(scene) = Scene::new(17, Kind::Directory, SETTINGS) else {
        return;
    };
    let store = scene.place.path("store");
    let set = |mode| std::fs::set_permissions(&store, Permissions::from_mode(mode)).expect("chmod");
    set(0o555);
    let before = scene.place.frozen();
    scene.run(&["plan", "--detailed-exitcode"]).exits(2);
    scene.run(&["check"]).exits(0);
    scene.run(&["list"]).exits(0);
    assert_eq!(scene.place.frozen(), before);
    scene
        .run(&["reconcile", "--once"])
        .exits(1)
        .says("permission denied");
    set(0o755);
    // The directory itself may be where a disk should be mounted.
    std::fs::remove_dir_all(&store).expect("removed");
    scene
        .run(&["plan"])
        .exits(1)
        .says("the destination does not exist");
    scene.run(&["reconcile", "--once"]).exits(1);
    assert!(!store.exists());
}
