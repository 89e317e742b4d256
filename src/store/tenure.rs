//! A lease that is kept while work goes on under it.
//!
//! It is renewed whenever a third of its time has passed, beside the work and in the same task. A renewal that fails is tried again; what
//! is left of the lease is counted by this process's monotonic clock from before the request that wrote it. Losing it does not stop the
//! work: its [`Term`] closes the fence, and what only adds goes on.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::{
    fenced::Fence,
    lease::{Claim, Lease, LeaseError},
};
use crate::{clock::pause, failure::chain, model::time::Timestamp};

/// The pause after a renewal that failed.
const AGAIN: Duration = Duration::from_secs(10);

/// How long giving back may take before the lease is left to expire.
const RELEASE_MAX: Duration = Duration::from_secs(20);

/// A lease that is kept.
#[derive(Debug)]
pub struct Tenure {
    lease: Lease,
    term: Term,
}

impl Tenure {
    /// Keeps a lease.
    pub fn new(lease: Lease) -> Self {
        let term = Term(Arc::new(Mutex::new(Instant::now())));
        let tenure = Self { lease, term };
        tenure.note();
        tenure
    }

    /// For how long something may be destroyed under it; a clone is the same.
    pub fn term(&self) -> Term {
        self.term.clone()
    }

    /// What it says.
    pub fn claim(&self) -> &Claim {
        self.lease.claim()
    }

    /// Whether nobody held it from an instant of the store on until it was taken.
    pub fn was_free_since(&self, instant: Timestamp) -> bool {
        self.lease.was_free_since(instant)
    }

    /// Keeps it until it is lost.
    async fn keep(&mut self) {
        let error = self.renew().await;
        let error = chain(&error);
        warn!("the lease is lost, nothing more is deleted under it: {error}");
    }

    /// Renews it again and again, until it is lost.
    async fn renew(&mut self) -> LeaseError {
        loop {
            pause(self.lease.renew_in().max(Duration::from_secs(1))).await;
            let limit = self.lease.left().max(AGAIN);
            match timeout(limit, self.lease.renew()).await {
                Ok(Ok(())) => self.note(),
                Ok(Err(error @ LeaseError::Lost(_))) => {
                    self.term.end();
                    return error;
                }
                Ok(Err(error)) => {
                    warn!("cannot renew the lease: {}", chain(&error));
                    pause(AGAIN).await;
                }
                Err(_) => warn!("cannot renew the lease: no answer in {limit:?}"),
            }
        }
    }

    fn note(&self) {
        self.term.set(Instant::now() + self.lease.ample());
    }

    /// Gives it back. When that fails, it expires.
    pub async fn release(self) {
        self.term.end();
        match timeout(RELEASE_MAX, self.lease.release()).await {
            Ok(Ok(()) | Err(LeaseError::Lost(_))) => {}
            Ok(Err(error)) => warn!("cannot give the lease back: {}", chain(&error)),
            Err(_) => warn!("cannot give the lease back: no answer in {RELEASE_MAX:?}"),
        }
    }
}

/// Keeps leases while work goes on.
pub async fn during<T>(
    tenures: impl Iterator<Item = &mut Tenure>,
    work: impl Future<Output = T>,
) -> T {
    let keeping = join_all(tenures.map(Tenure::keep));
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        _ = keeping => {}
    }
    work.await
}

/// How much longer something may be destroyed under a lease.
#[derive(Clone, Debug)]
pub struct Term(Arc<Mutex<Instant>>);

impl Term {
    /// Until when, by the monotonic clock.
    pub fn ends(&self) -> Instant {
        *self.0.lock().expect("no panic happens while it is locked")
    }

    fn set(&self, ends: Instant) {
        *self.0.lock().expect("no panic happens while it is locked") = ends;
    }

    fn end(&self) {
        self.set(Instant::now());
    }
}

#[async_trait]
impl Fence for Term {
    async fn check(&self) -> Result<(), String> {
        if Instant::now() < self.ends() {
            return Ok(());
        }
        Err("less than a third of the lease's time is left".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::record::Actor,
        store::{
            Key, Meaning, Operation, SharedStore,
            fault::{Effect, Faults, Faulty, Rule},
            lease::{Acquired, Terms, acquire},
            memory::Memory,
        },
    };

    const TTL: Duration = Duration::from_mins(10);

    fn terms() -> Terms {
        Terms {
            key: Key::verbatim("srv/barkeep/lease/retention"),
            holder: Actor::default(),
            ttl: TTL,
            despite: None,
        }
    }

    async fn tenure() -> (Tenure, SharedStore, Faults) {
        let memory = Memory::new(Timestamp::from_unix_seconds(0).expect("an instant"));
        let faults = Faults::default();
        let store: SharedStore = Arc::new(Faulty::new(Arc::new(memory), faults.clone()));
        let Ok(Acquired::Held(lease)) = acquire(&store, &terms()).await else {
            panic!("nobody else wants it");
        };
        (Tenure::new(lease), store, faults)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_renewed_for_as_long_as_the_work_takes() {
        let (mut tenure, store, faults) = tenure().await;
        let term = tenure.term();
        let writes = || {
            let calls = faults.calls();
            calls.iter().filter(|(op, _)| *op == Operation::Put).count()
        };
        during([&mut tenure].into_iter(), pause(TTL * 3)).await;
        assert!(term.check().await.is_ok());
        assert!(writes() >= 9, "{}", writes());
        tenure.release().await;
        assert!(term.check().await.is_err(), "it was given back");
        let again = acquire(&store, &terms()).await;
        assert!(matches!(again, Ok(Acquired::Held(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn without_renewals_nothing_is_destroyed_in_its_last_third() {
        let (mut tenure, _store, faults) = tenure().await;
        let term = tenure.term();
        let silent = Effect::Before(Meaning::Unreachable);
        faults.add(Rule::next(Operation::Put, "", silent).for_ever());
        let work = async {
            pause(Duration::from_secs(399)).await;
            assert!(term.check().await.is_ok());
            pause(Duration::from_secs(1)).await;
            assert!(term.check().await.is_err());
            faults.clear();
            pause(TTL / 3).await;
            assert!(term.check().await.is_ok(), "nobody else took it");
        };
        during([&mut tenure].into_iter(), work).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_without_an_answer_is_given_up_and_tried_again() {
        let (mut tenure, _store, faults) = tenure().await;
        let term = tenure.term();
        faults.add(Rule::next(Operation::Put, "", Effect::Hang));
        during([&mut tenure].into_iter(), pause(TTL * 2)).await;
        assert!(term.check().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_another_took_ends_at_once() {
        let (mut tenure, store, _) = tenure().await;
        let term = tenure.term();
        let over = Terms {
            despite: Some(tenure.claim().clone()),
            ..terms()
        };
        let taken = acquire(&store, &over).await;
        assert!(matches!(taken, Ok(Acquired::Held(_))));
        during([&mut tenure].into_iter(), pause(TTL / 2)).await;
        assert!(term.check().await.is_err());
    }
}
