//! A store that fails when told to, for tests and for the simulation.
//!
//! A fault strikes before the effect, after it, or for ever. Which calls it strikes is decided by rules, tried in order, and by a seed; the
//! same calls in the same order meet the same faults. Every call is remembered, so that a test can go through a history and
//! break it at each of its calls in turn.

use std::{
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{
    Deleted, Error, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest, Meaning,
    Operation, Part, PendingUpload, PutOptions, Result, SharedStore, Store, Stored, Upload,
    UploadId, UploadOptions,
};
use crate::{
    failure::chain,
    model::{
        lock::{BucketRetention, Lock},
        time::Timestamp,
    },
};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing happens but the error.
    Before(Meaning),
    /// All happens, and the answer is an error. What is read breaks off in the middle.
    After(Meaning),
    /// Nothing happens, not even an answer.
    Hang,
}

/// Which calls fail, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Calls of this kind; all if unset.
    pub operation: Option<Operation>,
    /// Calls about a key, or a prefix, that contains this text; all if empty.
    pub key: String,
    /// How many calls of those pass first.
    pub after: u64,
    /// How many fail then; `u64::MAX` is "from then on".
    pub times: u64,
    /// How.
    pub effect: Effect,
}

impl Rule {
    /// The nth call of all, from 0, and only that.
    pub fn nth(nth: u64, effect: Effect) -> Self {
        Self {
            operation: None,
            key: String::new(),
            after: nth,
            times: 1,
            effect,
        }
    }

    /// The next call of this kind about a key that contains this text.
    pub fn next(operation: Operation, key: &str, effect: Effect) -> Self {
        Self {
            operation: Some(operation),
            key: key.to_owned(),
            ..Self::nth(0, effect)
        }
    }

    /// The same, and all later ones.
    #[must_use]
    pub fn for_ever(self) -> Self {
        Self {
            times: u64::MAX,
            ..self
        }
    }
}

/// Faults by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    /// Where the sequence begins.
    pub seed: u64,
    /// Of so many calls, one fails, half of them after the effect.
    pub one_in: u64,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<(Rule, u64)>,
    chance: Option<Chance>,
    calls: Vec<(Operation, Option<Key>)>,
}

/// What goes wrong; a clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    /// Adds a rule, which counts calls from now on.
    pub fn add(&self, rule: Rule) {
        self.lock().rules.push((rule, 0));
    }

    /// Lets calls fail by chance.
    pub fn set_chance(&self, chance: Option<Chance>) {
        self.lock().chance = chance;
    }

    /// From now on nothing fails.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.rules.clear();
        state.chance = None;
    }

    /// Every call so far. A deletion of many is a call for each.
    pub fn calls(&self) -> Vec<(Operation, Option<Key>)> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic happens while it is locked")
    }

    fn strike(&self, operation: Operation, key: Option<&Key>) -> Option<Effect> {
        let mut state = self.lock();
        let number = state.calls.len() as u64;
        state.calls.push((operation, key.cloned()));
        let text = key.map_or("", Key::as_str);
        let mut struck = None;
        for (rule, seen) in &mut state.rules {
            if rule.operation.is_some_and(|wanted| wanted != operation) || !text.contains(&rule.key)
            {
                continue;
            }
            let (first, number) = (rule.after, *seen);
            *seen += 1;
            if number >= first && number - first < rule.times {
                struck = struck.or(Some(rule.effect));
            }
        }
        struck.or_else(|| state.chance?.strike(number))
    }
}

impl Chance {
    fn strike(self, number: u64) -> Option<Effect> {
        let drawn = mix(self.seed ^ mix(number));
        if !drawn.is_multiple_of(self.one_in.max(1)) {
            return None;
        }
        match mix(drawn) % 2 {
            0 => Some(Effect::Before(Meaning::Unreachable)),
            _ => Some(Effect::After(Meaning::Unreachable)),
        }
    }
}

/// `SplitMix64`: every input has its own output, without a pattern.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A store that fails when told to.
#[derive(Debug)]
pub struct Faulty {
    inner: SharedStore,
    faults: Faults,
}

/// What a call meets, and how to say so.
struct Struck<'a> {
    location: &'a str,
    operation: Operation,
    key: Option<&'a Key>,
    effect: Option<Effect>,
}

