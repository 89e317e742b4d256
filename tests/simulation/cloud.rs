//! A cloud with disks and their snapshots: as it really is, as one process reaches it, and the judge of what is deleted there.
//!
//! It names snapshots as Google Cloud does: of two of one name there is one. Each server has two disks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use barkeep::{
    clock::Clock,
    model::{
        lock::Lock,
        snapshot::{Account, Place as Where, Recorded, SnapshotLock},
        time::Timestamp,
    },
    snapshot::{
        Begun, Clouds, Deleted, Described, Device, Disk, Error, Provider, Result, Role, Stage, Tag,
        Wanted,
        making::{Made, Makes, Making},
    },
};

use crate::{
    catalog::{Catalog, Directory},
    fate::Way,
    line::Process,
    place::Place,
    witness::Witness,
    world::{Log, dice_for},
};

/// What the two disks of a server are for.
pub(crate) const DISKS: [&str; 2] = ["data", "wal"];

/// The snapshots that there are.
pub(crate) struct Cloud {
    clock: Clock,
    log: Log,
    snapshots: Mutex<BTreeMap<String, Snapshot>>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    described: Described,
    /// When it was begun, and when the cloud's work at it ends.
    since: Duration,
    usable: Duration,
    lock: Lock,
    locked_at: Option<Duration>,
}

impl Snapshot {
    fn tag(&self, wanted: &str) -> Option<&str> {
        let mut tags = self.described.tags.iter();
        let (_, value) = tags.find(|(key, _)| key == wanted)?;
        Some(value)
    }

    /// When it was begun, by the true time.
    pub(crate) fn begun_at(&self) -> Timestamp {
        self.described.begun_at.expect("it is told of each")
    }

    /// The server and the backup that it says it is of.
    pub(crate) fn of(&self) -> Option<(&str, &str)> {
        Some((self.tag("barkeep-server")?, self.tag("barkeep-backup")?))
    }
}

impl Cloud {
    pub(crate) fn new(clock: Clock, log: &Log) -> Self {
        Self {
            clock,
            log: log.clone(),
            snapshots: Mutex::default(),
        }
    }

    pub(crate) fn snapshots(&self) -> MutexGuard<'_, BTreeMap<String, Snapshot>> {
        self.snapshots.lock().expect("no panic")
    }

    /// Somebody makes a snapshot, with these tags.
    pub(crate) fn make(&self, name: &str, tags: &[Tag]) {
        let since = self.log.elapsed();
        let snapshot = Snapshot {
            described: Described {
                id: name.to_owned(),
                name: Some(name.to_owned()),
                tags: tags.to_vec(),
                begun_at: Some(self.clock.now()),
            },
            since,
            usable: since + Duration::from_secs(dice_for(0, name).roll(1200)),
            lock: Lock::Free,
            locked_at: None,
        };
        self.snapshots().insert(name.to_owned(), snapshot);
        self.log.tell(&format!("cloud: there is {name}"));
    }

    /// Somebody deletes a snapshot.
    pub(crate) fn remove(&self, name: &str) {
        self.snapshots().remove(name);
        self.log.tell(&format!("cloud: {name} is gone"));
    }

    /// Nobody holds a snapshot any more.
    pub(crate) fn lift_locks(&self) {
        for snapshot in self.snapshots().values_mut() {
            snapshot.lock = Lock::Free;
        }
    }

    /// Somebody locks a snapshot.
    pub(crate) fn lock(&self, name: &str, lock: Lock) {
        self.log.tell(&format!("cloud: {name}: {lock}"));
        let at = self.log.elapsed();
        if let Some(snapshot) = self.snapshots().get_mut(name) {
            (snapshot.lock, snapshot.locked_at) = (lock, Some(at));
        }
    }
}

/// The cloud as one process reaches it.
#[derive(Clone)]
pub(crate) struct Sky {
    pub(crate) cloud: Arc<Cloud>,
    /// Where the records are that it must agree with.
    pub(crate) place: Arc<Place>,
    pub(crate) process: Arc<Process>,
}

impl std::fmt::Debug for Sky {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} to the cloud", self.process.name)
    }
}

