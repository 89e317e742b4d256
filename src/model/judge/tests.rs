use proptest::prelude::*;

use super::*;
use crate::model::{
    scene::{Scene, now, scenes},
    semantics::{BARMAN, Chains, SAFE},
};

/// Judges a scene; one line per backup, newest id first, with its first reason.
fn table(text: &str, semantics: Semantics) -> Vec<String> {
    let scene = Scene::parse(text);
    let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, semantics);
    let line = |(id, verdict): (&BackupId, &Verdict)| {
        let fate = format!("{:?}", verdict.fate).to_lowercase();
        format!("{} {fate}: {}", scene.label(id), verdict.reasons[0])
    };
    verdicts.backups.iter().rev().map(line).collect()
}

fn barman(text: &str) -> Vec<String> {
    table(text, BARMAN)
}

fn safe(text: &str) -> Vec<String> {
    table(text, SAFE)
}

/// The ages of what goes, under Barman's judgement and ours.
fn goes(text: &str) -> [Vec<String>; 2] {
    [BARMAN, SAFE].map(|semantics| {
        let scene = Scene::parse(text);
        let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, semantics);
        verdicts
            .expired()
            .map(|id| scene.label(id).to_owned())
            .collect()
    })
}

/// What goes, the same under both judgements.
fn both(text: &str) -> String {
    let [barman, safe] = goes(text);
    assert_eq!(barman, safe, "{text}");
    safe.join(" ")
}

#[test]
fn the_newest_of_a_redundancy_stay() {
    assert_eq!(
        safe("REDUNDANCY 2 | done 1d | done 8d | done 15d | done 22d"),
        [
            "1d retain: within REDUNDANCY 2",
            "8d retain: within REDUNDANCY 2",
            "15d expire: outside REDUNDANCY 2; 2 newer are good",
            "22d expire: outside REDUNDANCY 2; 2 newer are good",
        ]
    );
    assert_eq!(
        both("REDUNDANCY 1 min 3 | done 1d | done 2d | done 3d | done 4d"),
        "4d"
    );
    assert_eq!(both("none | done 1d | done 99d"), "");
    assert_eq!(both("REDUNDANCY 3"), "");
}

#[test]
fn a_window_keeps_the_backup_that_reaches_its_beginning() {
    assert_eq!(
        safe("RECOVERY WINDOW OF 7 DAYS | done 1d | done 6d | done 8d | done 9d"),
        [
            "1d retain: within RECOVERY WINDOW OF 7 DAYS",
            "6d retain: within RECOVERY WINDOW OF 7 DAYS",
            "8d retain: RECOVERY WINDOW OF 7 DAYS begins after it",
            "9d expire: outside RECOVERY WINDOW OF 7 DAYS; 3 newer are good",
        ]
    );
    // A backup that ended exactly when the window begins does not reach its beginning.
    assert_eq!(
        both("RECOVERY WINDOW OF 1 WEEK | done 7d | done 8d | done 9d"),
        "9d"
    );
    assert_eq!(
        both("RECOVERY WINDOW OF 1 MONTH | done 30d | done 32d | done 33d"),
        "33d"
    );
}

#[test]
fn barman_counts_a_window_by_the_clock_on_the_wall() {
    let rome = Zone::new(
        "Rome",
        jiff::tz::TimeZone::get("Europe/Rome").expect("a zone"),
    );
    let begin = |now: &str, days: u64| {
        let facts = Facts::at(now.parse().expect("an instant")).in_zone(&rome);
        let begin = facts.begin_by_clock(Duration::from_hours(24 * days));
        begin.expect("within the calendar").to_string()
    };
    assert_eq!(begin("2026-11-02T12:00:00Z", 5), "2026-10-28T12:00:00Z");
    assert_eq!(begin("2026-11-02T12:00:00Z", 14), "2026-10-19T11:00:00Z");
    assert_eq!(begin("2026-03-30T12:00:00Z", 2), "2026-03-28T13:00:00Z");
    // 02:30 occurs twice on one day of autumn, and not at all on one of spring.
    assert_eq!(begin("2026-10-26T01:30:00Z", 1), "2026-10-25T00:30:00Z");
    assert_eq!(begin("2026-03-30T00:30:00Z", 1), "2026-03-29T00:30:00Z");

    // Neither an hour more nor an hour less than Barman: the smaller of the two goes.
    let mut scene = Scene::parse("RECOVERY WINDOW OF 30 DAYS | done 1d | done 30d | done 31d");
    let end = scene.catalog.backups[1].end_time.expect("an end");
    scene.catalog.backups[1].end_time = Some(end - Duration::from_mins(30));
    let gone = |zone: &Zone| {
        let facts = scene.facts.clone().in_zone(zone);
        let verdicts = judge(&scene.catalog, &scene.rule, &facts, SAFE);
        verdicts.expired().count()
    };
    assert_eq!((gone(&Zone::utc()), gone(&rome)), (1, 0));
}

