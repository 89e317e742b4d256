//! The locks of what would be deleted, at bounded cost.
//!
//! One question tells whether the destination locks anything at all; if not, that is all. Else directories are listed and, where the
//! listing does not tell, their objects asked for; of WAL the newest segment is asked for first, because it is usually locked
//! longest: a span that is locked there costs one question, however long it is.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    failure::{Failure, chain},
    format::keys,
    model::{
        action::WalSpan,
        backup::BackupId,
        catalog::{Catalog, Run},
        lock::{Lock, Locking, Locks, Questions},
        names::DestinationName,
        observed::{Knowledge, Observed, Stored},
        wal::SegmentSize,
    },
    store::{Archive, Error, Key, ObjectMeta},
};

/// How many directories are listed at once.
const LISTS_MAX: usize = 16;

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
    let directories = directories(archive, questions.directories.iter().cloned().collect()).await;
    locks.directories.extend(directories);
    for span in &questions.wal {
        let lock = wal(archive, span, size).await;
        locks.wal.insert(*span, lock.unwrap_or_else(unknown));
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is called with errors")]
fn unknown(error: Error) -> Lock {
    Lock::Unknown(chain(&error))
}

/// Of each directory the lock that lasts longest. What all of them do not tell in their listing is asked for together.
async fn directories(archive: &Archive, ids: Vec<BackupId>) -> Vec<(BackupId, Lock)> {
    let list = |id: BackupId| async move {
        let objects = archive.objects(&keys::backup_directory(&id)).await;
        (id, objects)
    };
    let listed = stream::iter(ids).map(list).buffered(LISTS_MAX);
    let listed: Vec<_> = listed.collect().await;
    let untold = listed
        .iter()
        .filter_map(|(_, objects)| objects.as_ref().ok());
    let untold = untold.flatten().filter(|meta| meta.lock.is_none());
    let untold: Vec<Key> = untold.map(|meta| meta.key.clone()).collect();
    let mut answers = archive.store().locks(&untold).await.into_iter();
    let mut lock = |objects: Vec<ObjectMeta>| {
        let mut longest = Lock::Free;
        for meta in objects {
            let told = meta.lock.or_else(|| answers.next());
            longest = longest.and(told.expect("one answer for each"));
        }
        longest
    };
    let each = listed.into_iter().map(|(id, objects)| match objects {
        Ok(objects) => (id, lock(objects)),
        Err(error) => (id, unknown(error)),
    });
    each.collect()
}

/// A lock that forbids to delete all of a span; free if there is none.
async fn wal(archive: &Archive, span: &WalSpan, size: SegmentSize) -> Result<Lock, Error> {
    let newest = Run {
        first: span.run.last,
        last: span.run.last,
    };
    for run in [newest, span.run] {
        let objects = archive.segments(span.timeline, run, size);
        let mut batches = objects.try_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let lock = longest(archive, batch.map_err(|error| error.1)?).await;
            if lock != Lock::Free {
                return Ok(lock);
            }
        }
    }
    Ok(Lock::Free)
}

async fn longest(archive: &Archive, objects: Vec<ObjectMeta>) -> Lock {
    let (told, untold): (Vec<_>, Vec<_>) = objects.into_iter().partition(|o| o.lock.is_some());
    let untold: Vec<Key> = untold.into_iter().map(|meta| meta.key).collect();
    let asked = archive.store().locks(&untold).await;
    let told = told.into_iter().filter_map(|meta| meta.lock);
    told.chain(asked).fold(Lock::Free, Lock::and)
}
