//! A second pair of eyes: what holds of every plan, checked against what was observed.
//!
//! The guard knows nothing of the planner and shares none of its judgement; it restates each invariant in the simplest words, and may be
//! stricter than needed. A violation refuses the destructive steps of that destination; what only adds always runs. Only the guard
//! makes a [`Guarded`] plan, and only such a plan is executed.

use std::collections::BTreeSet;

use super::{Plan, Step, trust::OBSERVATION_AGE_MAX};
use crate::model::{
    action::{Action, Effect, WalSpan},
    backup::{Backup, BackupId, BackupStatus, KeepTarget},
    catalog::{Catalog, WalArchive},
    desired::{Entry, Mode, ObjectLock, Server},
    lock::Lock,
    names::DestinationName,
    observed::{Knowledge, Observed, Stored},
    time::Timestamp,
    wal::SegmentNumber,
};

mod past;
mod snapshot;
mod violation;

pub use violation::{Refusal, Violation};

/// A plan that the guard let through: with its destructive steps, or without those that it refused.
#[derive(Clone, Debug)]
pub struct Guarded {
    plan: Plan,
    refusals: Vec<Refusal>,
}

impl Guarded {
    /// What may be executed.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What was refused.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }
}

/// Who asks for the deletes: a policy, or a person who names each backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The policy: every invariant holds.
    ByPolicy,
    /// The policy, and a person who has approved exactly this plan: the budget and a policy that was shortened do not hold it up.
    Approved,
    /// A person: damaged, unfinished and surplus backups may go, kept ones and the minimum may not.
    ByName,
    /// A command line of Barman's: as by name, but how many backups stay is for it to say, and whether any.
    AsBarman,
}

impl Asked {
    /// Whether nobody has named what is deleted.
    fn is_policy(self) -> bool {
        matches!(self, Self::ByPolicy | Self::Approved)
    }
}

/// Checks a plan's destructive steps against what was observed, and takes out those of a destination where an invariant is broken.
pub fn guard(
    mut plan: Plan,
    server: &Server,
    observed: &Observed,
    asked: Asked,
    now: Timestamp,
) -> Guarded {
    let mut refusals = within_mode(&mut plan, server.mode, asked);
    refusals.extend(copies(&mut plan, server, observed));
    let destinations: BTreeSet<DestinationName> = plan
        .steps
        .iter()
        .map(|step| step.destination.clone())
        .collect();
    for destination in destinations {
        let steps: Vec<&Step> = destructive(&plan, &destination);
        if steps.is_empty() {
            continue;
        }
        let entry = server.entry(&destination);
        let minimum = match asked {
            Asked::AsBarman => 0,
            Asked::ByPolicy | Asked::Approved | Asked::ByName => {
                entry.map_or(1, |entry| entry.minimum_redundancy)
            }
        };
        let inspection = Inspection {
            entry,
            stored: observed.destinations.get(&destination),
            observed,
            steps: &steps,
            kept: kept(&plan, &destination),
            object_lock: match asked {
                // It looks itself, if it is asked to.
                Asked::AsBarman => ObjectLock::Ignore,
                Asked::ByPolicy | Asked::Approved | Asked::ByName => {
                    entry.map_or(ObjectLock::Respect, |entry| entry.object_lock)
                }
            },
            minimum: usize::try_from(minimum).unwrap_or(usize::MAX),
            asked,
            now,
        };
        let found = inspection.violations();
        let refused = |violation| Refusal {
            destination: destination.clone(),
            violation,
        };
        refusals.extend(found.into_iter().map(refused));
    }
    let refused: BTreeSet<_> = refusals
        .iter()
        .map(|refusal| refusal.destination.clone())
        .collect();
    plan.steps.retain(|step| {
        step.action.effect() == Effect::Additive || !refused.contains(&step.destination)
    });
    Guarded { plan, refusals }
}

