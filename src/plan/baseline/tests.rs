use super::*;
use crate::plan::testing::{World, stands, steps, waits};

const OLD: &str = "retention=7d | done 1d | done 8d | done 9d | wal 1:910-1010";

/// What a run, or somebody, would write down: the policy and the backups.
fn writes(text: &str, word: Word) -> String {
    let world = World::parse(text);
    let written = baselines(&world.server, &world.observed, world.now, word);
    let told = written.into_values().map(|baseline| {
        let retention = baseline.policy.retention;
        let retention = retention.map_or("all".to_owned(), |policy| policy.to_string());
        let ids = baseline.backups.iter().map(ToString::to_string);
        format!("{retention}: {}", ids.collect::<Vec<_>>().join(" "))
    });
    world.told(told.collect::<Vec<_>>().join("; "))
}

#[test]
fn a_first_contact_with_backups_is_observed_until_it_is_adopted() {
    let first = format!("schedule=@hourly {OLD} | baseline none");
    assert_eq!(steps(&first), "");
    assert!(waits(&first).contains("mode is observe: would backup"));
    let told = "first contact: 3 backups are there; `barkeep adopt orders` takes up what is";
    assert!(
        stands(&first).starts_with(&format!("blocked: {told}")),
        "{}",
        stands(&first)
    );
    assert_eq!(writes(&first, Word::Run), "");
    assert_eq!(writes(&first, Word::Approved), "");
    assert_eq!(
        writes(&first, Word::Adopted),
        "RECOVERY WINDOW OF 7 DAYS: 8d 1d"
    );
    let by_choice = format!("mode=observe {OLD} | baseline none");
    assert_eq!(stands(&by_choice), "converged: nothing to do");
    let strange = "| done 1d | unreadable 2d | baseline none";
    assert!(stands(strange).contains("first contact: 2 backups are there"));
}

#[test]
fn whoever_only_observes_writes_nothing_but_what_is_adopted() {
    let text = format!("mode=observe {OLD} | baseline retention=7d");
    assert_eq!(writes(&text, Word::Run), "");
    let changed = text.replace("| baseline", "| done 2d | baseline gone:x");
    assert_eq!(writes(&changed, Word::Run), "");
    let adopted = "RECOVERY WINDOW OF 7 DAYS: 8d 2d 1d";
    assert_eq!(writes(&changed, Word::Adopted), adopted);
}

#[test]
fn the_deletes_of_a_day_are_written_down() {
    let deleted = |text: &str| {
        let world = World::parse(text);
        let written = baselines(&world.server, &world.observed, world.now, Word::Adopted);
        let deleted = written.into_values().flat_map(|baseline| baseline.deleted);
        let ids: Vec<String> = deleted.map(|(id, _)| id.to_string()).collect();
        ids.join(" ")
    };
    let text = "| done 1d | baseline gone:x | tombstone 23h of:a | tombstone 24h of:b";
    assert_eq!(deleted(text), "a");
}

#[test]
fn an_empty_prefix_is_taken_up_at_once() {
    let text = "schedule=@hourly | nothing | baseline none";
    assert!(steps(text).starts_with("backup: due"));
    assert_eq!(writes(text, Word::Run), "all: ");
}

#[test]
fn a_shortened_policy_deletes_nothing_before_it_is_approved() {
    let text = format!("{OLD} | baseline retention=30d");
    assert_eq!(steps(&text), "");
    assert_eq!(
        waits(&text),
        "the policy was shortened: RECOVERY WINDOW OF 7 DAYS, before RECOVERY WINDOW OF 30 DAYS; \
         would delete 9d and 1 more"
    );
    assert!(stands(&text).starts_with("blocked: the policy was shortened"));
    assert_eq!(writes(&text, Word::Run), "");
    assert_eq!(
        writes(&text, Word::Approved),
        "RECOVERY WINDOW OF 7 DAYS: 8d 1d"
    );
    let marks = text.replace("retention=7d", "grace=24h retention=7d");
    assert!(waits(&marks).ends_with("would mark 9d"));
    let longer = format!("{OLD} | baseline retention=6d");
    assert!(steps(&longer).starts_with("delete 9d: outside"));
    let additive = text.replace("retention=7d", "mode=additive retention=7d");
    assert!(
        !waits(&additive).contains("shortened"),
        "nothing is deleted anyway"
    );
}

#[test]
fn a_backup_that_vanished_stops_deletes_but_not_backups() {
    let text = format!("schedule=@hourly {OLD} | baseline gone:x");
    assert!(steps(&text).starts_with("backup: due"));
    let told = "x: retained, and gone without a record of it";
    assert!(waits(&text).contains(told));
    assert!(stands(&text).starts_with(&format!("stalled: {told}")));
    let text = format!("{OLD} | baseline gone:x");
    assert_eq!(steps(&text), "");
    let recorded = format!("{text} | tombstone 3d of:x");
    assert!(steps(&recorded).starts_with("delete 9d"));
    // It stays in mind until somebody adopts what is left.
    let more = format!("{text} | done 2d");
    assert_eq!(
        writes(&more, Word::Run),
        "RECOVERY WINDOW OF 7 DAYS: 8d 2d 1d x"
    );
    assert_eq!(
        writes(&more, Word::Adopted),
        "RECOVERY WINDOW OF 7 DAYS: 8d 2d 1d"
    );
    let everything = "| nothing | baseline gone:x";
    assert_eq!(waits(everything), told);
}

#[test]
fn deletes_whose_record_was_lost_hold_up_more() {
    let text = format!("{OLD} | baseline deleted:x@3h");
    assert_eq!(steps(&text), "");
    let told = "the record of deletes is unknown: that x was deleted is not in it";
    assert_eq!(waits(&text), told);
    for more in ["tombstone 3h of:x", "baseline deleted:x@24h"] {
        assert!(
            steps(&format!("{text} | {more}")).starts_with("delete 9d"),
            "{more}"
        );
    }
}

#[test]
fn what_is_unknown_is_not_written_down() {
    for lost in ["catalog", "tombstones", "clock", "identity", "baseline"] {
        let text = format!("{OLD} | done 3d | baseline gone:x | lose {lost}");
        for word in [Word::Run, Word::Approved] {
            assert_eq!(writes(&text, word), "", "{lost}");
        }
    }
    let unknown = format!("schedule=@hourly {OLD} | lose baseline");
    assert!(steps(&unknown).starts_with("backup: due"));
    assert_eq!(steps(&unknown.replace("schedule=@hourly ", "")), "");
}
