//! Deletes in two phases: what may go is marked first, and goes when its mark is older than the grace by the store's clock.
//!
//! A mark counts for the `backup.info` that it was set on, and for no other that comes under the same id. It is withdrawn when the
//! backup is retained again, or gone. One that is lost costs only time: the grace begins anew.

use std::collections::BTreeSet;

use super::{Decision, Scene, Weight, baseline, expire, trust};
use crate::model::{
    action::Action,
    backup::{Backup, BackupId},
    catalog::Catalog,
    desired::Mode,
    reason::Reason,
    record::Mark,
    time::Timestamp,
};

/// The mark that counts for a backup.
pub(super) fn mark<'a>(scene: &Scene<'a>, catalog: &Catalog, id: &BackupId) -> Option<&'a Mark> {
    let mark = scene.stored.marks.known()?.get(id)?;
    (catalog.versions.get(id) == Some(&mark.epitaph.version)).then_some(mark)
}

/// When the grace of a mark has passed.
pub(super) fn ends(scene: &Scene<'_>, mark: &Mark) -> Timestamp {
    mark.at + scene.entry.grace
}

/// Whether a backup may go now: its grace has passed, it has none, or its deletion was begun.
pub(super) fn is_ripe(scene: &Scene<'_>, catalog: &Catalog, backup: &Backup) -> bool {
    let begun = || expire::begun(scene, catalog, backup).is_some();
    let passed = |mark: &Mark| ends(scene, mark) <= trust::expiry_now(scene);
    scene.entry.grace.is_zero() || mark(scene, catalog, &backup.id).is_some_and(passed) || begun()
}

/// The mark of a backup.
pub(super) fn set(catalog: &Catalog, id: &BackupId) -> Action {
    let version = catalog.versions.get(id).cloned().unwrap_or_default();
    Action::MarkDelete {
        backup: id.clone(),
        version,
    }
}

/// Withdraws the marks of what is not obsolete any more.
pub(super) fn withdraw(
    scene: &Scene<'_>,
    catalog: &Catalog,
    obsolete: &BTreeSet<BackupId>,
    decision: &mut Decision,
) {
    // Where nothing is deleted marks do no harm, and whoever runs there may have no right to remove them.
    if baseline::mode(scene) != Mode::Full {
        return;
    }
    let marks = scene.stored.marks.known().into_iter();
    for id in marks.flat_map(|marks| marks.keys()) {
        let reason = match catalog.ids().any(|known| known == id) {
            _ if obsolete.contains(id) => continue,
            true => Reason::RetainedAgain,
            false => Reason::Gone,
        };
        let backup = id.clone();
        let action = Action::Undelete { backup };
        decision.step(scene, action, reason, Weight::default());
    }
}

