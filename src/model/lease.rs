//! The rights to act on a server in one destination that one process has at a time.
//!
//! Who holds one is a fact for people, and for whoever waits. Nothing that must be safe depends on it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{names::DestinationName, record::Actor, time::Timestamp};

/// What a lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseKind {
    /// Long work that adds: a backup.
    Attempt,
    /// Whatever deletes.
    Retention,
}

impl LeaseKind {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Attempt, Self::Retention];
}

impl fmt::Display for LeaseKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Attempt => "attempt",
            Self::Retention => "retention",
        })
    }
}

/// A lease that somebody else holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLease {
    /// Where.
    pub destination: DestinationName,
    /// What for.
    pub lease: LeaseKind,
    /// Who; none where that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<Actor>,
    /// When it may be taken by the clock of the store, unless it is renewed; none where it ends with its holder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl fmt::Display for HeldLease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lease = self.lease;
        match &self.holder {
            Some(holder) => write!(formatter, "{holder} holds the {lease} lease")?,
            None => write!(formatter, "somebody holds the {lease} lease")?,
        }
        self.until
            .map_or(Ok(()), |until| write!(formatter, " until {until}"))
    }
}
