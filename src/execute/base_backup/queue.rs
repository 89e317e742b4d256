//! Who stores what: the entries that a walk found, handed to the builders of archives.
//!
//! One walk fills the queue, any number of builders empty it, and it never holds more than a fixed number of entries. A builder
//! stays with the directory tree that it has an archive of. A further archive of a tree is begun only when enough work for it
//! lies in the queue, so that a small cluster has one `data.tar` and a large one keeps every builder busy.
//!
//! `data.tar` is special: it holds all directories of PGDATA and, at its very end, what must be read last. When the tree is done,
//! or the archive is full, it is parked here instead of being closed; whoever meets a directory then may take it out again.
//!
//! Nothing blocks for ever: the walk waits only for builders that have work, and a builder waits only for the walk.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard},
};

use super::walk::{Found, FoundKind};
use crate::model::backup::ArchiveRoot;

/// How many entries wait at most. Enough for the walk to be ahead of everybody, at about 300 bytes each.
const ENTRIES_MAX: usize = 2048;

/// How much work must lie in the queue before a further archive of the same tree is begun, in bytes.
const WORTH_AN_ARCHIVE: u64 = 32 << 20;

/// What a file costs beside its bytes, in bytes that could have been read meanwhile.
const FILE_COST: u64 = 32 << 10;

/// What a builder does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<A> {
    /// Add this to the archive in hand.
    Add(Found),
    /// Add this directory to `data.tar`, which was parked, and park it again.
    AddParked(A, Found),
    /// Close, or park, the archive in hand: its tree is done.
    Close,
    /// Begin this part of this tree's archives.
    Open(ArchiveRoot, u32),
    /// Nothing is left to do.
    Done,
}

/// The archive that a builder has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InHand {
    /// Its tree.
    pub(super) root: ArchiveRoot,
    /// Its place among the archives of the tree.
    pub(super) part: u32,
}

impl InHand {
    pub(super) fn is_data_tar(self) -> bool {
        self.root == ArchiveRoot::Data && self.part == 0
    }
}

/// The queue between one walk and its builders. `A` is an open archive.
pub(super) struct Queue<A> {
    state: Mutex<State<A>>,
    changed: Condvar,
}

struct State<A> {
    /// Everything but directories of PGDATA.
    entries: VecDeque<Found>,
    /// Directories of PGDATA.
    directories: VecDeque<Found>,
    /// The trees that the walk has come to, with the work that waits and the archives that were begun.
    trees: BTreeMap<ArchiveRoot, TreeState>,
    /// The tree that the walk is in; none before the first and after the last.
    walking: Option<ArchiveRoot>,
    walk_ended: bool,
    parked: Option<A>,
    failed: bool,
}

#[derive(Default)]
struct TreeState {
    /// The work in the queue, in bytes.
    waiting: u64,
    /// How many archives were begun.
    parts: u32,
}

/// The other side gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Abandoned;

