//! What those who receive and those who deliver share: what lies on the disk, how far everybody is, and a bell that rings when that changes.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::watch;

use super::{Error, ReceiveBench, WAITING_SEGMENTS, blocking, initial};
use crate::{
    model::{
        names::DestinationName,
        receiving::{Phase, Receiving, Trouble},
        time::Timestamp,
        timeline::Position,
        wal::{Lsn, SegmentName, SegmentSize, WalFile},
    },
    spool::{self, Kept, Received},
};

/// How many instants are remembered at which WAL came that is not confirmed.
const MARKS_MAX: usize = 1024;

/// What is shared.
pub(super) struct Desk<'a> {
    pub(super) bench: &'a ReceiveBench<'a>,
    pub(super) received: Arc<Received>,
    state: RefCell<Receiving>,
    stock: RefCell<Stock>,
    marks: RefCell<VecDeque<(Lsn, Timestamp)>>,
    bell: watch::Sender<()>,
}

/// What lies on the disk.
#[derive(Debug, Default)]
struct Stock {
    /// Whole files, in the order in which they must be archived.
    files: BTreeMap<String, Item>,
    /// The segment that is being received.
    open: Option<OpenSegment>,
    /// The last segment that an earlier process has begun.
    begun: Option<SegmentName>,
}

#[derive(Clone, Debug)]
struct Item {
    file: WalFile,
    bytes: u64,
    /// How far a destination is that has it.
    until: Option<Position>,
    /// The couriers that have not delivered it.
    waits_for: BTreeSet<usize>,
}

/// The segment that is being received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenSegment {
    pub(super) segment: SegmentName,
    /// Where it begins.
    pub(super) start: Position,
    /// How much of it has come, in bytes.
    pub(super) bytes: u32,
}

/// A file that waits for a courier.
pub(super) struct Parcel {
    pub(super) file: WalFile,
    pub(super) path: PathBuf,
    /// How far its destination is once it has it.
    pub(super) until: Option<Position>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(bench: &'a ReceiveBench<'a>, received: Received) -> Self {
        Self {
            state: RefCell::new(initial(bench)),
            stock: RefCell::default(),
            marks: RefCell::default(),
            bell: watch::Sender::new(()),
            received: Arc::new(received),
            bench,
        }
    }

