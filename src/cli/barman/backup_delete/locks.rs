//! `--check-object-lock`: which of the backups that would go have an archive that is locked.
//!
//! Every archive of every backup is looked at before anything is deleted. Barman deletes from the oldest on and stops at the first that is
//! locked; so what goes is what lies before it.

use super::{super::error::Error, desk::Desk};
use crate::{
    clock::Clock,
    format::keys::{ArchiveName, ObjectKey},
    model::{backup::BackupId, lock::Lock, wal_expiry::Going},
    store::Key,
};

/// What of a delete is free to go, and why the rest stays.
pub(super) async fn split(desk: &Desk, going: Going) -> Result<(Going, Option<Error>), Error> {
    let mut keys: Vec<Key> = Vec::new();
    let mut owners: Vec<&BackupId> = Vec::new();
    for backup in desk
        .catalog
        .backups
        .iter()
        .filter(|b| going.backups.contains(&b.id))
    {
        for archive in &backup.archives {
            let object = ObjectKey::archive(&backup.id, ArchiveName::from(archive));
            keys.push(desk.archive.key(&object));
            owners.push(&backup.id);
        }
    }
    let now = Clock::System.now();
    let locks = desk.archive.store().locks(&keys).await;
    let locked = owners.into_iter().zip(&keys).zip(locks);
    let mut locked = locked.filter(|(_, lock)| !is_free(lock, now));
    let Some(((first, key), lock)) = locked.next() else {
        return Ok((going, None));
    };
    let free = going.backups.iter().filter(|id| *id < first).cloned();
    let error = Error::Operation(format!(
        "Could not delete backup {first}: cannot delete locked object {key}: {lock}"
    ));
    let going = Going {
        backups: free.collect(),
        wanted_by: going.wanted_by,
    };
    Ok((going, Some(error)))
}

/// What may not be seen is free to Barman, which then asks for the delete and has it refused.
fn is_free(lock: &Lock, now: crate::model::time::Timestamp) -> bool {
    matches!(lock, Lock::Unknown(_)) || lock.is_free(now)
}
