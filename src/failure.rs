//! What went wrong, in the few words that the whole program shares.
//!
//! Every module's error answers [`Kind`], from which the command line chooses an exit code, and a port's error answers
//! [`Disposition`], from which the caller knows whether looking again can help. A [`Failure`] is an error turned into a value: it
//! can be stored in an observation, compared, printed and serialised long after the error itself is gone.

use std::{error::Error, fmt};

use serde::{Deserialize, Serialize};

/// The class of a failure, as far as whoever waits for the program must tell one from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The configuration or the command line cannot be understood.
    Usage,
    /// A guard refused: what was asked for would destroy something that must stay.
    Refused,
    /// Part of the work was done, part of it was not.
    Partial,
    /// Somebody else holds the lease.
    LeaseHeld,
    /// The destination or the database did not answer.
    Unreachable,
    /// What was read is not what was written.
    Verification,
    /// A saved plan no longer describes the world.
    Stale,
    /// The operator stopped the work; what it left is clean.
    Interrupted,
    /// What was asked for does not exist.
    NotFound,
    /// Anything else.
    Failed,
}

/// Whether looking or trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It may work the next time, unchanged.
    Transient,
    /// It will fail until something is changed.
    Permanent,
    /// It is not known whether the effect took place: look before acting again.
    Unknown,
}

/// An error as a value: its class and its whole chain of causes in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The class.
    pub kind: Kind,
    /// The chain of causes, outermost first, joined by `: `.
    pub message: String,
    /// What may help, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// Keeps a message that is already complete.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what may help.
    #[must_use]
    pub fn hinted(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Keeps an error with all its causes.
    pub fn of(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        Self::new(kind, chain(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for Failure {}

/// Joins an error and its causes, outermost first, by `: `.
///
/// This is the one place that does so: messages never repeat their source.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries do repeat their source; saying it once is enough.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `{0}`")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn a_chain_names_every_cause_once() {
        let error = Outer("x", std::io::Error::other("disk on fire"));
        assert_eq!(chain(&error), "cannot read `x`: disk on fire");
    }
}
