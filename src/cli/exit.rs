//! Exit codes: one table, and which of several wins.

use std::process::ExitCode;

use serde::Serialize;

use crate::failure::Kind;

/// How a run of the program ends. `docs/exit-codes.md` documents the same table, and a test compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// Done, converged, plan made.
    Done,
    /// Failed.
    Failed,
    /// Changes are pending: `plan --detailed-exitcode` only.
    Pending,
    /// The configuration or the command line cannot be understood.
    Usage,
    /// Refused by a guard.
    Refused,
    /// Partly done.
    Partial,
    /// Converged, but an objective is missed.
    ObjectiveMissed,
    /// The lease is held by somebody else.
    LeaseHeld,
    /// The destination or the database cannot be reached.
    Unreachable,
    /// What was read is not what was written.
    Verification,
    /// The saved plan, or the digest that was approved, is stale.
    Stale,
    /// Interrupted, the state is clean.
    Interrupted,
}

impl Exit {
    /// Every way to end with its code and meaning.
    pub const TABLE: [(Self, u8, &str); 12] = [
        (Self::Done, 0, "done, converged, plan made"),
        (Self::Failed, 1, "failed"),
        (
            Self::Pending,
            2,
            "changes pending (`plan --detailed-exitcode` only)",
        ),
        (Self::Usage, 3, "configuration or usage"),
        (Self::Refused, 4, "refused by a guard"),
        (Self::Partial, 5, "partly done"),
        (
            Self::ObjectiveMissed,
            6,
            "converged, but an objective is missed",
        ),
        (Self::LeaseHeld, 7, "lease held, by a command that insists"),
        (Self::Unreachable, 8, "destination or database unreachable"),
        (Self::Verification, 9, "verification failed"),
        (Self::Stale, 10, "stale saved plan or digest"),
        (Self::Interrupted, 130, "interrupted, state clean"),
    ];

    /// Which of several endings is told, worst first.
    const PRECEDENCE: [Self; 8] = [
        Self::Refused,
        Self::Failed,
        Self::Verification,
        Self::Unreachable,
        Self::Partial,
        Self::ObjectiveMissed,
        Self::LeaseHeld,
        Self::Done,
    ];

    /// The code.
    pub fn code(self) -> u8 {
        let row = Self::TABLE.iter().find(|(exit, ..)| *exit == self);
        row.map_or(1, |(_, code, _)| *code)
    }

    /// The ending that stands for several servers.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        let rank = |exit| Self::PRECEDENCE.iter().position(|each| *each == exit);
        // What is not ranked (usage, staleness, interruption) ends the whole run and wins.
        match (rank(self), rank(other)) {
            (None, _) => self,
            (Some(own), Some(others)) if own <= others => self,
            _ => other,
        }
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Usage => Self::Usage,
            Kind::Refused => Self::Refused,
            Kind::Partial => Self::Partial,
            Kind::LeaseHeld => Self::LeaseHeld,
            Kind::Unreachable => Self::Unreachable,
            Kind::Verification => Self::Verification,
            Kind::Stale => Self::Stale,
            Kind::Interrupted => Self::Interrupted,
            Kind::NotFound | Kind::Failed => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_several_servers_the_worst_ending_is_told() {
        let worst = |exits: &[Exit]| exits.iter().copied().fold(Exit::Done, Exit::worst);
        assert_eq!(worst(&[]), Exit::Done);
        assert_eq!(
            worst(&[Exit::ObjectiveMissed, Exit::Unreachable]),
            Exit::Unreachable
        );
        assert_eq!(
            worst(&[Exit::Failed, Exit::Refused, Exit::Partial]),
            Exit::Refused
        );
        assert_eq!(
            worst(&[Exit::Refused, Exit::Interrupted]),
            Exit::Interrupted
        );
    }
}
