use proptest::prelude::*;

use super::*;
use crate::model::{
    judge::{Facts, Fate, Verdict, judge},
    scene::{Scene, scenes, timeline},
    semantics::{BARMAN, SAFE},
    timeline::TimelineHistory,
    wal::SegmentSize,
};

/// Everything that a judgement lets go, by the judgement itself.
fn all_expired(verdicts: &Verdicts) -> Going {
    Going {
        backups: verdicts.expired().cloned().collect(),
        wanted_by: WantedBy::Policy,
    }
}

fn spans(scene: &Scene, going: &Going, semantics: Semantics) -> Vec<WalSpan> {
    let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, semantics);
    wal_expiry(&scene.catalog, &verdicts, going, semantics)
}

fn show(spans: &[WalSpan]) -> String {
    let span = |span: &WalSpan| {
        let (timeline, run) = (span.timeline.number(), span.run);
        format!("{timeline}:{}-{}", run.first.0, run.last.0)
    };
    spans.iter().map(span).collect::<Vec<_>>().join(" ")
}

/// What goes if everything goes that may.
fn with(text: &str, semantics: Semantics) -> String {
    let scene = Scene::parse(text);
    let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, semantics);
    show(&spans(&scene, &all_expired(&verdicts), semantics))
}

fn both(text: &str) -> String {
    let (barman, safe) = (with(text, BARMAN), with(text, SAFE));
    assert_eq!(barman, safe, "{text}");
    safe
}

/// What goes with backups that a person deletes, under Barman's name.
fn by_hand(text: &str, ages: &[&str]) -> String {
    let scene = Scene::parse(text);
    let going = Going {
        backups: ages.iter().map(|age| scene.id(age)).collect(),
        wanted_by: WantedBy::Person,
    };
    show(&spans(&scene, &going, BARMAN))
}

#[test]
fn wal_before_the_oldest_backup_that_stays_goes() {
    assert_eq!(
        both("REDUNDANCY 2 | done 1d | done 8d | done 15d | done 22d"),
        "1:1-919"
    );
    assert_eq!(
        both("REDUNDANCY 1 | done 1d | failed 2d | done 8d | failed 9d"),
        "1:1-989"
    );
}

#[test]
fn unfinished_backups_hold_their_wal() {
    let text = "REDUNDANCY 1 | done 1d | waiting_for_wals 3d | done 8d";
    assert_eq!(both(text), "1:1-969");
    // Barman's order is by id and knows nothing of a running backup's WAL.
    let running = "REDUNDANCY 1 | done 1d | started 3d begin:900 | done 8d";
    assert_eq!(with(running, BARMAN), "1:1-989");
    assert_eq!(with(running, SAFE), "1:1-899");
}

#[test]
fn kept_backups_hold_all_wal_or_their_own() {
    let full = "REDUNDANCY 1 | done 1d | done 8d keep:full | done 9d";
    assert_eq!(both(full), "1:1-919");
    let standalone = "REDUNDANCY 1 | done 1d | done 5d | done 8d keep:standalone | done 9d";
    assert_eq!(both(standalone), "1:1-919 1:922-989");
    let lowest = "REDUNDANCY 1 | done 1d | done 5d | done 8d keep:standalone";
    assert_eq!(both(lowest), "1:1-919 1:922-989");
    let anchor = "RECOVERY WINDOW OF 1 DAY | done 1h | done 8d keep:standalone | done 9d";
    assert_eq!(both(anchor), "1:1-919");
}

#[test]
fn a_person_who_deletes_one_removes_wal_only_below_all_others() {
    let text = "none | done 1d | done 5d | done 8d | done 9d";
    assert_eq!(by_hand(text, &["9d"]), "1:1-919");
    assert_eq!(by_hand(text, &["8d"]), "");
    assert_eq!(by_hand(text, &["9d", "8d"]), "1:1-949");
    assert_eq!(by_hand(text, &["1d", "5d", "8d", "9d"]), "1:1-989");
    let standalone = "none | done 1d | done 5d | done 8d keep:standalone";
    assert_eq!(by_hand(standalone, &["5d"]), "");
}

