//! What each of the three who use a destination calls there, and where.
//!
//! Three, because their rights differ most: a database's host that only writes cannot be made to delete backups, one that restores cannot
//! change anything, and the one place that lets backups expire need not write any.

use std::fmt;

use serde::Serialize;

use super::super::Operation;

/// What somebody uses a destination for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Backups and WAL go in: `backup`, `wal-archive`, `reconcile` in mode `additive`.
    Writer,
    /// They are read: `restore`, `wal-restore`, `list`, `plan`.
    Reader,
    /// They expire: `reconcile` in mode `full` beside a writer, `delete`, `keep`.
    Deleter,
}

/// Part of every server's catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All of it.
    Whole,
    /// What barkeep adds, below `barkeep/`.
    Own,
    /// Of that the records of running backups.
    Attempts,
    /// Of that what `check --probe` tries out.
    Probe,
    /// The keeps of backups.
    Keeps,
}

/// What may be called on a part of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Where.
    pub part: Part,
    /// What.
    pub operations: &'static [Operation],
}

const READS: Grant = Grant {
    part: Part::Whole,
    operations: &[
        Operation::Get,
        Operation::Head,
        Operation::List,
        Operation::CheckReachable,
        Operation::Time,
    ],
};

const WRITER: [Grant; 4] = [
    READS,
    Grant {
        part: Part::Whole,
        operations: &[
            Operation::Put,
            Operation::BeginUpload,
            Operation::PutPart,
            Operation::CompleteUpload,
            Operation::AbortUpload,
            Operation::ListUploads,
        ],
    },
    Grant {
        part: Part::Attempts,
        operations: &[Operation::Delete],
    },
    Grant {
        part: Part::Probe,
        operations: &[Operation::Delete],
    },
];

const READER: [Grant; 1] = [READS];

const DELETER: [Grant; 4] = [
    READS,
    Grant {
        part: Part::Whole,
        operations: &[
            Operation::Delete,
            Operation::AbortUpload,
            Operation::ListUploads,
            Operation::Locks,
            Operation::Retention,
        ],
    },
    // Marks and tombstones, and who set a keep.
    Grant {
        part: Part::Own,
        operations: &[Operation::Put],
    },
    // Calendar keeps are set where backups expire.
    Grant {
        part: Part::Keeps,
        operations: &[Operation::Put],
    },
];

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Writer, Self::Reader, Self::Deleter];

    /// What it calls, and where.
    pub fn grants(self) -> &'static [Grant] {
        match self {
            Self::Writer => &WRITER,
            Self::Reader => &READER,
            Self::Deleter => &DELETER,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Deleter => "deleter",
        })
    }
}

impl Part {
    /// What its objects' keys look like below the destination's prefix, `*` standing for any text.
    pub fn pattern(self) -> &'static str {
        match self {
            Self::Whole => "*",
            Self::Own => "*/barkeep/*",
            Self::Attempts => "*/barkeep/attempts/*",
            Self::Probe => "*/barkeep/probe/*",
            Self::Keeps => "*/base/*/annotations/*",
        }
    }
}