impl Sky {
    async fn ask<T: Send + 'static>(
        &self,
        doing: String,
        effect: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let sky = self.clone();
        let what = format!("the cloud to {doing}");
        let error = move || Error::Unreachable {
            doing: doing.clone(),
            why: "a fault".to_owned(),
        };
        self.process
            .ask(Way::Far, &what, error, move || effect(&sky))
            .await
    }
}

#[async_trait]
impl Clouds for Sky {
    async fn open(&self, _: &Where) -> Result<Arc<dyn Provider>> {
        Ok(Arc::new(self.clone()))
    }
}

const UNASKED: &str = "nobody restores here";

#[async_trait]
impl Makes for Sky {
    async fn make(&self, _: &Making<'_>) -> Result<()> {
        unreachable!("{UNASKED}")
    }

    async fn made(&self, _: &[Tag]) -> Result<Vec<Made>> {
        unreachable!("{UNASKED}")
    }

    async fn attach(&self, _: &str, _: &Made) -> Result<()> {
        unreachable!("{UNASKED}")
    }
}

#[async_trait]
impl Provider for Sky {
    async fn attached(&self, instance: &str) -> Result<Vec<Disk>> {
        let name = instance.to_owned();
        let disk = |name: String| Disk {
            id: name.clone(),
            device: Device::Google(name),
            name: None,
            role: Role::Data,
            source: None,
            location: None,
        };
        let disks = move |_: &Self| {
            let disks = DISKS.iter().map(|of| disk(format!("{name}-{of}")));
            Ok(disks.collect())
        };
        self.ask(format!("list the disks of {instance}"), disks)
            .await
    }

    async fn detailed(&self, disk: Disk) -> Result<Disk> {
        Ok(disk)
    }

    async fn begin(&self, wanted: &Wanted<'_>) -> Result<Begun> {
        let (name, tags) = (wanted.name.to_owned(), wanted.tags.to_vec());
        let effect = move |sky: &Self| {
            let known = sky.cloud.snapshots().get(&name).cloned();
            match known {
                None => sky.cloud.make(&name, &tags),
                Some(known) if known.described.tags == tags => {}
                Some(_) => {
                    return Err(Error::Unreachable {
                        doing: format!("begin {name}"),
                        why: "there is another".to_owned(),
                    });
                }
            }
            Ok(Begun {
                id: name.clone(),
                name,
                owner: None,
                operation: None,
            })
        };
        self.ask(format!("begin {}", wanted.name), effect).await
    }

    async fn stage(&self, begun: &Begun) -> Result<Stage> {
        let name = begun.id.clone();
        let effect = move |sky: &Self| {
            let snapshots = sky.cloud.snapshots();
            let now = sky.cloud.log.elapsed();
            let snapshot = snapshots.get(&name).ok_or_else(|| Error::Unreachable {
                doing: format!("ask for {name}"),
                why: "it is gone".to_owned(),
            })?;
            Ok(if now >= snapshot.usable {
                Stage::Usable
            } else if now.saturating_sub(snapshot.since) > Duration::from_secs(2) {
                Stage::Fixed(Some(50))
            } else {
                Stage::Accepted
            })
        };
        self.ask(format!("say how far {} is", begun.id), effect)
            .await
    }

    async fn lock(&self, _: &str, _: &SnapshotLock) -> Result<()> {
        unreachable!("no configuration says so")
    }

    async fn locks(&self, ids: &[String]) -> Result<Vec<Lock>> {
        let ids = ids.to_vec();
        let effect = move |sky: &Self| {
            let snapshots = sky.cloud.snapshots();
            let lock = |id: &String| {
                let found = snapshots.get(id).map(|found| found.lock.clone());
                found.unwrap_or(Lock::Free).at(sky.cloud.clock.now())
            };
            Ok(ids.iter().map(lock).collect())
        };
        self.ask("tell locks".to_owned(), effect).await
    }

