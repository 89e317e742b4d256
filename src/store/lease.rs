//! The right to act on a server in one destination, held by one process at a time.
//!
//! A lease is an object that is created and replaced only under conditions, so of several that want it one gets it. It expires its
//! time to live after it was last written, by the store's clock in the same answer: the clocks of those who want it
//! never decide. Whoever holds it counts the time left by its own monotonic clock from before the request that wrote it, so it stops
//! believing in it before others may take it. A holder that dies is waited for; one that ends gives it back.
//!
//! Exclusion is an optimisation: what is done under a lease must be safe without it. It needs a store that heeds conditions, which
//! [`probe`](super::probe) finds out.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Error, GetOptions, Key, ObjectVersion, PutMode, SharedStore, Store, StoreExt, Stored};
use crate::{
    failure::{Disposition, Kind},
    format::records::{self, Record},
    model::{record::Actor, time::Timestamp},
};

/// Part of its time to live after which a lease is renewed, and which must be left before anything is destroyed.
const THIRD: u32 = 3;
/// How often another's change is looked at again before it is called a conflict.
const LOOKS_MAX: u32 = 3;

/// What a lease object says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who holds it, or held it last.
    pub holder: Actor,
    /// Which of that process's leases it is.
    pub number: u64,
    /// Grows with every write.
    pub generation: u64,
    /// For how long after it was written it holds, in seconds.
    pub ttl_seconds: u64,
    /// Whether it was given back.
    pub released: bool,
}

impl Record for Claim {
    const WHAT: &'static str = "lease";
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The lease object.
    pub key: Key,
    /// Who wants it.
    pub holder: Actor,
    /// For how long it holds without being renewed, in whole seconds.
    pub ttl: Duration,
    /// A claim that need not be waited for: its holder is known to be dead.
    pub despite: Option<Claim>,
}

/// What came of wanting a lease.
#[derive(Debug)]
pub enum Acquired {
    /// It is ours.
    Held(Lease),
    /// Another holds it until then, by the store's clock, unless it renews it.
    Busy {
        /// What the other wrote; `None` if that cannot be understood.
        claim: Option<Claim>,
        /// When it may be taken.
        until: Timestamp,
    },
}

/// Why a lease could not be asked for, renewed or given back.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The store said so.
    #[error(transparent)]
    Store(#[from] Error),
    /// A later version of barkeep has it.
    #[error("cannot understand the lease `{key}`")]
    Later {
        /// The lease object.
        key: Key,
        /// What is wrong.
        source: records::Error,
    },
    /// Another has taken it.
    #[error("the lease `{0}` was lost to another process")]
    Lost(Key),
}

impl LeaseError {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Later { .. } => Kind::Failed,
            Self::Lost(_) => Kind::LeaseHeld,
        }
    }
}

/// A lease that is held. Dropped, it stays until it expires: give it back with [`Lease::release`].
#[derive(Debug)]
pub struct Lease {
    store: SharedStore,
    key: Key,
    claim: Claim,
    version: ObjectVersion,
    since: Instant,
    before: Before,
}

/// What a lease was before it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Nobody had ever taken it.
    Nothing,
    /// It was given back, at this instant of the store.
    Released(Timestamp),
    /// It had expired, or its holder was dead.
    Left,
}

/// What is there, and when the store said so.
struct Found {
    claim: Option<Claim>,
    version: ObjectVersion,
    written: Timestamp,
    date: Timestamp,
}

