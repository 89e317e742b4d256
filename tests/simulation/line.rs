//! The line between one process and a destination: slow, lossy, and cut when the process dies.
//!
//! What happens to a request depends on nothing but the seed, the process and how often it has asked the same, so that a history is the same
//! however its requests interleave. A request may be refused, get lost, take effect without an answer, take effect long after it was given
//! up, never be answered, or be the last that its process makes: before its effect, after it, or with the effect still to come. What is
//! read is as old as its answer was slow.

use std::{
    collections::HashMap,
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
    place::Place,
    world::{Log, Trouble, dice_for},
};

const LOCATION: &str = "simulated:";

/// One life of one process.
pub(crate) struct Process {
    pub(crate) name: String,
    /// The configuration that it has read.
    pub(crate) desired: Desired,
    seed: u64,
    trouble: Arc<Mutex<Trouble>>,
    log: Log,
    dead: AtomicBool,
    death: Notify,
    counts: Mutex<HashMap<String, u64>>,
}

impl Process {
    pub(crate) fn new(
        name: &str,
        desired: &Desired,
        seed: u64,
        trouble: &Arc<Mutex<Trouble>>,
        log: &Log,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            desired: desired.clone(),
            seed,
            trouble: trouble.clone(),
            log: log.clone(),
            dead: AtomicBool::new(false),
            death: Notify::new(),
            counts: Mutex::default(),
        })
    }

    /// Dice for the next time that it does the same.
    pub(crate) fn dice(&self, what: &str) -> Dice {
        let mut counts = self.counts.lock().expect("no panic");
        let count = counts.entry(what.to_owned()).or_default();
        *count += 1;
        dice_for(self.seed, &format!("{} {what} {count}", self.name))
    }

    pub(crate) fn trouble(&self) -> Trouble {
        *self.trouble.lock().expect("no panic")
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
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Well,
    Refused,
    Lost,
    /// It is given up, and takes effect later.
    Late,
    /// It takes effect, and the answer does not come.
    Unanswered,
    Hangs,
    DiesBefore,
    DiesAfter,
    /// The process dies, and the request takes effect later.
    DiesLate,
}

impl Fate {
    fn drawn(dice: &mut Dice, trouble: Trouble) -> Self {
        let drawn = dice.roll(10_000);
        if drawn < trouble.crashes {
            return dice.pick(&[Self::DiesBefore, Self::DiesAfter, Self::DiesLate]);
        }
        if drawn >= trouble.crashes + trouble.errors {
            return Self::Well;
        }
        match dice.roll(40) {
            0 => Self::Hangs,
            1..12 => Self::Refused,
            12..18 => Self::Lost,
            18..24 => Self::Late,
            _ => Self::Unanswered,
        }
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
        operation: Operation,
        key: &str,
        effect: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.process.log.count();
        let trouble = self.process.trouble();
        let mut dice = self
            .process
            .dice(&format!("{} {operation:?} {key}", self.place.name));
        let way = Way::of(operation, key);
        let fate = way.of_fate(Fate::drawn(&mut dice, trouble));
        way.travel(&mut dice, trouble).await;
        if self.process.is_dead() {
            return way.nowhere(operation, key).await;
        }
        let doing = || format!("{operation:?} {key} {fate:?}");
        let patience = Duration::from_millis(100 + dice.roll(60_000));
        let late = Duration::from_millis(1 + dice.roll(60_000));
        match fate {
            Fate::Well => {
                let answer = effect(self);
                way.travel(&mut dice, trouble).await;
                answer
            }
            Fate::Refused => Err(error(operation, key)),
            Fate::Lost => {
                way.pause(patience).await;
                Err(error(operation, key))
            }
            Fate::Unanswered => {
                let answer = effect(self);
                way.pause(patience).await;
                answer.and(Err(error(operation, key)))
            }
            Fate::Late => {
                self.later(patience + late, effect);
                way.pause(patience).await;
                Err(error(operation, key))
            }
            Fate::Hangs => pending().await,
            Fate::DiesBefore => {
                self.process.die(&doing());
                way.nowhere(operation, key).await
            }
            Fate::DiesAfter => {
                drop(effect(self));
                self.process.die(&doing());
                way.nowhere(operation, key).await
            }
            Fate::DiesLate => {
                self.process.die(&doing());
                self.later(late, effect);
                way.nowhere(operation, key).await
            }
        }
    }

    fn later<T: Send + 'static>(
        &self,
        after: Duration,
        effect: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) {
        let line = self.clone();
        let effect = move || drop(effect(&line));
        self.process.log.after(after, effect);
    }
}

/// How a request travels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Long,
    /// While a thread waits for it no made-up time passes, so it takes none.
    Short,
}

