//! A backup as PostgreSQL sees it: backup mode from start to stop, in one session.

use crate::model::{time::Timestamp, timeline::TimelineId, wal::Lsn};

/// How the checkpoint at the start of a backup is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpoint {
    /// At once, whatever I/O that costs.
    Fast,
    /// Spread over `checkpoint_completion_target`, as any other.
    #[default]
    Spread,
}

/// What a backup is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRequest {
    /// The label, which ends up in `backup_label`; at most 1,024 bytes.
    pub label: String,
    /// How the first checkpoint is made.
    pub checkpoint: Checkpoint,
}

/// Where a backup began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupStart {
    /// The position from which WAL is needed.
    pub lsn: Lsn,
    /// The timeline of that position.
    pub timeline: TimelineId,
    /// The server's clock at the start.
    pub time: Timestamp,
}

/// Where a backup ended, and the files that PostgreSQL wants in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupStop {
    /// The position up to which WAL is needed.
    pub lsn: Lsn,
    /// The timeline of that position.
    pub timeline: TimelineId,
    /// The server's clock at the stop.
    pub time: Timestamp,
    /// The text of `backup_label`.
    pub backup_label: String,
    /// The text of `tablespace_map`, unless empty.
    pub tablespace_map: Option<String>,
}
