//! What can be restored, and what is missing: good backups, gaps in the WAL, lag.
//!
//! A gap needs no second look: PostgreSQL archives in order, and the server is asked before the archive is listed. Whatever lies before the
//! last segment that it calls archived has been acknowledged; if the listing does not show it, it is gone.

use std::collections::BTreeSet;

use super::{Decision, Scene, trust};
use crate::model::{
    backup::{Backup, BackupStatus},
    catalog::Catalog,
    condition::{Condition, Standing},
    desired::WalCheck,
    observed::{ArchiveMode, Knowledge, ServerFacts},
    reason::Waiting,
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
    let mut conditions = Vec::new();
    match &scene.stored.catalog {
        Knowledge::Unknown(failure) => {
            let message = format!("cannot read the catalog: {failure}");
            conditions.push(Condition::new(Standing::Blocked, message));
        }
        Knowledge::Absent => {}
        Knowledge::Known(catalog) => conditions.extend(of_catalog(scene, catalog)),
    }
    if let Knowledge::Unknown(failure) = scene.postgres {
        let message = format!("cannot ask the server: {failure}");
        conditions.push(Condition::new(Standing::Blocked, message));
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
fn lag(scene: &Scene<'_>, facts: &ServerFacts) -> Option<String> {
    let max = scene.entry.wal.max_lag?;
    let oldest = facts.archiver.oldest_ready?;
    let age = scene.now.since(facts.archiver.oldest_ready_at?);
    (age > max).then(|| {
        format!(
            "WAL {oldest} waits for {}, more than {}",
            Span(age),
            Span(max)
        )
    })
}

/// What stands against adding anything, where nothing else has said so: another cluster in the prefix, an id from the future.
pub(super) fn of_obstacle(waiting: &Waiting) -> Option<Condition> {
    let obstacle = matches!(
        waiting,
        Waiting::ForeignSystem { .. } | Waiting::FutureId { .. }
    );
    obstacle.then(|| Condition::new(Standing::Blocked, waiting.to_string()))
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
    let mut segment = begin.number(size);
    let last = last.number(size);
    let mut missing = BTreeSet::new();
    while segment <= last {
        let timeline = history.timeline_of(segment, size);
        match catalog.wal.contiguous_until(timeline, segment) {
            // Contiguous here, but the ancestry may leave the timeline earlier.
            Some(until) => segment = until.min(last_on(&history, timeline, until, size)).next(),
            None => {
                missing.insert(segment);
                segment = segment.next();
            }
        }
        if missing.len() > MISSING_MAX {
            break;
        }
    }
    let first = *missing.first()?;
    let timeline = history.timeline_of(first, size);
    Some(Gap {
        first: first.name(timeline, size),
        segments: u64::try_from(missing.len()).unwrap_or(u64::MAX),
    })
}

/// A gap is counted no further: 16 GiB of missing WAL are not looked at one by one.
const MISSING_MAX: usize = 1024;

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
