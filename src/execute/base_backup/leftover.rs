//! Attempts whose process is gone, or that waited in vain for WAL: finishing them, or declaring them failed.
//!
//! Both act only on a backup with an attempt record of barkeep's, and change its `backup.info` only on condition that nobody else
//! did meanwhile. A base backup is never resumed: what was not stopped can only be abandoned.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    Error,
    arrival::{self, Needed, Patience, WalArrival},
    attempt::{replace, write_once},
    disks::owner,
};
use crate::{
    failure::chain,
    format::{
        backup_info::BackupInfo,
        keys::{ArchiveName, ObjectKey, OwnObject, backup_directory},
    },
    model::{
        backup::{BackupId, BackupStatus},
        desired::{Overwriting, SnapshotOptions},
        progress::Unwatched,
        record::{ArchiveRecord, Attempt},
        snapshot::SnapshotSet,
        wal::SegmentName,
    },
    snapshot::{self, Clouds},
    store::{Archive, ArchiveError, Meaning, StoredInfo},
};

/// How many objects are looked at, and uploads aborted, at once.
const PARALLEL: usize = 16;

/// What became of an attempt that was to be finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The backup is complete, read back, and the attempt forgotten.
    Done,
    /// This WAL segment is still missing; nothing was changed.
    Waiting(SegmentName),
}

/// Writes the final `backup.info` of a backup whose attempt got as far as leaving backup mode.
///
/// Every archive is verified to be as the attempt recorded it, and every segment to be there. Running it twice is harmless.
pub async fn finish_backup(
    catalog: &Archive,
    id: &BackupId,
    wal: &dyn WalArrival,
) -> Result<Finished, Error> {
    let attempt = read_attempt(catalog, id).await?;
    let stopped = attempt
        .stopped
        .ok_or_else(|| Error::NeverStopped(id.clone()))?;
    let final_info = parse(id, stopped.final_info.as_bytes())?;
    let size = final_info.segment_size();
    let size = size.map_err(|source| broken(id, source))?;
    let present = catalog.read_info(id).await;
    let present = present.map_err(Error::catalog("read the backup's record"))?;
    // Where nothing is written twice, it is written only now.
    if present.is_none() && catalog.overwriting() == Overwriting::Allowed {
        return Err(Error::ReadBack {
            key: ObjectKey::info(id).to_string(),
            why: "it is gone".to_owned(),
        });
    }
    if present.as_ref().map(|present| &present.info) != Some(&final_info) {
        check_unfinished(id, present.as_ref())?;
        check_archives(catalog, id, &stopped.archives).await?;
        let patience = Patience {
            limit: std::time::Duration::ZERO,
            cancel: &tokio_util::sync::CancellationToken::new(),
            progress: &Unwatched,
        };
        let needed = Needed::of(&stopped, size);
        if let Some(missing) = arrival::wait(needed, wal, &patience).await {
            return Ok(Finished::Waiting(missing));
        }
        match present {
            Some(present) => {
                replace(catalog, id, &final_info, present.version).await?;
            }
            None => write_once(catalog, id, &final_info).await?,
        }
    }
    check_info(catalog, id, &final_info).await?;
    // The process may have died while it wrote this very record.
    abort_uploads(catalog, id).await?;
    forget(catalog, id).await?;
    Ok(Finished::Done)
}

fn check_unfinished(id: &BackupId, present: Option<&StoredInfo>) -> Result<(), Error> {
    let Some(present) = present else {
        return Ok(());
    };
    let status = present.info.status();
    match status.map_err(|source| broken(id, source))? {
        BackupStatus::Started | BackupStatus::WaitingForWals => Ok(()),
        _ => Err(Error::Changed(id.clone())),
    }
}

/// Declares a backup of a dead attempt failed, and frees what its uploads left.
///
/// Snapshots of disks that were begun for it are removed; any that cannot be is recorded. What was stored of it stays, for the retention of failed backups. Running it twice is harmless.
pub async fn abandon_attempt(
    catalog: &Archive,
    id: &BackupId,
    reason: &str,
    disks: Option<(&SnapshotOptions, &dyn Clouds)>,
) -> Result<(), Error> {
    read_attempt(catalog, id).await?;
    let present = catalog.read_info(id).await;
    let present = present.map_err(Error::catalog("read the backup's record"))?;
    if let Some(mut present) = present {
        let status = present.info.status();
        let status = status.map_err(|source| broken(id, source))?;
        if matches!(status, BackupStatus::Started | BackupStatus::WaitingForWals) {
            if let Some(left) = remove_snapshots(catalog, id, disks).await? {
                present.info.set_snapshots(&left);
            }
            present.info.set_failed(reason);
            replace(catalog, id, &present.info, present.version).await?;
        }
    }
    abort_uploads(catalog, id).await?;
    forget(catalog, id).await
}

/// Declares a backup of another program failed, because a person said that it is dead.
///
/// Only if its `backup.info` is still of this version, and if it is nobody's attempt of ours. What it stored, and what it uploads if it
/// lives after all, is left alone.
pub async fn abandon_foreign(
    catalog: &Archive,
    id: &BackupId,
    version: &str,
    reason: &str,
) -> Result<(), Error> {
    match read_attempt(catalog, id).await {
        Err(Error::NotOurs(_)) => {}
        Ok(_) => return Err(Error::Changed(id.clone())),
        Err(error) => return Err(error),
    }
    let present = catalog.read_info(id).await;
    let present = present.map_err(Error::catalog("read the backup's record"))?;
    let same = present.filter(|present| present.version.0 == version);
    let Some(mut present) = same else {
        return Err(Error::Changed(id.clone()));
    };
    check_unfinished(id, Some(&present))?;
    present.info.set_failed(reason);
    replace(catalog, id, &present.info, present.version).await?;
    Ok(())
}

