//! What attempts left: finish, abandon, or leave alone.
//!
//! Only an attempt with our own record is ever touched. Its process must be dead: known to be so where it ran on this host,
//! otherwise silent for longer than a living one may be. A base backup is never resumed; it is finished only when everything it needs is
//! stored already, which the record lists.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Decision, Scene, Weight, choose, trust};
use crate::model::{
    action::Action,
    backup::{Backup, BackupId, BackupStatus},
    catalog::{Catalog, WalArchive},
    condition::{Condition, Standing},
    lock::Lock,
    observed::Knowledge,
    reason::{Locked, Reason, Waiting},
    record::{ArchiveRecord, Attempt, Life, Stopped},
    wal::{SegmentName, SegmentSize},
};

/// How long an attempt may be silent and still count as alive, unless its process is known to be dead. Living ones sign every minute.
pub(super) const SILENCE_MAX: Duration = Duration::from_mins(10);

/// After how long a backup that is not finished is a matter for people: somebody else's, or one of ours that waits for WAL.
const STALLED_AFTER: Duration = Duration::from_hours(7 * 24);

pub(super) fn decide(scene: &Scene<'_>) -> Decision {
    let mut decision = Decision::default();
    let none = BTreeMap::new();
    let attempts = match &scene.stored.attempts {
        Knowledge::Known(attempts) => attempts,
        Knowledge::Absent => &none,
        // What is ours cannot be told from what is not.
        Knowledge::Unknown(_) => return decision,
    };
    let empty = Catalog::default();
    let catalog = scene.stored.catalog.known().unwrap_or(&empty);
    for (id, (attempt, life)) in attempts {
        decision.extend(of_ours(scene, catalog, (id, attempt, *life)));
    }
    for backup in &catalog.backups {
        let unfinished = matches!(
            backup.status,
            BackupStatus::Started | BackupStatus::WaitingForWals
        );
        if unfinished && !attempts.contains_key(&backup.id) {
            decision.extend(of_others(scene, backup));
        }
    }
    decision
}

/// Whether an attempt is over.
pub(super) fn is_dead(scene: &Scene<'_>, attempt: &Attempt, life: Life) -> bool {
    match life {
        Life::Dead => true,
        // Whose process lives on, as a service does, may have ended all the same: without the last word, or waiting for WAL.
        Life::Alive | Life::Elsewhere => {
            trust::expiry_now(scene).since(attempt.alive_at) > SILENCE_MAX
        }
    }
}

/// Whether an attempt has ended without a backup. Its record stays a while, for what its store has begun to receive may show only later.
pub(super) fn has_failed(catalog: &Catalog, attempt: &Attempt) -> bool {
    let backup = catalog.backup(&attempt.backup);
    backup.is_some_and(|backup| backup.status == BackupStatus::Failed)
}

fn of_ours(
    scene: &Scene<'_>,
    catalog: &Catalog,
    (id, attempt, life): (&BackupId, &Attempt, Life),
) -> Decision {
    if !is_dead(scene, attempt, life) {
        if has_failed(catalog, attempt) {
            return Decision::default();
        }
        let waiting = Waiting::Running {
            backup: id.clone(),
            since: attempt.started_at,
        };
        let condition = Condition::new(Standing::Progressing, format!("backup {id} is running"));
        return Decision {
            conditions: vec![condition],
            ..Decision::wait(waiting)
        };
    }
    let backup = catalog.backup(id);
    match fate(backup, attempt.stopped.as_ref(), &catalog.wal) {
        Fate::Finish { last } => {
            let mut decision = Decision::default();
            let action = Action::FinishBackup { backup: id.clone() };
            decision.step(
                scene,
                action,
                Reason::WalArrived { last },
                Weight::default(),
            );
            decision
        }
        Fate::Wait { first } => Decision {
            conditions: vec![waits(scene, attempt, &first)],
            ..Decision::wait(Waiting::Wal { first })
        },
        Fate::Abandon => abandon(scene, catalog, (id, attempt)),
    }
}

