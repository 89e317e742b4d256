//! The command line: what can be typed. Help texts, man pages and completions all come from here.

mod begin;
mod disks;
mod restore;
mod wal;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::{
    model::{
        backup::KeepTarget,
        names::{DestinationName, ServerName},
        time::Timestamp,
        wal::Lsn,
    },
    store::permission::Role,
};

pub use self::{
    begin::{Import, Init},
    disks::DiskArguments,
    restore::{RecoveryArguments, Restore, TargetAction},
    wal::{Wal, WalArchive, WalCommand, WalResolve, WalRestore},
};

/// Where the configuration is if nobody says.
pub const DEFAULT_CONFIG: &str = "/etc/barkeep/barkeep.toml";

/// Declarative PostgreSQL backups in Barman's cloud catalog: plan, reconcile, restore.
#[derive(Debug, Parser)]
#[command(
    name = "barkeep",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Documentation: docs/ beside the program, beginning with docs/commands.md"
)]
pub struct Arguments {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Read the configuration from PATH
    #[arg(
        long,
        global = true,
        env = "BARKEEP_CONFIG",
        value_name = "PATH",
        default_value = DEFAULT_CONFIG
    )]
    pub config: PathBuf,
    /// Print results as text or as JSON
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Write log lines on stderr as text or as JSON
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,
    /// Say more on stderr; twice says everything
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say less on stderr; twice says nothing
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a configuration for a server and a destination, from what both tell
    ///
    /// Asks the server what it is and how it archives, looks whether its files can be read here, which decides how backups are made, and
    /// tries out the destination as `check --probe` does. What was found stands in the configuration as comments; what is to be done next, with
    /// every command, is said on stderr. It is printed, or written into a new file: none is overwritten. With `--output` beside a configuration
    /// that is there already (`--config`), the file becomes a part of it; with `--as` it will, once somebody who may puts it there; otherwise
    /// it stands alone. Ends with 3 if the configuration would not be valid, with 4 if the destination belongs to another cluster, and with 8
    /// if the server or the destination cannot be reached; nothing is written then.
    Init(Box<Init>),
    /// Write a configuration from what Barman, cron and CloudNativePG are told
    ///
    /// Reads Barman's files with the hook scripts in them, the lines of crontabs that call Barman, and the objects of CloudNativePG. Every
    /// server whose backups are in a cloud is written down with `mode = "observe"`, so that nothing is done before somebody has seen the plan.
    /// What has no equivalent, and what is not needed, is listed on stderr, each with its file and line; the former stands below the
    /// configuration, too. Passwords are not taken over. Contacts nothing. Ends with 0 if everything has an equivalent, with 5 if something
    /// has none, and with 3 if what was read cannot be a valid configuration, which is written all the same, to be mended.
    Import(Import),
    /// Check the configuration, without contacting anything
    ///
    /// Reads the file, what it includes, and the time zones that it names; no secret. All errors and warnings are shown at once, each
    /// with its place. Ends with 3 if there is an error.
    Validate(Validate),
    /// Show what reconcile would do, and why; changes nothing
    ///
    /// Each line begins with a sign: `+` adds, `~` keeps or releases, `-` marks or deletes, `!` is blocked or stalled, `.` waits. Ends with 0 when
    /// the plan is made, with 8 where a catalog, a server or the cloud that has its disks cannot be reached: the rest is planned all the same.
    Plan(Plan),
    /// Show a plan that was saved with `plan --out`
    ///
    /// Contacts nothing. Ends with 10 if the file was changed since it was saved.
    ShowPlan(ShowPlan),
    /// Make true what the configuration says
    ///
    /// Observes, plans, has a guard check the plan, executes it and looks again. With `--once` until nothing is left to do: backups that it
    /// starts are waited for, what fails is left to the next run, and one line at the end says what was done and what is left. Without, it
    /// is the watch mode: it goes on for ever, looks at each server when something is due there and at least once per `check_every`, takes
    /// up a changed configuration by itself or on SIGHUP, and tells how things stand at `[service] listen`. Both are safe to run at once,
    /// several times, and to kill: leases see to it that one acts at a time.
    Reconcile(Reconcile),
    /// Show how each server stands
    ///
    /// One line for each server and destination, and below it whatever is not as it should be. Ends with 6 if an objective is missed: WAL
    /// that lags or is missing, a damaged backup.
    Status(Status),
    /// Show every rule and reference that holds one backup
    ///
    /// In each destination that has it: its status, the verdict of the retention with all its reasons, who keeps it, what builds on it and
    /// what is planned for it.
    Explain(Explain),
    /// Say whether a point in time can be recovered, from which backup, and if not, what lacks
    ///
    /// Looks at the catalogs only: the server may be gone. Without `--at` and `--lsn`, everything that can be recovered is listed. Where an
    /// interval ends is known as a WAL position; as an instant, only when its last segment was stored. Ends with 0 if the point can be
    /// recovered from some destination, with 6 if from none, and with 8 if none has it and one of them could not be read.
    Recoverable(Recoverable),
    /// List backups
    ///
    /// Those that barkeep made and those that Barman made. The servers themselves are not asked.
    List(List),
    /// Show one backup
    Show(Show),
    /// Take a backup now, whatever the schedule says
    ///
    /// It counts for the schedule like any other. Ends with 9 if data pages were damaged when they were read.
    Backup(Backup),
    /// Set or release the keep of a backup
    ///
    /// A kept backup stays whatever the retention says: `full` with all WAL since, so that every later instant can be reached from it, or
    /// `standalone` with only the WAL that makes it consistent. A keep with `--until` is released when that has passed; any other by
    /// nobody but a person.
    Keep(Keep),
    /// Delete one backup by name
    ///
    /// At once: `deletes.grace` is for what a policy lets go, and whoever names a backup means it; `--dry-run` shows what goes. Ends with 4
    /// for a backup that is kept or needed by another, and if fewer good ones than `minimum_redundancy` would be left. Its WAL goes with
    /// the next `reconcile`, if nothing else needs it.
    Delete(Delete),
    /// Read all of a backup back: every byte of its archives and of its WAL
    ///
    /// Archives are decompressed and walked through to their end, and compared with what was noted when they were sent, with the checksums
    /// that the store tells, and with the server's manifest where that is kept. WAL from the backup's beginning to its end must be readable and
    /// of its cluster. What is found is written down below `SERVER/barkeep/evidence/`: a backup with faults counts for nothing until another
    /// verification finds none. Ends with 9 if there are any. `verify = { every = "7d" }` has `reconcile` do this.
    Verify(Verify),
    /// Take up what is there already
    ///
    /// A prefix that holds backups which no run of barkeep has seen is only observed. This shows what the policy would keep and delete of
    /// them, and changes nothing before it is accepted: on a terminal by a yes, elsewhere with `--approve` and the digest that was shown. The
    /// same accepts that backups are gone which no run has deleted. Ends with 10 if the digest does not hold any more.
    Adopt(Adopt),
    /// Keep a backup that is marked to be deleted
    ///
    /// What a policy lets go is marked first, and deleted when `deletes.grace` has passed. This keeps it, with a reason and the name of
    /// whoever asked, and withdraws the mark: without a keep the next run would mark it again. `barkeep keep --release` gives it back to
    /// the policy.
    Undelete(Undelete),
    /// Declare an unfinished backup failed, because it is dead
    ///
    /// What a dead attempt of barkeep's own left is settled by `reconcile`; what another program began is never touched, except by this.
    /// What it stored stays, and goes with other failed backups. Ends with 4 for a backup that may be alive: one of barkeep's whose process
    /// was heard of in the last ten minutes, or another program's that was begun less than 24 hours ago.
    Abandon(Abandon),
    /// Restore a backup into a directory
    ///
    /// The settings for recovery are written, so that PostgreSQL can be started right away. Archiving is off in the restored cluster unless
    /// asked otherwise. Without a target, recovery goes on to the end of the archive.
    Restore(Box<Restore>),
    /// Archive one WAL file: for `archive_command`
    ///
    /// Ends with 0 when the file is durable in every destination of the server, also if it was there before with the same content;
    /// otherwise with 1, and PostgreSQL asks again.
    WalArchive(WalArchive),
    /// Fetch one WAL file: for `restore_command`
    ///
    /// Ends with 0 when the file is there, and with 1 if every destination has proved that it lacks it, which ends a recovery. If that
    /// cannot be told, it ends with 255 after a minute of trying, which stops a recovery instead of ending it too early; or with 1 on a
    /// standby, which streams meanwhile and asks again.
    WalRestore(WalRestore),
    /// Look after the WAL archive
    Wal(Wal),
    /// Check that servers and destinations can be reached and used
    ///
    /// Says for each what was looked at, what was found, and what mends it. Nothing is written, unless `--probe` asks for it.
    Check(Check),
    /// Print the permissions that a destination's cloud must grant
    ///
    /// One document for each destination and role, as the cloud's own tools read it: an IAM policy for S3, a custom role for Azure and
    /// Google Cloud. It holds only what is really called. Contacts nothing.
    Permissions(Permissions),
    /// Show the disks of this host, and where they are mounted
    ///
    /// Each disk with what a cloud knows it by, whatever the kernel has on it, and every file system of it; each path with the file system
    /// and the disks that hold it, behind all links. `--format json` is what `mounts_command` needs where barkeep runs elsewhere and takes
    /// snapshots of this host's disks. It needs no configuration, contacts nothing, and must be run by a user who can reach the paths.
    Mounts(Mounts),
    /// Take leases away from whoever holds them
    ///
    /// One process at a time takes a backup of a server in a destination, and one deletes there: it holds a lease, which expires ten minutes
    /// after its last sign of life. This frees both at once. Ends with 4 for one whose process still runs on this machine.
    Unlock(Unlock),
    /// Show the replication slot through which a server's WAL is received, or drop it
    ///
    /// The watch mode makes it. Nothing but this drops it: what it holds is WAL that is nowhere else. Ends with 4 for one that is in use.
    Slot(Slot),
    /// Print the configuration as it is understood
    ///
    /// With all layers merged: no includes, policies or defaults. What is printed is a configuration itself.
    ShowConfig(ShowConfig),
    /// Print man pages, completions or the JSON Schema
    Generate(Generate),
}