#[test]
fn wal_of_other_timelines_stays_while_a_backup_may_need_it() {
    let wal = "wal 1:1-960 2:950-1010 | history 2:1@950";
    // Barman spares the timeline of the very backup that goes; the next run takes the rest of it.
    let promoted = format!("REDUNDANCY 1 | done 1d tl:2 | done 8d | done 9d | {wal}");
    assert_eq!(both(&promoted), "1:1-919 2:950-989");
    let later = format!("REDUNDANCY 1 | done 1d tl:2 | {wal}");
    assert_eq!(with(&later, SAFE), "1:1-960 2:950-989");
    // What a standalone backup needs is spared on its own timeline alone.
    for (on, expected) in [("1", "2:950-989"), ("3", "1:1-960 2:950-989")] {
        let kept = format!(
            "REDUNDANCY 1 | done 1d tl:2 | done 8d tl:2 | done 9d keep:standalone tl:{on} | {wal}"
        );
        assert_eq!(with(&kept, BARMAN), expected, "{on}");
    }
    // A newer timeline never goes, though no backup is on it yet.
    let ahead = "REDUNDANCY 1 | done 1d | done 8d | wal 1:1-1010 2:900-1010 | history 2:1@900";
    assert_eq!(both(ahead), "1:1-989");
    // A branch that was given up goes once nothing descends from it.
    let branch = "REDUNDANCY 1 | done 1d tl:3 | wal 1:1-950 2:950-1010 3:940-1010 \
                  | history 2:1@950 | history 3:1@940";
    assert_eq!(with(branch, SAFE), "1:1-950 2:950-1010 3:940-989");
    // Without its history nobody can tell, so only what lies before the beginning goes.
    let unknown = "REDUNDANCY 1 | done 1d tl:3 | wal 1:1-950 2:950-1010 3:940-1010";
    assert_eq!(with(unknown, SAFE), "1:1-950 2:950-989 3:940-989");
}

#[test]
fn fragments_go_with_the_segments_around_them() {
    let mut scene = Scene::parse("REDUNDANCY 1 | done 1d | done 8d | wal 1:910-1010");
    for number in [5, 920, 989, 990] {
        let fragment = (timeline("1"), SegmentNumber(number));
        scene.catalog.wal.fragments.insert(fragment);
    }
    for semantics in [BARMAN, SAFE] {
        let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, semantics);
        let spans = spans(&scene, &all_expired(&verdicts), semantics);
        assert_eq!(show(&spans), "1:5-5 1:910-989");
    }
}

#[test]
fn a_backup_that_waits_for_its_turn_still_holds_its_wal() {
    let scene = Scene::parse("REDUNDANCY 1 | done 1d | done 8d | done 9d");
    let going = |ages: &[&str]| Going {
        backups: ages.iter().map(|age| scene.id(age)).collect(),
        wanted_by: WantedBy::Policy,
    };
    assert_eq!(show(&spans(&scene, &going(&["9d"]), SAFE)), "1:1-919");
    assert_eq!(show(&spans(&scene, &going(&[]), SAFE)), "1:1-909");
}

#[test]
fn wal_stays_until_the_policy_has_made_a_backup_obsolete() {
    assert_eq!(both("REDUNDANCY 3 | done 1d | done 8d"), "");
    assert_eq!(both("RECOVERY WINDOW OF 9 DAYS | done 1d | done 8d"), "");
    assert_eq!(both("none | done 1d | done 8d"), "");
    // Afterwards it goes at any time: what a deleted backup left is found by the next run.
    assert_eq!(with("REDUNDANCY 2 | done 1d | done 8d", SAFE), "1:1-919");
    assert_eq!(with("REDUNDANCY 2 | done 1d | done 8d", BARMAN), "");
    let window = "RECOVERY WINDOW OF 7 DAYS | done 1d | done 8d";
    assert_eq!(with(window, SAFE), "1:1-919");
    let standalone = "REDUNDANCY 1 | done 1d | done 8d keep:standalone";
    assert_eq!(with(standalone, SAFE), "1:1-919 1:922-989");
}

#[test]
fn what_is_not_known_keeps_all_wal() {
    for text in [
        "REDUNDANCY 1 | done 1d | done 8d | unreadable 9d",
        "REDUNDANCY 1 | done 1d | done 8d | started 0d nowal:",
        "REDUNDANCY 1 | done 1d | done 8d | done 9d nowal:",
        "REDUNDANCY 1 | done 1d empty: | done 8d empty:",
        "REDUNDANCY 1 | started 0d sys:2 | done 1d | done 8d",
        "REDUNDANCY 1 | done -1h | done 1d | done 8d",
    ] {
        assert_eq!(with(text, SAFE), "", "{text}");
    }
    let mut scene = Scene::parse("REDUNDANCY 1 | done 1d | done 8d");
    let all = scene.catalog.backups.iter().map(|backup| backup.id.clone());
    let going = Going {
        backups: all.collect(),
        wanted_by: WantedBy::Person,
    };
    assert_eq!(spans(&scene, &going, SAFE), [], "no backup is left");
    let larger = SegmentSize::new(64 << 20).expect("a size");
    scene.catalog.backups[0].segment_size = larger;
    let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, BARMAN);
    assert_eq!(spans(&scene, &all_expired(&verdicts), BARMAN), []);
}

