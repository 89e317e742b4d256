//! What the policy no longer wants goes, with its WAL; what it wants can still be restored.

use std::{
    fs::{self, File, FileTimes},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::{
    harness::{Kind, Scene},
    support::{bed::bed, wait::until},
};

/// Takes backups, each with a row and WAL of its own, and gives their ids and first segments.
async fn take(scene: &Scene, count: usize) -> Vec<(String, String)> {
    for number in 1..=count {
        scene
            .cluster
            .sql(&format!("INSERT INTO t VALUES ({number})"));
        scene.run(&["backup", "main"]).exits(0);
        scene.archive_all().await;
    }
    let backups = scene.place.backups("main").into_iter();
    let field = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let pair = |backup: serde_json::Value| (field(&backup["id"]), field(&backup["begin_wal"]));
    backups.map(pair).collect()
}

fn scene(kind: Kind, settings: &str) -> Option<Scene> {
    let settings = format!("schedule = \"none\"\n{settings}");
    let scene = Scene::new(17, kind, &settings)?;
    scene.cluster.sql("CREATE TABLE t (id int)");
    Some(scene)
}

/// The segments and backup history files that are stored, by name.
fn wal(scene: &Scene) -> Vec<String> {
    let keys = scene.place.keys("main/wals/").into_iter();
    let name = |key: String| key.rsplit('/').next().expect("a name").to_owned();
    keys.map(name)
        .filter(|name| !name.contains("history"))
        .collect()
}

#[tokio::test]
async fn the_oldest_goes_with_its_wal_and_the_rest_restores() {
    let Some(scene) = scene(Kind::Strict, "retention = { redundancy = 2 }") else {
        return;
    };
    let taken = take(&scene, 3).await;
    let (oldest, first) = (&taken[0].0, &taken[1].1);
    assert!(wal(&scene).iter().any(|name| name < first));
    scene
        .run(&["plan"])
        .exits(0)
        .says(&format!("{oldest} "))
        .says("1 to delete (budget 1)");
    scene
        .run(&["reconcile", "--once"])
        .exits(0)
        .says("Left: Nothing to do.");

    let left: Vec<_> = taken[1..].iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(scene.place.ids("main", "DONE"), left);
    assert_eq!(scene.place.keys(&format!("main/base/{oldest}")), [""; 0]);
    let stale: Vec<_> = wal(&scene)
        .into_iter()
        .filter(|name| name < first)
        .collect();
    assert_eq!(stale, [""; 0], "before {first}");
    scene.run(&["plan", "--detailed-exitcode"]).exits(0);
    let copy = scene.restore(&[], "oldest").await;
    assert_eq!(
        copy.sql("SELECT array_agg(id ORDER BY id) FROM t"),
        "{1,2,3}"
    );
    let copy = scene.restore(&["--target-immediate"], "oldest").await;
    assert_eq!(copy.sql("SELECT array_agg(id ORDER BY id) FROM t"), "{1,2}");
}

#[tokio::test]
async fn the_budget_leaves_the_rest_waiting() {
    let Some(scene) = scene(Kind::Directory, "retention = { redundancy = 1 }") else {
        return;
    };
    let taken = take(&scene, 4).await;
    let ids: Vec<_> = taken.iter().map(|(id, _)| id.clone()).collect();
    // A quarter of four.
    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.ids("main", "DONE"), ids[1..]);
    scene
        .run(&["plan"])
        .exits(0)
        .says("the delete budget of 1 is used up");
    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.ids("main", "DONE"), ids[1..]);
    // What waits keeps its WAL.
    assert!(wal(&scene).iter().any(|name| name.starts_with(&taken[1].1)));

    scene.configure(
        "schedule = \"none\"\nretention = { redundancy = 2 }\ndeletes = { max_percent = 100 }",
    );
    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.ids("main", "DONE"), ids[2..]);
    let copy = scene.restore(&[], "oldest").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "4");
}

