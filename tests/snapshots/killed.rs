//! Killed at every request: what the next run makes of what is left.

use crate::{fake::Kind, scene::Scene};

/// How many requests a command has at most.
const REQUESTS_MAX: u32 = 60;

fn statuses(scene: &Scene) -> Vec<String> {
    let records = scene.records().into_iter();
    let statuses = records.filter_map(|info| info.get("status").map(str::to_owned));
    statuses.collect()
}

async fn kill_backups(kind: Kind) {
    let Some(scene) = Scene::start(kind) else {
        return;
    };
    for requests in 1..REQUESTS_MAX {
        let killed = scene.kill_after(requests, &["backup", "srv"]).await;
        scene.run(&["reconcile", "--once"], 0);
        let statuses = statuses(&scene);
        assert!(
            !statuses.contains(&"STARTED".to_owned()),
            "{kind:?} {requests}: {statuses:?}"
        );
        assert_eq!(scene.unrecorded(), [""; 0], "{kind:?} {requests}");
        if !killed {
            assert!(requests > 6, "{kind:?}: it made only {requests} requests");
            assert!(statuses.contains(&"DONE".to_owned()), "{statuses:?}");
            return;
        }
    }
    panic!("{kind:?}: it asks for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_snapshot_of_a_killed_backup_is_left_unrecorded_on_aws() {
    kill_backups(Kind::Aws).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_snapshot_of_a_killed_backup_is_left_unrecorded_on_azure() {
    kill_backups(Kind::Azure).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_snapshot_of_a_killed_backup_is_left_unrecorded_on_google_cloud() {
    kill_backups(Kind::Google).await;
}

#[test]
fn a_delete_that_was_killed_is_finished_by_the_next_run() {
    Kind::each(async |kind| {
        let Some(scene) = Scene::start(kind) else {
            return;
        };
        for _ in 0..2 {
            scene.run(&["backup", "srv"], 0);
        }
        let two = scene.remember();
        for requests in 1..REQUESTS_MAX {
            scene.go_back(&two);
            let killed = scene.kill_after(requests, &["reconcile", "--once"]).await;
            scene.run(&["reconcile", "--once"], 0);
            assert_eq!(statuses(&scene), ["DONE"], "{kind:?} {requests}");
            assert_eq!(scene.snapshots(), 2, "{kind:?} {requests}");
            assert_eq!(scene.unrecorded(), [""; 0], "{kind:?} {requests}");
            if !killed {
                assert!(requests > 6, "{kind:?}: it made only {requests} requests");
                return;
            }
        }
        panic!("{kind:?}: it asks for ever");
    });
}
