//! What a right configuration means.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::{
    config::{Origins, origin},
    model::{
        desired::{AzureOptions, ProviderOptions, SecretRef},
        snapshot::MountsFrom,
    },
};

#[test]
fn every_leaf_comes_from_the_highest_layer_that_has_it() {
    let main = r#"version = 1
[defaults]
destination = "d"
time_zone = "Europe/Rome"
jobs = 3
wal = { compression = "gzip", check = false }
[destinations.d]
url = "file:///srv/backup"
[servers.orders]
policy = "gold"
connection = "service=orders"
minimum_redundancy = 2
retention = { window = "20d" }
[[servers.orders.keep]]
backup = "before-v17"
target = "full"
until = 2027-12-31
"#;
    let policies = r#"[policies.base]
schedule = "0 2 * * *"
retention = "RECOVERY WINDOW OF 30 DAYS"
keep = [{ first_of = "month", for = "12 months", target = "standalone" }]
[policies.gold]
extends = "base"
schedule = { every = "24h", at = "03:00" }
wal.compression = { codec = "zstd", level = "low" }
"#;
    let files = [("barkeep.toml", main), ("policies/gold.toml", policies)];
    let compiled =
        compiled(&files).unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
    assert_snapshot!(origin::show(&compiled.merged, Origins::Shown), @r#"
    version = 1

    [destinations.d]
    url = "file:///srv/backup"                                   # barkeep.toml:8

    [servers.orders]
    connection = "service=orders"                                # barkeep.toml:11
    mode = "full"                                                # built in

    [[servers.orders.keep]]
    backup = "before-v17"                                        # barkeep.toml:15
    target = "full"                                              # barkeep.toml:16
    until = "2027-12-31"                                         # barkeep.toml:17

    [[servers.orders.backups]]
    catch_up = "once"                                            # built in
    compression = "none"                                         # built in
    deletes.grace = "24h"                                        # built in
    deletes.max_backups = 5                                      # built in
    deletes.max_percent = 25                                     # built in
    destination = "d"                                            # barkeep.toml:3
    immediate_checkpoint = false                                 # built in
    jobs = 3                                                     # barkeep.toml:5
    keep = [{ first_of = "month", for = "12 months", target = "standalone" }] # policies/gold.toml:4
    manage_keeps = "declared"                                    # built in
    max_archive_size = "64GiB"                                   # built in
    method = "files"                                             # built in
    minimum_redundancy = 2                                       # barkeep.toml:12
    part_size = "8MiB"                                           # built in
    retention = { window = "20d" }                               # barkeep.toml:13
    schedule = { at = "03:00", every = "24h" }                   # policies/gold.toml:7
    splay = "0s"                                                 # built in
    time_zone = "Europe/Rome"                                    # barkeep.toml:4
    wal.check = false                                            # barkeep.toml:6
    wal.compression = { codec = "zstd", level = "low" }          # policies/gold.toml:8
    wal.max_lag = "5m"                                           # built in
    wal.read_ahead = 8                                           # built in
    wal.spool = "/var/tmp/barkeep"                               # built in
    "#);

    // What is shown is itself a configuration, and means the same.
    let shown = origin::show(&compiled.merged, Origins::Hidden);
    let again = compile(load::from_texts(&[("shown.toml", &shown)]));
    let again = again.unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
    let mut desired = compiled.desired;
    for server in desired.servers.values_mut() {
        server
            .entries
            .iter_mut()
            .for_each(|entry| entry.policy = None);
    }
    assert_eq!(format!("{desired:?}"), format!("{:?}", again.desired));
}

#[test]
fn keeps_of_single_backups_leave_the_rules_in_force() {
    let rules = |keys: &str| {
        let text = format!(
            "{HEAD}[policies.p]\n\
                keep = [{{ first_of = \"month\", for = \"1 year\", target = \"full\" }}]\n\
                [servers.s]\npolicy = \"p\"\ndestination = \"d\"\nschedule = \"none\"\n\
                retention = \"none\"\n{keys}"
        );
        let compiled = compiled(&[("a.toml", &text)])
            .unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
        let server = compiled
            .desired
            .servers
            .into_values()
            .next()
            .expect("a server");
        (server.entries[0].keep_rules.len(), server.keeps.len())
    };
    assert_eq!(rules(""), (1, 0));
    assert_eq!(
        rules("keep = [{ backup = \"x\", target = \"full\" }]"),
        (1, 1)
    );
    assert_eq!(rules("keep = []"), (0, 0));
    let both = r#"keep = [
    { backup = "x", target = "full" },
    { first_of = "year", for = "9 years", target = "full" },
    { first_of = "day", for = "9d", target = "full" },
]"#;
    assert_eq!(rules(both), (2, 1));
}

#[test]
fn a_keep_until_a_day_holds_to_its_end_by_the_local_clock() {
    let text = format!(
        "{HEAD}[defaults]\ntime_zone = \"Europe/Rome\"\n[servers.s]\ndestination = \"d\"\n\
            schedule = \"none\"\nretention = \"none\"\n\
            keep = [{{ backup = \"x\", target = \"full\", until = 2027-12-31 }}]\n"
    );
    let compiled = compiled(&[("a.toml", &text)])
        .unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
    let server = compiled
        .desired
        .servers
        .into_values()
        .next()
        .expect("a server");
    let until = server.keeps[0].until.map(|until| until.to_string());
    assert_eq!(until.as_deref(), Some("2027-12-31T23:00:00Z"));
}

