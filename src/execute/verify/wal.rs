//! The WAL that a backup needs to be consistent, read: every segment, in each compression that it is stored in.

use std::io::Read as _;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{Error, Faults, Verifier};
use crate::{
    format::{
        keys::{ObjectKey, WalObject},
        wal_header::{HEADER_BYTES, SegmentHeader},
    },
    model::{
        backup::Backup,
        catalog::{Run, WalArchive},
        wal::{SegmentName, SystemId, WalFile},
    },
    pipeline::{
        compress::Decoder,
        feed::{Feed, feed},
    },
    store::{GetOptions, Key},
};

/// How many segments are read at once: each takes a few chunks of memory.
const PARALLEL: usize = 8;

/// How much is decompressed at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// Reads all segments from the backup's beginning to its end, and says how many objects that were.
pub(super) async fn read(
    verifier: &Verifier<'_>,
    backup: &Backup,
    faults: &mut Faults,
) -> Result<u64, Error> {
    let (Some(begin), Some(end)) = (backup.begin_wal, backup.end_wal) else {
        return Ok(0);
    };
    let size = backup.segment_size;
    let (first, last) = (begin.number(size), end.number(size));
    let history = verifier.catalog.wal.history(end.timeline);
    let mut there = WalArchive::default();
    let mut count = 0;
    let mut next = first;
    while next <= last {
        let timeline = history.timeline_of(next, size);
        let left = history.left_at(timeline).map(|left| left.0 / size.bytes());
        let until = left.and_then(|left| left.checked_sub(1)).unwrap_or(last.0);
        let run = Run {
            first: next,
            last: last.min(crate::model::wal::SegmentNumber(until)).max(next),
        };
        let listed = verifier.archive.segments(timeline, run, size);
        let whole = listed.try_filter_map(|meta| {
            let object = match verifier.archive.parse(&meta.key) {
                Some(ObjectKey::Wal(object)) => Some(object),
                _ => None,
            };
            let whole = object.and_then(|object| match object.file {
                WalFile::Segment(name) => Some((meta.key, object, name)),
                _ => None,
            });
            std::future::ready(Ok(whole))
        });
        let reading = whole.map(|one| async move {
            let (key, object, name) = one.map_err(Error::read("wals/"))?;
            let wrong = segment(verifier, &key, object, (name, backup.system_id)).await?;
            Ok::<_, Error>((name, object, wrong))
        });
        let mut reading = std::pin::pin!(reading.buffer_unordered(PARALLEL));
        while let Some((name, object, wrong)) = reading.try_next().await? {
            count += 1;
            there.insert(timeline, name.number(size));
            if let Some(wrong) = wrong {
                faults.add(object, wrong);
            }
        }
        next = run.last.next();
    }
    if let Some(missing) = there.first_missing(&history, begin, last, size) {
        faults.add(format!("wals/{missing}"), "it is missing");
    }
    Ok(count)
}

/// What is wrong with a segment, if anything.
async fn segment(
    verifier: &Verifier<'_>,
    key: &Key,
    object: WalObject,
    expected: (SegmentName, Option<SystemId>),
) -> Result<Option<String>, Error> {
    if verifier.cancel.is_cancelled() {
        return Err(Error::Interrupted);
    }
    let got = verifier
        .archive
        .store()
        .get(key, GetOptions::default())
        .await;
    let got = match got {
        Ok(got) => got,
        Err(error) if error.is_not_found() => return Ok(Some("it is gone".to_owned())),
        Err(error) => return Err(Error::read(key)(error)),
    };
    let read = feed(got.body, move |stored| check(stored, object, expected)).await;
    read.map_err(Error::read(key))
}

/// Blocks.
fn check(
    stored: Feed,
    object: WalObject,
    (name, system_id): (SegmentName, Option<SystemId>),
) -> Option<String> {
    let (start, length) = match decompress(stored, object) {
        Ok(read) => read,
        Err(error) => return Some(format!("it cannot be decompressed: {error}")),
    };
    let header = match SegmentHeader::parse(&start) {
        Ok(header) => header,
        Err(error) => return Some(error.to_string()),
    };
    if let Err(error) = header.check(name, length) {
        return Some(error.to_string());
    }
    let found = header.system_id;
    let foreign = system_id.filter(|expected| *expected != found);
    foreign.map(|expected| format!("it is of the cluster {found}, not {expected}"))
}

/// What a segment begins with, and its length.
fn decompress(stored: Feed, object: WalObject) -> std::io::Result<(Vec<u8>, u64)> {
    let mut decoder = Decoder::new(object.compression, stored)?;
    let (mut start, mut length) = (Vec::new(), 0);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = decoder.read(&mut buffer)?;
        if count == 0 {
            return Ok((start, length));
        }
        let missing = HEADER_BYTES.saturating_sub(start.len()).min(count);
        start.extend_from_slice(&buffer[..missing]);
        length += count as u64;
    }
}
