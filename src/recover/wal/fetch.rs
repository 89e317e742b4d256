//! From an object to a file: decompressed, checked, durable, and only then under its name.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{Error, RestoreSource, failed};
use crate::{
    format::{
        history::{self, BackupHistory},
        keys::{ObjectKey, WalObject},
        wal_header::{self, ContentCheck, HEADER_BYTES, SegmentHeader},
    },
    model::{
        compression::Compression,
        wal::{SegmentName, SystemId, WalFile},
    },
    pipeline::{
        compress::Decoder,
        feed::{Feed, feed},
    },
    spool::Fetched,
    store::{GetOptions, Key},
};

/// How much is decompressed at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// The longest file that PostgreSQL archives: a segment of 1 GiB.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What a file must be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) check: ContentCheck,
    pub(super) system_id: Option<SystemId>,
}

/// Why a file is not what it must be, or cannot be written.
enum Refusal {
    Decompress(io::Error),
    Header(wal_header::Error),
    History(history::Error),
    Foreign(SystemId, SystemId),
    Write(io::Error),
}

impl Refusal {
    fn of(self, source: &RestoreSource, key: Key, to: &Path) -> Error {
        let destination = source.destination.clone();
        match self {
            Self::Decompress(source) => Error::Decompress {
                key,
                destination,
                source,
            },
            Self::Header(source) => Error::Header {
                key,
                destination,
                source,
            },
            Self::History(source) => Error::History {
                key,
                destination,
                source,
            },
            Self::Foreign(expected, found) => Error::Foreign {
                key,
                destination,
                expected,
                found,
            },
            Self::Write(source) => Error::Write {
                path: to.to_owned(),
                source,
            },
        }
    }
}

/// Brings an object to a path; `None` if it is not there. The header is that of a segment that was checked.
pub(super) async fn fetch(
    source: &RestoreSource,
    object: WalObject,
    expected: Expected,
    to: &Path,
) -> Result<Option<Option<SegmentHeader>>, Error> {
    let key = source.archive.key(&ObjectKey::Wal(object));
    let got = source.archive.store().get(&key, GetOptions::default());
    let got = match got.await {
        Ok(got) => got,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(failed(object.file, source, error)),
    };
    let path = to.to_owned();
    let written = feed(got.body, move |stored| {
        write(stored, object, expected, &path)
    })
    .await;
    let written = written.map_err(|error| failed(object.file, source, error))?;
    written
        .map(Some)
        .map_err(|refusal| refusal.of(source, key, to))
}

/// Puts the beginning of a segment where the whole one is wanted, with zeros for the rest, which PostgreSQL takes for the end of WAL.
///
/// `false` if it is too short to tell whose it is, or is not what it should be: then nobody can use it. Blocks.
pub(super) fn put_beginning(
    mut beginning: impl io::Read,
    segment: SegmentName,
    expected: Expected,
    to: &Path,
) -> io::Result<bool> {
    let mut file = beside(to)?;
    let mut start = Vec::with_capacity(HEADER_BYTES);
    (&mut beginning)
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut start)?;
    let Ok(header) = SegmentHeader::parse(&start) else {
        return Ok(false);
    };
    let length = header.segment_size.bytes();
    if check_segment(&start, length, segment, expected).is_err() {
        return Ok(false);
    }
    file.write_all(&start)?;
    io::copy(&mut beginning.take(length - start.len() as u64), &mut file)?;
    file.as_file().set_len(length)?;
    publish(file, to)?;
    Ok(true)
}

/// Blocks.
fn write(
    stored: Feed,
    object: WalObject,
    expected: Expected,
    to: &Path,
) -> Result<Option<SegmentHeader>, Refusal> {
    let (mut file, start, length) = decompress(stored, object.compression, to)?;
    let header = match expected.check {
        ContentCheck::On => check(&mut file, &start, length, object.file, expected)?,
        // Unchecked, it still tells how long the cluster's segments are.
        ContentCheck::Off => SegmentHeader::parse(&start).ok(),
    };
    publish(file, to).map_err(Refusal::Write)?;
    Ok(header)
}

