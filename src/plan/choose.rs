//! Of what is obsolete, what goes now: within the budget, and whole.
//!
//! Where a grace is configured, only what was marked long enough goes; the rest is marked. A backup goes with all of its objects and all the WAL that goes with it, or it stays: one locked object among them withholds it, and
//! with it the WAL that it needs. The budget trims the newest candidates. What either withholds is listed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Budget, Decision, Scene, Weight,
    expire::{Candidate, candidates, delete, recently_deleted},
    lock, mark, segments_in, trust,
};
use crate::model::{
    action::{Action, WalSpan},
    backup::BackupId,
    catalog::Catalog,
    condition::{Condition, Standing},
    judge::Verdicts,
    lock::Lock,
    reason::{Locked, Reason, Waiting},
    runs::Runs,
    semantics::SAFE,
    wal::SegmentSize,
    wal_expiry::{Going, WantedBy, wal_expiry},
};

/// What goes, and what would go but for its grace, the budget and locks.
pub(super) struct Choice<'a> {
    /// Everything obsolete.
    pub(super) obsolete: BTreeSet<BackupId>,
    backups: Vec<Candidate<'a>>,
    /// Withheld by the grace, marked or not.
    young: Vec<Candidate<'a>>,
    /// How many WAL segments go with these.
    young_segments: u64,
    /// Withheld by the budget.
    withheld: Vec<BackupId>,
    /// Withheld by a lock.
    locked: BTreeMap<BackupId, (Locked, Lock)>,
    wal: Vec<WalSpan>,
    locked_wal: Vec<(WalSpan, Lock)>,
}

/// Takes out what is locked until what is left goes whole, with the WAL that goes with it. What is locked is not charged to the budget.
pub(super) fn choose<'a>(
    scene: &Scene<'_>,
    catalog: &'a Catalog,
    verdicts: &Verdicts,
    budget: Budget,
) -> Choice<'a> {
    let candidates = candidates(scene, catalog, verdicts);
    let mut locked = BTreeMap::new();
    for (backup, _) in &candidates {
        let lock = scene.directory_lock(&backup.id);
        if lock != Lock::Free {
            locked.insert(backup.id.clone(), (Locked::Objects, lock));
        }
    }
    let unneeded = |backups: &BTreeSet<BackupId>| {
        let going = Going {
            backups: backups.clone(),
            wanted_by: WantedBy::Policy,
        };
        wal_expiry(catalog, verdicts, &going, SAFE)
    };
    let obsolete = candidates.iter().map(|(b, _)| b.id.clone()).collect();
    let (young, ripe) = by_grace(scene, catalog, candidates);
    loop {
        hold_parents(&ripe, &mut locked);
        let free = ripe.iter().filter(|(b, _)| !locked.contains_key(&b.id));
        let (backups, withheld) = within_budget(scene, free.cloned(), budget);
        let going: BTreeSet<_> = backups.iter().map(|(b, _)| b.id.clone()).collect();
        let wal = unneeded(&going);
        let locks = lock::pieces(catalog, &wal).into_iter();
        let locks = locks.map(|piece| (piece, scene.wal_lock(&piece)));
        let locked_wal: Vec<_> = locks.filter(|(_, lock)| *lock != Lock::Free).collect();
        // The newest whose WAL it is: if that stays, so does the WAL.
        let holder = locked_wal.iter().find_map(|(piece, lock)| {
            let mut newest_first = backups.iter().rev();
            let holder = newest_first.find(|(backup, _)| {
                let mut fewer = going.clone();
                fewer.remove(&backup.id);
                !unneeded(&fewer).iter().any(|span| span.overlaps(piece))
            });
            holder.map(|(backup, _)| (*backup, lock.clone()))
        });
        let Some((backup, lock)) = holder else {
            let mut young = young;
            young.retain(|(b, _)| !locked.contains_key(&b.id));
            let later = young.iter().map(|(b, _)| b.id.clone());
            let all = unneeded(&going.into_iter().chain(later).collect());
            return Choice {
                obsolete,
                backups,
                young,
                young_segments: segments_in(&all).saturating_sub(segments_in(&wal)),
                withheld,
                locked,
                wal,
                locked_wal,
            };
        };
        locked.insert(backup.id.clone(), (Locked::Wal, lock));
    }
}

