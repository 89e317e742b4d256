//! One actor at a time: the rights to take a backup and to delete, for one server in one destination.
//!
//! A right is a lease in the destination. Where the store does not heed conditions, it is a lock in PostgreSQL, held open on the primary and
//! asked for before every request that deletes; where there is no such lock either, nothing is deleted, unless the configuration says that
//! only one barkeep ever does. Whoever holds a right gives it back when the work is done. A holder whose process is known to be dead
//! is not waited for.
//!
//! Exclusion is an optimisation: what is done under a right is safe without it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tracing::{debug, warn};

use super::Ports;
use crate::{
    actor,
    failure::{Failure, Kind},
    format::keys::{ObjectKey, OwnObject},
    model::{
        desired::Server,
        lease::{HeldLease, LeaseKind},
        names::DestinationName,
        reason::Waiting,
        record::{Actor, Life},
        time::Timestamp,
    },
    plan::Step,
    postgres::{HeldLock, LockKey},
    store::{
        Archive,
        fenced::{Fence, Open},
        lease::{self, Acquired, LeaseError, Terms},
        probe::Conditions,
        tenure::{self, Tenure},
    },
};

/// For how long a lease holds without being renewed.
pub const TTL: Duration = Duration::from_mins(10);

/// Whether rights are taken at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// Before everything that needs one.
    On,
    /// Never: a simulation shows that nothing depends on it.
    Off,
}

/// What is wanted: where, and what for.
pub type Wanted = (DestinationName, LeaseKind);

/// A right that is held.
enum Right {
    Lease(Tenure),
    Lock(Arc<HeldLock>),
    Sole,
}

/// The rights that were taken for some work, and those that were not to be had.
#[derive(Default)]
pub struct Rights {
    held: BTreeMap<Wanted, Right>,
    missing: Missing,
}

/// What stands before every request that deletes, by destination.
pub type Fences = BTreeMap<DestinationName, Arc<dyn Fence>>;

/// Rights that were not to be had, and what each waits for.
#[derive(Clone, Debug, Default)]
pub struct Missing(BTreeMap<Wanted, Waiting>);

impl Missing {
    /// What a step waits for, if its right is missing.
    pub fn waits_for(&self, step: &Step) -> Option<Waiting> {
        let wanted = (step.destination.clone(), step.action.lease()?);
        self.0.get(&wanted).cloned()
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.0.values()
    }
}

/// What these steps need.
pub fn wanted<'a>(steps: impl IntoIterator<Item = &'a Step>) -> BTreeSet<Wanted> {
    let each = steps.into_iter();
    each.filter_map(|step| Some((step.destination.clone(), step.action.lease()?)))
        .collect()
}

impl Rights {
    /// Takes what is wanted. What cannot be had is [`missing`](Self::missing).
    pub async fn take(ports: &Ports, server: &Server, wanted: BTreeSet<Wanted>) -> Self {
        let mut rights = Self::default();
        for one in wanted {
            match take(ports, server, &one).await {
                Ok(right) => drop(rights.held.insert(one, right)),
                Err(waiting) => drop(rights.missing.0.insert(one, waiting)),
            }
        }
        rights
    }

    /// Takes all that is wanted, or nothing.
    pub async fn insist(
        ports: &Ports,
        server: &Server,
        wanted: BTreeSet<Wanted>,
    ) -> Result<Self, Waiting> {
        let rights = Self::take(ports, server, wanted).await;
        let Some(missing) = rights.missing.iter().next().cloned() else {
            return Ok(rights);
        };
        rights.release().await;
        Err(missing)
    }

    /// What could not be had.
    pub fn missing(&self) -> &Missing {
        &self.missing
    }

    /// Whether nobody can have acted under these rights since an instant of each destination's store: what was seen then holds still.
    pub(super) fn were_free(&self, seen: impl Fn(&DestinationName) -> Option<Timestamp>) -> bool {
        self.held
            .iter()
            .all(|((destination, _), right)| match right {
                Right::Lease(tenure) => {
                    seen(destination).is_some_and(|at| tenure.was_free_since(at))
                }
                Right::Lock(_) => false,
                Right::Sole => true,
            })
    }

    /// Keeps the rights while work goes on.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let tenures = self.held.values_mut().filter_map(|right| match right {
            Right::Lease(tenure) => Some(tenure),
            Right::Lock(_) | Right::Sole => None,
        });
        tenure::during(tenures, work).await
    }

    /// What stands before every request that deletes.
    pub fn fences(&self) -> Fences {
        let retention = self.held.iter();
        let retention = retention.filter(|((_, kind), _)| *kind == LeaseKind::Retention);
        let each = retention.map(|((destination, _), right)| (destination.clone(), right.fence()));
        each.collect()
    }

    /// Gives everything back.
    pub async fn release(self) {
        for right in self.held.into_values() {
            if let Right::Lease(tenure) = right {
                tenure.release().await;
            }
        }
    }
}

impl Right {
    fn fence(&self) -> Arc<dyn Fence> {
        match self {
            Self::Lease(tenure) => Arc::new(tenure.term()),
            Self::Lock(lock) => Arc::new(LockFence(lock.clone())),
            // The configuration says that there is nobody else.
            Self::Sole => Arc::new(Open),
        }
    }
}

