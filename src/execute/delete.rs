//! Deletes backups, orphans and WAL, in an order that leaves something usable wherever it is interrupted.
//!
//! Every delete looks again just before it acts: what is kept, rewritten or grown since it was judged stays. Backups go in two waves, across
//! all of them: first the data of each, with what barkeep noted beside it, then `backup.info` of those whose data is all gone. A backup
//! that is half deleted therefore still has its `backup.info`, is damaged to every reader, and is deleted by the next try. One record for
//! the whole run is written before anything goes: the budget counts what was begun, not what succeeded.

mod alone;
mod prune;
mod snapshots;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use self::snapshots::Going;
pub(super) use self::{
    alone::{Alone, alone as snapshot},
    prune::forget,
    snapshots::Snapshots,
};
use super::Error;
use crate::{
    format::keys::{self, BaseObject, ObjectKey, OwnObject},
    model::{
        action::WalSpan,
        backup::{ArchiveRoot, BackupId},
        catalog::Run,
        lock::Lock,
        record::{Deletion, Epitaph},
        semantics::Records,
        time::Timestamp,
        timeline::TimelineId,
        wal::SegmentSize,
    },
    store::{Archive, Error as StoreError, Key, Meaning, ObjectMeta, PutMode, StoreExt as _},
};

/// How many backups are looked at again at once.
const CHECKS_MAX: usize = 16;

/// How many keys of WAL are held and deleted at once: what S3 takes in one request.
const BATCH: usize = 1000;

/// A backup to delete, as it was judged.
pub(super) struct Doomed {
    pub(super) id: BackupId,
    /// The version of its `backup.info` then, and why it goes.
    pub(super) epitaph: Epitaph,
    pub(super) scope: Scope,
    /// Whether it consists of snapshots of disks.
    pub(super) has_snapshots: bool,
}

/// What goes of a backup's directory, beside `backup.info`.
pub(super) enum Scope {
    /// The archives of these roots.
    Archives(BTreeSet<ArchiveRoot>),
    /// The label, which is all that a backup of snapshots has beside them.
    Label,
    /// All of it.
    Directory,
}

impl Scope {
    fn holds(&self, object: Option<&ObjectKey>) -> bool {
        match (self, object) {
            (Self::Directory, _) | (Self::Label, Some(ObjectKey::Base(_, BaseObject::Label))) => {
                true
            }
            (Self::Archives(roots), Some(ObjectKey::Base(_, BaseObject::Archive(name)))) => {
                roots.contains(&name.root)
            }
            (Self::Archives(_) | Self::Label, _) => false,
        }
    }
}

/// What the record of a run says of all of them.
pub(super) struct Occasion {
    /// When, by the store's clock.
    pub(super) at: Timestamp,
    /// The digest of the plan.
    pub(super) plan: String,
    /// Whether there is such a record.
    pub(super) records: Records,
    /// What has gone in this run already: the record goes on to name it.
    pub(super) gone: BTreeMap<BackupId, Epitaph>,
    pub(super) locks: LockCheck,
}

/// Deletes backups. The outcomes are in the order given; one that is refused or fails does not stop the others.
pub(super) async fn backups(
    archive: &Archive,
    doomed: &[Doomed],
    occasion: &Occasion,
    snapshots: Snapshots<'_>,
) -> Vec<Result<(), Error>> {
    let mut outcomes = Vec::new();
    let mut found = Vec::new();
    for checked in check(archive, doomed).await {
        let (objects, outcome) = match checked {
            Ok(objects) => (objects, Ok(())),
            Err(error) => (Found::default(), Err(error)),
        };
        found.push(objects);
        outcomes.push(outcome);
    }
    if occasion.locks == LockCheck::Heeded {
        heed_locks(archive, doomed, &found, &mut outcomes).await;
    }
    let going = Going::check(archive, doomed, snapshots, &mut outcomes).await;
    announce(archive, doomed, occasion, &mut outcomes).await;
    going.delete(doomed, &mut outcomes).await;
    first_wave(archive, doomed, (&found, occasion.records), &mut outcomes).await;
    second_wave(archive, doomed, &mut outcomes).await;
    outcomes
}