impl Struck<'_> {
    fn error(&self, meaning: Meaning) -> Error {
        let error = Error::new(meaning, self.operation, self.location).because("a fault");
        match self.key {
            Some(key) => error.about(key),
            None => error,
        }
    }

    async fn apply<T>(self, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.effect {
            None => call.await,
            Some(Effect::Before(meaning)) => Err(self.error(meaning)),
            Some(Effect::After(meaning)) => {
                call.await?;
                Err(self.error(meaning))
            }
            Some(Effect::Hang) => pending().await,
        }
    }
}

impl Faulty {
    /// The same store, with these faults.
    pub fn new(inner: SharedStore, faults: Faults) -> Self {
        Self { inner, faults }
    }

    fn strike<'a>(&'a self, operation: Operation, key: Option<&'a Key>) -> Struck<'a> {
        Struck {
            location: self.inner.location(),
            operation,
            key,
            effect: self.faults.strike(operation, key),
        }
    }
}

#[async_trait]
impl Store for Faulty {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored> {
        let struck = self.strike(Operation::Put, Some(key));
        struck.apply(self.inner.put(key, content, options)).await
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let struck = self.strike(Operation::Get, Some(key));
        let Some(Effect::After(meaning)) = struck.effect else {
            return struck.apply(self.inner.get(key, options)).await;
        };
        let mut result = self.inner.get(key, options).await?;
        let error = struck.error(meaning);
        let half = result.body.next().await.transpose()?;
        let half = half.map(|chunk| chunk.slice(..chunk.len() / 2));
        result.body = stream::iter(half.map(Ok).into_iter().chain([Err(error)])).boxed();
        Ok(result)
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        let struck = self.strike(Operation::Head, Some(key));
        struck.apply(self.inner.head(key)).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let prefix = Key::verbatim(request.prefix.clone());
        let struck = self.strike(Operation::List, Some(&prefix));
        struck.apply(self.inner.list(request)).await
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        let struck: Vec<Struck<'_>> = keys
            .iter()
            .map(|key| self.strike(Operation::Delete, Some(key)))
            .collect();
        if struck
            .iter()
            .any(|struck| struck.effect == Some(Effect::Hang))
        {
            return pending().await;
        }
        let spared = |struck: &Struck<'_>| !matches!(struck.effect, Some(Effect::Before(_)));
        let passed: Vec<Key> = keys
            .iter()
            .zip(&struck)
            .filter(|(_, struck)| spared(struck))
            .map(|(key, _)| key.clone())
            .collect();
        let mut done = self.inner.delete(&passed).await.into_iter();
        let mut answer = |(key, struck): (&Key, &Struck<'_>)| {
            let done = if spared(struck) { done.next() } else { None };
            match (struck.effect, done) {
                (Some(Effect::Before(meaning) | Effect::After(meaning)), _) => Deleted {
                    key: key.clone(),
                    outcome: Err(struck.error(meaning)),
                },
                (_, done) => done.expect("one answer for each key"),
            }
        };
        keys.iter().zip(&struck).map(&mut answer).collect()
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        let struck: Vec<Struck<'_>> = keys
            .iter()
            .map(|key| self.strike(Operation::Locks, Some(key)))
            .collect();
        if struck
            .iter()
            .any(|struck| struck.effect == Some(Effect::Hang))
        {
            return pending().await;
        }
        let locks = self.inner.locks(keys).await.into_iter().zip(&struck);
        let answer = |(lock, struck): (Lock, &Struck<'_>)| match struck.effect {
            Some(Effect::Before(meaning) | Effect::After(meaning)) => {
                Lock::Unknown(chain(&struck.error(meaning)))
            }
            _ => lock,
        };
        locks.map(answer).collect()
    }

    async fn retention(&self) -> Result<BucketRetention> {
        let struck = self.strike(Operation::Retention, None);
        struck.apply(self.inner.retention()).await
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let struck = self.strike(Operation::BeginUpload, Some(key));
        let inner = struck.apply(self.inner.begin_upload(key, options)).await?;
        Ok(Box::new(FaultyUpload {
            inner,
            faults: self.faults.clone(),
            location: self.location().to_owned(),
            key: key.clone(),
        }))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        let key = Key::verbatim(prefix);
        let struck = self.strike(Operation::ListUploads, Some(&key));
        struck.apply(self.inner.list_uploads(prefix)).await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        let struck = self.strike(Operation::AbortUpload, Some(&upload.key));
        struck.apply(self.inner.abort_upload(upload)).await
    }

    async fn check_reachable(&self) -> Result<()> {
        let struck = self.strike(Operation::CheckReachable, None);
        struck.apply(self.inner.check_reachable()).await
    }

    async fn create_destination(&self) -> Result<()> {
        let struck = self.strike(Operation::CreateDestination, None);
        struck.apply(self.inner.create_destination()).await
    }