/// Takes out what the server's mode forbids: it may have changed since the plan was saved. A person who names a backup is no policy.
fn within_mode(plan: &mut Plan, mode: Mode, asked: Asked) -> Vec<Refusal> {
    let forbidden = |step: &Step| asked.is_policy() && !mode.allows(step.action.effect());
    let refused: BTreeSet<_> = plan
        .steps
        .iter()
        .filter(|step| forbidden(step))
        .map(|step| step.destination.clone())
        .collect();
    plan.steps.retain(|step| !forbidden(step));
    let refusal = |destination| Refusal {
        destination,
        violation: Violation::Mode(mode),
    };
    refused.into_iter().map(refusal).collect()
}

/// Takes out copies that are not of what is good in the destination that the configuration names. Other steps are not affected.
fn copies(plan: &mut Plan, server: &Server, observed: &Observed) -> Vec<Refusal> {
    let is_allowed = |step: &Step| {
        let (from, backup) = match &step.action {
            Action::CopyBackup { from, backup, .. } => (from, Some(backup)),
            Action::CopyWal { from, .. } => (from, None),
            _ => return true,
        };
        let entry = server.entry(&step.destination);
        let source = observed.destinations.get(from);
        let catalog = source.and_then(|stored| stored.catalog.known());
        let found = |id| catalog.and_then(|catalog| Some((catalog, catalog.backup(id)?)));
        let good = backup.is_none_or(|id| {
            found(id).is_some_and(|(catalog, found)| {
                found.status == BackupStatus::Done && is_whole(catalog, found)
            })
        });
        entry.and_then(|entry| entry.copy_of.as_ref()) == Some(from) && catalog.is_some() && good
    };
    let (stay, out): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.steps)
        .into_iter()
        .partition(is_allowed);
    plan.steps = stay;
    let refusal = |step: Step| Refusal {
        violation: Violation::NotToCopy(step.describe()),
        destination: step.destination,
    };
    out.into_iter().map(refusal).collect()
}

/// The backups that the plan itself keeps.
fn kept<'a>(plan: &'a Plan, destination: &DestinationName) -> BTreeSet<&'a BackupId> {
    let of = |step: &&Step| {
        step.destination == *destination && matches!(step.action, Action::SetKeep { .. })
    };
    let keeps = plan.steps.iter().filter(of);
    keeps.filter_map(|step| step.action.backup()).collect()
}

fn destructive<'a>(plan: &'a Plan, destination: &DestinationName) -> Vec<&'a Step> {
    let of = |step: &&Step| {
        step.destination == *destination && step.action.effect() == Effect::Destructive
    };
    plan.steps.iter().filter(of).collect()
}

struct Inspection<'a> {
    stored: Option<&'a Stored>,
    observed: &'a Observed,
    steps: &'a [&'a Step],
    kept: BTreeSet<&'a BackupId>,
    object_lock: ObjectLock,
    minimum: usize,
    entry: Option<&'a Entry>,
    asked: Asked,
    now: Timestamp,
}

