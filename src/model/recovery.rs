//! What can be restored, and from which backup.
//!
//! A [`RecoveryWindow`] says which instants are reachable: from the end of a good backup to the
//! last segment that follows it without a gap. [`select`] finds the backup to restore for a target:
//! the newest good one that ended before the target and whose timeline the target's timeline
//! descends from, at a point after the backup's end. [`resolve`] understands what people call a
//! backup. Unlike Barman's `auto`, nothing but a good backup is ever chosen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::{
    backup::{Backup, BackupId, BackupStatus},
    catalog::Catalog,
    time::Timestamp,
    timeline::{TimelineHistory, TimelineId},
    wal::{Lsn, SegmentName},
};
use crate::failure::Kind;

pub mod intervals;

/// Instants that can be restored: any between `from` and the end of `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryWindow {
    /// The end of the backup that it starts from.
    pub from: Timestamp,
    /// That backup.
    pub backup: BackupId,
    /// The timeline that recovery follows.
    pub timeline: TimelineId,
    /// The last segment that is there without a gap.
    pub until: SegmentName,
}

/// The windows that these backups open, earliest first. Backups that reach equally far share one.
pub fn recovery_windows(catalog: &Catalog, retained: &BTreeSet<BackupId>) -> Vec<RecoveryWindow> {
    let mut windows: BTreeMap<SegmentName, RecoveryWindow> = BTreeMap::new();
    let good = catalog.backups.iter().filter(|backup| {
        let retained = retained.contains(&backup.id);
        retained && catalog.is_good(backup)
    });
    for window in good.filter_map(|backup| window(catalog, backup)) {
        let known = windows
            .entry(window.until)
            .or_insert_with(|| window.clone());
        if window.from < known.from {
            *known = window;
        }
    }
    let mut windows: Vec<_> = windows.into_values().collect();
    windows.sort_by_key(|window| (window.from, window.until));
    windows
}

/// The window that is still open: that of the backup that ended last.
pub fn recovery_window(catalog: &Catalog, retained: &BTreeSet<BackupId>) -> Option<RecoveryWindow> {
    recovery_windows(catalog, retained).pop()
}

fn window(catalog: &Catalog, backup: &Backup) -> Option<RecoveryWindow> {
    let history = latest(catalog, backup)?;
    let size = backup.segment_size;
    let begin = backup.begin_wal?.number(size);
    let until = catalog.wal.reached(&history, begin, size)?;
    Some(RecoveryWindow {
        from: backup.end_time?,
        backup: backup.id.clone(),
        timeline: history.timeline,
        until: until.name(history.timeline_of(until, size), size),
    })
}

/// The newest timeline that can be reached from a backup.
fn latest(catalog: &Catalog, backup: &Backup) -> Option<TimelineHistory> {
    let own = backup.end_wal?.timeline;
    let histories = catalog.wal.histories.values().rev();
    let mut descending = histories.filter(|history| leads_to(backup, history));
    let latest = descending.next().cloned();
    Some(latest.unwrap_or_else(|| catalog.wal.history(own)))
}

/// Whether recovery from a backup can follow a timeline: it branched off after the backup's end.
fn leads_to(backup: &Backup, history: &TimelineHistory) -> bool {
    let (Some(end_wal), Some(end_lsn)) = (backup.end_wal, backup.end_lsn) else {
        return false;
    };
    let left = history.left_at(end_wal.timeline);
    left.is_some_and(|left| end_lsn <= left)
}

/// The incrementals that cannot be restored without a backup, directly or not.
pub fn dependents(catalog: &Catalog, id: &BackupId) -> BTreeSet<BackupId> {
    let mut dependents = BTreeSet::new();
    let mut pending = vec![id];
    while let Some(parent) = pending.pop() {
        let children = catalog
            .backups
            .iter()
            .filter(|backup| backup.parent.as_ref() == Some(parent));
        for child in children {
            if dependents.insert(child.id.clone()) {
                pending.push(&child.id);
            }
        }
    }
    dependents
}

