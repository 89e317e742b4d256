//! WAL that was received from a server and is not in every destination yet.
//!
//! A directory per server, `received-<server>`: whole segments, ended timelines' `.partial` files and histories under the names that
//! PostgreSQL gives them, and `<segment>.open` for the one that is being received. One process at a time holds it. What is whole is exact;
//! an open one ends in bytes that PostgreSQL's own checksums must judge.
//!
//! [`Kept::Durably`] makes it a spool that the server may rely on: whatever was synced stays until it is taken away. Otherwise it is a place
//! to work in, emptied by whoever comes next, and deleting it loses nothing.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use super::{Error, Folder, SegmentWriter, Spool};
use crate::model::{
    timeline::Position,
    wal::{SegmentName, SegmentSize, SystemId, WalFile},
};

const SYSTEM_ID: &str = "system-id";
const LOCK: &str = "lock";
const OPEN: &str = ".open";

/// Whether what lies there counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is synced, and never dropped.
    Durably,
    /// It is there for a while.
    ForNow,
}

/// The received WAL of one server, held by this process.
#[derive(Debug)]
pub struct Received {
    folder: Folder,
    kept: Kept,
    /// Unlocked when closed.
    _lock: File,
}

impl Spool {
    /// Takes hold of a server's received WAL. Blocks, though not for whoever else holds it.
    pub fn received(&self, server: &str, kept: Kept) -> Result<Received, Error> {
        let folder = self.received_folder(server);
        folder.create()?;
        let path = folder.path.join(LOCK);
        let write = |source| Error::Write {
            path: path.clone(),
            source,
        };
        let lock = File::create(&path).map_err(write)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Taken { path: folder.path }),
            Err(TryLockError::Error(source)) => return Err(write(source)),
        }
        let received = Received {
            folder,
            kept,
            _lock: lock,
        };
        if kept == Kept::ForNow {
            received.empty()?;
        }
        Ok(received)
    }

    /// Where a segment of a server lies that was received and has not left yet: whole, or as far as it has come.
    pub fn find_received(&self, server: &str, segment: SegmentName) -> Option<PathBuf> {
        let folder = self.received_folder(server);
        let there = folder.exists().ok().filter(|there| *there);
        there?;
        let whole = folder.path.join(segment.to_string());
        [whole, open_path(&folder.path, segment)]
            .into_iter()
            .find(|path| path.is_file())
    }

    fn received_folder(&self, server: &str) -> Folder {
        Folder {
            path: self.root.join(format!("received-{server}")),
        }
    }
}

impl Received {
    /// The cluster whose WAL it is; `None` if that was never told.
    pub fn system_id(&self) -> Result<Option<SystemId>, Error> {
        let content = self.folder.read(SYSTEM_ID)?;
        Ok(content.and_then(|content| String::from_utf8(content).ok()?.trim().parse().ok()))
    }

    /// Says whose WAL it is. Fails where WAL of another cluster lies.
    pub fn set_system_id(&self, system_id: SystemId) -> Result<(), Error> {
        match self.system_id()? {
            Some(known) if known == system_id => Ok(()),
            Some(known) if !self.names()?.is_empty() => Err(Error::Foreign {
                path: self.folder.path.clone(),
                known,
                found: system_id,
            }),
            _ => self
                .folder
                .write(SYSTEM_ID, system_id.to_string().as_bytes()),
        }
    }

    /// The files that are whole with their lengths in bytes, in the order in which they must be archived.
    pub fn files(&self) -> Result<Vec<(WalFile, u64)>, Error> {
        let names = self.names()?;
        // By name, a timeline's last file comes before the next one's history, and that before its segments.
        let files = names.iter().filter_map(|name| name.parse().ok());
        files
            .map(|file: WalFile| {
                let path = self.path(file);
                let length = fs::metadata(&path).map(|metadata| metadata.len());
                let length = length.map_err(|source| Error::Read { path, source })?;
                Ok((file, length))
            })
            .collect()
    }

    /// The segments that are not whole, in order.
    pub fn unfinished(&self) -> Result<Vec<SegmentName>, Error> {
        let names = self.names()?;
        let segments = names.iter().filter_map(|name| name.strip_suffix(OPEN));
        Ok(segments.filter_map(|name| name.parse().ok()).collect())
    }

    /// Where a whole file lies.
    pub fn path(&self, file: WalFile) -> PathBuf {
        self.folder.path.join(file.to_string())
    }

