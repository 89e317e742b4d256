//! What a plan must never do, and where one would have.

use crate::model::{
    backup::BackupId, desired::Mode, lock::Lock, names::DestinationName, time::Timestamp,
};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{destination}`: {violation}")]
pub struct Refusal {
    /// Where.
    pub destination: DestinationName,
    /// Which.
    pub violation: Violation,
}

/// What a plan must never do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Something is deleted although it is not known what is there.
    #[error("{0} is unknown, so nothing may be deleted")]
    Unknown(&'static str),
    /// A `backup.info` cannot be understood.
    #[error("backup {0} cannot be understood, so nothing may be deleted")]
    Unreadable(BackupId),
    /// The observation is too old.
    #[error("the catalog was read more than five minutes ago, so nothing may be deleted")]
    Old,
    /// The prefix belongs to another cluster.
    #[error("the prefix belongs to another cluster, so nothing may be deleted")]
    ForeignSystem,
    /// The backup does not exist.
    #[error("backup {0} is not in the catalog")]
    NoSuchBackup(BackupId),
    /// The backup is kept.
    #[error("backup {0} is kept")]
    Kept(BackupId),
    /// The backup is running or not finished.
    #[error("backup {0} is not finished")]
    Unfinished(BackupId),
    /// The backup is damaged, which people must see first.
    #[error("backup {0} is damaged and not for a policy to delete")]
    Damaged(BackupId),
    /// The newest good backup.
    #[error("backup {0} is the newest good one of its cluster")]
    NewestGood(BackupId),
    /// The newest good backup without a damaged page.
    #[error("backup {0} is the newest without a damaged page")]
    NewestClean(BackupId),
    /// Fewer good backups than the minimum would be left.
    #[error("{left} good backups would be left, the minimum is {minimum}")]
    MinimumRedundancy {
        /// How many.
        left: usize,
        /// The minimum.
        minimum: usize,
    },
    /// An incremental that stays builds on the backup.
    #[error("backup {parent} is needed by {child}")]
    Parent {
        /// What would go.
        parent: BackupId,
        /// What stays.
        child: BackupId,
    },
    /// Something that stays needs the WAL.
    #[error("backup {backup} needs WAL that would be deleted, from {first}")]
    WalNeeded {
        /// What stays.
        backup: BackupId,
        /// The first segment.
        first: String,
    },
    /// No good backup would be left to go with the WAL.
    #[error("WAL would be deleted although no good backup stays")]
    WalWithoutBackup,
    /// The objects are not known to be an orphan's, or somebody may still be writing them.
    #[error("{0} is not known to be an orphan")]
    NotOrphaned(BackupId),
    /// The snapshot may belong to a backup, is locked, is young, or was not marked.
    #[error("snapshot {0} is not known to be left over")]
    NotLeftOver(String),
    /// The keep was set by somebody else, or its time has not come.
    #[error("the keep of {0} is not ours to release now")]
    NotReleasable(BackupId),
    /// Objects that would go are locked, or may be.
    #[error("{what}: {lock}")]
    Locked {
        /// The backup or the WAL.
        what: String,
        /// Until when, or why.
        lock: Lock,
    },
    /// A copy from elsewhere than the configuration says, or of something that is not good there.
    #[error("{0} is not to be copied from there")]
    NotToCopy(String),
    /// The store's clock and ours disagree.
    #[error("the store's clock says {store}, ours {ours}, so nothing may be deleted")]
    Clocks {
        /// Ours.
        ours: Timestamp,
        /// The store's.
        store: Timestamp,
    },
    /// No run has seen what is there, and nobody has adopted it.
    #[error("nobody has adopted what is there, so nothing may be deleted")]
    NotAdopted,
    /// A backup that was retained is gone, and nobody knows why.
    #[error("backup {0} has vanished, so nothing may be deleted")]
    Vanished(BackupId),
    /// The policy keeps less than at the last run.
    #[error("the policy keeps less than at the last run, and nobody has approved that")]
    Shortened,
    /// More would go within 24 hours than may.
    #[error("{all} backups would be deleted within 24 hours, the budget is {allowed}")]
    Budget {
        /// How many.
        all: usize,
        /// How many may.
        allowed: usize,
    },
    /// The backup was not marked, or not long enough ago.
    #[error("backup {0} was not marked for as long as its grace")]
    Unmarked(BackupId),
    /// The server's mode forbids it.
    #[error("mode is {0}")]
    Mode(Mode),
}