/// WAL that has not come for so long hardly ever will.
fn waits(scene: &Scene<'_>, attempt: &Attempt, first: &SegmentName) -> Condition {
    let message = format!("backup {} waits for WAL {first}", attempt.backup);
    if scene.now.since(attempt.alive_at) > STALLED_AFTER {
        let message = format!("{message} for 7 days; `barkeep abandon` it if that is lost");
        return Condition::new(Standing::Stalled, message);
    }
    Condition::new(Standing::Progressing, message)
}

enum Fate {
    Finish { last: SegmentName },
    Wait { first: SegmentName },
    Abandon,
}

fn fate(backup: Option<&Backup>, stopped: Option<&Stopped>, wal: &WalArchive) -> Fate {
    let (Some(backup), Some(stopped)) = (backup, stopped) else {
        return Fate::Abandon;
    };
    let failed = backup.status == BackupStatus::Failed;
    if failed || !is_stored(backup, stopped) {
        return Fate::Abandon;
    }
    match first_missing(wal, stopped, backup.segment_size) {
        None => Fate::Finish {
            last: stopped.end_wal,
        },
        Some(first) => Fate::Wait { first },
    }
}

/// Whether every archive on record is stored with the size on record.
fn is_stored(backup: &Backup, stopped: &Stopped) -> bool {
    let stored = |record: &ArchiveRecord| {
        backup.archives.iter().any(|archive| {
            (
                archive.root,
                archive.part,
                archive.compression,
                archive.bytes,
            ) == (record.root, record.part, record.compression, record.bytes)
        })
    };
    !stopped.archives.is_empty() && stopped.archives.iter().all(stored)
}

/// A backup begins and ends on one timeline, so its segments are a plain range.
fn first_missing(wal: &WalArchive, stopped: &Stopped, size: SegmentSize) -> Option<SegmentName> {
    let timeline = stopped.begin_wal.timeline;
    let (first, last) = (stopped.begin_wal.number(size), stopped.end_wal.number(size));
    match wal.contiguous_until(timeline, first) {
        None => Some(stopped.begin_wal),
        Some(until) if until < last => Some(until.next().name(timeline, size)),
        Some(_) => None,
    }
}

fn abandon(scene: &Scene<'_>, catalog: &Catalog, (id, attempt): (&BackupId, &Attempt)) -> Decision {
    let mut decision = Decision::default();
    let parent = told_in_vain(catalog, id);
    if let Some(parent) = parent {
        let lock = scene.directory_lock(parent);
        // Its record cannot be rewritten before.
        if !matches!(lock, Lock::Free | Lock::Unknown(_)) {
            choose::locked(parent, Locked::Objects, &lock, &mut decision);
            return decision;
        }
    }
    let reason = Reason::DeadAttempt {
        since: attempt.alive_at,
    };
    let action = Action::AbandonAttempt {
        backup: id.clone(),
        parent: parent.cloned(),
    };
    decision.step(scene, action, reason, Weight::default());
    decision
}

/// What a backup was to build on, if its attempt died after that was told of it and before it was there itself.
fn told_in_vain<'a>(catalog: &'a Catalog, id: &BackupId) -> Option<&'a BackupId> {
    let is_missing = catalog.backup(id).is_none() && !catalog.unreadable.contains_key(id);
    let mut backups = catalog.backups.iter().filter(|_| is_missing);
    let parent = backups.find(|backup| backup.children.contains(id));
    parent.map(|parent| &parent.id)
}

/// The backups whose records have to be rewritten when attempts are given up.
pub(super) fn rewritten(scene: &Scene<'_>, catalog: &Catalog) -> BTreeSet<BackupId> {
    let attempts = scene.stored.attempts.known().into_iter().flatten();
    let dead = attempts.filter(|(_, (attempt, life))| is_dead(scene, attempt, *life));
    let parents = dead.filter_map(|(id, _)| told_in_vain(catalog, id));
    parents.cloned().collect()
}

