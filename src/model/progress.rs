//! How far long work has come, for whoever watches.

use super::{backup::BackupId, wal::SegmentName};

/// Something happened to a backup, a restore or a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new backup has its id; PostgreSQL is asked to start it.
    Claimed(BackupId),
    /// A stored backup is about to be read back.
    Verifying(BackupId),
    /// Files are about to be read or written: about so many bytes, if anybody knows.
    Begun {
        /// The estimate.
        bytes: Option<u64>,
    },
    /// So many bytes were read or written in all.
    Advanced {
        /// The bytes so far.
        bytes: u64,
    },
    /// Everything is read and PostgreSQL has left backup mode; what was built is being stored to its end.
    Stopped,
    /// So many hundredths of all snapshots are stored, as far as the cloud tells.
    Snapshots {
        /// The hundredths.
        percent: u8,
    },
    /// WAL that the backup needs is not stored yet; this is the first segment missing.
    Waiting(SegmentName),
    /// Everything was written and is being made durable, or read back.
    Checking,
}

/// Whoever watches. Called from any thread; it must not block.
pub trait Progress: Send + Sync {
    /// Takes note of an event.
    fn report(&self, event: Event);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn report(&self, _event: Event) {}
}
