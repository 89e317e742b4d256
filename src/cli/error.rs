//! Why a command failed, with its exit code and, where there is one, what to do next.

use std::{io, net::SocketAddr, path::PathBuf};

use super::exit::Exit;
use crate::{
    failure::{Failure, Kind},
    model::{
        names::{DestinationName, ServerName},
        reason::Waiting,
    },
};

/// What to do when something cannot be reached.
pub(super) const CHECK: &str = "`barkeep check` says what can be reached, and what mends it";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The configuration cannot be used; its report has been printed.
    #[error("the configuration cannot be used")]
    Configuration,
    /// A server that the configuration does not know.
    #[error("there is no server `{server}` in the configuration")]
    NoSuchServer {
        /// Its name.
        server: ServerName,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A destination that the server does not use.
    #[error("`{server}` has no destination `{destination}`")]
    NoSuchDestination {
        /// The server.
        server: ServerName,
        /// The destination.
        destination: DestinationName,
        /// Those that it uses.
        known: Vec<String>,
    },
    /// A destination that the configuration does not know.
    #[error("there is no destination `{destination}` in the configuration")]
    UnknownDestination {
        /// Its name.
        destination: DestinationName,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Several destinations, and none chosen.
    #[error("`{server}` has several destinations")]
    WhichDestination {
        /// The server.
        server: ServerName,
        /// Its destinations.
        known: Vec<String>,
    },
    /// No selected server.
    #[error("no server has these labels")]
    NothingSelected,
    /// A combination of options that means nothing.
    #[error("{0}")]
    Usage(String),
    /// Something failed further down.
    #[error("{doing}")]
    Failed {
        /// What was attempted.
        doing: String,
        /// Why it failed.
        source: Failure,
        /// What to do next.
        hint: Option<String>,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} `{path}`")]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address of the status page cannot be listened at.
    #[error("cannot listen at `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be listened for.
    #[error("cannot listen for SIGHUP")]
    Signal(#[source] io::Error),
    /// Standard input could not be read.
    #[error("cannot read from standard input")]
    Input(#[source] io::Error),
    /// Standard output could not be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl Error {
    /// Something failed while doing something.
    pub(super) fn failed(doing: impl Into<String>, source: Failure) -> Self {
        Self::Failed {
            doing: doing.into(),
            source,
            hint: None,
        }
    }

    /// A saved plan that no longer fits.
    pub(super) fn stale(doing: impl Into<String>, source: Failure) -> Self {
        Self::failed(doing, source).hinted("make a new one with `barkeep plan --out FILE`")
    }

    /// A right that somebody else has, or that is not to be had.
    pub(super) fn lease_held(server: &ServerName, waiting: &Waiting) -> Self {
        let kind = match waiting {
            Waiting::Lease { .. } => Kind::LeaseHeld,
            Waiting::Unknown { .. } => Kind::Unreachable,
            _ => Kind::Refused,
        };
        let failure = Failure::new(kind, waiting.to_string());
        let error = Self::failed(format!("nothing is done for `{server}`"), failure);
        if kind != Kind::LeaseHeld {
            return error;
        }
        error.hinted(format!(
            "it is given back when that is done; `barkeep unlock {server}` takes it away from a holder that is gone"
        ))
    }

    /// Says what to do next.
    #[must_use]
    pub(super) fn hinted(mut self, text: impl Into<String>) -> Self {
        if let Self::Failed { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// How the program ends because of it.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Configuration
            | Self::NoSuchServer { .. }
            | Self::NoSuchDestination { .. }
            | Self::UnknownDestination { .. }
            | Self::WhichDestination { .. }
            | Self::NothingSelected
            | Self::Usage(_) => Exit::Usage,
            Self::Failed { source, .. } => Exit::from(source.kind),
            Self::File { .. }
            | Self::Listen { .. }
            | Self::Signal(_)
            | Self::Input(_)
            | Self::Output(_) => Exit::Failed,
        }
    }

    /// What to do next.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchServer { known, .. }
            | Self::NoSuchDestination { known, .. }
            | Self::UnknownDestination { known, .. }
                if known.is_empty() =>
            {
                Some("the configuration declares none at all".to_owned())
            }
            Self::NoSuchServer { known, .. }
            | Self::NoSuchDestination { known, .. }
            | Self::UnknownDestination { known, .. } => {
                Some(format!("there is {}", known.join(", ")))
            }
            Self::WhichDestination { known, .. } => Some(format!(
                "add `--destination` with one of {}",
                known.join(", ")
            )),
            Self::Configuration => Some("`barkeep validate` shows all that is wrong".to_owned()),
            Self::Failed {
                hint: Some(hint), ..
            } => Some(hint.clone()),
            Self::Failed { source, .. } if source.hint.is_some() => source.hint.clone(),
            Self::Failed { source, .. } if source.kind == Kind::Unreachable => {
                Some(CHECK.to_owned())
            }
            _ => None,
        }
    }
}