#[test]
fn a_table_that_is_one_value_replaces_another() {
    let text = format!(
        "{HEAD}[defaults]\nretention = {{ window = \"30d\" }}\nschedule = {{ every = \"6h\", at = \
         \"02:00\" }}\n[servers.s]\ndestination = \"d\"\nconnection = \"\"\n\
         retention = {{ redundancy = 7 }}\nschedule = {{ every = \"5h\" }}\n"
    );
    let compiled = compiled(&[("a.toml", &text)])
        .unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
    let server = compiled.desired.servers.values().next();
    let entry = &server.expect("a server").entries[0];
    assert_eq!(
        entry.retention.map(|policy| policy.to_string()).as_deref(),
        Some("REDUNDANCY 7")
    );
    let schedule = entry.schedule.as_ref().map(ToString::to_string);
    assert_eq!(schedule.as_deref(), Some("every 5h"));
}

/// Something of everything.
const RICH: &str = r#"version = 1
include = ["x.toml"]
[defaults]
policy = "gold"
time_zone = "Europe/Rome"
wal = { compression = { codec = "zstd", level = 3 }, max_lag = "5m" }
[destinations.d]
url = "s3://bucket/prefix"
max_bandwidth = "200MiB/s"
s3 = { encryption = { sse = "aws:kms", key = "k" }, tags = { team = "db" }, read_timeout = "9s" }
[policies.base]
schedule = { every = "24h", at = "02:00" }
keep = [{ first_of = "month", for = "12 months", target = "standalone" }]
[policies.gold]
extends = "base"
retention = { window = "30d" }
window = "01:00-06:00"
[servers.orders]
labels = { team = "payments" }
connection = "host=/run user=barkeep"
password = { command = ["pass", "orders"] }
[[servers.orders.keep]]
backup = "x"
target = "full"
until = 2027-12-31
destinations = ["d"]
[[servers.orders.backups]]
destination = "d"
compression = "lz4"
max_archive_size = "1.5GiB"
"#;

#[test]
fn the_rich_sample_is_right() {
    assert!(compiled(&[("rich.toml", RICH)]).is_ok());
}

proptest! {
    /// Lines and words lost, doubled or exchanged: there is an answer, and whatever is wrong is said.
    #[test]
    fn no_text_is_without_an_answer(
        edits in prop::collection::vec((0..400_usize, 0..400_usize, 0..4_u8), 1..6),
    ) {
        let mut words: Vec<&str> = RICH.split_inclusive([' ', '\n', '"', '=', '.', '[', ']', '{']).collect();
        for (at, from, edit) in edits {
            let (at, from) = (at % words.len(), from % words.len());
            match edit {
                0 => { words.remove(at); }
                1 => words.insert(at, words[from]),
                2 => words.swap(at, from),
                _ => words[at] = " 5 ",
            }
        }
        let text = words.concat();
        match compiled(&[("mutated.toml", &text)]) {
            Ok(compiled) => {
                let shown = origin::show(&compiled.merged, Origins::Hidden);
                prop_assert!(compile(load::from_texts(&[("shown.toml", &shown)])).is_ok(), "{}", shown);
            }
            Err(report) => prop_assert!(!report.render(Style::Plain).is_empty()),
        }
    }
}

#[test]
fn what_azure_needs_to_know_is_read() {
    let text = r#"
version = 1
[destinations.a]
url = "https://acc.blob.core.windows.net/c/p"
azure = { connection_string = { file = "/run/secrets/azure" }, encryption_scope = "s", max_block_size = "4MB", tags = { a = "b" }, history_tags = { a = "c" } }
"#;
    let compiled = compiled(&[("barkeep.toml", text)]).expect("it is right");
    let destination = compiled.desired.destinations.values().next();
    let provider = &destination.expect("a destination").provider;
    let expected = AzureOptions {
        connection_string: Some(SecretRef::File("/run/secrets/azure".into())),
        encryption_scope: Some("s".to_owned()),
        max_block_bytes: Some(4_000_000),
        tags: [("a".to_owned(), "b".to_owned())].into(),
        history_tags: [("a".to_owned(), "c".to_owned())].into(),
        ..AzureOptions::default()
    };
    assert!(matches!(provider, ProviderOptions::Azure(options) if *options == expected));
}

#[test]
fn where_disks_are_mounted_is_asked_here_unless_somebody_else_says() {
    let mounts = |key: &str| {
        let text = format!(
            "{HEAD}[servers.s]\ndestination = \"d\"\nconnection = \"\"\nmethod = \"snapshot\"\n\
             [servers.s.snapshot]\nprovider = \"aws\"\ninstance = \"i\"\ndisks = [\"d\"]\n{key}"
        );
        let compiled = compiled(&[("a.toml", &text)])
            .unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
        let entry = compiled.desired.servers.values().next();
        let entry = &entry.expect("a server").entries[0];
        let options = entry.snapshot.clone().expect("snapshots");
        (options.mounts, entry.is_read_here())
    };
    assert_eq!(mounts(""), (MountsFrom::Here, true));
    let (declared, here) = mounts("mounts = { d = \"/srv/pg rw,noatime\" }");
    let MountsFrom::Declared(declared) = declared else {
        panic!("{declared:?}");
    };
    assert_eq!(
        (declared["d"].to_string().as_str(), here),
        ("/srv/pg (rw,noatime)", false)
    );
    let words = ["ssh", "db1", "barkeep", "mounts"].map(str::to_owned);
    let command = "mounts_command = [\"ssh\", \"db1\", \"barkeep\", \"mounts\"]";
    assert_eq!(
        mounts(command),
        (MountsFrom::Command(words.to_vec()), false)
    );
}
