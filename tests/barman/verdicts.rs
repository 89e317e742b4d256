//! Over random catalogs, what goes under `BARMAN` is what Barman's own code removes, and what goes
//! under `SAFE` is a subset of it.

use std::collections::{BTreeMap, BTreeSet};

use barkeep::model::{
    backup::{Backup, BackupId, BackupStatus, KeepTarget},
    catalog::Catalog,
    judge::{Facts, Fate, Verdicts, judge},
    reason::Reason,
    semantics::{BARMAN, Chains, SAFE, Semantics},
    timeline::TimelineId,
    wal::SegmentNumber,
    wal_expiry::{Going, WantedBy, wal_expiry},
};
use serde_json::Value;

use crate::{
    support::peer::Peer,
    world::{World, segment_of, zone},
};

/// How many catalogs are compared.
const WORLDS: u64 = 1_500;

type Segments = BTreeSet<(TimelineId, SegmentNumber)>;

/// What Barman did with a catalog.
struct Done {
    code: i64,
    /// Barman's words by id; none if it stopped before it judged.
    report: Option<BTreeMap<String, String>>,
    /// The backups whose record is gone.
    backups: BTreeSet<BackupId>,
    /// The segments of which a file is gone.
    segments: Segments,
}

fn barman(peer: &mut Peer, world: &World) -> Done {
    let answer = peer.ask(&world.question());
    let deleted = answer["deleted"].as_array().expect("a list").iter();
    let deleted: Vec<&str> = deleted.filter_map(Value::as_str).collect();
    let info = |key: &&str| {
        let id = key.strip_prefix("base/")?.strip_suffix("/backup.info")?;
        Some(BackupId::new(id))
    };
    let report = answer["report"].as_object().map(|report| {
        let word =
            |(id, word): (&String, &Value)| (id.clone(), word.as_str().expect("a word").to_owned());
        report.iter().map(word).collect()
    });
    assert!(
        !deleted.iter().any(|key| key.contains(".history")),
        "Barman removed a history"
    );
    Done {
        code: answer["code"].as_i64().expect("an exit code"),
        report,
        backups: deleted.iter().filter_map(info).collect(),
        segments: deleted.iter().filter_map(|key| segment_of(key)).collect(),
    }
}

/// What a judgement does with a catalog.
struct Ours {
    verdicts: Verdicts,
    going: BTreeSet<BackupId>,
    segments: Segments,
}

fn ours(world: &World, catalog: &Catalog, semantics: Semantics) -> Ours {
    let facts = Facts::at(world.now).in_zone(&zone());
    let verdicts = judge(catalog, &world.rule, &facts, semantics);
    let going = Going {
        backups: verdicts.expired().cloned().collect(),
        wanted_by: WantedBy::Policy,
    };
    let spans = wal_expiry(catalog, &verdicts, &going, semantics);
    let segments = spans.iter().flat_map(|span| {
        let numbers = span.run.first.0..=span.run.last.0;
        numbers.map(|number| (span.timeline, SegmentNumber(number)))
    });
    Ours {
        segments: segments.collect(),
        going: going.backups,
        verdicts,
    }
}

/// Barman's word for a verdict; none for what it passes over.
fn word(backup: &Backup, verdicts: &Verdicts) -> Option<&'static str> {
    let verdict = verdicts
        .get(&backup.id)
        .expect("every backup has a verdict");
    let minimum = |reason: &Reason| matches!(reason, Reason::MinimumRedundancy { .. });
    if backup.parent.is_some() {
        return None;
    }
    Some(match (backup.status, backup.keep, verdict.fate) {
        (BackupStatus::Done, Some(KeepTarget::Standalone), _) => "KEEP:STANDALONE",
        (BackupStatus::Done, Some(KeepTarget::Full), _) => "KEEP:FULL",
        (BackupStatus::Done, None, Fate::Expire) => "OBSOLETE",
        (BackupStatus::Done, None, _) if verdict.reasons.iter().any(minimum) => "OBSOLETE*",
        (BackupStatus::Done, None, _) => "VALID",
        _ => "-",
    })
}

