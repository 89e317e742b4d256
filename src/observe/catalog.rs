//! A server's catalog in one destination, read.
//!
//! Requests: the pages of two listings (`base/` and `barkeep/`), one GET for each `backup.info`, keep and record, sixteen at a time, and
//! the pages of the WAL archive. What was read before and is still the same version is not read again. A `backup.info` that cannot be understood is kept apart, not skipped; one that cannot be read makes the
//! whole catalog Unknown, for nobody knows what it says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Context, Deletes, Depth};
use crate::{
    actor,
    clock::Clock,
    failure::{Failure, Kind},
    format::{
        annotations,
        backup_info::BackupInfo,
        keys::{self, BaseObject, ObjectKey, OwnObject},
        records::Record,
    },
    model::{
        backup::{Backup, BackupId, BackupStatus, KeepTarget, StoredArchive},
        catalog::{Catalog, Finding, Orphan, Verified},
        desired::{ObjectLock, Overwriting},
        lock::Locks,
        observed::{Knowledge, PendingUpload, Stored},
        record::{Attempt, Baseline, Deletion, Identity, KeepRecord, Life, Mark, Tombstone},
        snapshot::{Account, TaggedSnapshot},
        time::Timestamp,
    },
    store::{
        Archive, ArchiveError, Error, Meaning, ObjectMeta, ObjectVersion, Operation, StoredInfo,
    },
};

/// How many small objects are read at once.
const READS_MAX: usize = 16;

/// How long a store may take to answer at all.
const ANSWER_MAX: Duration = Duration::from_mins(2);

/// How far back the record of deletes is read in any case: what the budget counts, and an hour in which clocks may disagree.
const RECENT: Duration = Duration::from_hours(25);

/// Reads a catalog.
pub async fn observe(archive: &Archive, context: &Context<'_>) -> Stored {
    let read_at = context.clock.now();
    // The store's clock comes first: what it says must not lie after what is then listed.
    let store_time = match context.clock {
        fixed @ Clock::Fixed(_) => Knowledge::Known(fixed.now()),
        _ => knowledge(first_answer(archive).await.map_err(ArchiveError::from)),
    };
    // Each question to a destination that does not answer takes as long as all tries of it.
    if let Some(failure) = store_time
        .unknown()
        .filter(|failure| failure.kind == Kind::Unreachable)
    {
        return Stored::unknown(read_at, failure);
    }
    let (mut catalog, own, uploads, locks) = futures_util::join!(
        backups(archive, context),
        own(archive),
        pending(archive),
        locks(archive, context)
    );
    let own = match own {
        Ok(own) => own,
        Err(error) => {
            let failure = Failure::of(error.kind(), &error);
            return Stored {
                store_time,
                catalog,
                uploads,
                locks,
                ..Stored::unknown(read_at, &failure)
            };
        }
    };
    let snapshots = snapshots(archive, context, &mut catalog).await;
    if let Knowledge::Known(catalog) = &mut catalog {
        catalog.page_damage = own.page_damage();
        catalog.manifests = own.manifests();
        catalog.verified = own.verified();
    }
    let baseline = own.record::<Baseline>(archive, OwnObject::Baseline).await;
    // What has vanished since the last run may have been deleted by somebody who wrote it down.
    let last_run = baseline
        .known()
        .map_or(Timestamp::MAX, |last| last.at - RECENT);
    let all = context.deletes == Deletes::All || tells_of_deletes(&catalog);
    let since = match &store_time {
        Knowledge::Known(time) if !all => Some(last_run.min(*time - RECENT)),
        _ => None,
    };
    let records = own.read(archive, since).await;
    Stored {
        read_at,
        store_time,
        identity: inferred(records.identity, &catalog, read_at),
        catalog,
        baseline,
        attempts: records.attempts,
        tombstones: records.tombstones,
        marks: records.marks,
        keep_records: records.keeps,
        uploads,
        locks,
        snapshots,
        disks: Knowledge::Absent,
    }
}

/// What the clouds say. Of a catalog that nobody knows it means nothing.
async fn snapshots(
    archive: &Archive,
    context: &Context<'_>,
    catalog: &mut Knowledge<Catalog>,
) -> Knowledge<Vec<TaggedSnapshot>> {
    let mut none = Catalog::default();
    let catalog = match catalog {
        Knowledge::Known(catalog) => catalog,
        Knowledge::Absent => &mut none,
        Knowledge::Unknown(_) => return Knowledge::Absent,
    };
    match &context.snapshots {
        Some(look) => super::snapshots::observe(archive, look, catalog).await,
        None => Knowledge::Absent,
    }
}