/// What still has a grace, and what has none any more. What an incremental builds on waits for it.
fn by_grace<'a>(
    scene: &Scene<'_>,
    catalog: &Catalog,
    candidates: Vec<Candidate<'a>>,
) -> (Vec<Candidate<'a>>, Vec<Candidate<'a>>) {
    let mut held: BTreeSet<&BackupId> = BTreeSet::new();
    candidates.into_iter().partition(|(backup, _)| {
        let is_young = held.contains(&backup.id) || !mark::is_ripe(scene, catalog, backup);
        // Incrementals come before what they build on.
        held.extend(backup.parent.as_ref().filter(|_| is_young));
        is_young
    })
}

/// What an incremental builds on waits for its lock.
fn hold_parents(candidates: &[Candidate<'_>], locked: &mut BTreeMap<BackupId, (Locked, Lock)>) {
    // Incrementals come before what they build on.
    for (child, _) in candidates {
        let Some((parent, (_, lock))) = child.parent.as_ref().zip(locked.get(&child.id)) else {
            continue;
        };
        if candidates.iter().any(|(backup, _)| backup.id == *parent) {
            let lock = lock.clone();
            let held = locked.entry(parent.clone());
            held.or_insert((Locked::Child, lock));
        }
    }
}

/// What the budget allows of the candidates, and the ids of the others.
fn within_budget<'a>(
    scene: &Scene<'_>,
    candidates: impl Iterator<Item = Candidate<'a>>,
    budget: Budget,
) -> (Vec<Candidate<'a>>, Vec<BackupId>) {
    let counted = recently_deleted(scene);
    let mut left = budget.left();
    let (mut going, mut withheld) = (Vec::new(), Vec::new());
    let mut held: BTreeSet<&BackupId> = BTreeSet::new();
    for (backup, reason) in candidates {
        let free = counted.contains(&backup.id);
        if left == 0 && !free || held.contains(&backup.id) {
            withheld.push(backup.id.clone());
            held.extend(&backup.parent);
            continue;
        }
        left -= usize::from(!free);
        going.push((backup, reason));
    }
    (going, withheld)
}

