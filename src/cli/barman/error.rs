//! How a command ends, in Barman's codes, and why.

use std::process::ExitCode;

use crate::{
    failure::{Failure, chain},
    store,
};

/// Why a command did not do what it was asked. What it says is what scripts of Barman's users look for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The store answers, and yet it cannot be done: code 1.
    #[error("{0}")]
    Operation(String),
    /// The store does not answer: code 2.
    #[error("{0}")]
    Network(String),
    /// The command line asks for nothing that there is: code 3.
    #[error("{0}")]
    Usage(String),
    /// Anything else: code 4, and the message is told as the command's exception.
    #[error("{0}")]
    General(String),
    /// A hook of a Barman server shall not be tried again: code 63.
    #[error("{0}")]
    Hook(String),
}

impl Error {
    /// Anything that failed further down.
    pub(super) fn general(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::General(chain(error))
    }

    /// The exit code.
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Operation(_) => 1,
            Self::Network(_) => 2,
            Self::Usage(_) => USAGE,
            Self::General(_) => 4,
            Self::Hook(_) => 63,
        })
    }
}

/// The code of a wrong command line.
pub(super) const USAGE: u8 = 3;

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::general(&error)
    }
}

impl From<store::ArchiveError> for Error {
    fn from(error: store::ArchiveError) -> Self {
        Self::general(&error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::General(failure.message)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::general(&error)
    }
}