#[test]
fn a_minimum_redundancy_adds_to_a_window() {
    let text = "RECOVERY WINDOW OF 1 DAY min 2 | done 2d keep:full | done 3d | done 4d";
    assert_eq!(
        barman(text),
        [
            "2d protect: kept (full)",
            "3d retain: minimum redundancy 2",
            "4d expire: outside RECOVERY WINDOW OF 1 DAYS; 2 newer are good",
        ]
    );
    assert_eq!(both(text), "4d");
}

#[test]
fn a_kept_backup_uses_up_a_place_and_stays() {
    assert_eq!(
        both("REDUNDANCY 1 | done 1d keep:full | done 2d | done 3d"),
        "2d 3d".split(' ').rev().collect::<Vec<_>>().join(" ")
    );
    assert_eq!(
        both("REDUNDANCY 1 | done 1d | done 2d keep:standalone | done 3d"),
        "3d"
    );
    assert_eq!(
        both("RECOVERY WINDOW OF 1 DAY | done 2d keep:standalone | done 3d"),
        "3d"
    );
}

#[test]
fn only_complete_backups_are_judged() {
    let text = "REDUNDANCY 1 | started 0d | waiting_for_wals 1d | failed 2d | done 3d \
                | done 4d | empty 5d";
    assert_eq!(
        safe(text),
        [
            "0d protect: STARTED",
            "1d protect: WAITING_FOR_WALS",
            "2d retain: FAILED",
            "3d retain: within REDUNDANCY 1",
            "4d expire: outside REDUNDANCY 1; 1 newer is good",
            "5d retain: EMPTY",
        ]
    );
    assert_eq!(barman(text), safe(text));
}

#[test]
fn a_damaged_backup_counts_for_nothing_and_stays() {
    let text = "REDUNDANCY 2 | done 1d empty: | done 2d begin:2000 | done 3d | done 4d | done 5d";
    assert_eq!(
        safe(text),
        [
            "1d protect: damaged: archive `data` is missing or empty",
            "2d protect: damaged: WAL 0000000100000007000000D0 is missing",
            "3d retain: within REDUNDANCY 2",
            "4d retain: within REDUNDANCY 2",
            "5d expire: outside REDUNDANCY 2; 2 newer are good",
        ]
    );
    assert_eq!(goes(text), [vec!["5d", "4d", "3d"], vec!["5d"]]);
    assert_eq!(
        safe("REDUNDANCY 1 | done 1d nowal:")[0],
        "1d protect: damaged: backup.info names no WAL"
    );
}

#[test]
fn each_lineage_is_judged_by_itself() {
    let text = "REDUNDANCY 1 | done 1d sys:2 | done 2d sys:2 | done 3d | done 4d | done 5d v:17";
    assert_eq!(goes(text), [vec!["5d", "4d", "3d", "2d"], vec!["4d", "2d"]]);
}

#[test]
fn a_lineage_without_new_backups_loses_its_claim_in_the_end() {
    let lineages = |status: &str| {
        format!("REDUNDANCY 1 | done 1d sys:2 | done 2d sys:2 | {status} 89d | done 91d | done 95d")
    };
    assert_eq!(goes(&lineages("failed"))[1], ["95d", "2d"]);
    let old = "REDUNDANCY 1 | done 1d sys:2 | done 91d | done 95d";
    assert_eq!(goes(old)[1], ["95d", "91d"]);
    // Nothing newer: however old, it is all that there is.
    assert_eq!(both("REDUNDANCY 1 | done 91d | done 95d"), "95d");
    let window = "RECOVERY WINDOW OF 93 DAYS | done 1d sys:2 | done 91d | done 95d | done 96d";
    assert_eq!(goes(window)[1], ["96d"]);
    // What only reaches the beginning of a window, with nothing in it, goes as well.
    let reaching = "RECOVERY WINDOW OF 80 DAYS | done 1d sys:2 | done 81d sys:2 | done 91d";
    assert_eq!(goes(reaching)[1], ["91d"]);
    // Neither as old as the newest of the others nor at the very end is it over.
    let equal = "REDUNDANCY 1 | done 91d sys:2 | done 91d id:a | done 95d";
    assert_eq!(goes(equal)[1], ["95d"]);
    let exactly = "REDUNDANCY 1 | done 1d sys:2 | done 90d | done 95d";
    assert_eq!(goes(exactly)[1], ["95d"]);
}

