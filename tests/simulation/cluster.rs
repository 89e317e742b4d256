//! A PostgreSQL cluster as it really is: what it has written, on which timeline, and what its archiver did with it.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use barkeep::{
    format::{
        history,
        keys::{ObjectKey, WalObject},
    },
    model::{
        action::WalSpan,
        catalog::Run,
        compression::Compression,
        time::Timestamp,
        timeline::{Branch, TimelineHistory, TimelineId},
        wal::{Lsn, SegmentName, SegmentNumber, SegmentSize, WalFile},
    },
};

use tempfile::TempDir;

use crate::{catalog::Segment, dice::Dice, place::Place};

/// So many segments stay in `pg_wal`.
const RETAINED: usize = 6;

/// As short as PostgreSQL's segments can be: those in `pg_wal` are real files.
pub(crate) fn size() -> SegmentSize {
    SegmentSize::new(BYTES.into()).expect("a size that PostgreSQL allows")
}

const BYTES: u32 = 1 << 20;

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
    /// The complete segments that are still in `pg_wal`, oldest first.
    retained: VecDeque<SegmentName>,
    /// The segments that were ever complete.
    complete: BTreeSet<SegmentName>,
    pgdata: TempDir,
    pub(crate) archived: Option<(Segment, Timestamp)>,
    pub(crate) up: bool,
    /// Whether what is asked is a standby of it.
    pub(crate) standby: bool,
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
            retained: VecDeque::new(),
            complete: BTreeSet::new(),
            pgdata: empty_pgdata(),
            archived: None,
            up: true,
            standby: false,
            delivers,
        }
    }

    pub(crate) fn on(&self) -> TimelineId {
        timeline(self.timeline)
    }

    /// A position in the segment that is being written.
    pub(crate) fn position(&self, offset: u64) -> Lsn {
        Lsn(SegmentNumber(self.segment).start(size()).0 + offset)
    }

    /// Completes the segment that is being written.
    pub(crate) fn write(&mut self, now: Timestamp) {
        let name = SegmentNumber(self.segment).name(self.on(), size());
        self.ready.push_back((WalFile::Segment(name), now));
        self.complete.insert(name);
        self.retain(name);
        self.segment += 1;
    }

    /// Leaves a complete segment in `pg_wal`, and takes away what is too much there.
    fn retain(&mut self, name: SegmentName) {
        let file = File::create(self.path(name)).expect("a directory of our own");
        file.set_len(size().bytes()).expect("room for holes");
        let header = self.header(name);
        (&file).write_all(&header).expect("room for a header");
        self.retained.push_back(name);
        if self.retained.len() > RETAINED {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        if let Some(oldest) = self.retained.pop_front() {
            fs::remove_file(self.path(oldest)).expect("it was left there");
        }
    }

    fn path(&self, name: SegmentName) -> PathBuf {
        self.pgdata().join("pg_wal").join(name.to_string())
    }

    /// The beginning of a segment, as PostgreSQL 18 writes it.
    fn header(&self, name: SegmentName) -> Vec<u8> {
        let fields: [&[u8]; 8] = [
            &0xD118_u16.to_le_bytes(),
            &2_u16.to_le_bytes(),
            &name.timeline.number().to_le_bytes(),
            &name.number(size()).start(size()).0.to_le_bytes(),
            &[0; 8],
            &self.system.to_le_bytes(),
            &BYTES.to_le_bytes(),
            &8192_u32.to_le_bytes(),
        ];
        fields.concat()
    }

    /// Where its files are.
    pub(crate) fn pgdata(&self) -> &Path {
        self.pgdata.path()
    }

    /// The complete segments in `pg_wal` that do not wait for the archiver.
    pub(crate) fn at_hand(&self) -> Vec<WalSpan> {
        let there = self.retained.iter().filter(|name| self.is_over(**name));
        let span = |name: &SegmentName| {
            let (first, last) = (name.number(size()), name.number(size()));
            let run = Run { first, last };
            let timeline = name.timeline;
            WalSpan { timeline, run }
        };
        there.map(span).collect()
    }

    /// Whether a segment is complete and does not wait for the archiver.
    pub(crate) fn is_over(&self, name: SegmentName) -> bool {
        let file = WalFile::Segment(name);
        let waits = self.ready.iter().any(|(waiting, _)| *waiting == file);
        self.complete.contains(&name) && !waits
    }

    /// Somebody else is the primary now; or the cluster was restored to `back` segments ago.
    pub(crate) fn promote(&mut self, back: u64, now: Timestamp) {
        let left = self.timeline;
        self.segment = self.segment.saturating_sub(back).max(3);
        let newest = self.branches.iter().map(|(of, _, _)| *of).max();
        self.timeline = newest.unwrap_or(1).max(left) + 1;
        self.branches.push((self.timeline, left, self.segment));
        self.ready.clear();
        if back > 0 {
            // Restored, it begins without.
            while !self.retained.is_empty() {
                self.remove_oldest();
            }
        }
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
            switch: SegmentNumber(left).start(size()),
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
                let segment = (name.timeline.number(), name.number(size()).0);
                self.archived = Some((segment, now));
            }
        }
    }

    /// Since when the oldest complete segment waits, and which it is.
    pub(crate) fn oldest_ready(&self) -> Option<(WalFile, Timestamp)> {
        self.ready.front().copied()
    }
}

fn empty_pgdata() -> TempDir {
    let pgdata = tempfile::tempdir().expect("a place for files");
    fs::create_dir(pgdata.path().join("pg_wal")).expect("it is empty");
    pgdata
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