/// Nothing but what is required: what would be deleted is not known yet.
async fn locks(archive: &Archive, context: &Context<'_>) -> Knowledge<Locks> {
    match (context.object_lock, context.depth) {
        (ObjectLock::Require, Depth::Everything | Depth::Catalog) => {
            super::lock::retention(archive).await
        }
        _ => Knowledge::Absent,
    }
}

/// The store's clock. A store that takes longer to tell it than all tries of a request does not answer.
async fn first_answer(archive: &Archive) -> Result<Timestamp, Error> {
    let asked = tokio::time::timeout(ANSWER_MAX, archive.store().time()).await;
    asked.unwrap_or_else(|_| {
        let location = archive.store().location();
        Err(Error::new(Meaning::Unreachable, Operation::Time, location))
    })
}

/// Whether there is a backup that somebody may have begun to delete, however long ago.
fn tells_of_deletes(catalog: &Knowledge<Catalog>) -> bool {
    let mut backups = catalog.known().into_iter().flat_map(|c| &c.backups);
    backups.any(|backup| {
        let in_part = catalog
            .known()
            .is_some_and(|catalog| catalog.is_in_part(backup));
        backup.status == BackupStatus::Done && in_part
    })
}

/// A prefix whose pin was lost belongs to the cluster of its newest backup.
fn inferred(
    pinned: Knowledge<Identity>,
    catalog: &Knowledge<Catalog>,
    read_at: Timestamp,
) -> Knowledge<Identity> {
    let newest = || {
        let mut backups = catalog.known()?.backups.iter().rev();
        backups.find_map(|backup| backup.system_id)
    };
    match (pinned, newest()) {
        (Knowledge::Absent, Some(system_id)) => Knowledge::Known(Identity {
            system_id,
            pinned_at: read_at,
        }),
        (pinned, _) => pinned,
    }
}

fn knowledge<T>(result: Result<T, ArchiveError>) -> Knowledge<T> {
    match result {
        Ok(value) => Knowledge::Known(value),
        Err(error) => Knowledge::Unknown(Failure::of(error.kind(), &error)),
    }
}

/// Reads the backups and, if asked, the WAL archive.
async fn backups(archive: &Archive, context: &Context<'_>) -> Knowledge<Catalog> {
    match read(archive, context).await {
        Ok(catalog) if catalog == Catalog::default() => Knowledge::Absent,
        Ok(catalog) => Knowledge::Known(catalog),
        // A destination that was never written to is empty, not unknown. An object that vanishes while it is read is another matter.
        Err(ArchiveError::Store(error))
            if error.is_not_found() && error.operation == Operation::List =>
        {
            Knowledge::Absent
        }
        Err(error) => Knowledge::Unknown(Failure::of(error.kind(), &error)),
    }
}

/// Reads a whole catalog, or says why that cannot be done.
pub async fn read(archive: &Archive, context: &Context<'_>) -> Result<Catalog, ArchiveError> {
    let directories = directories(archive, &archive.objects(keys::BASE).await?);
    let mut catalog = Catalog::default();
    let read = |(id, directory): (BackupId, Directory)| async move {
        let entry = entry(archive, context, &id, &directory).await?;
        Ok::<_, ArchiveError>((id, directory, entry))
    };
    let mut entries = stream::iter(directories).map(read).buffered(READS_MAX);
    while let Some((id, directory, entry)) = entries.try_next().await? {
        match entry {
            Entry::Backup(backup, version, account) => {
                catalog
                    .accounts
                    .extend(account.map(|account| (id.clone(), account)));
                catalog.versions.insert(id, version.0);
                catalog.backups.push(*backup);
            }
            Entry::Unreadable(failure) => {
                catalog.unreadable.insert(id, failure);
            }
            Entry::Orphan(keep) => catalog.orphans.push(directory.orphan(id, keep)),
        }
    }
    if context.depth != Depth::Backups {
        catalog.wal = super::wal::observe(archive, catalog.segment_size()).await?;
    }
    Ok(catalog)
}

