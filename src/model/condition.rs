//! How a server and a destination stand, in one word with its reason.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a server stands in a destination. Ordered from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// What should be true is true.
    Converged,
    /// Something is under way, or will be by itself.
    Progressing,
    /// Something outside must change before anything can be done.
    Blocked,
    /// An objective is missed and nothing that barkeep may do mends it.
    Stalled,
}

impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Converged => "converged",
            Self::Progressing => "progressing",
            Self::Blocked => "blocked",
            Self::Stalled => "stalled",
        })
    }
}

/// A standing with what it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Condition {
    /// The word.
    pub standing: Standing,
    /// For people.
    pub message: String,
}

impl Condition {
    /// A condition with its message.
    pub fn new(standing: Standing, message: impl Into<String>) -> Self {
        Self {
            standing,
            message: message.into(),
        }
    }
}
