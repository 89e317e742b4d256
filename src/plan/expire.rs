//! What has become obsolete: backups by the judgement, WAL by what stays, failed backups and orphans by age.
//!
//! Deletes are ordered dependents first, then oldest first, WAL last: killed half-way, what remains is still usable. The budget trims the
//! newest candidates; what it withholds is listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Budget, Decision, Scene, Step, Weight, baseline,
    choose::{choose, locked},
    mark, trust, unrecorded,
};
use crate::model::{
    action::Action,
    backup::{Backup, BackupId, BackupStatus},
    catalog::{Catalog, Orphan},
    desired::Mode,
    judge::{self, Facts, Fate, Rule, Verdict, Verdicts},
    lock::Lock,
    observed::Knowledge,
    reason::{Locked, Reason},
    record::Tombstone,
    recovery::{RecoveryWindow, recovery_window},
    semantics::SAFE,
    time::Timestamp,
};

/// The rolling span that the budget is counted over.
pub(super) const BUDGET_SPAN: Duration = Duration::from_hours(24);

/// The judgement on every backup. What should be kept is protected, whether it carries its annotation yet or not.
pub(super) fn judge(scene: &Scene<'_>, protected: BTreeMap<BackupId, Reason>) -> Verdicts {
    let Some(catalog) = scene.stored.catalog.known() else {
        return Verdicts::default();
    };
    let rule = Rule {
        policy: scene.entry.retention,
        minimum_redundancy: scene.entry.minimum_redundancy,
    };
    let clean = catalog.newest_clean();
    let clean = clean.map(|backup| (backup.id.clone(), Reason::NewestClean));
    let protected = clean.into_iter().chain(protected).collect();
    let at = trust::expiry_now(scene);
    let facts = Facts {
        protected,
        ..Facts::at(at).in_zone(&scene.entry.zone)
    };
    let semantics = SAFE.retiring_after(scene.entry.retire_after);
    judge::judge(catalog, &rule, &facts, semantics)
}

/// How many backups may be deleted in 24 hours, and how many were, or were begun.
pub(super) fn budget(scene: &Scene<'_>) -> Budget {
    let gone = recently_deleted(scene);
    let backups = scene.stored.catalog.known().into_iter();
    let present = backups.flat_map(|catalog| &catalog.backups);
    let untouched = present.filter(|backup| !gone.contains(&backup.id)).count();
    let limits = scene.entry.deletes;
    let percent = usize::try_from(limits.percent_max).unwrap_or(usize::MAX);
    let share = (untouched + gone.len()).saturating_mul(percent) / 100;
    Budget {
        allowed: limits.backups_max.min(share.max(1)),
        used: gone.len(),
    }
}

/// The backups that the budget counts already.
pub(super) fn recently_deleted<'a>(scene: &Scene<'a>) -> BTreeSet<&'a BackupId> {
    let now = trust::expiry_now(scene);
    let tombstones = scene.stored.tombstones.known().into_iter().flatten();
    // One from the future counts too: somebody's clock is wrong, perhaps ours.
    let recent = tombstones.filter(|tombstone| now.since(tombstone.at) < BUDGET_SPAN);
    recent.map(|tombstone| &tombstone.backup).collect()
}

pub(super) fn decide(scene: &Scene<'_>, verdicts: &Verdicts, budget: Budget) -> Decision {
    let mut decision = Decision::default();
    let Some(catalog) = scene.stored.catalog.known() else {
        return decision;
    };
    let choice = choose(scene, catalog, verdicts, budget);
    let mut obsolete = choice.obsolete.clone();
    obsolete.extend(unrecorded::without_backup(scene, catalog).cloned());
    mark::withdraw(scene, catalog, &obsolete, &mut decision);
    choice.marks(scene, catalog, &mut decision);
    choice.backups(scene, catalog, budget, &mut decision);
    orphans(scene, catalog, &mut decision);
    unrecorded::decide(scene, catalog, &mut decision);
    choice.wal(scene, &mut decision);
    decision
}