impl<A> Queue<A> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                entries: VecDeque::new(),
                directories: VecDeque::new(),
                trees: BTreeMap::new(),
                walking: None,
                walk_ended: false,
                parked: None,
                failed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// The walk comes to a tree, which gets an archive even if nothing is found in it.
    pub(super) fn enter(&self, root: ArchiveRoot) {
        let mut state = self.lock();
        state.walking = Some(root);
        state.trees.insert(root, TreeState::default());
        self.changed.notify_all();
    }

    /// The walk has found an entry. Waits while the queue is full.
    pub(super) fn push(&self, found: Found) -> Result<(), Abandoned> {
        let mut state = self.lock();
        while !state.failed && state.entries.len() + state.directories.len() >= ENTRIES_MAX {
            state = self.wait(state);
        }
        if state.failed {
            return Err(Abandoned);
        }
        if found.root == ArchiveRoot::Data && found.kind == FoundKind::Directory {
            state.directories.push_back(found);
        } else {
            state.tree(found.root).waiting += cost(&found);
            state.entries.push_back(found);
        }
        self.changed.notify_all();
        Ok(())
    }

    /// The walk is over.
    pub(super) fn end_walk(&self) {
        let mut state = self.lock();
        state.walking = None;
        state.walk_ended = true;
        self.changed.notify_all();
    }

    /// Somebody failed: everybody stops.
    pub(super) fn fail(&self) {
        self.lock().failed = true;
        self.changed.notify_all();
    }

    /// Whether somebody failed.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed
    }

    /// What to do next, given the archive in hand. Waits while there is nothing.
    pub(super) fn next(&self, in_hand: Option<InHand>) -> Next<A> {
        let mut state = self.lock();
        loop {
            if state.failed {
                return Next::Done;
            }
            if let Some(next) = state.next(in_hand) {
                // A place in the queue is free, or an archive has changed hands.
                self.changed.notify_all();
                return next;
            }
            state = self.wait(state);
        }
    }

    /// Numbers the archive that goes on where a full one of the same tree ended.
    pub(super) fn next_part(&self, root: ArchiveRoot) -> u32 {
        let mut state = self.lock();
        let tree = state.tree(root);
        tree.parts += 1;
        tree.parts - 1
    }

    /// Lays `data.tar` aside.
    pub(super) fn park(&self, data_tar: A) {
        let mut state = self.lock();
        state.parked = Some(data_tar);
        self.changed.notify_all();
    }

    /// Takes `data.tar` when everybody is done.
    pub(super) fn into_parked(self) -> Option<A> {
        let state = self.state.into_inner();
        state
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .parked
    }

    fn lock(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().expect("no thread panics with the queue")
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<A>>) -> MutexGuard<'a, State<A>> {
        self.changed
            .wait(state)
            .expect("no thread panics with the queue")
    }
}

impl<A> State<A> {
    fn tree(&mut self, root: ArchiveRoot) -> &mut TreeState {
        self.trees.entry(root).or_default()
    }

    fn next(&mut self, in_hand: Option<InHand>) -> Option<Next<A>> {
        if let Some(found) = self.take_directory(in_hand) {
            return Some(found);
        }
        if let Some(in_hand) = in_hand {
            if let Some(found) = self.take_entry(in_hand.root) {
                return Some(Next::Add(found));
            }
            if self.walking == Some(in_hand.root) {
                return None;
            }
            return Some(Next::Close);
        }
        if let Some((root, tree)) = self.wants_archive() {
            tree.parts += 1;
            return Some(Next::Open(root, tree.parts - 1));
        }
        // Whatever entries are left have their builder, who stays until the walk has left the tree.
        let is_over = self.walk_ended && self.directories.is_empty();
        is_over.then_some(Next::Done)
    }

    fn take_directory(&mut self, in_hand: Option<InHand>) -> Option<Next<A>> {
        if in_hand.is_some_and(InHand::is_data_tar) {
            return self.directories.pop_front().map(Next::Add);
        }
        if self.parked.is_none() || self.directories.is_empty() {
            return None;
        }
        let data_tar = self.parked.take()?;
        let found = self.directories.pop_front()?;
        Some(Next::AddParked(data_tar, found))
    }

    fn take_entry(&mut self, root: ArchiveRoot) -> Option<Found> {
        // The entries of one tree lie together, so this looks at few.
        let at = self.entries.iter().position(|found| found.root == root)?;
        let found = self.entries.remove(at)?;
        let tree = self.tree(root);
        tree.waiting -= cost(&found);
        Some(found)
    }

    /// The first tree without an archive, or with enough work for one more.
    fn wants_archive(&mut self) -> Option<(ArchiveRoot, &mut TreeState)> {
        self.trees
            .iter_mut()
            .map(|(root, tree)| (*root, tree))
            .find(|(_, tree)| tree.parts == 0 || tree.waiting >= WORTH_AN_ARCHIVE)
    }
}

