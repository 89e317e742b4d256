//! `unlock`: take leases away from whoever holds them.

use std::fmt;

use serde::Serialize;

use crate::{
    actor,
    cli::{Session, args, error::Error, exit::Exit, output, selection},
    failure::{Failure, Kind},
    model::{
        desired::Server,
        lease::{HeldLease, LeaseKind},
        names::{DestinationName, ServerName},
        record::Life,
    },
    reconcile::{Ports, exclusion},
    store::{
        Archive,
        lease::{self, Acquired, Claim, LeaseError},
    },
};

pub(in crate::cli) async fn run(arguments: args::Unlock, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(None).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    if let Some(name) = &arguments.destination {
        selection::entry(server, Some(name))?;
    }
    let mut unlocked = Unlocked {
        format: 1,
        server: &server.name,
        taken: Vec::new(),
    };
    let mut exit = Exit::Done;
    for (destination, archive) in archives(&ports, server, arguments.destination.as_ref())? {
        for kind in LeaseKind::ALL {
            let Some((held, claim)) = holder(&ports, &archive, &destination, kind).await? else {
                continue;
            };
            let holder = held.holder.as_ref();
            let lives = holder.is_some_and(|holder| actor::life(holder) == Life::Alive);
            if lives && !arguments.force {
                output::talk(&format!(
                    "{destination}: {held}, and that process runs on this machine; `--force` takes it away all the same"
                ));
                exit = exit.worst(Exit::Refused);
                continue;
            }
            let key = archive.key(&exclusion::object(kind));
            let revoked = lease::revoke(&**archive.store(), &key, claim.as_ref()).await;
            revoked.map_err(|error| failed(kind, &destination, &error))?;
            unlocked.taken.push(held);
        }
    }
    session.output.result(&unlocked, &unlocked)?;
    Ok(exit)
}

fn archives(
    ports: &Ports,
    server: &Server,
    only: Option<&DestinationName>,
) -> Result<Vec<(DestinationName, Archive)>, Error> {
    let archives = ports.archives(server).into_iter();
    let wanted = archives.filter(|(name, _)| only.is_none_or(|only| only == name));
    let opened = wanted.map(|(name, archive)| {
        let archive =
            archive.map_err(|failure| Error::failed(format!("cannot open `{name}`"), failure))?;
        Ok((name, archive))
    });
    opened.collect()
}

async fn holder(
    ports: &Ports,
    archive: &Archive,
    destination: &DestinationName,
    kind: LeaseKind,
) -> Result<Option<(HeldLease, Option<Claim>)>, Error> {
    let terms = exclusion::terms(&ports.actor, archive, kind);
    let found = lease::holder(&**archive.store(), &terms).await;
    match found.map_err(|error| failed(kind, destination, &error))? {
        Some(Acquired::Busy { claim, until }) => {
            let held = HeldLease {
                destination: destination.clone(),
                lease: kind,
                holder: claim.as_ref().map(|claim| claim.holder.clone()),
                until: Some(until),
            };
            Ok(Some((held, claim)))
        }
        _ => Ok(None),
    }
}

fn failed(kind: LeaseKind, destination: &DestinationName, error: &LeaseError) -> Error {
    let doing = format!("cannot take the {kind} lease in `{destination}` away");
    match error {
        LeaseError::Lost(_) => {
            let moved = Failure::new(Kind::LeaseHeld, "it has changed hands meanwhile");
            Error::failed(doing, moved)
        }
        error => Error::failed(doing, Failure::of(error.kind(), error)),
    }
}

#[derive(Serialize)]
struct Unlocked<'a> {
    format: u32,
    server: &'a ServerName,
    taken: Vec<HeldLease>,
}

impl fmt::Display for Unlocked<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.taken.is_empty() {
            return writeln!(formatter, "nothing was taken away from anybody");
        }
        for held in &self.taken {
            let HeldLease { destination, .. } = held;
            let server = self.server;
            writeln!(
                formatter,
                "{server} -> {destination}: {held}; now it is free"
            )?;
        }
        Ok(())
    }
}
