//! `keep`: set or release the keep of one backup.

use std::fmt;

use serde::Serialize;

use crate::{
    actor,
    cli::{Session, args, error::Error, exit::Exit, selection},
    failure::Failure,
    model::{
        backup::BackupId,
        names::{DestinationName, ServerName},
        record::{KeepRecord, SetBy},
        semantics::SAFE,
    },
    observe::Depth,
};

pub(in crate::cli) async fn run(arguments: args::Keep, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(None).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let entry = selection::entry(server, arguments.destination.as_ref())?;
    let observed = ports.observe(server, Depth::Backups).await;
    let catalog = selection::catalog(&observed, &entry.destination)?;
    let id = selection::backup(catalog, &arguments.backup)?.id.clone();
    let archive = selection::archive(&ports, server, entry)?;
    let told = |keep| Kept {
        format: 1,
        server: &server.name,
        destination: &entry.destination,
        backup: &id,
        keep,
    };
    let Some(target) = arguments.target else {
        let released = crate::execute::release_keep(&archive, &id, SAFE.records).await;
        released.map_err(|error| {
            let failure = Failure::of(error.kind(), &error);
            Error::failed(format!("cannot release {id}"), failure)
        })?;
        session.output.result(&told(None), &told(None))?;
        return Ok(Exit::Done);
    };
    let record = KeepRecord {
        backup: id.clone(),
        target,
        reason: arguments.reason.unwrap_or_else(|| "set by hand".to_owned()),
        until: arguments.until,
        set_at: ports.clock.now(),
        by: author(),
    };
    let kept = crate::execute::set_keep(&archive, &record, SAFE.records).await;
    kept.map_err(|error| {
        let failure = Failure::of(error.kind(), &error);
        Error::failed(format!("cannot keep {id}"), failure)
    })?;
    session
        .output
        .result(&told(Some(&record)), &told(Some(&record)))?;
    Ok(Exit::Done)
}

/// Whoever runs the program, for the record.
pub(super) fn author() -> SetBy {
    let user = whoami::username().unwrap_or_else(|_| "somebody".to_owned());
    SetBy::Person(format!("{user}@{}", actor::current().host))
}

#[derive(Serialize)]
struct Kept<'a> {
    format: u32,
    server: &'a ServerName,
    destination: &'a DestinationName,
    backup: &'a BackupId,
    keep: Option<&'a KeepRecord>,
}

impl fmt::Display for Kept<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            destination,
            backup,
            ..
        } = self;
        match self.keep {
            None => writeln!(formatter, "{backup} in {destination} is not kept any more"),
            Some(KeepRecord {
                target,
                until: None,
                ..
            }) => {
                writeln!(formatter, "{backup} in {destination} is kept ({target})")
            }
            Some(KeepRecord {
                target,
                until: Some(until),
                ..
            }) => {
                writeln!(
                    formatter,
                    "{backup} in {destination} is kept ({target}) until {until}"
                )
            }
        }
    }
}