    /// Rings when anything changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Receiving) -> T) -> T {
        read(&self.state.borrow())
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Receiving)) {
        {
            let mut state = self.state.borrow_mut();
            change(&mut state);
            let mut marks = self.marks.borrow_mut();
            while marks
                .front()
                .is_some_and(|(end, _)| state.confirmed >= Some(*end))
            {
                marks.pop_front();
            }
            state.behind_since = marks.front().map(|(_, since)| *since);
            (self.bench.tell)(&state);
        }
        self.bell.send_replace(());
    }

    pub(super) fn now(&self) -> Timestamp {
        self.bench.clock.now()
    }

    pub(super) fn is_durable(&self) -> bool {
        self.bench.wanted.spool.is_some()
    }

    pub(super) fn kept(&self) -> Kept {
        if self.is_durable() {
            Kept::Durably
        } else {
            Kept::ForNow
        }
    }

    /// Takes stock of what an earlier process has left.
    pub(super) async fn take_stock(&self) -> Result<(), Error> {
        let received = self.received.clone();
        let found = blocking(move || -> Result<_, spool::Error> {
            let begun = received.unfinished()?.pop();
            Ok((received.system_id()?, received.files()?, begun))
        });
        let (system_id, files, begun) = found.await?;
        for (file, bytes) in files {
            self.add(file, bytes, None);
        }
        self.stock.borrow_mut().begun = begun;
        self.change(|state| state.system_id = system_id);
        self.count();
        Ok(())
    }

    fn add(&self, file: WalFile, bytes: u64, until: Option<Position>) {
        let item = Item {
            file,
            bytes,
            until,
            waits_for: (0..self.bench.targets.len()).collect(),
        };
        let mut stock = self.stock.borrow_mut();
        stock.files.insert(file.to_string(), item);
    }

    fn count(&self) {
        let bytes = {
            let stock = self.stock.borrow();
            stock.files.values().map(|item| item.bytes).sum()
        };
        self.change(|state| state.waiting.bytes = bytes);
    }

    /// Whether another segment may come.
    pub(super) fn has_room(&self, size: SegmentSize) -> bool {
        self.read(|state| {
            let segment = size.bytes();
            let least = WAITING_SEGMENTS * segment;
            let most = match self.kept() {
                Kept::Durably => state.waiting.bytes_max.max(least),
                Kept::ForNow => least,
            };
            state.waiting.bytes + segment <= most
        })
    }

    /// A file is whole now. `until` is how far a destination is that has it.
    pub(super) fn stored(&self, file: WalFile, bytes: u64, until: Option<Position>) {
        self.add(file, bytes, until);
        self.count();
    }

    /// WAL up to a position has come; these segments became whole.
    pub(super) fn grown(&self, to: Position, whole: &[SegmentName], size: SegmentSize) {
        for segment in whole {
            let until = Position {
                timeline: segment.timeline,
                lsn: segment.number(size).next().start(size),
            };
            self.add(WalFile::Segment(*segment), size.bytes(), Some(until));
        }
        let start = to.segment_start(size);
        let bytes = u32::try_from(to.lsn.0 - start.lsn.0).unwrap_or(u32::MAX);
        self.stock.borrow_mut().open = (bytes > 0).then(|| OpenSegment {
            segment: to.segment(size),
            start,
            bytes,
        });
        if !whole.is_empty() {
            self.count();
        }
        {
            let mut marks = self.marks.borrow_mut();
            if marks.len() < MARKS_MAX {
                marks.push_back((to.lsn, self.now()));
            }
        }
        let durable = self.is_durable();
        self.change(|state| {
            // What comes again after a new beginning lies on the disk already, up to where it had come.
            let again = |old: &Position| old.timeline == to.timeline && old.lsn > to.lsn;
            let to = state.received.filter(again).unwrap_or(to);
            state.received = Some(to);
            state.end = state.end.max(Some(to.lsn));
            state.trouble = None;
            if durable {
                state.spooled = Some(to);
            }
        });
    }

    /// Nothing is being received any more into the open segment.
    pub(super) fn close(&self) {
        self.stock.borrow_mut().open = None;
    }

    pub(super) fn open(&self) -> Option<OpenSegment> {
        self.stock.borrow().open
    }

    /// The last segment that an earlier process has begun.
    pub(super) fn begun(&self) -> Option<SegmentName> {
        self.stock.borrow().begun
    }

    /// The last segment on the disk that is whole.
    pub(super) fn last_whole(&self) -> Option<SegmentName> {
        let stock = self.stock.borrow();
        let files = stock.files.values().rev();
        let mut segments = files.filter_map(|item| match item.file {
            WalFile::Segment(segment) => Some(segment),
            _ => None,
        });
        segments.next()
    }

    /// The first file that a courier has not delivered.
    pub(super) fn parcel(&self, courier: usize) -> Option<Parcel> {
        let stock = self.stock.borrow();
        let mut files = stock.files.values();
        let item = files.find(|item| item.waits_for.contains(&courier))?;
        Some(Parcel {
            file: item.file,
            path: self.received.path(item.file),
            until: item.until,
        })
    }

    /// A courier has delivered a file, which goes when it was the last one.
    pub(super) async fn delivered(&self, courier: usize, file: WalFile) -> Result<(), Error> {
        let is_last = {
            let mut stock = self.stock.borrow_mut();
            let item = stock.files.get_mut(&file.to_string());
            item.is_some_and(|item| {
                item.waits_for.remove(&courier);
                item.waits_for.is_empty()
            })
        };
        if !is_last {
            return Ok(());
        }
        let received = self.received.clone();
        blocking(move || received.remove(file)).await?;
        self.stock.borrow_mut().files.remove(&file.to_string());
        self.count();
        Ok(())
    }

    /// A destination has everything up to a position.
    pub(super) fn arrived(&self, destination: &DestinationName, until: Position) {
        self.change(|state| {
            let Some(arrival) = state.arrivals.get_mut(destination) else {
                return;
            };
            if arrival.until.is_none_or(|old| old.is_before(until)) {
                arrival.until = Some(until);
            }
        });
    }

    /// How delivering to a destination went.
    pub(super) fn went(&self, destination: &DestinationName, went: Result<(), &Error>) {
        let now = self.now();
        let had_trouble = self.read(|state| {
            let arrival = state.arrivals.get(destination);
            arrival.is_some_and(|arrival| arrival.trouble.is_some())
        });
        if went.is_ok() && !had_trouble {
            return;
        }
        self.change(|state| {
            if let Some(arrival) = state.arrivals.get_mut(destination) {
                let earlier = arrival.trouble.take();
                arrival.trouble = went
                    .err()
                    .map(|error| Trouble::again(earlier, error.failure(), now));
            }
        });
    }

    /// Says what is being done.
    pub(super) fn phase(&self, phase: Phase) {
        if self.read(|state| state.phase != phase) {
            self.change(|state| state.phase = phase);
        }
    }
}
