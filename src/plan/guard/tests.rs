use super::*;
use crate::{
    model::{
        catalog::Run,
        desired::{CalendarSpan, Period},
        timeline::TimelineId,
    },
    plan::{Weight, testing::World},
};

/// What the guard says to actions that no planner asked for: `delete 1d`, `delete wal 1:1-900`, `keep 1d`.
pub(super) fn refused(text: &str, actions: &str) -> String {
    said(text, actions, Asked::ByPolicy)
}

fn said(text: &str, actions: &str, asked: Asked) -> String {
    let world = World::parse(text);
    let steps: Vec<Step> = actions.split(',').map(|a| step(&world, a.trim())).collect();
    let plan = Plan {
        steps,
        ..world.plan()
    };
    let additive: Vec<_> = plan
        .steps
        .iter()
        .filter(|step| step.action.effect() == Effect::Additive)
        .cloned()
        .collect();
    let guarded = guard(plan, &world.server, &world.observed, asked, world.now);
    let refusals: Vec<_> = guarded
        .refusals()
        .iter()
        .map(|refusal| refusal.violation.to_string())
        .collect();
    if !refusals.is_empty() && world.server.mode == Mode::Full {
        assert_eq!(
            guarded.plan().steps,
            additive,
            "only destructive steps are refused"
        );
    }
    world.told(refusals.join("; "))
}

/// Whether one step of a policy's plan is let through.
pub(super) fn passes(world: &World, step: Step) -> bool {
    let steps = vec![step];
    let plan = Plan {
        steps,
        ..world.plan()
    };
    let World { server, now, .. } = world;
    let guarded = guard(plan, server, &world.observed, Asked::ByPolicy, *now);
    guarded.refusals().is_empty()
}

pub(super) fn step(world: &World, text: &str) -> Step {
    let words: Vec<&str> = text.split(' ').collect();
    let id = || world.id(words.last().expect("a word"));
    let action = match words[..2] {
        ["delete", "wal"] => Action::DeleteWal {
            spans: vec![span(words[2])],
        },
        ["delete", "orphan"] => Action::DeleteOrphan {
            backup: id(),
            newest: world.now,
        },
        ["delete", "snapshot"] => Action::DeleteSnapshot {
            snapshot: format!("snap-{}", words[2]),
            begun_at: begun_at(world, words[2]),
            backup: id(),
        },
        ["mark", "snapshots"] => Action::MarkDelete {
            version: String::new(),
            backup: id(),
        },
        ["delete", _] => Action::DeleteBackup {
            version: id().to_string(),
            backup: id(),
        },
        ["release", "later"] => Action::ReleaseKeep {
            backup: id(),
            grace: Some(std::time::Duration::from_hours(7 * 24)),
        },
        ["release", "soon"] => Action::ReleaseKeep {
            backup: id(),
            grace: Some(std::time::Duration::from_hours(6 * 24)),
        },
        ["release", _] => Action::ReleaseKeep {
            backup: id(),
            grace: None,
        },
        ["mark", _] => Action::MarkDelete {
            version: id().to_string(),
            backup: id(),
        },
        ["keep", _] => Action::SetKeep {
            backup: id(),
            target: KeepTarget::Full,
            until: None,
        },
        _ => panic!("unknown action `{text}`"),
    };
    Step {
        destination: world.server.entries[0].destination.clone(),
        action,
        reasons: Vec::new(),
        weight: Weight::default(),
    }
}

/// When a snapshot was begun that the world knows; the present for another.
fn begun_at(world: &World, label: &str) -> Timestamp {
    let stored = world.observed.destinations.values().next();
    let all = stored.and_then(|stored| stored.snapshots.known());
    let mut all = all.into_iter().flatten();
    let found = all.find(|found| found.id == format!("snap-{label}"));
    found.and_then(|found| found.begun_at).unwrap_or(world.now)
}

/// `1:1-900`
fn span(text: &str) -> WalSpan {
    let (timeline, run) = text.split_once(':').expect("a timeline");
    let (first, last) = run.split_once('-').expect("a run");
    let number = |text: &str| SegmentNumber(text.parse().expect("a number"));
    WalSpan {
        timeline: TimelineId::new(timeline.parse().expect("a number")).expect("not 0"),
        run: Run {
            first: number(first),
            last: number(last),
        },
    }
}