/// What of a backup goes.
#[derive(Default)]
struct Found {
    data: Vec<ObjectMeta>,
    info: Option<ObjectMeta>,
}

/// Looks at backups again. Deletes begin at the oldest, so little lies between them.
async fn check(archive: &Archive, doomed: &[Doomed]) -> Vec<Result<Found, Error>> {
    let ids = doomed.iter().map(|one| one.id.clone());
    let listed = archive.backups(ids).await.map_err(Arc::new);
    let checks = doomed.iter().map(|one| async {
        match &listed {
            Ok(listed) => unchanged(archive, one, listed.get(&one.id)).await,
            Err(source) => Err(Error::Look {
                what: one.id.to_string(),
                source: source.clone(),
            }),
        }
    });
    stream::iter(checks).buffered(CHECKS_MAX).collect().await
}

/// What goes of a backup, if it is what was judged.
async fn unchanged(
    archive: &Archive,
    doomed: &Doomed,
    objects: Option<&Vec<ObjectMeta>>,
) -> Result<Found, Error> {
    let id = &doomed.id;
    let failed = |source| Error::Delete {
        what: id.to_string(),
        source,
    };
    let mut found = Found::default();
    let mut version = None;
    for meta in objects.into_iter().flatten() {
        match archive.parse(&meta.key) {
            Some(ObjectKey::Base(_, BaseObject::Keep)) => return Err(Error::Kept(id.clone())),
            Some(ObjectKey::Base(_, BaseObject::Info)) => {
                version = Some(told(archive, meta).await.map_err(failed)?);
                found.info = Some(meta.clone());
            }
            object if doomed.scope.holds(object.as_ref()) => found.data.push(meta.clone()),
            _ => {}
        }
    }
    // Where all is gone, somebody else has done it.
    let gone = found.data.is_empty() && version.is_none();
    if !gone && version.as_ref() != Some(&doomed.epitaph.version) {
        return Err(Error::Changed(id.clone()));
    }
    Ok(found)
}

/// Looks again whether anything of a backup is locked: then all of it stays.
async fn heed_locks(
    archive: &Archive,
    doomed: &[Doomed],
    found: &[Found],
    outcomes: &mut [Result<(), Error>],
) {
    let mut objects = Vec::new();
    let mut owners = Vec::new();
    for (index, Found { data, info }) in found.iter().enumerate() {
        if outcomes[index].is_ok() {
            let before = objects.len();
            objects.extend(data.iter().chain(info).cloned());
            owners.extend(std::iter::repeat_n(index, objects.len() - before));
        }
    }
    let locks = archive.store().locks_of(&objects).await;
    for (index, lock) in owners.into_iter().zip(locks) {
        if lock != Lock::Free && outcomes[index].is_ok() {
            let what = doomed[index].id.to_string();
            outcomes[index] = Err(Error::Locked { what, lock });
        }
    }
}

/// Looks again whether any of some objects is locked: then all of them stay.
async fn free(
    archive: &Archive,
    objects: &[ObjectMeta],
    what: &str,
    check: LockCheck,
) -> Result<(), Error> {
    if check == LockCheck::Needless {
        return Ok(());
    }
    let locks = archive.store().locks_of(objects).await;
    match locks.into_iter().find(|lock| *lock != Lock::Free) {
        Some(lock) => Err(Error::Locked {
            what: what.to_owned(),
            lock,
        }),
        None => Ok(()),
    }
}

/// The version of a listed object. Some stores tell none in a listing, and are asked for it.
async fn told(archive: &Archive, meta: &ObjectMeta) -> Result<String, StoreError> {
    if meta.version.is_told() {
        return Ok(meta.version.0.clone());
    }
    let head = archive.store().head(&meta.key).await?;
    Ok(head.meta.version.0)
}

