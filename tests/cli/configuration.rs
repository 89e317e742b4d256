//! Configurations, good and bad.

use insta::assert_snapshot;

use crate::scene::Scene;

#[test]
fn a_good_configuration_is_valid() {
    assert_snapshot!(Scene::new().barkeep("validate"), @"");
    assert_snapshot!(Scene::new().barkeep("validate --format json"), @"");
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let scene = Scene::new();
    scene.configure(
        "version = 1\n\n[destinations.disk]\nurl = \"file:///srv/backup\"\n\n[servers.orders]\n\
         destination = \"dsik\"\nscedule = \"0 2 * * *\"\nretention = { redundancy = \"2\" }\n",
    );
    assert_snapshot!(scene.barkeep("validate"), @"");
    assert_snapshot!(scene.barkeep("validate --format json"), @"");
}

#[test]
fn a_command_that_needs_it_ends_with_3_and_contacts_nothing() {
    let scene = Scene::new();
    scene.configure("version = 2\n");
    assert_snapshot!(scene.barkeep("plan"), @"");
    assert_snapshot!(scene.barkeep("plan --config nowhere.toml"), @"");
}

#[test]
fn a_staged_file_is_checked_in_its_place() {
    let scene = Scene::new();
    scene.configure("version = 1\ninclude = [\"conf.d/*.toml\"]\n");
    scene.write("staged", "[servers.crm]\ndestination = \"tape\"\n");
    assert_snapshot!(scene.barkeep("validate --as conf.d/crm.toml staged"), @"");
}

#[test]
fn what_holds_is_shown_with_where_it_comes_from() {
    assert_snapshot!(Scene::new().barkeep("show-config --origin"), @"");
    let json = Scene::new()
        .command(&["show-config", "--origin", "--format", "json"])
        .output();
    let json: serde_json::Value =
        serde_json::from_slice(&json.expect("it starts").stdout).expect("JSON");
    assert_eq!(
        json["configuration"]["servers"]["orders"]["backups"][0]["schedule"],
        "0 2 * * *"
    );
    let first = &json["origins"][0];
    assert_eq!(
        (first["table"].as_str(), first["key"].as_str()),
        (Some("destinations.disk"), Some("url"))
    );
}
