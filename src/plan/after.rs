//! The world after an action: the model of an executor, for laws and previews.

use std::collections::BTreeMap;

use crate::model::{
    action::{Action, WalSpan},
    backup::{Backup, BackupId, BackupStatus},
    catalog::{Catalog, Finding, Run, Verified, WalArchive},
    names::DestinationName,
    observed::{Knowledge, Observed, Stored},
    record::{Epitaph, KeepRecord, Mark, SetBy, Tombstone},
    runs::Runs,
    snapshot::TaggedSnapshot,
    time::Timestamp,
    timeline::TimelineId,
    wal::SegmentNumber,
};

/// What would be observed once an action has succeeded. A new backup is `taken`, if the caller has one to give.
pub fn after(
    observed: &Observed,
    destination: &DestinationName,
    action: &Action,
    taken: Option<Backup>,
    now: Timestamp,
) -> Observed {
    let mut observed = observed.clone();
    let source = match action {
        Action::CopyBackup { from, .. } | Action::CopyWal { from, .. } => {
            let source = observed.destinations.get(from);
            source.and_then(|stored| stored.catalog.known().cloned())
        }
        _ => None,
    };
    let Some(stored) = observed.destinations.get_mut(destination) else {
        return observed;
    };
    let mut catalog = match std::mem::replace(&mut stored.catalog, Knowledge::Absent) {
        Knowledge::Known(catalog) => catalog,
        Knowledge::Absent => Catalog::default(),
        unknown @ Knowledge::Unknown(_) => {
            stored.catalog = unknown;
            return observed;
        }
    };
    apply(stored, &mut catalog, action, taken, now);
    if let Some(source) = source {
        copy(&source, &mut catalog, action);
    }
    if catalog != Catalog::default() {
        stored.catalog = Knowledge::Known(catalog);
    }
    observed
}

fn apply(
    stored: &mut Stored,
    catalog: &mut Catalog,
    action: &Action,
    taken: Option<Backup>,
    now: Timestamp,
) {
    match action {
        Action::TakeBackup { .. } => {
            let version = |backup: &Backup| (backup.id.clone(), backup.id.to_string());
            catalog.versions.extend(taken.iter().map(version));
            catalog.backups.extend(taken);
            catalog.backups.sort_by(|a, b| a.id.cmp(&b.id));
        }
        // What is copied comes from elsewhere, and is done by `after` itself.
        Action::CopyBackup { .. } | Action::CopyWal { .. } => {}
        Action::VerifyBackup { backup } => verify(catalog, backup, now),
        Action::FinishBackup { backup } => {
            with(catalog, backup, |found| found.status = BackupStatus::Done);
            forget(&mut stored.attempts, backup);
        }
        Action::AbandonAttempt { backup, parent } => {
            abandon(stored, catalog, backup, parent.as_ref());
        }
        Action::SetKeep {
            backup,
            target,
            until,
        } => {
            with(catalog, backup, |found| found.keep = Some(*target));
            let record = KeepRecord {
                backup: backup.clone(),
                target: *target,
                reason: String::new(),
                until: *until,
                set_at: now,
                by: SetBy::Policy,
            };
            remember(&mut stored.keep_records, backup, record);
        }
        Action::ReleaseKeep {
            backup,
            grace: Some(grace),
        } => {
            if let Knowledge::Known(records) = &mut stored.keep_records
                && let Some(record) = records.get_mut(backup)
            {
                record.until = Some(now + *grace);
            }
        }
        Action::ReleaseKeep { backup, .. } => {
            with(catalog, backup, |found| found.keep = None);
            forget(&mut stored.keep_records, backup);
        }
        Action::MarkDelete { backup, version } => {
            let mark = Mark {
                backup: backup.clone(),
                at: now,
                epitaph: epitaph(version),
            };
            remember(&mut stored.marks, backup, mark);
        }
        Action::Undelete { backup } => forget(&mut stored.marks, backup),
        Action::DeleteBackup { backup, version } => {
            delete(stored, catalog, backup);
            bury(&mut stored.tombstones, backup, version, now);
        }
        Action::DeleteOrphan { backup, .. } => {
            catalog.orphans.retain(|orphan| orphan.id != *backup);
        }
        Action::DeleteSnapshot { snapshot, .. } => {
            keep_snapshots(stored, |other| other.id != *snapshot);
        }
        Action::DeleteWal { spans } => remove(&mut catalog.wal, spans),
    }
}

fn delete(stored: &mut Stored, catalog: &mut Catalog, backup: &BackupId) {
    catalog.backups.retain(|other| other.id != *backup);
    catalog.versions.remove(backup);
    catalog.lost_snapshots.remove(backup);
    keep_snapshots(stored, |snapshot| snapshot.backup != *backup);
    forget(&mut stored.keep_records, backup);
    forget(&mut stored.marks, backup);
}

fn keep_snapshots(stored: &mut Stored, stays: impl Fn(&TaggedSnapshot) -> bool) {
    if let Knowledge::Known(snapshots) = &mut stored.snapshots {
        snapshots.retain(stays);
    }
}

fn abandon(
    stored: &mut Stored,
    catalog: &mut Catalog,
    backup: &BackupId,
    parent: Option<&BackupId>,
) {
    if let Some(parent) = parent {
        with(catalog, parent, |found| {
            found.children.retain(|child| child != backup);
        });
    }
    with(catalog, backup, |found| match found.status {
        BackupStatus::Started | BackupStatus::WaitingForWals => {
            found.status = BackupStatus::Failed;
        }
        _ => {}
    });
    forget(&mut stored.attempts, backup);
    if let Knowledge::Known(uploads) = &mut stored.uploads {
        uploads.retain(|upload| upload.backup != *backup);
    }
}

