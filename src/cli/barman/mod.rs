//! The nine `barman-cloud-*` commands under their own names.
//!
//! Called as `barman-cloud-X`, or as `barkeep barman-cloud-X`, the program takes Barman 3.19's command lines, prints what Barman prints and
//! ends with its codes; `docs/quirks.md` lists every difference. [`mod@argparse`] reads, `options` says what can be typed, and each command is
//! a file that makes a plan of its request and has it carried out like any other. What differs in judgement is one value,
//! [`BARMAN`](crate::model::semantics::BARMAN).

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::ExitCode,
};

use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{output, signals};
use crate::model::zone::Zone;

pub mod argparse;
pub mod kinds;

mod arguments;
mod backup;
mod backup_delete;
mod backup_keep;
mod backup_list;
mod backup_show;
mod catalog;
mod check_wal_archive;
mod connection;
mod dsn;
mod error;
mod help;
mod hook;
mod json;
mod log;
mod options;
mod record;
mod restore;
mod show;
mod snapshots;
pub(super) mod typed;
mod wal_archive;
mod wal_restore;

use argparse::{Grammar, Stop, Values};
use arguments::{Connection, Taken};
use error::Error;

/// The version that the commands behave as, which is the one that they tell.
pub const VERSION: &str = "3.19.1";

/// One of the nine commands, with what was typed.
trait Command: From<Taken> {
    /// What it calls an error that it did not expect.
    const EXCEPTION: &'static str;

    /// PostgreSQL's own commands are one short process for one file: fewer threads to start.
    const THREADS: Threads = Threads::Many;

    fn connection(&self) -> &Connection;

    /// Does what was typed.
    async fn run(self, session: &Session) -> Result<(), Error>;
}

/// On how many threads a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threads {
    One,
    Many,
}

/// What every command is given.
struct Session {
    /// Asks for the next safe point.
    cancel: CancellationToken,
}

type Start = fn(Values) -> ExitCode;

/// The nine, with how each is typed and started.
const COMMANDS: [(&Grammar, Start); 9] = [
    (&options::BACKUP, start::<backup::Backup>),
    (
        &options::BACKUP_DELETE,
        start::<backup_delete::BackupDelete>,
    ),
    (&options::BACKUP_KEEP, start::<backup_keep::BackupKeep>),
    (&options::BACKUP_LIST, start::<backup_list::BackupList>),
    (&options::BACKUP_SHOW, start::<backup_show::BackupShow>),
    (
        &options::CHECK_WAL_ARCHIVE,
        start::<check_wal_archive::CheckWalArchive>,
    ),
    (&options::RESTORE, start::<restore::Restore>),
    (&options::WAL_ARCHIVE, start::<wal_archive::WalArchive>),
    (&options::WAL_RESTORE, start::<wal_restore::WalRestore>),
];

/// How each of the nine is typed.
pub fn grammars() -> impl Iterator<Item = &'static Grammar> {
    COMMANDS.into_iter().map(|(grammar, _)| grammar)
}

/// One of the nine, and the words behind its name.
pub(super) struct Call {
    grammar: &'static Grammar,
    start: Start,
    words: Vec<OsString>,
}

impl Call {
    /// Whether a command line, the program's name included, calls one of the nine.
    pub(super) fn of(arguments: &[OsString]) -> Option<Self> {
        let (program, rest) = arguments.split_first()?;
        let call = |name: &OsStr, words: &[OsString]| {
            let mut commands = COMMANDS.into_iter();
            let (grammar, start) = commands.find(|(grammar, _)| name == grammar.program)?;
            let words = words.to_vec();
            Some(Self {
                grammar,
                start,
                words,
            })
        };
        let by_name = Path::new(program).file_name();
        by_name.and_then(|name| call(name, rest)).or_else(|| {
            let (first, rest) = rest.split_first()?;
            call(first, rest)
        })
    }

    /// Runs it.
    pub(super) fn run(self) -> ExitCode {
        let words = texts(self.words);
        match words.and_then(|words| argparse::parse(self.grammar, &words)) {
            Ok(values) => (self.start)(values),
            Err(stop) => told(self.grammar, &stop),
        }
    }
}

fn texts(words: Vec<OsString>) -> Result<Vec<String>, Stop> {
    let text = |word: OsString| {
        let complaint = |word: OsString| Stop::Usage(format!("no UTF-8: {}", word.display()));
        word.into_string().map_err(complaint)
    };
    words.into_iter().map(text).collect()
}

/// Tells why nothing was run.
fn told(grammar: &'static Grammar, stop: &Stop) -> ExitCode {
    let program = grammar.program;
    let data = match stop {
        Stop::Version => format!("{program} {VERSION}\n"),
        Stop::Help => help::Help(grammar).to_string(),
        Stop::Usage(complaint) => {
            let usage = help::Usage(grammar);
            output::talk(&format!("{usage}\n{program}: error: {complaint}"));
            return ExitCode::from(error::USAGE);
        }
        Stop::Bare(complaint) => {
            output::talk(complaint);
            return ExitCode::from(error::USAGE);
        }
    };
    match output::data(&data) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn start<C: Command>(values: Values) -> ExitCode {
    let command = C::from(Taken(values));
    log::start(command.connection().verbosity);
    let mut runtime = match C::THREADS {
        Threads::One => tokio::runtime::Builder::new_current_thread(),
        Threads::Many => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended::<C>(Err(error.into())),
    };
    let session = Session {
        cancel: CancellationToken::new(),
    };
    // Much is held across its awaits; on the heap it costs nothing.
    let work = Box::pin(command.run(&session));
    let code = runtime.block_on(signals::watched(&session.cancel, async {
        ended::<C>(work.await)
    }));
    // Whoever was told twice to stop does not wait for threads that still read or compress.
    runtime.shutdown_background();
    code
}

fn ended<C: Command>(result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    match &error {
        Error::General(message) | Error::Hook(message) => error!("{}: {message}", C::EXCEPTION),
        _ => error!("{error}"),
    }
    error.code()
}

/// The zone of this host, in whose clock Barman logs, names backups and counts windows.
fn zone() -> Zone {
    let zone = jiff::tz::TimeZone::system();
    let name = zone.iana_name().unwrap_or("local").to_owned();
    Zone::new(name, zone)
}
