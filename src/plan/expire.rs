//! What has become obsolete: backups by the judgement, WAL by what stays, failed backups and orphans by age.
//!
//! Deletes are ordered dependents first, then oldest first, WAL last: killed half-way, what remains is still usable. The budget trims the
//! newest candidates; what it withholds is listed.

use std::{collections::BTreeSet, time::Duration};

use super::{Budget, Decision, Scene, Step, Weight, segments_in, trust};
use crate::model::{
    action::Action,
    backup::{Backup, BackupId, BackupStatus},
    catalog::Catalog,
    judge::{self, Facts, Fate, Rule, Verdicts},
    reason::{Reason, Waiting},
    recovery::{RecoveryWindow, recovery_window},
    semantics::SAFE,
    time::Timestamp,
    wal_expiry::{Going, WantedBy, wal_expiry},
};

/// The rolling span that the budget is counted over.
const BUDGET_SPAN: Duration = Duration::from_hours(24);

/// The judgement on every backup.
pub(super) fn judge(scene: &Scene<'_>) -> Verdicts {
    let Some(catalog) = scene.stored.catalog.known() else {
        return Verdicts::default();
    };
    let rule = Rule {
        policy: scene.entry.retention,
        minimum_redundancy: scene.entry.minimum_redundancy,
    };
    let facts = Facts::at(trust::expiry_now(scene)).in_zone(&scene.entry.zone);
    judge::judge(catalog, &rule, &facts, SAFE)
}

/// How many backups may be deleted in 24 hours, and how many were.
pub(super) fn budget(scene: &Scene<'_>) -> Budget {
    let now = trust::expiry_now(scene);
    let used = scene.stored.tombstones.known().map_or(0, |tombstones| {
        let recent = |at: Timestamp| now.since(at) < BUDGET_SPAN;
        tombstones
            .iter()
            .filter(|tombstone| recent(tombstone.at))
            .count()
    });
    let present = scene
        .stored
        .catalog
        .known()
        .map_or(0, |catalog| catalog.backups.len());
    let limits = scene.entry.deletes;
    let percent = usize::try_from(limits.percent_max).unwrap_or(usize::MAX);
    let share = (present + used).saturating_mul(percent) / 100;
    Budget {
        allowed: limits.backups_max.min(share.max(1)),
        used,
    }
}

pub(super) fn decide(scene: &Scene<'_>, verdicts: &Verdicts, budget: Budget) -> Decision {
    let mut decision = Decision::default();
    let Some(catalog) = scene.stored.catalog.known() else {
        return decision;
    };
    let mut left = budget.left();
    let begun = begun(scene, catalog);
    for backup in &begun {
        let weight = Weight {
            bytes: backup.stored_bytes(),
            segments: 0,
        };
        decision.step(
            scene,
            delete(catalog, &backup.id),
            Reason::DeleteBegun,
            weight,
        );
    }
    for (backup, reason) in candidates(scene, catalog, verdicts) {
        if begun.contains(&backup) {
            continue;
        }
        if left == 0 {
            let waiting = Waiting::Budget {
                backup: backup.id.clone(),
                allowed: budget.allowed,
            };
            decision.waiting.push(waiting);
            continue;
        }
        left -= 1;
        let action = delete(catalog, &backup.id);
        let weight = Weight {
            bytes: backup.stored_bytes(),
            segments: 0,
        };
        decision.step(scene, action, reason, weight);
    }
    orphans(scene, catalog, &mut decision);
    wal(scene, catalog, verdicts, &mut decision);
    decision
}

/// Backups whose deletion was begun and not ended: they are in the budget already.
fn begun<'a>(scene: &Scene<'_>, catalog: &'a Catalog) -> Vec<&'a Backup> {
    let Some(tombstones) = scene.stored.tombstones.known() else {
        return Vec::new();
    };
    let is_begun = |backup: &&Backup| {
        backup.keep.is_none()
            && tombstones
                .iter()
                .any(|tombstone| tombstone.backup == backup.id)
    };
    catalog.backups.iter().filter(is_begun).collect()
}

/// The deletion of a backup as it was read.
pub(super) fn delete(catalog: &Catalog, id: &BackupId) -> Action {
    let version = catalog.versions.get(id).cloned().unwrap_or_default();
    Action::DeleteBackup {
        backup: id.clone(),
        version,
    }
}