fn cost(found: &Found) -> u64 {
    match found.kind {
        FoundKind::File(size) => size.saturating_add(FILE_COST),
        FoundKind::Directory | FoundKind::Symlink(_) | FoundKind::Fifo => FILE_COST,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{execute::base_backup::walk::Attributes, pipeline::tar::FileTime};

    const SPACE: ArchiveRoot = ArchiveRoot::Tablespace(16384);

    fn found(root: ArchiveRoot, name: &str, kind: FoundKind) -> Found {
        Found {
            root,
            path: PathBuf::from("/x").join(name),
            relative: PathBuf::from(name),
            kind,
            attributes: Attributes {
                mode: 0o600,
                uid: 1,
                gid: 1,
                modified: FileTime::default(),
            },
        }
    }

    /// What one builder does with everything that is in the queue, in words.
    fn drain(queue: &Queue<&'static str>) -> String {
        let mut in_hand = None;
        let mut words = Vec::new();
        loop {
            words.push(match queue.next(in_hand) {
                Next::Add(found) => found.relative.display().to_string(),
                Next::AddParked(archive, found) => {
                    queue.park(archive);
                    format!("{archive}+{}", found.relative.display())
                }
                Next::Close => {
                    if in_hand.take().is_some_and(InHand::is_data_tar) {
                        queue.park("data.tar");
                    }
                    "close".to_owned()
                }
                Next::Open(root, part) => {
                    in_hand = Some(InHand { root, part });
                    format!("open {root} {part}")
                }
                Next::Done => return words.join(", "),
            });
        }
    }

    #[test]
    fn one_builder_goes_through_the_trees_one_after_the_other() {
        let queue = Queue::new();
        queue.enter(ArchiveRoot::Data);
        for (name, kind) in [
            ("", FoundKind::Directory),
            ("a", FoundKind::File(1)),
            ("base", FoundKind::Directory),
        ] {
            let entry = found(ArchiveRoot::Data, name, kind);
            queue.push(entry).expect("nobody failed");
        }
        queue.enter(SPACE);
        let entry = found(SPACE, "PG_17_1", FoundKind::Directory);
        queue.push(entry).expect("nobody failed");
        queue.end_walk();
        assert_eq!(
            drain(&queue),
            "open data 0, , base, a, close, open 16384 0, PG_17_1, close"
        );
        assert_eq!(queue.into_parked(), Some("data.tar"));
    }

    #[test]
    fn an_empty_tree_has_an_archive() {
        let queue = Queue::<&'static str>::new();
        queue.enter(SPACE);
        queue.end_walk();
        assert_eq!(drain(&queue), "open 16384 0, close");
    }

    #[test]
    fn a_second_archive_is_begun_only_for_enough_work() {
        let queue = Queue::<&'static str>::new();
        queue.enter(ArchiveRoot::Data);
        assert_eq!(queue.next(None), Next::Open(ArchiveRoot::Data, 0));
        let big = found(ArchiveRoot::Data, "1", FoundKind::File(WORTH_AN_ARCHIVE));
        queue.push(big.clone()).expect("nobody failed");
        queue.push(big).expect("nobody failed");
        assert_eq!(queue.next(None), Next::Open(ArchiveRoot::Data, 1));
        queue.end_walk();
        // What is left is less than that, and the first builder has it.
        let first = InHand {
            root: ArchiveRoot::Data,
            part: 0,
        };
        assert!(matches!(queue.next(Some(first)), Next::Add(_)));
        assert!(matches!(queue.next(Some(first)), Next::Add(_)));
        assert_eq!(queue.next(None), Next::Done);
    }

    #[test]
    fn a_directory_goes_into_data_tar_after_it_was_parked() {
        let queue = Queue::new();
        queue.enter(ArchiveRoot::Data);
        assert_eq!(queue.next(None), Next::Open(ArchiveRoot::Data, 0));
        assert_eq!(queue.next_part(ArchiveRoot::Data), 1);
        queue.park("data.tar");
        for (name, kind) in [("late", FoundKind::Directory), ("f", FoundKind::File(1))] {
            let entry = found(ArchiveRoot::Data, name, kind);
            queue.push(entry).expect("nobody failed");
        }
        queue.end_walk();
        let second = Some(InHand {
            root: ArchiveRoot::Data,
            part: 1,
        });
        let Next::AddParked(archive, entry) = queue.next(second) else {
            panic!("the directory was not handed out");
        };
        assert_eq!(entry.relative, PathBuf::from("late"));
        queue.park(archive);
        assert!(matches!(queue.next(second), Next::Add(_)));
        assert_eq!(queue.next(second), Next::Close);
        assert_eq!(queue.next(None), Next::Done);
    }

    #[test]
    fn after_a_failure_nobody_waits() {
        let queue = Queue::<&'static str>::new();
        queue.enter(ArchiveRoot::Data);
        queue.fail();
        assert_eq!(queue.next(None), Next::Done);
        let entry = found(ArchiveRoot::Data, "1", FoundKind::File(1));
        assert_eq!(queue.push(entry), Err(Abandoned));
    }
}
