//! A backup of snapshots: PostgreSQL is in backup mode until the instant that all of them show is fixed, and the backup is complete when a
//! disk can be made of each.
//!
//! What was begun and does not become a backup is removed again; what cannot be removed is recorded with the failed backup, so that
//! nothing is left that nobody knows. A request that begins a snapshot is never abandoned half way.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Backup, CopiedFiles, Error, Findings, Memory, Warning};
use crate::{
    failure,
    format::keys::{BaseObject, ObjectKey},
    model::{
        backup::BackupId,
        desired::SnapshotOptions,
        progress::{Event, Progress},
        snapshot::SnapshotLock,
    },
    postgres::{BackupStop, ServerFacts},
    snapshot::{
        self, Clouds, Found, Mounting, Order, Owner, Provider, Stage, Surveyed, Tag, Taking,
        Waiting, survey,
    },
    store::{Archive, PutMode},
};

/// What a backup of snapshots is taken with.
#[derive(Clone)]
pub struct Disks {
    /// The cloud.
    pub provider: Arc<dyn Provider>,
    /// The instance and its disks.
    pub order: Order,
    /// Where the disks are mounted.
    pub mounting: Mounting,
    /// The tags of each snapshot.
    pub tags: Vec<Tag>,
    /// Whose they are; none where nobody says so, as with Barman.
    pub owner: Option<Owner>,
    /// How each is locked.
    pub lock: Option<SnapshotLock>,
    /// How long all of them may take.
    pub limit: Duration,
    /// What is done about files of the server on other disks.
    pub coverage: Coverage,
}

/// What is done about files of the server that are on disks of which no snapshot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// The backup is refused.
    Required,
    /// They are told: whoever names the disks has the word, as with Barman.
    Told,
}

impl Disks {
    /// As they are configured.
    pub async fn configured(
        options: &SnapshotOptions,
        archive: &Archive,
        clouds: &dyn Clouds,
    ) -> snapshot::Result<Self> {
        Ok(Self {
            provider: clouds.open(&options.place).await?,
            order: Order::from(options),
            mounting: Mounting::from(&options.mounts),
            tags: options.tags.clone().into_iter().collect(),
            owner: Some(owner(archive)),
            lock: options.lock,
            limit: options.await_timeout,
            coverage: Coverage::Required,
        })
    }

    /// Whether the server must run on this host, for its disks are looked for here.
    pub(super) fn must_be_here(&self) -> bool {
        matches!(self.mounting, Mounting::Here(_)) && self.coverage == Coverage::Required
    }

    /// Finds the disks. Refuses, or tells, what would be missing.
    pub(super) async fn check(&self, facts: &ServerFacts) -> Result<Vec<Warning>, Error> {
        let mut surveyed = self.survey(&facts.places()).await?;
        let gaps = std::mem::take(&mut surveyed.gaps);
        surveyed.complete().map_err(Error::Disks)?;
        let outside = facts.outside_files().map(Path::to_owned);
        let outside = outside.map(Warning::IncludedFile);
        match (self.coverage, gaps.into_iter()) {
            (Coverage::Required, mut gaps) => match gaps.next() {
                Some(gap) => Err(Error::Disks(gap)),
                None => Ok(outside.collect()),
            },
            (Coverage::Told, gaps) => {
                let gaps = gaps.map(|gap| Warning::Uncovered(failure::chain(&gap)));
                Ok(gaps.chain(outside).collect())
            }
        }
    }

    async fn survey(&self, paths: &[PathBuf]) -> Result<Surveyed, Error> {
        let surveyed = survey(&*self.provider, &self.order, &self.mounting, paths).await;
        surveyed.map_err(Error::Disks)
    }

    /// The disks, as they are when the snapshots are taken.
    async fn found(&self) -> Result<Vec<Found>, Error> {
        self.survey(&[]).await?.complete().map_err(Error::Disks)
    }

    fn waiting<'a>(
        &self,
        until: Instant,
        (cancel, progress): (&'a CancellationToken, &'a dyn Progress),
    ) -> Waiting<'a> {
        Waiting {
            until,
            limit: self.limit,
            cancel,
            progress,
        }
    }
}

/// Whose the snapshots of a catalog's backups are.
pub(super) fn owner(archive: &Archive) -> Owner {
    Owner {
        server: archive.server().to_owned(),
        catalog: archive.store().location().to_owned(),
    }
}

impl Backup<'_> {
    pub(super) async fn snapshot_and_stop(&mut self, id: &BackupId) -> Result<CopiedFiles, Error> {
        let disks = self.ports.disks.clone();
        let disks = disks.expect("a backup of snapshots is taken with disks");
        let found = disks.found().await?;
        let own = disks.owner.as_ref().map(|owner| owner.tags(id));
        let tags = (&disks.tags[..], own.unwrap_or_default());
        let mut taking = Taking::new(&*disks.provider, disks.lock, tags);
        let taken = self.take_and_stop(id, &disks, found, &mut taking).await;
        let stop = match taken {
            Ok(stop) => stop,
            Err(error) => {
                self.snapshots = taking.undo().await;
                return Err(error);
            }
        };
        self.snapshots = Some(taking.set());
        Ok(CopiedFiles {
            stop,
            archives: Vec::new(),
            findings: Findings {
                warnings: self.unstored_settings(),
                ..Findings::default()
            },
            bytes: 0,
            memory: Memory::default(),
        })
    }

    async fn take_and_stop(
        &mut self,
        id: &BackupId,
        disks: &Disks,
        found: Vec<Found>,
        taking: &mut Taking<'_>,
    ) -> Result<BackupStop, Error> {
        let until = Instant::now() + disks.limit;
        for found in found {
            let began = taking.begin(found, id).await;
            began.map_err(Error::Snapshots)?;
            if self.ports.cancel.is_cancelled() {
                return Err(Error::Interrupted);
            }
        }
        let watching = (&self.ports.cancel, &*self.ports.progress);
        let waiting = disks.waiting(until, watching);
        tokio::select! {
            biased;
            fixed = taking.reach(Stage::Fixed(None), &waiting) => fixed.map_err(Error::Snapshots)?,
            () = self.ports.postgres.lost() => return Err(Error::SessionLost),
        }
        let stop = self.stop().await?;
        self.ports.progress.report(Event::Stopped);
        self.store_label(id, &stop).await?;
        let watching = (&self.ports.cancel, &*self.ports.progress);
        let waiting = disks.waiting(until, watching);
        let usable = taking.reach(Stage::Usable, &waiting).await;
        usable.map_err(Error::Snapshots)?;
        Ok(stop)
    }

    /// Stores the label beside `backup.info`, for there is no archive to put it into.
    async fn store_label(&self, id: &BackupId, stop: &BackupStop) -> Result<(), Error> {
        const DOING: &str = "store the backup's label";
        let object = ObjectKey::Base(id.clone(), BaseObject::Label);
        let catalog = &self.ports.catalog;
        let text = stop.backup_label.clone();
        let length = text.len() as u64;
        let written = catalog.write(&object, text, PutMode::Overwrite).await;
        written.map_err(Error::catalog(DOING))?;
        let head = catalog.head(&object).await.map_err(Error::catalog(DOING));
        let read_back = match head {
            Ok(Some(head)) if head.meta.size == length => Ok(()),
            Ok(_) => Err(Error::ReadBack {
                key: object.to_string(),
                why: "it is gone, or of another length".to_owned(),
            }),
            Err(error) => Err(error),
        };
        self.permitting(read_back)
    }
}
