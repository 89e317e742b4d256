//! `check`: can servers and destinations be reached and used? Each line says what was looked at, and what mends it.

mod asked;
mod disks;
mod replication;

use std::{collections::BTreeSet, fmt, path::Path};

use serde::Serialize;

use crate::{
    cli::{
        Session, args, calls, commands::capabilities, error::Error, exit::Exit, selection,
        table::Table,
    },
    failure::{Failure, Kind},
    model::{
        desired::{Desired, Entry, ObjectLock, Server},
        lock::{BucketRetention, Locking, Remains},
        names::DestinationName,
        observed::{Knowledge, Locality, Observed, Stored},
        time::Span,
    },
    observe::Depth,
    reconcile::Ports,
};

#[derive(Serialize)]
struct Checks {
    format: u32,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    server: String,
    what: String,
    #[serde(flatten)]
    result: Found,
}

/// What was found.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub(super) enum Found {
    Good {
        detail: String,
    },
    /// It works, but not all of it.
    Limited {
        why: String,
        mend: String,
    },
    Bad {
        why: String,
        mend: String,
        kind: Kind,
    },
}

pub(in crate::cli) async fn run(arguments: args::Check, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(arguments.select.now).await?;
    let servers = selection::servers(&ports.desired, &arguments.select)?;
    let mut checks = Vec::new();
    let mut probed = BTreeSet::new();
    for server in servers {
        checks.extend(of_server(&ports, server, &session.config).await);
        for (destination, archive) in ports.archives(server) {
            // Once for all servers that have it.
            if arguments.probe
                && let Ok(archive) = archive
                && probed.insert(destination.clone())
            {
                let rows = capabilities::probe(&ports.desired.destinations[&destination], &archive);
                checks.extend(rows.await.into_iter().map(|(what, result)| Check {
                    server: server.name.to_string(),
                    what: format!("{what} in {destination}"),
                    result,
                }));
            }
        }
    }
    let worst = checks.iter().map(|check| match &check.result {
        Found::Good { .. } | Found::Limited { .. } => Exit::Done,
        Found::Bad { kind, .. } => Exit::from(*kind),
    });
    let exit = worst.fold(Exit::Done, Exit::worst);
    let checks = Checks { format: 1, checks };
    session.output.result(&checks, &checks)?;
    Ok(exit)
}

async fn of_server(ports: &Ports, server: &Server, config: &Path) -> Vec<Check> {
    let mut observed = ports.observe(server, Depth::Everything).await;
    let mut checks = Vec::new();
    let mut add = |what: String, result| {
        checks.push(Check {
            server: server.name.to_string(),
            what,
            result,
        });
    };
    for (result, what) in of_postgres(&observed, server) {
        add(what.to_owned(), result);
    }
    if observed.postgres.known().is_some() {
        for (what, result) in asked::check(ports, server, config).await {
            add(what.to_owned(), result);
        }
    }
    for (what, result) in replication::check(ports, server).await {
        add(what, result);
    }
    for (what, result) in disks::check(ports, server, &mut observed).await {
        add(what, result);
    }
    for (destination, stored) in &observed.destinations {
        let entry = server.entry(destination);
        if entry.is_some_and(|entry| entry.object_lock == ObjectLock::Require) {
            add(format!("object locks in {destination}"), of_locks(stored));
        }
        let found = match stored.catalog.unknown() {
            Some(failure) => bad(failure, &mend(&ports.desired, destination, failure)),
            None => Found::Good {
                detail: "can be read".to_owned(),
            },
        };
        add(format!("destination {destination}"), found);
        if let (Some(identity), Some(facts)) = (stored.identity.known(), observed.postgres.known())
            && identity.system_id != facts.system_id
        {
            let why = format!(
                "it belongs to system {}, the server is {}",
                identity.system_id, facts.system_id
            );
            let mend = "give the server another `name`, or another destination".to_owned();
            add(
                format!("identity in {destination}"),
                Found::Bad {
                    why,
                    mend,
                    kind: Kind::Refused,
                },
            );
        }
    }
    checks
}

/// Whether a destination locks by itself, as it must.
fn of_locks(stored: &Stored) -> Found {
    let locks = match &stored.locks {
        Knowledge::Known(locks) => locks,
        Knowledge::Unknown(failure) => {
            return bad(failure, "check the right to see the bucket's retention");
        }
        Knowledge::Absent => {
            let detail = "not looked at".to_owned();
            return Found::Good { detail };
        }
    };
    of_retention(&locks.retention)
}