impl Choice<'_> {
    pub(super) fn backups(
        &self,
        scene: &Scene<'_>,
        catalog: &Catalog,
        budget: Budget,
        decision: &mut Decision,
    ) {
        for (backup, reason) in &self.backups {
            let weight = Weight {
                bytes: backup.stored_bytes(),
                segments: 0,
            };
            let action = delete(catalog, &backup.id);
            decision.step(scene, action, reason.clone(), weight);
            if let Some(mark) = mark::mark(scene, catalog, &backup.id) {
                decision.because(Reason::Marked { at: mark.at });
            }
        }
        for (backup, (what, lock)) in &self.locked {
            locked(backup, *what, lock, decision);
        }
        if self.withheld.is_empty() {
            return;
        }
        let message = format!(
            "{} to delete when the budget allows it",
            self.withheld.len()
        );
        let condition = Condition::new(Standing::Progressing, message);
        decision.conditions.push(condition);
        decision.waiting.push(Waiting::Budget {
            backups: self.withheld.clone(),
            allowed: budget.allowed,
        });
    }

    /// Marks what has none, and tells of what is marked.
    pub(super) fn marks(&self, scene: &Scene<'_>, catalog: &Catalog, decision: &mut Decision) {
        let is_marked =
            |(backup, _): &&Candidate<'_>| mark::mark(scene, catalog, &backup.id).is_some();
        let (marked, unmarked): (Vec<_>, Vec<_>) = self.young.iter().partition(is_marked);
        let last = unmarked.len().saturating_sub(1);
        for (index, (backup, reason)) in unmarked.iter().enumerate() {
            let weight = Weight {
                bytes: backup.stored_bytes(),
                // What goes with all of them is told once.
                segments: if index == last {
                    self.young_segments
                } else {
                    0
                },
            };
            let action = mark::set(catalog, &backup.id);
            decision.step(scene, action, reason.clone(), weight);
        }
        let ends = marked.iter().filter_map(|(backup, _)| {
            let mark = mark::mark(scene, catalog, &backup.id)?;
            Some(mark::ends(scene, mark))
        });
        if let Some(first) = ends.filter(|end| *end > trust::expiry_now(scene)).min() {
            let waiting = Waiting::Grace {
                backups: marked.iter().map(|(b, _)| b.id.clone()).collect(),
                first,
                segments: if unmarked.is_empty() {
                    self.young_segments
                } else {
                    0
                },
            };
            decision.waiting.push(waiting);
        }
    }

    /// WAL that nothing needs once the backups are gone. What the budget withholds keeps its WAL.
    pub(super) fn wal(&self, scene: &Scene<'_>, decision: &mut Decision) {
        for (span, lock) in &self.locked_wal {
            let size = scene.stored.catalog.known().map(Catalog::segment_size);
            let size = size.unwrap_or(SegmentSize::DEFAULT);
            let waiting = Waiting::LockedWal {
                first: span.run.first.name(span.timeline, size),
                segments: span.run.segments(),
                lock: lock.clone(),
            };
            decision.conditions.push(lock::condition(&waiting, lock));
            decision.waiting.push(waiting);
        }
        let spans = self.free_wal();
        if spans.is_empty() {
            return;
        }
        let weight = Weight {
            bytes: 0,
            segments: segments_in(&spans),
        };
        let action = Action::DeleteWal { spans };
        decision.step(scene, action, Reason::WalUnneeded, weight);
    }

    fn free_wal(&self) -> Vec<WalSpan> {
        let free = |span: &WalSpan| {
            let mut runs: Runs = [span.run].into_iter().collect();
            let own = |(locked, _): &&(WalSpan, Lock)| locked.timeline == span.timeline;
            for (locked, _) in self.locked_wal.iter().filter(own) {
                runs.remove(locked.run);
            }
            let timeline = span.timeline;
            let spans = runs.iter().map(move |run| WalSpan { timeline, run });
            spans.collect::<Vec<_>>()
        };
        self.wal.iter().flat_map(free).collect()
    }
}

/// Says that something is locked.
pub(super) fn locked(backup: &BackupId, what: Locked, lock: &Lock, decision: &mut Decision) {
    let waiting = Waiting::Locked {
        backup: backup.clone(),
        what,
        lock: lock.clone(),
    };
    decision.conditions.push(lock::condition(&waiting, lock));
    decision.waiting.push(waiting);
}

#[cfg(test)]
mod tests {
    use crate::{
        model::desired::ObjectLock,
        plan::testing::{World, stands, steps, waits},
    };

    #[test]
    fn what_is_locked_stays_whole_and_says_until_when() {
        let text = "retention=1x | done 1d | done 8d | done 9d | wal 1:910-1010";
        assert!(steps(text).starts_with("delete 9d"));
        for (lock, said, stands_so) in [
            (
                "until:-3d",
                "object lock until 2026-11-23T12:00:00Z",
                "progressing",
            ),
            ("held", "legal hold", "blocked"),
            (
                "unknown",
                "whether it is locked is unknown: no answer",
                "blocked",
            ),
        ] {
            let text = format!("{text} | locked 9d {lock}");
            assert_eq!(
                steps(&text),
                "delete 8d: outside REDUNDANCY 1; 1 newer is good",
                "of the WAL nothing goes that 9d reaches"
            );
            assert_eq!(waits(&text), format!("9d  {said}"));
            assert!(stands(&text).contains(&format!("{stands_so}: 9d  {said}")));
        }
        let child = "failed=7d | done 1d | done 9d id:20261111T110000 | failed 8d parent:20261111T110000 | locked 8d held";
        assert_eq!(
            waits(child),
            "8d  legal hold",
            "what it builds on stays in any case"
        );
        let passed = format!("{text} | locked 9d until:3d");
        assert_eq!(
            steps(&passed),
            steps(text),
            "what has passed forbids nothing"
        );
        let behind = format!("{text} | locked 9d until:0d | store 1m");
        assert_eq!(waits(&behind), "9d  object lock until 2026-11-20T12:00:00Z");
    }

