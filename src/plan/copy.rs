//! What is missing from a copy: backups that its own retention wants, and the WAL that they need.
//!
//! A backup is copied once it is good where it is, if this destination would not delete it again at once. WAL follows where it is `healed`:
//! all that a backup here can reach. Afterwards a copy is independent: it is judged by its own retention, and what its source deletes
//! stays here. What is unknown about the source holds up copies from it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decision, Scene, Weight, expire, segments_in, trust};
use crate::model::{
    action::{Action, WalSpan},
    backup::{Backup, BackupId, BackupStatus, KeepTarget},
    catalog::{Catalog, Run},
    desired::Delivery,
    judge::Fate,
    names::DestinationName,
    observed::{Knowledge, Stored},
    reason::{Reason, Waiting},
    runs::Runs,
    timeline::TimelineId,
    wal::SegmentNumber,
};

/// How many segments one step copies. What is left follows in the next activation.
const SEGMENTS_MAX: u64 = 2048;

/// What should be copied here, from `source`.
pub(super) fn decide(scene: &Scene<'_>, source: &Scene<'_>) -> Decision {
    let from = &source.entry.destination;
    let catalog = match &source.stored.catalog {
        Knowledge::Known(catalog) => catalog,
        Knowledge::Absent => return Decision::default(),
        Knowledge::Unknown(_) => return waits_for(from),
    };
    // What is not known to be of one cluster is not mixed.
    if trust::additive(source).is_err() || !is_one_cluster(scene.stored, source.stored) {
        return waits_for(from);
    }
    let empty = Catalog::default();
    let own = scene.stored.catalog.known().unwrap_or(&empty);
    let mut decision = Decision::default();
    wal(scene, own, catalog, from, &mut decision);
    match scene.stored.tombstones.unknown() {
        None => backups(scene, own, catalog, from, &mut decision),
        // What was deleted here is not copied again.
        Some(why) => {
            let waiting = trust::unknown("the record of deletes", &why.message);
            decision.waiting.push(waiting);
        }
    }
    decision
}

fn waits_for(source: &DestinationName) -> Decision {
    Decision::wait(Waiting::Source {
        destination: source.clone(),
    })
}

fn is_one_cluster(here: &Stored, there: &Stored) -> bool {
    let system = |stored: &Stored| stored.identity.known().map(|identity| identity.system_id);
    match (system(here), system(there)) {
        (Some(here), Some(there)) => here == there,
        _ => true,
    }
}

fn backups(
    scene: &Scene<'_>,
    own: &Catalog,
    source: &Catalog,
    from: &DestinationName,
    decision: &mut Decision,
) {
    let missing = missing(scene, own, source);
    let Some((first, others)) = missing.split_first() else {
        return;
    };
    let version = source.versions.get(&first.id).cloned().unwrap_or_default();
    let action = Action::CopyBackup {
        backup: first.id.clone(),
        from: from.clone(),
        version,
    };
    let reason = Reason::NotCopied {
        from: from.clone(),
        more: others.len(),
    };
    let weight = Weight {
        bytes: first.stored_bytes(),
        segments: 0,
    };
    decision.step(scene, action, reason, weight);
}

/// The good backups that should be here and are not, newest first; what an incremental builds on comes before it.
fn missing<'a>(scene: &Scene<'_>, own: &Catalog, source: &'a Catalog) -> Vec<&'a Backup> {
    let present: BTreeSet<&BackupId> = own.backups.iter().map(|backup| &backup.id).collect();
    let deleted = scene.stored.tombstones.known().into_iter().flatten();
    let deleted: BTreeSet<&BackupId> = deleted.map(|tombstone| &tombstone.backup).collect();
    let mut candidates: Vec<&Backup> = source
        .backups
        .iter()
        .filter(|backup| source.is_good(backup))
        .filter(|backup| !present.contains(&backup.id) && !own.unreadable.contains_key(&backup.id))
        .filter(|backup| !deleted.contains(&backup.id))
        .collect();
    // Not without what it builds on, which may have been deleted here.
    let mut count = usize::MAX;
    while candidates.len() < count {
        count = candidates.len();
        let there: BTreeSet<&BackupId> = candidates.iter().map(|backup| &backup.id).collect();
        candidates.retain(|backup| {
            let parent = backup.parent.as_ref();
            parent.is_none_or(|id| there.contains(id) || is_done(own, id))
        });
    }
    if candidates.is_empty() {
        return candidates;
    }
    let verdicts = expire::judge(
        &Scene {
            stored: &with(scene.stored, own, source, &candidates),
            ..*scene
        },
        BTreeMap::new(),
    );
    let mut wanted: Vec<&Backup> = candidates
        .into_iter()
        .filter(|backup| {
            let verdict = verdicts.get(&backup.id);
            verdict.is_some_and(|verdict| verdict.fate != Fate::Expire)
        })
        .collect();
    wanted.reverse();
    wanted.sort_by_key(|backup| expire::depth(source, backup));
    wanted
}