/// Reads one backup, without looking at the others; `None` if it has no `backup.info`.
pub async fn backup(
    archive: &Archive,
    context: &Context<'_>,
    id: &BackupId,
) -> Result<Option<Backup>, ArchiveError> {
    let objects = archive.objects(&keys::backup_directory(id)).await?;
    let directory = directories(archive, &objects).remove(id);
    let Some(directory) = directory.filter(|directory| directory.info.is_some()) else {
        return Ok(None);
    };
    let Some(stored) = archive.read_info(id).await? else {
        return Ok(None);
    };
    let backup = (stored.info).to_backup(id.clone(), directory.archives, None, &context.zone);
    backup.map(Some).map_err(|source| ArchiveError::Info {
        key: ObjectKey::info(id).to_string(),
        source,
    })
}

/// The objects of one directory below `base/`.
#[derive(Default)]
struct Directory {
    /// The version of `backup.info`, as listed.
    info: Option<ObjectVersion>,
    has_keep: bool,
    archives: Vec<StoredArchive>,
    objects: u64,
    bytes: u64,
    newest: Option<Timestamp>,
}

impl Directory {
    fn add(&mut self, object: &BaseObject, meta: &ObjectMeta) {
        self.objects += 1;
        self.bytes += meta.size;
        self.newest = self.newest.max(Some(meta.last_modified));
        match object {
            BaseObject::Info => self.info = Some(meta.version.clone()),
            BaseObject::Keep => self.has_keep = true,
            BaseObject::Archive(name) => self.archives.push(name.stored(meta.size)),
            BaseObject::Label | BaseObject::Other(_) => {}
        }
    }

    fn orphan(&self, id: BackupId, keep: Option<KeepTarget>) -> Orphan {
        Orphan {
            id,
            keep,
            objects: self.objects,
            bytes: self.bytes,
            newest: self
                .newest
                .expect("a directory is made by its first object"),
        }
    }
}

fn directories(archive: &Archive, objects: &[ObjectMeta]) -> BTreeMap<BackupId, Directory> {
    let mut directories: BTreeMap<BackupId, Directory> = BTreeMap::new();
    for meta in objects {
        if let Some(ObjectKey::Base(id, object)) = archive.parse(&meta.key) {
            directories.entry(id).or_default().add(&object, meta);
        }
    }
    for directory in directories.values_mut() {
        directory.archives.sort();
    }
    directories
}

enum Entry {
    /// With its version, and where its snapshots are if it consists of some.
    Backup(Box<Backup>, ObjectVersion, Option<Account>),
    Unreadable(Failure),
    Orphan(Option<KeepTarget>),
}

async fn entry(
    archive: &Archive,
    context: &Context<'_>,
    id: &BackupId,
    directory: &Directory,
) -> Result<Entry, ArchiveError> {
    let keep = if directory.has_keep {
        keep(archive, id).await?
    } else {
        None
    };
    let Some(listed) = &directory.info else {
        return match unwritten(archive, context, id, directory).await? {
            Some(backup) => Ok(Entry::Backup(
                Box::new(backup),
                ObjectVersion(String::new()),
                None,
            )),
            None => Ok(Entry::Orphan(keep)),
        };
    };
    let archives = directory.archives.clone();
    if let Some(known) = context
        .earlier
        .and_then(|earlier| earlier.at_version(id, &listed.0))
    {
        let backup = Backup {
            keep,
            archives,
            ..known.clone()
        };
        let account = context.earlier.and_then(|earlier| earlier.accounts.get(id));
        return Ok(Entry::Backup(
            Box::new(backup),
            listed.clone(),
            account.cloned(),
        ));
    }
    let StoredInfo { info, version } = match archive.read_info(id).await {
        Ok(Some(stored)) => stored,
        // Deleted since it was listed: what is left of it is on its way out too.
        Ok(None) => return Ok(Entry::Orphan(keep)),
        Err(error @ ArchiveError::Info { .. }) => {
            return Ok(Entry::Unreadable(Failure::of(error.kind(), &error)));
        }
        Err(error) => return Err(error),
    };
    Ok(
        match info.to_backup(id.clone(), archives, keep, &context.zone) {
            Ok(backup) => {
                let set = info.snapshots().ok().flatten();
                Entry::Backup(Box::new(backup), version, set.map(|set| set.account))
            }
            Err(error) => Entry::Unreadable(Failure::of(error.kind(), &error)),
        },
    )
}