impl Inspection<'_> {
    fn violations(&self) -> Vec<Violation> {
        let Some(stored) = self.stored else {
            return vec![Violation::Unknown("the destination")];
        };
        let catalog = match &stored.catalog {
            Knowledge::Known(catalog) => catalog,
            Knowledge::Absent | Knowledge::Unknown(_) => {
                return vec![Violation::Unknown("the catalog")];
            }
        };
        let mut violations = self.knowledge(stored, catalog);
        for id in self.doomed() {
            violations.extend(self.on_backup(stored, catalog, id));
        }
        for step in self.steps {
            violations.extend(on_orphan(stored, catalog, &step.action));
            violations.extend(self.on_snapshot(stored, catalog, &step.action));
            violations.extend(self.on_locks(stored, &step.action));
            violations.extend(self.on_release(stored, &step.action));
        }
        violations.extend(self.on_past(stored, catalog));
        violations.extend(self.on_redundancy(catalog));
        violations.extend(self.on_wal(catalog));
        violations
    }

    fn knowledge(&self, stored: &Stored, catalog: &Catalog) -> Vec<Violation> {
        let mut violations = Vec::new();
        let unknown = |found: bool, what| found.then_some(Violation::Unknown(what));
        violations.extend(unknown(stored.identity.unknown().is_some(), "the identity"));
        violations.extend(unknown(
            stored.attempts.unknown().is_some(),
            "the record of attempts",
        ));
        if self.asked.is_policy() {
            let silent = self.observed.postgres.unknown().is_some();
            violations.extend(unknown(silent, "the server"));
            let snapshots = stored.snapshots.unknown().is_some();
            violations.extend(unknown(snapshots, "what snapshots of disks there are"));
            let tombstones = stored.tombstones.unknown().is_some();
            violations.extend(unknown(tombstones, "the record of deletes"));
            violations.extend(unknown(
                stored.store_time.known().is_none(),
                "the store's clock",
            ));
            violations.extend(
                catalog
                    .unreadable
                    .keys()
                    .cloned()
                    .map(Violation::Unreadable),
            );
        }
        if self.now.since(stored.read_at) > OBSERVATION_AGE_MAX {
            violations.push(Violation::Old);
        }
        let pinned = stored.identity.known().map(|identity| identity.system_id);
        let present = self.observed.postgres.known().map(|facts| facts.system_id);
        if let (Some(pinned), Some(present)) = (pinned, present)
            && pinned != present
        {
            violations.push(Violation::ForeignSystem);
        }
        violations
    }

    /// The backups that the steps delete.
    fn deleted(&self) -> BTreeSet<&BackupId> {
        self.of(|action| matches!(action, Action::DeleteBackup { .. }))
    }

    /// These, and those that they mark.
    fn doomed(&self) -> BTreeSet<&BackupId> {
        self.of(|action| {
            let marks_backup =
                |action: &Action| matches!(action, Action::MarkDelete { version, .. } if !version.is_empty());
            marks_backup(action) || matches!(action, Action::DeleteBackup { .. })
        })
    }

    fn of(&self, wanted: impl Fn(&Action) -> bool) -> BTreeSet<&BackupId> {
        let steps = self.steps.iter().filter(|step| wanted(&step.action));
        steps.filter_map(|step| step.action.backup()).collect()
    }

    fn on_backup(&self, stored: &Stored, catalog: &Catalog, id: &BackupId) -> Vec<Violation> {
        let Some(backup) = catalog.backup(id) else {
            return vec![Violation::NoSuchBackup(id.clone())];
        };
        let mut violations = Vec::new();
        if backup.keep.is_some() || self.kept.contains(id) {
            violations.push(Violation::Kept(id.clone()));
        }
        let attempted = stored
            .attempts
            .known()
            .is_some_and(|all| all.contains_key(id));
        let unfinished = match self.asked {
            Asked::ByPolicy | Asked::Approved => {
                attempted || !matches!(backup.status, BackupStatus::Done | BackupStatus::Failed)
            }
            Asked::ByName | Asked::AsBarman => attempted,
        };
        if unfinished {
            violations.push(Violation::Unfinished(id.clone()));
        }
        // What somebody has begun to delete is damaged by that.
        let begun = stored
            .tombstones
            .known()
            .is_some_and(|tombstones| tombstones.iter().any(|tombstone| tombstone.backup == *id));
        let done = backup.status == BackupStatus::Done;
        if self.asked.is_policy() && done && !begun && !is_whole(catalog, backup) {
            violations.push(Violation::Damaged(id.clone()));
        }
        let deleted = self.deleted();
        let child = catalog.backups.iter().find(|other| {
            let builds = other.parent.as_ref() == Some(id) || backup.children.contains(&other.id);
            // A mark takes nothing away from whatever builds on it.
            deleted.contains(id) && builds && !is_nothing(other) && !deleted.contains(&other.id)
        });
        violations.extend(child.map(|child| Violation::Parent {
            parent: id.clone(),
            child: child.id.clone(),
        }));
        violations
    }

    /// Whether all that a step deletes is known to be free.
    fn on_locks(&self, stored: &Stored, action: &Action) -> Vec<Violation> {
        if self.object_lock == ObjectLock::Ignore {
            return Vec::new();
        }
        let locks = stored.locks.known();
        let asked: Vec<(String, Option<Lock>)> = match action {
            Action::DeleteBackup { backup, .. } | Action::DeleteOrphan { backup, .. } => {
                let lock = locks.and_then(|locks| locks.directory(backup));
                vec![(format!("backup {backup}"), lock)]
            }
            Action::DeleteWal { spans } => {
                let lock = |span| locks.and_then(|locks| locks.span(span));
                let each = spans.iter().map(|span| ("WAL".to_owned(), lock(span)));
                each.collect()
            }
            _ => Vec::new(),
        };
        // Retention counts by the earlier clock.
        let store = stored.store_time.known().copied();
        let now = store.map_or(self.now, |store| store.min(self.now));
        let refused = asked.into_iter().filter_map(|(what, lock)| {
            let lock = lock.unwrap_or_else(|| Lock::Unknown("nobody has looked".to_owned()));
            (!lock.is_free(now)).then_some(Violation::Locked { what, lock })
        });
        refused.collect()
    }

    fn on_release(&self, stored: &Stored, action: &Action) -> Option<Violation> {
        let Action::ReleaseKeep { backup, grace } = action else {
            return None;
        };
        let records = stored.keep_records.known();
        let until = records.and_then(|records| records.get(backup)?.until);
        let ended = until.is_some_and(|until| until <= self.now);
        let ours = match grace {
            None => ended || !self.asked.is_policy(),
            Some(grace) => self.may_end(stored, backup, *grace),
        };
        (!ours).then(|| Violation::NotReleasable(backup.clone()))
    }

    fn on_redundancy(&self, catalog: &Catalog) -> Vec<Violation> {
        let deleted = self.doomed();
        let good =
            |backup: &&Backup| backup.status == BackupStatus::Done && is_whole(catalog, backup);
        let before: Vec<&Backup> = catalog.backups.iter().filter(good).collect();
        let left = before
            .iter()
            .filter(|backup| !deleted.contains(&backup.id))
            .count();
        let mut violations = Vec::new();
        if left < before.len() && left < self.minimum {
            violations.push(Violation::MinimumRedundancy {
                left,
                minimum: self.minimum,
            });
        }
        if self.asked.is_policy() {
            let good = newest(before.iter().copied());
            let clean = |backup: &&Backup| !catalog.page_damage.contains(&backup.id);
            let clean = newest(before.iter().copied().filter(clean)).filter(|id| good != Some(*id));
            let goes = |id: &&BackupId| deleted.contains(*id);
            violations.extend(good.filter(goes).cloned().map(Violation::NewestGood));
            violations.extend(clean.filter(goes).cloned().map(Violation::NewestClean));
        }
        violations
    }

    fn on_wal(&self, catalog: &Catalog) -> Vec<Violation> {
        let spans: Vec<&WalSpan> = self
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::DeleteWal { spans } => Some(spans),
                _ => None,
            })
            .flatten()
            .collect();
        if spans.is_empty() {
            return Vec::new();
        }
        let deleted = self.deleted();
        let counts = |backup: &Backup| match self.asked {
            Asked::ByPolicy | Asked::Approved | Asked::ByName => !is_nothing(backup),
            // Barman leaves a backup whose process died STARTED for ever; WAL would, too.
            Asked::AsBarman => is_copied(backup),
        };
        let stays = |backup: &&Backup| counts(backup) && !deleted.contains(&backup.id);
        let staying: Vec<&Backup> = catalog.backups.iter().filter(stays).collect();
        let mut violations = Vec::new();
        let good =
            |backup: &&&Backup| backup.status == BackupStatus::Done && is_whole(catalog, backup);
        if self.asked != Asked::AsBarman && staying.iter().find(good).is_none() {
            violations.push(Violation::WalWithoutBackup);
        }
        let wal = &catalog.wal;
        violations.extend(
            staying
                .iter()
                .filter_map(|backup| needed(wal, backup, &spans)),
        );
        violations
    }
}

