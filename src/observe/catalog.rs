//! A server's catalog in one destination, read.
//!
//! Requests: the pages of two listings (`base/` and `barkeep/`), one GET for each `backup.info`, keep and record, sixteen at a time, and
//! the pages of the WAL archive. A `backup.info` that cannot be understood is kept apart, not skipped; one that cannot be read makes the
//! whole catalog Unknown, for nobody knows what it says.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Context, Depth};
use crate::{
    actor,
    clock::Clock,
    failure::{Failure, Kind},
    format::{
        annotations,
        keys::{self, BaseObject, ObjectKey, OwnObject},
        records::Record,
    },
    model::{
        backup::{Backup, BackupId, KeepTarget, StoredArchive},
        catalog::{Catalog, Orphan},
        observed::{Knowledge, PendingUpload, Stored},
        record::{Attempt, Identity, KeepRecord, Life, Tombstone},
        time::Timestamp,
    },
    store::{Archive, ArchiveError, Error, Meaning, ObjectMeta, ObjectVersion, StoredInfo},
};

/// How many small objects are read at once.
const READS_MAX: usize = 16;

/// Reads a catalog.
pub async fn observe(archive: &Archive, context: &Context) -> Stored {
    let read_at = context.clock.now();
    // The store's clock comes first: what it says must not lie after what is then listed.
    let store_time = match context.clock {
        Clock::System => knowledge(archive.store().time().await.map_err(ArchiveError::from)),
        fixed @ Clock::Fixed(_) => Knowledge::Known(fixed.now()),
    };
    // Each question to a destination that does not answer takes as long as all tries of it.
    if let Some(failure) = store_time
        .unknown()
        .filter(|failure| failure.kind == Kind::Unreachable)
    {
        return Stored::unknown(read_at, failure);
    }
    let (backups, own) = futures_util::join!(backups(archive, context), own(archive));
    let uploads = pending(archive).await;
    let (attempts, tombstones, keep_records, identity) = match own {
        Ok(own) => own.read(archive).await,
        Err(error) => {
            let failure = Failure::of(error.kind(), &error);
            (
                unknown(&failure),
                unknown(&failure),
                unknown(&failure),
                unknown(&failure),
            )
        }
    };
    Stored {
        read_at,
        store_time,
        identity: inferred(identity, &backups, read_at),
        catalog: backups,
        attempts,
        tombstones,
        keep_records,
        uploads: uploads.unwrap_or_default(),
    }
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

fn unknown<T>(failure: &Failure) -> Knowledge<T> {
    Knowledge::Unknown(failure.clone())
}

fn knowledge<T>(result: Result<T, ArchiveError>) -> Knowledge<T> {
    match result {
        Ok(value) => Knowledge::Known(value),
        Err(error) => Knowledge::Unknown(Failure::of(error.kind(), &error)),
    }
}

/// Reads the backups and, if asked, the WAL archive.
async fn backups(archive: &Archive, context: &Context) -> Knowledge<Catalog> {
    match read(archive, context).await {
        Ok(catalog) if catalog == Catalog::default() => Knowledge::Absent,
        Ok(catalog) => Knowledge::Known(catalog),
        // A destination that was never written to is empty, not unknown.
        Err(ArchiveError::Store(error)) if error.meaning == Meaning::NotFound => Knowledge::Absent,
        Err(error) => Knowledge::Unknown(Failure::of(error.kind(), &error)),
    }
}

async fn read(archive: &Archive, context: &Context) -> Result<Catalog, ArchiveError> {
    let directories = directories(archive, &archive.objects(keys::BASE).await?);
    let mut catalog = Catalog::default();
    let read = |(id, directory): (BackupId, Directory)| async move {
        let entry = entry(archive, context, &id, &directory).await?;
        Ok::<_, ArchiveError>((id, directory, entry))
    };
    let mut entries = stream::iter(directories).map(read).buffered(READS_MAX);
    while let Some((id, directory, entry)) = entries.try_next().await? {
        match entry {
            Entry::Backup(backup, version) => {
                catalog.versions.insert(id, version.0);
                catalog.backups.push(*backup);
            }
            Entry::Unreadable(failure) => {
                catalog.unreadable.insert(id, failure);
            }
            Entry::Orphan => catalog.orphans.push(directory.orphan(id)),
        }
    }
    if context.depth != Depth::Backups {
        catalog.wal = super::wal::observe(archive, catalog.segment_size()).await?;
    }
    Ok(catalog)
}

/// The objects of one directory below `base/`.
#[derive(Default)]
struct Directory {
    has_info: bool,
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
            BaseObject::Info => self.has_info = true,
            BaseObject::Keep => self.has_keep = true,
            BaseObject::Archive(name) => self.archives.push(name.stored(meta.size)),
            BaseObject::Label | BaseObject::Other(_) => {}
        }
    }

    fn orphan(&self, id: BackupId) -> Orphan {
        Orphan {
            id,
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
    Backup(Box<Backup>, ObjectVersion),
    Unreadable(Failure),
    Orphan,
}

async fn entry(
    archive: &Archive,
    context: &Context,
    id: &BackupId,
    directory: &Directory,
) -> Result<Entry, ArchiveError> {
    if !directory.has_info {
        return Ok(Entry::Orphan);
    }
    let StoredInfo { info, version } = match archive.read_info(id).await {
        Ok(Some(stored)) => stored,
        // Deleted since it was listed: what is left of it is on its way out too.
        Ok(None) => return Ok(Entry::Orphan),
        Err(error @ ArchiveError::Info { .. }) => {
            return Ok(Entry::Unreadable(Failure::of(error.kind(), &error)));
        }
        Err(error) => return Err(error),
    };
    let keep = if directory.has_keep {
        keep(archive, id).await?
    } else {
        None
    };
    let archives = directory.archives.clone();
    Ok(
        match info.to_backup(id.clone(), archives, keep, &context.zone) {
            Ok(backup) => Entry::Backup(Box::new(backup), version),
            Err(error) => Entry::Unreadable(Failure::of(error.kind(), &error)),
        },
    )
}

async fn keep(archive: &Archive, id: &BackupId) -> Result<Option<KeepTarget>, ArchiveError> {
    let content = archive.read(&ObjectKey::keep(id)).await?;
    Ok(content.map(|(content, _)| annotations::parse(&content)))
}

/// What barkeep itself wrote down, as listed.
struct Own {
    keys: Vec<OwnObject>,
}

async fn own(archive: &Archive) -> Result<Own, Error> {
    let objects = archive.objects(keys::OWN).await?;
    let keys = objects
        .iter()
        .filter_map(|meta| match archive.parse(&meta.key) {
            Some(ObjectKey::Own(object)) => Some(object),
            _ => None,
        });
    Ok(Own {
        keys: keys.collect(),
    })
}

type Records = (
    Knowledge<BTreeMap<BackupId, (Attempt, Life)>>,
    Knowledge<Vec<Tombstone>>,
    Knowledge<BTreeMap<BackupId, KeepRecord>>,
    Knowledge<Identity>,
);

impl Own {
    async fn read(&self, archive: &Archive) -> Records {
        let attempts = self.all::<Attempt>(archive, |key| match key {
            OwnObject::Attempt(id) => Some(id),
            _ => None,
        });
        let tombstones = self.all::<Tombstone>(archive, |key| match key {
            OwnObject::Deleted(id) => Some(id),
            _ => None,
        });
        let keeps = self.all::<KeepRecord>(archive, |key| match key {
            OwnObject::Keep(id) => Some(id),
            _ => None,
        });
        let (attempts, tombstones, keeps, identity) =
            futures_util::join!(attempts, tombstones, keeps, self.identity(archive));
        let with_life = |attempts: BTreeMap<BackupId, Attempt>| {
            let each = attempts.into_iter().map(|(id, attempt)| {
                let life = actor::life(&attempt.by);
                (id, (attempt, life))
            });
            each.collect()
        };
        let in_order = |tombstones: BTreeMap<_, Tombstone>| tombstones.into_values().collect();
        (
            knowledge(attempts.map(with_life)),
            knowledge(tombstones.map(in_order)),
            knowledge(keeps),
            identity,
        )
    }

    async fn identity(&self, archive: &Archive) -> Knowledge<Identity> {
        if !self.keys.contains(&OwnObject::Identity) {
            return Knowledge::Absent;
        }
        match archive.read_record::<Identity>(OwnObject::Identity).await {
            Ok(Some((identity, _))) => Knowledge::Known(identity),
            Ok(None) => Knowledge::Absent,
            Err(error) => Knowledge::Unknown(Failure::of(error.kind(), &error)),
        }
    }

    /// Reads all records of one kind. One that cannot be read makes all of them unknown.
    async fn all<T: Record>(
        &self,
        archive: &Archive,
        of: fn(&OwnObject) -> Option<&BackupId>,
    ) -> Result<BTreeMap<BackupId, T>, ArchiveError> {
        let wanted = self
            .keys
            .iter()
            .filter_map(|key| Some((of(key)?.clone(), key.clone())));
        let read = |(id, key): (BackupId, OwnObject)| async move {
            Ok::<_, ArchiveError>((id, archive.read_record::<T>(key).await?))
        };
        let records = stream::iter(wanted.collect::<Vec<_>>())
            .map(read)
            .buffered(READS_MAX);
        let present = |(id, record): (BackupId, Option<(T, _)>)| async move {
            Ok(record.map(|(record, _)| (id, record)))
        };
        records.try_filter_map(present).try_collect().await
    }
}

/// Uploads below `base/` that were begun and neither completed nor aborted. Stores that cannot tell have none to show.
async fn pending(archive: &Archive) -> Result<Vec<PendingUpload>, Error> {
    let uploads = archive
        .store()
        .list_uploads(&archive.prefix(keys::BASE))
        .await?;
    let of_backup = |upload: crate::store::PendingUpload| {
        let key = archive.parse(&upload.key)?;
        Some(PendingUpload {
            backup: key.backup()?.clone(),
            key: key.to_string(),
            id: upload.id.0,
            begun_at: upload.started,
        })
    };
    Ok(uploads.into_iter().filter_map(of_backup).collect())
}
