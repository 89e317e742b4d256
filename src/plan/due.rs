//! Is a base backup due?
//!
//! It is when no attempt was started since the schedule's latest instant, none is running, none lies within half a period, and the window is
//! open. A missed instant is made up for once. What cannot be healed otherwise makes a backup due at once: segments missing from the archive
//! for good, a cluster created anew, an upgrade to another major version. Failures back off, the first one excepted.

use std::time::Duration;

use super::{Decision, Scene, Weight, adopt, health, trust};
use crate::model::{
    action::Action,
    backup::{Backup, BackupId, BackupStatus},
    catalog::Catalog,
    condition::{Condition, Standing},
    desired::CatchUp,
    reason::{Reason, Waiting},
    schedule::Schedule,
    time::Timestamp,
};

/// How late an instant may be answered under `catch_up = "skip"`.
const SKIP_AFTER: Duration = Duration::from_hours(1);

/// The pause after the second failure in a row; it doubles with each further one.
const BACK_OFF_FIRST: Duration = Duration::from_mins(5);

/// The longest pause.
const BACK_OFF_MAX: Duration = Duration::from_hours(6);

/// A foreign attempt counts as alive for as long as one of its kind may take.
const FOREIGN_ALIVE: Duration = Duration::from_hours(24);

pub(super) fn decide(scene: &Scene<'_>) -> Decision {
    let Some(schedule) = &scene.entry.schedule else {
        return Decision::default();
    };
    let empty = Catalog::default();
    let catalog = scene.stored.catalog.known().unwrap_or(&empty);
    if let Some(waiting) = running(scene, catalog) {
        return Decision::wait(waiting);
    }
    match due(scene, schedule, catalog) {
        Err(waiting) => Decision::wait(waiting),
        Ok((due, reason)) => start(scene, catalog, due, reason),
    }
}

/// A backup is due: take it, if that can be done here and now.
fn start(scene: &Scene<'_>, catalog: &Catalog, due: Option<Timestamp>, reason: Reason) -> Decision {
    if let Err(waiting) = trust::reachable(scene) {
        // Why the server cannot be asked is a condition of its own.
        let condition = Condition::new(Standing::Blocked, "a backup is due and cannot be taken");
        // On another host than the server's, that is how it should be.
        let elsewhere = matches!(waiting, Waiting::NotLocal { .. });
        let conditions = if elsewhere {
            Vec::new()
        } else {
            vec![condition]
        };
        return Decision {
            conditions,
            ..Decision::wait(waiting)
        };
    }
    if let Some(waiting) = back_off(scene, catalog).or_else(|| future_id(scene, catalog)) {
        return Decision {
            conditions: health::of_obstacle(&waiting).into_iter().collect(),
            ..Decision::wait(waiting)
        };
    }
    if let Some(window) = &scene.entry.window
        && !window.contains(scene.now, &scene.entry.zone)
    {
        return Decision::wait(Waiting::Window {
            window: window.to_string(),
        });
    }
    let mut decision = Decision::default();
    let action = Action::TakeBackup {
        above: newest_id(catalog),
        due,
        name: scene.entry.files.name.clone(),
    };
    decision.step(scene, action, reason, Weight::default());
    decision
}

fn due(
    scene: &Scene<'_>,
    schedule: &Schedule,
    catalog: &Catalog,
) -> Result<(Option<Timestamp>, Reason), Waiting> {
    if let Some(reason) = irreparable(scene, catalog) {
        return Ok((None, reason));
    }
    let splay = splay(scene);
    let next = || Waiting::NextDue {
        at: schedule
            .next_due(scene.now - splay)
            .map_or(Timestamp::MAX, |at| at + splay),
    };
    let Some(since) = schedule.last_due(scene.now - splay).map(|due| due + splay) else {
        return Err(next());
    };
    let late = scene.now.since(since);
    if scene.entry.catch_up == CatchUp::Skip && late > SKIP_AFTER {
        return Err(next());
    }
    let counted = |backup: &&Backup| backup.status != BackupStatus::Failed;
    let starts = catalog
        .backups
        .iter()
        .filter(counted)
        .filter_map(|b| started(scene, b));
    let newest = starts.max();
    if newest.is_some_and(|start| start >= since) {
        return Err(next());
    }
    let half = schedule.period() / 2;
    if let Some(start) = newest
        && scene.now.since(start) < half
    {
        return Err(Waiting::NextDue { at: start + half });
    }
    let last_good = catalog.newest_good().and_then(|backup| backup.end_time);
    let reason = Reason::Due {
        since,
        schedule: schedule.to_string(),
        last_good,
    };
    Ok((Some(since), reason))
}