/// The backup that ended last.
fn newest<'a>(backups: impl Iterator<Item = &'a Backup>) -> Option<&'a BackupId> {
    let last = backups.max_by_key(|backup| (backup.end_time, &backup.id));
    last.map(|backup| &backup.id)
}

/// Whether what is deleted as an orphan is one: unnamed, unkept, and nothing younger than what was judged.
fn on_orphan(stored: &Stored, catalog: &Catalog, action: &Action) -> Option<Violation> {
    let Action::DeleteOrphan { backup, newest } = action else {
        return None;
    };
    let mut orphans = catalog.orphans.iter();
    let orphan = orphans.find(|orphan| orphan.id == *backup);
    let untouched = orphan.is_some_and(|o| o.keep.is_none() && o.newest <= *newest);
    let named = catalog.backup(backup).is_some() || catalog.unreadable.contains_key(backup);
    let attempted = stored
        .attempts
        .known()
        .is_some_and(|all| all.contains_key(backup));
    let sending = match &stored.uploads {
        Knowledge::Known(uploads) => uploads
            .iter()
            .any(|upload| upload.backup == *backup && upload.begun_at > *newest),
        Knowledge::Absent => false,
        Knowledge::Unknown(_) => true,
    };
    let mut others = catalog.backups.iter();
    let is_parent = others.any(|other| other.parent.as_ref() == Some(backup) && !is_nothing(other));
    let is_orphan = untouched && !named && !attempted && !sending && !is_parent;
    (!is_orphan).then(|| Violation::NotOrphaned(backup.clone()))
}

