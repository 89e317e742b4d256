//! A cloud in memory, for tests of what deletes: it has snapshots, tells how they are locked, and refuses what it is told to refuse.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;

use super::{
    Begun, Clouds, Deleted, Described, Disk, Error, Provider, Result, Stage, Tag, Wanted,
    making::{Made, Makes, Making},
};
use crate::model::{
    lock::Lock,
    snapshot::{Account, Place, Recorded, SnapshotLock},
};

/// The cloud; a clone is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cloud(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    snapshots: BTreeMap<String, Described>,
    locks: BTreeMap<String, Lock>,
    refused: BTreeSet<String>,
}

impl Cloud {
    /// Makes a snapshot, which nothing locks.
    pub(crate) fn make(&self, id: &str, name: &str) {
        let described = Described {
            id: id.to_owned(),
            name: Some(name.to_owned()),
            tags: Vec::new(),
            begun_at: None,
        };
        self.state()
            .snapshots
            .insert(described.id.clone(), described);
    }

    /// Gives a snapshot these tags and no others.
    pub(crate) fn set_tags(&self, id: &str, tags: Vec<Tag>) {
        let mut state = self.state();
        let described = state.snapshots.get_mut(id);
        described.expect("it was made").tags = tags;
    }

    /// Locks a snapshot.
    pub(crate) fn set_lock(&self, id: &str, lock: Lock) {
        self.state().locks.insert(id.to_owned(), lock);
    }

    /// Refuses from now on to do this: `open`, `locks`, or `describe` or `delete` with a snapshot.
    pub(crate) fn refuse(&self, doing: &str) {
        self.state().refused.insert(doing.to_owned());
    }

    /// From now on refuses nothing.
    pub(crate) fn relent(&self) {
        self.state().refused.clear();
    }

    /// The snapshots that it has.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.state().snapshots.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic happens while it is locked")
    }

    fn allow(&self, doing: String) -> Result<()> {
        if !self.state().refused.contains(&doing) {
            return Ok(());
        }
        let why = "no answer".to_owned();
        Err(Error::Unreachable { doing, why })
    }
}

#[async_trait]
impl Clouds for Cloud {
    async fn open(&self, _place: &Place) -> Result<Arc<dyn Provider>> {
        self.allow("open".to_owned())?;
        Ok(Arc::new(self.clone()))
    }
}

const UNASKED: &str = "whoever deletes does not ask this";

#[async_trait]
impl Makes for Cloud {
    async fn make(&self, _wanted: &Making<'_>) -> Result<()> {
        unreachable!("{UNASKED}")
    }

    async fn made(&self, _tags: &[Tag]) -> Result<Vec<Made>> {
        unreachable!("{UNASKED}")
    }

    async fn attach(&self, _instance: &str, _disk: &Made) -> Result<()> {
        unreachable!("{UNASKED}")
    }
}

#[async_trait]
impl Provider for Cloud {
    async fn attached(&self, _instance: &str) -> Result<Vec<Disk>> {
        unreachable!("{UNASKED}")
    }

    async fn detailed(&self, _disk: Disk) -> Result<Disk> {
        unreachable!("{UNASKED}")
    }

    async fn begin(&self, _wanted: &Wanted<'_>) -> Result<Begun> {
        unreachable!("{UNASKED}")
    }

    async fn stage(&self, _begun: &Begun) -> Result<Stage> {
        unreachable!("{UNASKED}")
    }

    async fn lock(&self, _id: &str, _lock: &SnapshotLock) -> Result<()> {
        unreachable!("{UNASKED}")
    }

    async fn locks(&self, ids: &[String]) -> Result<Vec<Lock>> {
        self.allow("locks".to_owned())?;
        let state = self.state();
        let lock = |id| state.locks.get(id).cloned().unwrap_or(Lock::Free);
        Ok(ids.iter().map(lock).collect())
    }

    async fn describe(&self, id: &str) -> Result<Option<Described>> {
        self.allow(format!("describe {id}"))?;
        Ok(self.state().snapshots.get(id).cloned())
    }

    async fn delete(&self, id: &str) -> Result<Deleted> {
        self.allow(format!("delete {id}"))?;
        Ok(match self.state().snapshots.remove(id) {
            Some(_) => Deleted::Gone,
            None => Deleted::Absent,
        })
    }

    async fn tagged(&self, _tags: &[Tag]) -> Result<Vec<Described>> {
        unreachable!("{UNASKED}")
    }

    fn found(&self, _described: &Described) -> Recorded {
        unreachable!("{UNASKED}")
    }

    fn recorded(&self, _disk: &Disk, _begun: &Begun, _lock: Option<&SnapshotLock>) -> Recorded {
        unreachable!("{UNASKED}")
    }

    fn account(&self, _begun: &[Begun]) -> Account {
        unreachable!("{UNASKED}")
    }
}