/// Why a text names no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// It is neither an id nor a shortcut nor a name.
    #[error("unknown backup `{0}`")]
    Unknown(String),
    /// Several backups have that name.
    #[error("several backups are named `{name}`, use an id: {ids}", ids = Ids(ids))]
    Ambiguous {
        /// The name.
        name: String,
        /// The backups.
        ids: Vec<BackupId>,
    },
}

impl ResolveError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unknown(_) => Kind::NotFound,
            Self::Ambiguous { .. } => Kind::Usage,
        }
    }
}

struct Ids<'a>(&'a [BackupId]);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.0.iter().map(BackupId::as_str).collect();
        formatter.write_str(&ids.join(" "))
    }
}

/// What a backup can be called by.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// Its id.
    pub id: &'a BackupId,
    /// The name that people gave it.
    pub name: Option<&'a str>,
    /// Its status, for the shortcuts.
    pub status: BackupStatus,
}

impl<'a> From<&'a Backup> for Called<'a> {
    fn from(backup: &'a Backup) -> Self {
        Self {
            id: &backup.id,
            name: backup.name.as_deref(),
            status: backup.status,
        }
    }
}

/// Finds the backup of a catalog that a text means, as [`resolve_among`] does.
pub fn resolve(catalog: &Catalog, text: &str) -> Result<BackupId, ResolveError> {
    let backups: Vec<_> = catalog.backups.iter().map(Called::from).collect();
    resolve_among(&backups, text)
}

/// Finds the backup that a text means, as Barman does: an id, a shortcut or a name.
///
/// An id is believed without looking. `first`, `oldest`, `last` and `latest` skip running backups,
/// not failed ones; `last-failed` is the last failed one. A shortcut that finds nothing is tried as
/// a name.
pub fn resolve_among(backups: &[Called<'_>], text: &str) -> Result<BackupId, ResolveError> {
    if is_id(text) {
        return Ok(BackupId::new(text));
    }
    if let Some(backup) = shortcut(backups, text) {
        return Ok(backup.id.clone());
    }
    let named = backups.iter().filter(|backup| backup.name == Some(text));
    let mut ids: Vec<_> = named.map(|backup| backup.id.clone()).collect();
    match ids.len() {
        0 => Err(ResolveError::Unknown(text.to_owned())),
        1 => Ok(ids.remove(0)),
        _ => Err(ResolveError::Ambiguous {
            name: text.to_owned(),
            ids,
        }),
    }
}

/// Whether a text looks like an id: eight digits, `T`, six digits.
pub fn is_id(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.split_once('T');
    parts.is_some_and(|(date, time)| {
        (date.len(), time.len()) == (8, 6) && digits(date) && digits(time)
    })
}

fn shortcut<'a, 'b>(backups: &'b [Called<'a>], text: &str) -> Option<&'b Called<'a>> {
    let has = |wanted: fn(BackupStatus) -> bool| {
        let backups = backups.iter();
        backups.filter(move |backup| wanted(backup.status))
    };
    let begun = has(|status| status != BackupStatus::Started);
    match text {
        "first" | "oldest" => begun.min_by_key(|backup| backup.id),
        "last" | "latest" => begun.max_by_key(|backup| backup.id),
        "last-failed" => {
            has(|status| status == BackupStatus::Failed).max_by_key(|backup| backup.id)
        }
        _ => None,
    }
}

/// Where recovery shall end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryTarget {
    /// At the end of all WAL.
    Latest,
    /// As soon as the backup is consistent.
    Immediate,
    /// At an instant.
    Time(Timestamp),
    /// At a position.
    Lsn(Lsn),
    /// At a transaction; only PostgreSQL can tell when that was.
    Xid(u64),
    /// At a restore point; only PostgreSQL can tell where that is.
    Name(String),
}

/// Which timeline recovery shall follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetTimeline {
    /// The newest one in the archive.
    #[default]
    Latest,
    /// The one that the backup ended on.
    Current,
    /// This one.
    Number(TimelineId),
}

