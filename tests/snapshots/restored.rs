//! Disks made of snapshots: printed, made, attached, and made only once.

use crate::{
    fake::{Fault, Kind, RECOVERY},
    scene::Scene,
};

const RESTORE: [&str; 6] = [
    "restore",
    "srv",
    "latest",
    "/var/empty/data",
    "--instance",
    RECOVERY,
];

fn told(scene: &Scene, more: &[&str], code: i32) -> String {
    let arguments = [&RESTORE[..], more].concat();
    let output = scene.run(&arguments, code);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The disks that the recovery instance has beside its root, and those that nobody has.
fn disks(scene: &Scene) -> (usize, usize) {
    let state = scene.cloud.state();
    let of = |instance| {
        let all = state.disks.iter();
        all.filter(|disk| disk.instance == instance && !disk.is_root)
            .count()
    };
    (of(Some(RECOVERY)), of(None))
}

#[test]
fn what_would_be_made_is_printed_and_then_made_once() {
    Kind::each(async |kind| {
        let Some(scene) = Scene::start(kind) else {
            return;
        };
        scene.run(&["backup", "srv"], 0);
        let dry = told(&scene, &["--dry-run"], 0);
        assert_eq!(dry.matches("  + make    ").count(), 2, "{kind:?}: {dry}");
        assert!(dry.contains("pgdata-pg-new-20"), "{kind:?}: {dry}");
        assert_eq!(disks(&scene), (0, 0), "{kind:?}");
        let made = told(&scene, &[], 5);
        assert_eq!(disks(&scene), (2, 0), "{kind:?}");
        assert!(
            made.contains("mount on pg-new, then run this again there:"),
            "{made}"
        );
        let line = "mount -o rw,noatime /dev/";
        assert!(made.contains(line), "{kind:?}: {made}");
        let tags: Vec<String> = {
            let state = scene.cloud.state();
            let last = state.disks.last().expect("a disk");
            last.tags.keys().cloned().collect()
        };
        for tag in ["barkeep-catalog", "barkeep-restored", "barkeep-snapshot"] {
            assert!(tags.iter().any(|key| key == tag), "{kind:?}: {tags:?}");
        }
        let again = told(&scene, &[], 5);
        assert_eq!(disks(&scene), (2, 0), "{kind:?}: {again}");
        let dry = told(&scene, &["--dry-run"], 0);
        assert!(!dry.contains('+'), "{kind:?}: {dry}");
        assert!(dry.contains("attached to pg-new"), "{kind:?}: {dry}");
    });
}

#[test]
fn killed_at_any_request_the_next_run_goes_on() {
    Kind::each(async |kind| {
        let Some(scene) = Scene::start(kind) else {
            return;
        };
        scene.run(&["backup", "srv"], 0);
        for requests in 1..60 {
            scene.cloud.state().disks.truncate(4);
            let killed = scene.kill_after(requests, &RESTORE).await;
            told(&scene, &[], 5);
            assert_eq!(disks(&scene), (2, 0), "{kind:?} {requests}");
            if !killed {
                assert!(requests > 8, "{kind:?}: it made only {requests} requests");
                break;
            }
        }
    });
}

fn refusal() -> Fault {
    Fault::Refused(400, "NotNow")
}

#[test]
fn what_cannot_be_made_is_told() {
    Kind::each(async |kind| {
        let Some(scene) = Scene::start(kind) else {
            return;
        };
        scene.run(&["backup", "srv"], 0);
        scene.run(&RESTORE[..4], 3);
        let elsewhere = [&RESTORE[..5], &["pg-9"]].concat();
        let unknown = scene.run(&elsewhere, 1);
        let unknown = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(
            unknown.contains("Cannot find compute instance pg-9"),
            "{unknown}"
        );
        // The disk of the first is made, then the cloud refuses the second; then it refuses to attach.
        for faults in [vec![Fault::None, refusal()], vec![Fault::None, refusal()]] {
            scene.cloud.state().faults.extend(faults);
            let refused = scene.run(&RESTORE, 1);
            let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(refused.contains("NotNow: refused"), "{kind:?}: {refused}");
        }
        assert_eq!(disks(&scene), (0, 2), "{kind:?}");
        scene.cloud.state().disks.truncate(4);
        scene.cloud.state().snapshots.clear();
        let gone = scene.run(&RESTORE, 1);
        let gone = String::from_utf8_lossy(&gone.stderr).into_owned();
        assert!(gone.contains("is not there any more"), "{kind:?}: {gone}");
        assert_eq!(disks(&scene), (0, 0), "{kind:?}");
    });
}
