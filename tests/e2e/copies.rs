//! A second destination: copied object by object, finished when it was interrupted, restored from like the first.

use std::fs;

use crate::{
    harness::{Kind, Scene},
    support::{bed::bed, wait::until},
};

/// A server whose backups go to `d`, and from there to the directory `copy`.
fn scene(kind: Kind, limits: &str) -> Option<Scene> {
    let scene = Scene::new(17, kind, "schedule = \"none\"\nretention = \"none\"")?;
    let copy = scene.place.path("copy");
    fs::create_dir(&copy).expect("mkdir");
    bed().give(&copy);
    configure(&scene, limits);
    Some(scene)
}

fn configure(scene: &Scene, limits: &str) {
    let copy = scene.place.path("copy");
    scene.configure(&format!(
        "schedule = \"none\"\nretention = \"none\"\n\
         [[servers.main.backups]]\ndestination = \"d\"\n\
         [[servers.main.backups]]\ndestination = \"e\"\ncopy_of = \"d\"\n\
         [destinations.e]\nurl = \"file://{}\"\n{limits}\n",
        copy.display()
    ));
}

/// What lies in the copy, by its path there.
fn copied(scene: &Scene) -> Vec<String> {
    let root = scene.place.path("copy");
    let mut left = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory");
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else {
            let path = path.strip_prefix(&root).expect("below the root");
            found.push(path.to_str().expect("text").to_owned());
        }
    }
    found.retain(|path| !path.contains("/.barkeep"));
    found.sort();
    found
}

#[tokio::test]
async fn a_copy_holds_what_its_source_holds_and_is_restored_from() {
    for kind in [Kind::Directory, Kind::Strict] {
        let Some(scene) = scene(kind, "") else { return };
        scene.cluster.sql("CREATE TABLE t AS SELECT 1 AS id");
        scene
            .run(&["backup", "main", "--destination", "d"])
            .exits(0);
        scene.archive_all().await;
        let id = scene.place.ids("main", "DONE")[0].clone();
        scene
            .run(&["plan"])
            .exits(0)
            .says(&format!("+ copy     {id}"))
            .says("not copied from d yet");
        scene.run(&["reconcile", "--once"]).exits(0).says("copy");
        scene.cluster.sql("INSERT INTO t VALUES (2)");
        scene.archive_all().await;
        scene.run(&["plan"]).exits(0).says("+ copy     WAL");
        scene
            .run(&["reconcile", "--once"])
            .exits(0)
            .says("Nothing to do.");
        let shared = |path: &String| path.contains("/base/") || path.contains("/wals/");
        let mut source: Vec<String> = scene
            .place
            .keys("main/")
            .into_iter()
            .filter(shared)
            .collect();
        source.retain(|path| !path.contains("/.barkeep") && !path.contains(".backup"));
        let mut copy: Vec<String> = copied(&scene).into_iter().filter(shared).collect();
        copy.retain(|path| !path.contains(".backup"));
        let earlier = |path: &String| path.contains("/wals/") && !copy.contains(path);
        source.retain(|path| !earlier(path));
        assert_eq!(copy, source);
        let restored = scene.restore(&["--destination", "e"], &id).await;
        assert_eq!(restored.sql("SELECT count(*) FROM t"), "2");
    }
}

#[tokio::test]
async fn a_copy_that_was_killed_is_finished_by_the_next_run() {
    let Some(scene) = scene(Kind::Strict, "max_bandwidth = \"200KiB/s\"") else {
        return;
    };
    scene
        .run(&["backup", "main", "--destination", "d"])
        .exits(0);
    scene.archive_all().await;
    let id = scene.place.ids("main", "DONE")[0].clone();
    let running = scene.place.start(&["reconcile", "--once"]);
    until("the first object of the copy", async || {
        (!copied(&scene).is_empty()).then_some(())
    })
    .await;
    drop(running);
    let info = format!("main/base/{id}/backup.info");
    assert!(!copied(&scene).contains(&info), "the record comes last");
    configure(&scene, "");
    scene.run(&["reconcile", "--once"]).exits(0);
    assert!(copied(&scene).contains(&info));
    scene.run(&["plan", "--detailed-exitcode"]).exits(0);
    let restored = scene.restore(&["--destination", "e"], &id).await;
    assert_eq!(restored.sql("SELECT 1"), "1");
}
