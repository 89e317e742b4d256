//! Is a base backup due?
//!
//! It is when no attempt was started since the schedule's latest instant, none is running, none lies within half a period, and the window is
//! open. A missed instant is made up for once. What cannot be healed otherwise makes a backup due at once: segments missing from the archive
//! for good, a cluster created anew, an upgrade to another major version. Failures back off, the first one excepted.

use std::{collections::BTreeMap, time::Duration};

use super::{Decision, Scene, Weight, adopt, chain, disks, gap, trust};
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
const SKIP_AFTER: Duration = Duration::from_hours(1);

/// The pause after the second failure in a row; it doubles with each further one.
const BACK_OFF_FIRST: Duration = Duration::from_mins(5);

/// A foreign attempt counts as alive for as long as one of its kind may take.
pub(super) const FOREIGN_ALIVE: Duration = Duration::from_hours(24);

/// The longest pause.
const BACK_OFF_MAX: Duration = Duration::from_hours(6);

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
    let built = chain::next(scene, catalog);
    let action = Action::TakeBackup {
        above: newest_id(catalog),
        due,
        name: scene.entry.files.name.clone(),
        parent: built.as_ref().and_then(chain::Next::parent),
    };
    decision.step(scene, action, reason, Weight::default());
    let step = decision.steps.last_mut().expect("one was just added");
    step.reasons.extend(built.map(chain::Next::reason));
    decision
}