const THREE: &str = "retention=1x | done 1d | done 8d | done 15d";

#[test]
fn what_is_sound_passes() {
    for actions in ["delete 15d", "delete 8d, delete 15d", "delete wal 1:1-849"] {
        assert_eq!(refused(THREE, actions), "", "{actions}");
    }
    assert_eq!(refused("| failed 1d | done 2d", "delete 1d"), "");
    assert_eq!(refused("| done 2d | orphan 20d", "delete orphan 20d"), "");
    assert_eq!(
        refused(
            "| done 2d keep:full | record 2d full until:1d",
            "release 2d"
        ),
        ""
    );
}

#[test]
fn what_is_not_known_is_not_deleted_from() {
    let lost = [
        ("catalog", "the catalog"),
        ("destination", "the destination"),
        ("attempts", "the record of attempts"),
        ("tombstones", "the record of deletes"),
        ("clock", "the store's clock"),
        ("identity", "the identity"),
        ("server", "the server"),
    ];
    for (lost, told) in lost {
        let text = format!("{THREE} | lose {lost}");
        let expected = format!("{told} is unknown, so nothing may be deleted");
        assert_eq!(refused(&text, "delete 15d"), expected);
        assert_eq!(refused(&text, "keep 15d"), "", "what only adds runs");
    }
    assert_eq!(
        refused(&format!("{THREE} | unreadable 3d"), "delete 15d"),
        "backup 3d cannot be understood, so nothing may be deleted"
    );
    let by_name = format!("{THREE} | lose tombstones clock server | unreadable 3d");
    assert_eq!(said(&by_name, "delete 15d", Asked::ByName), "");
}

#[test]
fn nothing_is_deleted_from_an_old_look() {
    let world = World::parse(THREE);
    let plan = Plan {
        steps: vec![step(&world, "delete 15d")],
        ..world.plan()
    };
    let refused = |plan, now| {
        let (server, observed) = (&world.server, &world.observed);
        let guarded = guard(plan, server, observed, Asked::ByPolicy, now);
        let violations = guarded.refusals().iter().map(|one| one.violation.clone());
        violations.collect::<Vec<_>>()
    };
    let latest = world.now + OBSERVATION_AGE_MAX;
    assert_eq!(refused(plan.clone(), latest), []);
    let second = std::time::Duration::from_secs(1);
    assert_eq!(refused(plan, latest + second), [Violation::Old]);
}

#[test]
fn nothing_is_deleted_of_another_cluster() {
    assert_eq!(
        refused(&format!("{THREE} | postgres sys:2"), "delete 15d"),
        "the prefix belongs to another cluster, so nothing may be deleted"
    );
}

#[test]
fn what_must_stay_is_not_deleted() {
    let cases = [
        (
            "| done 1d | done 2d",
            "delete 9d",
            "backup 9d is not in the catalog",
        ),
        (
            "| done 1d | done 2d keep:standalone",
            "delete 2d",
            "backup 2d is kept",
        ),
        (
            "| done 1d | done 2d",
            "keep 2d, delete 2d",
            "backup 2d is kept",
        ),
        (
            "| done 1d | started 2d",
            "delete 2d",
            "backup 2d is not finished",
        ),
        (
            "| done 1d | done 2d | attempt 2d alive",
            "delete 2d",
            "backup 2d is not finished",
        ),
        (
            "| done 1d | waiting_for_wals 2d",
            "delete 2d",
            "backup 2d is not finished",
        ),
        (
            "| done 1d | done 2d empty:",
            "delete 2d",
            "backup 2d is damaged and not for a policy to delete",
        ),
        (
            "| done 1d | done 2d",
            "delete 1d",
            "backup 1d is the newest good one of its cluster",
        ),
        (
            "| done 1d pages: | done 2d pages: | done 3d | done 4d",
            "delete 2d, delete 3d",
            "backup 3d is the newest without a damaged page",
        ),
        (
            "min=2 | done 1d | done 2d",
            "delete 2d",
            "1 good backups would be left, the minimum is 2",
        ),
        (
            "| done 1d parent:20261118T110000 | done 2d",
            "delete 2d",
            "backup 2d is needed by 1d",
        ),
    ];
    for (text, actions, violation) in cases {
        assert_eq!(refused(text, actions), violation, "{text}");
    }
}

