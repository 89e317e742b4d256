//! Why a command failed, with its exit code and, where there is one, what to do next.

use std::{io, path::PathBuf};

use super::exit::Exit;
use crate::{
    failure::Failure,
    model::names::{DestinationName, ServerName},
};

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
        }
    }

    /// How the program ends because of it.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Configuration
            | Self::NoSuchServer { .. }
            | Self::NoSuchDestination { .. }
            | Self::WhichDestination { .. }
            | Self::NothingSelected
            | Self::Usage(_) => Exit::Usage,
            Self::Failed { source, .. } => Exit::from(source.kind),
            Self::File { .. } | Self::Output(_) => Exit::Failed,
        }
    }

    /// What to do next.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchServer { known, .. } if known.is_empty() => {
                Some("the configuration declares no server".to_owned())
            }
            Self::NoSuchServer { known, .. } => Some(format!("it has {}", known.join(", "))),
            Self::WhichDestination { known, .. } => Some(format!(
                "add `--destination` with one of {}",
                known.join(", ")
            )),
            Self::NoSuchDestination { .. } => {
                Some("`barkeep show-config` prints the destinations of each server".to_owned())
            }
            Self::Configuration => Some("`barkeep validate` shows all that is wrong".to_owned()),
            _ => None,
        }
    }
}
