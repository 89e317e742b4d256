//! Looking at catalogs, and changing them by name.

use insta::assert_snapshot;

use crate::scene::{NOW, Scene};

#[test]
fn an_empty_destination_lists_no_backups() {
    assert_snapshot!(Scene::new().barkeep("list"), @"");
}

#[test]
fn backups_are_listed_shown_and_explained() {
    let scene = Scene::new();
    scene.backup(3);
    scene.backup(19);
    scene.write(
        "store/orders/base/20261118T020003/backup.info",
        "status=NEW\n",
    );
    assert_snapshot!(scene.barkeep("list"), @"");
    assert_snapshot!(scene.barkeep("show orders latest"), @"");
    assert_snapshot!(scene.run(&["explain", "orders", "oldest", "--now", NOW]), @"");
    assert_snapshot!(scene.barkeep("show orders nightly"), @"");
}

#[test]
fn a_plan_without_the_server_says_what_it_lacks() {
    let scene = Scene::new();
    assert_snapshot!(scene.run(&["plan", "--now", NOW]), @"");
    assert_snapshot!(scene.run(&["status", "--now", NOW]), @"");
    assert_snapshot!(scene.barkeep("check"), @"");
}

#[test]
fn a_plan_deletes_what_the_policy_no_longer_wants() {
    let scene = Scene::with("retention = { redundancy = 2 }\nmethod = \"files\"\n");
    for day in [3, 10, 17, 18] {
        scene.backup(day);
    }
    // Without a connection only the catalog is looked after.
    let config = std::fs::read_to_string(scene.path("barkeep.toml")).expect("read");
    let config: Vec<_> = config
        .lines()
        .filter(|line| !line.starts_with("connection"))
        .collect();
    scene.configure(&config.join("\n"));
    assert_snapshot!(scene.run(&["plan", "--now", NOW]), @"");
    assert_snapshot!(scene.run(&["plan", "--now", NOW, "--detailed-exitcode", "--out", "plan.json"]), @"");
    assert_snapshot!(scene.barkeep("show-plan plan.json"), @"");
    assert_snapshot!(scene.run(&["status", "--now", NOW]), @"");
}

#[test]
fn a_plan_that_was_changed_or_is_none_is_not_used() {
    let scene = Scene::new();
    scene.write("plan.json", "{}");
    assert_snapshot!(scene.barkeep("show-plan plan.json"), @"");
    assert_snapshot!(scene.barkeep("show-plan nowhere.json"), @"");
}

#[test]
fn a_destination_that_is_not_there_is_told_with_what_mends_it() {
    let scene = Scene::new();
    std::fs::remove_dir(scene.path("store")).expect("remove it");
    assert_snapshot!(scene.barkeep("list"), @"");
    assert_snapshot!(scene.run(&["plan", "--now", NOW]), @"");
    assert_snapshot!(scene.barkeep("check"), @"");
}

#[test]
fn a_kept_backup_is_not_deleted_and_neither_is_the_last_one() {
    let scene = Scene::new();
    let id = scene.backup(18);
    assert_snapshot!(scene.run(&["delete", "orders", &id]), @"");
    scene.backup(19);
    assert_snapshot!(scene.run(&["keep", "orders", &id, "--target", "full", "--reason", "audit"]), @"");
    assert_snapshot!(scene.run(&["delete", "orders", &id]), @"");
    assert_snapshot!(scene.run(&["keep", "orders", &id, "--release"]), @"");
    assert_snapshot!(scene.run(&["delete", "orders", &id, "--dry-run"]), @"");
    assert_snapshot!(scene.run(&["delete", "orders", &id]), @"");
    assert_snapshot!(scene.run(&["show", "orders", &id]), @"");
}

#[test]
fn over_several_servers_the_worst_ending_is_told() {
    let scene = Scene::new();
    let config = std::fs::read_to_string(scene.path("barkeep.toml")).expect("read");
    // A directory that is missing fails; a server that does not answer is unreachable. The failure is told.
    scene.configure(&format!(
        "{config}\n[destinations.gone]\nurl = \"file://{}\"\n\n[servers.archive]\ndestination = \"gone\"\n",
        scene.path("gone").display()
    ));
    let ends = |arguments: &[&str]| {
        let status = scene.command(arguments).output().expect("it starts").status;
        status.code()
    };
    assert_eq!(ends(&["plan", "orders"]), Some(8));
    assert_eq!(ends(&["plan", "archive"]), Some(1));
    for command in [
        &["plan"][..],
        &["status"],
        &["check"],
        &["reconcile", "--once"],
    ] {
        assert_eq!(ends(command), Some(1), "{command:?}");
    }
}

#[test]
fn what_is_printed_is_also_json() {
    let scene = Scene::new();
    let id = scene.backup(19);
    let commands: [&[&str]; 9] = [
        &["plan"],
        &["status"],
        &["check"],
        &["list"],
        &["show", "orders", &id],
        &["explain", "orders", &id],
        &["reconcile", "--once"],
        &["keep", "orders", &id, "--target", "full"],
        &["keep", "orders", &id, "--release"],
    ];
    for command in commands {
        let arguments = [command, &["--format", "json"]].concat();
        let output = scene.command(&arguments).output().expect("it starts");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command:?}: {error}: {output:?}"));
        let shaped = json["format"].is_u64() || json["id"].is_string();
        assert!(shaped, "{command:?}: {json}");
    }
}
