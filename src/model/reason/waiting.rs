//! What is not done, and what it waits for.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::model::{
    backup::BackupId,
    desired::Mode,
    lease::HeldLease,
    lock::Lock,
    names::{DestinationName, ServerName},
    policy::Shortened,
    time::{Span, Timestamp},
    wal::{SegmentName, SystemId},
};

/// What is not done, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "waiting")]
pub enum Waiting {
    /// Something about the destination or the server could not be found out.
    Unknown {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// PGDATA is not on this host.
    NotLocal {
        /// What the proof said.
        why: String,
    },
    /// Disks whose snapshots would be no backup.
    Disks {
        /// What is wrong with them.
        what: String,
        /// What mends it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// The next instant of the schedule.
    NextDue {
        /// When.
        at: Timestamp,
    },
    /// A window in which backups may start.
    Window {
        /// The window as written.
        window: String,
    },
    /// An attempt that is running.
    Running {
        /// Its backup.
        backup: BackupId,
        /// Since when.
        since: Timestamp,
    },
    /// A pause after failures.
    BackOff {
        /// Until when.
        until: Timestamp,
        /// How many failures in a row.
        failures: u32,
    },
    /// The budget of deletes.
    Budget {
        /// What it would delete, in the order in which it goes.
        backups: Vec<BackupId>,
        /// How many are allowed.
        allowed: usize,
    },
    /// The grace of backups that are marked.
    Grace {
        /// They, in the order in which they go.
        backups: Vec<BackupId>,
        /// When the first of them may go.
        first: Timestamp,
        /// How many WAL segments go with them.
        segments: u64,
    },
    /// Somebody who approves a policy that keeps less than that of the last run.
    Shortened {
        /// What it keeps less of.
        policy: Vec<Shortened>,
        /// What would be done.
        steps: Vec<String>,
    },
    /// Somebody who knows what became of backups that were retained.
    Vanished {
        /// They.
        backups: Vec<BackupId>,
    },
    /// Somebody who takes up backups that no run has seen.
    Adoption {
        /// The server that they would be.
        server: ServerName,
        /// How many.
        backups: usize,
    },
    /// The server's mode forbids it.
    Mode {
        /// The mode.
        mode: Mode,
        /// What would be done.
        step: String,
    },
    /// The server is retired.
    Retired,
    /// A backup or a copy goes first; another one, and deletes, follow when it is done.
    AdditiveFirst,
    /// What is stored there is written once, and a keep would have to change.
    CannotKeep {
        /// The backup.
        backup: BackupId,
    },
    /// A copy goes first: it still needs WAL that would be deleted.
    CopyFirst,
    /// An id from the future blocks new ids.
    FutureId {
        /// The id.
        backup: BackupId,
    },
    /// WAL up to a backup's end.
    Wal {
        /// The first segment that is not there.
        first: SegmentName,
    },
    /// Clocks that disagree.
    ClockSkew {
        /// By how much.
        by: Duration,
    },
    /// Another cluster's system identifier in this prefix.
    ForeignSystem {
        /// The one that the prefix belongs to.
        pinned: SystemId,
        /// The one found.
        found: SystemId,
    },
    /// An attempt that is not ours.
    ForeignAttempt {
        /// Its backup.
        backup: BackupId,
        /// Since when.
        since: Timestamp,
    },
    /// A keep for a backup that does not exist.
    NoSuchBackup {
        /// Its id or name as written.
        backup: String,
    },
    /// A backup with several of that name.
    AmbiguousName {
        /// The name.
        name: String,
    },
    /// A lease that somebody else holds.
    Lease {
        /// Which, and who.
        #[serde(flatten)]
        held: HeldLease,
    },
    /// Nothing keeps two that delete apart.
    NoExclusion {
        /// Why not.
        why: String,
    },
    /// A backup that waits for its turn, or is about to begin.
    Turn {
        /// Since when.
        since: Timestamp,
    },
    /// Objects of a backup are locked, so all of it stays.
    Locked {
        /// The backup.
        backup: BackupId,
        /// Which of its objects.
        what: Locked,
        /// Until when, or why.
        lock: Lock,
    },
    /// WAL that belongs to no backup is locked.
    LockedWal {
        /// Its first segment.
        first: SegmentName,
        /// How many.
        segments: u64,
        /// Until when, or why.
        lock: Lock,
    },
    /// The source of a copy.
    Source {
        /// The destination to copy from.
        destination: DestinationName,
    },
}

/// What of a backup is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locked {
    /// Its own objects.
    Objects,
    /// WAL that would go with it.
    Wal,
    /// An incremental backup that builds on it.
    Child,
    /// A snapshot of a disk that carries its tags.
    Snapshot,
}

impl Waiting {
    /// Whether somebody who has seen the plan may approve what it withholds.
    pub fn is_approvable(&self) -> bool {
        matches!(self, Self::Budget { .. } | Self::Shortened { .. })
    }

