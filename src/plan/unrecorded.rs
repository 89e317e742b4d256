//! Snapshots of disks that carry barkeep's tags and that no backup records: what nobody restores from and somebody pays for.
//!
//! Only the tags make one ours, and only with the id of a backup of this catalog: a name is never proof. One whose backup is under way, cannot
//! be understood or is kept is left alone. The others go when they are as old as objects without a `backup.info` must be. Where there
//! is no `backup.info` at all they are marked before: whoever removed it by mistake has the grace to put it back.

use std::collections::BTreeSet;

use super::{Decision, Scene, Weight, choose::locked, trust};
use crate::model::{
    action::Action,
    backup::{BackupId, BackupStatus},
    catalog::Catalog,
    lock::Lock,
    reason::{Locked, Reason, Waiting},
    record::Mark,
    snapshot::TaggedSnapshot,
    time::Timestamp,
};

/// What a mark of snapshots without a backup says of the version of its `backup.info`.
pub(super) const NO_VERSION: &str = "";

pub(super) fn decide(scene: &Scene<'_>, catalog: &Catalog, decision: &mut Decision) {
    let Some(after) = scene.entry.orphans_after else {
        return;
    };
    let now = trust::expiry_now(scene);
    let mut marking: BTreeSet<&BackupId> = BTreeSet::new();
    let mut waiting: Vec<(&BackupId, Timestamp)> = Vec::new();
    for snapshot in unrecorded(scene, catalog) {
        let old = |begun_at: &Timestamp| now.since(*begun_at) > after;
        let Some(begun_at) = snapshot.begun_at.filter(old) else {
            continue;
        };
        let lock = snapshot.lock.clone().at(now);
        if lock != Lock::Free {
            locked(&snapshot.backup, Locked::Snapshot, &lock, decision);
            continue;
        }
        let reason = Reason::Unrecorded { since: begun_at };
        match phase(scene, catalog, &snapshot.backup) {
            Phase::Ripe(mark) => {
                let action = Action::DeleteSnapshot {
                    backup: snapshot.backup.clone(),
                    snapshot: snapshot.id.clone(),
                    begun_at,
                };
                decision.step(scene, action, reason, Weight::default());
                if let Some(mark) = mark {
                    decision.because(Reason::Marked { at: mark.at });
                }
            }
            Phase::Marked(ends) => waiting.push((&snapshot.backup, ends)),
            Phase::Unmarked if marking.insert(&snapshot.backup) => {
                let action = Action::MarkDelete {
                    backup: snapshot.backup.clone(),
                    version: NO_VERSION.to_owned(),
                };
                decision.step(scene, action, reason, Weight::default());
            }
            Phase::Unmarked => {}
        }
    }
    if let Some(first) = waiting.iter().map(|(_, ends)| *ends).min() {
        let mut backups: Vec<BackupId> = waiting.iter().map(|(id, _)| (*id).clone()).collect();
        backups.dedup();
        decision.waiting.push(Waiting::Grace {
            backups,
            first,
            segments: 0,
        });
    }
}

/// The backups that are not there, and whose snapshots are.
pub(super) fn without_backup<'a>(
    scene: &'a Scene<'_>,
    catalog: &'a Catalog,
) -> impl Iterator<Item = &'a BackupId> {
    let all = unrecorded(scene, catalog).map(|snapshot| &snapshot.backup);
    all.filter(|id| catalog.backup(id).is_none())
}

/// The snapshots that no backup records, nor will.
fn unrecorded<'a>(
    scene: &'a Scene<'_>,
    catalog: &'a Catalog,
) -> impl Iterator<Item = &'a TaggedSnapshot> {
    let all = scene.stored.snapshots.known().into_iter().flatten();
    all.filter(|snapshot| is_unrecorded(scene, catalog, snapshot))
}

fn is_unrecorded(scene: &Scene<'_>, catalog: &Catalog, snapshot: &TaggedSnapshot) -> bool {
    let id = &snapshot.backup;
    let mut orphans = catalog.orphans.iter();
    let is_kept = orphans.any(|orphan| orphan.id == *id && orphan.keep.is_some());
    let is_open = is_kept || scene.has_attempt(id) || catalog.unreadable.contains_key(id);
    let has_ended = catalog
        .backup(id)
        .is_none_or(|backup| matches!(backup.status, BackupStatus::Done | BackupStatus::Failed));
    let mut backups = catalog.backups.iter();
    let is_recorded = backups.any(|backup| backup.snapshots.contains(&snapshot.id));
    id.local_time().is_some() && !is_open && has_ended && !is_recorded
}

/// How far the deletion of snapshots has come.
enum Phase<'a> {
    /// They may go, after a mark if there had to be one.
    Ripe(Option<&'a Mark>),
    /// Their grace lasts until then.
    Marked(Timestamp),
    /// They are to be marked.
    Unmarked,
}