/// A backup that waits for its `backup.info`, because that is written only once: what the attempt's record says of it.
async fn unwritten(
    archive: &Archive,
    context: &Context<'_>,
    id: &BackupId,
    directory: &Directory,
) -> Result<Option<Backup>, ArchiveError> {
    if archive.overwriting() == Overwriting::Allowed {
        return Ok(None);
    }
    let attempt = OwnObject::Attempt(id.clone());
    let attempt = archive.read_record::<Attempt>(attempt).await?;
    let Some(stopped) = attempt.and_then(|(attempt, _)| attempt.stopped) else {
        return Ok(None);
    };
    let broken = |source| ArchiveError::Info {
        key: ObjectKey::info(id).to_string(),
        source,
    };
    let mut info = BackupInfo::parse(stopped.final_info.as_bytes()).map_err(broken)?;
    info.set_status(BackupStatus::WaitingForWals);
    let backup = info.to_backup(id.clone(), directory.archives.clone(), None, &context.zone);
    backup.map(Some).map_err(broken)
}

async fn keep(archive: &Archive, id: &BackupId) -> Result<Option<KeepTarget>, ArchiveError> {
    let content = archive.read(&ObjectKey::keep(id)).await?;
    Ok(content.map(|(content, _)| annotations::parse(&content)))
}

/// What barkeep itself wrote down, as listed.
struct Own {
    /// With the instant of the last change, by the store's clock.
    keys: Vec<(OwnObject, Timestamp)>,
}

async fn own(archive: &Archive) -> Result<Own, Error> {
    let objects = match archive.objects(keys::OWN).await {
        Ok(objects) => objects,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error),
    };
    let own = |meta: &ObjectMeta| match archive.parse(&meta.key) {
        Some(ObjectKey::Own(object)) => Some((object, meta.last_modified)),
        _ => None,
    };
    Ok(Own {
        keys: objects.iter().filter_map(own).collect(),
    })
}

/// What they say.
struct Records {
    attempts: Knowledge<BTreeMap<BackupId, (Attempt, Life)>>,
    tombstones: Knowledge<Vec<Tombstone>>,
    marks: Knowledge<BTreeMap<BackupId, Mark>>,
    keeps: Knowledge<BTreeMap<BackupId, KeepRecord>>,
    identity: Knowledge<Identity>,
}

impl Own {
    /// The backups with evidence of damaged pages: `evidence/<id>/pages`.
    fn page_damage(&self) -> BTreeSet<BackupId> {
        let of = |(key, _): &(OwnObject, Timestamp)| match key {
            OwnObject::Evidence(path) => path.strip_suffix("/pages").map(BackupId::new),
            _ => None,
        };
        self.keys.iter().filter_map(of).collect()
    }

    /// What reading backups back came to: `evidence/<id>/verified` or `…/faults`, whichever is younger.
    fn verified(&self) -> BTreeMap<BackupId, Verified> {
        let of = |(key, at): &(OwnObject, Timestamp)| {
            let OwnObject::Evidence(path) = key else {
                return None;
            };
            let (id, finding) = match path.rsplit_once('/')? {
                (id, "verified") => (id, Finding::Sound),
                (id, "faults") => (id, Finding::Faulty),
                _ => return None,
            };
            let verified = Verified { at: *at, finding };
            Some((BackupId::new(id), verified))
        };
        let mut all: Vec<_> = self.keys.iter().filter_map(of).collect();
        // Of two of one instant the worse counts.
        all.sort_by_key(|(_, one)| (one.at, one.finding == Finding::Faulty));
        all.into_iter().collect()
    }

    /// The backups with a manifest.
    fn manifests(&self) -> BTreeSet<BackupId> {
        let of = |(key, _): &(OwnObject, Timestamp)| match key {
            OwnObject::Manifest(id) => Some(id.clone()),
            _ => None,
        };
        self.keys.iter().filter_map(of).collect()
    }

    /// Reads the records; those of deletes only if they were written after `since`.
    async fn read(&self, archive: &Archive, since: Option<Timestamp>) -> Records {
        let attempts = self.by_backup::<Attempt>(archive, |key| match key {
            OwnObject::Attempt(id) => Some(id),
            _ => None,
        });
        let keeps = self.by_backup::<KeepRecord>(archive, |key| match key {
            OwnObject::Keep(id) => Some(id),
            _ => None,
        });
        let (attempts, tombstones, marks, keeps, identity) = futures_util::join!(
            attempts,
            self.tombstones(archive, since),
            self.marks(archive),
            keeps,
            self.record::<Identity>(archive, OwnObject::Identity)
        );
        let with_life = |attempts: BTreeMap<BackupId, Attempt>| {
            let each = attempts.into_iter().map(|(id, attempt)| {
                let life = actor::life(&attempt.by);
                (id, (attempt, life))
            });
            each.collect()
        };
        Records {
            attempts: knowledge(attempts.map(with_life)),
            tombstones: knowledge(tombstones),
            marks: knowledge(marks),
            keeps: knowledge(keeps),
            identity,
        }
    }

