//! The line between one process and a destination: slow, lossy, and cut when the process dies.
//!
//! What happens to a request depends on nothing but the seed, the process and how often it has asked the same, so that a history is the same
//! however its requests interleave; [`crate::fate`] has what may happen. What is read is as old as its answer was slow.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use barkeep::{
    clock::pause,
    model::{
        desired::Desired,
        lock::{BucketRetention, Lock},
        names::{DestinationName, ServerName},
        record::Actor,
        time::Timestamp,
    },
    store::{
        Deleted, Error, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest, Meaning,
        Operation, Part, PendingUpload, PutOptions, Result, Store, Stored, Upload, UploadId,
        UploadOptions,
    },
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::Notify;

use crate::{
    dice::Dice,
    fate::{Fate, Way},
    place::Place,
    world::{Log, Trouble, World, dice_for},
};

const LOCATION: &str = "simulated:";

/// What a process is kept from seeing, as if the program had a guard less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blind {
    /// Every object is said to be free.
    Locks,
    /// No listing shows a keep.
    Keeps,
    /// No listing shows what was deleted before.
    Tombstones,
    /// What could not be deleted is said to be gone.
    FailedDeletes,
}

impl Blind {
    /// Whether a listing shows an object.
    fn hides(self, key: &Key) -> bool {
        match self {
            Self::Keeps => key.as_str().ends_with("/annotations/keep"),
            Self::Tombstones => key.as_str().contains("/barkeep/deleted/"),
            Self::Locks | Self::FailedDeletes => false,
        }
    }
}

/// One life of one process.
pub(crate) struct Process {
    pub(crate) name: String,
    /// The configuration that it has read.
    pub(crate) desired: Desired,
    /// As whom it acts.
    pub(crate) actor: Actor,
    blind: Option<Blind>,
    seed: u64,
    trouble: Arc<Mutex<Trouble>>,
    log: Log,
    approves: AtomicBool,
    by_name: AtomicBool,
    dead: AtomicBool,
    death: Notify,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Process {
    pub(crate) fn new(name: &str, desired: Desired, actor: Actor, world: &World) -> Self {
        Self {
            name: name.to_owned(),
            desired,
            actor,
            blind: None,
            seed: world.seed,
            trouble: world.trouble.clone(),
            log: world.log.clone(),
            approves: AtomicBool::new(false),
            by_name: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            death: Notify::new(),
            counts: Mutex::default(),
        }
    }

    /// The same, without one of its guards.
    pub(crate) fn blinded(self, blind: Option<Blind>) -> Arc<Self> {
        Arc::new(Self { blind, ..self })
    }

    /// Whether it is shown what was deleted before.
    pub(crate) fn sees_deletes(&self) -> bool {
        self.blind != Some(Blind::Tombstones)
    }

    /// Dice for the next time that it does the same.
    pub(crate) fn dice(&self, what: &str) -> Dice {
        let count = self.count(what);
        self.dice_once(&format!("{what} {count}"))
    }

    /// Dice for what it does only once.
    pub(crate) fn dice_once(&self, what: &str) -> Dice {
        dice_for(self.seed, &format!("{} {what}", self.name))
    }

    /// How often it does the same, this time included.
    pub(crate) fn count(&self, what: &str) -> u64 {
        let mut counts = self.counts.lock().expect("no panic");
        let count = counts.entry(what.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// A key without what is another one whenever the simulation runs: who runs it.
    fn neutral(&self, key: &str) -> String {
        let Actor {
            boot, pid, started, ..
        } = &self.actor;
        key.replace(&format!("{boot}-{pid}-{started}"), "itself")
    }

    pub(crate) fn trouble(&self) -> Trouble {
        *self.trouble.lock().expect("no panic")
    }

    /// Somebody has said yes to what it does, beyond the budget.
    pub(crate) fn approve(&self) {
        self.approves.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_approved(&self) -> bool {
        self.approves.load(Ordering::Relaxed)
    }

    /// Somebody does with it what they have a name for.
    pub(crate) fn act_by_name(&self) {
        self.by_name.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_by_name(&self) -> bool {
        self.by_name.load(Ordering::Relaxed)
    }

    pub(crate) fn die(&self, doing: &str) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            self.log.tell(&format!("{} dies: {doing}", self.name));
        }
        self.death.notify_one();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Waits for its end.
    pub(crate) async fn death(&self) {
        self.death.notified().await;
    }

    /// Asks somebody for something, which has its fate on the way.
    pub(crate) async fn ask<T: Send + 'static, E: Send + 'static>(
        &self,
        way: Way,
        what: &str,
        error: impl Fn() -> E,
        effect: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let trouble = self.trouble();
        let (fate, mut dice) = way.fate(self, what, trouble);
        if fate != Fate::Unnoticed {
            self.log.ask(&self.name, &format!("{what} {fate:?}"));
        }
        way.travel(&mut dice, trouble).await;
        if self.is_dead() {
            return way.nowhere(error()).await;
        }
        let patience = Duration::from_millis(100 + dice.roll(60_000));
        let late = Duration::from_millis(1 + dice.roll(60_000));
        match fate {
            Fate::Well => {
                let answer = effect();
                way.travel(&mut dice, trouble).await;
                return answer;
            }
            Fate::Refused | Fate::Unnoticed => {}
            Fate::Lost => way.pause(patience).await,
            Fate::Unanswered => {
                let answer = effect();
                way.pause(patience).await;
                answer?;
            }
            Fate::Late => {
                self.log.after(patience + late, move || drop(effect()));
                way.pause(patience).await;
            }
            Fate::Hangs => return pending().await,
            Fate::DiesBefore => self.die(what),
            Fate::DiesAfter => {
                drop(effect());
                self.die(what);
            }
            Fate::DiesLate => {
                self.die(what);
                self.log.after(late, move || drop(effect()));
            }
        }
        if self.is_dead() {
            return way.nowhere(error()).await;
        }
        Err(error())
    }
}

/// A store as one process reaches it.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) place: Arc<Place>,
    pub(crate) process: Arc<Process>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} to {}", self.process.name, self.place.name)
    }
}

fn error(operation: Operation, key: &str) -> Error {
    let error = Error::new(Meaning::Unreachable, operation, LOCATION).because("a fault");
    error.about(&Key::verbatim(key))
}

/// What a store in memory answers, which it does at once.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("memory answers at once")
}

