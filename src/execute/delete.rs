//! Deletes backups, orphans and WAL, in an order that leaves something usable wherever it is interrupted.
//!
//! Every delete looks again just before it acts: what is kept, rewritten or grown since it was judged stays. Backups go in two waves, across
//! all of them: first the data of each, then `backup.info` of those whose data is all gone. A backup that is half deleted therefore still
//! has its `backup.info`, is damaged to every reader, and is deleted by the next try. The tombstone is written first: the budget counts
//! what was begun.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Error;
use crate::{
    format::keys::{self, BaseObject, ObjectKey, OwnObject},
    model::{
        action::WalSpan,
        backup::BackupId,
        record::Tombstone,
        time::Timestamp,
        timeline::TimelineId,
        wal::{SegmentSize, WalFile},
    },
    store::{Archive, Key, ObjectMeta, PutMode, StoreExt as _},
};

/// How many backups are looked at again at once.
const CHECKS_MAX: usize = 8;

/// A backup to delete, as it was judged.
pub(super) struct Doomed {
    pub(super) id: BackupId,
    /// The version of its `backup.info` then.
    pub(super) version: String,
    /// What its tombstone says.
    pub(super) reason: String,
}

/// What every tombstone of a run says.
pub(super) struct Epitaph {
    pub(super) at: Timestamp,
    pub(super) plan: String,
}

/// Deletes backups. The outcomes are in the order given; one that is refused or fails does not stop the others.
pub(super) async fn backups(
    archive: &Archive,
    doomed: &[Doomed],
    epitaph: &Epitaph,
) -> Vec<Result<(), Error>> {
    let begin = |backup| begin(archive, backup, epitaph);
    let begun: Vec<Result<Vec<Key>, Error>> = stream::iter(doomed)
        .map(begin)
        .buffered(CHECKS_MAX)
        .collect()
        .await;
    let mut outcomes: Vec<Result<(), Error>> = Vec::new();
    let mut data = Vec::new();
    for outcome in begun {
        data.push(outcome.as_ref().map_or_else(|_| Vec::new(), Clone::clone));
        outcomes.push(outcome.map(|_| ()));
    }
    first_wave(archive, doomed, &data, &mut outcomes).await;
    second_wave(archive, doomed, &mut outcomes).await;
    outcomes
}

/// Looks at a backup again and announces its end. Returns the keys of its data.
async fn begin(archive: &Archive, doomed: &Doomed, epitaph: &Epitaph) -> Result<Vec<Key>, Error> {
    let id = &doomed.id;
    let objects = archive
        .objects(&keys::backup_directory(id))
        .await
        .map_err(|source| Error::Delete {
            what: id.to_string(),
            source,
        })?;
    let mut data = Vec::new();
    for meta in &objects {
        match archive.parse(&meta.key) {
            Some(ObjectKey::Base(_, BaseObject::Keep)) => return Err(Error::Kept(id.clone())),
            Some(ObjectKey::Base(_, BaseObject::Info)) => {
                if meta.version.0 != doomed.version {
                    return Err(Error::Changed(id.clone()));
                }
            }
            _ => data.push(meta.key.clone()),
        }
    }
    let tombstone = Tombstone {
        backup: id.clone(),
        at: epitaph.at,
        reason: doomed.reason.clone(),
        plan: epitaph.plan.clone(),
    };
    archive
        .write_record(
            OwnObject::Deleted(id.clone()),
            &tombstone,
            PutMode::Overwrite,
        )
        .await
        .map_err(|source| Error::Tombstone {
            backup: id.clone(),
            source,
        })?;
    Ok(data)
}

async fn first_wave(
    archive: &Archive,
    doomed: &[Doomed],
    data: &[Vec<Key>],
    outcomes: &mut [Result<(), Error>],
) {
    let keys: Vec<Key> = data.iter().flatten().cloned().collect();
    let deleted = archive.store().delete(&keys).await;
    let owners = data
        .iter()
        .enumerate()
        .flat_map(|(index, keys)| keys.iter().map(move |_| index));
    for (index, deleted) in owners.zip(deleted) {
        if let Err(source) = deleted.outcome
            && outcomes[index].is_ok()
        {
            let what = doomed[index].id.to_string();
            outcomes[index] = Err(Error::Delete { what, source });
        }
    }
}

async fn second_wave(archive: &Archive, doomed: &[Doomed], outcomes: &mut [Result<(), Error>]) {
    let gone: Vec<usize> = (0..doomed.len())
        .filter(|index| outcomes[*index].is_ok())
        .collect();
    let info = |index: &usize| archive.key(&ObjectKey::info(&doomed[*index].id));
    let keys: Vec<Key> = gone.iter().map(info).collect();
    for (index, deleted) in gone.into_iter().zip(archive.store().delete(&keys).await) {
        if let Err(source) = deleted.outcome {
            let what = doomed[index].id.to_string();
            outcomes[index] = Err(Error::Delete { what, source });
        }
    }
}

