//! What can go wrong while a file is archived: what stops it, and what is only worth telling.

use std::{fmt, io, path::PathBuf};

use crate::{
    failure::{Failure, Kind},
    format::{self, wal_header},
    model::{
        self,
        names::DestinationName,
        wal::{SystemId, WalFile},
    },
    store::{self, Key},
};

/// What went not quite as it should, and did not stop the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The segment is of a PostgreSQL that is not known here.
    UnknownMagic(u16),
    /// The first `.partial` of this name stays; this one, which differs, was put aside if records are kept.
    PartialDiffers {
        /// Where.
        destination: DestinationName,
        /// The one that stays.
        first: Key,
        /// Where this one was put.
        aside: Option<Key>,
    },
    /// The destination cannot refuse to overwrite; that nothing was there had to do.
    Unconditional(DestinationName),
    /// A destination that is not required lacks the file.
    Optional {
        /// Which.
        destination: DestinationName,
        /// Why.
        failure: Failure,
    },
    /// Archiving ahead stopped.
    Ahead {
        /// At which file.
        file: WalFile,
        /// Why.
        failure: Failure,
    },
    /// The local cache cannot be used.
    Spool(Failure),
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownMagic(magic) => write!(
                formatter,
                "WAL of an unknown version of PostgreSQL (magic number {magic:04X})"
            ),
            Self::PartialDiffers {
                destination,
                first,
                aside: ours,
            } => write!(
                formatter,
                "`{first}` in `{destination}` holds other content and stays{}",
                aside(ours.as_ref())
            ),
            Self::Unconditional(destination) => write!(
                formatter,
                "`{destination}` cannot refuse to overwrite; nothing was there a moment before"
            ),
            Self::Optional {
                destination,
                failure,
            } => write!(formatter, "`{destination}` lacks the file: {failure}"),
            Self::Ahead { file, failure } => {
                write!(formatter, "archiving ahead stopped at `{file}`: {failure}")
            }
            Self::Spool(failure) => write!(formatter, "the spool is not used: {failure}"),
        }
    }
}

/// Why a file was not archived.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file's name is none that PostgreSQL archives.
    #[error("cannot archive `{path}`")]
    Name {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: model::wal::Error,
    },
    /// No destination is required, so success would mean nothing.
    #[error("no destination requires `{file}`")]
    NoTarget {
        /// The file.
        file: WalFile,
    },
    /// The file cannot be read or compressed.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not the segment that its name says.
    #[error("cannot archive `{path}`, which is not what its name says")]
    Header {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: wal_header::Error,
    },
    /// The file is no history.
    #[error("cannot archive `{path}`, which is not what its name says")]
    History {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: format::history::Error,
    },
    /// The destination holds WAL of another cluster.
    #[error(
        "`{server}` in `{destination}` belongs to the system identifier {pinned}, not to {found}"
    )]
    Foreign {
        /// The destination.
        destination: DestinationName,
        /// The server.
        server: String,
        /// Whose WAL is there.
        pinned: SystemId,
        /// Whose file this is.
        found: SystemId,
    },
    /// The identity that is pinned cannot be understood.
    #[error("cannot tell which cluster `{server}` in `{destination}` belongs to")]
    Identity {
        /// The destination.
        destination: DestinationName,
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: Box<store::ArchiveError>,
    },
    /// The name is taken by other content.
    #[error("`{existing}` in `{destination}` holds other content than `{file}`{}", aside(ours.as_ref()))]
    Conflict {
        /// The destination.
        destination: DestinationName,
        /// The file.
        file: WalFile,
        /// What is there.
        existing: Key,
        /// Where this file was put aside, if records are kept.
        ours: Option<Key>,
    },
    /// The destination did not do what it was asked.
    #[error("cannot archive `{file}` to `{destination}`")]
    Store {
        /// The destination.
        destination: DestinationName,
        /// The file.
        file: WalFile,
        /// Why.
        #[source]
        source: store::Error,
    },
    /// The destination did not tell what it has.
    #[error("cannot find the newest WAL in `{destination}`")]
    Newest {
        /// The destination.
        destination: DestinationName,
        /// Why.
        #[source]
        source: store::Error,
    },
    /// An optional destination took too long.
    #[error("`{destination}` did not take `{file}` in time")]
    Slow {
        /// The destination.
        destination: DestinationName,
        /// The file.
        file: WalFile,
    },
}

fn aside(ours: Option<&Key>) -> String {
    ours.map(|key| format!("; this one was put aside as `{key}`"))
        .unwrap_or_default()
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Name { .. } | Self::NoTarget { .. } => Kind::Usage,
            Self::Read { .. } => Kind::Failed,
            Self::Header { .. } | Self::History { .. } => Kind::Verification,
            Self::Foreign { .. } | Self::Identity { .. } | Self::Conflict { .. } => Kind::Refused,
            Self::Store { source, .. } | Self::Newest { source, .. } => source.kind(),
            Self::Slow { .. } => Kind::Unreachable,
        }
    }

    /// Whether the destination refuses the request, rather than the file.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Store { source, .. }
            if source.meaning == store::Meaning::PermissionDenied)
    }

    pub(super) fn failure(&self) -> Failure {
        Failure::of(self.kind(), self)
    }
}
