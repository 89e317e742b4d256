//! The history of one server in one destination as a strip of time: what can be restored, where it breaks off, and the backups on it.
//!
//! Backups know when they began and ended; WAL knows only its numbers. Between two backups the time of a segment is estimated in
//! proportion, so the end of a gap is where it would lie if WAL had been written evenly.

use serde::Serialize;

use crate::model::{
    backup::{Backup, BackupId, BackupStatus, KeepTarget},
    catalog::Catalog,
    judge::Fate,
    lock::Lock,
    observed::{Observed, Stored},
    recovery::intervals::{Interval, intervals},
    time::Timestamp,
    wal::{SegmentName, SegmentNumber, SegmentSize},
};
use crate::plan::Target;

/// A strip of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Strip {
    /// What can be restored, exactly: by positions, on each timeline.
    pub intervals: Vec<Interval>,
    /// What can be restored, earliest first, without overlaps.
    pub reaches: Vec<Reach>,
    /// What lies between, and cannot.
    pub gaps: Vec<Reach>,
    /// The backups, oldest first.
    pub marks: Vec<Mark>,
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end; where it was estimated, about.
    pub to: Timestamp,
}

/// A backup on the strip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// Its id.
    pub backup: BackupId,
    /// When it ended, or began if it has not ended.
    pub at: Timestamp,
    /// What it is.
    pub kind: MarkKind,
    /// Who keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepTarget>,
    /// Until when it cannot be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked: Option<Locked>,
    /// Its size as stored, in bytes.
    pub bytes: u64,
    /// Why it stays or goes, the weightiest reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Until when a backup cannot be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locked {
    /// Until then.
    Until(Timestamp),
    /// Until somebody lifts it.
    Held,
}

/// What a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkKind {
    /// A restore can rely on it.
    Good,
    /// It may go.
    Expiring,
    /// It runs, or waits for WAL.
    Running,
    /// It says that it is complete, and is not.
    Damaged,
    /// It failed.
    Failed,
}

/// Draws the strip of a catalog.
pub fn draw(
    stored: &Stored,
    target: &Target,
    observed: &Observed,
    now: Timestamp,
) -> Option<Strip> {
    let catalog = stored.catalog.known()?;
    let intervals = dated(catalog, observed);
    let reaches = reaches(&intervals, catalog, observed, now);
    let between = reaches.windows(2).map(|pair| (pair[0], pair[1]));
    // What is kept by itself was never meant to reach any further.
    let broken = between.filter(|(before, _)| !is_kept_by_itself(catalog, before));
    let gaps = broken.map(|(before, after)| Reach {
        from: before.to,
        to: after.from,
    });
    let marks = catalog.backups.iter().filter_map(|backup| {
        let mark = mark(catalog, target, backup)?;
        let locks = stored.locks.known();
        let lock = locks.and_then(|locks| locks.directories.get(&backup.id));
        Some(Mark {
            locked: lock.and_then(locked),
            ..mark
        })
    });
    Some(Strip {
        gaps: gaps.collect(),
        marks: marks.collect(),
        reaches,
        intervals,
    })
}

/// Whether all that a span begins with is kept without the WAL that would follow.
fn is_kept_by_itself(catalog: &Catalog, span: &Reach) -> bool {
    let within = |backup: &&Backup| {
        let end = backup.end_time;
        catalog.is_good(backup) && end.is_some_and(|end| span.from <= end && end <= span.to)
    };
    let mut within = catalog.backups.iter().filter(within);
    within.all(|backup| backup.keep == Some(KeepTarget::Standalone))
}

fn locked(lock: &Lock) -> Option<Locked> {
    match lock {
        Lock::LockedUntil {
            until: Some(until), ..
        } => Some(Locked::Until(*until)),
        Lock::LockedUntil { until: None, .. } | Lock::Held => Some(Locked::Held),
        Lock::Free | Lock::Unknown(_) => None,
    }
}

/// What can be restored, with the instant up to which the server says that it archived.
fn dated(catalog: &Catalog, observed: &Observed) -> Vec<Interval> {
    let mut intervals = intervals(catalog);
    let archiver = observed.postgres.known().map(|facts| &facts.archiver);
    let last =
        archiver.and_then(|archiver| Some((archiver.last_archived?, archiver.last_archived_at?)));
    for interval in &mut intervals {
        if let Some((segment, at)) = last
            && segment == interval.until
        {
            interval.stored(at);
        }
    }
    intervals
}

fn reaches(
    intervals: &[Interval],
    catalog: &Catalog,
    observed: &Observed,
    now: Timestamp,
) -> Vec<Reach> {
    let anchors = anchors(catalog, observed);
    let last = intervals.iter().map(|interval| interval.until).max();
    let mut reaches: Vec<Reach> = Vec::new();
    for Interval { starts, until, .. } in intervals {
        let from = starts[0].at;
        let estimate = estimate(&anchors, number(*until, catalog.segment_size()));
        let open = Some(*until) == last;
        // The last one goes on: WAL is archived behind it.
        let end = if open {
            estimate.unwrap_or(now)
        } else {
            estimate.unwrap_or(from)
        };
        let to = end.clamp(from, now.max(from));
        match reaches.last_mut() {
            Some(before) if from <= before.to => before.to = before.to.max(to),
            _ => reaches.push(Reach { from, to }),
        }
    }
    reaches
}

