//! What can be restored, and what is missing: good backups, gaps in the WAL, forks of its timelines, lag.
//!
//! A gap needs no second look: the server is asked before the archive is listed, and whatever lies before the last segment that it calls
//! archived has been acknowledged; if the listing does not show it, it is gone. PostgreSQL archives in order but for what a crash left
//! unmarked; such a segment still waits, and waiting is no gap.

use super::{Decision, Scene, slot, trust, verify};
use crate::model::{
    backup::{Backup, BackupStatus},
    catalog::Catalog,
    condition::{Condition, Standing},
    desired::{Delivery, WalCheck},
    observed::{ArchiveMode, Knowledge, ServerFacts},
    recovery::RecoveryWindow,
    time::{Span, Timestamp},
    timeline::{TimelineHistory, TimelineId},
    wal::{SegmentName, SegmentNumber, SegmentSize},
};

/// Segments that were archived and are not there.
pub(super) struct Gap {
    pub(super) first: SegmentName,
    pub(super) segments: u64,
}

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
    if scene.entry.wal.check == WalCheck::On
        && scene.entry.delivery == Delivery::Required
        && let Some(facts) = scene.postgres.known()
    {
        conditions.extend(of_wal(scene, catalog, facts));
    }
    conditions.extend(slot::conditions(scene));
    conditions
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
    if let Some(newest) = catalog.newest_good()
        && let Some(gap) = gap(scene, catalog, newest, facts)
    {
        let Gap { first, segments } = gap;
        conditions.push(stalled(format!("WAL gap of {segments} from {first}")));
    }
    conditions.extend(fork(catalog, facts).map(stalled));
    if archives && let Some(lag) = lag(scene, facts) {
        conditions.push(stalled(lag));
    }
    conditions
}

