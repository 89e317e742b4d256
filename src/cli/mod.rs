//! The command line: parse, call, render. Nothing is decided here.
//!
//! [`args`] is what can be typed, one file in `commands` is one command, `output` alone writes, [`mod@reference`] is the documentation.
//! Data goes to standard output, talk to standard error. How the program ends is one table, [`exit`]; `wal-archive` and
//! `wal-restore` speak PostgreSQL's codes instead, because PostgreSQL is who asks.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    failure::chain,
    model::{
        desired::Desired,
        names::{DestinationName, ServerName},
        progress::{Progress, Unwatched},
        time::Timestamp,
    },
    reconcile::Ports,
};

pub mod args;
pub mod barman;
pub mod exit;
pub mod reference;

mod bars;
mod calls;
mod commands;
mod error;
mod import;
mod log;
mod output;
mod selection;
mod signals;
mod standing;
mod table;
mod traces;

use args::{Arguments, Command};
use commands::configuration::Warnings;
use error::Error;
use exit::Exit;
use output::Output;

/// What every command is given.
struct Session {
    config: PathBuf,
    output: Output,
    verbosity: log::Verbosity,
    warnings: Warnings,
    cancel: CancellationToken,
}

impl Session {
    /// Loads the configuration and opens its destinations. `now` fixes the clock.
    async fn ports(&self, now: Option<Timestamp>) -> Result<Ports, Error> {
        let desired = commands::configuration::load(&self.config, self.warnings)?;
        let clock = now.map_or(Clock::System, Clock::Fixed);
        Ok(self.open(desired, clock).await)
    }

    /// Loads the configuration for one server: without the destinations that only others have.
    fn desired_of(&self, server: &ServerName) -> Result<Desired, Error> {
        let mut desired = commands::configuration::load(&self.config, self.warnings)?;
        if let Some(server) = desired.servers.get(server) {
            let used = |name: &DestinationName| server.entry(name).is_some();
            let destinations = desired.destinations.values();
            let used_too = destinations.filter(|destination| used(&destination.name));
            let controls: BTreeSet<_> = used_too
                .filter_map(|destination| destination.control.clone())
                .collect();
            let keep = |name: &DestinationName| used(name) || controls.contains(name);
            desired.destinations.retain(|name, _| keep(name));
        }
        Ok(desired)
    }

    /// The same, opened.
    async fn ports_of(&self, server: &ServerName) -> Result<Ports, Error> {
        Ok(self.open(self.desired_of(server)?, Clock::System).await)
    }

    /// Opens the destinations.
    async fn open(&self, desired: Desired, clock: Clock) -> Ports {
        Ports::open(desired, clock, self.cancel.clone(), self.progress()).await
    }

    /// Bars on a terminal, nothing elsewhere.
    fn progress(&self) -> Arc<dyn Progress> {
        if output::is_watched() && self.verbosity.is_normal() {
            Arc::new(bars::Bars::new())
        } else {
            Arc::new(Unwatched)
        }
    }
}

/// Tells an error with its causes and, where there is one, what to do next.
fn complain(error: &Error) {
    output::talk(&format!("error: {}", chain(error)));
    if let Some(hint) = error.hint() {
        output::talk(&format!("hint: {hint}"));
    }
}

/// Runs the program with these arguments.
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    if let Some(call) = barman::Call::of(&arguments) {
        return call.run();
    }
    match Arguments::try_parse_from(arguments) {
        Ok(arguments) => run(arguments),
        Err(error) => usage(&error),
    }
}

/// Help and version are data and a success; anything else is a usage error, and whoever types nothing at all is helped.
fn usage(error: &clap::Error) -> ExitCode {
    let lost = error.kind() == ErrorKind::MissingSubcommand;
    let text = if lost {
        Arguments::command().render_help()
    } else {
        error.render()
    };
    if error.use_stderr() {
        let text = if output::wants_colour() {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        output::talk(&text.trim_end());
        return Exit::Usage.into();
    }
    let written = output::data(&text.to_string());
    written.map_or(Exit::Failed, |()| Exit::Done).into()
}

fn run(arguments: Arguments) -> ExitCode {
    let verbosity = log::Verbosity::new(arguments.global.verbose, arguments.global.quiet);
    let traces = log::start(verbosity, arguments.global.log_format);
    let warnings = match arguments.command {
        Command::WalArchive(_) | Command::WalRestore(_) => Warnings::Untold,
        _ => Warnings::Told,
    };
    let session = Session {
        warnings,
        config: arguments.global.config,
        output: Output::new(arguments.global.format),
        verbosity,
        cancel: CancellationToken::new(),
    };
    // PostgreSQL's own commands are one short process for one file: two threads less to start.
    let runtime = match arguments.command {
        Command::WalArchive(_) | Command::WalRestore(_) => {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        }
        _ => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&Error::Usage(format!("cannot start the runtime: {error}")));
            return Exit::Failed.into();
        }
    };
    let ended = runtime.block_on(signals::watched(
        &session.cancel,
        dispatch(arguments.command, &session),
    ));
    // Whoever was told twice to stop does not wait for threads that still read or compress.
    runtime.shutdown_background();
    traces.end();
    ended
}

async fn dispatch(command: Command, session: &Session) -> ExitCode {
    let result = match command {
        Command::WalArchive(arguments) => return commands::wal::archive(arguments, session).await,
        Command::WalRestore(arguments) => return commands::wal::restore(arguments, session).await,
        Command::Validate(arguments) => commands::configuration::validate(&arguments, session),
        Command::ShowConfig(arguments) => commands::configuration::show(&arguments, session),
        Command::Generate(arguments) => commands::generate::run(arguments),
        Command::Plan(arguments) => commands::plan::run(arguments, session).await,
        Command::ShowPlan(arguments) => commands::plan::show(&arguments, session),
        Command::Reconcile(arguments) => commands::reconcile::run(arguments, session).await,
        Command::Status(arguments) => commands::status::run(arguments, session).await,
        Command::Explain(arguments) => commands::explain::run(arguments, session).await,
        Command::Recoverable(arguments) => commands::recoverable::run(arguments, session).await,
        Command::List(arguments) => commands::catalog::list(arguments, session).await,
        Command::Show(arguments) => commands::catalog::show(arguments, session).await,
        Command::Backup(arguments) => commands::backup::run(arguments, session).await,
        Command::Keep(arguments) => commands::keep::run(arguments, session).await,
        Command::Delete(arguments) => Box::pin(commands::delete::run(arguments, session)).await,
        Command::Adopt(arguments) => commands::adopt::run(arguments, session).await,
        Command::Wal(arguments) => match arguments.what {
            args::WalCommand::Resolve(arguments) => {
                commands::wal_resolve::run(arguments, session).await
            }
        },
        Command::Verify(arguments) => commands::verify::run(arguments, session).await,
        Command::Undelete(arguments) => commands::undelete::run(arguments, session).await,
        Command::Abandon(arguments) => commands::abandon::run(arguments, session).await,
        Command::Restore(arguments) => Box::pin(commands::restore::run(*arguments, session)).await,
        Command::Slot(arguments) => commands::slot::run(arguments, session).await,
        Command::Unlock(arguments) => commands::unlock::run(arguments, session).await,
        Command::Check(arguments) => commands::check::run(arguments, session).await,
        Command::Init(arguments) => commands::init::run(*arguments, session).await,
        Command::Import(arguments) => commands::import::run(&arguments, session),
        Command::Mounts(arguments) => commands::mounts::run(&arguments, session),
        Command::Permissions(arguments) => commands::permissions::run(&arguments, session),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            complain(&error);
            error.exit().into()
        }
    }
}