#[test]
fn a_lineage_that_goes_leaves_as_many_good_ones_as_there_must_be() {
    // Barman counts the damaged one.
    let text = "REDUNDANCY 1 min 2 | done 1d sys:2 | done 2d sys:2 empty: | done 91d | done 95d";
    assert_eq!(goes(text), [vec!["95d", "91d"], vec!["95d"]]);
    assert_eq!(safe(text)[2], "91d retain: minimum redundancy 2");
}

#[test]
fn the_newest_good_one_may_be_incremental_and_a_failed_one_is_none() {
    let text = "REDUNDANCY 0 | failed 1h id:zz | done 1d id:z parent:a | done 9d id:a";
    assert_eq!(goes(text)[1], Vec::<&str>::new());
    assert_eq!(
        safe(text)[1..],
        [
            "1d protect: the newest good backup",
            "9d protect: the newest good backup",
        ]
    );
}

#[test]
fn the_newest_good_one_of_a_live_lineage_always_stays() {
    let text = "REDUNDANCY 0 | done 1d | done 2d";
    assert_eq!(goes(text), [vec!["2d", "1d"], vec!["2d"]]);
    assert_eq!(safe(text)[0], "1d protect: the newest good backup");
}

#[test]
fn order_is_by_time_and_not_by_the_text_of_ids_but_never_bolder_than_barman() {
    // Clocks were set back: the younger backup has the smaller id.
    let text = "REDUNDANCY 1 | done 1h id:20261120T020000 | done 2h id:20261120T023000";
    assert_eq!(goes(text), [vec!["1h"], vec![]]);
}

#[test]
fn a_chain_stays_together() {
    let text = "REDUNDANCY 1 | done 1d | done 8d parent:20261111T110000 \
                | done 9d id:20261111T110000 | done 10d";
    assert_eq!(goes(text), [vec!["10d", "9d"], vec!["10d", "9d", "8d"]]);
    assert_eq!(
        safe(text)[1..3],
        [
            "8d expire: outside REDUNDANCY 1; 1 newer is good",
            "9d expire: outside REDUNDANCY 1; 1 newer is good",
        ]
    );
    // Within the policy as a whole, however old its parts.
    let within = text.replace("REDUNDANCY 1 | done 1d |", "REDUNDANCY 1 |");
    assert_eq!(goes(&within)[1], ["10d"]);
    // Whatever one of them needs stays.
    let kept = text.replace("done 8d", "done 8d keep:full");
    assert_eq!(goes(&kept)[1], ["10d"]);
    // The newest of all is an incremental of an older chain than the newest full one.
    let across =
        "REDUNDANCY 1 | done 1d parent:a id:z | done 3d id:b | done 9d id:a | done 10d id:0";
    assert_eq!(goes(across)[1], ["10d"]);
    // A failed incremental needs nothing.
    let failed = "REDUNDANCY 1 | done 1d | failed 8d parent:1a | done 9d id:1a";
    assert_eq!(goes(failed)[1], ["9d"]);
    let grandchild = "REDUNDANCY 1 | done 1d id:z | done 7d id:c parent:b | done 8d id:b parent:a \
                      | done 9d id:a";
    assert_eq!(goes(grandchild)[1], ["9d", "8d", "7d"]);
    // Where the beginning of a chain is not known, nothing of it goes.
    let lost = "REDUNDANCY 1 | done 1d id:z | done 7d id:c parent:b | done 8d id:b parent:a";
    assert_eq!(goes(lost)[1], Vec::<&str>::new());
    let circle = "REDUNDANCY 1 | done 1d id:z | done 8d id:b parent:c | done 9d id:c parent:b";
    assert!(safe(circle)[1].contains("damaged"));
    // Nor is one that begins with what is younger: nobody knows what it needs.
    let younger = "REDUNDANCY 0 | done 2d parent:z | done 1d id:z";
    assert_eq!(goes(younger)[1], Vec::<&str>::new());
}

