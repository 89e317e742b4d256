//! Is a backup to be read back?
//!
//! Every good backup that stays is, once per `verify.every`: first those that never were, the newest of them first, then the one whose
//! last reading is the oldest. One at a time, and only when nothing else is to be done that takes long or deletes: what is read must not
//! go meanwhile, and reading can wait. Nor is it begun when it would hold up the next backup: it takes about as long as the backup did.

use std::{collections::BTreeMap, time::Duration};

use super::{Decided, Scene, Step, Weight, trust};
use crate::model::{
    action::{Action, Effect},
    backup::{Backup, BackupId, BackupStatus},
    catalog::Catalog,
    condition::{Condition, Standing},
    judge::{Fate, Verdict},
    reason::{Damage, Reason},
    time::{Span, Timestamp},
};

/// Adds the reading of one backup to plans in which nothing else takes long or deletes.
pub(super) fn at_last(decided: &mut [Decided<'_>]) {
    let busy =
        |step: &Step| step.action.effect() == Effect::Destructive || step.action.is_attempt();
    if decided
        .iter()
        .any(|one| one.decision.steps.iter().any(busy))
    {
        return;
    }
    let due = decided.iter_mut().find_map(|one| {
        let step = due(&one.scene, &one.verdicts)?;
        Some((one, step))
    });
    if let Some((one, step)) = due {
        let mode = one.scene.server.mode;
        one.decision.steps.push(step);
        super::within_mode(mode, &mut one.decision);
    }
}

fn due(scene: &Scene<'_>, verdicts: &BTreeMap<BackupId, Verdict>) -> Option<Step> {
    let every = scene.entry.verify_every?;
    trust::additive(scene).ok()?;
    let catalog = scene.stored.catalog.known()?;
    let now = trust::expiry_now(scene);
    let stays = |backup: &&Backup| {
        let verdict = verdicts.get(&backup.id);
        verdict.is_none_or(|verdict| verdict.fate != Fate::Expire)
    };
    let all = readable(catalog).filter(stays);
    let read = |backup: &Backup| catalog.verified.get(&backup.id).map(|verified| verified.at);
    let overdue = all.filter(|backup| read(backup).is_none_or(|at| now.since(at) >= every));
    // Never comes before any instant; of those that never were, the newest comes first.
    let (backup, since) = overdue
        .map(|backup| (backup, read(backup)))
        .min_by_key(|(backup, since)| (*since, std::cmp::Reverse(backup.end_time)))?;
    if holds_up_the_next(scene, backup) {
        return None;
    }
    Some(Step {
        destination: scene.entry.destination.clone(),
        action: Action::VerifyBackup {
            backup: backup.id.clone(),
        },
        reasons: vec![Reason::NotReadBack { since }],
        weight: Weight {
            bytes: backup.stored_bytes(),
            segments: 0,
        },
    })
}

/// Whether the next backup comes before a reading would have ended. Where backups follow one another that closely, there is never room.
fn holds_up_the_next(scene: &Scene<'_>, backup: &Backup) -> bool {
    let next = scene.entry.schedule.as_ref().and_then(|schedule| {
        let next = schedule.next_due(scene.now)?;
        Some((next.since(scene.now), schedule.period()))
    });
    let took = backup.end_time.zip(backup.begin_time);
    let (Some((left, period)), Some((end, begin))) = (next, took) else {
        return false;
    };
    let took = end.since(begin);
    left < took && took < period
}

/// What a reading would tell anything new about: complete backups, unless a listing shows already what is missing.
fn readable(catalog: &Catalog) -> impl Iterator<Item = &Backup> {
    catalog.backups.iter().filter(|backup| {
        let known = catalog.damage(backup);
        backup.status == BackupStatus::Done && matches!(known, None | Some(Damage::Faulty))
    })
}

/// That backups are read back as often as the configuration says is an objective; it is missed when twice that has passed.
pub(super) fn lateness(scene: &Scene<'_>, catalog: &Catalog) -> Option<Condition> {
    let every = scene.entry.verify_every?;
    let since = |backup: &Backup| -> Option<Timestamp> {
        let read = catalog.verified.get(&backup.id).map(|verified| verified.at);
        read.or(backup.end_time)
    };
    let late = readable(catalog).filter_map(|backup| {
        let age = scene.now.since(since(backup)?);
        (age > every.saturating_mul(2)).then_some((age, backup))
    });
    let (age, backup): (Duration, &Backup) = late.max_by_key(|(age, _)| *age)?;
    let message = format!(
        "backup {} has not been read back for {}, it should be every {}",
        backup.id,
        Span(age),
        Span(every)
    );
    Some(Condition::new(Standing::Stalled, message))
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::{stands, steps, waits};

    #[test]
    fn what_was_never_read_comes_first_the_newest_of_it_before_all() {
        let text = "verify=7d | done 1d | done 8d | done 9d";
        assert_eq!(steps(text), "verify 1d: never read back");
        let text = format!("{text} | verified 1d at:1h");
        assert_eq!(steps(&text), "verify 8d: never read back");
        let text = format!("{text} | verified 8d at:9d | verified 9d at:8d");
        assert_eq!(
            steps(&text),
            "verify 8d: last read back 2026-11-11T12:00:00Z"
        );
        let text = format!("{text} | verified 8d at:6d | verified 9d at:6d");
        assert_eq!(steps(&text), "");
    }

    #[test]
    fn nothing_is_read_while_anything_else_is_to_be_done_or_would_tell_nothing() {
        for text in [
            "| done 1d",
            "verify=7d | failed 1d",
            "verify=7d | done 1d empty:",
            "verify=7d schedule=@hourly | done 1d",
            "verify=7d retention=1x | done 1d | done 2d",
            "verify=7d | done 1d | identity 2",
            "verify=7d mode=observe | done 1d",
        ] {
            assert!(!steps(text).contains("verify"), "{text}: {}", steps(text));
        }
        assert_eq!(
            waits("verify=7d mode=observe | done 1d"),
            "mode is observe: would verify 1d"
        );
    }

    #[test]
    fn a_reading_does_not_hold_up_the_next_backup() {
        // A backup in a scene took an hour; the next one is due in half of one, or in two.
        let text = |schedule| format!("verify=7d schedule={schedule} | done 20h");
        assert_eq!(steps(&text("30_12_*_*_*")), "");
        for room in ["0_13_*_*_*", "0_14_*_*_*"] {
            assert_eq!(steps(&text(room)), "verify 20h: never read back");
        }
        // Every hour there is no more room at another time.
        let hourly = "verify=7d schedule=30_*_*_*_* | done 30m id:20261120T114500";
        assert_eq!(steps(hourly), "verify 30m: never read back");
    }

    #[test]
    fn what_is_faulty_counts_for_nothing_stays_and_is_read_again() {
        let text = "verify=7d retention=1x | done 1d | done 8d | verified 1d at:1h faulty | verified 8d at:1h | wal 1:920-1010";
        assert_eq!(steps(text), "");
        assert_eq!(
            stands(text),
            "stalled: backup 1d is damaged: reading it back found faults"
        );
        let later = text.replace("at:1h faulty", "at:8d faulty");
        assert_eq!(
            steps(&later),
            "verify 1d: last read back 2026-11-12T12:00:00Z"
        );
    }

    #[test]
    fn that_nobody_reads_them_back_is_told() {
        let text = "verify=2d | done 1d | done 9d | verified 1d at:1h | verified 9d at:5d";
        let told = "backup 9d has not been read back for 5d, it should be every 2d";
        assert_eq!(
            stands(text).lines().next(),
            Some(&*format!("stalled: {told}"))
        );
        assert_eq!(
            stands(&text.replace("at:5d", "at:4d")).lines().next(),
            Some("progressing: 1 to do"),
            "it is due"
        );
        let never = "verify=2d | done 9d";
        assert!(stands(never).contains("backup 9d has not been read back for 9d"));
    }
}
