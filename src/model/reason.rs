//! Why: closed lists of reasons, for people.
//!
//! Every verdict and every step carries reasons, and where nothing is done a [`Waiting`] says what for. They are shown, logged and
//! counted; no code decides by matching on them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    backup::{BackupId, BackupStatus, KeepTarget},
    names::DestinationName,
    retention::RetentionPolicy,
    time::Timestamp,
    wal::{SegmentName, SystemId},
};

mod waiting;

pub use waiting::{Locked, Waiting};

/// Why a backup is a full one although incremental ones are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum WhyFull {
    /// Nothing in the configuration asks for incremental ones.
    NotConfigured,
    /// There is no good backup of this cluster to build on.
    NoParent,
    /// The chain began long ago.
    Age {
        /// When.
        since: Timestamp,
    },
    /// The chain is as long as it may become.
    Length {
        /// How long.
        chain: usize,
    },
    /// The manifest of the backup to build on is not kept.
    NoManifest {
        /// The backup.
        parent: BackupId,
    },
    /// The backup to build on holds damaged pages.
    Damaged {
        /// The backup.
        parent: BackupId,
    },
    /// The server has changed to another timeline.
    Timeline,
    /// The server does not know what has changed since the backup to build on.
    NotSummarized,
    /// The newest attempt was an incremental one, and failed.
    Failed {
        /// It.
        backup: BackupId,
    },
}

/// Why a backup stays or goes, or why a step is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Reason {
    /// It lies within the policy.
    WithinPolicy {
        /// The policy.
        policy: RetentionPolicy,
    },
    /// Recovery to the beginning of the window starts from it.
    WindowAnchor {
        /// The policy.
        policy: RetentionPolicy,
    },
    /// Nothing says how long backups stay.
    NoPolicy,
    /// The policy no longer wants it.
    OutsidePolicy {
        /// The policy.
        policy: RetentionPolicy,
        /// How many newer good ones stay.
        newer_good: usize,
    },
    /// Obsolete, but fewer than the minimum would be left.
    MinimumRedundancy {
        /// The minimum.
        minimum: u32,
    },
    /// Somebody or a rule wants it kept.
    Kept {
        /// With how much WAL.
        target: KeepTarget,
    },
    /// It is not complete, so no policy judges it.
    NotDone {
        /// How far it has come.
        status: BackupStatus,
    },
    /// It says that it is complete, but a restore would fail.
    Damaged {
        /// What is missing.
        what: Damage,
    },
    /// The newest good one of its lineage.
    NewestGood,
    /// The newest good one without a damaged page.
    NewestClean,
    /// An incremental that stays needs it.
    NeededBy {
        /// The incremental.
        child: BackupId,
    },
    /// It builds on another backup and is judged with it.
    PartOfChain {
        /// The backup that it builds on.
        parent: BackupId,
    },
    /// Its end lies in the future.
    FromTheFuture,
    /// Its time of completion is not recorded.
    EndUnknown,
    /// Its `backup.info` cannot be understood.
    Unreadable {
        /// Why.
        why: String,
    },
    /// Nothing goes while another backup cannot be judged.
    Unjudged {
        /// That backup.
        because: BackupId,
    },
    /// The schedule's latest instant has passed without an attempt.
    Due {
        /// The instant.
        since: Timestamp,
        /// The schedule as written.
        schedule: String,
        /// How old the last good backup is.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_good: Option<Timestamp>,
    },
    /// Only what has changed since another backup is needed.
    Incremental {
        /// The backup.
        parent: BackupId,
        /// How many its chain has by now, full one included.
        chain: usize,
    },
    /// All files are needed, although incremental backups are wanted.
    Full {
        /// Why.
        why: WhyFull,
    },
    /// Segments are missing from the archive for good.
    Gap {
        /// The first missing one.
        first: SegmentName,
        /// How many.
        segments: u64,
    },
    /// The cluster was created anew.
    NewSystem {
        /// Its system identifier.
        system: SystemId,
    },
    /// PostgreSQL was upgraded.
    NewMajor {
        /// The major version.
        major: u32,
    },
    /// Somebody asked for it.
    Requested,
    /// The configuration declares it.
    Declared {
        /// The reason given there.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A record keeps it.
    Held {
        /// Who set it.
        by: String,
        /// Why.
        note: String,
    },
    /// The first of a calendar period.
    FirstOf {
        /// The period: `day`, `week`, `month`, `year`.
        period: String,
        /// How long it is kept.
        kept_for: String,
    },
    /// The time for which it was kept has passed.
    KeepEnded {
        /// When.
        until: Timestamp,
    },
    /// The configuration declares it no longer.
    NotDeclared,
    /// The attempt's process is gone.
    DeadAttempt {
        /// When it was last seen alive.
        since: Timestamp,
    },
    /// All that was missing has arrived.
    WalArrived {
        /// The last segment.
        last: SegmentName,
    },
    /// A failed backup older than the configuration keeps them.
    FailedLongAgo {
        /// When it began.
        since: Timestamp,
    },
    /// Objects without a `backup.info`, untouched for longer than the configuration keeps them.
    OrphanedSince {
        /// When the youngest was written.
        since: Timestamp,
    },
    /// A snapshot of a disk with barkeep's tags that no backup records, for longer than the configuration keeps such.
    Unrecorded {
        /// When it was begun.
        since: Timestamp,
    },
    /// A copy of it should be here.
    NotCopied {
        /// Where it is.
        from: DestinationName,
        /// How many more are to follow.
        more: usize,
    },
    /// WAL that the copies need is not here yet.
    WalNotCopied {
        /// Where it is.
        from: DestinationName,
    },
    /// WAL that was archived is missing, and the server still has it.
    StillInPgWal,
    /// It has not been read back for as long as the configuration says, or never.
    NotReadBack {
        /// When it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
    },
    /// It was marked, and its grace has passed.
    Marked {
        /// When it was.
        at: Timestamp,
    },
    /// It was marked, and stays after all.
    RetainedAgain,
    /// It was marked, and is not there any more.
    Gone,
    /// Its deletion was begun and interrupted.
    DeleteBegun,
    /// No retained backup needs these segments.
    WalUnneeded,
}

