//! How far an attempt has come, as whoever looks at the board sees it.

use std::fmt;

use serde::Serialize;

use super::board::Board;
use crate::model::{
    backup::BackupId,
    names::ServerName,
    progress::{Event, Progress},
    wal::SegmentName,
};

/// How far an attempt has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// The backup, once it has its id.
    pub backup: Option<BackupId>,
    /// What it does now.
    pub phase: Phase,
    /// How many bytes it has read.
    pub bytes: u64,
    /// Of how many, about.
    pub of: Option<u64>,
    /// The WAL that it waits for.
    pub missing: Option<SegmentName>,
}

/// What an attempt does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It waits for its turn, or for PostgreSQL to begin.
    #[default]
    Beginning,
    /// It reads.
    Reading,
    /// Everything is read, and what was built is being stored to its end.
    Storing,
    /// Everything is stored, and is looked at again.
    Checking,
    /// It waits for WAL.
    Waiting,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Beginning => "beginning",
            Self::Reading => "reading",
            Self::Storing => "storing",
            Self::Checking => "checking",
            Self::Waiting => "waiting for WAL",
        })
    }
}

impl Reached {
    /// Takes note of an event.
    pub fn note(&mut self, event: Event) {
        match event {
            Event::Claimed(id) | Event::Verifying(id) => self.backup = Some(id),
            Event::Begun { bytes } => {
                self.phase = Phase::Reading;
                self.of = bytes;
            }
            Event::Advanced { bytes } => self.bytes = bytes,
            // What the cloud copies is no byte of ours.
            Event::Stopped | Event::Snapshots { .. } => self.phase = Phase::Storing,
            Event::Waiting(segment) => {
                self.phase = Phase::Waiting;
                self.missing = Some(segment);
            }
            Event::Checking => self.phase = Phase::Checking,
        }
    }
}

/// Writes on the board how far one server's attempt is.
pub(super) struct OnBoard {
    board: Board,
    server: ServerName,
}

impl OnBoard {
    pub(super) fn new(board: &Board, server: &ServerName) -> Self {
        Self {
            board: board.clone(),
            server: server.clone(),
        }
    }
}

impl Progress for OnBoard {
    fn report(&self, event: Event) {
        self.board.change(&self.server, |row| {
            if let Some(attempt) = &mut row.attempt {
                attempt.reached.note(event);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{scene, time::Timestamp},
        reconcile::board::Attempt,
    };

    #[test]
    fn the_board_shows_how_far_an_attempt_is() {
        let server: ServerName = "orders".parse().expect("a name");
        let now: Timestamp = scene::now();
        let board = Board::new(now);
        board.configured([&server].into_iter(), now);
        let progress = OnBoard::new(&board, &server);
        // Without an attempt there is nothing to note.
        progress.report(Event::Advanced { bytes: 1 });
        let attempt = Attempt {
            destination: "primary".parse().expect("a name"),
            action: "backup",
            since: now,
            reached: Reached::default(),
        };
        board.change(&server, |row| row.attempt = Some(attempt));
        let segment: SegmentName = "000000010000000000000003".parse().expect("a name");
        let told = |event| {
            progress.report(event);
            let row = board.row(&server);
            let reached = row.attempt.expect("it runs").reached;
            let Reached {
                bytes, of, missing, ..
            } = &reached;
            format!("{} {bytes} of {of:?}, {missing:?}", reached.phase)
        };
        let bytes = Some(9);
        assert_eq!(told(Event::Begun { bytes }), "reading 0 of Some(9), None");
        assert_eq!(
            told(Event::Advanced { bytes: 5 }),
            "reading 5 of Some(9), None"
        );
        assert_eq!(told(Event::Stopped), "storing 5 of Some(9), None");
        assert!(told(Event::Waiting(segment)).starts_with("waiting for WAL 5"));
        assert!(told(Event::Waiting(segment)).contains("SegmentName"));
    }
}