#[test]
fn what_was_begun_may_be_ended() {
    let text = "| done 1d | done 2d empty: | tombstone 1h of:2d";
    assert_eq!(refused(text, "delete 2d"), "");
}

#[test]
fn a_person_may_delete_what_a_policy_may_not_but_for_keeps_and_the_minimum() {
    let by_name = |text, actions| said(text, actions, Asked::ByName);
    assert_eq!(by_name("| done 1d | done 2d empty:", "delete 2d"), "");
    assert_eq!(by_name("| done 1d | started 2d", "delete 2d"), "");
    assert_eq!(by_name("| done 1d | done 2d", "delete 1d"), "");
    assert_eq!(
        by_name("| done 1d | done 2d keep:full", "delete 2d"),
        "backup 2d is kept"
    );
    assert_eq!(
        by_name("| done 1d | started 2d | attempt 2d dead", "delete 2d"),
        "backup 2d is not finished"
    );
    assert_eq!(
        by_name("| done 1d", "delete 1d"),
        "0 good backups would be left, the minimum is 1"
    );
}

#[test]
fn wal_that_something_needs_is_not_deleted() {
    let cases = [
        (
            "| done 1d | done 8d",
            "1:1-920",
            "backup 8d needs WAL that would be deleted, from 000000010000000300000098",
        ),
        (
            "| done 1d | started 8d",
            "1:920-920",
            "backup 8d needs WAL that would be deleted, from 000000010000000300000098",
        ),
        (
            "| done 1d | done 8d keep:standalone",
            "1:921-921",
            "backup 8d needs WAL that would be deleted, from 000000010000000300000099",
        ),
        ("| done 1d | done 8d keep:standalone", "1:922-989", ""),
        (
            "| done 1d | history 2:1@995",
            "2:995-1000",
            "backup 1d needs WAL that would be deleted, from 0000000200000003000000E3",
        ),
        ("| done 1d tl:2 | history 2:1@995", "1:1-1010", ""),
        ("| failed 1d | done 0d", "1:1-999", ""),
    ];
    for (text, span, violation) in cases {
        assert_eq!(
            refused(text, &format!("delete wal {span}")),
            violation,
            "{text} {span}"
        );
    }
    assert_eq!(
        refused("| done 1d empty:", "delete wal 1:1-900"),
        "WAL would be deleted although no good backup stays"
    );
}

#[test]
fn a_policy_deletes_nothing_of_which_wal_is_missing() {
    let lost = format!("{THREE} | wal 1:900-1010");
    assert_eq!(
        refused(&lost, "delete 15d"),
        "backup 15d is damaged and not for a policy to delete"
    );
    assert_eq!(refused(&lost.replace("900", "850"), "delete 15d"), "");
}

#[test]
fn an_orphan_must_be_one() {
    let told = "20d is not known to be an orphan";
    for touched in ["upload 3d of:20d", "upload 0h of:20d", "upload -1h of:x"] {
        let text = format!("| done 1d | orphan 20d | {touched}");
        assert_eq!(refused(&text, "delete orphan 20d"), "", "{touched}");
    }
    for text in [
        "| orphan 20d | attempt 20d dead",
        "| orphan 20d keep",
        "| orphan 20d | upload -1h of:20d",
        "| orphan 20d | done 3d id:20261031T120000",
        "| orphan 20d | done 2d parent:20261031T120000",
        "| orphan 20d | lose uploads",
    ] {
        assert_eq!(refused(text, "delete orphan 20d"), told, "{text}");
    }
    assert_eq!(
        refused("| done 1d", "delete orphan 1d"),
        "1d is not known to be an orphan"
    );
}

#[test]
fn a_keep_is_released_when_it_is_ours_and_has_ended() {
    let told = "the keep of 2d is not ours to release now";
    for text in [
        "| done 2d keep:full",
        "| done 2d keep:full | record 2d full",
        "| done 2d keep:full | record 2d full until:-1d",
        "| done 2d keep:full | record 2d full until:1d | lose keeps",
    ] {
        assert_eq!(refused(text, "release 2d"), told, "{text}");
    }
}