/// What is missing from a backup that says it is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// An archive is missing or empty: `data` or a tablespace's object id.
    Archive(String),
    /// A snapshot of a disk is not there any more: what the cloud knew it by.
    Snapshot(String),
    /// WAL between its beginning and its end is missing; the first such segment.
    Wal(SegmentName),
    /// `backup.info` does not say which WAL it needs.
    Unspecified,
    /// The backup that it builds on is missing or damaged.
    Parent(BackupId),
    /// Whoever read all of it found that it is not what was stored.
    Faulty,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithinPolicy { policy } => write!(formatter, "within {policy}"),
            Self::WindowAnchor { policy } => write!(formatter, "{policy} begins after it"),
            Self::NoPolicy => formatter.write_str("no retention, everything stays"),
            Self::OutsidePolicy { policy, newer_good } => {
                let are = if *newer_good == 1 { "is" } else { "are" };
                write!(formatter, "outside {policy}; {newer_good} newer {are} good")
            }
            Self::MinimumRedundancy { minimum } => {
                write!(formatter, "minimum redundancy {minimum}")
            }
            Self::Kept { target } => write!(formatter, "kept ({target})"),
            Self::NotDone { status } => write!(formatter, "{status}"),
            Self::Damaged { what } => write!(formatter, "damaged: {what}"),
            Self::NewestGood => formatter.write_str("the newest good backup"),
            Self::NewestClean => formatter.write_str("the newest without damaged pages"),
            Self::NeededBy { child } => write!(formatter, "incremental {child} needs it"),
            Self::PartOfChain { parent } => write!(formatter, "builds on {parent}"),
            Self::FromTheFuture => formatter.write_str("ends in the future"),
            Self::EndUnknown => formatter.write_str("its end is not recorded"),
            Self::Unreadable { why } => write!(formatter, "unreadable: {why}"),
            Self::Unjudged { because } => {
                write!(formatter, "nothing goes while {because} cannot be judged")
            }
            Self::Due {
                since,
                schedule,
                last_good,
            } => write_due(formatter, *since, schedule, *last_good),
            Self::Incremental { parent, chain } => {
                write!(formatter, "builds on {parent}, {chain} in the chain")
            }
            Self::Full { why } => write!(formatter, "full: {why}"),
            Self::Gap { first, segments } => {
                write!(formatter, "WAL gap of {segments} from {first}")
            }
            Self::NewSystem { system } => write!(formatter, "new system identifier {system}"),
            Self::NewMajor { major } => write!(formatter, "PostgreSQL is now {major}"),
            Self::Requested => formatter.write_str("requested"),
            Self::Declared { note: Some(note) } => write!(formatter, "declared: {note}"),
            Self::Declared { note: None } => formatter.write_str("declared"),
            Self::Held { by, note } => write!(formatter, "held by {by}: {note}"),
            Self::FirstOf { period, kept_for } => {
                write!(formatter, "first of the {period}, kept {kept_for}")
            }
            Self::KeepEnded { until } => write!(formatter, "kept until {until}"),
            Self::NotReadBack { since } => not_read_back(formatter, *since),
            Self::StillInPgWal => formatter.write_str("missing, and still in pg_wal"),
            Self::NotDeclared => formatter.write_str("no longer declared"),
            Self::DeadAttempt { since } => write!(formatter, "its attempt died after {since}"),
            Self::WalArrived { last } => write!(formatter, "WAL up to {last} has arrived"),
            Self::FailedLongAgo { since } => write!(formatter, "failed, begun {since}"),
            Self::OrphanedSince { since } => {
                write!(formatter, "no backup.info, untouched since {since}")
            }
            Self::Unrecorded { since } => write!(formatter, "no backup records it, begun {since}"),
            Self::NotCopied { from, more: 0 } | Self::WalNotCopied { from } => {
                write!(formatter, "not copied from {from} yet")
            }
            Self::NotCopied { from, more } => {
                write!(formatter, "not copied from {from} yet, {more} more follow")
            }
            Self::Marked { at } => write!(formatter, "marked {at}"),
            Self::RetainedAgain => formatter.write_str("it is retained again"),
            Self::Gone => formatter.write_str("it is not there any more"),
            Self::DeleteBegun => formatter.write_str("its deletion was interrupted"),
            Self::WalUnneeded => formatter.write_str("no retained backup needs it"),
        }
    }
}

