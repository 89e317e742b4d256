use std::time::Duration;

use super::*;
use crate::{
    model::{
        action::WalSpan,
        backup::BackupId,
        catalog::Run,
        observed::Knowledge,
        wal::{SegmentNumber, SegmentSize},
    },
    plan::testing::World,
};

fn text(world: &World) -> String {
    world.told(Text(&world.plan()).to_string())
}

/// The line of a world's plan that has this word.
fn line(world: &World, word: &str) -> String {
    let text = text(world);
    let line = text.lines().find(|line| line.contains(word));
    line.unwrap_or_default().trim().to_owned()
}

fn sum(texts: &[&str]) -> String {
    let plans: Vec<Plan> = texts.iter().map(|text| World::parse(text).plan()).collect();
    Summary(&plans).to_string()
}

#[test]
fn one_line_says_what_plans_come_to() {
    let old = "retention=1x | done 1d | done 8d | done 9d | wal 1:910-1010";
    for (texts, said) in [
        (&["| done 1d"][..], "Nothing to do."),
        (&[old], "2 to delete (budget 3), 80 WAL segments to delete."),
        (
            &[old, "schedule=@hourly | done 1d"],
            "1 to back up, 2 to delete (budget 4), 80 WAL segments to delete.",
        ),
        (
            &["retention=1x grace=24h | done 1d | done 8d | wal 1:910-1010"],
            "1 to mark, 10 WAL segments to delete.",
        ),
        (
            &["grace=24h | done 1d | done 8d | mark 8d 1h"],
            "1 to undelete.",
        ),
        (&["| done 1d | declare 1d full"], "1 to keep."),
        (
            &["| done 1d | done 8d keep:full | record 8d full until:3d"],
            "1 to release.",
        ),
        (
            &["| done 1d | started 8d | attempt 8d dead"],
            "1 left by dead attempts.",
        ),
        (
            &["orphans=14d | done 1d | orphan 20d"],
            "1 orphan to delete.",
        ),
        (
            &["orphans=3d | done 1d | orphan 30d | snapshot 20261101T020000 20d"],
            "1 orphan to delete, 1 snapshot to delete.",
        ),
        (&["verify=7d | done 1d"], "1 to verify."),
        (
            &["retention=1x | done 1d | done 8d | locked 8d held"],
            "919 WAL segments to delete, 1 blocked.",
        ),
        (
            &["| done 1d | lose catalog", "| done 1d | done 8d empty:"],
            "1 blocked, 1 stalled.",
        ),
    ] {
        assert_eq!(sum(texts), said, "{texts:?}");
    }
}

#[test]
fn a_snapshot_that_goes_by_itself_is_told_with_its_backup() {
    let world = World::parse("orphans=3d | done 1d | snapshot 20261101T020000 20d");
    assert_eq!(
        line(&world, "snap-"),
        "- delete   snapshot snap-20261101T020000  of 20261101T020000  no backup records it, begun 2026-10-31T12:00:00Z"
    );
}

#[test]
fn configuration_that_no_snapshot_holds_is_named() {
    let mut world = World::parse("method=snapshot | done 1d | disks 1m");
    let Knowledge::Known(facts) = &mut world.observed.postgres else {
        panic!("a server");
    };
    facts.files.outside = ["/etc/pg/postgresql.conf", "/etc/pg/pg_hba.conf"]
        .map(Into::into)
        .to_vec();
    assert_eq!(
        line(&world, "in no snapshot"),
        "in no snapshot    /etc/pg/postgresql.conf, /etc/pg/pg_hba.conf"
    );
    world.entry().snapshot = None;
    assert!(
        world
            .plan()
            .targets
            .values()
            .all(|target| target.outside.is_empty())
    );
}

#[test]
fn bytes_are_told_in_the_largest_unit_of_which_there_is_one() {
    for (bytes, told) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (212_815_628_206, "198.2 GiB"),
        (u64::MAX, "16.0 EiB"),
    ] {
        assert_eq!(Bytes(bytes).to_string(), told);
    }
}