/// Writes down what is about to go. Without that nothing goes.
async fn announce(
    archive: &Archive,
    doomed: &[Doomed],
    occasion: &Occasion,
    outcomes: &mut [Result<(), Error>],
) {
    let going = doomed.iter().zip(outcomes.iter());
    let going = going.filter(|(_, outcome)| outcome.is_ok());
    let mut backups: BTreeMap<_, _> = going
        .map(|(one, _)| (one.id.clone(), one.epitaph.clone()))
        .collect();
    if backups.is_empty() || occasion.records == Records::None {
        return;
    }
    backups.extend(occasion.gone.clone());
    let deletion = Deletion {
        at: occasion.at,
        plan: occasion.plan.clone(),
        backups,
    };
    let at = occasion.at.utc().format("%Y%m%dT%H%M%S%.6f");
    let object = OwnObject::Deleted(format!("{at}-{}", occasion.plan));
    // The same plan at the same instant is the same run, tried again.
    let written = archive.write_record(object, &deletion, PutMode::Overwrite);
    let Err(source) = written.await else {
        return;
    };
    let source = Arc::new(source);
    for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
        let source = source.clone();
        *outcome = Err(Error::Tombstone { source });
    }
}

/// Deletes the data of all, and what barkeep noted beside it.
async fn first_wave(
    archive: &Archive,
    doomed: &[Doomed],
    (found, records): (&[Found], Records),
    outcomes: &mut [Result<(), Error>],
) {
    let mut keys = Vec::new();
    let mut owners = Vec::new();
    for (index, one) in doomed.iter().enumerate() {
        if outcomes[index].is_err() {
            continue;
        }
        let notes = match records {
            Records::Written => &notes(&one.id)[..],
            Records::None => &[],
        };
        let notes = notes.iter().cloned().map(ObjectKey::Own);
        let notes = notes.map(|object| archive.key(&object));
        let before = keys.len();
        let data = found[index].data.iter().map(|meta| meta.key.clone());
        keys.extend(data.chain(notes));
        owners.extend(std::iter::repeat_n(index, keys.len() - before));
    }
    let deleted = archive.store().delete(&keys).await;
    for (index, deleted) in owners.into_iter().zip(deleted) {
        if let Err(source) = deleted.outcome
            && outcomes[index].is_ok()
        {
            let what = doomed[index].id.to_string();
            outcomes[index] = Err(Error::Delete { what, source });
        }
    }
}

/// What barkeep notes about a backup, and nobody needs once it is gone.
fn notes(id: &BackupId) -> [OwnObject; 7] {
    [
        OwnObject::Keep(id.clone()),
        OwnObject::Mark(id.clone()),
        OwnObject::Manifest(id.clone()),
        OwnObject::Evidence(format!("{id}/pages")),
        OwnObject::Evidence(format!("{id}/archives")),
        OwnObject::Evidence(format!("{id}/verified")),
        OwnObject::Evidence(format!("{id}/faults")),
    ]
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

/// Deletes the objects of a directory without `backup.info`, unless one has appeared, a keep, or anything younger than `newest`.
pub(super) async fn orphan(
    archive: &Archive,
    id: &BackupId,
    newest: Timestamp,
    locks: LockCheck,
) -> Result<(), Error> {
    let failed = |source| Error::Delete {
        what: id.to_string(),
        source,
    };
    let directory = keys::backup_directory(id);
    let objects = archive.objects(&directory).await.map_err(failed)?;
    for meta in &objects {
        let changed = match archive.parse(&meta.key) {
            Some(ObjectKey::Base(_, BaseObject::Keep)) => return Err(Error::Kept(id.clone())),
            Some(ObjectKey::Base(_, BaseObject::Info)) => true,
            _ => meta.last_modified > newest,
        };
        if changed {
            return Err(Error::Changed(id.clone()));
        }
    }
    let prefix = archive.prefix(&directory);
    match archive.store().list_uploads(&prefix).await {
        Ok(uploads) if uploads.iter().any(|upload| upload.started > newest) => {
            return Err(Error::Changed(id.clone()));
        }
        Err(error) if error.meaning != Meaning::Unsupported => return Err(failed(error)),
        Ok(_) | Err(_) => {}
    }
    free(archive, &objects, id.as_str(), locks).await?;
    let keys: Vec<Key> = objects.into_iter().map(|meta| meta.key).collect();
    all(archive, &keys, id.as_str()).await
}

/// WAL to delete, as it was judged.
pub(super) struct DoomedWal<'a> {
    pub(super) spans: &'a [WalSpan],
    pub(super) size: SegmentSize,
    /// What lay below `base/` then: something new may need older WAL than anything that was judged.
    pub(super) known: BTreeSet<BackupId>,
    pub(super) locks: LockCheck,
}