fn is_done(catalog: &Catalog, id: &BackupId) -> bool {
    let backup = catalog.backup(id);
    backup.is_some_and(|backup| backup.status == BackupStatus::Done)
}

/// This destination as it would be with some backups of its source.
fn with(stored: &Stored, own: &Catalog, source: &Catalog, backups: &[&Backup]) -> Stored {
    let mut catalog = own.clone();
    catalog.backups.extend(backups.iter().copied().cloned());
    catalog.backups.sort_by(|a, b| a.id.cmp(&b.id));
    catalog.wal.absorb(source.wal.clone());
    Stored {
        catalog: Knowledge::Known(catalog),
        ..stored.clone()
    }
}

fn wal(
    scene: &Scene<'_>,
    own: &Catalog,
    source: &Catalog,
    from: &DestinationName,
    decision: &mut Decision,
) {
    let spans = first_of(&missing_wal(scene, own, source), SEGMENTS_MAX);
    let histories: Vec<TimelineId> = match scene.entry.delivery {
        Delivery::None => Vec::new(),
        Delivery::Healed | Delivery::Required => {
            let known = |timeline: &&TimelineId| own.wal.histories.contains_key(timeline);
            let all = source.wal.histories.keys();
            all.filter(|timeline| !known(timeline)).copied().collect()
        }
    };
    if spans.is_empty() && (histories.is_empty() || own.backups.is_empty()) {
        return;
    }
    let weight = Weight {
        bytes: 0,
        segments: segments_in(&spans),
    };
    let action = Action::CopyWal {
        from: from.clone(),
        spans,
        histories,
    };
    let reason = Reason::WalNotCopied { from: from.clone() };
    decision.step(scene, action, reason, weight);
}

/// The WAL of the source that a backup here can reach and that is not here.
pub(super) fn missing_wal(scene: &Scene<'_>, own: &Catalog, source: &Catalog) -> Vec<WalSpan> {
    if scene.entry.delivery == Delivery::None {
        return Vec::new();
    }
    let reach = |backup: &Backup, timeline: TimelineId| {
        let begin = backup.begin_wal?;
        let history = source.wal.history(timeline);
        let left = history.left_at(begin.timeline);
        left.map(|_| begin.number(backup.segment_size))
    };
    let counts = |backup: &&Backup| {
        let standalone = backup.keep == Some(KeepTarget::Standalone);
        let status = backup.status;
        !standalone && matches!(status, BackupStatus::Done | BackupStatus::WaitingForWals)
    };
    let mut spans = Vec::new();
    for (timeline, there) in &source.wal.runs {
        let backups = own.backups.iter().filter(counts);
        let Some(first) = backups.filter_map(|backup| reach(backup, *timeline)).min() else {
            continue;
        };
        let there: Runs = there.iter().copied().collect();
        let wanted: Runs = [Run {
            first,
            last: SegmentNumber(u64::MAX),
        }]
        .into_iter()
        .collect();
        let mut missing = there.intersection(&wanted);
        for run in own.wal.runs.get(timeline).into_iter().flatten() {
            missing.remove(*run);
        }
        let timeline = *timeline;
        spans.extend(missing.iter().map(|run| WalSpan { timeline, run }));
    }
    spans
}

/// The first so many segments of some spans.
pub(super) fn first_of(spans: &[WalSpan], mut left: u64) -> Vec<WalSpan> {
    let mut first = Vec::new();
    for span in spans {
        if left == 0 {
            break;
        }
        let segments = span.run.segments().min(left);
        left -= segments;
        let run = Run {
            first: span.run.first,
            last: SegmentNumber(span.run.first.0 + segments - 1),
        };
        first.push(WalSpan { run, ..*span });
    }
    first
}

/// Whether a step deletes WAL that a copy still has to get.
pub(super) fn takes_away(action: &Action, wanted: &[WalSpan]) -> bool {
    let Action::DeleteWal { spans } = action else {
        return false;
    };
    let is_wanted = |span: &WalSpan| wanted.iter().any(|want| want.overlaps(span));
    spans.iter().any(is_wanted)
}

#[cfg(test)]
mod tests;