fn of_retention(BucketRetention { locking, remains }: &BucketRetention) -> Found {
    let lacking = |why: &str, mend: &str| Found::Bad {
        why: why.to_owned(),
        mend: mend.to_owned(),
        kind: Kind::Failed,
    };
    match (locking, remains) {
        (
            Locking::On {
                default: Some(lock),
            },
            _,
        ) => {
            let period = lock.period.map(|period| format!(", {}", Span(period)));
            let detail = format!("{}{}", lock.mode, period.unwrap_or_default());
            Found::Good { detail }
        }
        (Locking::On { default: None }, _) => lacking(
            "new objects are not locked",
            "give the bucket a default retention; barkeep never locks",
        ),
        (Locking::Off, Remains::Nothing) => lacking(
            "no object locks, and no versions",
            "enable versioning and object locks on the bucket, with a default retention",
        ),
        (Locking::Off, _) => lacking(
            "no object locks",
            "enable object locks on the bucket, with a default retention",
        ),
        (Locking::Unknown(why), _) => lacking(why, "grant the right to see the bucket's retention"),
    }
}

fn of_postgres(observed: &Observed, server: &Server) -> Vec<(Found, &'static str)> {
    let facts = match &observed.postgres {
        Knowledge::Absent => return Vec::new(),
        Knowledge::Unknown(failure) => {
            let mend = "check `connection`; docs/postgresql-role.md lists the grants";
            return vec![(bad(failure, mend), "server")];
        }
        Knowledge::Known(facts) => facts,
    };
    let (major, minor) = (facts.version / 10_000, facts.version % 10_000);
    let detail = format!("PostgreSQL {major}.{minor}, system {}", facts.system_id);
    let mut checks = vec![(Found::Good { detail }, "server")];
    let read_here = server.entries.iter().any(Entry::is_read_here);
    checks.extend(read_here.then(|| {
        (
            match &observed.locality {
                Locality::Local => Found::Good {
                    detail: facts.data_directory.display().to_string(),
                },
                Locality::NotLocal { why } => Found::Bad {
                    why: why.clone(),
                    mend: "run barkeep on the server's host, as a user who may read PGDATA"
                        .to_owned(),
                    kind: Kind::Failed,
                },
            },
            "files",
        )
    }));
    if let (Some(failed), Some(at)) = (&facts.archiver.last_failed, facts.archiver.last_failed_at)
        && facts
            .archiver
            .last_archived_at
            .is_none_or(|archived| archived < at)
    {
        let why = format!("{failed} could not be archived {at}");
        let mend = "see the server's log for what archive_command said".to_owned();
        checks.push((
            Found::Bad {
                why,
                mend,
                kind: Kind::Failed,
            },
            "archiver",
        ));
    }
    checks
}

/// What mends a destination that cannot be read.
pub(super) fn mend(desired: &Desired, destination: &DestinationName, failure: &Failure) -> String {
    match (failure.kind, desired.destinations.get(destination)) {
        (Kind::NotFound, Some(destination)) => calls::made(&destination.location),
        _ => "check the URL, the credentials and the network; `barkeep permissions` prints what a reader needs".to_owned(),
    }
}

/// A failure with what mends it, if it does not know that itself.
pub(super) fn bad(failure: &Failure, mend: &str) -> Found {
    let known = failure.hint.clone();
    Found::Bad {
        why: failure.to_string(),
        mend: known.unwrap_or_else(|| mend.to_owned()),
        kind: failure.kind,
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["RESULT", "SERVER", "CHECKED", "FOUND"]);
        for check in &self.checks {
            let (result, found, notes) = match &check.result {
                Found::Good { detail } => ("ok", detail, Vec::new()),
                Found::Limited { why, mend } => ("limited", why, vec![format!("hint: {mend}")]),
                Found::Bad { why, mend, .. } => ("FAIL", why, vec![format!("hint: {mend}")]),
            };
            let cells = [
                result.to_owned(),
                check.server.clone(),
                check.what.clone(),
                found.clone(),
            ];
            table.noted(cells, notes);
        }
        write!(formatter, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lock::{DefaultLock, LockMode};

    #[test]
    fn what_a_bucket_lacks_to_lock_is_named_with_its_mend() {
        let version = Remains::Version { kept: None };
        let on = |default| Locking::On { default };
        let lock = DefaultLock {
            mode: LockMode::Compliance,
            period: None,
        };
        let cases = [
            (
                Locking::Off,
                Remains::Nothing,
                "and no versions",
                "versioning",
            ),
            (
                Locking::Off,
                version.clone(),
                "no object locks",
                "object locks",
            ),
            (on(None), version.clone(), "not locked", "default retention"),
            (
                Locking::Unknown("refused".to_owned()),
                version.clone(),
                "refused",
                "the right",
            ),
        ];
        for (locking, remains, lacks, mends) in cases {
            let Found::Bad { why, mend, .. } = of_retention(&BucketRetention { locking, remains })
            else {
                panic!("`{lacks}` is not found");
            };
            assert!(why.contains(lacks) && mend.contains(mends), "{why}: {mend}");
        }
        let locking = on(Some(lock));
        let found = of_retention(&BucketRetention {
            locking,
            remains: version,
        });
        assert!(matches!(found, Found::Good { .. }));
    }
}