impl Line {
    async fn ask<T: Send + 'static>(
        &self,
        way: Way,
        (operation, key): (Operation, &str),
        effect: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let process = &self.process;
        let what = format!("{} {operation:?} {}", self.place.name, process.neutral(key));
        let line = self.clone();
        let error = || error(operation, key);
        process.ask(way, &what, error, move || effect(&line)).await
    }

    /// How what belongs to a backup is sent here: by a thread, or from another destination.
    fn way_of(&self, key: &str) -> Way {
        let desired = &self.process.desired;
        let server = key.split('/').next().unwrap_or_default();
        let server = ServerName::parse(server).ok();
        let server = server.and_then(|server| desired.servers.get(&server));
        let entry = server.zip(DestinationName::parse(&self.place.name).ok());
        let entry = entry.and_then(|(server, name)| server.entry(&name));
        if entry.is_none_or(|entry| entry.copy_of.is_some()) {
            return Way::Far;
        }
        Way::of_own(key)
    }
}

#[async_trait]
impl Store for Line {
    fn location(&self) -> &str {
        LOCATION
    }

    fn limits(&self) -> Limits {
        self.place.memory.limits()
    }

    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored> {
        let wanted = key.clone();
        let effect = move |line: &Self| {
            let witness = line.place.witness(&line.process);
            let before = line.place.get(wanted.as_str());
            let put = at_once(line.place.memory.put(&wanted, content.clone(), options))?;
            witness.put(wanted.as_str(), before.as_ref(), &content);
            Ok(put)
        };
        let way = self.way_of(key.as_str());
        self.ask(way, (Operation::Put, key.as_str()), effect).await
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let wanted = key.clone();
        let effect = move |line: &Self| at_once(line.place.memory.get(&wanted, options));
        let asked = (Operation::Get, key.as_str());
        self.ask(Way::Far, asked, effect).await
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        let wanted = key.clone();
        let effect = move |line: &Self| at_once(line.place.memory.head(&wanted));
        self.ask(Way::Far, (Operation::Head, key.as_str()), effect)
            .await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let prefix = request.prefix.clone();
        let effect = move |line: &Self| at_once(line.place.memory.list(request));
        let mut page = self
            .ask(Way::Far, (Operation::List, &prefix), effect)
            .await?;
        if let Some(blind) = self.process.blind {
            page.objects.retain(|object| !blind.hides(&object.key));
        }
        if page.objects.is_empty() && prefix.contains("/wals/") {
            // Whoever waits for WAL asks again and again, which takes no less time in a simulation.
            pause(Duration::from_secs(5)).await;
        }
        Ok(page)
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        let wanted = keys.to_vec();
        let first = keys.first().map_or("", Key::as_str).to_owned();
        let mut dice = self
            .process
            .dice(&format!("{} some of {first}", self.place.name));
        let blind = self.process.blind == Some(Blind::FailedDeletes);
        let some = if blind {
            2000
        } else {
            self.process.trouble().errors
        };
        let spared: Vec<bool> = keys.iter().map(|_| dice.roll(10_000) < some).collect();
        let effect = move |line: &Self| {
            let one = |(key, spared): (&Key, bool)| {
                let outcome = if spared && blind {
                    Ok(())
                } else if spared {
                    Err(error(Operation::Delete, key.as_str()))
                } else {
                    line.place.witness(&line.process).delete(key.as_str());
                    at_once(line.place.memory.delete(std::slice::from_ref(key)))
                        .remove(0)
                        .outcome
                };
                let key = key.clone();
                Deleted { key, outcome }
            };
            Ok(wanted.iter().zip(spared).map(one).collect::<Vec<_>>())
        };
        match self
            .ask(Way::Far, (Operation::Delete, &first), effect)
            .await
        {
            Ok(deleted) => deleted,
            Err(_) => {
                let failed = |key: &Key| Deleted {
                    key: key.clone(),
                    outcome: Err(error(Operation::Delete, key.as_str())),
                };
                keys.iter().map(failed).collect()
            }
        }
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        if self.process.blind == Some(Blind::Locks) {
            return keys.iter().map(|_| Lock::Free).collect();
        }
        let wanted = keys.to_vec();
        let first = keys.first().map_or("", Key::as_str).to_owned();
        let effect = move |line: &Self| Ok(at_once(line.place.memory.locks(&wanted)));
        let asked = self.ask(Way::Far, (Operation::Locks, &first), effect).await;
        let unknown = |_| {
            keys.iter()
                .map(|_| Lock::Unknown("a fault".to_owned()))
                .collect()
        };
        asked.unwrap_or_else(unknown)
    }