#[test]
fn a_mode_that_has_changed_since_holds() {
    let text = "mode=additive retention=1x | done 1d | done 8d";
    assert_eq!(refused(text, "delete 8d, keep 1d"), "mode is additive");
    assert_eq!(
        refused(&text.replace("additive", "observe"), "keep 1d"),
        "mode is observe"
    );
    assert_eq!(said(text, "delete 8d", Asked::ByName), "");
}

#[test]
fn a_command_line_of_barmans_says_itself_how_many_backups_stay() {
    let asked = |text, actions| said(text, actions, Asked::AsBarman);
    let text = "| done 1d | done 8d keep:full";
    assert_eq!(asked("| done 1d", "delete 1d"), "");
    assert_eq!(asked("| done 1d", "delete 1d, delete wal 1:900-910"), "");
    assert_eq!(asked(text, "delete 8d"), "backup 8d is kept");
    // What died while it ran holds no WAL; what is complete does, whatever the order says.
    assert_eq!(asked("| done 1d | started 30d", "delete wal 1:900-910"), "");
    assert!(asked("| done 1d | done 30d", "delete wal 1:1-1000").contains("needs WAL"));
}

#[test]
fn what_is_locked_or_may_be_is_never_deleted() {
    let text = "retention=1x | done 1d | done 8d | orphan 20d";
    for (lock, said) in [
        ("until:-1d", "object lock until 2026-11-21T12:00:00Z"),
        ("held", "legal hold"),
        ("unknown", "whether it is locked is unknown: no answer"),
    ] {
        let one = format!("{text} | locked 8d {lock}");
        assert_eq!(refused(&one, "delete 8d"), format!("backup 8d: {said}"));
        assert_eq!(
            said_by_name(&one, "delete 8d"),
            format!("backup 8d: {said}")
        );
        let wal = format!("{text} | locked wal:1:5-5 {lock}");
        assert_eq!(refused(&wal, "delete wal 1:1-9"), format!("WAL: {said}"));
        assert_eq!(refused(&wal, "delete wal 1:6-9"), "");
    }
    let unlooked = format!("{text} | unlooked");
    let unseen = "backup 8d: whether it is locked is unknown: nobody has looked";
    assert_eq!(refused(&unlooked, "delete 8d"), unseen);
    assert_eq!(
        refused(&format!("{text} | locked 8d until:1d"), "delete 8d"),
        ""
    );
}

fn said_by_name(text: &str, actions: &str) -> String {
    said(text, actions, Asked::ByName)
}

#[test]
fn nothing_is_deleted_while_the_stores_clock_and_ours_disagree() {
    for (store, says) in [("6m", "11:54"), ("-6m", "12:06")] {
        let text = format!("{THREE} | store {store}");
        let told = format!(
            "the store's clock says 2026-11-20T{says}:00Z, ours 2026-11-20T12:00:00Z, so nothing may be deleted"
        );
        assert_eq!(refused(&text, "delete 15d"), told);
        assert_eq!(refused(&text, "mark 15d"), told);
    }
    assert_eq!(refused(&format!("{THREE} | store 5m"), "delete 15d"), "");
}

#[test]
fn no_more_is_deleted_than_the_budget_of_a_day() {
    let text = format!("budget=2/100 {THREE} | done 22d | done 29d");
    let told = "3 backups would be deleted within 24 hours, the budget is 2";
    assert_eq!(refused(&text, "delete 29d, delete 22d"), "");
    assert_eq!(refused(&text, "delete 29d, delete 22d, delete 15d"), told);
    let begun = format!("{text} | tombstone 23h of:x | tombstone 1h of:29d");
    assert_eq!(refused(&begun, "delete 29d"), "", "it is counted already");
    assert_eq!(refused(&begun, "delete 22d"), told);
    assert_eq!(said(&begun, "delete 22d", Asked::ByName), "");
    let yesterday = format!("{text} | tombstone 24h of:x | tombstone 26h of:y");
    assert_eq!(refused(&yesterday, "delete 29d, delete 22d"), "");
    let share = format!("budget=9/25 {THREE} | done 22d");
    assert_eq!(
        refused(&share, "delete 22d, delete 15d"),
        told.replace("3 b", "2 b").replace("is 2", "is 1")
    );
}

