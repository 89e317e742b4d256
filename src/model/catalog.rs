//! Everything stored for one server in one destination, as values.
//!
//! The size of a [`Catalog`] is bounded by backups, gaps and timelines, never by the number of WAL objects: segments are held as
//! ranges.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    backup::{Backup, BackupId, KeepTarget},
    runs::Runs,
    snapshot::Account,
    time::Timestamp,
    timeline::{TimelineHistory, TimelineId},
    wal::{SegmentNumber, SegmentSize},
};
use crate::failure::Failure;

/// What is stored for one server in one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// The backups with a readable `backup.info`, ordered by id.
    pub backups: Vec<Backup>,
    /// The backups whose `backup.info` cannot be understood, with the reason.
    pub unreadable: BTreeMap<BackupId, Failure>,
    /// The version of each `backup.info` read, in the store's own words: what a delete checks before it acts.
    pub versions: BTreeMap<BackupId, String>,
    /// The backups in which pages were found damaged when they were taken.
    pub page_damage: BTreeSet<BackupId>,
    /// The backups whose manifests are kept, which incremental ones build on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub manifests: BTreeSet<BackupId>,
    /// What reading all of a backup came to, for those that were ever read back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub verified: BTreeMap<BackupId, Verified>,
    /// Where the snapshots are of each backup that consists of some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<BackupId, Account>,
    /// The complete backups of whose snapshots one is not there any more, with that one: as far as the clouds were asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost_snapshots: BTreeMap<BackupId, String>,
    /// The directories under `base/` without a `backup.info`.
    pub orphans: Vec<Orphan>,
    /// The WAL archive.
    pub wal: WalArchive,
}

impl Catalog {
    /// The backup whose `backup.info` was this version of the object, which is never the empty text of a version that was not told.
    pub fn at_version(&self, id: &BackupId, version: &str) -> Option<&Backup> {
        let known = self.versions.get(id)?;
        (known == version && !version.is_empty()).then(|| self.backup(id))?
    }

    /// The backup with this id.
    pub fn backup(&self, id: &BackupId) -> Option<&Backup> {
        self.backups.iter().find(|backup| backup.id == *id)
    }

    /// Whether something of what a restore would read is gone: an archive, or a snapshot of a disk.
    pub fn is_in_part(&self, backup: &Backup) -> bool {
        backup.missing_archive().is_some() || self.lost_snapshots.contains_key(&backup.id)
    }

    /// Everything that lies below `base/`: backups, readable or not, and orphans.
    pub fn ids(&self) -> impl Iterator<Item = &BackupId> {
        let backups = self.backups.iter().map(|backup| &backup.id);
        let orphans = self.orphans.iter().map(|orphan| &orphan.id);
        backups.chain(self.unreadable.keys()).chain(orphans)
    }

    /// The segment size of the cluster: that of its newest backup, or PostgreSQL's default.
    pub fn segment_size(&self) -> SegmentSize {
        self.backups
            .last()
            .map_or(SegmentSize::DEFAULT, |backup| backup.segment_size)
    }
}

/// What reading all of a backup came to, the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// What was found.
    pub finding: Finding,
}

/// What was found when all of a backup was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Nothing is wrong with it.
    Sound,
    /// It is not what was stored, or cannot be restored.
    Faulty,
}

/// Objects below `base/` that belong to no readable backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The directory's name.
    pub id: BackupId,
    /// How many objects it holds.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// When the youngest of them was written, by the store's clock.
    pub newest: Timestamp,
    /// The keep found beside them: somebody wants even this to stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<KeepTarget>,
}

/// The WAL archive: which segments are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalArchive {
    /// Per timeline, the contiguous runs of whole segments, ascending and disjoint.
    pub runs: BTreeMap<TimelineId, Vec<Run>>,
    /// Segments of which there is only a partial file or a backup history file.
    #[serde(default)]
    pub fragments: BTreeSet<(TimelineId, SegmentNumber)>,
    /// The timeline histories found.
    pub histories: BTreeMap<TimelineId, TimelineHistory>,
    /// How many segment objects there are; one segment stored with two compressions counts twice.
    pub objects: u64,
    /// Their size as stored, in bytes.
    pub bytes: u64,
}

/// A contiguous run of segments, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Run {
    /// The first segment.
    pub first: SegmentNumber,
    /// The last segment.
    pub last: SegmentNumber,
}

