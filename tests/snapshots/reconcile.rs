//! `method = "snapshot"` under a configuration, with a directory for the catalog: taken, listed, kept and deleted.

use crate::{fake::Kind, scene::Scene};

#[test]
fn a_backup_of_snapshots_lives_and_goes_under_its_policy() {
    Kind::each(async |kind| {
        let Some(scene) = Scene::start(kind) else {
            return;
        };
        let checked = scene.run(&["check", "srv"], 0);
        let told = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(
            told.contains("pgdata, pgwal of pg-1 hold all files"),
            "{kind:?}: {told}"
        );
        for _ in 0..2 {
            scene.run(&["backup", "srv"], 0);
        }
        let records = scene.records();
        let states: Vec<_> = records
            .iter()
            .filter_map(|info| info.get("status"))
            .collect();
        assert_eq!(
            (states, scene.snapshots()),
            (vec!["DONE"; 2], 4),
            "{kind:?}"
        );
        let tags: Vec<String> = {
            let state = scene.cloud.state();
            let first = state.snapshots.values().next().expect("one");
            first.tags.keys().cloned().collect()
        };
        for tag in [
            "barkeep-server",
            "barkeep-catalog",
            "barkeep-backup",
            "team",
        ] {
            assert!(tags.iter().any(|key| key == tag), "{kind:?}: {tags:?}");
        }
        let listed = scene.run(&["list", "srv"], 0);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert_eq!(listed.matches("DONE").count(), 2, "{kind:?}: {listed}");
        let shown = scene.run(&["show", "srv", "oldest"], 0);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let first = scene.cloud.state().snapshots.keys().next().cloned();
        let first = first.expect("a snapshot");
        assert!(shown.contains(&first), "{kind:?}: {shown}");
        scene.run(&["keep", "srv", "oldest", "--target", "full"], 0);
        scene.run(&["delete", "srv", "oldest"], 4);
        assert_eq!(scene.snapshots(), 4, "{kind:?}");
        scene.run(&["keep", "srv", "oldest", "--release"], 0);
        let planned = scene.run(&["plan", "srv"], 0);
        let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
        scene.run(&["reconcile", "--once"], 0);
        assert_eq!(
            (scene.records().len(), scene.snapshots()),
            (1, 2),
            "{kind:?}: {planned}"
        );
    });
}
