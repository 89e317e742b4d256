//! Snapshots without a backup, and backups without their snapshots.

use crate::{
    fake::{Kind, Snapshot},
    scene::Scene,
};

const SETTINGS: &str = "orphans = { delete_after = \"48h\" }\n";

/// Two backups, the younger of which somebody removes from the catalog by hand.
fn removed_by_hand(kind: Kind, more: &str) -> Option<Scene> {
    let scene = Scene::start(kind)?;
    scene.configure_with("mode = \"additive\"\n");
    for _ in 0..2 {
        scene.run(&["backup", "srv"], 0);
    }
    scene.run(&["reconcile", "--once"], 0);
    scene.configure_with(&format!("{SETTINGS}{more}"));
    let base = scene.path("store/srv/base");
    let entries = std::fs::read_dir(&base).expect("a catalog");
    let ids = entries.map(|entry| entry.expect("an entry").file_name());
    let last = ids.max().expect("a backup");
    std::fs::remove_dir_all(base.join(last)).expect("it is removed");
    Some(scene)
}

fn told(scene: &Scene, arguments: &[&str], code: i32) -> String {
    let output = scene.run(arguments, code);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Takes the catalog up as it is now.
fn adopt(scene: &Scene) {
    let shown = told(scene, &["adopt", "srv", "--format", "json"], 0);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let digest = shown["plan"]["digest"]
        .as_str()
        .or(shown["digest"].as_str());
    let digest = digest.expect("a digest");
    scene.run(&["adopt", "srv", "--approve", digest], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_without_a_backup_goes_and_others_stay() {
    for kind in Kind::ALL {
        let Some(scene) = removed_by_hand(kind, "deletes = { grace = \"0s\" }\n") else {
            return;
        };
        // As like ours as a name can make it.
        let foreign = {
            let state = scene.cloud.state();
            let (_, last) = state.snapshots.last_key_value().expect("a snapshot");
            Snapshot {
                tags: [("Name".to_owned(), last.name.clone())].into(),
                ..last.clone()
            }
        };
        let id = "snap-0ffffffffffffffff".to_owned();
        scene.cloud.state().snapshots.insert(id, foreign);
        // A backup that vanished may come back, and its snapshots with it.
        let planned = told(&scene, &["plan", "srv"], 0);
        assert!(
            planned.contains("gone without a record"),
            "{kind:?}: {planned}"
        );
        assert!(!planned.contains("delete"), "{kind:?}: {planned}");
        adopt(&scene);
        let planned = told(&scene, &["plan", "srv"], 0);
        assert!(
            planned.contains("2 snapshots to delete"),
            "{kind:?}: {planned}"
        );
        scene.run(&["reconcile", "--once"], 0);
        assert_eq!(scene.unrecorded(), ["snap-0ffffffffffffffff"], "{kind:?}");
        assert_eq!(
            (scene.records().len(), scene.snapshots()),
            (1, 3),
            "{kind:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_without_a_backup_is_marked_before_it_goes() {
    let Some(scene) = removed_by_hand(Kind::Aws, "deletes = { grace = \"24h\" }\n") else {
        return;
    };
    adopt(&scene);
    scene.run(&["reconcile", "--once"], 0);
    assert_eq!(scene.snapshots(), 4);
    let planned = told(&scene, &["plan", "srv"], 0);
    assert!(planned.contains("marked; goes after"), "{planned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_its_snapshot_counts_for_nothing() {
    for kind in Kind::ALL {
        let Some(scene) = Scene::start(kind) else {
            return;
        };
        for _ in 0..2 {
            scene.run(&["backup", "srv"], 0);
        }
        scene.cloud.state().snapshots.pop_last();
        let planned = told(&scene, &["plan", "srv"], 0);
        assert!(planned.contains("is missing"), "{kind:?}: {planned}");
        // One is to be retained, and the older one is the only one that there is.
        scene.run(&["reconcile", "--once"], 6);
        assert_eq!(
            (scene.records().len(), scene.snapshots()),
            (2, 3),
            "{kind:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_cloud_does_not_answer_nothing_is_deleted() {
    let Some(scene) = Scene::start(Kind::Azure) else {
        return;
    };
    for _ in 0..2 {
        scene.run(&["backup", "srv"], 0);
    }
    scene.cloud.state().denies = true;
    let planned = told(&scene, &["plan", "srv"], 1);
    let unknown = "what snapshots of disks there are is unknown";
    assert!(planned.contains(unknown), "{planned}");
    assert!(!planned.contains("to delete"), "{planned}");
}