    async fn describe(&self, id: &str) -> Result<Option<Described>> {
        let name = id.to_owned();
        let effect = move |sky: &Self| {
            let snapshots = sky.cloud.snapshots();
            Ok(snapshots.get(&name).map(|found| found.described.clone()))
        };
        self.ask(format!("describe {id}"), effect).await
    }

    async fn delete(&self, id: &str) -> Result<Deleted> {
        let name = id.to_owned();
        // Judged as it is asked: what comes late was right if it was right then, whatever the process has written since.
        let found = self.cloud.snapshots().get(id).cloned();
        if let Some(found) = found {
            let witness = self.place.witness(&self.process);
            witness.delete_snapshot(id, &found);
        }
        let effect = move |sky: &Self| {
            let found = sky.cloud.snapshots().get(&name).cloned();
            let Some(found) = found else {
                return Ok(Deleted::Absent);
            };
            let lock = found.lock.at(sky.cloud.clock.now());
            if lock != Lock::Free {
                return Err(Error::Locked { id: name, lock });
            }
            sky.cloud.remove(&name);
            Ok(Deleted::Gone)
        };
        self.ask(format!("delete {id}"), effect).await
    }

    async fn tagged(&self, tags: &[Tag]) -> Result<Vec<Described>> {
        let tags = tags.to_vec();
        let effect = move |sky: &Self| {
            let snapshots = sky.cloud.snapshots();
            let all = snapshots.values().map(|found| found.described.clone());
            let carries = |found: &Described| tags.iter().all(|tag| found.tags.contains(tag));
            Ok(all.filter(carries).collect())
        };
        self.ask("list what is tagged".to_owned(), effect).await
    }

    fn found(&self, described: &Described) -> Recorded {
        Recorded::Gcp {
            device: None,
            name: described.id.clone(),
            project: Some("p".to_owned()),
        }
    }

    fn recorded(&self, disk: &Disk, begun: &Begun, _: Option<&SnapshotLock>) -> Recorded {
        Recorded::Gcp {
            device: Some(disk.id.clone()),
            name: begun.id.clone(),
            project: Some("p".to_owned()),
        }
    }

    fn account(&self, _: &[Begun]) -> Account {
        Account::Gcp {
            project: Some("p".to_owned()),
        }
    }
}

impl Witness<'_> {
    /// A snapshot is about to be deleted: only one of ours, of a backup that may go or never came to be, or that nothing records for long.
    pub(crate) fn delete_snapshot(&self, name: &str, snapshot: &Snapshot) {
        let Some((server, id)) = snapshot.of() else {
            return self.violate(&format!("deletes a snapshot of somebody else: {name}"));
        };
        let Some(entry) = self.entry(server) else {
            return self.violate(&format!("deletes a snapshot of another server: {name}"));
        };
        let catalog = Catalog::read(self.place(), server);
        let directory = catalog.directories.get(id);
        let info = directory.filter(|directory| directory.info.is_some());
        let attempt = format!("{server}/barkeep/attempts/{id}");
        let is_attempt = self.place().get(&attempt).is_some();
        let recorded = info.is_some_and(|info| info.snapshots().contains(&name));
        let is_locked = !snapshot.lock.is_free(self.place().true_time());
        // What an attempt has begun it may try to take back: the cloud refuses.
        if is_locked && !is_attempt && self.was_before(snapshot.locked_at.as_ref()) {
            self.violate(&format!("deletes a snapshot that is locked: {name}"));
        }
        match info.map(Directory::status) {
            Some("DONE" | "FAILED") if recorded => {
                self.delete_of_backup(server, id, "backup_label");
            }
            Some("DONE" | "FAILED") | None if !is_attempt => {
                let age = self.latest().since(snapshot.begun_at());
                if entry.orphans_after.is_none_or(|after| age <= after) {
                    self.violate(&format!("deletes a snapshot of {age:?} ago: {name}"));
                }
                if info.is_none()
                    && let Err(why) = self.may_be_ripe(entry, server, id)
                {
                    self.violate(&format!("deletes the snapshot {name}: {why}"));
                }
            }
            _ if is_attempt => {}
            status => self.violate(&format!("deletes {name} of a backup that is {status:?}")),
        }
    }
}
