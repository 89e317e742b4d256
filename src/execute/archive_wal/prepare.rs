//! A file on its way into the archive: read once, checked, compressed.
//!
//! Small files are made ready in memory, so that every destination gets the same bytes without reading again. Of large ones only
//! the header is read here; they are streamed (see [`super::deliver`]).

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{ArchiveOptions, Error, Warning};
use crate::{
    format::{
        history::{self, BackupHistory},
        wal_header::{ContentCheck, HEADER_BYTES, Origin, SegmentHeader},
    },
    model::{
        compression::{Codec, Compression},
        wal::{SystemId, WalFile},
    },
    pipeline::compress::Encoder,
    postgres::control_file,
    spool::FileStamp,
};

/// The longest file that is held in memory, in bytes: segments of up to four times the default size.
pub(super) const WHOLE_BYTES_MAX: u64 = 64 << 20;

/// How much is read at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// A file that may be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) path: PathBuf,
    pub(super) file: WalFile,
    /// The file that was read.
    pub(super) stamp: FileStamp,
    /// What is sent; `None` if it is to be streamed.
    pub(super) content: Option<Content>,
    /// Whose it is, where that can be told.
    pub(super) system_id: Option<SystemId>,
    pub(super) warning: Option<Warning>,
}

/// A file's bytes as they will be stored.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) stored: Bytes,
    /// CRC-32C of the file, not of what is stored, if it is wanted.
    pub(super) crc32c: Option<u32>,
}

/// Why a file is archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// PostgreSQL waits for it.
    Asked,
    /// It will leave a marker, which wants a checksum.
    Ahead,
}

/// Reads, checks and compresses. Blocks.
pub(super) fn prepare(
    path: &Path,
    file: WalFile,
    purpose: Purpose,
    options: &ArchiveOptions,
) -> Result<Prepared, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut opened = File::open(path).map_err(failed)?;
    let stamp = FileStamp::of(&opened.metadata().map_err(failed)?);
    let mut start = Vec::with_capacity(HEADER_BYTES);
    let header = (&mut opened).take(HEADER_BYTES as u64);
    { header }.read_to_end(&mut start).map_err(failed)?;
    let mut prepared = Prepared {
        path: path.to_owned(),
        file,
        stamp,
        content: None,
        system_id: None,
        warning: None,
    };
    if options.check == ContentCheck::On {
        prepared.check(&start)?;
        prepared.system_id = prepared.system_id.or(options.system_id);
    }
    if stamp.bytes <= WHOLE_BYTES_MAX {
        let content = content(start, opened, stamp.bytes, (options.codec, purpose));
        prepared.content = Some(content.map_err(failed)?);
    }
    Ok(prepared)
}

impl Prepared {
    /// Whether the content is what the name says; for segments, `start` decides.
    fn check(&mut self, start: &[u8]) -> Result<(), Error> {
        match self.file {
            WalFile::Segment(name) | WalFile::Partial(name) => {
                let header = SegmentHeader::parse(start)
                    .and_then(|header| header.check(name, self.stamp.bytes).map(|()| header));
                let header = header.map_err(|source| Error::Header {
                    path: self.path.clone(),
                    source,
                })?;
                self.system_id = Some(header.system_id);
                if let Origin::Unknown(magic) = header.origin {
                    self.warning = Some(Warning::UnknownMagic(magic));
                }
                return Ok(());
            }
            WalFile::History(timeline) => {
                let content = self.small()?;
                history::parse(timeline, &content).map(drop)
            }
            WalFile::BackupHistory(..) => {
                let content = self.small()?;
                BackupHistory::parse(&content).map(drop)
            }
        }
        .map_err(|source| Error::History {
            path: self.path.clone(),
            source,
        })?;
        // Histories do not say whose they are; the data directory around `pg_wal` does.
        let data_directory = self.path.parent().and_then(Path::parent);
        self.system_id = data_directory.and_then(control_file::system_id_of);
        Ok(())
    }

    fn small(&self) -> Result<Vec<u8>, Error> {
        fs::read(&self.path).map_err(|source| Error::Read {
            path: self.path.clone(),
            source,
        })
    }
}

fn content(
    start: Vec<u8>,
    mut rest: File,
    bytes: u64,
    (codec, purpose): (Codec, Purpose),
) -> io::Result<Content> {
    let length = usize::try_from(bytes).map_err(io::Error::other)?;
    let sum = |crc: u32, bytes: &[u8]| match purpose {
        Purpose::Asked => 0,
        Purpose::Ahead => crc32c::crc32c_append(crc, bytes),
    };
    let crc32c = |crc| (purpose == Purpose::Ahead).then_some(crc);
    if codec.compression() == Compression::None {
        let mut whole = start;
        whole.reserve_exact(length.saturating_sub(whole.len()));
        rest.read_to_end(&mut whole)?;
        complete(whole.len(), length)?;
        let crc32c = crc32c(sum(0, &whole));
        let stored = whole.into();
        return Ok(Content { stored, crc32c });
    }
    let mut encoder = Encoder::new(codec, Some(bytes), Vec::new())?;
    encoder.write_all(&start)?;
    let (mut crc, mut read) = (sum(0, &start), start.len());
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = rest.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        crc = sum(crc, &chunk[..count]);
        encoder.write_all(&chunk[..count])?;
        read += count;
    }
    complete(read, length)?;
    let mut stored = encoder.finish()?;
    stored.shrink_to_fit();
    Ok(Content {
        stored: stored.into(),
        crc32c: crc32c(crc),
    })
}

/// PostgreSQL is done with a file that it hands over; one that changes while it is read is somebody's mistake.
fn complete(read: usize, length: usize) -> io::Result<()> {
    if read == length {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{read} bytes were read, {length} expected"
    )))
}
