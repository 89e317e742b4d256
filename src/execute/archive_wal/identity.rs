//! Whose WAL a server's directory holds.
//!
//! The first contact pins the cluster's system identifier in the destination, after a look at what lies there; every later call
//! compares. The local cache spares the request, and is believed only where it agrees: before WAL is refused, the destination
//! itself is asked.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
};

use futures_util::TryStreamExt as _;

use super::{ArchiveOptions, ArchiveTarget, Error};
use crate::{
    format::{
        keys::{ObjectKey, OwnObject, WALS, WalObject},
        wal_header::{HEADER_BYTES, SegmentHeader},
    },
    model::{
        compression::Compression,
        record::Identity,
        semantics::Records,
        timeline::TimelineId,
        wal::{SegmentName, SystemId, WalFile},
    },
    pipeline::{compress::Decoder, feed::feed},
    store::{self, ArchiveError, GetOptions, GetRange, Meaning, PutMode, StoreExt as _},
};

/// Of how many timelines, the newest first, one segment is read.
const TIMELINES_MAX: usize = 8;

/// What is known of a destination's cluster.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pin {
    /// Nothing, and it does not matter.
    Off,
    /// The local cache remembers it.
    Cached(SystemId),
    /// The destination says so.
    Stored(SystemId),
    /// The destination says that nothing is pinned.
    Missing,
}

/// Finds out which cluster is pinned.
pub(super) async fn look(
    target: &ArchiveTarget,
    file: WalFile,
    options: &ArchiveOptions,
) -> Result<Pin, Error> {
    if options.records == Records::None {
        return Ok(Pin::Off);
    }
    let cached = options.spool.as_ref().and_then(|spool| {
        // A cache that cannot be read is an empty one.
        spool
            .identity(&target.place(), target.archive.server())
            .ok()?
    });
    match cached {
        Some(system_id) => Ok(Pin::Cached(system_id)),
        None => stored(target, file).await,
    }
}

async fn stored(target: &ArchiveTarget, file: WalFile) -> Result<Pin, Error> {
    let read = target.archive.read_record::<Identity>(OwnObject::Identity);
    match read.await {
        Ok(Some((identity, _))) => Ok(Pin::Stored(identity.system_id)),
        Ok(None) => Ok(Pin::Missing),
        Err(error) => Err(unread(target, error, file)),
    }
}

fn unread(target: &ArchiveTarget, error: ArchiveError, file: WalFile) -> Error {
    match error {
        ArchiveError::Store(source) => failed(target, file, source),
        source => Error::Identity {
            destination: target.destination.clone(),
            server: target.archive.server().to_owned(),
            source: Box::new(source),
        },
    }
}

fn failed(target: &ArchiveTarget, file: WalFile, source: store::Error) -> Error {
    Error::Store {
        destination: target.destination.clone(),
        file,
        source,
    }
}

/// Refuses a file of another cluster; pins the cluster if none is.
pub(super) async fn ensure(
    target: &ArchiveTarget,
    (file, system_id): (WalFile, Option<SystemId>),
    pin: Pin,
    options: &ArchiveOptions,
) -> Result<(), Error> {
    let Some(found) = system_id else {
        return Ok(());
    };
    let pin = match pin {
        Pin::Off => return Ok(()),
        Pin::Cached(pinned) if pinned == found => return Ok(()),
        Pin::Cached(_) => stored(target, file).await?,
        asked => asked,
    };
    let pinned = match pin {
        Pin::Stored(pinned) => pinned,
        _ => create(target, file, found, options).await?,
    };
    if pinned != found {
        return Err(foreign(target, pinned, found));
    }
    if let Some(spool) = &options.spool {
        // Without it the next call asks again.
        let _remembered = spool.set_identity(&target.place(), target.archive.server(), found);
    }
    Ok(())
}

fn foreign(target: &ArchiveTarget, pinned: SystemId, found: SystemId) -> Error {
    Error::Foreign {
        destination: target.destination.clone(),
        server: target.archive.server().to_owned(),
        pinned,
        found,
    }
}

/// Pins a cluster unless somebody else was faster, and returns the one that is pinned.
async fn create(
    target: &ArchiveTarget,
    file: WalFile,
    found: SystemId,
    options: &ArchiveOptions,
) -> Result<SystemId, Error> {
    let lost = |source| failed(target, file, source);
    let check = check_wal_archive(target, found, None).await;
    let check = check.map_err(lost)?;
    if let WalArchiveCheck::Foreign { system_id, .. } = check {
        return Ok(system_id);
    }
    let identity = Identity {
        system_id: found,
        pinned_at: options.now,
    };
    let archive = &target.archive;
    let put = |mode| archive.write_record(OwnObject::Identity, &identity, mode);
    let written = match put(PutMode::Create).await {
        Err(ArchiveError::Store(error)) if error.meaning == Meaning::Unsupported => {
            put(PutMode::Overwrite).await
        }
        other => other,
    };
    match written {
        Ok(_) => Ok(found),
        Err(error) if error.is_conflict() => match stored(target, file).await? {
            Pin::Stored(pinned) => Ok(pinned),
            _ => Err(unread(target, error, file)),
        },
        Err(error) => Err(unread(target, error, file)),
    }
}