/// Everything below `base/` that would go, whatever the budget and the locks say.
pub(super) fn doomed(
    scene: &Scene<'_>,
    catalog: &Catalog,
    verdicts: &Verdicts,
) -> BTreeSet<BackupId> {
    let backups = candidates(scene, catalog, verdicts).into_iter();
    let backups = backups.map(|(backup, _)| backup.id.clone());
    let mut orphaned = Decision::default();
    orphans(scene, catalog, &mut orphaned);
    let orphans = orphaned.steps.into_iter();
    let orphans = orphans.filter_map(|step| step.action.backup().cloned());
    backups.chain(orphans).collect()
}

/// The deletion of a backup as it was read.
pub(super) fn delete(catalog: &Catalog, id: &BackupId) -> Action {
    let version = catalog.versions.get(id).cloned().unwrap_or_default();
    Action::DeleteBackup {
        backup: id.clone(),
        version,
    }
}

/// A backup that may go, and why.
pub(super) type Candidate<'a> = (&'a Backup, Reason);

/// What may go, in the order in which it goes.
pub(super) fn candidates<'a>(
    scene: &Scene<'_>,
    catalog: &'a Catalog,
    verdicts: &Verdicts,
) -> Vec<Candidate<'a>> {
    // What an attempt left is settled before it is judged.
    let settled = |backup: &&'a Backup| !scene.has_attempt(&backup.id);
    let reason = |backup: &'a Backup| {
        let verdict = verdicts.get(&backup.id)?;
        let expired = (verdict.fate == Fate::Expire).then(|| verdict.reasons.first().cloned());
        let reason = expired.flatten();
        let reason = reason.or_else(|| begun(scene, catalog, backup));
        let reason = reason.or_else(|| failed_long_ago(scene, backup, verdict));
        Some((backup, reason?))
    };
    let mut candidates: Vec<_> = catalog
        .backups
        .iter()
        .filter(settled)
        .filter_map(reason)
        .collect();
    // An incremental goes before what it builds on: half-way, no chain lacks its beginning.
    candidates.sort_by_cached_key(|(backup, _)| {
        let depth = depth(catalog, backup);
        (std::cmp::Reverse(depth), backup.id.clone())
    });
    candidates
}

/// A deletion that was begun and interrupted goes on. What is still whole was not begun in earnest, and is judged like any other.
pub(super) fn begun(scene: &Scene<'_>, catalog: &Catalog, backup: &Backup) -> Option<Reason> {
    let tombstones = scene.stored.tombstones.known()?;
    let version = catalog.versions.get(&backup.id);
    let told = |tombstone: &Tombstone| {
        tombstone.backup == backup.id && Some(&tombstone.epitaph.version) == version
    };
    let in_part =
        backup.status == BackupStatus::Done && backup.keep.is_none() && catalog.is_in_part(backup);
    (in_part && tombstones.iter().any(told)).then_some(Reason::DeleteBegun)
}

/// How many backups a chain has up to this one.
pub(super) fn depth(catalog: &Catalog, backup: &Backup) -> usize {
    let parent = |backup: &&Backup| backup.parent.as_ref().and_then(|id| catalog.backup(id));
    // A circle cannot be followed for ever.
    std::iter::successors(Some(backup), parent)
        .take(catalog.backups.len())
        .count()
}

fn failed_long_ago(scene: &Scene<'_>, backup: &Backup, verdict: &Verdict) -> Option<Reason> {
    let after = scene.entry.failed_after?;
    let since = backup.end_time.or_else(|| scene.started(backup))?;
    let old = trust::expiry_now(scene).since(since) > after;
    let judged = backup.status == BackupStatus::Failed && verdict.fate != Fate::Protect;
    (judged && old).then_some(Reason::FailedLongAgo { since })
}

