//! A PostgreSQL cluster as it really is: what it has written, on which timeline, and what its archiver did with it.

use std::{collections::VecDeque, sync::Arc};

use barkeep::{
    format::{
        history,
        keys::{ObjectKey, WalObject},
    },
    model::{
        compression::Compression,
        time::Timestamp,
        timeline::{Branch, TimelineHistory, TimelineId},
        wal::{Lsn, SegmentNumber, SegmentSize, WalFile},
    },
};

use crate::{catalog::Segment, dice::Dice, place::Place};

pub(crate) const SIZE: SegmentSize = SegmentSize::DEFAULT;

/// A cluster.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) system: u64,
    pub(crate) timeline: u32,
    /// The segment that is being written.
    pub(crate) segment: u64,
    /// For each timeline but the first: which one it left, and in which segment.
    pub(crate) branches: Vec<(u32, u32, u64)>,
    /// What waits for the archiver, oldest first.
    ready: VecDeque<(WalFile, Timestamp)>,
    pub(crate) archived: Option<(Segment, Timestamp)>,
    pub(crate) up: bool,
    /// Where its archiver delivers to.
    pub(crate) delivers: Vec<Arc<Place>>,
}

impl Cluster {
    pub(crate) fn new(name: &str, system: u64, delivers: Vec<Arc<Place>>) -> Self {
        Self {
            name: name.to_owned(),
            system,
            timeline: 1,
            segment: 3,
            branches: Vec::new(),
            ready: VecDeque::new(),
            archived: None,
            up: true,
            delivers,
        }
    }

    pub(crate) fn on(&self) -> TimelineId {
        timeline(self.timeline)
    }

    /// A position in the segment that is being written.
    pub(crate) fn position(&self, offset: u64) -> Lsn {
        Lsn(SegmentNumber(self.segment).start(SIZE).0 + offset)
    }

    /// Completes the segment that is being written.
    pub(crate) fn write(&mut self, now: Timestamp) {
        let name = SegmentNumber(self.segment).name(self.on(), SIZE);
        self.ready.push_back((WalFile::Segment(name), now));
        self.segment += 1;
    }

    /// Somebody else is the primary now; or the cluster was restored to `back` segments ago.
    pub(crate) fn promote(&mut self, back: u64, now: Timestamp) {
        let left = self.timeline;
        self.segment = self.segment.saturating_sub(back).max(3);
        let newest = self.branches.iter().map(|(of, _, _)| *of).max();
        self.timeline = newest.unwrap_or(1).max(left) + 1;
        self.branches.push((self.timeline, left, self.segment));
        self.ready.clear();
        let history = WalFile::History(self.on());
        self.ready.push_back((history, now));
    }

    /// The timelines that one comes from, each with the segment in which it was left; itself first.
    pub(crate) fn ancestry(&self, of: u32) -> Vec<(u32, u64)> {
        let mut all = vec![(of, u64::MAX)];
        let mut at = (of, u64::MAX);
        while let Some((_, from, left)) = self.branches.iter().find(|(to, _, _)| *to == at.0) {
            at = (*from, at.1.min(*left));
            all.push(at);
        }
        all
    }

    pub(crate) fn history(&self, of: u32) -> TimelineHistory {
        let mut ancestors = self.ancestry(of).split_off(1);
        ancestors.reverse();
        let branch = |(from, left): (u32, u64)| Branch {
            timeline: timeline(from),
            switch: SegmentNumber(left).start(SIZE),
            reason: "promoted".to_owned(),
        };
        TimelineHistory {
            timeline: timeline(of),
            branches: ancestors.into_iter().map(branch).collect(),
        }
    }

    /// Archives all that waits. Once in a while a file is called archived that nobody ever sees again.
    pub(crate) fn archive(&mut self, dice: &mut Dice, losses: u64, now: Timestamp) {
        while let Some((file, _)) = self.ready.pop_front() {
            let lost = dice.percent(losses);
            let content = match file {
                WalFile::History(of) => history::render(&self.history(of.number())),
                _ => format!("{} {file}", self.system),
            };
            for place in self.delivers.iter().filter(|_| !lost) {
                place.archive(&self.name, &key(file), &content);
            }
            if let WalFile::Segment(name) = file {
                let segment = (name.timeline.number(), name.number(SIZE).0);
                self.archived = Some((segment, now));
            }
        }
    }

    /// Since when the oldest complete segment waits, and which it is.
    pub(crate) fn oldest_ready(&self) -> Option<(WalFile, Timestamp)> {
        self.ready.front().copied()
    }
}

pub(crate) fn timeline(number: u32) -> TimelineId {
    TimelineId::new(number).expect("timelines begin at 1")
}

/// The path of a file of the archive, below the server's name.
pub(crate) fn key(file: WalFile) -> String {
    let compression = match file {
        WalFile::Segment(_) => Compression::Gzip,
        _ => Compression::None,
    };
    ObjectKey::Wal(WalObject { file, compression }).to_string()
}