/// Why no backup can be restored for a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No good backup ended before it on its timeline.
    #[error("no good backup ended before the target on its timeline")]
    NoBackup,
    /// The WAL between the backup and the target has a gap.
    #[error("WAL {missing} between backup `{backup}` and the target is missing")]
    Gap {
        /// The backup.
        backup: BackupId,
        /// The first missing segment.
        missing: SegmentName,
    },
}

impl SelectError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

/// Chooses the backup to restore for a target: the newest good one from which it can be reached.
///
/// For a transaction or a restore point that is the newest of all, since nothing tells where they
/// lie; whoever knows better names the backup.
pub fn select<'a>(
    catalog: &'a Catalog,
    target: &RecoveryTarget,
    timeline: TargetTimeline,
) -> Result<&'a Backup, SelectError> {
    let histories = catalog.wal.histories.keys();
    let newest = histories.chain(catalog.wal.runs.keys()).max();
    let suits = |backup: &&Backup| {
        let on_timeline = match timeline {
            TargetTimeline::Current => true,
            TargetTimeline::Number(number) => leads_to(backup, &catalog.wal.history(number)),
            TargetTimeline::Latest => {
                newest.is_none_or(|newest| leads_to(backup, &catalog.wal.history(*newest)))
            }
        };
        let in_time = match target {
            RecoveryTarget::Time(time) => backup.end_time.is_some_and(|end| end <= *time),
            RecoveryTarget::Lsn(lsn) => backup.end_lsn.is_some_and(|end| end <= *lsn),
            _ => true,
        };
        on_timeline && in_time && catalog.is_good(backup)
    };
    let candidates = catalog.backups.iter().filter(suits);
    let backup = candidates.max_by_key(|backup| (backup.end_time, &backup.id));
    let backup = backup.ok_or(SelectError::NoBackup)?;
    let on = match timeline {
        TargetTimeline::Current => backup.end_wal.map(|end| end.timeline),
        TargetTimeline::Number(number) => Some(number),
        TargetTimeline::Latest => newest.copied(),
    };
    if let (RecoveryTarget::Lsn(lsn), Some(begin), Some(on)) = (target, backup.begin_wal, on) {
        check_wal(catalog, backup, (begin, on), *lsn)?;
    }
    Ok(backup)
}

/// Finds the backup to restore for a target as Barman's `auto` does, but for one thing: only complete backups are candidates.
///
/// The last id counts whose end is not after the target, on the very timeline that is asked for, if one is.
pub fn last_before<'a>(
    catalog: &'a Catalog,
    target: &RecoveryTarget,
    timeline: Option<TimelineId>,
) -> Option<&'a Backup> {
    let suits = |backup: &&Backup| {
        let on_timeline = timeline.is_none() || backup.timeline == timeline;
        let in_time = match target {
            RecoveryTarget::Time(time) => backup.end_time.is_some_and(|end| end <= *time),
            RecoveryTarget::Lsn(lsn) => backup.end_lsn.is_some_and(|end| end <= *lsn),
            _ => true,
        };
        backup.status == BackupStatus::Done && on_timeline && in_time
    };
    let candidates = catalog.backups.iter().filter(suits);
    candidates.max_by(|one, two| one.id.cmp(&two.id))
}

fn check_wal(
    catalog: &Catalog,
    backup: &Backup,
    (begin, timeline): (SegmentName, TimelineId),
    lsn: Lsn,
) -> Result<(), SelectError> {
    let size = backup.segment_size;
    // A recovery to a position needs the record that ends there, not the one that begins.
    let last = lsn.segment_before(timeline, size).number(size);
    let history = catalog.wal.history(timeline);
    match catalog.wal.first_missing(&history, begin, last, size) {
        None => Ok(()),
        Some(missing) => Err(SelectError::Gap {
            backup: backup.id.clone(),
            missing,
        }),
    }
}

#[cfg(test)]
mod tests;