fn phase<'a>(scene: &Scene<'a>, catalog: &Catalog, id: &BackupId) -> Phase<'a> {
    // The record of a backup that has ended tells what belongs to it.
    if catalog.backup(id).is_some() || scene.entry.grace.is_zero() {
        return Phase::Ripe(None);
    }
    let marks = scene.stored.marks.known();
    let mark = marks.and_then(|marks| marks.get(id));
    match mark.filter(|mark| mark.epitaph.version == NO_VERSION) {
        None => Phase::Unmarked,
        Some(mark) => {
            let ends = super::mark::ends(scene, mark);
            if ends <= trust::expiry_now(scene) {
                Phase::Ripe(Some(mark))
            } else {
                Phase::Marked(ends)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::{stands, steps, waits};

    const LONE: &str = "orphans=3d | done 1d | snapshot 20261101T020000 20d";

    #[test]
    fn another_orphan_that_is_kept_holds_no_snapshot() {
        let other = format!("{LONE} | orphan 30d keep");
        assert_eq!(steps(&other), steps(LONE));
    }

    #[test]
    fn a_snapshot_without_a_backup_goes_when_it_is_old() {
        assert_eq!(
            steps(LONE),
            "delete snapshot 20261101T020000: no backup records it, begun 2026-10-31T12:00:00Z"
        );
        for more in [
            "| done 1d | snapshot 20261101T020000 20d",
            "orphans=20d | done 1d | snapshot 20261101T020000 20d",
            "orphans=3d | done 1d | snapshot 20261101T020000 20d nobody:",
            "orphans=3d | done 1d | snapshot lost+found 20d",
            "orphans=3d | done 1d | orphan 20d keep | snapshot 20d 20d",
            "orphans=3d mode=additive | done 1d | snapshot 20261101T020000 20d",
        ] {
            assert_eq!(steps(more), "", "{more}");
        }
    }

    #[test]
    fn what_a_backup_records_or_may_still_record_stays() {
        let stay = [
            "orphans=3d | done 1d | done 20d | snapshot 20d 20d recorded:",
            "orphans=3d | done 1d | started 20d | snapshot 20d 20d",
            "orphans=3d | done 1d | waiting_for_wals 20d | snapshot 20d 20d",
            "orphans=3d | done 1d | unreadable 20d | snapshot 20d 20d",
            "orphans=3d | done 1d | snapshot 20261101T020000 20d | attempt 20261101T020000 elsewhere",
        ];
        for text in stay {
            assert!(!steps(text).contains("snapshot"), "{text}: {}", steps(text));
        }
    }

    #[test]
    fn what_an_ended_backup_does_not_record_is_left_over() {
        for status in ["done", "failed"] {
            let text = format!("orphans=3d grace=24h | done 1d | {status} 20d | snapshot 20d 20d");
            assert!(
                steps(&text).starts_with("delete snapshot 20d: "),
                "{status}"
            );
        }
    }

    #[test]
    fn a_snapshot_whose_backup_is_gone_is_marked_first() {
        let text = format!("grace=24h {LONE}");
        assert_eq!(
            steps(&text),
            "mark 20261101T020000: no backup records it, begun 2026-10-31T12:00:00Z"
        );
        let young = format!("{text} | mark 20261101T020000 2h version:");
        assert_eq!(steps(&young), "", "not withdrawn either");
        assert!(waits(&young).ends_with("marked; goes after 2026-11-21T10:00:00Z"));
        let ripe = format!("{text} | mark 20261101T020000 24h version:");
        assert!(steps(&ripe).starts_with("delete snapshot"));
        let two = format!("{text} | snapshot 20261101T020000 20d");
        assert_eq!(steps(&two), steps(&text), "one mark is for all of a backup");
        let of_a_backup = format!("{text} | mark 20261101T020000 24h");
        assert!(steps(&of_a_backup).starts_with("mark 20261101T020000: no backup"));
    }

    #[test]
    fn a_locked_snapshot_waits_for_its_lock() {
        let text = "orphans=3d | done 1d | snapshot 20261101T020000 20d held:";
        assert_eq!(steps(text), "");
        assert_eq!(waits(text), "20261101T020000  a snapshot of it: legal hold");
    }

    #[test]
    fn where_snapshots_are_unknown_nothing_is_deleted() {
        let text = "retention=1x | done 1d | done 8d | lose snapshots";
        assert_eq!(steps(text), "");
        assert!(stands(text).contains("what snapshots of disks there are is unknown"));
    }

    #[test]
    fn a_backup_whose_snapshot_is_gone_counts_for_nothing_and_stays() {
        let text = "retention=1x | done 1d lost:snap-1 | done 8d | done 15d";
        assert!(steps(text).starts_with("delete 15d: outside REDUNDANCY 1"));
        assert!(!steps(text).contains("delete 8d"));
        assert!(stands(text).contains("backup 1d is damaged: snapshot `snap-1` is missing"));
        let begun = "retention=9x | done 1d | done 8d lost:snap-1 | tombstone 3d of:8d";
        assert_eq!(steps(begun), "delete 8d: its deletion was interrupted");
    }
}