/// Objects without a `backup.info` under the id of a backup. A directory of another name is no backup's, and left alone; so is one on which
/// a backup builds, for somebody may still have its record.
fn orphans(scene: &Scene<'_>, catalog: &Catalog, decision: &mut Decision) {
    let Some(after) = scene.entry.orphans_after else {
        return;
    };
    let candidates = catalog.orphans.iter().filter(|orphan| {
        let is_id = orphan.id.local_time().is_some();
        let mut backups = catalog.backups.iter();
        let is_parent = backups.any(|backup| {
            backup.status != BackupStatus::Failed && backup.parent.as_ref() == Some(&orphan.id)
        });
        is_id && orphan.keep.is_none() && !is_parent && !scene.has_attempt(&orphan.id)
    });
    for orphan in candidates {
        let Some(newest) = newest_sign(scene, orphan) else {
            let why = scene.stored.uploads.unknown().map(|f| f.message.as_str());
            let waiting = trust::unknown("what is being uploaded", why.unwrap_or_default());
            decision.waiting.push(waiting);
            return;
        };
        if trust::expiry_now(scene).since(newest) <= after {
            continue;
        }
        let lock = scene.directory_lock(&orphan.id);
        if lock != Lock::Free {
            locked(&orphan.id, Locked::Objects, &lock, decision);
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
        let reason = Reason::OrphanedSince { since: newest };
        decision.step(scene, action, reason, weight);
    }
}

/// When something of an orphan was last written or sent; `None` if uploads are unknown.
fn newest_sign(scene: &Scene<'_>, orphan: &Orphan) -> Option<Timestamp> {
    let none = Vec::new();
    let uploads = match &scene.stored.uploads {
        Knowledge::Known(uploads) => uploads,
        Knowledge::Absent => &none,
        Knowledge::Unknown(_) => return None,
    };
    let own = uploads.iter().filter(|upload| upload.backup == orphan.id);
    let begun = own.map(|upload| upload.begun_at);
    begun.chain([orphan.newest]).max()
}

/// The backups that go with these steps, and those whose grace goes on.
fn going(scene: &Scene<'_>, catalog: &Catalog, steps: &[Step]) -> BTreeSet<BackupId> {
    let mut going = match trust::destructive(scene) {
        Ok(()) if baseline::mode(scene) == Mode::Full => mark::marked(scene, catalog),
        _ => BTreeSet::new(),
    };
    for step in steps {
        match &step.action {
            Action::DeleteBackup { backup, .. } | Action::MarkDelete { backup, .. } => {
                going.insert(backup.clone());
            }
            Action::Undelete { backup } => {
                going.remove(backup);
            }
            _ => {}
        }
    }
    going
}

fn remaining(scene: &Scene<'_>, catalog: &Catalog, steps: &[Step]) -> Catalog {
    let gone = going(scene, catalog, steps);
    let mut remaining = catalog.clone();
    remaining
        .backups
        .retain(|backup| !gone.contains(&backup.id));
    remaining
}

/// Which instants can be restored now, and when the steps were taken and what is marked has gone.
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
    (of(catalog), of(&remaining(scene, catalog, steps)))
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::{World, stands, steps, waits};

    #[test]
    fn the_oldest_goes_first_and_wal_last() {
        assert_eq!(
            steps("retention=2x | done 1d | done 8d | done 15d | done 22d"),
            "delete 22d: outside REDUNDANCY 2; 2 newer are good\n\
             delete 15d: outside REDUNDANCY 2; 2 newer are good\n\
             delete WAL of 919: no retained backup needs it"
        );
        assert_eq!(
            steps("retention=2x | done 1d | done 8d | wal 1:920-1010"),
            ""
        );
    }

    #[test]
    fn a_cluster_that_was_replaced_keeps_its_newest_only_for_so_long() {
        let replaced = "| done 1d | done 40d v:17 | wal 1:600-1010";
        for (settings, step) in [
            ("retention=1x", ""),
            ("retention=1x retire=50d", ""),
            (
                "retention=1x retire=30d",
                "delete 40d: outside REDUNDANCY 1; 0 newer are good",
            ),
            ("retention=1x retire=30d min=2", ""),
        ] {
            let told = steps(&format!("{settings} {replaced}"));
            assert_eq!(told.lines().next().unwrap_or_default(), step, "{settings}");
        }
        let alone = "retention=1x retire=30d state=retired | done 40d | done 50d | wal 1:500-1010";
        assert_eq!(
            steps(alone).lines().next(),
            Some("delete 50d: outside REDUNDANCY 1; 1 newer is good"),
            "without another one it keeps its newest whatever its state"
        );
    }

    #[test]
    fn the_newest_without_a_damaged_page_stays() {
        let text = "retention=1x | done 1d pages: | done 8d pages: | done 15d | done 22d";
        assert_eq!(
            steps(text).lines().take(2).collect::<Vec<_>>(),
            [
                "delete 22d: outside REDUNDANCY 1; 1 newer is good",
                "delete 8d: outside REDUNDANCY 1; 1 newer is good"
            ]
        );
    }

    #[test]
    fn the_budget_trims_the_newest() {
        let text = "retention=1x budget=2/100 | done 1d | done 8d | done 9d | done 10d";
        assert_eq!(
            steps(text),
            "delete 10d: outside REDUNDANCY 1; 1 newer is good\n\
             delete 9d: outside REDUNDANCY 1; 1 newer is good\n\
             delete WAL of 919: no retained backup needs it"
        );
        assert_eq!(waits(text), "8d: the delete budget of 2 is used up");
        assert!(stands(text).contains("progressing: 1 to delete when the budget allows it"));
    }

    #[test]
    fn the_budget_is_a_share_but_always_one() {
        let budget = |text: &str| {
            let plan = World::parse(text).plan();
            let budget = plan.targets.values().next().expect("one").budget;
            (budget.allowed, budget.used)
        };
        let ten: String = (1..11).fold(String::new(), |text, day| format!("{text} | done {day}d"));
        assert_eq!(budget(&format!("budget=5/25 {ten}")), (2, 0));
        assert_eq!(budget(&format!("budget=5/9 {ten}")), (1, 0));
        assert_eq!(budget(&format!("budget=0/50 {ten}")), (0, 0));
        assert_eq!(
            budget(&format!(
                "budget=9/50 {ten} | tombstone 2h of:x | tombstone 23h of:y"
            )),
            (6, 2)
        );
        assert_eq!(
            budget(&format!("budget=9/50 {ten} | tombstone 24h of:x")),
            (5, 0)
        );
        let twice = "tombstone 2h of:1d | tombstone 1h of:1d | tombstone -1h of:x";
        assert_eq!(
            budget(&format!("budget=9/50 {ten} | {twice}")),
            (5, 2),
            "each backup once"
        );
        // The store's clock is an hour behind: by it, the day is not over.
        assert_eq!(
            budget(&format!(
                "budget=9/50 {ten} | store 1h | tombstone 24h of:x"
            )),
            (5, 1)
        );
    }

    #[test]
    fn what_the_budget_withholds_is_told_at_once() {
        let text = "retention=1x budget=1/100 | done 1d | done 8d | done 9d | done 10d";
        assert_eq!(
            waits(text),
            "9d and 1 more: the delete budget of 1 is used up"
        );
    }

    #[test]
    fn what_was_announced_is_not_charged_again() {
        let text = "retention=1x budget=1/100 | done 1d | done 8d | done 9d | tombstone 1h of:8d";
        assert!(steps(text).starts_with("delete 8d: outside"));
        assert_eq!(waits(text), "9d: the delete budget of 1 is used up");
    }

    #[test]
    fn a_delete_that_was_begun_goes_on() {
        let text = "retention=9x | done 1d | done 8d empty: | tombstone 3d of:8d";
        assert_eq!(steps(text), "delete 8d: its deletion was interrupted");
        let whole = text.replace(" empty:", "");
        assert_eq!(steps(&whole), "", "what is whole is judged like any other");
        let another = text.replace("of:8d", "of:8d version:other");
        assert_eq!(steps(&another), "", "it came back under an old id");
        let kept = text.replace("empty:", "empty: keep:full");
        assert_eq!(steps(&kept), "");
    }

    #[test]
    fn what_failed_long_ago_goes() {
        let text = "failed=7d | done 1d | failed 8d | failed 6d | done 9d empty:";
        assert_eq!(steps(text), "delete 8d: failed, begun 2026-11-12T12:00:00Z");
        assert_eq!(
            steps("| done 1d | failed 80d"),
            "",
            "unless nobody says when"
        );
        assert_eq!(steps("failed=7d | done 1d | failed 7d"), "");
        assert_eq!(steps("failed=7d | done 1d | failed 8d keep:full"), "");
        assert!(
            steps("failed=7d | done 1d | failed 8d | attempt 8d dead").starts_with("abandon 8d")
        );
        assert_eq!(
            steps("failed=7d | done 1d | failed 8d | attempt 8d alive"),
            ""
        );
    }

    #[test]
    fn orphans_go_when_nobody_has_touched_them_for_long() {
        let text = "orphans=14d | done 1d | orphan 20d | orphan 13d";
        let gone = "delete orphan 20d: no backup.info, untouched since 2026-10-31T12:00:00Z";
        assert_eq!(steps(text), gone);
        assert_eq!(
            steps(&format!("{text} | upload 15d of:20d")),
            gone.replace("10-31", "11-05")
        );
        for more in [
            "upload 3d of:20d",
            "attempt 20d alive",
            "lose uploads",
            "store 7d",
        ] {
            assert_eq!(steps(&format!("{text} | {more}")), "", "{more}");
        }
        assert_eq!(steps("orphans=14d | done 1d | orphan 20d keep"), "");
        let parent = "orphans=14d | done 1d | done 2d parent:20261031T120000 | orphan 20d";
        assert_eq!(steps(parent), "", "what builds on it is there");
        assert_eq!(steps(&parent.replace("done 2d", "failed 2d")), gone);
        assert_eq!(
            steps("orphans=14d | done 1d | orphan 20d named:lost+found"),
            ""
        );
        assert_eq!(steps("| done 1d | orphan 20d"), "");
    }

    #[test]
    fn expiry_is_judged_by_the_earlier_clock() {
        let mut world = World::parse("retention=7d | done 6d | done 8d | done 9d");
        assert_eq!(world.plan().steps.len(), 2, "a backup and its WAL");
        world.now = world.now + std::time::Duration::from_hours(24 * 300);
        assert_eq!(world.plan().steps.len(), 2, "no more than by the store's");
    }

    #[test]
    fn one_attempt_or_deletes() {
        let text = "schedule=0_2_*_*_* retention=1x rule=month:12 | done 2d | done 9d";
        assert_eq!(
            steps(text),
            "keep 9d: first of the month, kept 12 months\n\
             backup: due since 2026-11-20T02:00:00Z (0 2 * * *), last good ended 2026-11-18T12:00:00Z"
        );
        let text = "schedule=0_2_*_*_* retention=1x | done 2d | done 9d";
        assert_eq!(waits(text), "the rest follows when the backup is done");
        let plan = World::parse(text).plan();
        let target = plan.targets.values().next().expect("one");
        assert_eq!(target.window, target.window_after, "nothing is gone yet");
    }

    #[test]
    fn a_mode_withholds_and_says_so() {
        let text = "mode=additive schedule=0_2_*_*_* retention=1x | done 2d | done 9d";
        assert!(steps(text).starts_with("backup: due"));
        assert_eq!(
            waits(text),
            "mode is additive: would delete 9d\nmode is additive: would delete WAL"
        );
        let text = text.replace("additive", "observe");
        assert_eq!(steps(&text), "");
        assert_eq!(
            stands(&text),
            "converged: nothing to do",
            "it is so by choice"
        );
    }

    #[test]
    fn what_is_marked_leaves_the_window_if_it_goes() {
        let is_less = |text: &str| {
            let plan = World::parse(text).plan();
            let target = plan.targets.values().next().expect("one");
            target.window != target.window_after
        };
        let marked = "grace=24h retention=1x | done 1d | done 8d | mark 8d 1h";
        assert!(is_less(marked));
        assert!(!is_less(&marked.replace("grace", "mode=additive grace")));
        assert!(!is_less(&marked.replace("1x", "2x")), "it is undeleted");
    }

    #[test]
    fn an_orphan_goes_where_the_store_has_no_uploads() {
        let text = "orphans=14d | done 1d | orphan 20d";
        let told = "delete orphan 20d: no backup.info, untouched since";
        assert!(steps(text).starts_with(told), "{}", steps(text));
        assert_eq!(steps(&format!("{text} | without uploads")), steps(text));
        assert_eq!(steps(&format!("{text} | lose uploads")), "");
    }
}