/// Segments whose time is known, in order of their numbers.
fn anchors(catalog: &Catalog, observed: &Observed) -> Vec<(u64, Timestamp)> {
    let mut anchors = Vec::new();
    for backup in &catalog.backups {
        let size = backup.segment_size;
        let ends = [
            (backup.begin_wal, backup.begin_time),
            (backup.end_wal, backup.end_time),
        ];
        let known = ends
            .into_iter()
            .filter_map(|(wal, time)| Some((number(wal?, size).0, time?)));
        anchors.extend(known);
    }
    if let Some(facts) = observed.postgres.known()
        && let (Some(segment), Some(at)) = (
            facts.archiver.last_archived,
            facts.archiver.last_archived_at,
        )
    {
        anchors.push((number(segment, facts.segment_size).0, at));
    }
    anchors.sort_unstable();
    anchors
}

fn number(segment: SegmentName, size: SegmentSize) -> SegmentNumber {
    segment.number(size)
}

/// When a segment was written, in proportion between the two that lie around it; `None` after the last.
fn estimate(anchors: &[(u64, Timestamp)], segment: SegmentNumber) -> Option<Timestamp> {
    let after = anchors.partition_point(|(number, _)| *number <= segment.0);
    let (before, from) = *anchors.get(after.checked_sub(1)?)?;
    if before == segment.0 {
        return Some(from);
    }
    let (next, to) = *anchors.get(after)?;
    let span = to.since(from);
    let part = u32::try_from(segment.0 - before).unwrap_or(u32::MAX);
    let whole = u32::try_from(next - before).unwrap_or(u32::MAX).max(1);
    Some(from + span / whole * part)
}

fn mark(catalog: &Catalog, target: &Target, backup: &Backup) -> Option<Mark> {
    let verdict = target.verdicts.get(&backup.id);
    let kind = match backup.status {
        BackupStatus::Failed => MarkKind::Failed,
        BackupStatus::Done if !catalog.is_good(backup) => MarkKind::Damaged,
        BackupStatus::Done if verdict.is_some_and(|verdict| verdict.fate == Fate::Expire) => {
            MarkKind::Expiring
        }
        BackupStatus::Done => MarkKind::Good,
        _ => MarkKind::Running,
    };
    let first = verdict.and_then(|verdict| verdict.reasons.first());
    Some(Mark {
        backup: backup.id.clone(),
        at: backup.end_time.or(backup.begin_time)?,
        kind,
        keep: backup.keep,
        locked: None,
        bytes: backup.archives.iter().map(|archive| archive.bytes).sum(),
        why: first.map(ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::scene, plan::testing::World};

    /// The strip of a scene, with instants as hours before now.
    fn strip(text: &str) -> String {
        let world = World::parse(text);
        let plan = world.plan();
        let target = plan.targets.values().next().expect("one");
        let stored = world.observed.destinations.values().next().expect("one");
        let strip = draw(stored, target, &world.observed, scene::now());
        let strip = strip.expect("a scene has a catalog");
        let hours = |at: Timestamp| scene::now().since(at).as_secs() / 3600;
        let spans = |spans: &[Reach]| {
            let each = spans
                .iter()
                .map(|span| format!("{}-{}", hours(span.from), hours(span.to)));
            each.collect::<Vec<_>>().join(" ")
        };
        let marks = strip
            .marks
            .iter()
            .map(|mark| format!("{} {:?}", hours(mark.at), mark.kind));
        let marks = marks.collect::<Vec<_>>().join(", ");
        format!(
            "reach {} | gaps {} | {marks}",
            spans(&strip.reaches),
            spans(&strip.gaps)
        )
    }

    #[test]
    fn what_can_be_restored_goes_from_the_first_backup_to_now() {
        assert_eq!(
            strip("| done 1d | done 8d"),
            "reach 192-0 | gaps  | 192 Good, 24 Good"
        );
        assert_eq!(strip("| failed 1d"), "reach  | gaps  | 24 Failed");
    }

    #[test]
    fn a_gap_lies_where_its_segments_would() {
        // Eight days ago was segment 920, one day ago 990: 955 lies half way.
        let text = "| done 1d | done 8d | wal 1:900-955 1:988-1010";
        assert_eq!(
            strip(text),
            "reach 192-109 24-0 | gaps 109-24 | 192 Good, 24 Good"
        );
    }

    #[test]
    fn what_is_kept_by_itself_leaves_no_gap_behind_it() {
        let text = "| done 1d | done 8d keep:standalone | wal 1:920-921 1:980-1010";
        assert_eq!(
            strip(text),
            "reach 192-192 24-0 | gaps  | 192 Good, 24 Good"
        );
    }

    #[test]
    fn a_mark_says_what_a_backup_is() {
        let text = "retention=1x | done 1d | done 8d | done 9d empty: | started 0h";
        let told = strip(text);
        assert!(
            told.ends_with("216 Damaged, 192 Expiring, 24 Good, 1 Running"),
            "{told}"
        );
    }
}