    /// Where the segment lies that is being received.
    pub fn open_path(&self, segment: SegmentName) -> PathBuf {
        open_path(&self.folder.path, segment)
    }

    /// Writes a small file whole and durable.
    pub fn put(&self, file: WalFile, content: &[u8]) -> Result<(), Error> {
        self.folder.write(&file.to_string(), content)
    }

    /// Takes a file away that is where it should be.
    pub fn remove(&self, file: WalFile) -> Result<(), Error> {
        self.folder.remove(&file.to_string())
    }

    /// What writes from the beginning of a segment on.
    pub fn writer(&self, from: Position, size: SegmentSize) -> SegmentWriter {
        SegmentWriter::new(self.folder.path.clone(), self.kept, from, size)
    }

    /// Ends a segment whose timeline goes on elsewhere: what there is of it becomes its `.partial`.
    pub fn end(&self, segment: SegmentName, size: SegmentSize) -> Result<(), Error> {
        SegmentWriter::end_file(&self.folder.path, segment, size)
    }

    /// All names but those of our own bookkeeping, in order.
    fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = self.folder.names()?;
        // What begins with a dot was being written when somebody died.
        names.retain(|name| name != LOCK && name != SYSTEM_ID && !name.starts_with('.'));
        names.sort();
        Ok(names)
    }

    fn empty(&self) -> Result<(), Error> {
        for name in self.names()? {
            self.folder.remove(&name)?;
        }
        Ok(())
    }
}

pub(super) fn open_path(directory: &Path, segment: SegmentName) -> PathBuf {
    directory.join(format!("{segment}{OPEN}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::wal::Lsn;

    const SIZE: u64 = 1 << 20;

    fn position(lsn: u64) -> Position {
        Position {
            lsn: Lsn(lsn),
            timeline: crate::model::timeline::TimelineId::FIRST,
        }
    }

    fn size() -> SegmentSize {
        SegmentSize::new(SIZE).expect("a valid size")
    }

    fn names(received: &Received) -> Vec<String> {
        received.names().expect("readable")
    }

    #[test]
    fn segments_become_whole_one_after_the_other() -> Result<(), Error> {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path());
        let received = spool.received("x", Kept::Durably)?;
        let mut writer = received.writer(position(2 * SIZE), size());
        let bytes = vec![7; 1_000_000];
        let mut whole = Vec::new();
        for _ in 0..3 {
            whole.extend(writer.append(writer.position().lsn, &bytes)?);
        }
        writer.sync()?;
        let whole: Vec<_> = whole.iter().map(ToString::to_string).collect();
        let (second, third) = ("000000010000000000000002", "000000010000000000000003");
        assert_eq!(whole, [second, third]);
        let last = "000000010000000000000004.open";
        assert_eq!(names(&received), [second, third, last]);
        assert_eq!(received.files()?[1].1, SIZE);
        assert!(writer.append(Lsn(0), &bytes).is_err(), "out of order");
        assert!(writer.end()?);
        let last = "000000010000000000000004.partial";
        assert_eq!(names(&received), [second, third, last]);
        assert_eq!(received.files()?[2].1, SIZE, "padded");
        Ok(())
    }

    #[test]
    fn what_was_begun_is_gone_on_with_and_never_cut() -> Result<(), Error> {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path());
        let segment = position(SIZE).segment(size());
        let received = spool.received("x", Kept::Durably)?;
        received
            .writer(position(SIZE), size())
            .append(Lsn(SIZE), &[7; 100])?;
        drop(received);
        let received = spool.received("x", Kept::Durably)?;
        let mut writer = received.writer(position(SIZE), size());
        writer.append(Lsn(SIZE), &[7; 10])?;
        let path = spool.find_received("x", segment).expect("it is there");
        assert_eq!(fs::read(path).expect("readable"), [7; 100]);
        drop(writer);
        drop(received);
        spool.received("x", Kept::ForNow)?;
        assert_eq!(spool.find_received("x", segment), None);
        Ok(())
    }

    #[test]
    fn one_process_holds_it_and_one_cluster_fills_it() -> Result<(), Error> {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path());
        let received = spool.received("x", Kept::Durably)?;
        let second = spool.received("x", Kept::Durably);
        assert!(matches!(second, Err(Error::Taken { .. })));
        received.set_system_id(SystemId(7))?;
        received.set_system_id(SystemId(8))?;
        received.put("00000002.history".parse().expect("a name"), b"")?;
        let foreign = received.set_system_id(SystemId(7));
        assert!(matches!(foreign, Err(Error::Foreign { .. })));
        Ok(())
    }
}