/// PostgreSQL is asked whether the lock is still held.
#[derive(Debug)]
struct LockFence(Arc<HeldLock>);

#[async_trait]
impl Fence for LockFence {
    async fn check(&self) -> Result<(), String> {
        match self.0.is_held().await {
            Ok(true) => Ok(()),
            Ok(false) => Err("the lock in PostgreSQL is lost".to_owned()),
            Err(error) => Err(crate::failure::chain(&error)),
        }
    }
}

async fn take(ports: &Ports, server: &Server, wanted: &Wanted) -> Result<Right, Waiting> {
    let (destination, kind) = wanted;
    if ports.exclusion == Exclusion::Off {
        return Ok(Right::Sole);
    }
    match ask(ports, server, wanted).await {
        Ok(taken) => taken,
        // What only adds is not held up: two backups are better than none.
        Err(failure) if *kind == LeaseKind::Attempt => {
            warn!(%destination, "going on without the {kind} lease: {failure}");
            Ok(Right::Sole)
        }
        Err(failure) => Err(Waiting::Unknown {
            what: format!("the {kind} lease"),
            why: failure.message,
        }),
    }
}

async fn ask(
    ports: &Ports,
    server: &Server,
    wanted: &Wanted,
) -> Result<Result<Right, Waiting>, Failure> {
    let archive = match ports.archives(server).remove(&wanted.0) {
        Some(archive) => archive?,
        None => {
            return Err(Failure::new(
                Kind::Failed,
                "the destination is not configured",
            ));
        }
    };
    let conditions = ports.conditions(&wanted.0, &archive).await;
    match conditions.map_err(|error| Failure::of(error.kind(), &error))? {
        Conditions::Heeded => {
            let taken = lease(&ports.actor, &archive, wanted).await;
            taken.map_err(|error| Failure::of(error.kind(), &error))
        }
        Conditions::Ignored => Ok(lock(ports, server, wanted).await),
    }
}

/// The object of a lease.
pub fn object(kind: LeaseKind) -> ObjectKey {
    ObjectKey::Own(match kind {
        LeaseKind::Attempt => OwnObject::AttemptLease,
        LeaseKind::Retention => OwnObject::RetentionLease,
    })
}

/// What is asked for in a catalog.
pub fn terms(holder: &Actor, archive: &Archive, kind: LeaseKind) -> Terms {
    Terms {
        key: archive.key(&object(kind)),
        holder: holder.clone(),
        ttl: TTL,
        despite: None,
    }
}

async fn lease(
    holder: &Actor,
    archive: &Archive,
    (destination, kind): &Wanted,
) -> Result<Result<Right, Waiting>, LeaseError> {
    let mut terms = terms(holder, archive, *kind);
    loop {
        let (claim, until) = match lease::acquire(archive.store(), &terms).await? {
            Acquired::Held(lease) => return Ok(Ok(Right::Lease(Tenure::new(lease)))),
            Acquired::Busy { claim, until } => (claim, until),
        };
        // Its requests ended with it. Waiting for what it left would only take time.
        let dead = claim
            .as_ref()
            .is_some_and(|claim| actor::life(&claim.holder) == Life::Dead);
        if dead && terms.despite != claim {
            debug!(%destination, lease = %kind, "its holder is dead");
            terms.despite = claim;
            continue;
        }
        let held = HeldLease {
            destination: destination.clone(),
            lease: *kind,
            holder: claim.map(|claim| claim.holder),
            until: Some(until),
        };
        return Ok(Err(Waiting::Lease { held }));
    }
}

/// A lock of PostgreSQL, where the store keeps nobody apart.
async fn lock(ports: &Ports, server: &Server, wanted: &Wanted) -> Result<Right, Waiting> {
    let (destination, kind) = wanted;
    let configured = ports.desired.destinations.get(destination);
    if configured.is_some_and(|destination| destination.single_writer) {
        return Ok(Right::Sole);
    }
    let none = |why: &str| match kind {
        // What only adds is not held up: two backups are better than none.
        LeaseKind::Attempt => Ok(Right::Sole),
        LeaseKind::Retention => Err(Waiting::NoExclusion {
            why: format!(
                "the store does not keep several apart, and {why}; `single_writer = true` says that \
                 there is only one"
            ),
        }),
    };
    if server.connection.is_none() {
        return none("no connection for a lock in PostgreSQL is configured");
    }
    let location = configured.map(|destination| destination.location.to_string());
    let place = location.unwrap_or_default();
    let key = LockKey::of(&format!("{place} {} {kind}", server.name));
    match ports.servers.lock(ports, server, key).await {
        Ok(Some(lock)) => Ok(Right::Lock(Arc::new(lock))),
        Ok(None) => Err(Waiting::Lease {
            held: HeldLease {
                destination: destination.clone(),
                lease: *kind,
                holder: None,
                until: None,
            },
        }),
        Err(error) => {
            let error = crate::failure::chain(&error);
            warn!(%destination, "cannot take the lock in PostgreSQL: {error}");
            none(&error)
        }
    }
}

#[cfg(test)]
mod tests;