/// Whether locks are looked at again just before the delete.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LockCheck {
    /// They are: what is not known to be free stays.
    Heeded,
    /// They are not: the configuration says so, or the destination has none.
    Needless,
}

/// Deletes WAL: exactly the segments of the spans, with their partial and backup history files. Timeline histories stay.
///
/// Goes through the archive timeline by timeline, oldest first, with one batch of keys in memory. Returns how many objects are gone.
pub(super) async fn wal(archive: &Archive, doomed: &DoomedWal<'_>) -> Result<u64, Error> {
    check_base(archive, &doomed.known).await?;
    let mut by_timeline: BTreeMap<TimelineId, (Run, Vec<&WalSpan>)> = BTreeMap::new();
    for span in doomed.spans {
        let new = || (span.run, Vec::new());
        let (whole, spans) = by_timeline.entry(span.timeline).or_insert_with(new);
        whole.first = whole.first.min(span.run.first);
        whole.last = whole.last.max(span.run.last);
        spans.push(span);
    }
    let mut deleted = 0;
    for (timeline, (whole, spans)) in by_timeline {
        deleted += wal_of(archive, (timeline, whole), &spans, doomed).await?;
    }
    Ok(deleted)
}

/// Looks below `base/` again.
async fn check_base(archive: &Archive, known: &BTreeSet<BackupId>) -> Result<(), Error> {
    let base = archive.prefix(keys::BASE);
    let (directories, _) = match archive.store().list_children(&base).await {
        Ok(children) => children,
        Err(source) => {
            let what = "WAL".to_owned();
            return Err(Error::Delete { what, source });
        }
    };
    let id = |directory: &String| {
        let name = directory.strip_prefix(&base)?.strip_suffix('/')?;
        Some(BackupId::new(name))
    };
    let mut ids = directories.iter().filter_map(id);
    match ids.find(|id| !known.contains(id)) {
        Some(id) => Err(Error::Appeared(id)),
        None => Ok(()),
    }
}

/// Deletes the spans of one timeline, all of which lie in `whole`.
async fn wal_of(
    archive: &Archive,
    (timeline, whole): (TimelineId, Run),
    spans: &[&WalSpan],
    doomed: &DoomedWal<'_>,
) -> Result<u64, Error> {
    let what = format!("WAL of timeline {timeline}");
    let objects = archive.segments(timeline, whole, doomed.size);
    let goes = |meta: &ObjectMeta| {
        let number = archive
            .segment(&meta.key)
            .map(|segment| segment.number(doomed.size));
        let holds = |number| {
            let of = |span: &&WalSpan| span.run.first <= number && number <= span.run.last;
            spans.iter().any(of)
        };
        number.is_some_and(holds)
    };
    let going = objects.try_filter(|meta| std::future::ready(goes(meta)));
    let mut batches = going.try_chunks(BATCH);
    let mut deleted = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| Error::Delete {
            what: what.clone(),
            source: error.1,
        })?;
        free(archive, &batch, &what, doomed.locks).await?;
        let keys: Vec<Key> = batch.into_iter().map(|meta| meta.key).collect();
        all(archive, &keys, &what).await?;
        deleted += u64::try_from(keys.len()).unwrap_or(u64::MAX);
    }
    Ok(deleted)
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

#[cfg(test)]
mod tests;
