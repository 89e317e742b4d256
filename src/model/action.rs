//! What a plan can ask for: a closed list of actions, each with all that carrying it out needs.
//!
//! An action leaves its executor no choice of target or order. It lives here, below the planner, so that whatever records it need not
//! know the planner.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    backup::{BackupId, KeepTarget},
    catalog::Run,
    lease::LeaseKind,
    names::DestinationName,
    time::Timestamp,
    timeline::TimelineId,
};

/// One thing to do, in one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum Action {
    /// Take a base backup of the server.
    TakeBackup {
        /// The id that the new one must be above, if there is any.
        above: Option<BackupId>,
        /// The instant of the schedule that it answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        due: Option<Timestamp>,
        /// The name that it gets.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The backup that it builds on, if it is an incremental one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<BackupId>,
    },
    /// Copy a backup from another destination: its WAL first, its `backup.info` last.
    CopyBackup {
        /// The backup.
        backup: BackupId,
        /// Where it is.
        from: DestinationName,
        /// The version of its `backup.info` there.
        version: String,
    },
    /// Copy WAL from another destination.
    CopyWal {
        /// Where it is.
        from: DestinationName,
        /// Exactly these segments.
        spans: Vec<WalSpan>,
        /// The histories of these timelines.
        histories: Vec<TimelineId>,
    },
    /// Archive WAL again that the server still has in `pg_wal`.
    ArchiveWal {
        /// Exactly these segments.
        spans: Vec<WalSpan>,
    },
    /// Read all of a backup back, and write down what was found.
    VerifyBackup {
        /// The backup.
        backup: BackupId,
    },
    /// Write the final `backup.info` of an attempt of ours that stored everything and died, or waited for WAL.
    FinishBackup {
        /// The backup.
        backup: BackupId,
    },
    /// Declare an attempt of ours failed, and free what its uploads left.
    AbandonAttempt {
        /// The backup.
        backup: BackupId,
        /// The backup that calls it its child though it never came to be: that is taken back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<BackupId>,
    },
    /// Set a keep.
    SetKeep {
        /// The backup.
        backup: BackupId,
        /// With how much WAL.
        target: KeepTarget,
        /// Until when.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// Release a keep.
    ReleaseKeep {
        /// The backup.
        backup: BackupId,
        /// After how long; at once if unset.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace: Option<Duration>,
    },
    /// Mark a backup: it goes once its grace has passed, if the plan still wants that.
    MarkDelete {
        /// The backup.
        backup: BackupId,
        /// The version of its `backup.info` that the decision rests on. Empty where there is none, and what is marked are snapshots of disks
        /// whose tags name the backup.
        version: String,
    },
    /// Withdraw the mark of a backup.
    Undelete {
        /// The backup.
        backup: BackupId,
    },
    /// Delete a backup: its objects, then its `backup.info`.
    DeleteBackup {
        /// The backup.
        backup: BackupId,
        /// The version of its `backup.info` that the decision rests on.
        version: String,
    },
    /// Delete objects below `base/` that belong to no backup.
    DeleteOrphan {
        /// The directory's name.
        backup: BackupId,
        /// When the youngest of them was written: nothing younger goes.
        newest: Timestamp,
    },
    /// Delete a snapshot of a disk that carries our tags, and that no backup records.
    DeleteSnapshot {
        /// The backup that its tag names.
        backup: BackupId,
        /// What the cloud knows it by.
        snapshot: String,
        /// When it was begun.
        begun_at: Timestamp,
    },
    /// Delete WAL.
    DeleteWal {
        /// Exactly these segments, with their partial and backup history files. Timeline histories never go.
        spans: Vec<WalSpan>,
    },
}

/// A run of segments on one timeline, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WalSpan {
    /// The timeline.
    pub timeline: TimelineId,
    /// Its segments.
    pub run: Run,
}

impl WalSpan {
    /// Whether they have a segment in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.timeline == other.timeline
            && self.run.first <= other.run.last
            && other.run.first <= self.run.last
    }
}

/// What an action does to what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It only adds.
    Additive,
    /// Something is gone afterwards, or protected less.
    Destructive,
}