    /// A mark is never older than its object: one that was put back, or set by a clock that was behind, begins its grace anew.
    async fn marks(&self, archive: &Archive) -> Result<BTreeMap<BackupId, Mark>, ArchiveError> {
        let mut marks = self
            .by_backup::<Mark>(archive, |key| match key {
                OwnObject::Mark(id) => Some(id),
                _ => None,
            })
            .await?;
        for (key, written) in &self.keys {
            if let OwnObject::Mark(id) = key
                && let Some(mark) = marks.get_mut(id)
            {
                mark.at = mark.at.max(*written);
            }
        }
        Ok(marks)
    }

    async fn tombstones(
        &self,
        archive: &Archive,
        since: Option<Timestamp>,
    ) -> Result<Vec<Tombstone>, ArchiveError> {
        let wanted = self.keys.iter().filter(|(key, written)| {
            let recent = since.is_none_or(|since| *written >= since);
            recent && matches!(key, OwnObject::Deleted(_))
        });
        let wanted = wanted.map(|(key, _)| ((), key.clone())).collect();
        let deletions: Vec<((), Deletion)> = all(archive, wanted).await?;
        let each = deletions.into_iter();
        Ok(each.flat_map(|((), one)| one.tombstones()).collect())
    }

    async fn by_backup<T: Record>(
        &self,
        archive: &Archive,
        of: fn(&OwnObject) -> Option<&BackupId>,
    ) -> Result<BTreeMap<BackupId, T>, ArchiveError> {
        let wanted = self
            .keys
            .iter()
            .filter_map(|(key, _)| Some((of(key)?.clone(), key.clone())));
        let records = all(archive, wanted.collect()).await?;
        Ok(records.into_iter().collect())
    }

    /// Reads the one record of a kind.
    async fn record<T: Record>(&self, archive: &Archive, object: OwnObject) -> Knowledge<T> {
        if !self.keys.iter().any(|(key, _)| *key == object) {
            return Knowledge::Absent;
        }
        match archive.read_record(object).await {
            Ok(Some((record, _))) => Knowledge::Known(record),
            Ok(None) => Knowledge::Absent,
            Err(error) => Knowledge::Unknown(Failure::of(error.kind(), &error)),
        }
    }
}

/// Reads records. One that cannot be read makes all of its kind unknown; one that is gone by now does not.
async fn all<K, T: Record>(
    archive: &Archive,
    wanted: Vec<(K, OwnObject)>,
) -> Result<Vec<(K, T)>, ArchiveError> {
    let read = |(of, key): (K, OwnObject)| async move {
        let record = archive.read_record::<T>(key).await?;
        Ok::<_, ArchiveError>(record.map(|(record, _)| (of, record)))
    };
    let records = stream::iter(wanted).map(read).buffered(READS_MAX);
    let present = |record| std::future::ready(Ok(record));
    records.try_filter_map(present).try_collect().await
}

/// Uploads below `base/` that were begun and neither completed nor aborted.
async fn pending(archive: &Archive) -> Knowledge<Vec<PendingUpload>> {
    let prefix = archive.prefix(keys::BASE);
    let uploads = match archive.store().list_uploads(&prefix).await {
        Ok(uploads) => uploads,
        Err(error) if error.meaning == Meaning::Unsupported || error.is_not_found() => {
            return Knowledge::Absent;
        }
        Err(error) => return Knowledge::Unknown(Failure::of(error.kind(), &error)),
    };
    let of_backup = |upload: crate::store::PendingUpload| {
        let key = archive.parse(&upload.key)?;
        Some(PendingUpload {
            backup: key.backup()?.clone(),
            key: key.to_string(),
            id: upload.id.0,
            begun_at: upload.started,
        })
    };
    Knowledge::Known(uploads.into_iter().filter_map(of_backup).collect())
}

#[cfg(test)]
mod tests;