#[test]
fn a_standalone_backup_whose_wal_ends_before_it_begins_holds_all_wal() {
    let mut scene = Scene::parse("REDUNDANCY 1 | done 1d | done 8d keep:standalone");
    let kept = scene.id("8d");
    let kept = scene.catalog.backups.iter_mut().find(|b| b.id == kept);
    let kept = kept.expect("it is there");
    kept.end_wal = Some(
        "000000010000000300000001"
            .parse()
            .expect("the name of a segment"),
    );
    let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, SAFE);
    let spans = spans(&scene, &all_expired(&verdicts), SAFE);
    assert_eq!(show(&spans), "1:1-919");
}

/// Every history that a recovery might follow.
fn histories(catalog: &Catalog) -> Vec<TimelineHistory> {
    let known = catalog.wal.histories.values().cloned();
    let runs = catalog.wal.runs.keys().map(|on| catalog.wal.history(*on));
    known.chain(runs).collect()
}

proptest! {
    #[test]
    fn no_backup_that_stays_loses_wal(text in scenes()) {
        let scene = Scene::distinct(&text);
        let catalog = &scene.catalog;
        let verdicts = judge(catalog, &scene.rule, &scene.facts, SAFE);
        let going = all_expired(&verdicts);
        let spans = wal_expiry(catalog, &verdicts, &going, SAFE);
        let gone = |timeline, number| spans.iter().any(|span| {
            span.timeline == timeline && span.run.first <= number && number <= span.run.last
        });
        for backup in &catalog.backups {
            let Verdict { fate, wal, .. } = verdicts.get(&backup.id).expect("a verdict");
            let stays = *fate != Fate::Expire && *wal != WalNeed::Nothing;
            let Some(begin) = backup.begin_wal.filter(|_| stays) else { continue };
            for history in histories(catalog) {
                let left = history.left_at(begin.timeline);
                if left.is_none_or(|left| backup.begin_lsn.is_some_and(|begin| left < begin)) {
                    continue;
                }
                let size = backup.segment_size;
                let last = match (wal, backup.end_wal) {
                    (WalNeed::Own, Some(end)) => end.number(size).0,
                    _ => 2100,
                };
                for number in (begin.number(size).0..=last).map(SegmentNumber) {
                    let on = history.timeline_of(number, size);
                    prop_assert!(!gone(on, number), "{} needs {on} {}", backup.id, number.0);
                }
            }
        }
    }

    #[test]
    fn what_we_remove_barman_removes_or_would_have_removed(
        text in scenes(),
    ) {
        let scene = Scene::distinct(&text);
        // Barman never touches WAL above an incremental backup, and does not let go of one whose chain is not whole.
        let mut chained = scene.catalog.backups.iter().filter(|backup| backup.parent.is_some());
        prop_assume!(!chained.any(|backup| scene.catalog.damage(backup).is_some()));
        let verdicts = judge(&scene.catalog, &scene.rule, &scene.facts, SAFE);
        let spans = wal_expiry(&scene.catalog, &verdicts, &all_expired(&verdicts), SAFE);
        let barman = barman_with_ghosts(&scene);
        for span in spans {
            for number in span.run.first.0..=span.run.last.0 {
                let removed = barman.iter().any(|other| {
                    other.timeline == span.timeline
                        && (other.run.first.0..=other.run.last.0).contains(&number)
                });
                prop_assert!(removed, "{} {number} would stay", span.timeline);
            }
        }
    }
}

