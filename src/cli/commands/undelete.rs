//! `undelete`: withdraw the mark of a backup that would be deleted, and keep the backup.
//!
//! Without a keep the next run would mark it again: the policy has not changed. So it becomes one with a reason, a name and perhaps an end,
//! set before the mark goes.

use std::fmt;

use serde::Serialize;

use super::keep::author;
use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection},
    execute,
    failure::{Failure, Kind},
    model::{
        backup::BackupId,
        catalog::Catalog,
        names::{DestinationName, ServerName},
        observed::{Knowledge, Stored},
        record::{KeepRecord, Mark},
    },
    observe::Depth,
};

pub(in crate::cli) async fn run(
    arguments: args::Undelete,
    session: &Session,
) -> Result<Exit, Error> {
    let ports = session.ports(None).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let entry = selection::entry(server, arguments.destination.as_ref())?;
    let observed = ports.observe(server, Depth::Backups).await;
    let catalog = selection::catalog(&observed, &entry.destination)?;
    let id = selection::backup(catalog, &arguments.backup)?.id.clone();
    let stored = observed.destinations.get(&entry.destination);
    let mark = mark(stored, &server.name, &id)?;
    let archive = selection::archive(&ports, server, entry)?;
    let record = KeepRecord {
        backup: id.clone(),
        target: arguments.target,
        reason: arguments.reason.unwrap_or_else(|| "undeleted".to_owned()),
        until: arguments.until,
        set_at: ports.clock.now(),
        by: author(),
    };
    let undeleted = execute::undelete(&archive, &record).await;
    undeleted.map_err(|error| {
        let failure = Failure::of(error.kind(), &error);
        Error::failed(format!("cannot undelete {id}"), failure)
    })?;
    let observed = ports.observe(server, Depth::Backups).await;
    still_whole(selection::catalog(&observed, &entry.destination)?, &id)?;
    let told = Undeleted {
        format: 1,
        server: &server.name,
        destination: &entry.destination,
        mark: &mark,
        keep: &record,
    };
    session.output.result(&told, &told)?;
    Ok(Exit::Done)
}

fn mark(stored: Option<&Stored>, server: &ServerName, id: &BackupId) -> Result<Mark, Error> {
    let doing = format!("cannot undelete {id}");
    match stored.map(|stored| &stored.marks) {
        Some(Knowledge::Unknown(failure)) => Err(Error::failed(doing, failure.clone())),
        Some(Knowledge::Known(marks)) if marks.contains_key(id) => Ok(marks[id].clone()),
        _ => {
            let unmarked = Failure::new(Kind::NotFound, "it is not marked");
            let hint = format!("`barkeep keep {server} {id} --target full` keeps what is not");
            Err(Error::failed(doing, unmarked).hinted(hint))
        }
    }
}

/// Whoever deletes looks for a keep just before, and may have looked just before this one was set.
fn still_whole(catalog: &Catalog, id: &BackupId) -> Result<(), Error> {
    let found = catalog.backup(id);
    if found.is_some_and(|backup| backup.missing_archive().is_none()) {
        return Ok(());
    }
    let late = Failure::new(Kind::Failed, "its deletion had begun already");
    Err(Error::failed(format!("cannot undelete {id}"), late))
}

#[derive(Serialize)]
struct Undeleted<'a> {
    format: u32,
    server: &'a ServerName,
    destination: &'a DestinationName,
    mark: &'a Mark,
    keep: &'a KeepRecord,
}

impl fmt::Display for Undeleted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            destination,
            mark,
            keep,
            ..
        } = self;
        let KeepRecord { backup, target, .. } = keep;
        write!(
            formatter,
            "{backup} in {destination}, marked {}, is not deleted; it is kept ({target})",
            mark.at
        )?;
        match keep.until {
            Some(until) => writeln!(formatter, " until {until}"),
            None => writeln!(formatter),
        }
    }
}