impl Way {
    fn of(operation: Operation, key: &str) -> Self {
        let sent = key.contains(".tar") || key.contains("/manifest/");
        match operation {
            Operation::Put if sent => Self::Short,
            Operation::BeginUpload
            | Operation::PutPart
            | Operation::CompleteUpload
            | Operation::AbortUpload => Self::Short,
            _ => Self::Long,
        }
    }

    fn of_fate(self, fate: Fate) -> Fate {
        match (self, fate) {
            (Self::Short, Fate::Hangs) => Fate::Lost,
            _ => fate,
        }
    }

    /// There, or back.
    async fn travel(self, dice: &mut Dice, trouble: Trouble) {
        let slow = dice.roll(10_000) < trouble.slow;
        let millis = if slow {
            dice.roll(40_000)
        } else {
            1 + dice.roll(20)
        };
        self.pause(Duration::from_millis(millis)).await;
    }

    /// What a dead process gets: nothing, but its threads have to end.
    async fn nowhere<T>(self, operation: Operation, key: &str) -> Result<T> {
        match self {
            Self::Long => pending().await,
            Self::Short => Err(error(operation, key)),
        }
    }

    async fn pause(self, span: Duration) {
        match self {
            Self::Long => pause(span).await,
            Self::Short => tokio::task::yield_now().await,
        }
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
        self.ask(Operation::Put, key.as_str(), effect).await
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let wanted = key.clone();
        let effect = move |line: &Self| at_once(line.place.memory.get(&wanted, options));
        self.ask(Operation::Get, key.as_str(), effect).await
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        let wanted = key.clone();
        let effect = move |line: &Self| at_once(line.place.memory.head(&wanted));
        self.ask(Operation::Head, key.as_str(), effect).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let prefix = request.prefix.clone();
        let effect = move |line: &Self| at_once(line.place.memory.list(request));
        let page = self.ask(Operation::List, &prefix, effect).await?;
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
        let some = self.process.trouble().errors;
        let spared: Vec<bool> = keys.iter().map(|_| dice.roll(10_000) < some).collect();
        let effect = move |line: &Self| {
            let one = |(key, spared): (&Key, bool)| {
                let outcome = if spared {
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
        match self.ask(Operation::Delete, &first, effect).await {
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
        let wanted = keys.to_vec();
        let first = keys.first().map_or("", Key::as_str).to_owned();
        let effect = move |line: &Self| Ok(at_once(line.place.memory.locks(&wanted)));
        let asked = self.ask(Operation::Locks, &first, effect).await;
        let unknown = |_| {
            keys.iter()
                .map(|_| Lock::Unknown("a fault".to_owned()))
                .collect()
        };
        asked.unwrap_or_else(unknown)
    }

    async fn retention(&self) -> Result<BucketRetention> {
        let effect = |line: &Self| at_once(line.place.memory.retention());
        self.ask(Operation::Retention, "", effect).await
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let wanted = key.clone();
        let effect = move |line: &Self| at_once(line.place.memory.begin_upload(&wanted, options));
        let inner = self
            .ask(Operation::BeginUpload, key.as_str(), effect)
            .await?;
        Ok(Box::new(LineUpload {
            inner: Arc::from(inner),
            line: self.clone(),
            key: key.clone(),
        }))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        let wanted = prefix.to_owned();
        let effect = move |line: &Self| at_once(line.place.memory.list_uploads(&wanted));
        self.ask(Operation::ListUploads, prefix, effect).await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        let wanted = upload.clone();
        let effect = move |line: &Self| {
            line.place.witness(&line.process).abort(wanted.key.as_str());
            at_once(line.place.memory.abort_upload(&wanted))
        };
        self.ask(Operation::AbortUpload, upload.key.as_str(), effect)
            .await
    }

    async fn check_reachable(&self) -> Result<()> {
        self.ask(Operation::CheckReachable, "", |_: &Self| Ok(()))
            .await
    }

    async fn create_destination(&self) -> Result<()> {
        self.ask(Operation::CreateDestination, "", |_: &Self| Ok(()))
            .await
    }

    async fn time(&self) -> Result<Timestamp> {
        self.ask(Operation::Time, "", |line: &Self| {
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
        self.line.ask(Operation::PutPart, &key, effect).await
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
        self.line
            .ask(Operation::CompleteUpload, self.key.as_str(), effect)
            .await
    }

    async fn abort(&self) -> Result<()> {
        let inner = self.inner.clone();
        let effect = move |_: &Line| at_once(inner.abort());
        self.line
            .ask(Operation::AbortUpload, self.key.as_str(), effect)
            .await
    }
}
