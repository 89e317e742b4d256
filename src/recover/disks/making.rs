//! Disks that are made of a backup's snapshots and attached to an instance.
//!
//! Looking comes first and says for each snapshot how far its disk is; making does what is missing. A disk that is attached and was made of
//! the snapshot is the one, whoever made it. One of ours is known by its tags: what an interrupted run left, the next one goes on with.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    model::{
        backup::BackupId,
        snapshot::{DiskSnapshot, Recorded, SnapshotSet},
    },
    snapshot::{
        self, Device, Error, Owner, Provider, Result, Role, Tag,
        making::{Made, MadeState, Making, ready},
        snapshot_name,
    },
};

/// How long a name may be, in every cloud.
const NAME_CHARACTERS: usize = 63;

/// How often is asked whether a disk is attached.
const POLL: Duration = Duration::from_millis(500);

/// What disks are made for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The backup.
    pub backup: BackupId,
    /// Whose it is.
    pub owner: Owner,
    /// The instance that is to have the disks.
    pub instance: String,
    /// Of which kind they are, in the cloud's word.
    pub kind: Option<String>,
    /// How long all of it may take.
    pub limit: Duration,
}

/// A snapshot, and how far its disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The snapshot.
    pub snapshot: DiskSnapshot,
    /// What the disk is called, or would be.
    pub name: String,
    /// How far it is.
    pub stage: DiskStage,
}

impl Looked {
    fn is_attached(&self) -> bool {
        matches!(self.stage, DiskStage::Attached(_))
    }
}

/// How far the disk of a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskStage {
    /// There is none.
    Missing,
    /// It was made, and is not attached.
    Made,
    /// It is attached.
    Attached(Device),
}

impl Wish {
    /// The tags of the disk of one snapshot.
    fn tags(&self, snapshot: &str) -> Vec<Tag> {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut tags = self.owner.of_catalog();
        tags.extend([
            pair("barkeep-restored", self.backup.as_str()),
            pair("barkeep-snapshot", snapshot),
            pair("barkeep-instance", &self.instance),
        ]);
        tags
    }

    /// What the disk of a snapshot is called: its original and its instance tell it from others.
    fn name(&self, recorded: &Recorded) -> String {
        let called = match recorded {
            Recorded::Aws { name, id, .. } => name.as_deref().unwrap_or(id),
            Recorded::Azure { name, .. } | Recorded::Gcp { name, .. } => name,
        };
        let id = self.backup.as_str().to_lowercase();
        let disk = called.strip_suffix(&format!("-{id}")).unwrap_or(called);
        let disk = format!("{disk}-{}", self.instance.to_lowercase());
        snapshot_name(&disk, self.backup.as_str(), NAME_CHARACTERS)
    }
}

/// Looks how far the disk of each snapshot is. Refuses where a snapshot is gone of which there is no disk.
pub async fn look(provider: &dyn Provider, set: &SnapshotSet, wish: &Wish) -> Result<Vec<Looked>> {
    let mut attached = Vec::new();
    for disk in provider.attached(&wish.instance).await? {
        if disk.role == Role::Data {
            attached.push(provider.detailed(disk).await?);
        }
    }
    let mut looked = Vec::new();
    for snapshot in &set.disks {
        let id = snapshot.recorded.id();
        let mut disks = attached.iter();
        let own = disks.find(|disk| disk.source.as_deref() == Some(id));
        let (name, stage) = match own {
            Some(disk) => {
                let name = disk.name.clone().unwrap_or_else(|| disk.id.clone());
                (name, DiskStage::Attached(disk.device.clone()))
            }
            None => beside(provider, snapshot, wish).await?,
        };
        looked.push(Looked {
            snapshot: snapshot.clone(),
            name,
            stage,
        });
    }
    Ok(looked)
}

async fn beside(
    provider: &dyn Provider,
    snapshot: &DiskSnapshot,
    wish: &Wish,
) -> Result<(String, DiskStage)> {
    let id = snapshot.recorded.id();
    if let Some(made) = provider.made(&wish.tags(id)).await?.pop() {
        return Ok((made.name, DiskStage::Made));
    }
    if provider.describe(id).await?.is_none() {
        return Err(Error::Gone(id.to_owned()));
    }
    Ok((wish.name(&snapshot.recorded), DiskStage::Missing))
}

/// Makes what is missing, attaches what is not attached, and waits until all of it is.
pub async fn make(
    provider: &dyn Provider,
    set: &SnapshotSet,
    wish: &Wish,
    cancel: &CancellationToken,
) -> Result<Vec<Looked>> {
    let until = Instant::now() + wish.limit;
    let looked = look(provider, set, wish).await?;
    for one in looked.iter().filter(|one| one.stage == DiskStage::Missing) {
        if cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let id = one.snapshot.recorded.id();
        tracing::info!("Making disk '{}' of snapshot '{id}'", one.name);
        let making = Making {
            snapshot: id,
            instance: &wish.instance,
            name: &one.name,
            kind: wish.kind.as_deref(),
            tags: &wish.tags(id),
        };
        provider.make(&making).await?;
    }
    for one in looked.iter().filter(|one| !one.is_attached()) {
        let tags = wish.tags(one.snapshot.recorded.id());
        let made = ready(provider, &tags, (until, cancel)).await?;
        if made.state == MadeState::Ready {
            tracing::info!(
                "Attaching disk '{}' to instance '{}'",
                made.name,
                wish.instance
            );
            attach(provider, set, wish, &made).await?;
        }
    }
    attached(provider, set, wish, (until, cancel)).await
}

/// Attaches a disk. A request that is repeated, for its answer was lost, may be refused because it was carried out.
async fn attach(
    provider: &dyn Provider,
    set: &SnapshotSet,
    wish: &Wish,
    made: &Made,
) -> Result<()> {
    let Err(error) = provider.attach(&wish.instance, made).await else {
        return Ok(());
    };
    let looked = look(provider, set, wish).await?;
    let is_it = |one: &Looked| one.name == made.name && one.is_attached();
    if looked.iter().any(is_it) {
        return Ok(());
    }
    Err(error)
}

/// Waits until every disk is attached.
async fn attached(
    provider: &dyn Provider,
    set: &SnapshotSet,
    wish: &Wish,
    (until, cancel): (Instant, &CancellationToken),
) -> Result<Vec<Looked>> {
    loop {
        let looked = look(provider, set, wish).await?;
        let mut behind = looked.iter();
        let Some(behind) = behind.find(|one| !one.is_attached()) else {
            return Ok(looked);
        };
        if Instant::now() >= until {
            return Err(snapshot::Error::Unreachable {
                doing: format!("attach the disk `{}` to `{}`", behind.name, wish.instance),
                why: "it is not attached in time; the next run goes on with it".to_owned(),
            });
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Error::Interrupted),
            () = clock::pause(POLL) => {}
        }
    }
}
