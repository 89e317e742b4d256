//! Is a base backup due?
//!
//! It is when no attempt was started since the schedule's latest instant, none is running, none lies within half a period, and the window is
//! open. A missed instant is made up for once. What cannot be healed otherwise makes a backup due at once: segments missing from the archive
//! for good, a cluster created anew, an upgrade to another major version. Failures back off, the first one excepted.

use std::{collections::BTreeMap, time::Duration};

use super::{Decision, Scene, Weight, adopt, health, trust};
use crate::model::{
    action::Action,
    backup::{Backup, BackupId, BackupStatus},
    catalog::Catalog,
    condition::{Condition, Standing},
    desired::{CatchUp, ServerState},
    reason::{Reason, Waiting},
    schedule::Schedule,
    time::Timestamp,
};

/// How late an instant may be answered under `catch_up = "skip"`.
const SKIP_AFTER: Duration = Duration::from_secs(3600);

/// The pause after the second failure in a row; it doubles with each further one.
const BACK_OFF_FIRST: Duration = Duration::from_secs(5 * 60);

/// The longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(6 * 3600);

pub(super) fn decide(scene: &Scene<'_>) -> Decision {
    let Some(schedule) = &scene.entry.schedule else {
        return Decision::default();
    };
    if scene.server.state == ServerState::Retired {
        return Decision::wait(Waiting::Retired);
    }
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
    let mut decision = Decision::default();
    if let Some((standing, waiting)) = hindrance(scene, catalog) {
        if let Some(standing) = standing {
            let message = format!("a backup is due: {waiting}");
            decision.conditions.push(Condition::new(standing, message));
        }
        decision.waiting.push(waiting);
        return decision;
    }
    let action = Action::TakeBackup {
        above: newest_id(catalog),
        due,
        name: scene.entry.files.name.clone(),
    };
    decision.step(scene, action, reason, Weight::default());
    decision
}

/// Why a backup that is due cannot start, and how bad that is.
fn hindrance(scene: &Scene<'_>, catalog: &Catalog) -> Option<(Option<Standing>, Waiting)> {
    if let Err(waiting) = trust::reachable(scene) {
        // On another host than the server's, that is how it should be.
        let elsewhere = matches!(waiting, Waiting::NotLocal { .. });
        return Some(((!elsewhere).then_some(Standing::Blocked), waiting));
    }
    if let Some(waiting) = future_id(scene, catalog) {
        return Some((Some(Standing::Blocked), waiting));
    }
    if let Some(waiting) = back_off(scene, catalog) {
        return Some((Some(Standing::Progressing), waiting));
    }
    let window = scene.entry.window.as_ref()?;
    let waiting = Waiting::Window {
        window: window.to_string(),
    };
    let closed = !window.contains(scene.now, &scene.entry.zone);
    closed.then_some((Some(Standing::Progressing), waiting))
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
        .filter_map(|backup| scene.started(backup));
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

/// Drift that only a new backup heals. It makes one backup due: while a newer one than the newest good is not good yet, or never
/// will be, the schedule alone decides.
fn irreparable(scene: &Scene<'_>, catalog: &Catalog) -> Option<Reason> {
    let facts = scene.postgres.known()?;
    let newest = catalog.newest_good()?;
    let tried = |backup: &&Backup| {
        let counts = backup.status != BackupStatus::Failed && backup.id != newest.id;
        counts && scene.started(backup) >= scene.started(newest)
    };
    if catalog.backups.iter().any(|backup| tried(&backup)) {
        return None;
    }
    if newest
        .system_id
        .is_some_and(|system| system != facts.system_id)
    {
        return Some(Reason::NewSystem {
            system: facts.system_id,
        });
    }
    let major = facts.version / 10_000;
    if newest.major().is_some_and(|backed_up| backed_up != major) {
        return Some(Reason::NewMajor { major });
    }
    let gap = health::gap(scene, catalog, newest, facts)?;
    Some(Reason::Gap {
        first: gap.first,
        segments: gap.segments,
    })
}

/// An attempt that lives: ours or somebody else's.
fn running(scene: &Scene<'_>, catalog: &Catalog) -> Option<Waiting> {
    // Which attempts are ours may be unknown; that something runs is known all the same.
    let none = BTreeMap::new();
    let attempts = scene.stored.attempts.known().unwrap_or(&none);
    let alive = attempts
        .iter()
        .find(|(_, (attempt, life))| !adopt::is_dead(scene, attempt, *life));
    if let Some((id, (attempt, _))) = alive {
        return Some(Waiting::Running {
            backup: id.clone(),
            since: attempt.started_at,
        });
    }
    // A foreign attempt counts as alive for as long as one of its kind may take.
    const FOREIGN_ALIVE: Duration = Duration::from_secs(86_400);
    let started = catalog.backups.iter().filter(|backup| {
        backup.status == BackupStatus::Started && !attempts.contains_key(&backup.id)
    });
    let mut recent = started.filter_map(|backup| {
        let since = scene.started(backup)?;
        (scene.now.since(since) < FOREIGN_ALIVE).then(|| Waiting::ForeignAttempt {
            backup: backup.id.clone(),
            since,
        })
    });
    recent.next()
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
    let last = scene.started(in_a_row.first()?)?;
    let until = last + pause;
    (scene.now < until).then_some(Waiting::BackOff { until, failures })
}

/// The newest id of a catalog that is a time: what a new id must be above.
pub fn newest_id(catalog: &Catalog) -> Option<BackupId> {
    // A directory that is no backup's (`lost+found`) must not raise every later id.
    let named = catalog.ids().filter(|id| id.local_time().is_some());
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