    /// Whether a lock withholds it, until a time comes or somebody lifts it.
    pub fn is_lock(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::LockedWal { .. })
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { what, why } => write!(formatter, "{what} is unknown: {why}"),
            Self::NotLocal { why } => write!(formatter, "PGDATA is not on this host: {why}"),
            Self::Disks { what, next } => write_disks(formatter, what, next.as_deref()),
            Self::NextDue { at } => write!(formatter, "next due {at}"),
            Self::Window { window } => write!(formatter, "due, starts within {window}"),
            Self::Running { backup, since } => write!(formatter, "{backup} runs since {since}"),
            Self::BackOff { until, failures } => {
                write!(formatter, "{failures} failed in a row, next try {until}")
            }
            Self::Budget { backups, allowed } => {
                let backups = Several(backups);
                write!(
                    formatter,
                    "{backups}: the delete budget of {allowed} is used up"
                )
            }
            Self::Grace {
                backups,
                first,
                segments,
            } => write_grace(formatter, backups, *first, *segments),
            Self::Shortened { policy, steps } => write_shortened(formatter, policy, steps),
            Self::Vanished { backups } => {
                let backups = Several(backups);
                write!(
                    formatter,
                    "{backups}: retained, and gone without a record of it"
                )
            }
            Self::Adoption { server, backups } => write_adoption(formatter, server, *backups),
            Self::Mode { mode, step } => write!(formatter, "mode is {mode}: would {step}"),
            Self::Retired => formatter.write_str("the server is retired"),
            Self::AdditiveFirst => formatter.write_str("the rest follows when the backup is done"),
            Self::CannotKeep { backup } => write!(
                formatter,
                "{backup} cannot be marked as kept where nothing is written twice; it is not deleted"
            ),
            Self::CopyFirst => formatter.write_str("a copy still needs WAL that would go"),
            Self::FutureId { backup } => write!(formatter, "the id {backup} lies in the future"),
            Self::Wal { first } => write!(formatter, "WAL {first} is not archived yet"),
            Self::ClockSkew { by } => write!(formatter, "clocks disagree by {}", Span(*by)),
            Self::ForeignSystem { pinned, found } => {
                write!(
                    formatter,
                    "the prefix belongs to system {pinned}, found {found}"
                )
            }
            Self::ForeignAttempt { backup, since } => {
                write!(formatter, "{backup} was started elsewhere {since}")
            }
            Self::NoSuchBackup { backup } => write!(formatter, "no backup `{backup}`"),
            Self::AmbiguousName { name } => write!(formatter, "several backups named `{name}`"),
            Self::Lease { held } => write!(formatter, "{held}"),
            Self::NoExclusion { why } => write!(formatter, "no deletes: {why}"),
            Self::Turn { since } => write!(formatter, "a backup waits for its turn since {since}"),
            Self::Locked { backup, what, lock } => match what {
                Locked::Objects => write!(formatter, "{backup}  {lock}"),
                Locked::Wal => write!(formatter, "{backup}  its WAL: {lock}"),
                Locked::Child => write!(formatter, "{backup}  what builds on it: {lock}"),
                Locked::Snapshot => write!(formatter, "{backup}  a snapshot of it: {lock}"),
            },
            Self::LockedWal {
                first,
                segments,
                lock,
            } => write!(formatter, "WAL of {segments} from {first}  {lock}"),
            Self::Source { destination } => write!(formatter, "its source `{destination}`"),
        }
    }
}

fn write_disks(formatter: &mut fmt::Formatter<'_>, what: &str, next: Option<&str>) -> fmt::Result {
    formatter.write_str(what)?;
    next.map_or(Ok(()), |next| write!(formatter, "; {next}"))
}

fn write_shortened(
    formatter: &mut fmt::Formatter<'_>,
    policy: &[Shortened],
    steps: &[String],
) -> fmt::Result {
    write!(formatter, "the policy was shortened: {}", All(policy))?;
    if steps.is_empty() {
        return Ok(());
    }
    write!(formatter, "; would {}", Several(steps))
}

fn write_adoption(
    formatter: &mut fmt::Formatter<'_>,
    server: &ServerName,
    backups: usize,
) -> fmt::Result {
    let are = if backups == 1 {
        "backup is"
    } else {
        "backups are"
    };
    write!(
        formatter,
        "first contact: {backups} {are} there; `barkeep adopt {server}` takes up what is"
    )
}

fn write_grace(
    formatter: &mut fmt::Formatter<'_>,
    backups: &[BackupId],
    first: Timestamp,
    segments: u64,
) -> fmt::Result {
    write!(formatter, "{}: marked", Several(backups))?;
    match segments {
        0 => {}
        1 => formatter.write_str(", with 1 WAL segment")?,
        _ => write!(formatter, ", with {segments} WAL segments")?,
    }
    write!(formatter, "; goes after {first}")
}

/// All of several things.
struct All<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for All<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{one}")?;
        }
        Ok(())
    }
}

/// The first of several things, and how many more there are.
struct Several<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Several<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [only] => write!(formatter, "{only}"),
            [first, more @ ..] => write!(formatter, "{first} and {} more", more.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_told_with_what_mends_them() {
        let disks = |next: Option<&str>| {
            let waiting = Waiting::Disks {
                what: "`pgwal` is missing".to_owned(),
                next: next.map(str::to_owned),
            };
            waiting.to_string()
        };
        assert_eq!(disks(Some("attach it")), "`pgwal` is missing; attach it");
        assert_eq!(disks(None), "`pgwal` is missing");
    }

    #[test]
    fn a_grace_tells_of_the_wal_that_goes_with_it() {
        let grace = |segments| {
            let waiting = Waiting::Grace {
                backups: vec![BackupId::new("a")],
                first: "2026-11-20T12:00:00Z".parse().expect("an instant"),
                segments,
            };
            waiting.to_string()
        };
        assert_eq!(grace(0), "a: marked; goes after 2026-11-20T12:00:00Z");
        assert_eq!(
            grace(1),
            "a: marked, with 1 WAL segment; goes after 2026-11-20T12:00:00Z"
        );
        assert_eq!(
            grace(2),
            "a: marked, with 2 WAL segments; goes after 2026-11-20T12:00:00Z"
        );
    }
}
