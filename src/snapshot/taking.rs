//! Taking the snapshots of a set of disks, and waiting for them.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Begun, Error, Found, Provider, Result, Stage, Tag, Wanted, snapshot_name};
use crate::{
    clock, failure,
    model::{
        backup::BackupId,
        progress::{Event, Progress},
        snapshot::{DiskSnapshot, SnapshotLock, SnapshotSet},
    },
};

/// How long a name may be, in every cloud.
const NAME_CHARACTERS: usize = 63;

/// How often the cloud is asked, at first and in the end.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));

/// Snapshots that are being taken.
#[derive(Debug)]
pub struct Taking<'a> {
    provider: &'a dyn Provider,
    begun: Vec<(Found, Begun)>,
    lock: Option<SnapshotLock>,
    tags: Vec<Tag>,
    /// Those of them that make a snapshot this backup's, if barkeep says whose it is.
    own: Vec<Tag>,
}

/// How long to wait, who may end it, and who watches.
pub struct Waiting<'a> {
    /// Until when.
    pub until: Instant,
    /// How long that is in all.
    pub limit: Duration,
    /// Ends it.
    pub cancel: &'a CancellationToken,
    /// Watches.
    pub progress: &'a dyn Progress,
}

impl<'a> Taking<'a> {
    /// Takes none yet; each gets these tags, and is locked in this way once it has begun.
    pub fn new(
        provider: &'a dyn Provider,
        lock: Option<SnapshotLock>,
        (tags, own): (&[Tag], Vec<Tag>),
    ) -> Self {
        Self {
            provider,
            begun: Vec::new(),
            lock,
            tags: [tags, &own].concat(),
            own,
        }
    }

    /// Begins the snapshot of one disk.
    pub async fn begin(&mut self, found: Found, backup: &BackupId) -> Result<()> {
        let name = snapshot_name(&found.asked, backup.as_str(), NAME_CHARACTERS);
        tracing::info!("Taking snapshot '{name}' of disk '{}'", found.asked);
        let wanted = Wanted {
            disk: &found.disk,
            name: &name,
            tags: &self.tags,
        };
        let begun = self.provider.begin(&wanted).await?;
        let id = begun.id.clone();
        self.begun.push((found, begun));
        match &self.lock {
            Some(lock) => self.provider.lock(&id, lock).await,
            None => Ok(()),
        }
    }

    /// Waits until all have come so far.
    pub async fn reach(&self, stage: Stage, waiting: &Waiting<'_>) -> Result<()> {
        let mut pause = POLL.0;
        loop {
            let behind = self.behind(stage, waiting).await?;
            if behind.is_empty() {
                return Ok(());
            }
            if Instant::now() >= waiting.until {
                return Err(Error::Late {
                    names: behind,
                    seconds: waiting.limit.as_secs(),
                });
            }
            tokio::select! {
                biased;
                () = waiting.cancel.cancelled() => return Err(Error::Interrupted),
                () = clock::pause(pause) => {}
            }
            pause = (pause * 2).min(POLL.1);
        }
    }

    /// The names of those that have not come so far.
    async fn behind(&self, stage: Stage, waiting: &Waiting<'_>) -> Result<Vec<String>> {
        let mut behind = Vec::new();
        let mut stored = Vec::new();
        for (_, begun) in &self.begun {
            let now = self.provider.stage(begun).await?;
            let has_come = match (now, stage) {
                (Stage::Usable, _) | (Stage::Fixed(_), Stage::Fixed(_) | Stage::Accepted) => true,
                (now, stage) => now >= stage,
            };
            if !has_come {
                behind.push(begun.name.clone());
            }
            stored.push(match now {
                Stage::Accepted => 0,
                Stage::Fixed(percent) => percent.unwrap_or(0),
                Stage::Usable => 100,
            });
        }
        let all: u32 = stored.iter().map(|percent| u32::from(*percent)).sum();
        let count = u32::try_from(stored.len().max(1)).unwrap_or(u32::MAX);
        let percent = u8::try_from(all / count).unwrap_or(100);
        waiting.progress.report(Event::Snapshots { percent });
        Ok(behind)
    }

    /// How those that have begun are recorded.
    pub fn set(&self) -> SnapshotSet {
        let lock = self.lock.as_ref();
        let record = |(found, begun): &(Found, Begun)| DiskSnapshot {
            mount: Some(found.mount().clone()),
            recorded: self.provider.recorded(&found.disk, begun, lock),
        };
        let begun: Vec<Begun> = self.begun.iter().map(|(_, begun)| begun.clone()).collect();
        SnapshotSet {
            account: self.provider.account(&begun),
            disks: self.begun.iter().map(record).collect(),
        }
    }

    /// Removes what has begun, because the backup failed. Returns what could not be removed, to be recorded.
    pub async fn undo(mut self) -> Option<SnapshotSet> {
        let mut left = Vec::new();
        for (found, begun) in std::mem::take(&mut self.begun) {
            if let Err(error) = self.provider.delete(&begun.id).await {
                tell_left(&begun.id, &error);
                left.push((found, begun));
            }
        }
        self.begun = left;
        if !self.own.is_empty() {
            // One may have been accepted of which no answer came.
            match sweep(self.provider, &self.own).await {
                Ok(left) => return left,
                Err(error) => {
                    let error = failure::chain(&error);
                    tracing::warn!("cannot look for snapshots of the failed backup: {error}");
                }
            }
        }
        (!self.begun.is_empty()).then(|| self.set())
    }
}

/// Removes all snapshots that carry these tags. Returns what could not be removed, to be recorded.
pub async fn sweep(provider: &dyn Provider, tags: &[Tag]) -> Result<Option<SnapshotSet>> {
    let mut left = Vec::new();
    for described in provider.tagged(tags).await? {
        if let Err(error) = provider.delete(&described.id).await {
            tell_left(&described.id, &error);
            left.push(DiskSnapshot {
                mount: None,
                recorded: provider.found(&described),
            });
        }
    }
    let set = |disks| SnapshotSet {
        account: provider.account(&[]),
        disks,
    };
    Ok((!left.is_empty()).then(|| set(left)))
}

fn tell_left(id: &str, error: &Error) {
    let error = failure::chain(error);
    tracing::warn!("cannot remove the snapshot `{id}` of the failed backup: {error}");
}
