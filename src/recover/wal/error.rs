//! Why a file was not delivered although nobody has proved that it is not there.

use std::{io, path::PathBuf};

use crate::{
    failure::{Disposition, Failure, Kind},
    format::{history, wal_header},
    model::{
        names::DestinationName,
        wal::{SystemId, WalFile},
    },
    store::{self, Key},
};

/// Why it is not known whether a file is there, or why it could not be delivered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no destination to ask.
    #[error("no destination to read `{file}` from")]
    NoSource {
        /// The file.
        file: WalFile,
    },
    /// The destination did not answer the question.
    #[error("cannot read `{file}` from `{destination}`")]
    Store {
        /// The file.
        file: WalFile,
        /// The destination.
        destination: DestinationName,
        /// Why.
        #[source]
        source: store::Error,
    },
    /// The object cannot be decompressed.
    #[error("cannot decompress `{key}` from `{destination}`")]
    Decompress {
        /// The object.
        key: Key,
        /// The destination.
        destination: DestinationName,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The object is not the segment that its name says.
    #[error("`{key}` in `{destination}` is not what its name says")]
    Header {
        /// The object.
        key: Key,
        /// The destination.
        destination: DestinationName,
        /// Why.
        #[source]
        source: wal_header::Error,
    },
    /// The object is no history.
    #[error("`{key}` in `{destination}` is not what its name says")]
    History {
        /// The object.
        key: Key,
        /// The destination.
        destination: DestinationName,
        /// Why.
        #[source]
        source: history::Error,
    },
    /// The segment belongs to another cluster.
    #[error(
        "`{key}` in `{destination}` belongs to the system identifier {found}, not to {expected}"
    )]
    Foreign {
        /// The object.
        key: Key,
        /// The destination.
        destination: DestinationName,
        /// The cluster that recovers.
        expected: SystemId,
        /// Whose segment it is.
        found: SystemId,
    },
    /// The file cannot be put where it is wanted.
    #[error("cannot write `{path}`")]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSource { .. } => Kind::Usage,
            Self::Store { source, .. } => source.kind(),
            Self::Decompress { .. } | Self::Header { .. } | Self::History { .. } => {
                Kind::Verification
            }
            Self::Foreign { .. } => Kind::Refused,
            Self::Write { .. } => Kind::Failed,
        }
    }

    /// Whether asking again can help.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Store { source, .. } => source.disposition(),
            _ => Disposition::Permanent,
        }
    }

    pub(super) fn failure(&self) -> Failure {
        Failure::of(self.kind(), self)
    }
}