    async fn time(&self) -> Result<Timestamp> {
        let struck = self.strike(Operation::Time, None);
        struck.apply(self.inner.time()).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn Upload>,
    faults: Faults,
    location: String,
    key: Key,
}

impl FaultyUpload {
    fn strike(&self, operation: Operation) -> Struck<'_> {
        Struck {
            location: &self.location,
            operation,
            key: Some(&self.key),
            effect: self.faults.strike(operation, Some(&self.key)),
        }
    }
}

#[async_trait]
impl Upload for FaultyUpload {
    fn id(&self) -> &UploadId {
        self.inner.id()
    }

    async fn put_part(&self, number: u32, content: Bytes) -> Result<Part> {
        let struck = self.strike(Operation::PutPart);
        struck.apply(self.inner.put_part(number, content)).await
    }

    async fn complete(&self, parts: Vec<Part>) -> Result<Stored> {
        let struck = self.strike(Operation::CompleteUpload);
        struck.apply(self.inner.complete(parts)).await
    }

    async fn abort(&self) -> Result<()> {
        let struck = self.strike(Operation::AbortUpload);
        struck.apply(self.inner.abort()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PutMode, StoreExt, conformance, memory::Memory};

    fn faulty() -> (Faulty, Faults) {
        let memory = Memory::new(Timestamp::from_unix_seconds(0).expect("an instant"));
        let faults = Faults::default();
        (Faulty::new(Arc::new(memory), faults.clone()), faults)
    }

    fn meaning<T>(result: Result<T>) -> Option<Meaning> {
        result.err().map(|error| error.meaning)
    }

    #[tokio::test]
    async fn a_store_without_faults_conforms() {
        conformance::all(&faulty().0).await;
    }

    #[tokio::test]
    async fn a_fault_strikes_before_or_after_the_effect_and_only_when_told() {
        let (store, faults) = faulty();
        let key = Key::verbatim("dir/a");
        let timeout = Meaning::Unreachable;
        faults.add(Rule::next(Operation::Put, "dir/", Effect::Before(timeout)));
        assert_eq!(
            meaning(store.put_text(&key, "1", PutMode::Create).await),
            Some(timeout)
        );
        assert_eq!(meaning(store.get_text(&key).await), Some(Meaning::NotFound));
        faults.add(Rule::next(Operation::Put, "", Effect::After(timeout)));
        assert_eq!(
            meaning(store.put_text(&key, "22", PutMode::Create).await),
            Some(timeout)
        );
        assert_eq!(store.get_text(&key).await.expect("it happened"), "22");
        faults.add(Rule::next(Operation::Get, "", Effect::After(timeout)));
        let result = store
            .get(&key, GetOptions::default())
            .await
            .expect("it begins");
        let chunks: Vec<_> = result.body.collect().await;
        assert_eq!(chunks[0].as_deref().expect("half"), b"2");
        assert!(chunks[1].is_err());
    }

    #[tokio::test]
    async fn some_of_a_batch_may_fail() {
        let (store, faults) = faulty();
        let keys = ["a", "b", "c"].map(Key::verbatim);
        for key in &keys {
            store
                .put_text(key, "x", PutMode::Create)
                .await
                .expect("written");
        }
        faults.add(Rule::next(
            Operation::Delete,
            "b",
            Effect::Before(Meaning::Locked),
        ));
        let deleted = store.delete(&keys).await;
        let failed: Vec<bool> = deleted
            .iter()
            .map(|deleted| deleted.outcome.is_err())
            .collect();
        assert_eq!(failed, [false, true, false]);
        assert!(store.exists(&keys[1]).await.expect("a fact"));
        assert!(!store.exists(&keys[2]).await.expect("a fact"));
    }

    #[tokio::test]
    async fn the_same_seed_meets_the_same_faults() {
        let outcomes = async |seed| {
            let (store, faults) = faulty();
            faults.set_chance(Some(Chance { seed, one_in: 3 }));
            let mut outcomes = Vec::new();
            for number in 0..100 {
                let key = Key::verbatim(format!("{number}"));
                outcomes.push(store.put_text(&key, "x", PutMode::Create).await.is_ok());
            }
            outcomes
        };
        assert_eq!(outcomes(1).await, outcomes(1).await);
        assert_ne!(outcomes(1).await, outcomes(2).await);
        let failed = outcomes(1).await.iter().filter(|ok| !**ok).count();
        assert!((15..55).contains(&failed), "{failed}");
    }
}
