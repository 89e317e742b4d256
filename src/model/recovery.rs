//! What can be restored, and from which backup.

use serde::{Deserialize, Serialize};

use super::{time::Timestamp, timeline::TimelineId, wal::Lsn};

/// Where recovery stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryTarget {
    /// At the end of the WAL.
    Latest,
    /// As soon as the cluster is consistent.
    Immediate,
    /// At this instant.
    Time(Timestamp),
    /// At this position.
    Lsn(Lsn),
    /// At the end of this transaction.
    Xid(u64),
    /// At the restore point of this name.
    Name(String),
}

/// Which timeline recovery follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetTimeline {
    /// The newest in the archive.
    #[default]
    Latest,
    /// That of the backup.
    Current,
    /// This one.
    Number(TimelineId),
}
