//! The hot tail in one destination: the beginning of the segment that is being received, stored every so often.
//!
//! Pieces are only ever added. They go when their segment, or what there is of it at the end of its timeline, is in the archive; that is the
//! one deletion here, of bytes that are stored elsewhere in the same destination.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::time::Instant;
use tracing::warn;

use super::{
    Error, blocking,
    courier::options,
    desk::{Desk, OpenSegment},
};
use crate::{
    execute::archive_wal::{self, ArchiveTarget},
    failure::chain,
    format::{
        keys::{OWN, ObjectKey, OwnObject, wal_stem},
        tail::{TAIL, TailPiece, reach, tail_directory},
    },
    model::{
        compression::Codec,
        timeline::Position,
        wal::{Lsn, SegmentName, WalFile},
    },
    pipeline::compress::Encoder,
    store::{self, Key, Meaning, PutMode, PutOptions, StoreExt as _},
};

/// The longest piece, in bytes.
const PIECE_MAX: u32 = 4 << 20;

/// The hot tail in one destination.
pub(super) struct Tail<'a> {
    desk: &'a Desk<'a>,
    target: &'a ArchiveTarget,
    every: Duration,
    /// Not before then is more stored.
    next: Instant,
    /// The segment that is being received, and how much of its beginning is stored.
    stored: Option<(SegmentName, u32)>,
    is_swept: bool,
}

impl<'a> Tail<'a> {
    pub(super) fn new(desk: &'a Desk<'a>, target: &'a ArchiveTarget, every: Duration) -> Self {
        Self {
            desk,
            target,
            every,
            next: Instant::now(),
            stored: None,
            is_swept: false,
        }
    }

    /// Stores what has come, and says when there is more to do; `None` if nothing more has come.
    pub(super) async fn go_on(&mut self) -> Result<Option<Duration>, Error> {
        let Some(open) = self.desk.open() else {
            return Ok(None);
        };
        let mut stored = self.stored(open).await?;
        if stored < open.bytes {
            let rest = self.next.saturating_duration_since(Instant::now());
            if !rest.is_zero() {
                return Ok(Some(rest));
            }
            while stored < open.bytes {
                let end = open.bytes.min(stored.saturating_add(PIECE_MAX));
                if !self.store(open.segment, stored, end).await? {
                    // It is whole by now, and will be archived at once.
                    return Ok(None);
                }
                stored = end;
                self.stored = Some((open.segment, stored));
                self.tell(open, stored);
            }
            self.next = Instant::now() + self.every;
        }
        self.tell(open, stored);
        Ok(None)
    }

    fn tell(&self, open: OpenSegment, stored: u32) {
        let until = Position {
            lsn: Lsn(open.start.lsn.0 + u64::from(stored.min(open.bytes))),
            ..open.start
        };
        let told = self
            .desk
            .read(|state| state.arrived(&self.target.destination));
        if told != Some(until) {
            self.desk.arrived(&self.target.destination, until);
        }
    }

    /// How much of a segment is stored; what an earlier process has stored counts.
    async fn stored(&mut self, open: OpenSegment) -> Result<u32, Error> {
        if let Some((segment, stored)) = self.stored
            && segment == open.segment
        {
            return Ok(stored);
        }
        let file = WalFile::Segment(open.segment);
        let options = options(self.desk);
        if let Some(system_id) = options.system_id {
            archive_wal::claim(self.target, (file, system_id), &options).await?;
        }
        if !self.is_swept {
            self.sweep(open.segment).await?;
            self.is_swept = true;
        }
        let keys = self.keys(&tail_directory(open.segment)).await;
        let keys = keys.map_err(|source| self.failed(source))?;
        let pieces = keys
            .iter()
            .filter_map(|key| match self.target.archive.parse(key) {
                Some(ObjectKey::Own(OwnObject::Tail(piece))) => Some(piece),
                _ => None,
            });
        let stored = reach(pieces.collect());
        self.stored = Some((open.segment, stored));
        Ok(stored)
    }

    async fn keys(&self, directory: &str) -> store::Result<Vec<Key>> {
        let archive = &self.target.archive;
        let prefix = archive.prefix(&format!("{OWN}{directory}"));
        let keys = archive.store().list_all(&prefix);
        keys.map_ok(|object| object.key).try_collect().await
    }

    /// Stores a piece; `false` if the segment is not being received any more.
    async fn store(&self, segment: SegmentName, start: u32, end: u32) -> Result<bool, Error> {
        let codec = self.desk.bench.options.codec;
        let path = self.desk.received.open_path(segment);
        let read = blocking(move || read(path, start, end, codec)).await;
        let content = match read {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => {
                let path = self.desk.received.open_path(segment);
                return Err(crate::spool::Error::Read { path, source }.into());
            }
        };
        let piece = TailPiece {
            segment,
            start,
            end,
            compression: codec.compression(),
        };
        let key = ObjectKey::Own(OwnObject::Tail(piece));
        let key = self.target.archive.key(&key);
        let store = self.target.archive.store();
        let put = |mode| store.put(&key, content.clone(), PutOptions::mode(mode));
        let put = match put(PutMode::Create).await {
            // Our own earlier try, whose answer was lost.
            Err(error) if error.is_conflict() => return Ok(true),
            Err(error) if error.meaning == Meaning::Unsupported => put(PutMode::Overwrite).await,
            other => other,
        };
        put.map_err(|source| self.failed(source))?;
        Ok(true)
    }

    fn failed(&self, source: store::Error) -> Error {
        Error::Tail {
            destination: self.target.destination.clone(),
            source,
        }
    }

    /// Takes the pieces of a segment away that is in the archive. What stays is taken away by whoever begins next.
    pub(super) async fn clear(&self, segment: SegmentName) {
        if let Err(error) = self.remove(&tail_directory(segment)).await {
            warn!(%segment, "the hot tail stays behind: {}", chain(&error));
        }
    }

    async fn remove(&self, directory: &str) -> store::Result<()> {
        let keys = self.keys(directory).await?;
        let deleted = self.target.archive.store().delete(&keys).await;
        deleted.into_iter().try_for_each(|deleted| deleted.outcome)
    }

    /// Takes away what earlier processes have left of segments that are in the archive.
    async fn sweep(&self, current: SegmentName) -> Result<(), Error> {
        let keys = self
            .keys(TAIL)
            .await
            .map_err(|source| self.failed(source))?;
        let segments = keys
            .iter()
            .filter_map(|key| match self.target.archive.parse(key) {
                Some(ObjectKey::Own(OwnObject::Tail(piece))) => Some(piece.segment),
                _ => None,
            });
        let segments: BTreeSet<SegmentName> = segments.filter(|name| *name != current).collect();
        for segment in segments {
            let stem = wal_stem(WalFile::Segment(segment));
            let there = self.target.archive.objects(&stem).await;
            let there = there.map_err(|source| self.failed(source))?;
            let is_it = |object: &store::ObjectMeta| {
                matches!(self.target.archive.parse(&object.key), Some(ObjectKey::Wal(object))
                    if matches!(object.file, WalFile::Segment(_) | WalFile::Partial(_)))
            };
            if there.iter().any(is_it) {
                self.clear(segment).await;
            }
        }
        Ok(())
    }
}

/// Blocks.
fn read(path: PathBuf, start: u32, end: u32, codec: Codec) -> io::Result<Bytes> {
    let length = end - start;
    let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    File::open(path)?.read_exact_at(&mut content, start.into())?;
    let mut encoder = Encoder::new(codec, Some(length.into()), Vec::new())?;
    encoder.write_all(&content)?;
    Ok(encoder.finish()?.into())
}
