//! What can be restored, and what is missing: good backups, gaps in the WAL, lag.
//!
//! A gap needs no second look: PostgreSQL archives in order, and the server is asked before the archive is listed. Whatever lies before the
//! last segment that it calls archived has been acknowledged; if the listing does not show it, it is gone.

use super::{Decision, Scene, trust};
use crate::model::{
    backup::{Backup, BackupStatus},
    catalog::Catalog,
    condition::{Condition, Standing},
    desired::WalCheck,
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
        conditions.push(blocked(format!("cannot ask the server: {failure}")));
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
    if let Some(by) = trust::skew(scene) {
        conditions.push(stalled(format!(
            "clocks disagree by {}; no deletes",
            Span(by)
        )));
    }
    if scene.entry.wal.check == WalCheck::On
        && let Some(facts) = scene.postgres.known()
    {
        conditions.extend(of_wal(scene, catalog, facts));
    }
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
    if facts.archiver.mode == ArchiveMode::Off {
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
    if archives && let Some(lag) = lag(scene, facts) {
        conditions.push(stalled(lag));
    }
    conditions
}

/// The age of the oldest complete segment that is not readable in the destination, where it is above the objective.
///
/// Which segments wait is known where the server's files are here; elsewhere only that the archiver fails, and since when.
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
    let last = facts
        .archiver
        .last_archived
        .filter(|last| last.timeline == facts.timeline)?;
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
    let first = first?;
    Some(Gap { first, segments })
}

/// The last segment that is read from a timeline along a history.
fn last_on(
    history: &TimelineHistory,
    timeline: TimelineId,
    until: SegmentNumber,
    size: SegmentSize,
) -> SegmentNumber {
    match history.left_at(timeline) {
        // The segment of the switch is read from the next timeline.
        Some(left) => SegmentNumber((left.0 / size.bytes()).saturating_sub(1)).min(until),
        None => until,
    }
}

fn history(catalog: &Catalog, facts: &ServerFacts) -> TimelineHistory {
    let own = facts.history.clone();
    own.unwrap_or_else(|| catalog.wal.history(facts.timeline))
}