/// Which servers.
#[derive(Clone, Debug, Default, Args)]
pub struct Select {
    /// Only these servers; all if none is named
    #[arg(value_name = "SERVER")]
    pub servers: Vec<ServerName>,
    /// Only servers with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub select: Vec<(String, String)>,
    /// Take this instant as the present, such as 2026-11-20T22:40:11Z
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub now: Option<Timestamp>,
}

/// `validate`
#[derive(Debug, Args)]
pub struct Validate {
    /// Check the STAGED file as if it lay at PATH
    #[arg(long = "as", value_name = "PATH", requires = "staged")]
    pub place: Option<PathBuf>,
    /// The staged file
    #[arg(value_name = "STAGED", requires = "place")]
    pub staged: Option<PathBuf>,
}

/// `plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// Which servers.
    #[command(flatten)]
    pub select: Select,
    /// Save the plan, to be applied with `reconcile --plan`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Exit with 2 if there is something to do
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// `show-plan`
#[derive(Debug, Args)]
pub struct ShowPlan {
    /// The saved plan
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `reconcile`
#[derive(Debug, Args)]
// What changes something has the clock of now.
#[command(mut_arg("now", |now| now.hide(true)))]
pub struct Reconcile {
    /// Which servers.
    #[command(flatten)]
    pub select: Select,
    /// Converge once and exit, waiting for the backups that it starts; else watch for ever
    #[arg(long)]
    pub once: bool,
    /// Apply exactly this saved plan, or exit with 10 if the catalog has changed
    #[arg(long, value_name = "FILE", requires = "once")]
    pub plan: Option<PathBuf>,
    /// Apply exactly the plan with this digest, beyond the budget and although the policy was shortened, or exit with 10 if there is none;
    /// may be repeated
    #[arg(
        long,
        value_name = "DIGEST",
        requires = "once",
        conflicts_with = "plan"
    )]
    pub approve: Vec<String>,
}