#[test]
fn what_somebody_asks_for_is_told_without_how_things_stand() {
    let world = World::parse("| done 1d");
    let backup = BackupId::new("20261112T110000");
    let run = Run {
        first: SegmentNumber(1),
        last: SegmentNumber(1),
    };
    let timeline = crate::model::timeline::TimelineId::FIRST;
    let from: crate::model::names::DestinationName = "dr".parse().expect("a name");
    let actions = vec![
        Action::CopyBackup {
            backup: backup.clone(),
            from: from.clone(),
            version: String::new(),
        },
        Action::VerifyBackup {
            backup: backup.clone(),
        },
        Action::CopyWal {
            from,
            spans: vec![WalSpan { timeline, run }],
            histories: Vec::new(),
        },
        Action::ArchiveWal {
            spans: vec![WalSpan { timeline, run }],
        },
        Action::ReleaseKeep {
            backup: backup.clone(),
            grace: Some(Duration::from_hours(168)),
        },
        Action::ReleaseKeep {
            backup: backup.clone(),
            grace: None,
        },
        Action::Undelete {
            backup: backup.clone(),
        },
        Action::DeleteBackup {
            backup,
            version: String::new(),
        },
    ];
    let destination = &world.server.entries[0].destination;
    let plan = Plan::requested(&world.server.name, destination, actions, world.now);
    assert_eq!(
        Text(&plan).to_string(),
        "  + copy      20261112T110000  0 B        requested\n\
         \x20 + verify    20261112T110000  0 B        requested\n\
         \x20 + copy      WAL, 0 segments in 1 range  requested\n\
         \x20 + archive   WAL, 0 segments in 1 range  requested\n\
         \x20 ~ release   20261112T110000  in 7d      requested\n\
         \x20 ~ release   20261112T110000             requested\n\
         \x20 ~ undelete  20261112T110000             requested\n\
         \x20 - delete    20261112T110000             requested\n"
    );
}

#[test]
fn a_backup_is_told_with_its_codec_its_kind_and_its_name() {
    let text = "schedule=@hourly method=stream incremental=7d/4 | done 26h | postgres summarized | manifest 26h";
    let mut world = World::parse(text);
    world.entry().files.compression = Compression::Lz4;
    world.entry().files.name = Some("nightly".to_owned());
    let told = line(&world, "+ backup");
    assert!(
        told.starts_with("+ backup   stream, lz4, incremental, named nightly  due since"),
        "{told}"
    );
    let plain = World::parse("schedule=@hourly | done 26h");
    let told = line(&plain, "+ backup");
    assert!(told.starts_with("+ backup   files   "), "{told}");
}

#[test]
fn what_is_only_hidden_is_told_with_the_instant_at_which_it_is_gone() {
    let hour = Duration::from_hours(1);
    for (remains, told) in [
        (
            Remains::SoftDeleted { kept: hour },
            "what is deleted can be restored until 2026-11-20T13:00:00Z",
        ),
        (
            Remains::Version { kept: None },
            "what is deleted stays as an old version until somebody removes it",
        ),
    ] {
        let mut world = World::parse("retention=1x | done 1d | done 8d | wal 1:910-1010");
        let crate::model::observed::Knowledge::Known(locks) = &mut world.stored().locks else {
            panic!("they are known");
        };
        locks.retention.remains = remains.clone();
        assert_eq!(line(&world, "logical"), format!(". logical  {told}"));
        let locks = world.stored().locks.clone();
        let mut idle = World::parse("retention=1x | done 1d | wal 1:990-1010");
        idle.stored().locks = locks;
        let idle = Text(&idle.plan()).to_string();
        assert!(!idle.contains("logical"), "nothing is deleted: {idle}");
    }
    let plain = World::parse("retention=1x | done 1d | done 8d | wal 1:910-1010");
    let plain = Text(&plain.plan()).to_string();
    assert!(!plain.contains("logical"), "it is gone: {plain}");
}

#[test]
fn a_backup_that_is_finished_is_named() {
    let world = World::parse("| waiting_for_wals 2h | attempt 2h dead stopped");
    let told = line(&world, "finish");
    assert!(told.starts_with("+ finish   2h  "), "{told}");
}

