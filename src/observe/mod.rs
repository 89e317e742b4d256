//! The world, turned into facts: [`Observed`], with the gaps marked.
//!
//! Observing never fails. Whatever could not be found out becomes `Unknown` with its reason, and the planner waits. PostgreSQL is asked before
//! the catalog is listed: whatever it calls archived by then must be in the listing. Nothing here writes.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use crate::{
    clock::Clock,
    failure::Failure,
    model::{
        catalog::Catalog,
        desired::{ObjectLock, Server, ServerState},
        names::DestinationName,
        observed::{Knowledge, Locality, Observed, Stored},
        zone::Zone,
    },
    postgres::Connector,
    store::Archive,
};

pub mod catalog;
pub mod lock;
pub mod server;
pub mod wal;

/// What there is to look at for one server.
pub struct Surroundings<'a> {
    /// The server.
    pub server: &'a Server,
    /// How to reach it; `None` if the configuration names no connection.
    pub postgres: Option<Result<Connector, Failure>>,
    /// Its catalog in each destination, or why that cannot be opened.
    pub archives: BTreeMap<DestinationName, Result<Archive, Failure>>,
    /// The present.
    pub clock: Clock,
    /// How much to look at.
    pub depth: Depth,
    /// What was seen before, if anything: what has not changed since is not read again.
    pub earlier: Option<&'a Observed>,
}

/// How much to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The server, its backups and its WAL.
    Everything,
    /// Backups and WAL: the server may be gone, and that is why somebody asks.
    Catalog,
    /// Only backups: to list and show them.
    Backups,
}

/// Finds out how a server and its catalogs stand.
pub async fn observe(surroundings: &Surroundings<'_>) -> Observed {
    let absent = |why: &str| {
        let why = why.to_owned();
        (Knowledge::Absent, Locality::NotLocal { why })
    };
    let retired = surroundings.server.state == ServerState::Retired;
    let (postgres, locality) = match &surroundings.postgres {
        // It has nothing to tell any more, and need not answer.
        Some(_) if retired => absent("the server is retired"),
        None => absent("no connection is configured"),
        Some(Err(failure)) => {
            let why = failure.to_string();
            (
                Knowledge::Unknown(failure.clone()),
                Locality::NotLocal { why },
            )
        }
        Some(Ok(connector)) => server::observe(connector, surroundings).await,
    };
    let catalogs = surroundings
        .archives
        .iter()
        .map(|(name, archive)| async move {
            let stored = match archive {
                Ok(archive) => catalog::observe(archive, &context(surroundings, name)).await,
                Err(failure) => Stored::unknown(surroundings.clock.now(), failure),
            };
            (name.clone(), stored)
        });
    let destinations = join_all(catalogs).await.into_iter().collect();
    Observed {
        server: surroundings.server.name.clone(),
        postgres,
        locality,
        destinations,
    }
}

/// What reading a catalog needs to know.
pub struct Context<'a> {
    /// The zone in which times without an offset are read.
    pub zone: Zone,
    /// The present.
    pub clock: Clock,
    /// How much to read.
    pub depth: Depth,
    /// What is done about locks: where they are required, it is looked at whether there are any.
    pub object_lock: ObjectLock,
    /// The catalog as it was read before: a `backup.info` that is still the same version is not read again.
    pub earlier: Option<&'a Catalog>,
}

fn context<'a>(surroundings: &Surroundings<'a>, destination: &DestinationName) -> Context<'a> {
    let entry = surroundings.server.entry(destination);
    let earlier = surroundings
        .earlier
        .and_then(|earlier| earlier.destinations.get(destination));
    Context {
        earlier: earlier.and_then(|stored| stored.catalog.known()),
        zone: entry.map_or_else(Zone::utc, |entry| entry.zone.clone()),
        clock: surroundings.clock,
        depth: surroundings.depth,
        object_lock: entry.map_or(ObjectLock::Respect, |entry| entry.object_lock),
    }
}
