//! Deletes the snapshots of disks that backups consist of, before anything else of these backups goes.
//!
//! All snapshots of a backup are looked at before the first is deleted: one that is locked, or is another than was recorded, keeps the whole
//! backup. One that is absent is deleted. What is deleted in part still has its `backup.info` and is deleted by the next try.

use std::sync::Arc;

use super::{super::Error, Doomed};
use crate::{
    model::{
        backup::BackupId,
        lock::Lock,
        semantics::LockRule,
        snapshot::{Access, Recorded},
    },
    snapshot::{Clouds, Described, Provider},
    store::{Archive, ArchiveError},
};

/// How clouds are opened, in whose name, and what it means that locks are not told.
#[derive(Clone, Copy)]
pub(in crate::execute) struct Snapshots<'a> {
    pub(in crate::execute) clouds: &'a dyn Clouds,
    pub(in crate::execute) access: &'a Access,
    pub(in crate::execute) rule: LockRule,
}

/// The snapshots of one backup, which were looked at.
struct Checked {
    index: usize,
    provider: Arc<dyn Provider>,
    ids: Vec<String>,
}

/// The snapshots that may go, of all backups.
pub(super) struct Going(Vec<Checked>);

impl Going {
    /// Looks at them. A backup that must stay gets its outcome.
    pub(super) async fn check(
        archive: &Archive,
        doomed: &[Doomed],
        snapshots: Snapshots<'_>,
        outcomes: &mut [Result<(), Error>],
    ) -> Self {
        let mut going = Vec::new();
        for (index, one) in doomed.iter().enumerate() {
            if !one.has_snapshots || outcomes[index].is_err() {
                continue;
            }
            match look(archive, one, snapshots).await {
                Ok(Some((provider, ids))) => going.push(Checked {
                    index,
                    provider,
                    ids,
                }),
                Ok(None) => {}
                Err(error) => outcomes[index] = Err(error),
            }
        }
        Self(going)
    }

    /// Deletes them.
    pub(super) async fn delete(self, doomed: &[Doomed], outcomes: &mut [Result<(), Error>]) {
        for Checked {
            index,
            provider,
            ids,
        } in self.0
        {
            for id in ids {
                if outcomes[index].is_err() {
                    break;
                }
                let backup = &doomed[index].id;
                tracing::info!("Deleting snapshot '{id}' for backup {backup}");
                if let Err(source) = provider.delete(&id).await {
                    outcomes[index] = Err(failed(backup)(source));
                }
            }
        }
    }
}

fn failed(backup: &BackupId) -> impl FnOnce(crate::snapshot::Error) -> Error + use<> {
    let backup = backup.clone();
    move |source| Error::Snapshots { backup, source }
}

/// The snapshots of a backup, if all of them may go; none where its record is gone, and somebody else has done it.
async fn look(
    archive: &Archive,
    doomed: &Doomed,
    snapshots: Snapshots<'_>,
) -> Result<Option<(Arc<dyn Provider>, Vec<String>)>, Error> {
    let backup = &doomed.id;
    let unread = |source| Error::Record {
        backup: backup.clone(),
        source,
    };
    let Some(stored) = archive.read_info(backup).await.map_err(unread)? else {
        return Ok(None);
    };
    let set = stored.info.snapshots();
    let key = backup.to_string();
    let set = set.map_err(|source| unread(ArchiveError::Info { key, source }))?;
    let set = set.ok_or_else(|| Error::Changed(backup.clone()))?;
    let provider = snapshots
        .clouds
        .open(&set.account.place(snapshots.access))
        .await;
    let provider = provider.map_err(failed(backup))?;
    let ids: Vec<String> = set.ids().map(str::to_owned).collect();
    let locks = provider.locks(&ids).await.map_err(failed(backup))?;
    for (id, lock) in ids.iter().zip(locks) {
        let forbids = match lock {
            Lock::Free => false,
            // The cloud refuses then, and Barman relies on that.
            Lock::Unknown(_) => snapshots.rule != LockRule::Asked,
            Lock::LockedUntil { .. } | Lock::Held => true,
        };
        if forbids {
            let id = id.clone();
            return Err(failed(backup)(crate::snapshot::Error::Locked { id, lock }));
        }
    }
    for disk in &set.disks {
        let id = disk.recorded.id();
        let described = provider.describe(id).await.map_err(failed(backup))?;
        if let Some(why) = described.and_then(|it| differs(&disk.recorded, &it)) {
            let id = id.to_owned();
            return Err(failed(backup)(crate::snapshot::Error::Another { id, why }));
        }
    }
    Ok(Some((provider, ids)))
}

/// How what is there differs from what was recorded.
fn differs(recorded: &Recorded, there: &Described) -> Option<String> {
    let Recorded::Aws {
        name: Some(name), ..
    } = recorded
    else {
        // It was found by its name.
        return None;
    };
    let is = there.name.as_deref().unwrap_or_default();
    (is != name).then(|| format!("it was called `{name}` and is called `{is}`"))
}

#[cfg(test)]
mod tests;