/// What is read back is found to be sound.
fn verify(catalog: &mut Catalog, backup: &BackupId, now: Timestamp) {
    let verified = Verified {
        at: now,
        finding: Finding::Sound,
    };
    catalog.verified.insert(backup.clone(), verified);
}

/// What is copied is there afterwards as it is where it comes from.
fn copy(source: &Catalog, catalog: &mut Catalog, action: &Action) {
    let mut insert = |span: &WalSpan| {
        let there: Runs = source
            .wal
            .runs
            .get(&span.timeline)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let wanted: Runs = [span.run].into_iter().collect();
        let runs = catalog.wal.runs.entry(span.timeline).or_default();
        let all: Runs = runs
            .drain(..)
            .chain(there.intersection(&wanted).iter())
            .collect();
        runs.extend(all.iter());
    };
    match action {
        Action::CopyBackup {
            backup, version, ..
        } => {
            let Some(found) = source.backup(backup) else {
                return;
            };
            if let (Some(begin), Some(end)) = (found.begin_wal, found.end_wal) {
                let size = found.segment_size;
                let (first, last) = (begin.number(size), end.number(size));
                for timeline in [begin.timeline, end.timeline] {
                    let run = Run { first, last };
                    insert(&WalSpan { timeline, run });
                }
            }
            let histories = source.wal.histories.clone();
            catalog.wal.histories.extend(histories);
            catalog.backups.push(found.clone());
            catalog.backups.sort_by(|a, b| a.id.cmp(&b.id));
            catalog.versions.insert(backup.clone(), version.clone());
            catalog.orphans.retain(|orphan| orphan.id != *backup);
        }
        Action::CopyWal {
            spans, histories, ..
        } => {
            spans.iter().for_each(&mut insert);
            let known = |timeline: &TimelineId| {
                let history = source.wal.histories.get(timeline)?;
                Some((*timeline, history.clone()))
            };
            catalog
                .wal
                .histories
                .extend(histories.iter().filter_map(known));
        }
        _ => {}
    }
}

type Records<T> = Knowledge<BTreeMap<BackupId, T>>;

fn forget<T>(records: &mut Records<T>, backup: &BackupId) {
    if let Knowledge::Known(records) = records {
        records.remove(backup);
    }
}

fn remember<T>(records: &mut Records<T>, backup: &BackupId, record: T) {
    match records {
        Knowledge::Known(records) => {
            records.insert(backup.clone(), record);
        }
        Knowledge::Absent => {
            *records = Knowledge::Known(BTreeMap::from([(backup.clone(), record)]));
        }
        Knowledge::Unknown(_) => {}
    }
}

fn bury(
    tombstones: &mut Knowledge<Vec<Tombstone>>,
    backup: &BackupId,
    version: &str,
    at: Timestamp,
) {
    let tombstone = Tombstone {
        backup: backup.clone(),
        at,
        epitaph: epitaph(version),
    };
    match tombstones {
        Knowledge::Known(tombstones) => tombstones.push(tombstone),
        Knowledge::Absent => *tombstones = Knowledge::Known(vec![tombstone]),
        Knowledge::Unknown(_) => {}
    }
}

fn epitaph(version: &str) -> Epitaph {
    Epitaph {
        version: version.to_owned(),
        reason: String::new(),
    }
}

fn with(catalog: &mut Catalog, id: &BackupId, change: impl FnOnce(&mut Backup)) {
    if let Some(backup) = catalog.backups.iter_mut().find(|backup| backup.id == *id) {
        change(backup);
    }
}

fn remove(wal: &mut WalArchive, spans: &[WalSpan]) {
    for span in spans {
        let Some(runs) = wal.runs.get_mut(&span.timeline) else {
            continue;
        };
        let kept = runs
            .iter()
            .flat_map(|run| outside(*run, span.run))
            .collect();
        *runs = kept;
    }
    wal.runs.retain(|_, runs| !runs.is_empty());
    wal.fragments.retain(|(timeline, segment)| {
        let holds = |span: &WalSpan| {
            span.timeline == *timeline && span.run.first <= *segment && *segment <= span.run.last
        };
        !spans.iter().any(holds)
    });
}

/// What of `run` lies before and behind `gone`.
fn outside(run: Run, gone: Run) -> impl Iterator<Item = Run> {
    if gone.last < run.first || gone.first > run.last {
        return [Some(run), None].into_iter().flatten();
    }
    let before = (run.first < gone.first).then(|| Run {
        first: run.first,
        last: SegmentNumber(gone.first.0 - 1),
    });
    let behind = (run.last > gone.last).then(|| Run {
        first: gone.last.next(),
        last: run.last,
    });
    [before, behind].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_cuts_a_run_in_two() {
        let run = |first, last| Run {
            first: SegmentNumber(first),
            last: SegmentNumber(last),
        };
        let cut = |gone| {
            outside(run(3, 9), gone)
                .map(|r| (r.first.0, r.last.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(cut(run(0, 2)), [(3, 9)]);
        assert_eq!(cut(run(0, 4)), [(5, 9)]);
        assert_eq!(cut(run(4, 5)), [(3, 3), (6, 9)]);
        assert_eq!(cut(run(9, 12)), [(3, 8)]);
        assert_eq!(cut(run(0, 12)), []);
    }
}
