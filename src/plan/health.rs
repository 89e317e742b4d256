//! What can be restored, and what is missing: good backups, gaps in the WAL, forks of its timelines, lag.

use std::ops::Bound;

use super::{Decision, Scene, WalState, baseline, gap, slot, trust, verify};
use crate::model::{
    action::Effect,
    backup::BackupStatus,
    catalog::Catalog,
    condition::{Condition, Standing},
    desired::{Delivery, WalCheck},
    observed::{ArchiveMode, Knowledge, ServerFacts},
    recovery::RecoveryWindow,
    time::{Span, Timestamp},
    timeline::TimelineId,
};

/// How things stand, apart from what there is to do.
pub(super) fn assess(scene: &Scene<'_>) -> Decision {
    let blocked = |message| Condition::new(Standing::Blocked, message);
    let mut conditions: Vec<_> = trust::unknown_records(scene)
        .map(|waiting| blocked(waiting.to_string()))
        .collect();
    match &scene.stored.catalog {
        Knowledge::Known(catalog) => conditions.extend(of_catalog(scene, catalog)),
        Knowledge::Absent => conditions.extend(of_catalog(scene, &Catalog::default())),
        Knowledge::Unknown(_) => {}
    }
    if let Knowledge::Unknown(failure) = scene.postgres {
        let hint = failure.hint.as_ref().map(|hint| format!("; {hint}"));
        let hint = hint.unwrap_or_default();
        conditions.push(blocked(format!("cannot ask the server: {failure}{hint}")));
    }
    Decision {
        conditions,
        ..Decision::default()
    }
}

fn of_catalog(scene: &Scene<'_>, catalog: &Catalog) -> Vec<Condition> {
    let stalled = |message| Condition::new(Standing::Stalled, message);
    let damaged = catalog.backups.iter().filter_map(|backup| {
        let what = catalog
            .damage(backup)
            .filter(|_| backup.status == BackupStatus::Done)?;
        Some(stalled(format!("backup {} is damaged: {what}", backup.id)))
    });
    let unreadable = catalog.unreadable.iter();
    let unreadable =
        unreadable.map(|(id, why)| stalled(format!("backup.info of {id} is unreadable: {why}")));
    let ends_in_future = catalog.backups.iter().filter(|backup| {
        backup
            .end_time
            .is_some_and(|end| end > scene.now + trust::SKEW_MAX)
    });
    let future =
        ends_in_future.map(|backup| stalled(format!("backup {} ends in the future", backup.id)));
    let mut conditions: Vec<_> = damaged.chain(unreadable).chain(future).collect();
    conditions.extend(verify::lateness(scene, catalog));
    if let Some(by) = trust::skew(scene) {
        conditions.push(stalled(format!(
            "clocks disagree by {}; no deletes",
            Span(by)
        )));
    }
    if let Some(facts) = watched(scene) {
        conditions.extend(of_wal(scene, catalog, facts));
    }
    conditions.extend(slot::conditions(scene));
    conditions
}

/// The server, where it is looked at whether its WAL arrives as it should.
fn watched<'a>(scene: &Scene<'a>) -> Option<&'a ServerFacts> {
    let wanted =
        scene.entry.wal.check == WalCheck::On && scene.entry.delivery == Delivery::Required;
    scene.postgres.known().filter(|_| wanted)
}

/// What is wrong with the WAL, in figures.
pub(super) fn wal(scene: &Scene<'_>) -> Option<WalState> {
    let (facts, catalog) = (watched(scene)?, scene.stored.catalog.known()?);
    let newest = catalog.newest_good();
    let gap = newest.and_then(|newest| gap::gap(scene, catalog, newest, facts));
    Some(WalState {
        gaps: gap.as_ref().map_or(0, gap::Gap::ranges),
        missing: gap.as_ref().map_or(0, gap::Gap::segments),
        forks: catalog.wal.runs.range(above(facts)).count(),
    })
}

/// The timelines that the server has not come to.
fn above(facts: &ServerFacts) -> (Bound<TimelineId>, Bound<TimelineId>) {
    (Bound::Excluded(facts.timeline), Bound::Unbounded)
}

fn of_wal(scene: &Scene<'_>, catalog: &Catalog, facts: &ServerFacts) -> Vec<Condition> {
    let mut conditions = Vec::new();
    let stalled = |message| Condition::new(Standing::Stalled, message);
    let archives = match facts.archiver.mode {
        ArchiveMode::Off => false,
        ArchiveMode::On => !trust::is_standby(scene),
        ArchiveMode::Always => true,
    };
    if facts.archiver.mode == ArchiveMode::Off && scene.server.receive.is_none() {
        conditions.push(stalled(
            "archive_mode is off: no WAL is archived".to_owned(),
        ));
    }
    conditions.extend(broken(scene, catalog, facts));
    conditions.extend(fork(catalog, facts).map(stalled));
    if archives && let Some(lag) = lag(scene, facts) {
        conditions.push(stalled(lag));
    }
    conditions
}