/// Why a backup that is due cannot start, and how bad that is.
fn hindrance(scene: &Scene<'_>, catalog: &Catalog) -> Option<(Option<Standing>, Waiting)> {
    if let Err(waiting) = trust::reachable(scene) {
        // On another host than the server's, that is how it should be.
        let elsewhere = matches!(waiting, Waiting::NotLocal { .. });
        return Some(((!elsewhere).then_some(Standing::Blocked), waiting));
    }
    // What is wrong with the disks is told whether or not a backup is due.
    if let Some(waiting) = disks::hindrance(scene) {
        return Some((None, waiting));
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
    let since = schedule.last_due(scene.now - splay).map(|due| due + splay);
    let skips = scene.entry.catch_up == CatchUp::Skip;
    let is_missed = |since| skips && scene.now.since(since) > SKIP_AFTER;
    let Some(since) = since.filter(|since| !is_missed(*since)) else {
        return Err(next());
    };
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
    let gap = gap::gap(scene, catalog, newest, facts)?;
    // What the server still has is archived again.
    let lost = gap.lost(&facts.at_hand)?;
    Some(Reason::Gap {
        first: lost.first(),
        segments: lost.segments(),
    })
}

/// An attempt that lives: ours or somebody else's.
fn running(scene: &Scene<'_>, catalog: &Catalog) -> Option<Waiting> {
    // Which attempts are ours may be unknown; that something runs is known all the same.
    let none = BTreeMap::new();
    let attempts = scene.stored.attempts.known().unwrap_or(&none);
    let alive = attempts.iter().find(|(_, (attempt, life))| {
        !adopt::is_dead(scene, attempt, *life) && !adopt::has_failed(catalog, attempt)
    });
    if let Some((id, (attempt, _))) = alive {
        return Some(Waiting::Running {
            backup: id.clone(),
            since: attempt.started_at,
        });
    }
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

#[cfg(test)]
mod tests {
    use crate::plan::testing::{stands, steps, waits};

    #[test]
    fn a_backup_is_due_once_for_every_instant() {
        let due = "backup: due since 2026-11-20T02:00:00Z (0 2 * * *), last good ended ";
        assert_eq!(
            steps("schedule=0_2_*_*_* | done 33h"),
            format!("{due}2026-11-19T03:00:00Z")
        );
        // However many were missed.
        assert_eq!(
            steps("schedule=0_2_*_*_* | done 9d"),
            format!("{due}2026-11-11T12:00:00Z")
        );
        assert_eq!(
            waits("schedule=0_2_*_*_* | done 9h"),
            "next due 2026-11-21T02:00:00Z"
        );
        assert_eq!(
            steps("schedule=0_2_*_*_* |"),
            "backup: due since 2026-11-20T02:00:00Z (0 2 * * *), no good backup"
        );
        assert_eq!(steps("| done 9d"), "", "no schedule, no backups");
    }

    #[test]
    fn a_backup_just_before_its_instant_is_enough_for_half_a_period() {
        // It began at 01:00, an hour before it was due.
        let text = "schedule=0_2_*_*_* | done 10h";
        assert_eq!(steps(text), "");
        assert_eq!(waits(text), "next due 2026-11-20T13:00:00Z");
        assert!(steps("schedule=0_2_*_*_* | done 11h").starts_with("backup: due"));
    }

    #[test]
    fn what_was_started_counts_whoever_did_and_however_it_went_on() {
        for newest in ["started 1h", "waiting_for_wals 1h", "done 1h empty:"] {
            let text = format!("schedule=0_2_*_*_* | done 9d | {newest}");
            assert_eq!(steps(&text), "", "{newest}");
        }
        let text = "schedule=@hourly | done 9d | started 23h";
        assert_eq!(
            waits(text),
            "23h was started elsewhere 2026-11-19T12:00:00Z"
        );
        assert!(
            steps(text).starts_with("backup: due"),
            "a day is long enough"
        );
        let text = "schedule=@hourly | done 9d | started 26h | lose attempts";
        assert!(steps(text).starts_with("backup: due"));
        let text = "schedule=@hourly | done 9d | started 2h | lose attempts";
        assert_eq!(steps(text), "", "whoever started it, it runs");
    }

    #[test]
    fn a_start_is_the_later_of_the_ids_instant_and_postgresqls() {
        // Its id is from a zone that is hours behind, or its server's clock is.
        let text = "schedule=0_2_*_*_* | done 8h id:20261119T230000";
        assert_eq!(steps(text), "");
        let text = "schedule=0_2_*_*_* | done 12h id:20261120T030000";
        assert_eq!(steps(text), "");
    }

    #[test]
    fn a_missed_instant_may_be_skipped() {
        let text = "schedule=0_2_*_*_* catchup=skip | done 9d";
        assert_eq!(steps(text), "");
        assert_eq!(waits(text), "next due 2026-11-21T02:00:00Z");
        let text = "schedule=0_11_*_*_* catchup=skip | done 9d";
        assert!(
            steps(text).starts_with("backup: due"),
            "an hour is not missed yet"
        );
    }

    #[test]
    fn a_splay_is_the_same_every_time() {
        let text = "schedule=0_2_*_*_* splay=1h | done 9d";
        assert_eq!(steps(text), steps(text));
        let since = steps(text).split(' ').nth(3).map(str::to_owned);
        assert!(since > Some("2026-11-20T02:00:00Z".to_owned()));
        assert!(since < Some("2026-11-20T03:00:00Z".to_owned()));
        let next = "schedule=50_11_*_*_* splay=1h | done";
        assert_eq!(
            waits(&format!("{next} 20h")),
            "next due 2026-11-20T12:07:33Z"
        );
        let due = "backup: due since 2026-11-19T12:07:33Z";
        assert!(steps(&format!("{next} 9d")).starts_with(due));
    }

    #[test]
    fn a_window_holds_back_what_is_due() {
        let text = "schedule=0_2_*_*_* window=01:00-06:00 | done 9d";
        assert_eq!(steps(text), "");
        assert_eq!(waits(text), "due, starts within 01:00-06:00");
        let told = "progressing: a backup is due: due, starts within 01:00-06:00";
        assert_eq!(stands(text), told);
        assert!(steps(&text.replace("06", "13")).starts_with("backup: due"));
    }

    #[test]
    fn failures_back_off_but_for_the_first() {
        let text = "schedule=@hourly | done 9d | failed 0h";
        assert!(steps(text).starts_with("backup: due"));
        let text = "schedule=@hourly | done 9d | failed 1h | failed 0h id:20261120T115800";
        assert_eq!(steps(text), "");
        assert_eq!(
            waits(text),
            "2 failed in a row, next try 2026-11-20T12:03:00Z"
        );
        let now = text.replace("T115800", "T115500");
        assert!(steps(&now).starts_with("backup: due"));
        let many: String = (0..9).fold(String::new(), |text, n| format!("{text} | failed {n}h"));
        let text = format!("schedule=@hourly | done 9d{many}");
        assert_eq!(
            waits(&text),
            "9 failed in a row, next try 2026-11-20T17:00:00Z"
        );
    }

    #[test]
    fn nothing_is_started_where_the_server_is_not() {
        let text = "schedule=@hourly | done 9d | postgres remote";
        assert_eq!(steps(text), "");
        assert_eq!(waits(text), "PGDATA is not on this host: another host");
        assert_eq!(stands(text), "converged: nothing to do");
        let sent = text.replace("schedule", "method=stream schedule");
        assert!(steps(&sent).starts_with("backup: due"), "it is sent");
        let text = "schedule=@hourly | done 9d | lose server";
        assert_eq!(steps(text), "");
        assert!(
            stands(text).contains("blocked: a backup is due: the server is unknown: no answer")
        );
        let text = "schedule=@hourly state=retired | done 9d";
        assert_eq!(waits(text), "the server is retired");
    }

    #[test]
    fn an_id_from_the_future_blocks_new_ones() {
        let text = "schedule=@hourly | done 9d | failed 1h id:20271120T115800";
        assert_eq!(steps(text), "");
        assert_eq!(
            stands(text),
            "blocked: a backup is due: the id 20271120T115800 lies in the future"
                .replace("20271120T115800", "1h")
        );
        let text = "schedule=@hourly | done 9d | orphan 1h named:lost+found";
        assert!(steps(text).starts_with("backup: due"), "a name is no time");
        let little = "schedule=@hourly | done 9d | orphan 1d named:20261120T120500";
        assert!(
            steps(little).starts_with("backup: due"),
            "{}",
            steps(little)
        );
        assert_eq!(steps(&little.replace("T120500", "T120501")), "");
    }

    #[test]
    fn drift_that_cannot_be_undone_makes_one_backup_due() {
        let lost = "schedule=0_2_*_*_* | wal 1:900-1002 1:1005-1010 | done 9h";
        let due = "backup: WAL gap of 2 from 0000000100000003000000EB";
        assert_eq!(steps(lost), due);
        assert_eq!(
            steps(&format!("{lost} | waiting_for_wals 1h")),
            "",
            "one is enough"
        );
        assert_eq!(
            steps(&format!("{lost} | done 1h empty:")),
            "",
            "one is enough"
        );
        assert_eq!(
            steps(&format!("{lost} | done 1h begin:1005")),
            "",
            "it is healed"
        );
        assert_eq!(
            steps(&format!("{lost} | failed 1h")),
            due,
            "a failed one heals nothing"
        );
        let text = "schedule=0_2_*_*_* | done 9h | postgres v:19";
        assert_eq!(steps(text), "backup: PostgreSQL is now 19");
        let text = "schedule=0_2_*_*_* | done 9h sys:2";
        assert_eq!(steps(text), "backup: new system identifier 1");
    }
}