/// What a server that is new to a destination finds in its WAL archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalArchiveCheck {
    /// No WAL.
    Empty,
    /// WAL of the same cluster.
    Ours {
        /// The last segment of the newest timeline.
        newest: SegmentName,
    },
    /// WAL of the same cluster, on the timeline that the server is to write, or on a later one.
    Ahead {
        /// The last segment of the newest timeline.
        newest: SegmentName,
    },
    /// WAL of another cluster.
    Foreign {
        /// One of its segments.
        segment: SegmentName,
        /// The other cluster.
        system_id: SystemId,
    },
    /// WAL, of which no segment that was looked at tells whose it is.
    Unclear {
        /// The last segment of the newest timeline.
        newest: SegmentName,
    },
}

/// Looks whether a destination holds WAL that a server must not add to.
///
/// Reads the header of the last segment of each of the newest timelines; a segment that cannot be read is passed over.
/// `timeline` is the one that the server writes, where that matters: a restored copy has the identifier of its original, and
/// must not go on where that one did.
pub async fn check_wal_archive(
    target: &ArchiveTarget,
    system_id: SystemId,
    timeline: Option<TimelineId>,
) -> Result<WalArchiveCheck, store::Error> {
    let newest = newest_segments(target).await?;
    let Some((last, _)) = newest.first() else {
        return Ok(WalArchiveCheck::Empty);
    };
    let mut is_read = false;
    for (segment, compression) in &newest {
        let Ok(header) = read_header(target, *segment, *compression).await? else {
            continue;
        };
        is_read = true;
        if header.system_id != system_id {
            return Ok(WalArchiveCheck::Foreign {
                segment: *segment,
                system_id: header.system_id,
            });
        }
    }
    let newest = *last;
    Ok(match timeline {
        _ if !is_read => WalArchiveCheck::Unclear { newest },
        Some(timeline) if newest.timeline >= timeline => WalArchiveCheck::Ahead { newest },
        _ => WalArchiveCheck::Ours { newest },
    })
}

/// The last segment that a destination has of each timeline, the newest timeline first; of the eight newest at most.
pub async fn newest_archived(target: &ArchiveTarget) -> Result<Vec<SegmentName>, Error> {
    let newest = newest_segments(target).await;
    let newest = newest.map_err(|source| Error::Newest {
        destination: target.destination.clone(),
        source,
    })?;
    Ok(newest.into_iter().map(|(segment, _)| segment).collect())
}

async fn newest_segments(
    target: &ArchiveTarget,
) -> Result<Vec<(SegmentName, Compression)>, store::Error> {
    let (store, wals) = (target.archive.store(), target.archive.prefix(WALS));
    let (directories, _) = store.list_children(&wals).await?;
    let mut last_directories = BTreeMap::new();
    for directory in directories {
        let name = directory.trim_end_matches('/').rsplit('/').next();
        let timeline = name.and_then(|name| TimelineId::parse(name.get(..8)?));
        if let Some(timeline) = timeline {
            last_directories.insert(timeline, directory);
        }
    }
    let mut newest = Vec::new();
    for directory in last_directories.values().rev().take(TIMELINES_MAX) {
        let listed: Vec<_> = store.list_all(directory).try_collect().await?;
        let segment = |object: &store::ObjectMeta| match target.archive.parse(&object.key)? {
            ObjectKey::Wal(WalObject {
                file: WalFile::Segment(name),
                compression,
            }) => Some((name, compression)),
            _ => None,
        };
        newest.extend(listed.iter().rev().find_map(segment));
    }
    Ok(newest)
}

async fn read_header(
    target: &ArchiveTarget,
    segment: SegmentName,
    compression: Compression,
) -> Result<io::Result<SegmentHeader>, store::Error> {
    let object = WalObject {
        file: WalFile::Segment(segment),
        compression,
    };
    let options = match compression {
        Compression::None => GetOptions::range(GetRange::Bounded(0..HEADER_BYTES as u64)),
        _ => GetOptions::default(),
    };
    let key = target.archive.key(&ObjectKey::Wal(object));
    let got = match target.archive.store().get(&key, options).await {
        Ok(got) => got,
        // An empty object has no bytes to give.
        Err(error) if error.meaning == Meaning::Precondition => {
            return Ok(Err(io::Error::other(error)));
        }
        Err(error) => return Err(error),
    };
    feed(got.body, move |stored| {
        let mut header = [0; HEADER_BYTES];
        Decoder::new(compression, stored)?.read_exact(&mut header)?;
        SegmentHeader::parse(&header).map_err(io::Error::other)
    })
    .await
}