/// `status`
#[derive(Debug, Args)]
pub struct Status {
    /// Which servers.
    #[command(flatten)]
    pub select: Select,
    /// Print the status page, a file of HTML that needs nothing else
    #[arg(long)]
    pub html: bool,
}

/// `mounts`
#[derive(Debug, Args)]
pub struct Mounts {
    /// Also tell what holds these paths
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// `explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// The server
    pub server: ServerName,
    /// The backup: id, name, or a shortcut such as `latest`
    pub backup: String,
    /// Take this instant as the present
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub now: Option<Timestamp>,
}

/// `recoverable`
#[derive(Debug, Args)]
pub struct Recoverable {
    /// The server
    pub server: ServerName,
    /// An instant, such as 2026-11-20T22:40:11Z
    #[arg(long, value_name = "TIME", value_parser = instant, group = "point")]
    pub at: Option<Timestamp>,
    /// A WAL position, such as 16/B374D848
    #[arg(long, value_name = "LSN", group = "point")]
    pub lsn: Option<Lsn>,
    /// Only in this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
}

/// `list`
#[derive(Debug, Args)]
pub struct List {
    /// Which servers.
    #[command(flatten)]
    pub select: Select,
    /// Only in this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
}

/// `show`
#[derive(Debug, Args)]
pub struct Show {
    /// The server
    pub server: ServerName,
    /// The backup: id, name, or a shortcut such as `latest`
    pub backup: String,
    /// In this destination, if the server has several
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
}