#[test]
fn nothing_is_deleted_that_was_not_marked_for_its_grace() {
    let text = format!("grace=24h {THREE}");
    let told = "backup 15d was not marked for as long as its grace";
    assert_eq!(refused(&text, "delete 15d"), told);
    for mark in [
        "23h",
        "25h version:other",
        "25h | store 90m",
        "25h | lose marks",
    ] {
        let refusal = refused(&format!("{text} | mark 15d {mark}"), "delete 15d");
        assert!(refusal.contains(told), "{mark}: {refusal}");
    }
    let marked = format!("{text} | mark 15d 24h");
    assert_eq!(refused(&marked, "delete 15d"), "");
    assert_eq!(refused(&text, "mark 15d, mark 8d"), "");
    assert_eq!(said(&text, "delete 15d", Asked::ByName), "");
    let begun = "grace=24h | done 1d | done 2d empty: | tombstone 1h of:2d";
    assert_eq!(refused(begun, "delete 2d"), "");
    let another = format!("{begun} version:other");
    let told = told.replace("15d", "2d");
    assert!(refused(&another, "delete 2d").contains(&told));
    let whole = format!("{text} | tombstone 1h of:15d");
    let told = told.replace("2d", "15d");
    assert!(refused(&whole, "delete 15d").contains(&told));
    let untold = "grace=24h | done 1d | done 2d empty:";
    let told = told.replace("15d", "2d");
    assert!(refused(untold, "delete 2d").contains(&told));
}

#[test]
fn what_must_stay_is_not_marked_either() {
    let text = "grace=24h min=2 | done 1d | done 2d keep:full";
    assert!(refused(text, "mark 2d").contains("backup 2d is kept"));
    assert!(refused(text, "mark 1d").contains("the newest good one"));
    assert!(refused(text, "mark 1d").contains("the minimum is 2"));
}

#[test]
fn nothing_is_deleted_of_what_nobody_has_adopted() {
    let text = format!("{THREE} | baseline none");
    let told = "nobody has adopted what is there, so nothing may be deleted";
    for action in ["delete 15d", "mark 15d", "delete wal 1:1-849"] {
        assert_eq!(refused(&text, action), told, "{action}");
    }
    assert_eq!(refused(&text, "keep 15d"), "");
    assert_eq!(said(&text, "delete 15d", Asked::ByName), "");
    let unknown = format!("{THREE} | lose baseline");
    let told = "the baseline is unknown, so nothing may be deleted";
    assert_eq!(refused(&unknown, "delete 15d"), told);
}

#[test]
fn nothing_is_deleted_while_a_backup_has_vanished() {
    let text = format!("{THREE} | baseline gone:x");
    let told = "backup x has vanished, so nothing may be deleted";
    assert_eq!(refused(&text, "delete 15d"), told);
    assert_eq!(said(&text, "delete 15d", Asked::Approved), told);
    let recorded = format!("{text} | tombstone 30d of:x");
    assert_eq!(refused(&recorded, "delete 15d"), "");
}

#[test]
fn nothing_is_deleted_by_a_policy_that_was_shortened_without_approval() {
    let told = "the policy keeps less than at the last run, and nobody has approved that";
    for was in [
        "retention=2x",
        "retention=30d",
        "min=2",
        "rule=month:12",
        "retention=2x rule=year:1:full",
        "rule=day:1",
        "rule=week:1",
    ] {
        let text = format!("{THREE} | baseline {was}");
        assert_eq!(refused(&text, "delete 15d"), told, "{was}");
        assert_eq!(said(&text, "delete 15d", Asked::Approved), "", "{was}");
    }
    for was in ["retention=1x", "retention=2x"] {
        let text = format!("retention=2x | done 1d | done 8d | done 15d | baseline {was}");
        assert_eq!(refused(&text, "delete 15d"), "", "{was}");
    }
    let longer = "retention=30d min=2 rule=month:13:full | done 1d | done 8d | done 15d";
    for was in ["retention=30d", "retention=7d", "min=1", "rule=month:12"] {
        let text = format!("{longer} | baseline {was}");
        assert_eq!(refused(&text, "delete 15d"), "", "{was}");
    }
}