/// Whether spans hold a segment that a backup needs, on its own timeline or on one that descends from it.
fn needed(wal: &WalArchive, backup: &Backup, spans: &[&WalSpan]) -> Option<Violation> {
    let begin = backup.begin_wal?;
    let size = backup.segment_size;
    let first = begin.number(size);
    // Kept standalone, a backup needs only what makes it consistent; otherwise all that follows, on every branch.
    let (last, branches) = match (backup.keep, backup.end_wal) {
        (Some(KeepTarget::Standalone), Some(end)) => (end.number(size), Branches::None),
        _ => (SegmentNumber(u64::MAX), Branches::All),
    };
    let reaches = |span: &WalSpan| {
        let descends = || wal.history(span.timeline).left_at(begin.timeline).is_some();
        span.timeline == begin.timeline || (branches == Branches::All && descends())
    };
    let hit = spans
        .iter()
        .find(|span| reaches(span) && span.run.first <= last && span.run.last >= first)?;
    let segment = hit.run.first.max(first).name(hit.timeline, size);
    Some(Violation::WalNeeded {
        backup: backup.id.clone(),
        first: segment.to_string(),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Branches {
    None,
    All,
}

/// Whether nobody can restore from it, nor ever will.
fn is_nothing(backup: &Backup) -> bool {
    matches!(backup.status, BackupStatus::Failed | BackupStatus::Empty)
}

/// Whether its files are all stored.
fn is_copied(backup: &Backup) -> bool {
    matches!(
        backup.status,
        BackupStatus::Done | BackupStatus::WaitingForWals
    )
}

/// Whether archives and WAL of a backup are all there, told in the simplest way: each segment on the timeline that it began or ended on.
fn is_whole(catalog: &Catalog, backup: &Backup) -> bool {
    let (Some(begin), Some(end)) = (backup.begin_wal, backup.end_wal) else {
        return false;
    };
    let size = backup.segment_size;
    let mut next = begin.number(size);
    while next <= end.number(size) {
        let on = |timeline| catalog.wal.contiguous_until(timeline, next);
        let Some(until) = on(begin.timeline).max(on(end.timeline)) else {
            return false;
        };
        next = until.next();
    }
    !catalog.is_in_part(backup)
}

#[cfg(test)]
mod tests;
