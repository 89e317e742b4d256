//! The newest bytes: a segment that nobody has whole, as far as it was received.
//!
//! They are asked for last, when every destination has proved that it has neither the segment nor its `.partial`; a destination that does
//! not answer is still an error. What reaches furthest is taken: the local spool of received WAL, or the hot tail of a destination. What
//! follows is filled with zeros, at which PostgreSQL ends its recovery, as at the end of a `.partial`.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    path::PathBuf,
};

use futures_util::TryStreamExt as _;

use super::{Delivery, Error, From, Partial, RestoreSource, blocking, failed, fetch};
use crate::{
    format::{
        keys::{OWN, ObjectKey, OwnObject},
        tail::{TailPiece, beginning, tail_directory},
    },
    model::wal::{SegmentName, WalFile},
    pipeline::compress::Decoder,
    store::StoreExt as _,
};

/// Delivers as much as there is of a segment, if that is wanted.
pub(super) async fn deliver(delivery: &Delivery<'_>) -> Result<Option<(From, WalFile)>, Error> {
    let (WalFile::Segment(segment), Partial::DeliverNewest) =
        (delivery.request.file, delivery.options.partial)
    else {
        return Ok(None);
    };
    let mut furthest: Option<(&RestoreSource, Vec<TailPiece>, u64)> = None;
    for source in delivery.sources {
        let pieces = pieces(source, segment).await?;
        let reach = pieces.last().map_or(0, |piece| u64::from(piece.end));
        if reach > furthest.as_ref().map_or(0, |(_, _, reach)| *reach) {
            furthest = Some((source, pieces, reach));
        }
    }
    let stored = furthest.as_ref().map_or(0, |(_, _, reach)| *reach);
    let server = delivery
        .sources
        .first()
        .map(|source| source.archive.server());
    let received = delivery.options.received.as_ref().zip(server);
    let received = received.and_then(|(spool, server)| spool.find_received(server, segment));
    if let Some(path) = received
        && path.metadata().is_ok_and(|file| file.len() > stored)
        && of_spool(delivery, path, segment).await?
    {
        return Ok(Some((From::Received, delivery.request.file)));
    }
    let Some((source, pieces, _)) = furthest else {
        return Ok(None);
    };
    let delivered = of_tail(delivery, source, &pieces, segment).await?;
    let from = From::Destination(source.destination.clone());
    Ok(delivered.then_some((from, WalFile::Partial(segment))))
}

/// The pieces that make up the beginning of a segment in a destination.
async fn pieces(source: &RestoreSource, segment: SegmentName) -> Result<Vec<TailPiece>, Error> {
    let directory = format!("{OWN}{}", tail_directory(segment));
    let prefix = source.archive.prefix(&directory);
    let listed = source.archive.store().list_all(&prefix);
    let listed: Vec<_> = listed
        .try_collect()
        .await
        .map_err(|error| failed(WalFile::Segment(segment), source, error))?;
    let parsed = listed
        .iter()
        .filter_map(|object| match source.archive.parse(&object.key) {
            Some(ObjectKey::Own(OwnObject::Tail(piece))) => Some(piece),
            _ => None,
        });
    Ok(beginning(parsed.collect()))
}

async fn of_spool(
    delivery: &Delivery<'_>,
    path: PathBuf,
    segment: SegmentName,
) -> Result<bool, Error> {
    let (expected, to) = (delivery.expected, delivery.request.to.clone());
    let put = blocking(move || {
        // It may just have been brought into the destination.
        match File::open(path) {
            Ok(file) => fetch::put_beginning(file, segment, expected, &to),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    });
    put.await.map_err(|source| Error::Write {
        path: delivery.request.to.clone(),
        source,
    })
}

async fn of_tail(
    delivery: &Delivery<'_>,
    source: &RestoreSource,
    pieces: &[TailPiece],
    segment: SegmentName,
) -> Result<bool, Error> {
    let unwritten = |source| Error::Write {
        path: delivery.request.to.clone(),
        source,
    };
    let mut joined = Joined::new().map_err(unwritten)?;
    for piece in pieces {
        let key = source.archive.key(&ObjectKey::Own(OwnObject::Tail(*piece)));
        let content = source.archive.store().get_bytes(&key).await;
        let content = content.map_err(|error| failed(WalFile::Segment(segment), source, error))?;
        let piece = *piece;
        let joining = blocking(move || joined.with(piece, &content)).await;
        joined = joining.map_err(|error| Error::Decompress {
            key,
            destination: source.destination.clone(),
            source: error,
        })?;
    }
    let (expected, to) = (delivery.expected, delivery.request.to.clone());
    let put = blocking(move || {
        let file = joined.rewound()?;
        fetch::put_beginning(file, segment, expected, &to)
    });
    put.await.map_err(unwritten)
}

/// Pieces, one after another, in a file without a name.
struct Joined {
    file: File,
    bytes: u64,
}

impl Joined {
    fn new() -> io::Result<Self> {
        let file = tempfile::tempfile()?;
        Ok(Self { file, bytes: 0 })
    }

    /// Adds what a piece has beyond those before.
    fn with(mut self, piece: TailPiece, stored: &[u8]) -> io::Result<Self> {
        let length = u64::from(piece.end - piece.start);
        let known = self.bytes - u64::from(piece.start);
        let mut content = Decoder::new(piece.compression, stored)?.take(length);
        io::copy(&mut (&mut content).take(known), &mut io::sink())?;
        self.bytes += io::copy(&mut content, &mut self.file)?;
        if self.bytes != u64::from(piece.end) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self)
    }

    fn rewound(mut self) -> io::Result<File> {
        self.file.rewind()?;
        Ok(self.file)
    }
}