/// The backups that are marked, and go unless their marks are withdrawn.
pub(super) fn marked(scene: &Scene<'_>, catalog: &Catalog) -> BTreeSet<BackupId> {
    let marks = scene.stored.marks.known().into_iter();
    let ids = marks.flat_map(|marks| marks.keys());
    ids.filter(|id| mark(scene, catalog, id).is_some())
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::{World, steps, waits};

    const OLD: &str = "grace=24h retention=1x | done 1d | done 8d | done 9d | wal 1:910-1010";

    #[test]
    fn what_may_go_is_marked_first() {
        assert_eq!(
            steps(OLD),
            "mark 9d: outside REDUNDANCY 1; 1 newer is good\n\
             mark 8d of 80: outside REDUNDANCY 1; 1 newer is good"
        );
        let text = format!("{OLD} | mark 9d 23h | mark 8d 2h");
        assert_eq!(steps(&text), "");
        assert_eq!(
            waits(&text),
            "9d and 1 more: marked, with 80 WAL segments; goes after 2026-11-20T13:00:00Z"
        );
    }

    #[test]
    fn what_is_marked_goes_when_its_grace_has_passed_by_the_stores_clock() {
        let text = format!("{OLD} | mark 9d 24h | mark 8d 2h");
        assert_eq!(
            steps(&text),
            "delete 9d: outside REDUNDANCY 1; 1 newer is good\n\
             delete WAL of 10: no retained backup needs it"
        );
        assert_eq!(
            waits(&text),
            "8d: marked, with 70 WAL segments; goes after 2026-11-21T10:00:00Z"
        );
        assert_eq!(steps(&format!("{text} | store 1m")), "");
        let reasons = &World::parse(&text).plan().steps[0].reasons;
        assert_eq!(reasons[1].to_string(), "marked 2026-11-19T12:00:00Z");
        let mut ahead = World::parse(&text);
        ahead.now = ahead.now + std::time::Duration::from_hours(100);
        assert_eq!(ahead.plan().steps.len(), 2, "no more than by the store's");
    }

    #[test]
    fn a_mark_counts_for_the_backup_that_it_was_set_on() {
        let text = format!("{OLD} | mark 9d 3d version:other | mark 8d 2h");
        assert!(steps(&text).starts_with("mark 9d of 80: outside"));
    }

    #[test]
    fn a_mark_is_withdrawn_when_the_backup_stays_after_all() {
        let text = "grace=24h retention=2x | done 1d | done 8d | mark 8d 3d | wal 1:920-1010";
        assert_eq!(steps(text), "undelete 8d: it is retained again");
        let kept = format!("{OLD} | mark 9d 3d | mark 8d 3d | declare 9d full");
        assert_eq!(
            steps(&kept),
            "keep 9d: declared\n\
             undelete 9d: it is retained again\n\
             delete 8d: outside REDUNDANCY 1; 1 newer is good"
        );
        let gone = "grace=24h | done 1d | mark 8d 3d";
        assert!(steps(gone).ends_with("it is not there any more"));
        for more in ["lose server", "lose marks", "store 9m"] {
            assert_eq!(steps(&format!("{text} | {more}")), "", "{more}");
        }
        assert_eq!(steps(&format!("mode=additive {text}")), "");
    }

    #[test]
    fn lost_marks_begin_the_grace_anew_and_unknown_ones_stop_deletes() {
        let marked = format!("{OLD} | mark 9d 3d | mark 8d 3d");
        assert!(steps(&marked).starts_with("delete 9d"));
        assert!(steps(OLD).starts_with("mark 9d"));
        let unknown = format!("{marked} | lose marks");
        assert_eq!(steps(&unknown), "");
        assert_eq!(waits(&unknown), "the record of marks is unknown: no answer");
    }

    #[test]
    fn a_delete_that_was_begun_needs_no_mark() {
        let text = "grace=24h retention=9x | done 1d | done 8d empty: | tombstone 3d of:8d";
        assert_eq!(steps(text), "delete 8d: its deletion was interrupted");
    }

    #[test]
    fn a_full_backup_goes_with_the_last_of_its_incrementals() {
        let text = "grace=24h retention=1x | done 1d | done 8d parent:20261111T110000 | done 9d \
                    | wal 1:910-1010";
        let marked = format!("{text} | mark 9d 3d | mark 8d 2h");
        assert_eq!(steps(&marked), "");
        assert!(waits(&marked).starts_with("8d and 1 more: marked"));
        let both = format!("{text} | mark 9d 3d | mark 8d 3d");
        assert!(steps(&both).starts_with("delete 8d"));
    }

    #[test]
    fn what_is_locked_is_not_marked() {
        let text = format!("{OLD} | locked 9d held");
        assert!(steps(&text).starts_with("mark 8d"));
    }

    #[test]
    fn the_budget_holds_deletes_not_marks() {
        let text = format!("budget=1/100 {OLD}");
        assert_eq!(steps(&text).lines().count(), 2);
        let marked = format!("{text} | mark 9d 3d | mark 8d 3d");
        assert!(steps(&marked).starts_with("delete 9d"));
        assert_eq!(waits(&marked), "8d: the delete budget of 1 is used up");
    }

    #[test]
    fn the_recovery_window_is_shown_as_it_becomes() {
        let becomes = |text: &str| {
            let plan = World::parse(text).plan();
            let target = plan.targets.values().next().expect("one").clone();
            let begin = |window: Option<crate::model::recovery::RecoveryWindow>| {
                window.map(|window| window.from.to_string())
            };
            (begin(target.window), begin(target.window_after))
        };
        let (from, to) = (
            Some("2026-11-11T12:00:00Z".to_owned()),
            Some("2026-11-19T12:00:00Z".to_owned()),
        );
        assert_eq!(becomes(OLD), (from.clone(), to.clone()));
        let marked = format!("{OLD} | mark 9d 1h | mark 8d 1h");
        assert_eq!(becomes(&marked), (from, to));
    }
}