/// The gap behind the newest good backup. Where the server still has all of it, it closes by itself.
fn broken(scene: &Scene<'_>, catalog: &Catalog, facts: &ServerFacts) -> Option<Condition> {
    let gap = gap::gap(scene, catalog, catalog.newest_good()?, facts)?;
    let told = format!("WAL gap of {} from {}", gap.segments(), gap.first());
    let may = baseline::mode(scene).allows(Effect::Additive) && scene.entry.copy_of.is_none();
    if may && gap.lost(&facts.at_hand).is_none() {
        let told = format!("{told}, still in pg_wal");
        return Some(Condition::new(Standing::Progressing, told));
    }
    Some(Condition::new(Standing::Stalled, told))
}

/// Another server archives here: whoever is promoted begins a timeline above all that are in the archive, so what is above the server's own
/// is not its past. A primary that was replaced and still runs looks like this.
fn fork(catalog: &Catalog, facts: &ServerFacts) -> Option<String> {
    let (timeline, runs) = catalog.wal.runs.range(above(facts)).next_back()?;
    let first = runs.first()?.first;
    let first = first.name(*timeline, facts.segment_size);
    let own = facts.timeline.number();
    Some(format!(
        "timelines fork: {first} was archived by another server, this one is on timeline {own}"
    ))
}

/// The age of the oldest complete segment that is not readable in the destination, where it is above the objective.
///
/// Which segments wait is known where the role may ask or the server's files are here; else only that the archiver fails, and since when.
fn lag(scene: &Scene<'_>, facts: &ServerFacts) -> Option<String> {
    let max = scene.entry.wal.max_lag?;
    let archiver = &facts.archiver;
    let over = |since: Timestamp| Some(scene.now.since(since)).filter(|age| *age > max);
    if let (Some(oldest), Some(since)) = (archiver.oldest_ready, archiver.oldest_ready_at) {
        let (age, max) = (Span(over(since)?), Span(max));
        return Some(format!("WAL {oldest} waits for {age}, more than {max}"));
    }
    let failed = archiver.last_failed.as_ref()?;
    let since = archiver.last_archived_at?;
    let fails = archiver.last_failed_at.is_some_and(|at| at > since);
    let age = Span(over(since).filter(|_| fails)?);
    Some(format!(
        "archiving {failed} fails, the last success was {age} ago"
    ))
}

