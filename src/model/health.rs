//! Whether a backup that says it is complete is: the difference between *done* and *good*.
//!
//! A good backup is one that a restore would succeed from, as far as a listing tells: every archive
//! is there and not empty, or every snapshot of a disk as far as the cloud was asked, and so is the WAL from its beginning to its end, on the
//! timelines that recovery would read it from; and whoever read all of it found nothing wrong.

use super::{
    backup::{Backup, BackupStatus},
    catalog::{Catalog, Finding, WalArchive},
    reason::Damage,
    timeline::TimelineHistory,
    wal::{SegmentName, SegmentNumber, SegmentSize},
};

impl Catalog {
    /// The newest good backup without a damaged page, where the newest good one has some: the last that is known to be clean.
    pub fn newest_clean(&self) -> Option<&Backup> {
        let newest = self.newest_good()?;
        if !self.page_damage.contains(&newest.id) {
            return None;
        }
        let good = self.backups.iter().filter(|backup| self.is_good(backup));
        let clean = good.filter(|backup| !self.page_damage.contains(&backup.id));
        clean.max_by_key(|backup| (backup.end_time, &backup.id))
    }

    /// Whether a restore from the backup would succeed, as far as the listing tells.
    pub fn is_good(&self, backup: &Backup) -> bool {
        backup.status == BackupStatus::Done && self.damage(backup).is_none()
    }

    /// The newest backup that a restore can rely on.
    pub fn newest_good(&self) -> Option<&Backup> {
        let good = self.backups.iter().filter(|backup| self.is_good(backup));
        good.max_by_key(|backup| (backup.end_time, &backup.id))
    }

    /// What is missing from a backup that says it is complete; `None` for a good one.
    ///
    /// The answer means nothing for a backup that is not [`BackupStatus::Done`].
    pub fn damage(&self, backup: &Backup) -> Option<Damage> {
        if let Some(root) = backup.missing_archive() {
            return Some(Damage::Archive(root.to_string()));
        }
        if let Some(snapshot) = self.lost_snapshots.get(&backup.id) {
            return Some(Damage::Snapshot(snapshot.clone()));
        }
        let (Some(begin), Some(end)) = (backup.begin_wal, backup.end_wal) else {
            return Some(Damage::Unspecified);
        };
        let history = self.wal.history(end.timeline);
        let last = end.number(backup.segment_size);
        if let Some(missing) = self
            .wal
            .first_missing(&history, begin, last, backup.segment_size)
        {
            return Some(Damage::Wal(missing));
        }
        let verified = self.verified.get(&backup.id);
        if verified.is_some_and(|verified| verified.finding == Finding::Faulty) {
            return Some(Damage::Faulty);
        }
        let parent = backup.parent.as_ref()?;
        let whole = self.backup(parent).is_some_and(|before| {
            // What a backup builds on begins before it does: no chain runs in a circle.
            before.status == BackupStatus::Done
                && before.begin_lsn < backup.begin_lsn
                && self.damage(before).is_none()
        });
        (!whole).then(|| Damage::Parent(parent.clone()))
    }
}

impl WalArchive {
    /// The first segment from `begin` to `last`, both included, that a recovery along `history`
    /// would not find; `None` if it finds all. Costs as much as there are runs, not segments.
    pub fn first_missing(
        &self,
        history: &TimelineHistory,
        begin: SegmentName,
        last: SegmentNumber,
        size: SegmentSize,
    ) -> Option<SegmentName> {
        let first = begin.number(size);
        // A backup whose own timeline is no ancestor of where recovery goes cannot get there.
        if history.left_at(begin.timeline).is_none() || last < first {
            return Some(begin);
        }
        let reached = self.reached(history, first, size);
        match reached {
            None => Some(first.name(history.timeline_of(first, size), size)),
            Some(reached) if reached < last => {
                let missing = reached.next();
                Some(missing.name(history.timeline_of(missing, size), size))
            }
            Some(_) => None,
        }
    }

    /// The last segment that a recovery along `history` finds without a gap from `first` on;
    /// `None` if not even that one is there.
    pub fn reached(
        &self,
        history: &TimelineHistory,
        first: SegmentNumber,
        size: SegmentSize,
    ) -> Option<SegmentNumber> {
        let mut reached = None;
        let mut next = first;
        loop {
            let timeline = history.timeline_of(next, size);
            let Some(last) = self.contiguous_until(timeline, next) else {
                return reached;
            };
            // A segment in which the timeline was left is read from the one that follows.
            let left = history.left_at(timeline).map(|left| left.0 / size.bytes());
            match left.filter(|left| *left <= last.0.saturating_add(1)) {
                Some(left) => {
                    reached = left.checked_sub(1).map(SegmentNumber);
                    next = SegmentNumber(left);
                }
                None => return Some(last),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        timeline::{Branch, TimelineId},
        wal::Lsn,
    };

    /// An archive of segments written `timeline:first-last`.
    fn archive(runs: &str) -> WalArchive {
        let mut archive = WalArchive::default();
        for run in runs.split_whitespace() {
            let (timeline, run) = run.split_once(':').expect("a timeline");
            let (first, last) = run.split_once('-').expect("a run");
            let timeline = TimelineId::new(timeline.parse().expect("a number")).expect("not 0");
            for number in first.parse().expect("a number")..=last.parse().expect("a number") {
                archive.insert(timeline, SegmentNumber(number));
            }
        }
        archive
    }

    /// Timeline 2 left 1 within segment 5; 3 left 2 where segment 8 begins.
    fn third() -> TimelineHistory {
        let size = SegmentSize::DEFAULT.bytes();
        let branch = |timeline, switch| Branch {
            timeline: TimelineId::new(timeline).expect("not zero"),
            switch: Lsn(switch),
            reason: String::new(),
        };
        TimelineHistory {
            timeline: TimelineId::new(3).expect("not zero"),
            branches: vec![branch(1, 5 * size + 100), branch(2, 8 * size)],
        }
    }

    #[test]
    fn a_recovery_reaches_the_last_segment_before_a_gap_on_its_way() {
        let cases = [
            ("1:1-9", Some(4)),
            ("1:1-4 2:5-9", Some(7)),
            ("1:1-9 2:5-7 3:8-10", Some(10)),
            ("1:1-3 2:5-7", Some(3)),
            ("1:3-9", None),
            ("2:5-9", None),
        ];
        for (runs, last) in cases {
            let reached = archive(runs).reached(&third(), SegmentNumber(2), SegmentSize::DEFAULT);
            assert_eq!(reached, last.map(SegmentNumber), "{runs}");
        }
    }

    #[test]
    fn the_first_missing_segment_is_named_on_the_timeline_it_would_be_read_from() {
        let begin: SegmentName = "000000010000000000000002".parse().expect("a name");
        let missing = |runs: &str, last| {
            let size = SegmentSize::DEFAULT;
            let missing = archive(runs).first_missing(&third(), begin, SegmentNumber(last), size);
            missing.map(|name| name.to_string()).unwrap_or_default()
        };
        assert_eq!(missing("1:1-4 2:5-7 3:8-9", 9), "");
        assert_eq!(missing("1:1-9", 6), "000000020000000000000005");
        assert_eq!(missing("1:3-9", 6), "000000010000000000000002");
        assert_eq!(
            missing("1:1-9", 1),
            begin.to_string(),
            "an end before the beginning"
        );
    }
}
