//! Deletes snapshots of disks that carry our tags and that no backup records.
//!
//! All that made one such is looked at again just before: no backup and no attempt has come, the tags are still those of this catalog, nothing
//! locks it. The cloud knows nothing of leases, so the fence is asked here.

use super::super::Error;
use crate::{
    format::keys::{ObjectKey, OwnObject},
    model::{
        backup::{BackupId, BackupStatus},
        lock::Lock,
    },
    snapshot::{Owner, Provider},
    store::{Archive, ArchiveError, fenced::Fence},
};

/// A snapshot that no backup records.
pub(in crate::execute) struct Alone<'a> {
    /// The backup that its tag names.
    pub(in crate::execute) backup: &'a BackupId,
    /// What the cloud knows it by.
    pub(in crate::execute) snapshot: &'a str,
}

/// Deletes a snapshot that carries our tags and that no backup records: looks again at the catalog, at the tags and at the locks. One that
/// is absent is deleted.
pub(in crate::execute) async fn alone(
    archive: &Archive,
    alone: &Alone<'_>,
    provider: &dyn Provider,
    fence: &dyn Fence,
) -> Result<(), Error> {
    let (backup, id) = (alone.backup, alone.snapshot);
    let failed = |source| Error::Snapshot {
        snapshot: id.to_owned(),
        source,
    };
    check_unrecorded(archive, alone).await?;
    let Some(described) = provider.describe(id).await.map_err(failed)? else {
        return Ok(());
    };
    let owner = Owner {
        server: archive.server().to_owned(),
        catalog: archive.store().location().to_owned(),
    };
    if !provider.carries(&described, &owner.tags(backup)) {
        let why = "it does not carry the tags of this catalog any more".to_owned();
        let id = id.to_owned();
        return Err(failed(crate::snapshot::Error::Another { id, why }));
    }
    let locks = provider.locks(&[id.to_owned()]).await.map_err(failed)?;
    if let Some(lock) = locks.into_iter().find(|lock| *lock != Lock::Free) {
        let id = id.to_owned();
        return Err(failed(crate::snapshot::Error::Locked { id, lock }));
    }
    fence.check().await.map_err(Error::RightLost)?;
    provider.delete(id).await.map_err(failed)?;
    Ok(())
}

/// Looks whether a backup has come that may record it, or an attempt.
async fn check_unrecorded(archive: &Archive, alone: &Alone<'_>) -> Result<(), Error> {
    let backup = alone.backup;
    let unread = |source| Error::Record {
        backup: backup.clone(),
        source,
    };
    let attempt = OwnObject::Attempt(backup.clone());
    let attempt = archive.head(&ObjectKey::Own(attempt)).await;
    let keep = archive.head(&ObjectKey::keep(backup)).await;
    let is_open = attempt.map_err(|error| unread(error.into()))?.is_some();
    let is_kept = keep.map_err(|error| unread(error.into()))?.is_some();
    let recorded = match archive.read_info(backup).await.map_err(unread)? {
        None => false,
        Some(stored) => {
            let info = |source| {
                let key = backup.to_string();
                unread(ArchiveError::Info { key, source })
            };
            let status = stored.info.status().map_err(info)?;
            let has_ended = matches!(status, BackupStatus::Done | BackupStatus::Failed);
            let set = stored.info.snapshots().map_err(info)?;
            !has_ended || set.is_some_and(|set| set.ids().any(|id| id == alone.snapshot))
        }
    };
    if is_open || is_kept || recorded {
        return Err(Error::Changed(backup.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