/// Another server archives here: whoever is promoted begins a timeline above all that are in the archive, so what is above the server's own
/// is not its past. A primary that was replaced and still runs looks like this.
fn fork(catalog: &Catalog, facts: &ServerFacts) -> Option<String> {
    let (timeline, runs) = catalog.wal.runs.last_key_value()?;
    let own = facts.timeline;
    let first = runs.first().filter(|_| *timeline > own)?.first;
    let first = first.name(*timeline, facts.segment_size);
    let own = own.number();
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

/// The first gap between a backup's beginning and the last segment that the server calls archived.
pub(super) fn gap(
    scene: &Scene<'_>,
    catalog: &Catalog,
    newest: &Backup,
    facts: &ServerFacts,
) -> Option<Gap> {
    if scene.entry.wal.check == WalCheck::Off || newest.system_id != Some(facts.system_id) {
        return None;
    }
    let last = last_stored(scene, catalog, facts);
    let last = last.filter(|last| last.timeline == facts.timeline)?;
    let history = history(catalog, facts);
    let size = facts.segment_size;
    let begin = newest.begin_wal?;
    history.left_at(begin.timeline)?;
    let mut next = begin.number(size);
    let last = last.number(size);
    let mut first = None;
    let mut segments = 0;
    while next <= last {
        let timeline = history.timeline_of(next, size);
        let end = last_on(&history, timeline, last, size).min(last);
        if let Some(until) = catalog.wal.contiguous_until(timeline, next) {
            next = until.min(end).next();
            continue;
        }
        let present = catalog.wal.next_run(timeline, next);
        let until = present
            .map_or(end, |run| SegmentNumber(run.first.0 - 1))
            .min(end);
        first = first.or(Some(next.name(timeline, size)));
        segments += until.0 - next.0 + 1;
        next = until.next();
    }
    let ready = facts.archiver.oldest_ready;
    let first = first.filter(|first| ready.is_none_or(|ready| ready > *first))?;
    Some(Gap { first, segments })
}

/// The last segment that must be there: the last one that the server calls archived. Nobody tells where WAL is received; it comes in order.
fn last_stored(scene: &Scene<'_>, catalog: &Catalog, facts: &ServerFacts) -> Option<SegmentName> {
    let archived = facts.archiver.last_archived;
    if scene.server.receive.is_none() {
        return archived;
    }
    let runs = catalog.wal.runs.get(&facts.timeline);
    let last = runs.and_then(|runs| Some(runs.last()?.last));
    let received = last.map(|last| last.name(facts.timeline, facts.segment_size));
    archived.max(received)
}

/// The last segment that is read from a timeline along a history.
fn last_on(
    history: &TimelineHistory,
    timeline: TimelineId,
    until: SegmentNumber,
    size: SegmentSize,
) -> SegmentNumber {
    // The segment of the switch is read from the next timeline.
    let last =
        |left: crate::model::wal::Lsn| SegmentNumber((left.0 / size.bytes()).saturating_sub(1));
    let left = history.left_at(timeline);
    left.map_or(until, |left| last(left).min(until))
}

fn history(catalog: &Catalog, facts: &ServerFacts) -> TimelineHistory {
    let own = facts.history.clone();
    own.unwrap_or_else(|| catalog.wal.history(facts.timeline))
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
    }

    #[test]
    fn segments_that_were_archived_and_are_gone_are_a_gap() {
        let gap = |text: &str| stands(text).lines().next().unwrap_or_default().to_owned();
        let lost = "| wal 1:900-1002 1:1005-1007 1:1009-1010 | done 9h";
        assert_eq!(
            gap(lost),
            "stalled: WAL gap of 3 from 0000000100000003000000EB"
        );
        let healed = format!("{lost} | done 1h begin:1009");
        assert_eq!(gap(&healed), "converged: nothing to do");
        let running = "| wal 1:900-1005 | done 9h | postgres archived:1005";
        assert_eq!(
            gap(running),
            "converged: nothing to do",
            "the rest is not archived yet"
        );
        let unchecked = format!("check=off {lost}");
        assert_eq!(gap(&unchecked), "converged: nothing to do");
        let waits = "| wal 1:900-1002 1:1004-1010 | done 9h | postgres waits:1003";
        assert_eq!(
            gap(waits),
            "converged: nothing to do",
            "it is archived late"
        );
        let far = "| wal 1:900-1002 1:900000-900001 | done 9h | postgres archived:900001";
        assert_eq!(
            gap(far),
            "stalled: WAL gap of 898997 from 0000000100000003000000EB"
        );
    }

    #[test]
    fn a_gap_is_looked_for_along_the_ancestry() {
        let gap = |text: &str| stands(text).lines().next().unwrap_or_default().to_owned();
        let promoted = "| wal 1:900-1004 2:1004-1010 | history 2:1@1004 | done 9h | postgres tl:2 archived:1010";
        assert_eq!(gap(promoted), "converged: nothing to do");
        let lost = promoted.replace("1:900-1004", "1:900-1001");
        assert_eq!(
            gap(&lost),
            "stalled: WAL gap of 2 from 0000000100000003000000EA"
        );
        let lost = promoted.replace("2:1004-1010", "2:1005-1010");
        assert_eq!(
            gap(&lost),
            "stalled: WAL gap of 1 from 0000000200000003000000EC"
        );
        // The old primary went on for a while: nobody needs that.
        let beyond = promoted.replace("1:900-1004", "1:900-1004 1:1007-1008");
        assert_eq!(gap(&beyond), "converged: nothing to do");
        // Where the new timeline comes from is not archived yet.
        let unknown = "| wal 1:900-1004 2:1004-1010 | done 9h | postgres tl:2 archived:1010";
        assert_eq!(gap(unknown), "converged: nothing to do");
        let of_old = "| wal 1:900-1002 1:1005-1010 | done 9h | postgres archived:1010 tl:2";
        assert_eq!(
            gap(of_old),
            "converged: nothing to do",
            "archived before the promotion"
        );
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
            stands(&ready.replace("lag=5m", "")),
            "converged: nothing to do"
        );
        assert_eq!(
            stands("lag=5m | done 1d | postgres failing:2h"),
            "stalled: archiving 0000000100000003000000F3 fails, the last success was 2h ago"
        );
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
