//! What keeps blobs from being destroyed: policies and holds of each, and of the container as a whole.
//!
//! Listings and answers tell those of a blob. Whether there is one of the whole container costs one request; its date is on another
//! interface of the service and never told here. Where a container has neither policy nor hold nor versions that could have them, all
//! of it is free.

use azure_core::http::headers::Headers;
use futures_util::{StreamExt, stream};

use super::{
    super::{Key, ObjectMeta, Operation, Result},
    answer::{header, instant},
    container::Container,
};
use crate::{
    failure::chain,
    model::{
        lock::{Lock, LockMode},
        time::Timestamp,
    },
};

const HEADS_PARALLEL: usize = 16;

/// What holds for all of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// Nothing: its blobs cannot be locked.
    Free,
    /// Nothing, but each blob may have a policy or a hold of its own.
    Each,
    /// A policy, whose date is not told.
    Policy,
    /// A legal hold.
    Held,
}

impl Whole {
    fn of_headers(headers: &Headers) -> Self {
        let says = |name: &str| {
            let told = header(headers, name);
            told.is_some_and(|told| told.eq_ignore_ascii_case("true"))
        };
        if says("x-ms-has-legal-hold") {
            Self::Held
        } else if says("x-ms-has-immutability-policy") {
            Self::Policy
        } else if says("x-ms-immutable-storage-with-versioning-enabled") {
            Self::Each
        } else {
            Self::Free
        }
    }

    /// The verdict on a blob of which this is told.
    fn and(self, blob: Option<Lock>) -> Lock {
        let own = blob.unwrap_or(Lock::Free);
        match self {
            Self::Free | Self::Each => own,
            Self::Policy => own.and(Lock::LockedUntil {
                until: None,
                mode: LockMode::Compliance,
            }),
            Self::Held => Lock::Held,
        }
    }
}

/// A lock as a listing or an answer spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written<'t> {
    /// Until when, as HTTP writes instants.
    pub(super) until: Option<&'t str>,
    /// `Unlocked` or `Locked`, in any case.
    pub(super) mode: Option<&'t str>,
    /// `true` or `false`.
    pub(super) legal_hold: Option<&'t str>,
}

impl Written<'_> {
    /// The lock in the headers of a blob.
    pub(super) fn of_headers(headers: &Headers) -> Option<Lock> {
        let written = Written {
            until: header(headers, "x-ms-immutability-policy-until-date"),
            mode: header(headers, "x-ms-immutability-policy-mode"),
            legal_hold: header(headers, "x-ms-legal-hold"),
        };
        written.read()
    }

    /// The lock in the words of the port; `None` where nothing is told.
    pub(super) fn read(&self) -> Option<Lock> {
        if self
            .legal_hold
            .is_some_and(|told| told.eq_ignore_ascii_case("true"))
        {
            return Some(Lock::Held);
        }
        // An unlocked policy also forbids deletes, but those with the right may shorten or remove it.
        let mode = match self.mode {
            Some(mode) if mode.eq_ignore_ascii_case("unlocked") => LockMode::Governance,
            _ => LockMode::Compliance,
        };
        match (self.until, self.legal_hold) {
            // A date that cannot be read is not told.
            (Some(until), _) => Some(Lock::LockedUntil {
                until: instant(until),
                mode,
            }),
            (None, Some(_)) => Some(Lock::Free),
            (None, None) => None,
        }
    }
}

impl Container {
    /// Asks what holds for all of it.
    pub(super) async fn ask_whole(&self, operation: Operation) -> Result<Whole> {
        let asked = self.connection.container().get_properties(None);
        let answer = self.connection.within(0, asked).await;
        let answer = answer.map_err(|error| self.error(operation, &error))?;
        let whole = Whole::of_headers(answer.headers());
        *self.whole.lock().expect("nobody panics with it") = Some(whole);
        Ok(whole)
    }

    /// Completes what is told of a blob at an instant of the service's clock by what was last told of the container.
    pub(super) fn with_lock(&self, meta: ObjectMeta, now: Timestamp) -> ObjectMeta {
        let whole = *self.whole.lock().expect("nobody panics with it");
        let lock = match (whole, meta.lock.map(|lock| lock.at(now))) {
            (Some(whole), told) => Some(whole.and(told)),
            // The container's own would be missing.
            (None, Some(Lock::Free)) => None,
            (None, told) => told,
        };
        ObjectMeta { lock, ..meta }
    }
}

/// The verdict on each blob, in their order: one request where blobs have no locks of their own, and one more for each where they may.
pub(super) async fn locks(container: &Container, keys: &[Key]) -> Vec<Lock> {
    if keys.is_empty() {
        return Vec::new();
    }
    match container.ask_whole(Operation::Locks).await {
        Err(error) => vec![Lock::Unknown(chain(&error)); keys.len()],
        Ok(Whole::Free) => vec![Lock::Free; keys.len()],
        Ok(_) => {
            let heads: Vec<_> = keys.iter().map(|key| one(container, key)).collect();
            stream::iter(heads).buffered(HEADS_PARALLEL).collect().await
        }
    }
}

async fn one(container: &Container, key: &Key) -> Lock {
    match container.head(key).await {
        Ok(head) => head
            .meta
            .lock
            .unwrap_or_else(|| Lock::Unknown("it is not told".to_owned())),
        // There is nothing to destroy.
        Err(error) if error.is_not_found() => Lock::Free,
        Err(error) => Lock::Unknown(chain(&error)),
    }
}