/// Deletes the objects of a directory without `backup.info`, unless one has appeared, or anything younger than `newest`.
pub(super) async fn orphan(
    archive: &Archive,
    id: &BackupId,
    newest: Timestamp,
) -> Result<(), Error> {
    let failed = |source| Error::Delete {
        what: id.to_string(),
        source,
    };
    let objects = archive
        .objects(&keys::backup_directory(id))
        .await
        .map_err(failed)?;
    let is_info = |meta: &ObjectMeta| {
        matches!(
            archive.parse(&meta.key),
            Some(ObjectKey::Base(_, BaseObject::Info))
        )
    };
    if objects
        .iter()
        .any(|meta| is_info(meta) || meta.last_modified > newest)
    {
        return Err(Error::Changed(id.clone()));
    }
    let keys: Vec<Key> = objects.into_iter().map(|meta| meta.key).collect();
    all(archive, &keys, &id.to_string()).await
}

/// Deletes WAL: exactly the segments of the spans, with their partial and backup history files. Timeline histories stay.
///
/// Goes through the archive directory by directory, oldest first, with one page of keys in memory. Returns how many objects are gone.
pub(super) async fn wal(
    archive: &Archive,
    spans: &[WalSpan],
    size: SegmentSize,
) -> Result<u64, Error> {
    let mut by_timeline: BTreeMap<TimelineId, Vec<&WalSpan>> = BTreeMap::new();
    for span in spans {
        by_timeline.entry(span.timeline).or_default().push(span);
    }
    let mut deleted = 0;
    for (timeline, spans) in by_timeline {
        deleted += wal_of(archive, timeline, &spans, size).await?;
    }
    Ok(deleted)
}

async fn wal_of(
    archive: &Archive,
    timeline: TimelineId,
    spans: &[&WalSpan],
    size: SegmentSize,
) -> Result<u64, Error> {
    let failed = |source| Error::Delete {
        what: format!("WAL of timeline {timeline}"),
        source,
    };
    let (Some(first), Some(last)) = (
        spans.iter().map(|span| span.run.first).min(),
        spans.iter().map(|span| span.run.last).max(),
    ) else {
        return Ok(0);
    };
    let below = |segment: crate::model::wal::SegmentNumber| {
        let name = segment.name(timeline, size);
        archive.prefix(&keys::wal_stem(WalFile::Segment(name)))
    };
    let prefix = archive.prefix(&format!("{}{timeline}", keys::WALS));
    // Every extension of the last segment sorts before the next one.
    let objects = archive.store().list_range(
        &prefix,
        Some(before(&below(first))),
        Some(below(last.next())),
    );
    let doomed = objects.try_filter(|meta| {
        let goes = segment_of(archive, meta).is_some_and(|file| {
            file.segment().is_some_and(|segment| {
                let number = segment.number(size);
                let within = |span: &&&WalSpan| span.run.first <= number && number <= span.run.last;
                // A name that this segment size does not allow has the number of another segment.
                let exact = number.name(timeline, size) == segment;
                exact && spans.iter().find(within).is_some()
            })
        });
        std::future::ready(goes)
    });
    let mut batches = doomed.try_chunks(BATCH);
    let mut deleted = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| failed(error.1))?;
        let keys: Vec<Key> = batch.into_iter().map(|meta| meta.key).collect();
        all(archive, &keys, &format!("WAL of timeline {timeline}")).await?;
        deleted += u64::try_from(keys.len()).unwrap_or(u64::MAX);
    }
    Ok(deleted)
}

/// How many keys are deleted at once: what S3 takes in one request.
const BATCH: usize = 1000;

/// The greatest text below another that no key of the archive lies between: listings begin after it.
fn before(text: &str) -> String {
    let mut text = text.to_owned();
    // A segment's name ends in a hexadecimal digit; the character below it is no digit of any name, so nothing is skipped.
    if let Some(last) = text.pop() {
        text.push(char::from_u32(u32::from(last) - 1).unwrap_or(last));
        text.push('\u{10FFFF}');
    }
    text
}

fn segment_of(archive: &Archive, meta: &ObjectMeta) -> Option<WalFile> {
    match archive.parse(&meta.key)? {
        ObjectKey::Wal(object) => Some(object.file),
        _ => None,
    }
}

async fn all(archive: &Archive, keys: &[Key], what: &str) -> Result<(), Error> {
    let outcomes = archive.store().delete(keys).await;
    let failed = |source| Error::Delete {
        what: what.to_owned(),
        source,
    };
    outcomes
        .into_iter()
        .try_for_each(|deleted| deleted.outcome)
        .map_err(failed)
}
