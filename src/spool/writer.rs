//! Received WAL on its way into files: one segment after another, each renamed when it is whole.
//!
//! Everything here blocks.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    Error,
    received::{Kept, open_path},
};
use crate::model::{
    timeline::Position,
    wal::{Lsn, SegmentName, SegmentSize, WalFile},
};

/// Writes WAL from the beginning of a segment on.
#[derive(Debug)]
pub struct SegmentWriter {
    directory: PathBuf,
    kept: Kept,
    size: SegmentSize,
    next: Position,
    file: Option<File>,
}

impl SegmentWriter {
    pub(super) fn new(directory: PathBuf, kept: Kept, from: Position, size: SegmentSize) -> Self {
        Self {
            directory,
            kept,
            size,
            next: from,
            file: None,
        }
    }

    /// Where the next byte belongs.
    pub fn position(&self) -> Position {
        self.next
    }

    /// Writes bytes, which must continue what was written, and says which segments have become whole.
    ///
    /// A file that an earlier writer has left is written over: WAL at one position has one content.
    pub fn append(&mut self, at: Lsn, mut bytes: &[u8]) -> Result<Vec<SegmentName>, Error> {
        let mut whole = Vec::new();
        if at != self.next.lsn {
            let why = format!("WAL came from {at} on, {} was expected", self.next.lsn);
            return Err(self.failed(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        while !bytes.is_empty() {
            let offset = self.next.lsn.offset(self.size);
            let room = usize::try_from(self.size.bytes() - offset).unwrap_or(usize::MAX);
            let (here, rest) = bytes.split_at(room.min(bytes.len()));
            self.write(offset, here)
                .map_err(|source| self.failed(source))?;
            let segment = self.next.segment(self.size);
            self.next.lsn.0 += here.len() as u64;
            bytes = rest;
            if self.next.lsn.offset(self.size) == 0 {
                self.finish(segment)?;
                whole.push(segment);
            }
        }
        Ok(whole)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        self.file.insert(file).write_all_at(bytes, offset)
    }

    fn open(&self) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        let file = options.open(self.path())?;
        if self.kept == Kept::Durably {
            // A file is only as durable as its name.
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(file)
    }

    /// Makes everything durable that was written, if it is to be kept.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.kept == Kept::ForNow {
            return Ok(());
        }
        let Some(file) = &self.file else {
            return Ok(());
        };
        file.sync_data().map_err(|source| self.failed(source))
    }

    fn finish(&mut self, segment: SegmentName) -> Result<(), Error> {
        let file = self.file.take();
        let open = open_path(&self.directory, segment);
        let whole = self.directory.join(segment.to_string());
        let finish = || -> io::Result<()> {
            if self.kept == Kept::Durably
                && let Some(file) = file
            {
                file.sync_all()?;
            }
            fs::rename(&open, &whole)?;
            match self.kept {
                Kept::Durably => File::open(&self.directory)?.sync_all(),
                Kept::ForNow => Ok(()),
            }
        };
        finish().map_err(|source| Error::Write {
            path: open.clone(),
            source,
        })
    }

    /// Ends the timeline: what there is of a segment becomes its `.partial`. `false` if there is nothing of one.
    pub fn end(self) -> Result<bool, Error> {
        if self.next.lsn.offset(self.size) == 0 {
            return Ok(false);
        }
        let segment = self.next.segment(self.size);
        Self::end_file(&self.directory, segment, self.size)?;
        Ok(true)
    }

    /// Makes a `.partial` of an open segment, as long as a whole one.
    pub(super) fn end_file(
        directory: &Path,
        segment: SegmentName,
        size: SegmentSize,
    ) -> Result<(), Error> {
        let open = open_path(directory, segment);
        let partial = directory.join(WalFile::Partial(segment).to_string());
        let end = || -> io::Result<()> {
            let file = File::options().write(true).open(&open)?;
            file.set_len(size.bytes())?;
            file.sync_all()?;
            fs::rename(&open, &partial)?;
            File::open(directory)?.sync_all()
        };
        end().map_err(|source| Error::Write {
            path: open.clone(),
            source,
        })
    }

    fn path(&self) -> PathBuf {
        open_path(&self.directory, self.next.segment(self.size))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.path(),
            source,
        }
    }
}