    #[test]
    fn wal_that_is_locked_keeps_the_backup_that_it_would_go_with() {
        // A day has ten segments and day 0 begins with segment 1000: 8d begins with 920, 9d with 910.
        let text = "retention=1x | done 1d | done 8d | done 9d";
        let locked = |wal: &str| format!("{text} | locked wal:1:{wal} until:-3d");
        assert_eq!(
            steps(&locked("950-951")),
            "delete 9d: outside REDUNDANCY 1; 1 newer is good\n\
             delete WAL of 919: no retained backup needs it"
        );
        assert_eq!(
            waits(&locked("950-951")),
            "8d  its WAL: object lock until 2026-11-23T12:00:00Z"
        );
        assert_eq!(
            waits(&locked("915-915")),
            "9d  its WAL: object lock until 2026-11-23T12:00:00Z",
        );
        assert_eq!(
            waits(&locked("5-5")),
            "WAL of 909 from 000000010000000000000001  object lock until 2026-11-23T12:00:00Z"
        );
        let rest = "delete WAL of 80: no retained backup needs it";
        assert!(steps(&locked("5-5")).ends_with(rest));
    }

    #[test]
    fn what_an_incremental_builds_on_stays_as_long_as_that() {
        let chain = "retention=1x | done 1d | done 8d parent:20261111T110000 | done 9d";
        let gone = "delete 8d: ";
        assert!(steps(chain).starts_with(gone), "{}", steps(chain));
        let locked = format!("{chain} | locked 8d held");
        assert!(!steps(&locked).contains("delete 9d"), "{}", steps(&locked));
        let waits_for = waits(&locked);
        assert!(
            waits_for.contains("9d  what builds on it: legal hold"),
            "{waits_for}"
        );
        let marked = chain.replace("retention", "grace=24h retention");
        let marked = format!("{marked} | mark 9d 24h | mark 8d 1h");
        let ends = "2026-11-21T11:00:00Z";
        assert!(waits(&marked).ends_with(ends), "{}", waits(&marked));
        // Its deletion was begun, so the budget counts it already.
        let begun = chain.replace("retention=1x", "retention=1x budget=1/100");
        let begun = format!("{begun} | tombstone 1h of:9d");
        assert!(!steps(&begun).contains("delete 9d"), "{}", steps(&begun));
    }

    #[test]
    fn a_lock_costs_no_budget() {
        let text = "retention=1x budget=1/100 | done 1d | done 8d | done 9d | locked 9d held";
        assert!(steps(text).starts_with("delete 8d"));
    }

    #[test]
    fn what_nobody_could_look_at_counts_as_locked() {
        let text = "retention=1x | done 1d | done 9d | wal 1:910-1010";
        for (lost, said) in [
            ("unlooked", "nobody has looked"),
            ("lose locks", "no answer"),
        ] {
            let text = format!("{text} | {lost}");
            assert_eq!(steps(&text), "");
            let unknown = format!("9d  whether it is locked is unknown: {said}");
            assert_eq!(waits(&text), unknown);
        }
        let mut world = World::parse(&format!("{text} | lose locks"));
        world.entry().object_lock = ObjectLock::Ignore;
        assert_eq!(
            world.plan().steps.len(),
            2,
            "whoever ignores locks need not know them"
        );
    }

    #[test]
    fn an_orphan_that_is_locked_stays() {
        let text = "orphans=14d | done 1d | orphan 20d | locked 20d held";
        assert_eq!(steps(text), "");
        assert_eq!(waits(text), "20d  legal hold");
    }
}