impl Run {
    /// How many segments it has.
    pub fn segments(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

impl WalArchive {
    /// Records a segment. Ascending order within a timeline costs nothing; any order is right.
    pub fn insert(&mut self, timeline: TimelineId, segment: SegmentNumber) {
        let runs = self.runs.entry(timeline).or_default();
        // The run that begins last at or before the segment, if any, ends just before this index.
        let after = runs.partition_point(|run| run.first <= segment);
        if let Some(run) = after.checked_sub(1).and_then(|index| runs.get_mut(index)) {
            if segment <= run.last {
                return;
            }
            if run.last.next() == segment {
                run.last = segment;
                Self::join(runs, after - 1);
                return;
            }
        }
        runs.insert(
            after,
            Run {
                first: segment,
                last: segment,
            },
        );
        Self::join(runs, after);
    }

    /// Adds what another look at the same archive found: of two listings, what each shows is there.
    pub fn absorb(&mut self, other: Self) {
        for (timeline, found) in other.runs {
            let runs = self.runs.entry(timeline).or_default();
            let all: Runs = runs.drain(..).chain(found).collect();
            runs.extend(all.iter());
        }
        self.fragments.extend(other.fragments);
        self.histories.extend(other.histories);
        self.objects += other.objects;
        self.bytes += other.bytes;
    }

    fn join(runs: &mut Vec<Run>, index: usize) {
        let touches = runs
            .get(index + 1)
            .is_some_and(|next| runs[index].last.next() == next.first);
        if touches {
            let next = runs.remove(index + 1);
            runs[index].last = next.last;
        }
    }

    /// Whether a whole segment is there.
    pub fn contains(&self, timeline: TimelineId, segment: SegmentNumber) -> bool {
        self.run_with(timeline, segment).is_some()
    }

    /// The last segment of the contiguous run that holds this one.
    pub fn contiguous_until(
        &self,
        timeline: TimelineId,
        segment: SegmentNumber,
    ) -> Option<SegmentNumber> {
        self.run_with(timeline, segment).map(|run| run.last)
    }

    /// The first run that begins after a segment.
    pub fn next_run(&self, timeline: TimelineId, segment: SegmentNumber) -> Option<&Run> {
        let runs = self.runs.get(&timeline)?;
        runs.get(runs.partition_point(|run| run.first <= segment))
    }

    fn run_with(&self, timeline: TimelineId, segment: SegmentNumber) -> Option<&Run> {
        let runs = self.runs.get(&timeline)?;
        let index = runs
            .partition_point(|run| run.first <= segment)
            .checked_sub(1)?;
        runs.get(index).filter(|run| segment <= run.last)
    }

    /// The history of a timeline, as far as the archive knows it.
    pub fn history(&self, timeline: TimelineId) -> TimelineHistory {
        let known = self.histories.get(&timeline).cloned();
        known.unwrap_or_else(|| TimelineHistory::root(timeline))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs(segments: &[u64]) -> Vec<(u64, u64)> {
        let mut archive = WalArchive::default();
        for segment in segments {
            archive.insert(TimelineId::FIRST, SegmentNumber(*segment));
        }
        let runs = archive.runs.remove(&TimelineId::FIRST).unwrap_or_default();
        runs.iter().map(|run| (run.first.0, run.last.0)).collect()
    }

    #[test]
    fn segments_join_into_runs_in_any_order() {
        assert_eq!(runs(&[1, 2, 3, 7, 5, 6, 3, 9]), [(1, 3), (5, 7), (9, 9)]);
        assert_eq!(runs(&[3, 1, 2]), [(1, 3)]);
        assert_eq!(runs(&[2, 4, 3, 1]), [(1, 4)]);
    }

    proptest! {
        #[test]
        fn runs_hold_exactly_what_was_inserted(segments in prop::collection::vec(0_u64..40, 0..60)) {
            let mut archive = WalArchive::default();
            for segment in &segments {
                archive.insert(TimelineId::FIRST, SegmentNumber(*segment));
            }
            for segment in 0..41 {
                let held = archive.contains(TimelineId::FIRST, SegmentNumber(segment));
                prop_assert_eq!(held, segments.contains(&segment));
            }
            let runs = archive.runs.remove(&TimelineId::FIRST).unwrap_or_default();
            prop_assert!(runs.windows(2).all(|pair| pair[0].last.0 + 1 < pair[1].first.0));
        }
    }
}