/// Drift that only a new backup heals.
fn irreparable(scene: &Scene<'_>, catalog: &Catalog) -> Option<Reason> {
    let facts = scene.postgres.known()?;
    let newest = catalog.newest_good()?;
    if newest
        .system_id
        .is_some_and(|system| system != facts.system_id)
    {
        return Some(Reason::NewSystem {
            system: facts.system_id,
        });
    }
    if newest
        .major()
        .is_some_and(|major| major != facts.version / 10_000)
    {
        return Some(Reason::NewMajor {
            major: facts.version / 10_000,
        });
    }
    let gap = health::gap(scene, catalog, newest, facts)?;
    Some(Reason::Gap {
        first: gap.first,
        segments: gap.segments,
    })
}

/// An attempt that lives: ours or somebody else's.
fn running(scene: &Scene<'_>, catalog: &Catalog) -> Option<Waiting> {
    let attempts = scene.stored.attempts.known()?;
    let alive = attempts
        .iter()
        .find(|(_, (attempt, life))| !adopt::is_dead(scene, attempt, *life));
    if let Some((id, (attempt, _))) = alive {
        return Some(Waiting::Running {
            backup: id.clone(),
            since: attempt.started_at,
        });
    }
    let foreign = catalog.backups.iter().find(|backup| {
        let recent = started(scene, backup).is_some_and(|at| scene.now.since(at) < FOREIGN_ALIVE);
        backup.status == BackupStatus::Started && recent && !attempts.contains_key(&backup.id)
    })?;
    let since = started(scene, foreign)?;
    Some(Waiting::ForeignAttempt {
        backup: foreign.id.clone(),
        since,
    })
}

/// When a backup was started, by the clock of whoever chose its id.
fn started(scene: &Scene<'_>, backup: &Backup) -> Option<Timestamp> {
    let by_id = backup
        .id
        .local_time()
        .and_then(|local| scene.entry.zone.instant(local));
    by_id.or(backup.begin_time)
}

fn back_off(scene: &Scene<'_>, catalog: &Catalog) -> Option<Waiting> {
    let failed = |backup: &&Backup| backup.status == BackupStatus::Failed;
    let in_a_row: Vec<_> = catalog.backups.iter().rev().take_while(failed).collect();
    let failures = u32::try_from(in_a_row.len()).unwrap_or(u32::MAX);
    // One failure may be a restart of the machine; the next try follows at once.
    let doublings = failures.checked_sub(2)?;
    let pause = BACK_OFF_FIRST
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(BACK_OFF_MAX);
    let last = started(scene, in_a_row.first()?)?;
    let until = last + pause;
    (scene.now < until).then_some(Waiting::BackOff { until, failures })
}

/// The newest id of a catalog that is a time: what a new id must be above.
pub fn newest_id(catalog: &Catalog) -> Option<BackupId> {
    let known = catalog.backups.iter().map(|backup| &backup.id);
    let unreadable = catalog.unreadable.keys();
    let orphans = catalog.orphans.iter().map(|orphan| &orphan.id);
    // A directory that is no backup's (`lost+found`) must not raise every later id.
    let named = known
        .chain(unreadable)
        .chain(orphans)
        .filter(|id| id.local_time().is_some());
    named.max().cloned()
}

/// Ids are local times: one from the future would have to be raised above, and every order would be wrong.
fn future_id(scene: &Scene<'_>, catalog: &Catalog) -> Option<Waiting> {
    let newest = newest_id(catalog)?;
    let at = scene.entry.zone.instant(newest.local_time()?)?;
    (at > scene.now + trust::SKEW_MAX).then_some(Waiting::FutureId { backup: newest })
}

/// A delay that is always the same for one server and destination, so that a fleet does not start as one.
fn splay(scene: &Scene<'_>) -> Duration {
    let span = scene.entry.splay.as_secs();
    if span == 0 {
        return Duration::ZERO;
    }
    let text = format!("{}/{}", scene.server.name, scene.entry.destination);
    Duration::from_secs(u64::from(crc32fast::hash(text.as_bytes())) % span)
}
