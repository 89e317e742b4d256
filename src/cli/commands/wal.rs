//! `wal-archive` and `wal-restore`: what `archive_command` and `restore_command` call.
//!
//! They act at once, without a plan, because PostgreSQL asked. Their exit codes are PostgreSQL's: `archive_command` retries whatever is
//! not 0; `restore_command` takes 1 for "there is no such file" and stops recovery at anything above 125.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use crate::{
    cli::{Session, args, calls, complain, error::Error, output, selection},
    clock::Clock,
    execute::archive_wal::{self, ArchiveOptions, Places},
    failure::{Failure, Kind, chain},
    model::{
        compression::{Codec, Level},
        desired::{Desired, Server, WalOptions},
        names::{DestinationName, ServerName},
    },
    reconcile::Ports,
    recover::wal::{
        self as restore_wal, Partial, RestoreOptions, RestoreRequest, RestoreSource, StandbySignal,
    },
    spool::Spool,
    store::Archive,
};

/// How long a recovery waits for a destination that does not answer.
const RETRY_TIME: Duration = Duration::from_mins(1);

pub(in crate::cli) async fn archive(arguments: args::WalArchive, session: &Session) -> ExitCode {
    match try_archive(&arguments, session).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(1)
        }
    }
}

async fn try_archive(arguments: &args::WalArchive, session: &Session) -> Result<(), Error> {
    let desired = session.desired_of(&arguments.server)?;
    let server = selection::server(&desired, &arguments.server)?;
    // PostgreSQL gives paths relative to its data directory, which is where it runs its commands.
    let path = calls::absolute(&arguments.path)?;
    let spool = Spool::new(&wal_options(server)?.spool);
    // Most calls of an archiver that catches up end here: no destination is opened for them.
    match archive_wal::acknowledges(&path, &required_places(&desired, server), &spool).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(warning) => warn(&warning),
    }
    let server = server.name.clone();
    let ports = session.open(desired, Clock::System).await;
    store(&ports, &server, &path, spool).await
}

fn required_places(desired: &Desired, server: &Server) -> Places {
    let required = desired
        .destinations
        .iter()
        .filter(|(name, _)| server.archives_to(name));
    let located = required.map(|(name, destination)| (name, &destination.location));
    Places::new(server.name.as_str(), located)
}

async fn store(ports: &Ports, name: &ServerName, path: &Path, spool: Spool) -> Result<(), Error> {
    let server = selection::server(&ports.desired, name)?;
    let wal = wal_options(server)?;
    let codec = Codec::for_wal(wal.compression, wal.level.map(Level::Exact));
    let codec = codec.map_err(|error| Error::Usage(chain(&error)))?;
    let mut options = ArchiveOptions::new(codec, ports.clock.now());
    options.spool = Some(spool);
    let targets = ports.archive_targets(server);
    let targets = targets.map_err(unopened)?;
    let archived = archive_wal::archive_wal(path, &targets, &options).await;
    let archived = archived.map_err(|error| {
        let doing = format!("server `{name}`");
        let hint = archive_hint(&error);
        let error = Error::failed(doing, Failure::of(error.kind(), &error));
        match hint {
            Some(hint) => error.hinted(hint),
            None => error,
        }
    })?;
    archived.warnings.iter().for_each(warn);
    Ok(())
}

fn warn(warning: &archive_wal::Warning) {
    output::talk(&format!("warning: {warning}"));
}

/// What to do where PostgreSQL's next try would only fail again.
fn archive_hint(error: &archive_wal::Error) -> Option<&'static str> {
    match error {
        archive_wal::Error::Foreign { .. } => {
            Some("give this server a `name` or a destination of its own")
        }
        archive_wal::Error::Conflict { .. } => Some(
            "two clusters may write under one name, or one was restored and its old WAL is still \
             there; `barkeep wal resolve` tells what there is, docs/wal.md what to do",
        ),
        archive_wal::Error::Header { .. } => {
            Some("the file is damaged or of another cluster; PostgreSQL keeps it and asks again")
        }
        _ => None,
    }
}

pub(in crate::cli) async fn restore(arguments: args::WalRestore, session: &Session) -> ExitCode {
    match try_restore(&arguments, session).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error);
            // The configuration is at fault, not the archive: recovery must not take it for the archive's end.
            ExitCode::from(255)
        }
    }
}

async fn try_restore(arguments: &args::WalRestore, session: &Session) -> Result<u8, Error> {
    let ports = session.ports_of(&arguments.server).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let file = arguments.name.parse();
    let file = file.map_err(|error: crate::model::wal::Error| Error::Usage(error.to_string()))?;
    let wal = wal_options(server)?;
    let mut options = RestoreOptions::new(wal.compression);
    options.partial = if arguments.no_partial {
        Partial::Refuse
    } else {
        Partial::DeliverNewest
    };
    let receive = server.receive.as_ref();
    options.received = receive.and_then(|receive| receive.spool.as_ref().map(Spool::new));
    options.read_ahead = wal.read_ahead;
    options.spool = Some(Spool::new(&wal.spool));
    options.retry_time = RETRY_TIME;
    if let Some(name) = &arguments.destination {
        selection::entry(server, Some(name))?;
    }
    let asked = |name: &DestinationName| {
        let only = arguments.destination.as_ref();
        only.is_none_or(|only| only == name)
    };
    let sources: Vec<_> = archives(&ports, server, asked)?
        .into_iter()
        .map(|(destination, archive)| RestoreSource {
            destination,
            archive,
        })
        .collect();
    let to = calls::absolute(&arguments.path)?;
    let data_directory = data_directory(&to);
    let standby = data_directory
        .as_deref()
        .map_or(StandbySignal::Missing, StandbySignal::of);
    let request = RestoreRequest {
        file,
        to,
        data_directory,
    };
    let outcome = restore_wal::restore_wal(&request, &sources, &options).await;
    match &outcome {
        Ok(restore_wal::Restored::Delivered(delivered)) => {
            for warning in &delivered.warnings {
                output::talk(&format!("warning: {warning}"));
            }
        }
        Ok(restore_wal::Restored::Absent) => {}
        Err(error) => output::talk(&format!("error: {}", chain(error))),
    }
    Ok(restore_wal::exit_code(&outcome, standby))
}

/// The data directory that a file is to go to: that of `pg_wal`, else the one that this runs in.
pub(in crate::cli) fn data_directory(to: &Path) -> Option<PathBuf> {
    let is_cluster = |path: &PathBuf| path.join("PG_VERSION").exists();
    let above = to.parent().and_then(Path::parent).map(Path::to_owned);
    above
        .filter(is_cluster)
        .or_else(|| env::current_dir().ok().filter(is_cluster))
}

/// The settings of a server's WAL; those of its first destination where several differ.
fn wal_options(server: &Server) -> Result<&WalOptions, Error> {
    let first = server.entries.first().map(|entry| &entry.wal);
    first.ok_or_else(|| Error::Usage(format!("`{}` has no destination", server.name)))
}

fn archives(
    ports: &Ports,
    server: &Server,
    wanted: impl Fn(&DestinationName) -> bool,
) -> Result<BTreeMap<DestinationName, Archive>, Error> {
    let each = ports
        .archives(server)
        .into_iter()
        .filter(|(name, _)| wanted(name));
    let opened = each.map(|(name, archive)| match archive {
        Ok(archive) => Ok((name, archive)),
        Err(failure) => Err(unopened(failure)),
    });
    opened.collect()
}

fn unopened(failure: Failure) -> Error {
    let failure = Failure::new(Kind::Unreachable, failure.message);
    Error::failed("cannot open a destination", failure)
}