#[test]
fn a_full_backup_with_incrementals_stops_only_barmans_cloud_commands() {
    let text = "REDUNDANCY 1 | done 1d | done 2d child:x";
    assert_eq!(goes(text), [vec![], vec!["2d"]]);
}

#[test]
fn where_barman_fails_nothing_goes() {
    for text in [
        "REDUNDANCY 1 | done 1d | done 2d | unreadable 3d",
        "REDUNDANCY 1 | done 1d later:field | done 2d",
        "REDUNDANCY 1 | done 1d | done 2d | failed 3d later:field",
        "RECOVERY WINDOW OF 1 DAY | done 1h noend: | done 3d | done 4d",
    ] {
        assert_eq!(both(text), "", "{text}");
    }
    let unreadable = safe("REDUNDANCY 1 | done 1d | done 2d | unreadable 3d");
    assert_eq!(unreadable[2], "3d protect: unreadable: nonsense");
    assert_eq!(unreadable[0], "1d retain: within REDUNDANCY 1");
    assert!(unreadable[1].starts_with("2d protect: nothing goes while"));
    let unknown = barman("REDUNDANCY 1 | done 1d later:field | done 2d keep:full | done 3d");
    assert_eq!(unknown[0], "1d protect: unreadable: unknown fields: field");
    assert_eq!(unknown[1], "2d protect: kept (full)");
    let unended = barman("RECOVERY WINDOW OF 1 DAY | done 1h noend: | done 3d");
    assert_eq!(unended[0], "1h protect: its end is not recorded");
    // An end that nobody looks at may be missing.
    let text = "RECOVERY WINDOW OF 1 DAY | done 2d | done 3d noend: | done 4d";
    assert_eq!(goes(text), [vec!["4d", "3d"], vec!["4d"]]);
}

#[test]
fn a_backup_from_the_future_stops_all_deletes() {
    let text = "REDUNDANCY 1 | done -1h | done 1d | done 2d";
    assert_eq!(goes(text), [vec!["2d", "1d"], vec![]]);
    assert_eq!(safe(text)[0], "-1h protect: ends in the future");
    // So little that clocks may differ.
    assert_eq!(both("REDUNDANCY 1 | done -5m | done 1m | done 2d"), "2d 1m");
    assert!(safe(text)[2].starts_with("2d protect: nothing goes while"));
}

#[test]
fn what_others_protect_stays() {
    let text = "REDUNDANCY 1 | done 1d | done 2d protected: | done 3d";
    assert_eq!(both(text), "3d");
    assert_eq!(safe(text)[1], "2d protect: requested");
}

#[test]
fn what_others_protect_stays_with_its_chain() {
    let safely = |text: &str| {
        let [_, safe] = goes(text);
        safe
    };
    let full = "REDUNDANCY 1 | done 1d | done 3d";
    let child = "done 2d parent:20261117T110000";
    assert_eq!(safely(&format!("{full} | {child}")), ["3d", "2d"]);
    // A keep may be set next, and Barman lets nothing go that builds on what is kept.
    assert!(safely(&format!("{full} protected: | {child}")).is_empty());
    assert!(safely(&format!("{full} | {child} protected:")).is_empty());
}

#[test]
fn a_standalone_keep_holds_all_wal_while_the_policy_wants_it_too() {
    let wal = |text: &str| {
        let scene = Scene::parse(text);
        let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, SAFE);
        verdicts
            .backups
            .values()
            .map(|verdict| verdict.wal)
            .collect::<Vec<_>>()
    };
    let anchor = "RECOVERY WINDOW OF 1 DAY | done 1h | done 2d keep:standalone | failed 3d";
    assert_eq!(
        wal(anchor),
        [WalNeed::Nothing, WalNeed::FromBegin, WalNeed::FromBegin]
    );
    // Its lineage is over, but Barman, which judges all together, may still need it.
    let over = "REDUNDANCY 2 | done 1d sys:2 | done 91d keep:standalone";
    assert_eq!(wal(over), [WalNeed::FromBegin, WalNeed::FromBegin]);
    let outside = "REDUNDANCY 1 | done 1h | done 2d keep:standalone | done 3d keep:full";
    assert_eq!(
        wal(outside),
        [WalNeed::FromBegin, WalNeed::Own, WalNeed::FromBegin]
    );
}