impl Action {
    /// Whether the action only adds.
    pub fn effect(&self) -> Effect {
        match self {
            Self::TakeBackup { .. }
            | Self::CopyBackup { .. }
            | Self::CopyWal { .. }
            | Self::ArchiveWal { .. }
            | Self::VerifyBackup { .. }
            | Self::FinishBackup { .. }
            | Self::AbandonAttempt { .. }
            | Self::SetKeep { .. }
            | Self::Undelete { .. } => Effect::Additive,
            Self::ReleaseKeep { .. }
            | Self::MarkDelete { .. }
            | Self::DeleteBackup { .. }
            | Self::DeleteOrphan { .. }
            | Self::DeleteSnapshot { .. }
            | Self::DeleteWal { .. } => Effect::Destructive,
        }
    }

    /// The lease that whoever carries it out must hold; setting and releasing keeps, and settling what is ours, needs none.
    pub fn lease(&self) -> Option<LeaseKind> {
        match self {
            // Two that read a backup do no harm, and neither holds up a new one.
            Self::VerifyBackup { .. } | Self::ReleaseKeep { .. } => None,
            _ if self.is_attempt() => Some(LeaseKind::Attempt),
            _ if self.effect() == Effect::Destructive => Some(LeaseKind::Retention),
            _ => None,
        }
    }

    /// Whether the action is an attempt of its own beside the loop.
    pub fn is_attempt(&self) -> bool {
        matches!(
            self,
            Self::TakeBackup { .. } | Self::CopyBackup { .. } | Self::VerifyBackup { .. }
        )
    }

    /// The backup that the action is about; none for a new one and for WAL.
    pub fn backup(&self) -> Option<&BackupId> {
        match self {
            Self::TakeBackup { .. }
            | Self::CopyWal { .. }
            | Self::ArchiveWal { .. }
            | Self::DeleteWal { .. } => None,
            Self::CopyBackup { backup, .. }
            | Self::VerifyBackup { backup }
            | Self::FinishBackup { backup }
            | Self::AbandonAttempt { backup, .. }
            | Self::SetKeep { backup, .. }
            | Self::ReleaseKeep { backup, .. }
            | Self::MarkDelete { backup, .. }
            | Self::Undelete { backup }
            | Self::DeleteBackup { backup, .. }
            | Self::DeleteOrphan { backup, .. }
            | Self::DeleteSnapshot { backup, .. } => Some(backup),
        }
    }

    /// The verb that people read.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::TakeBackup { .. } => "backup",
            Self::CopyBackup { .. } => "copy",
            Self::CopyWal { .. } => "copy WAL",
            Self::ArchiveWal { .. } => "archive WAL",
            Self::VerifyBackup { .. } => "verify",
            Self::FinishBackup { .. } => "finish",
            Self::AbandonAttempt { .. } => "abandon",
            Self::SetKeep { .. } => "keep",
            Self::ReleaseKeep { .. } => "release",
            Self::MarkDelete { .. } => "mark",
            Self::Undelete { .. } => "undelete",
            Self::DeleteBackup { .. } => "delete",
            Self::DeleteOrphan { .. } => "delete orphan",
            Self::DeleteSnapshot { .. } => "delete snapshot",
            Self::DeleteWal { .. } => "delete WAL",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::wal::SegmentNumber;

    #[test]
    fn spans_overlap_that_have_a_segment_in_common() {
        let span = |timeline: u32, first: u64, last: u64| WalSpan {
            timeline: TimelineId::new(timeline).expect("they begin at 1"),
            run: Run {
                first: SegmentNumber(first),
                last: SegmentNumber(last),
            },
        };
        let one = span(1, 5, 7);
        for (other, is_common) in [
            (span(1, 7, 9), true),
            (span(1, 3, 5), true),
            (span(1, 6, 6), true),
            (span(1, 1, 9), true),
            (span(1, 8, 9), false),
            (span(1, 1, 4), false),
            (span(2, 5, 7), false),
        ] {
            assert_eq!(one.overlaps(&other), is_common, "{other:?}");
            assert_eq!(other.overlaps(&one), is_common, "{other:?}");
        }
    }
}