/// What Barman removes from a catalog, and what it would if another backup stood in any place where
/// it calls that one obsolete.
fn barman_with_ghosts(scene: &Scene) -> Vec<WalSpan> {
    let run = |catalog: &Catalog, ghost: Option<&BackupId>| {
        // Barman knows of nothing outside the catalog.
        let facts = Facts::at(scene.facts.now);
        let verdicts = judge(catalog, &scene.rule, &facts, BARMAN);
        let obsolete = |id| verdicts.get(id).map(|verdict| verdict.fate) == Some(Fate::Expire);
        if ghost.is_some_and(|id| !obsolete(id)) {
            return Vec::new();
        }
        wal_expiry(catalog, &verdicts, &all_expired(&verdicts), BARMAN)
    };
    let mut removed = run(&scene.catalog, None);
    for above in &scene.catalog.backups {
        let mut catalog = scene.catalog.clone();
        let mut ghost = Scene::parse("none | done 0d").catalog.backups.remove(0);
        // The text just below another id.
        let (head, last) = above.id.as_str().split_at(above.id.as_str().len() - 1);
        let below = char::from(last.as_bytes()[0] - 1);
        ghost.id = BackupId::new(format!("{head}{below}~"));
        ghost.timeline = above.timeline;
        let id = ghost.id.clone();
        catalog.backups.push(ghost);
        catalog.backups.sort_by(|one, two| one.id.cmp(&two.id));
        removed.extend(run(&catalog, Some(&id)));
    }
    removed
}

#[test]
fn a_backup_that_is_not_there_takes_no_wal_with_it() {
    let text = "none | done 1d | done 9d";
    assert_eq!(by_hand(text, &["99d"]), "");
    assert_eq!(by_hand(text, &["9d", "99d"]), "1:1-989");
}

#[test]
fn a_clean_up_of_barmans_takes_directories_by_their_number_and_files_by_their_name() {
    // 9d needs the segments 910 and 911, and 1d begins with 990: 38E, 38F and 3DE.
    let text = "none | done 1d | done 5d tl:2 | done 8d | done 9d keep:standalone";
    let scene = Scene::parse(text);
    let going = Going {
        backups: [scene.id("8d")].into(),
        wanted_by: WantedBy::Policy,
    };
    let cycles = barman_cycles(&scene.catalog, &going);
    let [(_, Some(cycle))] = &cycles[..] else {
        panic!("one backup goes, and its WAL with it: {cycles:?}");
    };
    let directory = |on, log| cycle.removes_directory(timeline(on), log);
    // That of the first segment that stays, and of those that a keep needs, does not go as a whole.
    assert_eq!(
        [2, 3, 4].map(|log| directory("2", log)),
        [true, false, false]
    );
    assert!(!directory("1", 2), "there are backups on it");
    let goes = |name: &str| cycle.removes_file(name.parse().expect("a file of WAL"));
    for (name, expected) in [
        ("000000020000000300000001", true),
        ("000000020000000300000001.partial", true),
        ("000000020000000300000001.00000028.backup", true),
        ("0000000200000003000000B5", true),
        ("0000000200000003000000B6", false),
        ("0000000200000003000000B6.00000028.backup", false),
        ("000000010000000300000001", false),
        ("00000002.history", false),
    ] {
        assert_eq!(goes(name), expected, "{name}");
    }
}

#[test]
fn what_a_standalone_keep_needs_is_spared_whatever_kind_of_file_it_is() {
    let scene = Scene::parse("none | done 1d | done 8d | done 9d keep:standalone");
    let going = Going {
        backups: [scene.id("8d")].into(),
        wanted_by: WantedBy::Policy,
    };
    let cycles = barman_cycles(&scene.catalog, &going);
    let cycle = cycles[0].1.as_ref().expect("a cycle");
    let goes = |name: &str| cycle.removes_file(name.parse().expect("a file of WAL"));
    for (name, expected) in [
        ("00000001000000030000008D", true),
        ("00000001000000030000008E", false),
        ("00000001000000030000008E.00000028.backup", false),
        ("00000001000000030000008F", false),
        ("00000001000000030000008F.00000028.backup", false),
        ("000000010000000300000090", true),
        ("0000000100000003000000DD", true),
        ("0000000100000003000000DE", false),
    ] {
        assert_eq!(goes(name), expected, "{name}");
    }
    // Its directory stays, and not only because it is the last one: the others begin with 406.
    let scene = Scene::parse("none | done -3d | done 8d | done 9d keep:standalone");
    let going = Going {
        backups: [scene.id("8d")].into(),
        wanted_by: WantedBy::Policy,
    };
    let cycles = barman_cycles(&scene.catalog, &going);
    let cycle = cycles[0].1.as_ref().expect("a cycle");
    let directory = |log| cycle.removes_directory(TimelineId::FIRST, log);
    assert_eq!([2, 3, 4].map(directory), [true, false, false]);
}