fn write_due(
    formatter: &mut fmt::Formatter<'_>,
    since: Timestamp,
    schedule: &str,
    last_good: Option<Timestamp>,
) -> fmt::Result {
    write!(formatter, "due since {since} ({schedule})")?;
    match last_good {
        Some(end) => write!(formatter, ", last good ended {end}"),
        None => formatter.write_str(", no good backup"),
    }
}

impl fmt::Display for WhyFull {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured => formatter.write_str("`incremental` is not configured"),
            Self::NoParent => formatter.write_str("no good backup to build on"),
            Self::Age { since } => write!(formatter, "the chain began {since}"),
            Self::Length { chain } => write!(formatter, "the chain has {chain}"),
            Self::NoManifest { parent } => write!(formatter, "no manifest of {parent}"),
            Self::Damaged { parent } => write!(formatter, "{parent} holds damaged pages"),
            Self::Timeline => formatter.write_str("the timeline has changed"),
            Self::NotSummarized => {
                formatter.write_str("the server has no summaries of the WAL since")
            }
            Self::Failed { backup } => write!(formatter, "the incremental {backup} failed"),
        }
    }
}

fn not_read_back(formatter: &mut fmt::Formatter<'_>, since: Option<Timestamp>) -> fmt::Result {
    match since {
        None => formatter.write_str("never read back"),
        Some(since) => write!(formatter, "last read back {since}"),
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(root) => write!(formatter, "archive `{root}` is missing or empty"),
            Self::Snapshot(id) => write!(formatter, "snapshot `{id}` is missing"),
            Self::Wal(segment) => write!(formatter, "WAL {segment} is missing"),
            Self::Unspecified => formatter.write_str("backup.info names no WAL"),
            Self::Parent(id) => write!(formatter, "{id}, which it builds on, is no good"),
            Self::Faulty => formatter.write_str("reading it back found faults"),
        }
    }
}
