//! Why WAL is not received, or does not get where it should be. All of it is tried again.

use std::time::Duration;

use crate::{
    execute::archive_wal,
    failure::{Failure, Kind},
    format::history,
    model::{
        names::DestinationName,
        time::Span,
        timeline::{Position, TimelineId},
    },
    postgres, spool, store,
};

/// Why WAL is not received, or does not get where it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot be reached, or refuses.
    #[error(transparent)]
    Server(#[from] postgres::Error),
    /// What was received cannot be written.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// A destination does not take a file.
    #[error(transparent)]
    Archive(#[from] archive_wal::Error),
    /// The history of the server's timeline cannot be understood.
    #[error("cannot understand the history of timeline {}", .timeline.number())]
    History {
        /// The timeline.
        timeline: TimelineId,
        /// Why.
        #[source]
        source: history::Error,
    },
    /// Commits would wait for a destination.
    #[error(
        "`synchronous_standby_names` means `{0}`, and without a spool every commit would wait for a \
         destination"
    )]
    Synchronous(String),
    /// The server says nothing, not even that it lives.
    #[error("the server has said nothing for {}", Span(*.0))]
    Silent(Duration),
    /// The server has ended a timeline, and does not know the next one.
    #[error("the server has ended timeline {} and does not know the next one", .0.number())]
    NoNext(TimelineId),
    /// The server had removed WAL before it was received.
    #[error("WAL from {from} to {to} was removed before it was received; a backup is due")]
    Lost {
        /// What was to come next.
        from: Position,
        /// What comes next instead.
        to: Position,
    },
    /// A piece of the hot tail cannot be stored.
    #[error("cannot store the hot tail in `{destination}`")]
    Tail {
        /// The destination.
        destination: DestinationName,
        /// Why.
        #[source]
        source: store::Error,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Server(source) => source.kind(),
            Self::Spool(source) => source.kind(),
            Self::Archive(source) => source.kind(),
            Self::Tail { source, .. } => source.kind(),
            Self::History { .. } | Self::NoNext(_) | Self::Lost { .. } => Kind::Failed,
            Self::Synchronous(_) => Kind::Refused,
            Self::Silent(_) => Kind::Unreachable,
        }
    }

    pub(super) fn failure(&self) -> Failure {
        let hint = match self {
            Self::Server(source) => source.hint(),
            _ => None,
        };
        Failure::of(self.kind(), self).hinted(hint)
    }
}
