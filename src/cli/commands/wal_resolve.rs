//! `wal resolve`: what collided in a server's WAL archive, and which of it is right.

use std::fmt;

use serde::Serialize;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection, table::Table},
    execute::archive_wal::resolve::{self, Conflict, Place, Settled, conflicts, take},
    failure::Failure,
    model::{
        desired::{Entry, Server},
        names::{DestinationName, ServerName},
        time::Timestamp,
        wal::{Lsn, WalFile},
    },
    reconcile::Ports,
};

/// As many digits tell two contents apart.
const DIGITS_SHOWN: usize = 12;

pub(in crate::cli) async fn run(
    arguments: args::WalResolve,
    session: &Session,
) -> Result<Exit, Error> {
    let ports = session.ports_of(&arguments.server).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    if let (Some(file), Some(digest)) = (arguments.file, &arguments.take) {
        let entry = selection::entry(server, arguments.destination.as_ref())?;
        let settled = settle(&ports, server, entry, (file, digest)).await?;
        session.output.result(&settled, &settled)?;
        return Ok(Exit::Done);
    }
    let entries: Vec<&Entry> = match &arguments.destination {
        Some(name) => vec![selection::entry(server, Some(name))?],
        None => server.entries.iter().collect(),
    };
    let mut told = Told {
        format: 1,
        server: &server.name,
        conflicts: Vec::new(),
    };
    for entry in entries {
        let found = conflicts(&selection::archive(&ports, server, entry)?).await;
        let found = found.map_err(|error| failed("cannot tell what collided", &error))?;
        let wanted = |found: &Conflict| arguments.file.is_none_or(|file| file == found.file);
        let found = found.into_iter().filter(wanted);
        let found = found.map(|conflict| Collided::new(&entry.destination, conflict));
        told.conflicts.extend(found);
    }
    session.output.result(&told, &told)?;
    Ok(Exit::Done)
}

fn failed(doing: &str, error: &resolve::Error) -> Error {
    Error::failed(doing.to_owned(), Failure::of(error.kind(), error))
}

async fn settle<'a>(
    ports: &Ports,
    server: &'a Server,
    entry: &'a Entry,
    (file, digest): (WalFile, &str),
) -> Result<Resolved<'a>, Error> {
    let archive = selection::archive(ports, server, entry)?;
    let settled = take(&archive, file, digest, &ports.cancel).await;
    let settled = settled.map_err(|error| {
        let doing = format!("cannot settle {file} in `{}`", entry.destination);
        let hint = format!("`barkeep wal resolve {}` tells what there is", server.name);
        failed(&doing, &error).hinted(hint)
    })?;
    let (now, aside) = match settled {
        Settled::AsItWas(now) => (now, Vec::new()),
        Settled::Moved { now, aside } => (now, aside),
    };
    Ok(Resolved {
        format: 1,
        server: &server.name,
        destination: &entry.destination,
        file: file.to_string(),
        now: now.to_string(),
        aside: aside.iter().map(ToString::to_string).collect(),
    })
}

#[derive(Serialize)]
struct Told<'a> {
    format: u32,
    server: &'a ServerName,
    conflicts: Vec<Collided<'a>>,
}

#[derive(Serialize)]
struct Collided<'a> {
    destination: &'a DestinationName,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    differs_from: Option<Lsn>,
    claims: Vec<Claim>,
}

#[derive(Serialize)]
struct Claim {
    place: Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    stored_at: Timestamp,
    key: String,
}

impl<'a> Collided<'a> {
    fn new(destination: &'a DestinationName, conflict: Conflict) -> Self {
        let claim = |claim: resolve::Claim| Claim {
            place: claim.place,
            digest: claim.digest,
            stored_at: claim.stored_at,
            key: claim.key.to_string(),
        };
        Self {
            destination,
            file: conflict.file.to_string(),
            differs_from: conflict.differs_from,
            claims: conflict.claims.into_iter().map(claim).collect(),
        }
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.conflicts.is_empty() {
            return writeln!(
                formatter,
                "nothing collided in the WAL archive of {}",
                self.server
            );
        }
        for conflict in &self.conflicts {
            conflict.fmt(formatter)?;
        }
        Ok(())
    }
}

impl fmt::Display for Collided<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} in {}", self.file, self.destination)?;
        match self.differs_from {
            Some(lsn) => writeln!(formatter, ": the same up to {lsn}, and then not")?,
            None => writeln!(formatter)?,
        }
        let mut table = Table::new(["  ", "CONTENT", "STORED", "OBJECT"]);
        for claim in &self.claims {
            let place = match claim.place {
                Place::Taken => "  in place",
                Place::Aside => "  put aside",
            };
            let digest = claim.digest.as_deref();
            table.row([
                place.to_owned(),
                digest
                    .map_or("unreadable", |digest| &digest[..DIGITS_SHOWN])
                    .to_owned(),
                claim.stored_at.to_string(),
                claim.key.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}

#[derive(Serialize)]
struct Resolved<'a> {
    format: u32,
    server: &'a ServerName,
    destination: &'a DestinationName,
    file: String,
    now: String,
    aside: Vec<String>,
}

impl fmt::Display for Resolved<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            destination,
            file,
            now,
            ..
        } = self;
        if self.aside.is_empty() {
            return writeln!(formatter, "{file} in {destination} is `{now}`, as it was");
        }
        writeln!(formatter, "{file} in {destination} is now `{now}`")?;
        for aside in &self.aside {
            writeln!(formatter, "what was there before is `{aside}`")?;
        }
        writeln!(
            formatter,
            "take a backup, since no recovery that began before goes past this: barkeep backup {server}"
        )
    }
}
