//! The documents say what the program does.

use std::fs;

use barkeep::config::{reference::reference, schema::schema};
use serde_json::Value;

use super::repository;

#[expect(
    clippy::disallowed_methods,
    reason = "who runs the test says whether the page is rewritten"
)]
fn blessed() -> bool {
    std::env::var_os("BLESS").is_some()
}

#[test]
fn the_reference_describes_every_key() {
    let path = repository("docs/configuration.md");
    if blessed() {
        fs::write(&path, reference()).expect("write the reference");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/configuration.md is not what the schema says; run `BLESS=1 cargo test --test config`"
    );
}

#[test]
fn every_key_has_a_description() {
    fn check(path: &str, value: &Value, without: &mut Vec<String>) {
        for (key, property) in value
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if property.get("description").is_none() && value.get("required").is_none() {
                without.push(format!("{path}.{key}"));
            }
        }
    }
    let schema = schema();
    let mut without = Vec::new();
    check("", &schema, &mut without);
    for (name, table) in schema["$defs"].as_object().into_iter().flatten() {
        check(name, table, &mut without);
    }
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn unknown_keys_are_errors_to_the_schema_too() {
    let schema = schema();
    for (name, table) in schema["$defs"].as_object().into_iter().flatten() {
        if name.ends_with("Table") {
            assert_eq!(table["additionalProperties"], false, "{name}");
        }
    }
}

/// Barman 3.19's options, by command.
const OPTIONS: [(&str, &[&str]); 9] = [
    (
        "All commands",
        &[
            "destination_url",
            "source_url",
            "server_name",
            "-V",
            "--version",
            "--help",
            "-v",
            "--verbose",
            "-q",
            "--quiet",
            "-t",
            "--test",
            "--cloud-provider",
            "--endpoint-url",
            "-P",
            "--aws-profile",
            "--profile",
            "--read-timeout",
            "--addressing-style",
            "--azure-credential",
            "--credential",
            "--default",
        ],
    ),
    (
        "barman-cloud-backup",
        &[
            "-z",
            "--gzip",
            "-j",
            "--bzip2",
            "--snappy",
            "--lz4",
            "-h",
            "--host",
            "-p",
            "--port",
            "-U",
            "--user",
            "-d",
            "--dbname",
            "--immediate-checkpoint",
            "-J",
            "--jobs",
            "-S",
            "--max-archive-size",
            "--min-chunk-size",
            "--max-bandwidth",
            "-n",
            "--name",
            "--tag",
            "--tags",
            "--snapshot-instance",
            "--snapshot-disk",
            "--snapshot-zone",
            "--gcp-zone",
            "--snapshot-gcp-project",
            "--gcp-project",
            "--kms-key-name",
            "-e",
            "--encryption",
            "--sse-kms-key-id",
            "--aws-region",
            "--aws-await-snapshots-timeout",
            "--aws-snapshot-lock-mode",
            "--aws-snapshot-lock-cool-off-period",
            "--aws-snapshot-lock-duration",
            "--aws-snapshot-lock-expiration-date",
            "--encryption-scope",
            "--azure-subscription-id",
            "--azure-resource-group",
        ],
    ),
    (
        "barman-cloud-wal-archive",
        &[
            "-z",
            "--gzip",
            "-j",
            "--bzip2",
            "--xz",
            "--snappy",
            "--zstd",
            "--lz4",
            "--compression-level",
            "--tag",
            "--tags",
            "--history-tag",
            "--history-tags",
            "-e",
            "--encryption",
            "--sse-kms-key-id",
            "--kms-key-name",
            "--encryption-scope",
            "--max-block-size",
            "--max-concurrency",
            "--max-single-put-size",
        ],
    ),
    (
        "barman-cloud-wal-restore",
        &["--no-partial", "-p", "--parallel", "--spool-dir"],
    ),
    (
        "barman-cloud-restore",
        &[
            "--tablespace",
            "--target-tli",
            "--target-lsn",
            "--target-time",
            "--snapshot-recovery-instance",
            "--snapshot-recovery-zone",
            "--gcp-zone",
            "--aws-region",
            "--azure-resource-group",
        ],
    ),
    (
        "barman-cloud-backup-delete",
        &[
            "-b",
            "--backup-id",
            "-r",
            "--retention-policy",
            "-m",
            "--minimum-redundancy",
            "--dry-run",
            "--batch-size",
            "--check-object-lock",
        ],
    ),
    (
        "barman-cloud-backup-list, barman-cloud-backup-show",
        &["--format"],
    ),
    (
        "barman-cloud-backup-keep",
        &["-r", "--release", "-s", "--status", "--target"],
    ),
    ("barman-cloud-check-wal-archive", &["--timeline"]),
];

#[test]
fn every_option_of_barman_has_a_key_or_a_reason() {
    let text = fs::read_to_string(repository("docs/barman-options.md")).expect("the document");
    let schema = schema();
    let mut sections = text.split("\n## ").skip(1);
    for (command, options) in OPTIONS {
        let section = sections.next().expect("a section for each command");
        assert_eq!(section.lines().next(), Some(command));
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let mut listed = Vec::new();
        for row in rows {
            let (names, target) = row.trim_matches('|').split_once('|').expect("two columns");
            listed.extend(quoted(names).into_iter().map(ToOwned::to_owned));
            check_target(&schema, command, target);
        }
        assert_eq!(listed, options, "{command}");
    }
    assert_eq!(sections.next(), None);
}

/// A row names keys, which exist, or gives a reason.
fn check_target(schema: &Value, command: &str, target: &str) {
    let keys = quoted(target)
        .into_iter()
        .filter(|word| word.contains(".NAME"));
    let keys: Vec<&str> = keys.collect();
    let reason = target.trim_start().starts_with("not applicable: ");
    assert!(reason || !keys.is_empty(), "{command}: {target}");
    for key in keys {
        assert!(has_key(schema, key), "{command}: no key `{key}`");
    }
}

fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Whether there is such a key.
fn has_key(schema: &Value, path: &str) -> bool {
    let below = |table, key| match key {
        "NAME" => Value::get(table, "additionalProperties"),
        key => resolve(schema, table, "properties")?
            .get("properties")?
            .get(key),
    };
    path.split('.').try_fold(schema, below).is_some()
}

/// The schema behind references, choices and lists that has a key.
fn resolve<'a>(schema: &'a Value, value: &'a Value, key: &str) -> Option<&'a Value> {
    if value.get(key).is_some() {
        return Some(value);
    }
    if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
        let name = reference.strip_prefix("#/$defs/")?;
        return resolve(schema, schema.get("$defs")?.get(name)?, key);
    }
    let choices = value.get("anyOf").and_then(Value::as_array);
    let found = choices.and_then(|all| all.iter().find_map(|one| resolve(schema, one, key)));
    found.or_else(|| resolve(schema, value.get("items")?, key))
}