/// Removes the snapshots that carry the tags of a backup that failed. Returns what could not be removed.
async fn remove_snapshots(
    catalog: &Archive,
    id: &BackupId,
    disks: Option<(&SnapshotOptions, &dyn Clouds)>,
) -> Result<Option<SnapshotSet>, Error> {
    let Some((disks, clouds)) = disks else {
        return Ok(None);
    };
    let provider = clouds.open(&disks.place).await;
    let provider = provider.map_err(Error::Snapshots)?;
    let left = snapshot::sweep(&*provider, &owner(catalog).tags(id)).await;
    left.map_err(Error::Snapshots)
}

async fn read_attempt(catalog: &Archive, id: &BackupId) -> Result<Attempt, Error> {
    let record = catalog
        .read_record::<Attempt>(OwnObject::Attempt(id.clone()))
        .await;
    let record = record.map_err(Error::catalog("read the attempt's record"))?;
    let (attempt, _) = record.ok_or_else(|| Error::NotOurs(id.clone()))?;
    Ok(attempt)
}

/// Frees what is left of a backup's uploads.
pub(super) async fn abort_uploads(catalog: &Archive, id: &BackupId) -> Result<(), Error> {
    const DOING: &str = "abort the uploads of the backup";
    let store = catalog.store();
    let prefix = catalog.prefix(&backup_directory(id));
    let uploads = match store.list_uploads(&prefix).await {
        Ok(uploads) => uploads,
        Err(error) if error.meaning == Meaning::Unsupported => return Ok(()),
        Err(error) => return Err(Error::catalog(DOING)(error)),
    };
    stream::iter(uploads)
        .map(|upload| async move { store.abort_upload(&upload).await })
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await
        .map_err(Error::catalog(DOING))
}

async fn forget(catalog: &Archive, id: &BackupId) -> Result<(), Error> {
    let object = ObjectKey::Own(OwnObject::Attempt(id.clone()));
    let removed = catalog.remove(&object).await;
    removed.map_err(Error::catalog("forget the attempt"))
}

/// Reads back what the store has of every archive: there, as long as was sent, with the checksum that it had told.
pub(super) async fn check_archives(
    catalog: &Archive,
    id: &BackupId,
    archives: &[ArchiveRecord],
) -> Result<(), Error> {
    stream::iter(archives)
        .map(|archive| check_archive(catalog, id, archive))
        .buffer_unordered(PARALLEL)
        .try_collect::<()>()
        .await
}

async fn check_archive(
    catalog: &Archive,
    id: &BackupId,
    archive: &ArchiveRecord,
) -> Result<(), Error> {
    let name = ArchiveName {
        root: archive.root,
        part: archive.part,
        compression: archive.compression,
    };
    let object = ObjectKey::archive(id, name);
    let head = catalog.head(&object).await;
    let head = head.map_err(Error::catalog("read back the backup"))?;
    let differs = |why: String| {
        let key = object.to_string();
        Err(Error::ReadBack { key, why })
    };
    let Some(head) = head else {
        return differs("it is gone".to_owned());
    };
    let (here, there) = (archive.bytes, head.meta.size);
    if here != there {
        return differs(format!("{here} bytes were sent, {there} are there"));
    }
    let told = head.meta.checksum.map(|checksum| checksum.value);
    match (&archive.checksum, told) {
        (Some(here), Some(there)) if *here != there => {
            differs(format!("its checksum was {here} and is {there}"))
        }
        _ => Ok(()),
    }
}

/// Barman's users need not be allowed to read what they write: for them reading back is a proof where it is permitted.
pub(super) fn where_permitted(read_back: Result<(), Error>) -> Result<(), Error> {
    match read_back {
        Err(error) if error.is_denied() => {
            let error = chain(&error);
            tracing::info!(error, "what was written cannot be read back");
            Ok(())
        }
        read_back => read_back,
    }
}

/// Reads back a `backup.info`.
pub(super) async fn check_info(
    catalog: &Archive,
    id: &BackupId,
    expected: &BackupInfo,
) -> Result<(), Error> {
    let present = catalog.read_info(id).await;
    let present = present.map_err(Error::catalog("read back the backup's record"))?;
    match present {
        Some(present) if present.info == *expected => Ok(()),
        _ => Err(Error::ReadBack {
            key: ObjectKey::info(id).to_string(),
            why: "another record is there".to_owned(),
        }),
    }
}

/// The record that a stopped attempt ends with.
pub(super) fn parse(id: &BackupId, text: &[u8]) -> Result<BackupInfo, Error> {
    BackupInfo::parse(text).map_err(|source| broken(id, source))
}

pub(super) fn broken(id: &BackupId, source: crate::format::backup_info::Error) -> Error {
    Error::Catalog {
        doing: "understand the backup's record",
        source: ArchiveError::Info {
            key: ObjectKey::info(id).to_string(),
            source,
        },
    }
}