fn of_others(scene: &Scene<'_>, backup: &Backup) -> Decision {
    let Some(since) = scene.started(backup) else {
        return Decision::default();
    };
    let (standing, what) = if scene.now.since(since) > STALLED_AFTER {
        (
            Standing::Stalled,
            "has not ended for 7 days; `barkeep abandon` it if it is dead",
        )
    } else {
        (Standing::Progressing, "was started by another program")
    };
    let condition = Condition::new(standing, format!("backup {} {what}", backup.id));
    let waiting = Waiting::ForeignAttempt {
        backup: backup.id.clone(),
        since,
    };
    Decision {
        conditions: vec![condition],
        ..Decision::wait(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{World, stands, steps, waits};

    #[test]
    fn a_living_attempt_is_left_alone() {
        for life in [
            "alive",
            "alive silent:10m",
            "elsewhere",
            "elsewhere silent:10m",
        ] {
            let text = format!("schedule=@hourly | done 1d | started 2h | attempt 2h {life}");
            assert_eq!(steps(&text), "", "{life}");
            assert_eq!(waits(&text), "2h runs since 2026-11-20T09:00:00Z", "{life}");
            assert_eq!(stands(&text), "progressing: backup 2h is running", "{life}");
        }
    }

    #[test]
    fn a_dead_attempt_is_abandoned_and_does_not_hold_up_the_next() {
        let abandoned = "abandon 2h: its attempt died after 2026-11-20T12:00:00Z";
        let text = "schedule=@hourly | done 1d | started 2h | attempt 2h dead";
        let due = "backup: due since 2026-11-20T12:00:00Z (@hourly), last good ended 2026-11-19T12:00:00Z";
        assert_eq!(steps(text), format!("{abandoned}\n{due}"));
        let text = text.replace("@hourly", "0_9_*_*_*");
        assert_eq!(
            steps(&text),
            abandoned,
            "it has answered the latest instant so far"
        );
        for life in ["elsewhere", "alive"] {
            let silent = format!("| started 2h | attempt 2h {life} silent:11m");
            let abandoned = "abandon 2h: its attempt died after 2026-11-20T11:49:00Z";
            assert_eq!(steps(&silent), abandoned, "{life}");
        }
    }

    #[test]
    fn what_its_own_process_declared_failed_is_abandoned_later_and_holds_up_nothing() {
        let text = "schedule=@hourly | done 1d | failed 2h | attempt 2h alive";
        assert!(
            steps(text).starts_with("backup: due since"),
            "{}",
            steps(text)
        );
        let quiet = "| done 1d | failed 2h | attempt 2h alive";
        assert_eq!((steps(quiet), waits(quiet)), (String::new(), String::new()));
        let silent = format!("{quiet} silent:11m");
        let abandoned = "abandon 2h: its attempt died after 2026-11-20T11:49:00Z";
        assert_eq!(steps(&silent), abandoned);
        assert!(steps(&quiet.replace("alive", "dead")).starts_with("abandon 2h"));
    }

    #[test]
    fn a_record_without_a_backup_is_forgotten() {
        let id = "20261120T110000";
        let expected = format!("abandon {id}: its attempt died after 2026-11-20T12:00:00Z");
        assert_eq!(steps(&format!("| done 1d | attempt {id} dead")), expected);
        assert_eq!(steps(&format!("| attempt {id} dead | nothing")), expected);
    }

    #[test]
    fn a_parent_forgets_a_child_that_never_came_to_be() {
        let parent = |text: &str| {
            let plan = crate::plan::testing::World::parse(text).plan();
            let Some(Action::AbandonAttempt { parent, .. }) =
                plan.steps.first().map(|step| step.action.clone())
            else {
                panic!("nothing is abandoned: {text}");
            };
            parent
        };
        let child = "20261120T110000";
        let died = format!("| done 1d id:20261119T110000 child:{child} | attempt {child} dead");
        assert_eq!(parent(&died), Some(BackupId::new("20261119T110000")));
        let there = format!("{died} | started 1h id:{child} parent:20261119T110000");
        assert_eq!(
            parent(&there),
            None,
            "it is there, and its deletion will do it"
        );
        let locked = format!("{died} | locked 20261119T110000 until:-3d");
        assert_eq!(steps(&locked), "", "it could not be told");
        let until = "1d  object lock until 2026-11-23T12:00:00Z";
        assert_eq!(waits(&locked), until);
        let unknown = locked.replace("until:-3d", "unknown");
        assert_eq!(parent(&unknown), Some(BackupId::new("20261119T110000")));
        let unread = format!("{died} | lose catalog");
        assert!(!steps(&unread).contains("abandon"), "nobody knows who does");
    }

    #[test]
    fn what_is_all_stored_is_finished() {
        let text = "| done 1d | waiting_for_wals 2h | attempt 2h dead stopped";
        let last = "WAL up to 0000000100000003000000E9 has arrived";
        assert_eq!(steps(text), format!("finish 2h: {last}"));
        let text = "| done 2h | attempt 2h dead stopped";
        assert_eq!(
            steps(text),
            format!("finish 2h: {last}"),
            "killed before it forgot"
        );
        let no_more = "| waiting_for_wals 2h | wal 1:900-1001 | attempt 2h dead stopped";
        assert_eq!(steps(no_more), format!("finish 2h: {last}"));
    }

    #[test]
    fn what_waited_in_vain_is_finished_also_by_the_process_that_waited() {
        let text = "| done 1d | waiting_for_wals 2h | attempt 2h alive stopped";
        assert_eq!(steps(text), "");
        assert!(steps(&format!("{text} silent:11m")).starts_with("finish 2h"));
    }

    #[test]
    fn what_lacks_wal_waits_and_what_lacks_an_archive_is_abandoned() {
        let text = "| waiting_for_wals 2h | wal 1:900-1000 | attempt 2h dead stopped";
        assert_eq!(steps(text), "");
        assert_eq!(
            waits(text),
            "WAL 0000000100000003000000E9 is not archived yet"
        );
        let lost = "| waiting_for_wals 9d | wal 1:900-910 | attempt 9d dead stopped silent:8d";
        assert_eq!(
            stands(lost),
            "stalled: backup 9d waits for WAL 00000001000000030000008F for 7 days; `barkeep abandon` it if that is lost"
        );
        let not_yet = lost.replace("silent:8d", "silent:7d");
        assert_eq!(
            stands(&not_yet),
            "progressing: backup 9d waits for WAL 00000001000000030000008F"
        );
        let text = "| waiting_for_wals 2h empty: | attempt 2h dead stopped";
        assert_eq!(
            steps(text),
            "abandon 2h: its attempt died after 2026-11-20T12:00:00Z"
        );
    }

    #[test]
    fn what_others_started_is_never_touched() {
        let text = "| done 1d | started 2h";
        assert_eq!(steps(text), "");
        assert_eq!(
            stands(text),
            "progressing: backup 2h was started by another program"
        );
        let text = "| done 1d | waiting_for_wals 167h";
        assert_eq!(
            stands(text),
            "progressing: backup 167h was started by another program"
        );
        let text = "| done 1d | waiting_for_wals 8d";
        assert_eq!(steps(text), "");
        assert_eq!(
            stands(text),
            "stalled: backup 8d has not ended for 7 days; `barkeep abandon` it if it is dead"
        );
        // Nobody knows whose it is.
        assert_eq!(steps("| started 2h | attempt 2h dead | lose attempts"), "");
    }

    #[test]
    fn of_what_nobody_knows_when_it_began_nothing_is_told() {
        let mut world = World::parse("| done 1d | started 9d id:x");
        let told = |world: &World| world.told(format!("{:?}", world.plan().targets));
        assert!(told(&world).contains("has not ended for 7 days"));
        for backup in &mut world.catalog().backups {
            backup.begin_time = None;
        }
        assert!(!told(&world).contains("has not ended for 7 days"));
    }

    #[test]
    fn where_no_attempt_was_ever_recorded_the_rest_is_planned_all_the_same() {
        let text = "schedule=@hourly | done 1d | without attempts";
        assert!(steps(text).starts_with("backup: due since"));
    }

    #[test]
    fn what_a_dead_attempt_waits_for_is_its_first_segment_that_is_missing() {
        for (runs, missing) in [
            ("1:900-999", "0000000100000003000000E8"),
            ("1:900-1000", "0000000100000003000000E9"),
            ("1:900-1000 1:1002-1010", "0000000100000003000000E9"),
        ] {
            let text = format!("| waiting_for_wals 2h | wal {runs} | attempt 2h dead stopped");
            assert_eq!(
                waits(&text),
                format!("WAL {missing} is not archived yet"),
                "{runs}"
            );
        }
    }
}
