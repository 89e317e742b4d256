//! Snapshots of disks that a plan calls left over: told again, in the simplest words.

use super::{Inspection, Violation};
use crate::model::{
    action::Action,
    backup::{BackupId, BackupStatus},
    catalog::Catalog,
    lock::Lock,
    observed::Stored,
    snapshot::TaggedSnapshot,
};

impl Inspection<'_> {
    /// Whether a snapshot that is marked or deleted by itself was seen, is old, is free, and belongs to nothing.
    pub(super) fn on_snapshot(
        &self,
        stored: &Stored,
        catalog: &Catalog,
        action: &Action,
    ) -> Option<Violation> {
        let all = stored.snapshots.known().map_or(&[][..], Vec::as_slice);
        match action {
            Action::DeleteSnapshot {
                backup,
                snapshot,
                begun_at,
            } => {
                let found = all.iter().find(|found| found.id == *snapshot);
                let as_judged = found.is_some_and(|found| {
                    found.backup == *backup && found.begun_at == Some(*begun_at)
                });
                let left_over =
                    found.is_some_and(|found| self.is_left_over(stored, catalog, found));
                let told = catalog.backup(backup).is_some()
                    || self.is_marked_without_backup(stored, backup);
                let allowed = as_judged && left_over && told;
                (!allowed).then(|| Violation::NotLeftOver(snapshot.clone()))
            }
            Action::MarkDelete { backup, version } if version.is_empty() => {
                let mut own = all.iter().filter(|found| found.backup == *backup);
                let allowed = catalog.backup(backup).is_none()
                    && own.any(|found| self.is_left_over(stored, catalog, found));
                (!allowed).then(|| Violation::NotLeftOver(backup.to_string()))
            }
            _ => None,
        }
    }

    fn is_left_over(&self, stored: &Stored, catalog: &Catalog, found: &TaggedSnapshot) -> bool {
        let id = &found.backup;
        let now = self.earlier_clock(stored);
        let after = self.entry.and_then(|entry| entry.orphans_after);
        let is_old = match (after, found.begun_at) {
            (Some(after), Some(begun_at)) => begun_at + after < now,
            _ => false,
        };
        let attempts = stored.attempts.known();
        let is_open = attempts.is_none_or(|all| all.contains_key(id))
            || catalog.unreadable.contains_key(id)
            || catalog.backup(id).is_some_and(|backup| {
                backup.status != BackupStatus::Done && backup.status != BackupStatus::Failed
            });
        let mut backups = catalog.backups.iter();
        let is_recorded = backups.any(|backup| backup.snapshots.contains(&found.id));
        let mut orphans = catalog.orphans.iter();
        let is_kept = orphans.any(|orphan| orphan.id == *id && orphan.keep.is_some());
        let is_free = found.lock.clone().at(now) == Lock::Free;
        is_old && is_free && !is_open && !is_recorded && !is_kept
    }

    fn is_marked_without_backup(&self, stored: &Stored, id: &BackupId) -> bool {
        self.entry.is_some_and(|entry| {
            let mark = stored.marks.known().and_then(|marks| marks.get(id));
            let passed = mark.is_some_and(|mark| {
                mark.epitaph.version.is_empty()
                    && mark.at + entry.grace <= self.earlier_clock(stored)
            });
            entry.grace.is_zero() || passed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{passes, refused, step};
    use crate::{
        model::action::Action,
        plan::{Step, testing::World},
    };

    #[test]
    fn only_an_old_free_snapshot_that_belongs_to_nothing_goes_by_itself() {
        let lone = "orphans=3d | done 1d | snapshot 20261101T020000";
        let (delete, mark) = (
            "delete snapshot 20261101T020000",
            "mark snapshots 20261101T020000",
        );
        for actions in [delete, mark] {
            assert_eq!(refused(&format!("{lone} 20d"), actions), "", "{actions}");
        }
        let left = "orphans=3d | done 1d | failed 20d | snapshot 20d 20d";
        assert_eq!(refused(left, "delete snapshot 20d"), "");
        for (text, action) in [
            (format!("{lone} 2d"), delete),
            (format!("{lone} 20d held:"), delete),
            (format!("{lone} 20d nobody:"), delete),
            (format!("{lone} 2d"), mark),
            (format!("{lone} 20d").replace("orphans=3d ", ""), delete),
            (format!("grace=24h {lone} 20d"), delete),
            (
                format!("grace=24h {lone} 20d | mark 20261101T020000 23h version:"),
                delete,
            ),
            (
                format!("grace=24h {lone} 20d | mark 20261101T020000 3d"),
                delete,
            ),
            (format!("{lone} 20d | attempt 20261101T020000 dead"), delete),
            (format!("{lone} 3d"), delete),
            (
                format!("{lone} 20d | orphan 20d named:20261101T020000 keep"),
                delete,
            ),
            ("orphans=3d | done 1d".to_owned(), delete),
        ] {
            let told = refused(&text, action);
            assert!(
                told.ends_with("is not known to be left over"),
                "{text}: {told}"
            );
        }
        let others = format!("{lone} 20d | orphan 20d | orphan 30d keep");
        assert_eq!(refused(&others, delete), "", "they are nobody's");
        let running = "orphans=3d | done 1d | started 20d | snapshot 20d 20d";
        assert!(refused(running, "delete snapshot 20d").ends_with("left over"));
        let done = running.replace("started", "done");
        assert_eq!(refused(&done, "delete snapshot 20d"), "");
        for status in ["started 20d", "done 20d"] {
            let text = format!("orphans=3d | done 1d | {status} | snapshot 20d 20d recorded:");
            let told = refused(&text, "delete snapshot 20d");
            assert_eq!(told, "snapshot snap-20d is not known to be left over");
        }
        let world = World::parse(&format!("{lone} 20d"));
        let judged_earlier = Action::DeleteSnapshot {
            backup: world.id("20261101T020000"),
            snapshot: "snap-20261101T020000".to_owned(),
            begun_at: world.now,
        };
        let earlier = Step {
            action: judged_earlier,
            ..step(&world, delete)
        };
        assert!(!passes(&world, earlier));
        let unknown = format!("{lone} 20d | lose snapshots");
        assert!(
            refused(&unknown, delete).starts_with("what snapshots of disks there are is unknown")
        );
    }
}