/// Asks for a lease.
pub async fn acquire(store: &SharedStore, terms: &Terms) -> Result<Acquired, LeaseError> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let mut claim = Claim {
        holder: terms.holder.clone(),
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        generation: 1,
        ttl_seconds: terms.ttl.as_secs(),
        released: false,
    };
    let mut looks = 0;
    loop {
        let found = look(&**store, &terms.key).await?;
        if let Some(busy) = found.as_ref().and_then(|found| found.busy(terms)) {
            return Ok(busy);
        }
        let mode = match &found {
            None => PutMode::Create,
            Some(found) => PutMode::Replace(found.version.clone()),
        };
        let before = Before::of(found.as_ref());
        let last = found.and_then(|found| found.claim);
        claim.generation = last.map_or(1, |last| last.generation + 1);
        let since = Instant::now();
        match write(&**store, &terms.key, &claim, mode).await {
            Ok(version) => {
                return Ok(Acquired::Held(Lease {
                    store: store.clone(),
                    key: terms.key.clone(),
                    claim,
                    version,
                    since,
                    before,
                }));
            }
            // Somebody was faster; now it is busy, or released again.
            Err(error) if error.is_conflict() && looks < LOOKS_MAX => looks += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

impl Before {
    fn of(found: Option<&Found>) -> Self {
        match found {
            None => Self::Nothing,
            Some(found) if found.claim.as_ref().is_some_and(|claim| claim.released) => {
                Self::Released(found.written)
            }
            Some(_) => Self::Left,
        }
    }
}

impl Found {
    fn busy(&self, terms: &Terms) -> Option<Acquired> {
        let ttl = match &self.claim {
            Some(claim) if claim.released => return None,
            claim @ Some(_) if *claim == terms.despite => return None,
            Some(claim) => Duration::from_secs(claim.ttl_seconds),
            // What cannot be understood is believed for as long as one of ours would be.
            None => terms.ttl,
        };
        let until = self.written + ttl;
        // One from the future was written before the store's clock was set back. Whoever lives renews it soon, and the wait would have no end.
        let holds = self.date < until && self.written <= self.date + ttl;
        holds.then(|| Acquired::Busy {
            claim: self.claim.clone(),
            until,
        })
    }
}

async fn look(store: &dyn Store, key: &Key) -> Result<Option<Found>, LeaseError> {
    let result = match store.get(key, GetOptions::default()).await {
        Ok(result) => result,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (version, written) = (result.meta.version, result.meta.last_modified);
    let chunks: Vec<_> = result.body.try_collect().await?;
    let claim = match records::parse::<Claim>(&chunks.concat()) {
        Ok(claim) => Some(claim),
        Err(records::Error::Json { .. }) => None,
        Err(source) => {
            let key = key.clone();
            return Err(LeaseError::Later { key, source });
        }
    };
    Ok(Some(Found {
        claim,
        version,
        written,
        date: result.date,
    }))
}

/// Writes a claim. Where it is not known whether it was written, or a condition refuses it, what is there decides: it may be ours.
async fn write(
    store: &dyn Store,
    key: &Key,
    claim: &Claim,
    mode: PutMode,
) -> Result<ObjectVersion, Error> {
    let error = match store.put_text(key, &records::render(claim), mode).await {
        Ok(Stored { version, .. }) => return Ok(version),
        Err(error) => error,
    };
    if !error.is_conflict() && error.disposition() != Disposition::Unknown {
        return Err(error);
    }
    match look(store, key).await {
        Ok(Some(found)) if found.claim.as_ref() == Some(claim) => Ok(found.version),
        _ => Err(error),
    }
}

impl Lease {
    /// What it says.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Whether nobody held it from an instant of the store on until it was taken: what was seen then holds still.
    pub fn was_free_since(&self, instant: Timestamp) -> bool {
        match self.before {
            Before::Nothing => true,
            // Stores tell whole seconds: within the same one, nobody knows which came first.
            Before::Released(at) => at < instant,
            Before::Left => false,
        }
    }

    /// How much longer nobody else can have it, by this process's monotonic clock.
    pub fn left(&self) -> Duration {
        self.ttl().saturating_sub(self.since.elapsed())
    }

    /// For how much longer so much is left that something may be destroyed under it.
    pub fn ample(&self) -> Duration {
        self.left().saturating_sub(self.ttl() / THIRD)
    }

    /// How long from now it is to be renewed.
    pub fn renew_in(&self) -> Duration {
        (self.ttl() / THIRD).saturating_sub(self.since.elapsed())
    }

    fn ttl(&self) -> Duration {
        Duration::from_secs(self.claim.ttl_seconds)
    }

    /// Makes it hold for its whole time to live again. After an error of the store it still holds for what is left, and may be renewed
    /// again; after [`LeaseError::Lost`] it does not.
    pub async fn renew(&mut self) -> Result<(), LeaseError> {
        let since = Instant::now();
        self.rewrite(false).await?;
        self.since = since;
        Ok(())
    }

    /// Gives it back. When that fails it expires.
    pub async fn release(mut self) -> Result<(), LeaseError> {
        self.rewrite(true).await
    }

    async fn rewrite(&mut self, released: bool) -> Result<(), LeaseError> {
        let claim = Claim {
            generation: self.claim.generation + 1,
            released,
            ..self.claim.clone()
        };
        let mode = PutMode::Replace(self.version.clone());
        match write(&*self.store, &self.key, &claim, mode).await {
            Ok(version) => {
                self.version = version;
                self.claim = claim;
                Ok(())
            }
            Err(error) if error.is_conflict() => self.recover(claim).await,
            Err(error) => Err(error.into()),
        }
    }

    /// An earlier renewal without an answer may have been written after all: then that is the version to replace.
    async fn recover(&mut self, claim: Claim) -> Result<(), LeaseError> {
        let lost = || LeaseError::Lost(self.key.clone());
        let found = look(&*self.store, &self.key).await?.ok_or_else(lost)?;
        let is_ours = found.claim.as_ref().is_some_and(|found| {
            found.holder == self.claim.holder && found.number == self.claim.number
        });
        if !is_ours {
            return Err(lost());
        }
        let mode = PutMode::Replace(found.version);
        match write(&*self.store, &self.key, &claim, mode).await {
            Ok(version) => {
                self.version = version;
                self.claim = claim;
                Ok(())
            }
            Err(error) if error.is_conflict() => Err(lost()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Looks who holds a lease. [`Acquired::Held`] is never the answer.
pub async fn holder(store: &dyn Store, terms: &Terms) -> Result<Option<Acquired>, LeaseError> {
    let found = look(store, &terms.key).await?;
    Ok(found.and_then(|found| found.busy(terms)))
}

/// Takes a lease away from whoever holds it, and leaves it free. [`LeaseError::Lost`] if it has changed hands meanwhile.
pub async fn revoke(store: &dyn Store, key: &Key, held: Option<&Claim>) -> Result<(), LeaseError> {
    let Some(found) = look(store, key).await? else {
        return Ok(());
    };
    if found.claim.as_ref() != held {
        return Err(LeaseError::Lost(key.clone()));
    }
    let claim = match found.claim {
        Some(claim) => Claim {
            generation: claim.generation + 1,
            released: true,
            ..claim
        },
        None => Claim {
            holder: Actor::default(),
            number: 0,
            generation: 1,
            ttl_seconds: 0,
            released: true,
        },
    };
    let mode = PutMode::Replace(found.version);
    match write(store, key, &claim, mode).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => Err(LeaseError::Lost(key.clone())),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{
        Meaning, Operation,
        fault::{Effect, Faults, Faulty, Rule},
        memory::Memory,
    };

    const TTL: Duration = Duration::from_mins(10);

    struct World {
        memory: Memory,
        faults: Faults,
        store: SharedStore,
    }

    fn world() -> World {
        let memory = Memory::new(instant(0));
        let faults = Faults::default();
        let store = Faulty::new(Arc::new(memory.clone()), faults.clone());
        World {
            memory,
            faults,
            store: Arc::new(store),
        }
    }

    fn instant(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds).expect("an instant")
    }

    fn terms(host: &str) -> Terms {
        Terms {
            key: Key::verbatim("srv/barkeep/lease/attempt"),
            holder: Actor {
                host: host.to_owned(),
                boot: "b".to_owned(),
                pid: 1,
                started: 1,
            },
            ttl: TTL,
            despite: None,
        }
    }

    async fn held(world: &World, host: &str) -> Lease {
        match acquire(&world.store, &terms(host)).await {
            Ok(Acquired::Held(lease)) => lease,
            other => panic!("{host} does not get the lease: {other:?}"),
        }
    }

    async fn busy(world: &World, host: &str) -> i64 {
        match acquire(&world.store, &terms(host)).await {
            Ok(Acquired::Busy { until, .. }) => until.unix_seconds(),
            other => panic!("{host} does not wait: {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_holds_it_until_it_is_given_back() {
        let world = world();
        let lease = held(&world, "one").await;
        assert_eq!(busy(&world, "two").await, 600);
        // Not even the same process twice.
        assert_eq!(busy(&world, "one").await, 600);
        lease.release().await.expect("it is given back");
        let lease = held(&world, "two").await;
        assert_eq!(lease.claim().generation, 3);
        assert!(lease.was_free_since(instant(1)) && !lease.was_free_since(instant(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_expires_by_the_clock_of_the_store_and_the_other_has_lost_it() {
        let world = world();
        let mut lease = held(&world, "one").await;
        world.memory.set_time(instant(599));
        busy(&world, "two").await;
        world.memory.set_time(instant(600));
        held(&world, "two").await;
        assert!(matches!(lease.renew().await, Err(LeaseError::Lost(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn one_from_before_the_stores_clock_was_set_back_is_not_waited_for() {
        let world = world();
        world.memory.set_time(instant(90_000));
        let mut lease = held(&world, "one").await;
        world.memory.set_time(instant(89_400));
        busy(&world, "two").await;
        world.memory.set_time(instant(0));
        lease.renew().await.expect("whoever lives has it again");
        assert_eq!(busy(&world, "two").await, 600);
        world.memory.set_time(instant(90_000));
        lease.renew().await.expect("it is ours");
        world.memory.set_time(instant(0));
        held(&world, "two").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_holder_need_not_be_waited_for_and_a_living_one_can_be_overruled() {
        let world = world();
        let mut lease = held(&world, "one").await;
        let over = Terms {
            despite: Some(lease.claim().clone()),
            ..terms("two")
        };
        lease.renew().await.expect("it is ours");
        let renewed = acquire(&world.store, &over).await;
        assert!(matches!(renewed, Ok(Acquired::Busy { .. })), "it lives");
        let over = Terms {
            despite: Some(lease.claim().clone()),
            ..terms("two")
        };
        let taken = acquire(&world.store, &over).await.expect("an answer");
        assert!(matches!(taken, Acquired::Held(_)));
        assert!(matches!(lease.renew().await, Err(LeaseError::Lost(_))));
        let key = terms("two").key;
        let Ok(Some(Acquired::Busy { claim, .. })) = holder(&*world.store, &over).await else {
            panic!("nobody holds it");
        };
        let stale = revoke(&*world.store, &key, Some(lease.claim())).await;
        assert!(matches!(stale, Err(LeaseError::Lost(_))));
        revoke(&*world.store, &key, claim.as_ref())
            .await
            .expect("it is free");
        held(&world, "three").await;
    }

    #[tokio::test(start_paused = true)]
    async fn renewed_it_holds_from_then_on() {
        let world = world();
        let mut lease = held(&world, "one").await;
        assert_eq!(lease.renew_in(), TTL / 3);
        tokio::time::advance(TTL * 3 / 4).await;
        assert_eq!(lease.ample(), Duration::ZERO);
        world.memory.set_time(instant(450));
        lease.renew().await.expect("it is ours");
        assert_eq!(lease.ample(), TTL * 2 / 3);
        assert_eq!(lease.left(), TTL);
        world.memory.set_time(instant(1049));
        assert_eq!(busy(&world, "two").await, 1050);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_does_not_lose_the_lease() {
        let world = world();
        let lost = Effect::After(Meaning::Unreachable);
        world.faults.add(Rule::next(Operation::Put, "", lost));
        let mut lease = held(&world, "one").await;
        // The answer to the renewal is lost, and so is that to looking whether it was written.
        world.faults.add(Rule::next(Operation::Put, "", lost));
        world.faults.add(Rule::next(
            Operation::Get,
            "",
            Effect::Before(Meaning::Unreachable),
        ));
        assert!(matches!(lease.renew().await, Err(LeaseError::Store(_))));
        lease.renew().await.expect("it is ours all the same");
        busy(&world, "two").await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_understood_is_waited_for_and_a_later_format_is_left_alone() {
        let world = world();
        let key = terms("one").key;
        let write = async |text| world.memory.put_text(&key, text, PutMode::Overwrite).await;
        write("garbage").await.expect("written");
        assert_eq!(busy(&world, "one").await, 600);
        world.memory.set_time(instant(600));
        held(&world, "one").await;
        write("{\"format\": 9, \"min_reader\": 9}")
            .await
            .expect("written");
        world.memory.set_time(instant(9000));
        let later = acquire(&world.store, &terms("one")).await;
        assert!(matches!(later, Err(LeaseError::Later { .. })));
    }
}
