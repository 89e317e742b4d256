//! Configurations, good and bad.

use insta::assert_snapshot;

use crate::scene::Scene;

#[test]
fn a_good_configuration_is_valid() {
    assert_snapshot!(Scene::new().barkeep("validate"), @r"
    exit 0
    --- stdout
    The configuration is valid.
    ");
    assert_snapshot!(Scene::new().barkeep("validate --format json"), @r#"
    exit 0
    --- stdout
    {"format":1,"valid":true,"findings":[]}
    "#);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let scene = Scene::new();
    scene.configure(
        "version = 1\n\n[destinations.disk]\nurl = \"file:///srv/backup\"\n\n[servers.orders]\n\
         destination = \"dsik\"\nscedule = \"0 2 * * *\"\nretention = { redundancy = \"2\" }\n",
    );
    assert_snapshot!(scene.barkeep("validate"), @r#"
    exit 3
    --- stdout
    The configuration cannot be used; errors: 3.
    --- stderr
      × there is no destination `dsik`
       ╭─[[DIR]/barkeep.toml:7:15]
     6 │ [servers.orders]
     7 │ destination = "dsik"
       ·               ───┬──
       ·                  ╰── not defined
     8 │ scedule = "0 2 * * *"
       ╰────
      help: did you mean `disk`?

      × unknown key `scedule`
       ╭─[[DIR]/barkeep.toml:8:1]
     7 │ destination = "dsik"
     8 │ scedule = "0 2 * * *"
       · ───┬───
       ·    ╰── not known here
     9 │ retention = { redundancy = "2" }
       ╰────
      help: did you mean `schedule`?

      × expected a whole number, found text
       ╭─[[DIR]/barkeep.toml:9:28]
     8 │ scedule = "0 2 * * *"
     9 │ retention = { redundancy = "2" }
       ·                            ─┬─
       ·                             ╰── should be a whole number
       ╰────
    "#);
    assert_snapshot!(scene.barkeep("validate --format json"), @r#"
    exit 3
    --- stdout
    {"format":1,"valid":false,"findings":[{"severity":"error","message":"there is no destination `dsik`","places":[{"file":"[DIR]/barkeep.toml","line":7,"column":15,"label":"not defined"}],"help":"did you mean `disk`?"},{"severity":"error","message":"unknown key `scedule`","places":[{"file":"[DIR]/barkeep.toml","line":8,"column":1,"label":"not known here"}],"help":"did you mean `schedule`?"},{"severity":"error","message":"expected a whole number, found text","places":[{"file":"[DIR]/barkeep.toml","line":9,"column":28,"label":"should be a whole number"}]}]}
    "#);
}

#[test]
fn a_command_that_needs_it_ends_with_3_and_contacts_nothing() {
    let scene = Scene::new();
    scene.configure("version = 2\n");
    assert_snapshot!(scene.barkeep("plan"), @r"
    exit 3
    --- stderr
      × version 2 is not known
       ╭─[[DIR]/barkeep.toml:1:11]
     1 │ version = 2
       ·           ┬
       ·           ╰── should be 1
       ╰────
      help: a newer barkeep may have written this file

    error: the configuration cannot be used
    hint: `barkeep validate` shows all that is wrong
    ");
    assert_snapshot!(scene.barkeep("plan --config nowhere.toml"), @r"
    exit 3
    --- stderr
      × cannot read `nowhere.toml`: No such file or directory (os error 2)

    error: the configuration cannot be used
    hint: `barkeep validate` shows all that is wrong
    ");
}

#[test]
fn a_staged_file_is_checked_in_its_place() {
    let scene = Scene::new();
    scene.configure("version = 1\ninclude = [\"conf.d/*.toml\"]\n");
    scene.write("staged", "[servers.crm]\ndestination = \"tape\"\n");
    assert_snapshot!(scene.barkeep("validate --as conf.d/crm.toml staged"), @r"
    exit 3
    --- stdout
    The configuration cannot be used; errors: 1.
    --- stderr
      × `[DIR]/conf.d/crm.toml` is not part of this configuration
      help: no `include` would read it
    ");
}

#[test]
fn what_holds_is_shown_with_where_it_comes_from() {
    assert_snapshot!(Scene::new().barkeep("show-config --origin"), @r#"
    exit 0
    --- stdout
    version = 1

    [destinations.disk]
    url = "file://[DIR]/store"                         # [DIR]/barkeep.toml:4

    [servers.orders]
    connection = "host=[DIR]/socket user=barkeep"      # [DIR]/barkeep.toml:8
    mode = "full"                                                # built in

    [[servers.orders.backups]]
    catch_up = "once"                                            # built in
    compression = "lz4"                                          # [DIR]/barkeep.toml:11
    deletes.grace = "24h"                                        # built in
    deletes.max_backups = 5                                      # built in
    deletes.max_percent = 25                                     # built in
    destination = "disk"                                         # [DIR]/barkeep.toml:7
    immediate_checkpoint = false                                 # built in
    jobs = 2                                                     # built in
    manage_keeps = "declared"                                    # built in
    max_archive_size = "64GiB"                                   # built in
    method = "files"                                             # built in
    minimum_redundancy = 1                                       # built in
    part_size = "8MiB"                                           # built in
    retention = "RECOVERY WINDOW OF 7 DAYS"                      # [DIR]/barkeep.toml:10
    schedule = "0 2 * * *"                                       # [DIR]/barkeep.toml:9
    splay = "0s"                                                 # built in
    time_zone = "UTC"                                            # built in
    wal.check = true                                             # built in
    wal.compression = "none"                                     # built in
    wal.max_lag = "5m"                                           # built in
    wal.read_ahead = 8                                           # built in
    wal.spool = "/var/tmp/barkeep"                               # built in
    "#);
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
