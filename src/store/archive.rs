//! One server's catalog in one destination, in the catalog's own words.
//!
//! An [`Archive`] joins the server's name in front of every key and speaks of `backup.info`, records and segments instead of objects. It
//! decides nothing; what is missing is `None`, and whatever could not be read is an error.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};

use super::{
    Error, GetOptions, Head, Key, ObjectMeta, ObjectVersion, PutMode, PutOptions, SharedStore,
    StoreExt as _, Stored,
    fenced::{Fence, Fenced},
};
use crate::{
    failure::{Disposition, Kind},
    format::{
        backup_info::{self, BackupInfo},
        keys::{self, ObjectKey, OwnObject},
        records::{self, Record},
    },
    model::{
        backup::{BackupId, KeepTarget},
        catalog::Run,
        desired::Overwriting,
        names::ServerName,
        timeline::TimelineId,
        wal::{SegmentName, SegmentNumber, SegmentSize, WalFile},
    },
};

/// One server's catalog in one destination.
#[derive(Clone, Debug)]
pub struct Archive {
    store: SharedStore,
    server: Arc<str>,
    overwriting: Overwriting,
}

/// Why something of a catalog could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store said so.
    #[error(transparent)]
    Store(#[from] Error),
    /// A `backup.info` cannot be understood.
    #[error("cannot understand `{key}`")]
    Info {
        /// The object.
        key: String,
        /// What is wrong.
        #[source]
        source: backup_info::Error,
    },
    /// A record of barkeep's own cannot be understood.
    #[error("cannot understand `{key}`")]
    Record {
        /// The object.
        key: String,
        /// What is wrong.
        #[source]
        source: records::Error,
    },
}

impl ArchiveError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Info { .. } | Self::Record { .. } => Kind::Failed,
        }
    }

    /// Whether trying again can help.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Store(error) => error.disposition(),
            Self::Info { .. } | Self::Record { .. } => Disposition::Permanent,
        }
    }

    /// Whether a conditional write met something else than it expected.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

/// A `backup.info` with the version of the object that it was read from.
#[derive(Clone, Debug)]
pub struct StoredInfo {
    /// The record.
    pub info: BackupInfo,
    /// For a conditional rewrite.
    pub version: ObjectVersion,
}

impl Archive {
    /// The catalog of a server in a store.
    pub fn new(store: SharedStore, server: &ServerName) -> Self {
        Self {
            store,
            server: Arc::from(server.as_str()),
            overwriting: Overwriting::Allowed,
        }
    }

    /// The same catalog, in which something is deleted only while a fence lets it.
    #[must_use]
    pub fn fenced(&self, fence: Arc<dyn Fence>) -> Self {
        Self {
            store: Arc::new(Fenced::new(self.store.clone(), fence)),
            ..self.clone()
        }
    }

    /// The same store, with another spelling of the server's directory: that of another program.
    #[must_use]
    pub fn spelled(&self, server: &str) -> Self {
        Self {
            server: Arc::from(server),
            ..self.clone()
        }
    }

    /// The same catalog, where what is stored may be written again, or not.
    #[must_use]
    pub fn with_overwriting(self, overwriting: Overwriting) -> Self {
        Self {
            overwriting,
            ..self
        }
    }

    /// Whether what is stored may be written again.
    pub fn overwriting(&self) -> Overwriting {
        self.overwriting
    }

    /// The server's name, which is its directory in the store.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The store itself.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// The key in the store of something in the catalog.
    pub fn key(&self, object: &ObjectKey) -> Key {
        self.join(&object.to_string())
    }

    /// The key in the store of a path in the catalog.
    pub fn join(&self, path: &str) -> Key {
        // What others have spelled oddly is deleted and read as they spelled it.
        Key::verbatim(format!("{}/{path}", self.server))
    }

    /// The prefix in the store of a directory in the catalog, which must end with a slash.
    pub fn prefix(&self, directory: &str) -> String {
        format!("{}/{directory}", self.server)
    }

    /// What a key of the store is in this catalog; `None` if it belongs to another server.
    pub fn parse(&self, key: &Key) -> Option<ObjectKey> {
        let path = key
            .as_str()
            .strip_prefix(&*self.server)?
            .strip_prefix('/')?;
        Some(ObjectKey::parse(path))
    }

    /// The segment that an object of the WAL archive belongs to; none for a timeline's history.
    pub fn segment(&self, key: &Key) -> Option<SegmentName> {
        match self.parse(key)? {
            ObjectKey::Wal(object) => object.file.segment(),
            _ => None,
        }
    }

    /// The objects of a backup's directory.
    pub async fn objects(&self, directory: &str) -> Result<Vec<ObjectMeta>, Error> {
        let prefix = self.prefix(directory);
        self.store.list_all(&prefix).try_collect().await
    }

    /// The objects of some backups' directories, in one listing from the first of them to the last. What lies between them is listed,
    /// too, and left out.
    pub async fn backups(
        &self,
        ids: impl IntoIterator<Item = BackupId>,
    ) -> Result<BTreeMap<BackupId, Vec<ObjectMeta>>, Error> {
        let mut listed: BTreeMap<BackupId, Vec<ObjectMeta>> =
            ids.into_iter().map(|id| (id, Vec::new())).collect();
        let (Some((first, _)), Some((last, _))) =
            (listed.first_key_value(), listed.last_key_value())
        else {
            return Ok(listed);
        };
        let directory = |id| self.prefix(&keys::backup_directory(id));
        let after = directory(first).trim_end_matches('/').to_owned();
        // No key below a directory is greater than its name with the character that follows the slash.
        let until = format!("{}0", directory(last).trim_end_matches('/'));
        let base = self.prefix(keys::BASE);
        let mut objects = self.store.list_range(&base, Some(after), Some(until));
        while let Some(meta) = objects.try_next().await? {
            if let Some(ObjectKey::Base(id, _)) = self.parse(&meta.key)
                && let Some(of_backup) = listed.get_mut(&id)
            {
                of_backup.push(meta);
            }
        }
        Ok(listed)
    }