#[test]
fn a_window_that_closes_is_told() {
    let mut plan = World::parse("| done 1d").plan();
    let target = plan.targets.values_mut().next().expect("one");
    let window = target.window_after.take().expect("one is good");
    assert!(Text(&plan).to_string().ends_with("   becomes   none\n"));
    let target = plan.targets.values_mut().next().expect("one");
    let until = window.until;
    let number = SegmentNumber(1002);
    let until = number.name(until.timeline, SegmentSize::DEFAULT);
    target.window_after = Some(RecoveryWindow { until, ..window });
    let told = "   becomes   2026-11-19T12:00:00Z .. <= end of WAL 0000000100000003000000EA\n";
    assert!(Text(&plan).to_string().ends_with(told), "{}", Text(&plan));
}

#[test]
fn a_cause_that_was_told_is_not_told_again() {
    let mut plan = World::parse("| done 1d").plan();
    let target = plan.targets.values_mut().next().expect("one");
    let why = "cannot list `memory:`: no answer";
    target.conditions = vec![Condition::new(
        Standing::Blocked,
        format!("it is not read: {why}"),
    )];
    let unknown = |what: &str| Waiting::Unknown {
        what: what.to_owned(),
        why: why.to_owned(),
    };
    let other = Waiting::NotLocal {
        why: why.to_owned(),
    };
    target.waiting = vec![unknown("the catalog"), other];
    let notes = notes(target, Standing::Blocked);
    let told: Vec<&str> = notes.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(
        told,
        [
            "it is not read: cannot list `memory:`: no answer",
            "PGDATA is not on this host"
        ]
    );
}

#[test]
fn a_program_is_told_the_plans_with_the_digest_of_each() {
    let plans = [World::parse("schedule=@hourly | done 1d").plan()];
    let json = serde_json::to_value(Json::new(&plans)).expect("JSON");
    assert_eq!(json["format"], 1);
    assert_eq!(json["plans"][0]["digest"], plans[0].digest());
    assert_eq!(json["plans"][0]["server"], "orders");
}

#[test]
fn a_plan_is_told_in_columns() {
    let told = |of: &str| {
        let told = text(&World::parse(of));
        let (head, rest) = told.split_once("   digest ").expect("a digest");
        format!("{head}{}", &rest["ebc308b7".len()..])
    };
    let window = "recovery window   2026-11-11T12:00:00Z .. <= end of WAL 0000000100000003000000F2";
    assert_eq!(
        told("schedule=@hourly retention=1x | done 1d | done 9d | done 2d empty:"),
        format!(
            "orders -> primary   memory:  read 2026-11-20T12:00:00Z
  + backup   files           due since 2026-11-20T12:00:00Z (@hourly), last good is 24h old
  ! stalled  backup 2d is damaged: archive `data` is missing or empty
  . waiting  the rest follows when the backup is done
  {window}
"
        )
    );
    // Names of backups are as wide as ids.
    assert_eq!(
        told("retention=1x | done 1d | done 8d | done 9d | wal 1:910-1010 | started 1h"),
        format!(
            "orders -> primary   memory:               read 2026-11-20T12:00:00Z
  - delete   9d  1 B         outside REDUNDANCY 1; 1 newer is good
  - delete   8d  1 B         outside REDUNDANCY 1; 1 newer is good
  - delete   WAL, 80 segments in 1 range  no retained backup needs it
  . waiting  1h was started elsewhere 2026-11-20T10:00:00Z
  {window}   becomes   2026-11-19T12:00:00Z ..
"
        )
    );
    assert_eq!(
        told("grace=24h retention=1x | done 1d | done 8d | done 9d | wal 1:910-1010"),
        format!(
            "orders -> primary   memory:                              read 2026-11-20T12:00:00Z
  - mark     9d  1 B                        outside REDUNDANCY 1; 1 newer is good
  - mark     8d  1 B, with 80 WAL segments  outside REDUNDANCY 1; 1 newer is good
  {window}   becomes   2026-11-19T12:00:00Z ..
"
        )
    );
}
