//! The snapshots of disks that a catalog's backups consist of, and all that carry the catalog's tags.
//!
//! One listing of what is tagged tells of nearly all; a recorded snapshot that it does not show, such as one of Barman's, is asked for by
//! itself. Locks are looked at only where no backup records a snapshot: that is what a plan may delete as such. What a cloud does not tell
//! makes all of it Unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    failure::{Failure, Kind},
    model::{
        backup::{BackupId, BackupStatus},
        catalog::Catalog,
        desired::SnapshotOptions,
        lock::Lock,
        observed::Knowledge,
        snapshot::{Access, Account, Place, TaggedSnapshot},
        time::Span,
    },
    snapshot::{self, Clouds, Owner, Provider},
    store::Archive,
};

/// How long the clouds may take to answer.
pub(super) const ANSWER_MAX: Duration = Duration::from_mins(1);

/// How many snapshots are asked for at once.
const ASKED_MAX: usize = 8;

/// Where snapshots are looked for, and in whose name.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    clouds: &'a dyn Clouds,
    place: Option<&'a Place>,
    access: Access,
}

impl<'a> Look<'a> {
    /// Where they are taken, if any are; what backups consist of is also looked for where it was recorded.
    pub fn new(options: Option<&'a SnapshotOptions>, clouds: &'a dyn Clouds) -> Self {
        Self {
            clouds,
            place: options.map(|options| &options.place),
            access: options.map(SnapshotOptions::access).unwrap_or_default(),
        }
    }
}

/// Lists what is tagged, and notes in the catalog which snapshots of its backups are gone.
pub(super) async fn observe(
    archive: &Archive,
    look: &Look<'_>,
    catalog: &mut Catalog,
) -> Knowledge<Vec<TaggedSnapshot>> {
    if look.place.is_none() && catalog.accounts.is_empty() {
        return Knowledge::Absent;
    }
    let looking = async {
        let tagged = tagged(archive, look, catalog).await?;
        catalog.lost_snapshots = lost(look, catalog, &tagged).await?;
        Ok(tagged)
    };
    // What a cloud takes to answer must not hold up what needs no cloud.
    let looked = tokio::time::timeout(ANSWER_MAX, looking).await;
    match looked {
        Ok(Ok(tagged)) => Knowledge::Known(tagged),
        Ok(Err(error)) => {
            let error: snapshot::Error = error;
            Knowledge::Unknown(Failure::of(error.kind(), &error))
        }
        Err(_) => {
            let message = format!("the cloud has not answered in {}", Span(ANSWER_MAX));
            Knowledge::Unknown(Failure::new(Kind::Unreachable, message))
        }
    }
}

async fn tagged(
    archive: &Archive,
    look: &Look<'_>,
    catalog: &Catalog,
) -> snapshot::Result<Vec<TaggedSnapshot>> {
    let Some(place) = look.place else {
        return Ok(Vec::new());
    };
    let owner = Owner {
        server: archive.server().to_owned(),
        catalog: archive.store().location().to_owned(),
    };
    let provider = look.clouds.open(place).await?;
    let listed = provider.tagged(&owner.of_catalog()).await?;
    let tagged = listed.iter().filter_map(|found| {
        Some(TaggedSnapshot {
            id: found.id.clone(),
            backup: provider.backup_of(found)?,
            begun_at: found.begun_at,
            lock: Lock::Free,
        })
    });
    let mut tagged: Vec<TaggedSnapshot> = tagged.collect();
    tagged.sort_by(|one, other| (&one.backup, &one.id).cmp(&(&other.backup, &other.id)));
    let recorded: BTreeSet<&String> = catalog.backups.iter().flat_map(|b| &b.snapshots).collect();
    let mut unrecorded: Vec<&mut TaggedSnapshot> = tagged
        .iter_mut()
        .filter(|found| !recorded.contains(&found.id))
        .collect();
    let ids: Vec<String> = unrecorded.iter().map(|found| found.id.clone()).collect();
    let locks = provider.locks(&ids).await?;
    for (found, lock) in unrecorded.iter_mut().zip(locks) {
        found.lock = lock;
    }
    Ok(tagged)
}

/// Of each complete backup the first snapshot that is not there.
async fn lost(
    look: &Look<'_>,
    catalog: &Catalog,
    tagged: &[TaggedSnapshot],
) -> snapshot::Result<BTreeMap<BackupId, String>> {
    let seen: BTreeSet<&str> = tagged.iter().map(|found| found.id.as_str()).collect();
    let mut clouds: Vec<(&Account, Arc<dyn Provider>)> = Vec::new();
    let mut asked = Vec::new();
    let complete = catalog.backups.iter();
    for backup in complete.filter(|backup| backup.status == BackupStatus::Done) {
        let Some(account) = catalog.accounts.get(&backup.id) else {
            continue;
        };
        for id in backup
            .snapshots
            .iter()
            .filter(|id| !seen.contains(id.as_str()))
        {
            let known = clouds.iter().find(|(of, _)| *of == account);
            let provider = match known {
                Some((_, provider)) => provider.clone(),
                None => {
                    let provider = look.clouds.open(&account.place(&look.access)).await?;
                    clouds.push((account, provider.clone()));
                    provider
                }
            };
            asked.push((backup.id.clone(), id.clone(), provider));
        }
    }
    let absent = stream::iter(asked).map(|(backup, id, provider)| async move {
        let found = provider.describe(&id).await?;
        Ok(found.is_none().then_some((backup, id)))
    });
    let absent: Vec<Option<(BackupId, String)>> = absent.buffered(ASKED_MAX).try_collect().await?;
    let mut lost = BTreeMap::new();
    for (backup, id) in absent.into_iter().flatten() {
        lost.entry(backup).or_insert(id);
    }
    Ok(lost)
}