    /// The objects of some segments of a timeline, with their partial and backup history files, in the order of their names.
    ///
    /// A segment whose name this segment size does not allow is not among them: its number is that of another one.
    pub fn segments(
        &self,
        timeline: TimelineId,
        run: Run,
        size: SegmentSize,
    ) -> BoxStream<'_, Result<ObjectMeta, Error>> {
        let pages = self.segment_pages(timeline, run, size);
        let objects = pages.map_ok(|page| stream::iter(page).map(Ok));
        objects.try_flatten().boxed()
    }

    /// The same, page by page, as the store lists them.
    pub fn segment_pages(
        &self,
        timeline: TimelineId,
        run: Run,
        size: SegmentSize,
    ) -> BoxStream<'_, Result<Vec<ObjectMeta>, Error>> {
        // A slash sorts behind the dot of every extension and before the digits of the next segment.
        let end = |segment: SegmentNumber| {
            let stem = keys::wal_stem(WalFile::Segment(segment.name(timeline, size)));
            format!("{}/", self.prefix(&stem))
        };
        let before = run.first.0.checked_sub(1);
        let before = before.map(|number| end(SegmentNumber(number)));
        let prefix = self.prefix(&format!("{}{timeline}", keys::WALS));
        let pages = self.store.list_pages(&prefix, before, Some(end(run.last)));
        let is_inside = move |meta: &ObjectMeta| {
            let Some(ObjectKey::Wal(object)) = self.parse(&meta.key) else {
                return false;
            };
            object.file.segment().is_some_and(|segment| {
                let number = segment.number(size);
                let exact = number.name(timeline, size) == segment;
                exact && run.first <= number && number <= run.last
            })
        };
        let inside = pages.map_ok(move |mut page| {
            page.retain(&is_inside);
            page
        });
        inside.boxed()
    }

    /// What is there under a key.
    pub async fn head(&self, object: &ObjectKey) -> Result<Option<Head>, Error> {
        self.store.find(&self.key(object)).await
    }

    /// Reads a small object; `None` if it is not there.
    pub async fn read(
        &self,
        object: &ObjectKey,
    ) -> Result<Option<(bytes::Bytes, ObjectVersion)>, Error> {
        let result = match self
            .store
            .get(&self.key(object), GetOptions::default())
            .await
        {
            Ok(result) => result,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let version = result.meta.version.clone();
        let collect = |mut all: bytes::BytesMut, chunk: bytes::Bytes| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        };
        let content = result
            .body
            .try_fold(bytes::BytesMut::new(), collect)
            .await?;
        Ok(Some((content.freeze(), version)))
    }

    /// Writes a small object.
    pub async fn write(
        &self,
        object: &ObjectKey,
        content: impl Into<bytes::Bytes>,
        mode: PutMode,
    ) -> Result<Stored, Error> {
        self.store
            .put(&self.key(object), content.into(), PutOptions::mode(mode))
            .await
    }

    /// Deletes one object; one that is not there is deleted.
    pub async fn remove(&self, object: &ObjectKey) -> Result<(), Error> {
        let keys = [self.key(object)];
        let outcomes = self.store.delete(&keys).await;
        outcomes.into_iter().try_for_each(|deleted| deleted.outcome)
    }

    /// Reads a backup's `backup.info`.
    pub async fn read_info(&self, id: &BackupId) -> Result<Option<StoredInfo>, ArchiveError> {
        let object = ObjectKey::info(id);
        let Some((content, version)) = self.read(&object).await? else {
            return Ok(None);
        };
        let info = BackupInfo::parse(&content).map_err(|source| ArchiveError::Info {
            key: object.to_string(),
            source,
        })?;
        Ok(Some(StoredInfo { info, version }))
    }

    /// Writes a backup's `backup.info`.
    pub async fn write_info(
        &self,
        id: &BackupId,
        info: &BackupInfo,
        mode: PutMode,
    ) -> Result<Stored, ArchiveError> {
        Ok(self
            .write(&ObjectKey::info(id), info.render(), mode)
            .await?)
    }

    /// Reads one of barkeep's own records.
    pub async fn read_record<T: Record>(
        &self,
        object: OwnObject,
    ) -> Result<Option<(T, ObjectVersion)>, ArchiveError> {
        let object = ObjectKey::Own(object);
        let Some((content, version)) = self.read(&object).await? else {
            return Ok(None);
        };
        let record = records::parse(&content).map_err(|source| ArchiveError::Record {
            key: object.to_string(),
            source,
        })?;
        Ok(Some((record, version)))
    }

    /// Writes one of barkeep's own records.
    pub async fn write_record<T: Record>(
        &self,
        object: OwnObject,
        record: &T,
        mode: PutMode,
    ) -> Result<Stored, ArchiveError> {
        Ok(self
            .write(&ObjectKey::Own(object), records::render(record), mode)
            .await?)
    }

    /// Sets a backup's keep annotation, which overwrites another one.
    pub async fn write_keep(&self, id: &BackupId, target: KeepTarget) -> Result<Stored, Error> {
        let text = crate::format::annotations::render(target);
        self.write(&ObjectKey::keep(id), text, PutMode::Overwrite)
            .await
    }
}