/// `backup`
#[derive(Debug, Args)]
pub struct Backup {
    /// The server
    pub server: ServerName,
    /// Give the backup a name
    #[arg(long)]
    pub name: Option<String>,
    /// Back up only what has changed since the newest good backup; fails where that cannot be done
    #[arg(long)]
    pub incremental: bool,
    /// To this destination, if the server has several
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
}

/// `keep`
#[derive(Debug, Args)]
pub struct Keep {
    /// The server
    pub server: ServerName,
    /// The backup: id, name, or a shortcut such as `latest`
    pub backup: String,
    /// Keep it, with all WAL since (`full`) or only its own (`standalone`)
    #[arg(long, value_name = "TARGET", value_parser = keep_target, required_unless_present = "release")]
    pub target: Option<KeepTarget>,
    /// Release the keep
    #[arg(long, conflicts_with_all = ["target", "reason", "until"])]
    pub release: bool,
    /// Why it is kept
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Until when it is kept
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub until: Option<Timestamp>,
    /// In this destination, if the server has several
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
}

/// `delete`
#[derive(Debug, Args)]
pub struct Delete {
    /// The server
    pub server: ServerName,
    /// The backup: its id or its name
    pub backup: String,
    /// In this destination, if the server has several
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
    /// Show what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `adopt`
#[derive(Debug, Args)]
pub struct Adopt {
    /// The server
    pub server: ServerName,
    /// Only in this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
    /// Accept what was shown with this digest
    #[arg(long, value_name = "DIGEST")]
    pub approve: Option<String>,
}

/// `undelete`
#[derive(Debug, Args)]
pub struct Undelete {
    /// The server
    pub server: ServerName,
    /// The backup: its id or its name
    pub backup: String,
    /// Keep it with all WAL since (`full`) or only its own (`standalone`)
    #[arg(long, value_name = "TARGET", value_parser = keep_target, default_value = "full")]
    pub target: KeepTarget,
    /// Why it stays
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Until when it is kept; for ever if unset
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub until: Option<Timestamp>,
    /// In this destination, if the server has several
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
}

/// `unlock`
#[derive(Debug, Args)]
pub struct Unlock {
    /// The server
    pub server: ServerName,
    /// Only in this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
    /// Also from a process that still runs on this machine
    #[arg(long)]
    pub force: bool,
}

/// `verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// The server
    pub server: ServerName,
    /// The backup: id, name, or a shortcut such as `latest`; every complete one if unset
    pub backup: Option<String>,
    /// Only in this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
}

/// `slot`
#[derive(Debug, Args)]
pub struct Slot {
    /// The server
    pub server: ServerName,
    /// Drop it; the server forgets what it held
    #[arg(long)]
    pub drop: bool,
}

/// `abandon`
#[derive(Debug, Args)]
pub struct Abandon {
    /// The server
    pub server: ServerName,
    /// The backup: id, name, or a shortcut such as `latest`
    pub backup: String,
    /// In this destination, if the server has several
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
    /// Also one that may be alive
    #[arg(long)]
    pub force: bool,
}

/// `check`
#[derive(Debug, Args)]
pub struct Check {
    /// Which servers.
    #[command(flatten)]
    pub select: Select,
    /// Try out what each destination can do, with objects below `SERVER/barkeep/probe/` that are deleted again
    #[arg(long)]
    pub probe: bool,
}

/// `permissions`
#[derive(Debug, Args)]
pub struct Permissions {
    /// Only of this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
    /// Only for this role: `writer`, `reader` or `deleter`
    #[arg(long, value_name = "ROLE", value_parser = role)]
    pub role: Option<Role>,
}

/// `show-config`
#[derive(Debug, Args)]
pub struct ShowConfig {
    /// Say for every value where it comes from
    #[arg(long)]
    pub origin: bool,
}

/// `generate`
#[derive(Debug, Args)]
pub struct Generate {
    /// What to print.
    #[command(subcommand)]
    pub what: Generated,
}

/// What can be generated.
#[derive(Debug, Subcommand)]
pub enum Generated {
    /// Write a man page for every command into a directory
    Man {
        /// The directory
        directory: PathBuf,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of the configuration
    Schema,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

fn instant(text: &str) -> Result<Timestamp, String> {
    let wrong = |_| "write an instant such as 2026-11-20T22:40:11Z".to_owned();
    text.parse().map_err(wrong)
}

fn role(text: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|role| role.to_string() == text);
    found.ok_or_else(|| "write writer, reader or deleter".to_owned())
}

fn keep_target(text: &str) -> Result<KeepTarget, String> {
    match text {
        "full" => Ok(KeepTarget::Full),
        "standalone" => Ok(KeepTarget::Standalone),
        _ => Err("write full or standalone".to_owned()),
    }
}
