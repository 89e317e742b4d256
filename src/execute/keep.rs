//! Sets and releases keeps.
//!
//! The record of a keep of ours is written before the annotation and removed after it. Killed in between, there is a record without a keep,
//! which the next activation sets again; never a keep of ours that would count as a person's, nor one that nobody remembers.

use super::Error;
use crate::{
    format::keys::{ObjectKey, OwnObject},
    model::{
        backup::{BackupId, BackupStatus},
        record::KeepRecord,
    },
    store::{Archive, PutMode},
};

/// Keeps a backup, which must be complete.
pub(super) async fn set(archive: &Archive, record: &KeepRecord) -> Result<(), Error> {
    let id = &record.backup;
    let failed = |source| Error::Keep {
        backup: id.clone(),
        source,
    };
    let info = archive.read_info(id).await.map_err(failed)?;
    let status = info
        .ok_or_else(|| Error::NoSuchBackup(id.clone()))?
        .info
        .status();
    if status.ok() != Some(BackupStatus::Done) {
        return Err(Error::NotDone(id.clone()));
    }
    let object = OwnObject::Keep(id.clone());
    archive
        .write_record(object, record, PutMode::Overwrite)
        .await
        .map_err(failed)?;
    archive
        .write_keep(id, record.target)
        .await
        .map_err(|error| failed(error.into()))?;
    Ok(())
}

/// Releases the keep of a backup.
pub(super) async fn release(archive: &Archive, id: &BackupId) -> Result<(), Error> {
    let failed = |source: crate::store::Error| Error::Keep {
        backup: id.clone(),
        source: source.into(),
    };
    archive.remove(&ObjectKey::keep(id)).await.map_err(failed)?;
    archive
        .remove(&ObjectKey::Own(OwnObject::Keep(id.clone())))
        .await
        .map_err(failed)
}