/// What is known to differ, on the side of keeping: where a standalone backup spans timelines,
/// Barman may remove some of its WAL by directory, and of the last segment that it needs the
/// partial file.
fn spared(world: &World, catalog: &Catalog) -> Segments {
    let standalone = catalog.backups.iter().filter(|backup| {
        let copied = matches!(
            backup.status,
            BackupStatus::Done | BackupStatus::WaitingForWals
        );
        copied && backup.keep == Some(KeepTarget::Standalone)
    });
    let ranges: Vec<_> = standalone
        .filter_map(|backup| Some((backup.begin_wal?, backup.end_wal?)))
        .collect();
    let keys = world.objects.keys().filter_map(|key| {
        let name = key.split('/').nth(2)?.get(..24)?;
        let inside = ranges.iter().any(|(begin, end)| {
            let partial = key.contains(".partial") && name == end.to_string();
            let within = begin.to_string().as_str() <= name && name <= end.to_string().as_str();
            partial || (begin.timeline != end.timeline && within)
        });
        segment_of(key).filter(|_| inside)
    });
    keys.collect()
}

#[test]
fn verdicts_and_wal_are_barmans_and_ours_are_a_subset() {
    let Some(mut peer) = Peer::start("barman/peer.py") else {
        return;
    };
    let mut seen = BTreeMap::new();
    let mut count = |what: &'static str, times: usize| *seen.entry(what).or_insert(0) += times;
    for seed in 0..WORLDS {
        let world = World::random(seed);
        let catalog = world.catalog();
        let theirs = barman(&mut peer, &world);
        let same = ours(&world, &catalog, BARMAN);
        let context = || format!("seed {seed}: {}", world.question());

        if let Some(report) = &theirs.report {
            let words = catalog.backups.iter().filter_map(|backup| {
                Some((
                    backup.id.to_string(),
                    word(backup, &same.verdicts)?.to_owned(),
                ))
            });
            let words: BTreeMap<_, _> = words.collect();
            assert_eq!(words, *report, "{}", context());
        } else {
            assert_eq!(
                same.going,
                BTreeSet::new(),
                "code {}: {}",
                theirs.code,
                context()
            );
        }
        if theirs.code == 0 {
            assert_eq!(same.going, theirs.backups, "{}", context());
        }
        let spared = spared(&world, &catalog);
        let different: Segments = same
            .segments
            .symmetric_difference(&theirs.segments)
            .copied()
            .collect();
        assert!(
            same.segments.is_subset(&theirs.segments),
            "{different:?} {}",
            context()
        );
        assert!(different.is_subset(&spared), "{different:?} {}", context());

        let safe = ours(&world, &catalog, SAFE);
        let together = Semantics {
            chains: Chains::Together,
            ..BARMAN
        };
        let together = ours(&world, &catalog, together);
        assert!(safe.going.is_subset(&together.going), "{}", context());
        // What Barman's cloud commands pass over, because they know no chains, goes with its full backup.
        let is_chained = |backup: &Backup| backup.parent.is_some() || !backup.children.is_empty();
        if catalog.backups.iter().any(is_chained) {
            count("catalogs with chains", 1);
        } else {
            assert!(safe.going.is_subset(&same.going), "{}", context());
            let beyond: Segments = safe
                .segments
                .difference(&theirs.segments)
                .copied()
                .collect();
            count("safe segments beyond this very run", beyond.len());
            assert_removed_with_ghosts(&mut peer, (&world, &catalog), beyond);
        }

        count(
            "catalogs that Barman refuses",
            usize::from(theirs.report.is_none()),
        );
        count(
            "runs that Barman breaks off",
            usize::from(theirs.code != 0 && theirs.report.is_some()),
        );
        count("backups gone", same.going.len());
        count("backups gone, safe", safe.going.len());
        count("segments gone", same.segments.len());
        count("segments gone, safe", safe.segments.len());
    }
    // A comparison of nothing with nothing would pass too.
    assert!(seen.values().all(|times| *times > 10), "{seen:?}");
}

/// What goes beyond a run of Barman's goes in one in which another backup stood somewhere and was
/// obsolete there: what such a one left when it went.
fn assert_removed_with_ghosts(
    peer: &mut Peer,
    (world, catalog): (&World, &Catalog),
    mut beyond: Segments,
) {
    for above in &catalog.backups {
        if beyond.is_empty() {
            return;
        }
        let (haunted, ghost) = world.with_ghost(&above.id, above.timeline);
        let theirs = barman(peer, &haunted);
        if theirs.backups.contains(&BackupId::new(ghost)) {
            beyond.retain(|segment| !theirs.segments.contains(segment));
        }
    }
    assert!(beyond.is_empty(), "{beyond:?}: {}", world.question());
}
