//! The world after an action: the model of an executor, for laws and previews.

use crate::model::{
    action::{Action, WalSpan},
    backup::{Backup, BackupId, BackupStatus},
    catalog::{Catalog, Run, WalArchive},
    names::DestinationName,
    observed::{Knowledge, Observed, Stored},
    record::KeepRecord,
    time::Timestamp,
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
    let Some(stored) = observed.destinations.get_mut(destination) else {
        return observed;
    };
    if matches!(stored.catalog, Knowledge::Absent) && taken.is_some() {
        stored.catalog = Knowledge::Known(Catalog::default());
    }
    apply(stored, action, taken, now);
    observed
}

fn apply(stored: &mut Stored, action: &Action, taken: Option<Backup>, now: Timestamp) {
    let Knowledge::Known(catalog) = &mut stored.catalog else {
        return;
    };
    match action {
        Action::TakeBackup { .. } => {
            catalog.backups.extend(taken);
            catalog.backups.sort_by(|a, b| a.id.cmp(&b.id));
        }
        Action::FinishBackup { backup } => {
            with(catalog, backup, |backup| backup.status = BackupStatus::Done);
            forget_attempt(stored, backup);
        }
        Action::AbandonAttempt { backup } => {
            with(catalog, backup, |backup| {
                backup.status = BackupStatus::Failed;
            });
            forget_attempt(stored, backup);
        }
        Action::SetKeep {
            backup,
            target,
            until,
        } => {
            with(catalog, backup, |backup| backup.keep = Some(*target));
            let record = KeepRecord {
                backup: backup.clone(),
                target: *target,
                reason: String::new(),
                until: *until,
                set_at: now,
            };
            if let Knowledge::Known(records) = &mut stored.keep_records {
                records.insert(backup.clone(), record);
            }
        }
        Action::ReleaseKeep { backup } => {
            with(catalog, backup, |backup| backup.keep = None);
            if let Knowledge::Known(records) = &mut stored.keep_records {
                records.remove(backup);
            }
        }
        Action::AbortUpload { id, .. } => stored.uploads.retain(|upload| upload.id != *id),
        Action::DeleteBackup { backup, .. } => {
            catalog.backups.retain(|other| other.id != *backup);
            if let Knowledge::Known(tombstones) = &mut stored.tombstones {
                tombstones.push(crate::model::record::Tombstone {
                    backup: backup.clone(),
                    at: now,
                    reason: String::new(),
                    plan: String::new(),
                });
            }
        }
        Action::DeleteOrphan { backup, .. } => {
            catalog.orphans.retain(|orphan| orphan.id != *backup);
        }
        Action::DeleteWal { spans } => remove(&mut catalog.wal, spans),
    }
}

fn with(catalog: &mut Catalog, id: &BackupId, change: impl FnOnce(&mut Backup)) {
    if let Some(backup) = catalog.backups.iter_mut().find(|backup| backup.id == *id) {
        change(backup);
    }
}

fn forget_attempt(stored: &mut Stored, backup: &BackupId) {
    if let Knowledge::Known(attempts) = &mut stored.attempts {
        attempts.remove(backup);
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