#[test]
fn how_long_a_rule_keeps_is_compared_in_days() {
    let mut world = World::parse(&format!("{THREE} | baseline rule=month:12"));
    let mut keeps = |count| {
        let unit = Period::Day;
        let mut rule = World::parse("rule=month:12:full |").server.entries[0].keep_rules[0];
        rule.keep_for = CalendarSpan { count, unit };
        world.server.entries[0].keep_rules = vec![rule];
        passes(&world, step(&world, "delete 15d"))
    };
    assert!(keeps(372));
    assert!(!keeps(371));
}

#[test]
fn deletes_that_were_forgotten_hold_up_more() {
    let text = format!("{THREE} | baseline deleted:x@3h");
    let told = "the record of deletes is unknown, so nothing may be deleted";
    assert_eq!(refused(&text, "delete 15d"), told);
    let old = text.replace("@3h", "@24h");
    assert_eq!(refused(&old, "delete 15d"), "");
}

#[test]
fn what_was_approved_goes_beyond_the_budget_and_no_other_guard() {
    let approved = |text: &str, actions| said(text, actions, Asked::Approved);
    let text = format!("budget=1/100 {THREE}");
    assert_eq!(approved(&text, "delete 15d, delete 8d"), "");
    assert_eq!(
        approved(&format!("grace=24h {THREE}"), "delete 15d"),
        "backup 15d was not marked for as long as its grace"
    );
    assert!(approved(&text, "delete 1d").contains("the newest good one"));
    assert!(approved(&format!("{text} | lose tombstones"), "delete 8d").contains("is unknown"));
    assert_eq!(
        approved(&format!("mode=additive {THREE}"), "delete 8d"),
        "mode is additive"
    );
}

#[test]
fn a_keep_ends_early_only_if_it_is_ours_and_exact_and_after_a_week() {
    let told = "the keep of 2d is not ours to release now";
    let text = "manage=exact | done 1d | done 2d keep:full | record 2d full";
    assert_eq!(refused(text, "release later 2d"), "");
    assert_eq!(refused(text, "release soon 2d"), told);
    assert_eq!(refused(text, "release 2d"), told);
    for (from, to) in [
        ("manage=exact ", ""),
        ("record 2d full", "record 2d full by:alice"),
        ("| record 2d full", ""),
    ] {
        assert_eq!(
            refused(&text.replace(from, to), "release later 2d"),
            told,
            "{to}"
        );
    }
}

#[test]
fn spans_in_other_units_are_compared_by_their_days() {
    let policy = |retention: &str, rule: &str| format!("retention={retention} rule={rule}");
    let told = "the policy keeps less than at the last run, and nobody has approved that";
    for (was, is, shorter) in [
        (policy("4w", "year:1"), policy("28d", "year:1"), false),
        (policy("4w", "year:1"), policy("27d", "year:1"), true),
        (policy("1m", "year:1"), policy("31d", "year:1"), false),
        (policy("1m", "year:1"), policy("4w", "year:1"), true),
        (policy("9d", "day:31"), policy("9d", "day:31"), false),
        (policy("9d", "day:31"), policy("9d", "day:30"), true),
        (policy("9d", "week:4"), policy("9d", "week:5"), false),
        (policy("9d", "year:2"), policy("9d", "year:1"), true),
    ] {
        let text = format!("{is} | done 1d | done 8d | done 99d | baseline {was}");
        let said = if shorter { told } else { "" };
        assert_eq!(refused(&text, "delete 99d"), said, "{was} -> {is}");
    }
}

#[test]
fn an_orphan_goes_where_the_store_cannot_tell_of_uploads() {
    let text = "| done 1d | orphan 20d";
    assert_eq!(
        refused(&format!("{text} | without uploads"), "delete orphan 20d"),
        ""
    );
    let unknown = format!("{text} | lose uploads");
    assert!(refused(&unknown, "delete orphan 20d").ends_with("is not known to be an orphan"));
}