#[tokio::test]
async fn failed_backups_and_orphans_go_when_they_are_old_enough() {
    let settings = "retention = { redundancy = 1 }\norphans = { delete_after = \"14d\" }\n\
        deletes = { max_percent = 100 }\nfailed_backups = { delete_after = ";
    let Some(scene) = scene(Kind::Directory, &format!("{settings}\"7d\" }}")) else {
        return;
    };
    let secret = scene.cluster.pgdata().join("secret");
    fs::write(&secret, "not for everybody").expect("written");
    bed().give(&secret);
    set_mode(&secret, 0o000);
    let error = scene.run(&["backup", "main"]).exits(1);
    assert!(
        error.stderr.contains(&secret.display().to_string()),
        "{error}"
    );
    let failed = scene.place.backups("main");
    assert_eq!(failed[0]["status"], "FAILED");
    let why = failed[0]["error"].as_str().expect("why");
    assert!(why.contains("secret"), "{why}");
    set_mode(&secret, 0o600);
    take(&scene, 1).await;

    let orphans = ["main/base/20260101T000000", "main/base/20260102T000000"];
    for orphan in orphans {
        let directory = scene.place.file(orphan);
        fs::create_dir(&directory).expect("mkdir");
        fs::write(directory.join("data.tar"), "left").expect("written");
        bed().give(&directory);
    }
    // The first day of 2026.
    let old = SystemTime::UNIX_EPOCH + Duration::from_hours(490_896);
    let file = File::options()
        .write(true)
        .open(scene.place.file(orphans[0]).join("data.tar"));
    let file = file.expect("the orphan");
    file.set_times(FileTimes::new().set_modified(old))
        .expect("older");

    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.keys(orphans[0]), [""; 0]);
    assert_eq!(
        scene.place.keys(orphans[1]),
        [format!("{}/data.tar", orphans[1])]
    );
    assert_eq!(
        scene.place.ids("main", "FAILED").len(),
        1,
        "younger than a week"
    );
    scene.configure(&format!("schedule = \"none\"\n{settings}\"1s\" }}"));
    until("the failed backup to be old", async || {
        scene.run(&["reconcile", "--once"]).exits(0);
        scene.place.ids("main", "FAILED").is_empty().then_some(())
    })
    .await;
    assert_eq!(scene.place.ids("main", "DONE").len(), 1);
}

#[tokio::test]
async fn declared_keeps_are_set_and_hold_what_the_policy_would_delete() {
    let settings = "retention = { redundancy = 1 }\ndeletes = { max_percent = 100 }\n\
        [[servers.main.keep]]\nbackup = \"before\"\ntarget = \"standalone\"\nreason = \"audit\"";
    let Some(scene) = scene(Kind::Strict, settings) else {
        return;
    };
    scene.run(&["backup", "main", "--name", "before"]).exits(0);
    let taken = take(&scene, 3).await;
    scene
        .run(&["plan"])
        .exits(0)
        .says("~ keep")
        .says("1 to keep");
    scene
        .run(&["reconcile", "--once"])
        .exits(0)
        .says("Left: Nothing to do.");
    let left = scene.place.ids("main", "DONE");
    assert_eq!(left, [taken[0].0.clone(), taken[3].0.clone()]);
    scene
        .run(&["explain", "main", "before"])
        .exits(0)
        .says("standalone")
        .says("audit");
    // Its own WAL stays, what follows goes, up to what the newest needs.
    let wal = wal(&scene);
    assert!(
        wal.iter().any(|name| name.starts_with(&taken[0].1)),
        "{wal:?}"
    );
    assert!(
        !wal.iter().any(|name| name.starts_with(&taken[2].1)),
        "{wal:?}"
    );
    let copy = scene.restore(&["--target-immediate"], "before").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "0");
}

#[tokio::test]
async fn a_mode_withholds_what_it_does_not_allow() {
    let settings = "retention = { redundancy = 1 }";
    let Some(scene) = scene(Kind::Directory, settings) else {
        return;
    };
    let taken = take(&scene, 2).await;
    let before = scene.place.frozen();
    let due = "schedule = \"0 2 * * *\"\nretention = { redundancy = 1 }\nmode = ";
    scene.configure(&format!("{due}\"observe\""));
    scene
        .run(&["plan", "--now", "2100-01-01T03:00:00Z"])
        .exits(0)
        .says("would");
    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.frozen(), before);
    scene.configure(&format!("{due}\"additive\""));
    scene
        .run(&["plan", "--now", "2100-01-01T03:00:00Z"])
        .exits(0)
        .says("+ backup");
    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.ids("main", "DONE").len(), taken.len());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}