/// What may go, in the order in which it goes.
fn candidates<'a>(
    scene: &Scene<'_>,
    catalog: &'a Catalog,
    verdicts: &Verdicts,
) -> Vec<(&'a Backup, Reason)> {
    let expired = catalog.backups.iter().filter_map(|backup| {
        let verdict = verdicts.get(&backup.id)?;
        let reason = verdict.reasons.first()?.clone();
        (verdict.fate == Fate::Expire).then_some((backup, reason))
    });
    let failed = catalog
        .backups
        .iter()
        .filter_map(|backup| failed_long_ago(scene, backup));
    let mut candidates: Vec<_> = expired.chain(failed).collect();
    candidates.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    // An incremental goes before what it builds on: half-way, no chain lacks its beginning.
    candidates.sort_by_key(|(backup, _)| std::cmp::Reverse(depth(catalog, backup)));
    candidates
}

/// How many backups a backup builds on.
fn depth(catalog: &Catalog, backup: &Backup) -> usize {
    let parent = |backup: &&Backup| backup.parent.as_ref().and_then(|id| catalog.backup(id));
    // A circle cannot be followed for ever.
    std::iter::successors(Some(backup), parent)
        .take(catalog.backups.len())
        .count()
        - 1
}

fn failed_long_ago<'a>(scene: &Scene<'_>, backup: &'a Backup) -> Option<(&'a Backup, Reason)> {
    let after = scene.entry.failed_after?;
    let is_ours = scene.stored.attempts.known()?.contains_key(&backup.id);
    let since = backup.end_time.or(backup.begin_time).or_else(|| {
        backup
            .id
            .local_time()
            .and_then(|local| scene.entry.zone.instant(local))
    })?;
    let old = trust::expiry_now(scene).since(since) > after;
    let may_go = backup.status == BackupStatus::Failed && backup.keep.is_none() && !is_ours && old;
    may_go.then_some((backup, Reason::FailedLongAgo { since }))
}

fn orphans(scene: &Scene<'_>, catalog: &Catalog, decision: &mut Decision) {
    let Some(after) = scene.entry.orphans_after else {
        return;
    };
    let attempts = scene.stored.attempts.known();
    for orphan in &catalog.orphans {
        let is_ours = attempts.is_some_and(|attempts| attempts.contains_key(&orphan.id));
        let uploads = scene
            .stored
            .uploads
            .iter()
            .filter(|upload| upload.backup == orphan.id);
        let newest = uploads
            .map(|upload| upload.begun_at)
            .chain([orphan.newest])
            .max();
        let newest = newest.unwrap_or(orphan.newest);
        if is_ours || trust::expiry_now(scene).since(newest) <= after {
            continue;
        }
        let action = Action::DeleteOrphan {
            backup: orphan.id.clone(),
            newest,
        };
        let weight = Weight {
            bytes: orphan.bytes,
            segments: 0,
        };
        decision.step(
            scene,
            action,
            Reason::OrphanedSince { since: newest },
            weight,
        );
    }
}

/// WAL that nothing needs once the steps decided so far are done. What the budget withholds keeps its WAL.
fn wal(scene: &Scene<'_>, catalog: &Catalog, verdicts: &Verdicts, decision: &mut Decision) {
    let going = Going {
        backups: going(&decision.steps),
        wanted_by: WantedBy::Policy,
    };
    let spans = wal_expiry(catalog, verdicts, &going, SAFE);
    if spans.is_empty() {
        return;
    }
    let weight = Weight {
        bytes: 0,
        segments: segments_in(&spans),
    };
    decision.step(
        scene,
        Action::DeleteWal { spans },
        Reason::WalUnneeded,
        weight,
    );
}

/// The backups that steps delete.
fn going(steps: &[Step]) -> BTreeSet<BackupId> {
    let deletes = steps
        .iter()
        .filter(|step| matches!(step.action, Action::DeleteBackup { .. }));
    deletes
        .filter_map(|step| step.action.backup().cloned())
        .collect()
}

fn remaining(catalog: &Catalog, steps: &[Step]) -> Catalog {
    let gone = going(steps);
    let mut remaining = catalog.clone();
    remaining
        .backups
        .retain(|backup| !gone.contains(&backup.id));
    remaining
}

/// Which instants can be restored now and after the steps.
pub(super) fn windows(
    scene: &Scene<'_>,
    steps: &[Step],
) -> (Option<RecoveryWindow>, Option<RecoveryWindow>) {
    let Some(catalog) = scene.stored.catalog.known() else {
        return (None, None);
    };
    let of = |catalog: &Catalog| {
        let all = catalog
            .backups
            .iter()
            .map(|backup| backup.id.clone())
            .collect();
        recovery_window(catalog, &all)
    };
    (of(catalog), of(&remaining(catalog, steps)))
}