/// A temporary file beside the target, what it begins with, and its length.
fn decompress(
    stored: Feed,
    compression: Compression,
    to: &Path,
) -> Result<(NamedTempFile, Vec<u8>, u64), Refusal> {
    let mut file = beside(to).map_err(Refusal::Write)?;
    let mut decoder = Decoder::new(compression, stored).map_err(Refusal::Decompress)?;
    let (mut start, mut length) = (Vec::new(), 0);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = decoder.read(&mut buffer).map_err(Refusal::Decompress)?;
        if count == 0 {
            return Ok((file, start, length));
        }
        let chunk = &buffer[..count];
        let missing = HEADER_BYTES.saturating_sub(start.len()).min(count);
        start.extend_from_slice(&chunk[..missing]);
        length += count as u64;
        if length > FILE_BYTES_MAX {
            let long = io::Error::other("it is longer than the longest segment");
            return Err(Refusal::Decompress(long));
        }
        file.write_all(chunk).map_err(Refusal::Write)?;
    }
}

/// Whether a path is taken by something other than a file: a device, a pipe, a link. It is written to and never replaced.
fn is_special(to: &Path) -> bool {
    let there = fs::symlink_metadata(to);
    there.is_ok_and(|there| !there.is_file() && !there.is_dir())
}

fn beside(to: &Path) -> io::Result<NamedTempFile> {
    if is_special(to) {
        return NamedTempFile::new();
    }
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(".barkeep-")
        .tempfile_in(directory.unwrap_or(Path::new(".")))
}

fn publish(file: NamedTempFile, to: &Path) -> io::Result<()> {
    if is_special(to) {
        let mut there = File::options().write(true).truncate(true).open(to)?;
        return io::copy(&mut file.reopen()?, &mut there).map(drop);
    }
    file.as_file().sync_all()?;
    file.persist(to)?;
    Ok(())
}

fn check(
    file: &mut NamedTempFile,
    start: &[u8],
    length: u64,
    name: WalFile,
    expected: Expected,
) -> Result<Option<SegmentHeader>, Refusal> {
    let content = || -> io::Result<Vec<u8>> { fs::read(file.path()) };
    match name {
        WalFile::Segment(name) | WalFile::Partial(name) => {
            check_segment(start, length, name, expected).map(Some)
        }
        WalFile::History(timeline) => {
            let content = content().map_err(Refusal::Write)?;
            history::parse(timeline, &content).map_err(Refusal::History)?;
            Ok(None)
        }
        WalFile::BackupHistory(..) => {
            let content = content().map_err(Refusal::Write)?;
            BackupHistory::parse(&content).map_err(Refusal::History)?;
            Ok(None)
        }
    }
}

fn check_segment(
    start: &[u8],
    length: u64,
    name: SegmentName,
    expected: Expected,
) -> Result<SegmentHeader, Refusal> {
    let header = SegmentHeader::parse(start).map_err(Refusal::Header)?;
    header.check(name, length).map_err(Refusal::Header)?;
    match expected.system_id {
        Some(expected) if expected != header.system_id => {
            Err(Refusal::Foreign(expected, header.system_id))
        }
        _ => Ok(header),
    }
}

/// Moves a segment out of the cache to where it is wanted; whether it was there and what it should be. Blocks.
pub(super) fn take(
    cache: &Fetched,
    segment: SegmentName,
    expected: Expected,
    to: &Path,
) -> Result<bool, Error> {
    let Ok((start, length)) = cache.peek(segment, HEADER_BYTES) else {
        return Ok(false);
    };
    // What lies in a cache is checked whatever was asked for: nobody else vouches for it.
    if check_segment(&start, length, segment, expected).is_err() {
        let _removed = cache.remove(segment);
        return Ok(false);
    }
    let moved = if is_special(to) {
        copy(cache.path(segment), to)
    } else {
        match fs::rename(cache.path(segment), to) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                copy(cache.path(segment), to)
            }
            other => other,
        }
    };
    moved.map_err(|source| Error::Write {
        path: to.to_owned(),
        source,
    })?;
    // Gone already, unless it was copied.
    let _removed = cache.remove(segment);
    Ok(true)
}

fn copy(from: PathBuf, to: &Path) -> io::Result<()> {
    let mut file = beside(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    publish(file, to)
}