    async fn retention(&self) -> Result<BucketRetention> {
        let effect = |line: &Self| at_once(line.place.memory.retention());
        self.ask(Way::Far, (Operation::Retention, ""), effect).await
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let wanted = key.clone();
        let effect = move |line: &Self| at_once(line.place.memory.begin_upload(&wanted, options));
        let way = self.way_of(key.as_str());
        let asked = (Operation::BeginUpload, key.as_str());
        let inner = self.ask(way, asked, effect).await?;
        Ok(Box::new(LineUpload {
            inner: Arc::from(inner),
            line: self.clone(),
            key: key.clone(),
            way,
        }))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        let wanted = prefix.to_owned();
        let effect = move |line: &Self| at_once(line.place.memory.list_uploads(&wanted));
        self.ask(Way::Far, (Operation::ListUploads, prefix), effect)
            .await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        let wanted = upload.clone();
        let effect = move |line: &Self| {
            line.place.witness(&line.process).abort(wanted.key.as_str());
            at_once(line.place.memory.abort_upload(&wanted))
        };
        let asked = (Operation::AbortUpload, upload.key.as_str());
        self.ask(Way::Far, asked, effect).await
    }

    async fn check_reachable(&self) -> Result<()> {
        self.ask(Way::Far, (Operation::CheckReachable, ""), |_: &Self| Ok(()))
            .await
    }

    async fn create_destination(&self) -> Result<()> {
        self.ask(Way::Far, (Operation::CreateDestination, ""), |_: &Self| {
            Ok(())
        })
        .await
    }

    async fn time(&self) -> Result<Timestamp> {
        self.ask(Way::Far, (Operation::Time, ""), |line: &Self| {
            Ok(line.place.store_time())
        })
        .await
    }
}

#[derive(Debug)]
struct LineUpload {
    inner: Arc<dyn Upload>,
    line: Line,
    key: Key,
    way: Way,
}

#[async_trait]
impl Upload for LineUpload {
    fn id(&self) -> &UploadId {
        self.inner.id()
    }

    async fn put_part(&self, number: u32, content: Bytes) -> Result<Part> {
        let inner = self.inner.clone();
        let effect = move |_: &Line| at_once(inner.put_part(number, content));
        let key = format!("{} {number}", self.key);
        let asked = (Operation::PutPart, key.as_str());
        self.line.ask(self.way, asked, effect).await
    }

    async fn complete(&self, parts: Vec<Part>) -> Result<Stored> {
        let (inner, key) = (self.inner.clone(), self.key.clone());
        let effect = move |line: &Line| {
            let before = line.place.get(key.as_str());
            let completed = at_once(inner.complete(parts))?;
            let content = line.place.get(key.as_str()).unwrap_or_default();
            let witness = line.place.witness(&line.process);
            witness.put(key.as_str(), before.as_ref(), &content);
            Ok(completed)
        };
        let asked = (Operation::CompleteUpload, self.key.as_str());
        self.line.ask(self.way, asked, effect).await
    }

    async fn abort(&self) -> Result<()> {
        let inner = self.inner.clone();
        let effect = move |_: &Line| at_once(inner.abort());
        let asked = (Operation::AbortUpload, self.key.as_str());
        self.line.ask(self.way, asked, effect).await
    }
}
