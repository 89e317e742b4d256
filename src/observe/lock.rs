//! The locks of what would be deleted, at bounded cost.
//!
//! One question tells whether the destination locks anything at all; if not, that is all. Where listings tell the locks, one over all
//! directories and one over all WAL answer everything, and pass over the rest of a span that is locked. Elsewhere objects are asked
//! for; of WAL the newest segment first, because it is usually locked longest: a span that is locked there costs one question, however
//! long it is.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::{
    failure::{Failure, chain},
    model::{
        action::WalSpan,
        backup::BackupId,
        catalog::{Catalog, Run},
        lock::{Lock, Locking, Locks, Questions},
        names::DestinationName,
        observed::{Knowledge, Observed, Stored},
        wal::SegmentSize,
    },
    store::{Archive, Error, ObjectMeta, StoreExt as _},
};

/// How many keys of WAL are held and asked for at once.
const BATCH: usize = 1000;

/// Looks at what is asked for and adds it to what was observed.
pub async fn look(
    archives: &BTreeMap<DestinationName, Result<Archive, Failure>>,
    questions: &BTreeMap<DestinationName, Questions>,
    observed: &mut Observed,
) {
    for (destination, questions) in questions {
        let Some(stored) = observed.destinations.get_mut(destination) else {
            continue;
        };
        match archives.get(destination) {
            Some(Ok(archive)) => one(archive, questions, stored).await,
            Some(Err(failure)) => stored.locks = Knowledge::Unknown(failure.clone()),
            None => {}
        }
    }
}

/// What the destination does by itself.
pub(super) async fn retention(archive: &Archive) -> Knowledge<Locks> {
    match archive.store().retention().await {
        Ok(retention) => Knowledge::Known(Locks::new(retention)),
        Err(error) => Knowledge::Unknown(Failure::of(error.kind(), &error)),
    }
}

async fn one(archive: &Archive, questions: &Questions, stored: &mut Stored) {
    if stored.locks == Knowledge::Absent {
        stored.locks = retention(archive).await;
    }
    let size = stored.catalog.known().map(Catalog::segment_size);
    let size = size.unwrap_or(SegmentSize::DEFAULT);
    let Knowledge::Known(locks) = &mut stored.locks else {
        return;
    };
    if locks.retention.locking == Locking::Off {
        return;
    }
    let directories = directories(archive, &questions.directories).await;
    locks.directories.extend(directories);
    let mut spans = questions.wal.clone();
    spans.sort_unstable();
    for spans in spans.chunk_by(|one, next| one.timeline == next.timeline) {
        let found = wal(archive, spans, size).await;
        locks.wal.extend(spans.iter().copied().zip(found));
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is called with errors")]
fn unknown(error: Error) -> Lock {
    Lock::Unknown(chain(&error))
}

/// Of each directory the lock that lasts longest.
async fn directories(archive: &Archive, ids: &BTreeSet<BackupId>) -> Vec<(BackupId, Lock)> {
    let listed = match archive.backups(ids.iter().cloned()).await {
        Ok(listed) => listed,
        Err(error) => {
            let unknown = unknown(error);
            return ids.iter().map(|id| (id.clone(), unknown.clone())).collect();
        }
    };
    // What no listing tells is asked for together.
    let all: Vec<ObjectMeta> = listed.values().flatten().cloned().collect();
    let mut locks = archive.store().locks_of(&all).await.into_iter();
    let each = listed.into_iter().map(|(id, objects)| {
        let of_it = locks.by_ref().take(objects.len());
        (id, of_it.fold(Lock::Free, Lock::and))
    });
    each.collect()
}

/// Of each span of a timeline, in their order, a lock that forbids to delete all of it; free if there is none.
async fn wal(archive: &Archive, spans: &[WalSpan], size: SegmentSize) -> Vec<Lock> {
    match told(archive, spans, size).await {
        Ok(Some(locks)) => return locks,
        Ok(None) => {}
        Err(error) => return vec![unknown(error); spans.len()],
    }
    let mut locks = Vec::new();
    for span in spans {
        let lock = asked(archive, span, size).await;
        locks.push(lock.unwrap_or_else(unknown));
    }
    locks
}

/// What listings tell of the spans; `None` if they tell nothing.
async fn told(
    archive: &Archive,
    spans: &[WalSpan],
    size: SegmentSize,
) -> Result<Option<Vec<Lock>>, Error> {
    let mut locks = vec![Lock::Free; spans.len()];
    let mut at = 0;
    while let (Some(span), Some(end)) = (spans.get(at), spans.last()) {
        let run = Run {
            first: span.run.first,
            last: end.run.last,
        };
        let mut pages = archive.segment_pages(span.timeline, run, size);
        // Of a span that is locked nothing more has to be seen.
        while locks.get(at) == Some(&Lock::Free) {
            let Some(page) = pages.try_next().await? else {
                return Ok(Some(locks));
            };
            for meta in page {
                let Some(lock) = meta.lock else {
                    return Ok(None);
                };
                let number = archive.segment(&meta.key).map(|name| name.number(size));
                let number = number.expect("a page of segments");
                at += spans[at..].partition_point(|span| span.run.last < number);
                if spans[at].run.first <= number {
                    locks[at] = std::mem::replace(&mut locks[at], Lock::Free).and(lock);
                }
            }
        }
        at += 1;
    }
    Ok(Some(locks))
}

/// A lock that forbids to delete all of a span, asked for.
async fn asked(archive: &Archive, span: &WalSpan, size: SegmentSize) -> Result<Lock, Error> {
    let newest = Run {
        first: span.run.last,
        last: span.run.last,
    };
    for run in [newest, span.run] {
        let objects = archive.segments(span.timeline, run, size);
        let mut batches = objects.try_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| error.1)?;
            let locks = archive.store().locks_of(&batch).await;
            let lock = locks.into_iter().fold(Lock::Free, Lock::and);
            if lock != Lock::Free {
                return Ok(lock);
            }
        }
    }
    Ok(Lock::Free)
}
