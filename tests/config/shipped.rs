//! Every shipped policy means what it says, every example compiles.

use std::{fmt::Write, fs, path::PathBuf, time::Duration};

use barkeep::{
    config::{self, load},
    model::{
        desired::{Entry, Method},
        retention::RetentionPolicy,
        schedule::Zone,
        time::{Span, Timestamp},
    },
};
use insta::assert_snapshot;

use super::{read, repository};

fn toml_files(directory: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(repository(directory)).expect("a directory");
    let paths = listed.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn every_example_compiles_without_a_warning() {
    let mut examples = toml_files("examples");
    examples.push(repository("examples/fleet/barkeep.toml"));
    assert!(examples.len() >= 4);
    for path in examples {
        let compiled = read(&path);
        let warnings = compiled.warnings.findings();
        assert!(warnings.is_empty(), "{}: {warnings:?}", path.display());
        assert!(!compiled.desired.servers.is_empty(), "{}", path.display());
    }
}

#[test]
fn every_policy_is_pinned_here() {
    let names = toml_files("policies");
    let names: Vec<_> = names.iter().filter_map(|path| path.file_stem()).collect();
    assert_eq!(
        names,
        [
            "bronze",
            "dev",
            "gold",
            "silver",
            "snapshot-hourly",
            "worm-compliance"
        ]
    );
}

/// What holds for a server in Rome that follows a shipped policy.
fn entry(policy: &str) -> Entry {
    let path = repository(&format!("policies/{policy}.toml"));
    let text = fs::read_to_string(path).expect("a policy");
    // Which disks, each server says itself.
    let disks = match policy {
        "snapshot-hourly" => {
            "snapshot = { provider = \"aws\", instance = \"i\", disks = [\"d\"] }\n"
        }
        _ => "",
    };
    let main = format!(
        "version = 1\n[defaults]\ntime_zone = \"Europe/Rome\"\n[destinations.d]\n\
            url = \"file:///d\"\n\
         [servers.s]\npolicy = \"{policy}\"\ndestination = \"d\"\nconnection = \"\"\n{disks}"
    );
    let loaded = load::from_texts(&[("main", &main), (policy, &text)]);
    let compiled = config::compile::compile(loaded);
    let compiled =
        compiled.unwrap_or_else(|report| panic!("{}", report.render(config::Style::Plain)));
    let server = compiled.desired.servers.into_values().next();
    server.expect("a server").entries.remove(0)
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

/// The year 2026 under a policy: a good backup at every due instant, each an hour long.
fn year(entry: &Entry) -> String {
    let schedule = entry.schedule.as_ref().expect("a schedule");
    let end = at("2026-12-31T23:00:00Z");
    let mut taken = Vec::new();
    let mut now = at("2025-12-31T23:00:00Z") - Duration::from_secs(1);
    while let Some(due) = schedule.next_due(now).filter(|due| *due < end) {
        taken.push(due);
        now = due;
    }
    let hours: Vec<String> = hours(&taken, &entry.zone);
    let in_window = |due: &&Timestamp| {
        entry
            .window
            .as_ref()
            .is_none_or(|window| window.contains(**due, &entry.zone))
    };
    let outside = taken.len() - taken.iter().filter(in_window).count();
    let retained = retained(entry, &taken, end);
    let kept = kept(entry, &taken, end);
    let mut text = format!("{} backups at {}", taken.len(), hours.join(" and "));
    let _ = write!(
        text,
        ", {outside} of them outside the window\n{} are retained at the year's end",
        retained.len()
    );
    let _ = write!(
        text,
        ", the oldest from {}\n{} older ones are kept:",
        local(&entry.zone, retained[0]),
        kept.iter().filter(|one| !retained.contains(one)).count()
    );
    for one in kept.iter().filter(|one| !retained.contains(one)) {
        let _ = write!(text, " {}", local(&entry.zone, *one));
    }
    text
}

fn local(zone: &Zone, instant: Timestamp) -> String {
    zone.local(instant).format("%m-%d").to_string()
}

fn hours(taken: &[Timestamp], zone: &Zone) -> Vec<String> {
    let hours = taken
        .iter()
        .map(|due| zone.local(*due).format("%a %H:%M").to_string());
    let mut hours: Vec<String> = hours.map(|hour| hour[4..].to_owned()).collect();
    hours.sort();
    hours.dedup();
    hours
}

/// The backups that a recovery to any instant of the window needs, or the newest ones.
fn retained(entry: &Entry, taken: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let first = match entry.retention.expect("a retention") {
        RetentionPolicy::Redundancy(count) => taken.len() - usize::try_from(count).expect("small"),
        RetentionPolicy::RecoveryWindow(window) => {
            let begins = now - window.duration();
            taken.partition_point(|due| *due + Duration::from_hours(1) <= begins) - 1
        }
    };
    taken[first..].to_vec()
}

/// The first backup of every period of a rule, while it is kept.
fn kept(entry: &Entry, taken: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let mut kept = Vec::new();
    for rule in &entry.keep_rules {
        let mut period = None;
        for due in taken {
            let begins = entry.zone.period_start(rule.first_of, *due);
            if period.replace(begins) != Some(begins) && entry.zone.add(*due, rule.keep_for) > now {
                kept.push(*due);
            }
        }
    }
    kept.sort();
    kept.dedup();
    kept
}

/// Everything else that a policy says.
fn rest(entry: &Entry) -> String {
    let span =
        |after: Option<Duration>| after.map_or("never".to_owned(), |after| Span(after).to_string());
    let Entry {
        files,
        wal,
        deletes,
        ..
    } = entry;
    let rules = entry.keep_rules.iter().map(|rule| {
        format!(
            "{:?} for {} {:?}",
            rule.first_of, rule.keep_for.count, rule.keep_for.unit
        )
    });
    let rules: Vec<String> = rules.collect();
    format!(
        "splay {}, catch up {:?}, minimum {}, keep [{}]\n\
            {:?} {} jobs, checkpoint {:?}, WAL {:?}, lag {}, check {:?}\n\
         failed after {}, orphans after {}, at most {} or {} % a day",
        Span(entry.splay),
        entry.catch_up,
        entry.minimum_redundancy,
        rules.join(", "),
        files.compression,
        files.jobs,
        files.checkpoint,
        wal.compression,
        span(wal.max_lag),
        wal.check,
        span(entry.failed_after),
        span(entry.orphans_after),
        deletes.backups_max,
        deletes.percent_max,
    )
}

#[test]
fn bronze_is_two_weeks_from_weekly_backups() {
    assert_snapshot!(year(&entry("bronze")), @r#"
    52 backups at 02:00 and 03:00, 0 of them outside the window
    3 are retained at the year's end, the oldest from 12-13
    0 older ones are kept:
    "#);
    assert_snapshot!(rest(&entry("bronze")), @r#"
    splay 1h, catch up Once, minimum 2, keep []
    Lz4 2 jobs, checkpoint Spread, WAL Zstd, lag 15m, check On
    failed after 7d, orphans after 14d, at most 5 or 50 % a day
    "#);
}

#[test]
fn silver_is_two_weeks_and_half_a_year_of_months() {
    assert_snapshot!(year(&entry("silver")), @r#"
    365 backups at 02:00 and 03:00, 0 of them outside the window
    15 are retained at the year's end, the oldest from 12-17
    6 older ones are kept: 07-01 08-01 09-01 10-01 11-01 12-01
    "#);
    assert_snapshot!(rest(&entry("silver")), @r#"
    splay 30m, catch up Once, minimum 2, keep [Month for 6 Month]
    Lz4 2 jobs, checkpoint Spread, WAL Zstd, lag 5m, check On
    failed after 7d, orphans after 14d, at most 5 or 25 % a day
    "#);
}

#[test]
fn gold_is_thirty_days_a_year_of_months_and_ten_years() {
    assert_snapshot!(year(&entry("gold")), @r#"
    365 backups at 02:00 and 03:00, 0 of them outside the window
    31 are retained at the year's end, the oldest from 12-01
    11 older ones are kept: 01-01 02-01 03-01 04-01 05-01 06-01 07-01 08-01 09-01 10-01 11-01
    "#);
    assert_snapshot!(rest(&entry("gold")), @r#"
    splay 15m, catch up Once, minimum 3, keep [Month for 12 Month, Year for 10 Year]
    Lz4 4 jobs, checkpoint Spread, WAL Zstd, lag 5m, check On
    failed after 7d, orphans after 14d, at most 5 or 25 % a day
    "#);
}

#[test]
fn snapshot_hourly_is_three_days_of_hours_and_a_month_of_days() {
    let entry = entry("snapshot-hourly");
    assert_eq!(entry.method, Method::Snapshot);
    let told = year(&entry);
    let (hours, rest_of_year) = told.split_once(", 0 of them").expect("a window");
    assert_eq!(hours.matches(":00").count(), 24, "{hours}");
    assert_snapshot!(rest_of_year, @r#"
     outside the window
    73 are retained at the year's end, the oldest from 12-28
    26 older ones are kept: 12-03 12-04 12-05 12-06 12-07 12-08 12-09 12-10 12-11 12-12 12-13 12-14 12-15 12-16 12-17 12-18 12-19 12-20 12-21 12-22 12-23 12-24 12-25 12-26 12-27 12-28
    "#);
    assert_snapshot!(rest(&entry), @r#"
    splay 5m, catch up Skip, minimum 6, keep [Day for 30 Day]
    None 2 jobs, checkpoint Immediate, WAL Zstd, lag 5m, check On
    failed after 2d, orphans after 14d, at most 48 or 50 % a day
    "#);
}

#[test]
fn worm_compliance_is_thirty_five_days_and_keeps_nothing_longer() {
    assert_snapshot!(year(&entry("worm-compliance")), @r#"
    365 backups at 02:00 and 03:00, 0 of them outside the window
    36 are retained at the year's end, the oldest from 11-26
    0 older ones are kept:
    "#);
    assert_snapshot!(rest(&entry("worm-compliance")), @r#"
    splay 15m, catch up Once, minimum 7, keep []
    Lz4 4 jobs, checkpoint Spread, WAL Zstd, lag 5m, check On
    failed after 35d, orphans after 35d, at most 2 or 10 % a day
    "#);
}

#[test]
fn dev_is_the_last_two_nights() {
    assert_snapshot!(year(&entry("dev")), @r#"
    365 backups at 04:00, 0 of them outside the window
    2 are retained at the year's end, the oldest from 12-30
    0 older ones are kept:
    "#);
    assert_snapshot!(rest(&entry("dev")), @r#"
    splay 2h, catch up Skip, minimum 1, keep []
    Lz4 2 jobs, checkpoint Immediate, WAL Lz4, lag 1h, check On
    failed after 2d, orphans after 7d, at most 5 or 100 % a day
    "#);
}