fn expired(scene: &Scene, semantics: Semantics) -> BTreeSet<BackupId> {
    let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, semantics);
    verdicts.expired().cloned().collect()
}

proptest! {
    #[test]
    fn every_backup_has_a_verdict_with_a_reason(text in scenes()) {
        let scene = Scene::distinct(&text);
        for semantics in [BARMAN, SAFE] {
            let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, semantics);
            let count = scene.catalog.backups.len() + scene.catalog.unreadable.len();
            prop_assert_eq!(verdicts.backups.len(), count);
            prop_assert!(verdicts.backups.values().all(|verdict| !verdict.reasons.is_empty()));
        }
    }

    #[test]
    fn what_we_let_go_barman_lets_go_too(text in scenes()) {
        let scene = Scene::distinct(&text);
        let together = Semantics { chains: Chains::Together, ..BARMAN };
        prop_assert!(expired(&scene, SAFE).is_subset(&expired(&scene, together)));
        if scene.catalog.backups.iter().all(|backup| backup.parent.is_none()) {
            prop_assert!(expired(&scene, SAFE).is_subset(&expired(&scene, BARMAN)));
        }
    }

    #[test]
    fn what_goes_is_needed_by_nothing_that_stays(text in scenes()) {
        let scene = Scene::distinct(&text);
        let gone = expired(&scene, SAFE);
        for child in scene.catalog.backups.iter().filter(|backup| !gone.contains(&backup.id)) {
            let needs = child.parent.as_ref().filter(|_| unfinished_wal(child) != WalNeed::Nothing);
            prop_assert!(needs.is_none_or(|parent| !gone.contains(parent)));
        }
    }

    #[test]
    fn knowing_less_never_lets_more_go(text in scenes(), which in 0_usize..12, how in 0_usize..3) {
        let scene = Scene::distinct(&text);
        let mut less = Scene::distinct(&text);
        let Some(backup) = less.catalog.backups.get_mut(which) else { return Ok(()) };
        match how {
            0 => backup.archives.clear(),
            1 => less.catalog.wal = super::super::catalog::WalArchive::default(),
            _ => {
                let gone = less.catalog.backups.remove(which);
                let why = crate::failure::Failure::new(crate::failure::Kind::Failed, "?");
                less.catalog.unreadable.insert(gone.id, why);
            }
        }
        prop_assert!(expired(&less, SAFE).is_subset(&expired(&scene, SAFE)));
    }

    #[test]
    fn what_must_stay_never_goes(text in scenes()) {
        let scene = Scene::distinct(&text);
        let gone = expired(&scene, SAFE);
        for backup in scene.catalog.backups.iter().filter(|backup| gone.contains(&backup.id)) {
            prop_assert!(scene.catalog.is_good(backup));
            prop_assert!(backup.keep.is_none());
            prop_assert!(!scene.facts.protected.contains_key(&backup.id));
            prop_assert!(backup.end_time <= Some(now() + SKEW_MAX));
            let newer = scene.catalog.backups.iter().any(|other| {
                scene.catalog.is_good(other) && other.end_time >= backup.end_time
                    && other.id != backup.id && !gone.contains(&other.id)
            });
            prop_assert!(newer, "the newest good one went");
        }
    }
}

#[test]
fn what_is_damaged_counts_where_all_that_is_done_counts() {
    let text = "REDUNDANCY 1 | done 1d empty: | done 8d";
    assert_eq!(goes(text)[1], [""; 0]);
    let trusting = Semantics {
        counts: Counts::Done,
        ..SAFE
    };
    assert_eq!(
        table(text, trusting),
        [
            "1d retain: within REDUNDANCY 1",
            "8d expire: outside REDUNDANCY 1; 1 newer is good",
        ]
    );
}

#[test]
fn a_fate_is_told_in_a_word() {
    let words = [Fate::Retain, Fate::Protect, Fate::Expire].map(|fate| fate.to_string());
    assert_eq!(words, ["retained", "protected", "obsolete"]);
}

#[test]
fn a_window_begins_its_length_ago_to_the_microsecond() {
    let half = now() + Duration::from_millis(500);
    let week = Duration::from_hours(7 * 24);
    assert_eq!(Facts::at(half).begin_by_clock(week), Some(half - week));
}

#[test]
fn a_window_longer_than_any_calendar_holds_everything() {
    let text = "RECOVERY WINDOW OF 5000000 DAYS | done 1d | done 99d";
    assert_eq!(both(text), "");
}
