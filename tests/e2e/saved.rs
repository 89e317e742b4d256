//! Saved plans: applied exactly, once, or not at all.

use std::fs;

use crate::harness::{Kind, Scene, text};

const STALE: i32 = 10;

#[tokio::test]
async fn a_saved_plan_is_applied_exactly_and_once() {
    let settings = "schedule = \"0 2 * * *\"\nretention = { redundancy = 1 }";
    let Some(scene) = Scene::new(17, Kind::Directory, settings) else {
        return;
    };
    let file = text(&scene.place.path("plan.json"));
    let planned = scene.run(&["plan", "--out", &file]).exits(0);
    assert_eq!(
        scene.run(&["show-plan", &file]).exits(0).stdout,
        planned.stdout
    );
    // WAL that arrives in between changes no plan.
    scene.archive_all().await;
    let apply = ["reconcile", "--once", "--plan", &file];
    scene.run(&apply).exits(0);
    assert_eq!(scene.place.ids("main", "DONE").len(), 1);
    let before = scene.place.frozen();
    scene.run(&apply).exits(STALE).says("plan again");
    assert_eq!(scene.place.frozen(), before);

    // Deletes, too.
    scene.run(&["backup", "main"]).exits(0);
    scene.archive_all().await;
    let ids = scene.place.ids("main", "DONE");
    scene.run(&["plan", "--out", &file]).exits(0).says(&ids[0]);
    scene.run(&apply).exits(0).says(&ids[0]);
    assert_eq!(scene.place.ids("main", "DONE"), ids[1..]);
    scene.run(&apply).exits(STALE);
}

#[tokio::test]
async fn a_saved_plan_is_refused_when_it_or_the_catalog_was_changed() {
    let settings = "schedule = \"none\"\nretention = { redundancy = 1 }";
    let Some(scene) = Scene::new(17, Kind::Directory, settings) else {
        return;
    };
    for _ in 0..2 {
        scene.run(&["backup", "main"]).exits(0);
    }
    scene.archive_all().await;
    let ids = scene.place.ids("main", "DONE");
    let file = text(&scene.place.path("plan.json"));
    scene.run(&["plan", "--out", &file]).exits(0).says(&ids[0]);

    let edited = scene.place.path("edited.json");
    let saved = fs::read_to_string(&file).expect("a plan");
    fs::write(&edited, saved.replace(&ids[0], &ids[1])).expect("written");
    let before = scene.place.frozen();
    let apply_edited = ["reconcile", "--once", "--plan", &text(&edited)];
    scene
        .run(&apply_edited)
        .exits(STALE)
        .says("is not the one that was saved");
    fs::write(&edited, &saved[..saved.len() / 2]).expect("written");
    let ran = scene.run(&apply_edited);
    assert!(ran.code != Some(0), "half a plan: {ran}");
    assert_eq!(scene.place.frozen(), before);

    scene
        .run(&["keep", "main", &ids[0], "--target", "full"])
        .exits(0);
    let before = scene.place.frozen();
    let apply = ["reconcile", "--once", "--plan", &file];
    scene.run(&apply).exits(STALE);
    assert_eq!(scene.place.frozen(), before);
    assert_eq!(scene.place.ids("main", "DONE"), ids);
}
