//! The world, turned into facts: [`Observed`], with the gaps marked.
//!
//! Observing never fails. Whatever could not be found out becomes `Unknown` with its reason, and the planner waits. PostgreSQL is asked before
//! the catalog is listed: whatever it calls archived by then must be in the listing. Nothing here writes.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;

use crate::{
    clock::Clock,
    failure::{Failure, Kind},
    model::{
        catalog::Catalog,
        desired::{ObjectLock, Server, ServerState},
        names::DestinationName,
        observed::{Knowledge, Locality, Observed, ServerFacts, Stored},
        snapshot::DiskSurvey,
        time::Span,
        zone::Zone,
    },
    postgres::Connector,
    snapshot::Clouds,
    store::Archive,
};

/// How long reading one catalog may take: a cold listing of a million segments takes a minute.
const READ_MAX: Duration = Duration::from_mins(5);

pub mod catalog;
pub mod disks;
pub mod lock;
pub mod server;
pub mod snapshots;
pub mod wal;

mod pg_wal;

/// What there is to look at for one server.
pub struct Surroundings<'a> {
    /// The server.
    pub server: &'a Server,
    /// What the server itself said, and whether its files are here: asked before the catalogs are read.
    pub postgres: (Knowledge<ServerFacts>, Locality),
    /// Its catalog in each destination, or why that cannot be opened.
    pub archives: BTreeMap<DestinationName, Result<Archive, Failure>>,
    /// How clouds are opened.
    pub clouds: &'a dyn Clouds,
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

/// Asks a server what it is, and looks whether its files are on this host. `None` if the configuration names no connection, or if
/// nobody wants to know.
pub async fn ask(
    server: &Server,
    connector: Option<Result<Connector, Failure>>,
    clock: Clock,
) -> (Knowledge<ServerFacts>, Locality) {
    let absent = |why: &str| {
        let why = why.to_owned();
        (Knowledge::Absent, Locality::NotLocal { why })
    };
    let retired = server.state == ServerState::Retired;
    match connector {
        // It has nothing to tell any more, and need not answer.
        Some(_) if retired => absent("the server is retired"),
        None => absent("no connection is configured"),
        Some(Err(failure)) => {
            let why = failure.to_string();
            (Knowledge::Unknown(failure), Locality::NotLocal { why })
        }
        Some(Ok(connector)) => server::observe(&connector, server, clock).await,
    }
}

/// Finds out how a server and its catalogs stand.
pub async fn observe(surroundings: Surroundings<'_>) -> Observed {
    let context_of = &surroundings;
    let catalogs = context_of
        .archives
        .iter()
        .map(|(name, archive)| async move {
            let mut stored = match archive {
                Ok(archive) => {
                    within(
                        catalog::observe(archive, &context(context_of, name)),
                        context_of.clock,
                    )
                    .await
                }
                Err(failure) => Stored::unknown(surroundings.clock.now(), failure),
            };
            stored.disks = still_good(context_of.earlier, name);
            (name.clone(), stored)
        });
    let destinations = join_all(catalogs).await.into_iter().collect();
    let (postgres, locality) = surroundings.postgres;
    Observed {
        server: surroundings.server.name.clone(),
        postgres,
        locality,
        destinations,
    }
}

/// What was seen of the disks, if nothing was wrong with them: how long that counts, the planner knows.
fn still_good(earlier: Option<&Observed>, destination: &DestinationName) -> Knowledge<DiskSurvey> {
    let stored = earlier.and_then(|earlier| earlier.destinations.get(destination));
    let survey = stored.and_then(|stored| stored.disks.known());
    match survey.filter(|survey| survey.faults.is_empty()) {
        Some(survey) => Knowledge::Known(survey.clone()),
        None => Knowledge::Absent,
    }
}

/// What was read of a destination, unless it takes so long that it cannot be called an answer.
async fn within(reading: impl Future<Output = Stored>, clock: Clock) -> Stored {
    match tokio::time::timeout(READ_MAX, reading).await {
        Ok(stored) => stored,
        Err(_) => {
            let message = format!("it was not read in {}", Span(READ_MAX));
            Stored::unknown(clock.now(), &Failure::new(Kind::Unreachable, message))
        }
    }
}

/// How far back the record of deletes is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// As far as the budget counts, and to the last run; all of it where a delete may not have ended.
    Recent,
    /// All of it: what was deleted from among copies is not copied again, as long as its source has it.
    All,
}

/// What reading a catalog needs to know.
pub struct Context<'a> {
    /// The zone in which times without an offset are read.
    pub zone: Zone,
    /// The present.
    pub clock: Clock,
    /// How much to read.
    pub depth: Depth,
    /// How much of the record of deletes.
    pub deletes: Deletes,
    /// What is done about locks: where they are required, it is looked at whether there are any.
    pub object_lock: ObjectLock,
    /// Where the snapshots of disks are looked for; nobody looks if unset.
    pub snapshots: Option<snapshots::Look<'a>>,
    /// The catalog as it was read before: a `backup.info` that is still the same version is not read again.
    pub earlier: Option<&'a Catalog>,
}

fn context<'a>(surroundings: &Surroundings<'a>, destination: &DestinationName) -> Context<'a> {
    let entry = surroundings.server.entry(destination);
    let earlier = surroundings
        .earlier
        .and_then(|earlier| earlier.destinations.get(destination));
    let disks = entry.and_then(|entry| entry.snapshot.as_ref());
    let look = match surroundings.depth {
        Depth::Everything | Depth::Catalog => {
            Some(snapshots::Look::new(disks, surroundings.clouds))
        }
        Depth::Backups => None,
    };
    Context {
        snapshots: look,
        earlier: earlier.and_then(|stored| stored.catalog.known()),
        zone: entry.map_or_else(Zone::utc, |entry| entry.zone.clone()),
        clock: surroundings.clock,
        depth: surroundings.depth,
        deletes: match entry.and_then(|entry| entry.copy_of.as_ref()) {
            Some(_) => Deletes::All,
            None => Deletes::Recent,
        },
        object_lock: entry.map_or(ObjectLock::Respect, |entry| entry.object_lock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_with_which_nothing_was_wrong_are_not_looked_at_again() {
        let at = "2026-11-20T12:00:00Z".parse().expect("an instant");
        let name: DestinationName = "primary".parse().expect("a name");
        let failure = Failure::new(Kind::Refused, "wal is elsewhere");
        let good = Knowledge::Known(DiskSurvey {
            at,
            faults: Vec::new(),
        });
        let bad = Knowledge::Known(DiskSurvey {
            at,
            faults: vec![failure.clone()],
        });
        for (disks, kept) in [
            (good.clone(), good),
            (bad, Knowledge::Absent),
            (Knowledge::Unknown(failure.clone()), Knowledge::Absent),
            (Knowledge::Absent, Knowledge::Absent),
        ] {
            let stored = Stored {
                disks,
                ..Stored::unknown(at, &failure)
            };
            let earlier = Observed {
                server: "orders".parse().expect("a name"),
                postgres: Knowledge::Absent,
                locality: Locality::Local,
                destinations: BTreeMap::from([(name.clone(), stored)]),
            };
            assert_eq!(still_good(Some(&earlier), &name), kept);
        }
        assert_eq!(still_good(None, &name), Knowledge::Absent);
    }
}
