//! `verify`: read all of a backup back.

use std::fmt;

use serde::Serialize;

use crate::{
    cli::{Session, args, complain, error::Error, exit::Exit, selection},
    execute::verify::{Verifier, verify},
    failure::Failure,
    model::{
        backup::{BackupId, BackupStatus},
        catalog::Catalog,
        desired::{Entry, Server},
        names::{DestinationName, ServerName},
        record::Verification,
        recovery,
    },
    observe::Depth,
    reconcile::Ports,
};

pub(in crate::cli) async fn run(arguments: args::Verify, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports_of(&arguments.server).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let entries = match &arguments.destination {
        Some(name) => vec![selection::entry(server, Some(name))?],
        None => server.entries.iter().collect(),
    };
    let observed = ports.observe(server, Depth::Catalog).await;
    let mut told = Told {
        format: 1,
        server: &server.name,
        verifications: Vec::new(),
    };
    let mut exit = Exit::Done;
    for entry in entries {
        let catalog = selection::catalog(&observed, &entry.destination);
        let ids = catalog.and_then(|catalog| {
            let ids = wanted(catalog, arguments.backup.as_deref())?;
            Ok((catalog, ids))
        });
        let (catalog, ids) = match ids {
            Ok(found) => found,
            Err(error) => {
                complain(&error);
                exit = exit.worst(error.exit());
                continue;
            }
        };
        for id in ids {
            match one(&ports, server, (entry, catalog), &id).await {
                Ok(verification) => {
                    if !verification.is_sound() {
                        exit = exit.worst(Exit::Verification);
                    }
                    told.verifications.push(Verified {
                        destination: &entry.destination,
                        verification,
                    });
                }
                Err(error) => {
                    complain(&error);
                    exit = exit.worst(error.exit());
                }
            }
            if ports.cancel.is_cancelled() {
                break;
            }
        }
    }
    session.output.result(&told, &told)?;
    Ok(exit)
}

/// The backup that is named, or all that are complete; also those whose record cannot be understood, which is a fault.
fn wanted(catalog: &Catalog, named: Option<&str>) -> Result<Vec<BackupId>, Error> {
    if let Some(text) = named {
        let found = recovery::resolve(catalog, text);
        return found.map(|id| vec![id]).map_err(|error| {
            Error::failed("cannot find the backup", Failure::of(error.kind(), &error))
        });
    }
    let complete = catalog.backups.iter();
    let complete = complete.filter(|backup| backup.status == BackupStatus::Done);
    let complete = complete.map(|backup| &backup.id);
    Ok(complete.chain(catalog.unreadable.keys()).cloned().collect())
}

async fn one(
    ports: &Ports,
    server: &Server,
    (entry, catalog): (&Entry, &Catalog),
    id: &BackupId,
) -> Result<Verification, Error> {
    let archive = ports.archives(server).remove(&entry.destination);
    let archive =
        archive.ok_or_else(|| Error::Usage("the destination is not configured".to_owned()))?;
    let archive =
        archive.map_err(|failure| Error::failed("cannot open the destination", failure))?;
    let verifier = Verifier {
        archive: &archive,
        catalog,
        zone: &entry.zone,
        clock: ports.clock,
        progress: ports.progress.clone(),
        cancel: &ports.cancel,
    };
    let verified = Box::pin(verify(&verifier, id)).await;
    verified.map_err(|error| {
        let doing = format!("cannot verify {id} in `{}`", entry.destination);
        Error::failed(doing, Failure::of(error.kind(), &error))
    })
}

#[derive(Serialize)]
struct Told<'a> {
    format: u32,
    server: &'a ServerName,
    verifications: Vec<Verified<'a>>,
}

#[derive(Serialize)]
struct Verified<'a> {
    destination: &'a DestinationName,
    #[serde(flatten)]
    verification: Verification,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.verifications.is_empty() {
            return writeln!(formatter, "nothing was verified");
        }
        for one in &self.verifications {
            let Verified {
                destination,
                verification,
            } = one;
            writeln!(
                formatter,
                "{} -> {destination}: {verification}",
                self.server
            )?;
            for fault in verification.faults.iter().skip(1) {
                writeln!(formatter, "  {fault}")?;
            }
        }
        Ok(())
    }
}