/// When the last segment of a window was archived, if it is the one that the server archived last.
pub(super) fn archived_at(scene: &Scene<'_>, window: Option<&RecoveryWindow>) -> Option<Timestamp> {
    let archiver = &scene.postgres.known()?.archiver;
    let is_last = archiver.last_archived == Some(window?.until);
    archiver.last_archived_at.filter(|_| is_last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{World, stands, steps};

    #[test]
    fn all_is_well() {
        assert_eq!(stands("| done 1d"), "converged: nothing to do");
        assert_eq!(stands("| nothing"), "converged: nothing to do");
    }

    #[test]
    fn what_is_damaged_unreadable_or_from_the_future_is_told() {
        assert_eq!(
            stands("| done 1d | done 2d empty:"),
            "stalled: backup 2d is damaged: archive `data` is missing or empty"
        );
        assert_eq!(
            stands("| done 1d | unreadable 2d"),
            "stalled: backup.info of 2d is unreadable: nonsense"
        );
        assert_eq!(
            stands("| done 1d | done -1h"),
            "stalled: backup -1h ends in the future"
        );
        assert_eq!(stands("| done 1d | done -5m"), "converged: nothing to do");
    }

    #[test]
    fn a_timeline_above_the_servers_own_is_somebody_elses() {
        let fork = |text: &str| stands(text).lines().next().unwrap_or_default().to_owned();
        let replaced =
            "| wal 1:900-1010 2:1004-1010 | history 2:1@1004 | done 9h | postgres archived:1010";
        assert_eq!(
            fork(replaced),
            "stalled: timelines fork: 0000000200000003000000EC was archived by another server, this one is on timeline 1"
        );
        let promoted = replaced.replace("archived:1010", "tl:2 archived:1010");
        assert_eq!(fork(&promoted), "converged: nothing to do");
        let unchecked = format!("check=off {replaced}");
        assert_eq!(fork(&unchecked), "converged: nothing to do");
    }

    #[test]
    fn gaps_and_forks_are_counted() {
        let figures = |text: &str| {
            let plan = World::parse(text).plan();
            let target = plan.targets.values().next().expect("one");
            target.wal.map(|wal| (wal.gaps, wal.missing, wal.forks))
        };
        let lost = "| wal 1:900-1002 1:1005-1007 1:1009-1010 | done 9h";
        assert_eq!(figures("| done 9h"), Some((0, 0, 0)));
        assert_eq!(figures(lost), Some((2, 3, 0)));
        assert_eq!(
            figures(&format!("{lost} | postgres hand:1:1000-1010")),
            Some((2, 3, 0)),
            "it is missing until it is there"
        );
        let forked = "| wal 1:900-1010 2:1004-1010 3:1008-1010 | done 9h";
        assert_eq!(figures(forked), Some((0, 0, 2)));
        assert_eq!(
            figures(&format!("{forked} | postgres tl:3")),
            Some((0, 0, 0))
        );
        for nobody in [
            "check=off | done 9h",
            "| done 9h | lose server",
            "| done 9h | lose catalog",
        ] {
            assert_eq!(figures(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn the_end_of_a_window_has_a_time_if_the_server_archived_it_last() {
        let reached = |archived: u64| {
            let text = format!("| done 1d | postgres archived:{archived}");
            let mut world = World::parse(&text);
            let at = world.now;
            if let Knowledge::Known(facts) = &mut world.observed.postgres {
                facts.archiver.last_archived_at = Some(at);
            }
            let plan = world.plan();
            let target = plan.targets.into_values().next().expect("one");
            (target.reached, at)
        };
        let (last, at) = reached(1010);
        assert_eq!(last, Some(at));
        assert_eq!(reached(1009).0, None);
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_segment_that_waits() {
        let ready = "lag=5m | done 1d | postgres ready:20m";
        assert_eq!(
            stands(ready),
            "stalled: WAL 0000000100000003000000F3 waits for 20m, more than 5m"
        );
        assert_eq!(
            stands(&ready.replace("lag=5m", "lag=1h")),
            "converged: nothing to do"
        );
        assert_eq!(
            stands(&ready.replace("lag=5m", "lag=20m")),
            "converged: nothing to do"
        );
        assert_eq!(
            stands(&ready.replace("lag=5m", "")),
            "converged: nothing to do"
        );
        assert_eq!(
            stands("lag=5m | done 1d | postgres failing:2h"),
            "stalled: archiving 0000000100000003000000F3 fails, the last success was 2h ago"
        );
        // It has succeeded since, within the same instant.
        let mut world = World::parse("lag=5m | done 1d | postgres failing:2h");
        if let Knowledge::Known(facts) = &mut world.observed.postgres {
            facts.archiver.last_failed_at = facts.archiver.last_archived_at;
        }
        assert_eq!(world.plan().standing(), Standing::Converged);
        let standby = "lag=5m | done 1d | postgres standby ready:20m";
        assert_eq!(
            stands(standby),
            "converged: nothing to do",
            "its primary archives"
        );
        assert_eq!(
            stands("| done 1d | postgres off"),
            "stalled: archive_mode is off: no WAL is archived"
        );
    }

    #[test]
    fn what_is_unknown_blocks() {
        assert_eq!(
            stands("| done 1d | lose catalog"),
            "blocked: the catalog is unknown: no answer"
        );
        assert_eq!(
            stands("| done 1d | lose destination"),
            "blocked: the catalog is unknown: it was not looked at"
        );
        assert_eq!(
            stands("| done 1d | postgres sys:2"),
            "blocked: the prefix belongs to system 1, found 2"
        );
        let old = "retention=1x | done 1d | done 9d";
        for lost in [
            "attempts",
            "tombstones",
            "keeps",
            "clock",
            "identity",
            "server",
        ] {
            let text = format!("{old} | lose {lost}");
            assert!(stands(&text).starts_with("blocked: "), "{lost}");
            assert_eq!(steps(&text), "", "{lost}");
        }
    }

    #[test]
    fn a_standby_archives_where_it_is_told_to() {
        let lagging = "lag=5m | done 1d | postgres standby ready:1h";
        let mut world = World::parse(lagging);
        let stands = |world: &World| {
            let plan = world.plan();
            plan.targets.values().next().expect("one").conditions[0]
                .message
                .clone()
        };
        assert!(
            !stands(&world).contains("waits for 1h"),
            "{}",
            stands(&world)
        );
        let Knowledge::Known(facts) = &mut world.observed.postgres else {
            panic!("it is known");
        };
        facts.archiver.mode = ArchiveMode::Always;
        assert!(
            stands(&world).contains("waits for 1h"),
            "{}",
            stands(&world)
        );
    }
}
