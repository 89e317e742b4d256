//! Whether an object may be destroyed, as far as the store lets it be seen.
//!
//! Each cloud has its own words: retention and legal hold on S3, immutability policy and legal hold on Azure, holds, bucket and object
//! retention on Google Cloud Storage. [`Lock`] is what they come to, one verdict per object, and [`Remains`] what a permitted
//! delete leaves behind. barkeep looks at locks and never sets one.
//!
//! [`Lock::Unknown`] is no permission: what may not be seen may be locked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{action::WalSpan, backup::BackupId, runs::Runs, time::Timestamp};

/// Whether an object may be destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lock {
    /// Nothing forbids it.
    Free,
    /// It is retained for a time.
    LockedUntil {
        /// Until when; `None` where the store does not tell the instant, as with a policy of a whole Azure container.
        until: Option<Timestamp>,
        /// Who may shorten that.
        mode: LockMode,
    },
    /// Somebody holds it until further notice. It may be retained as well.
    Held,
    /// It could not be found out, for this reason.
    Unknown(String),
}

/// Who may shorten a retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Those with a special right: S3's governance, Azure's and Google's unlocked policies.
    Governance,
    /// Nobody: S3's compliance, Azure's and Google's locked policies.
    Compliance,
}

impl Lock {
    /// The verdict of a retention until this instant.
    pub fn until(until: Timestamp, mode: LockMode) -> Self {
        Self::LockedUntil {
            until: Some(until),
            mode,
        }
    }

    /// What it comes to at an instant: a retention that has passed forbids nothing.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        match self {
            Self::LockedUntil {
                until: Some(until), ..
            } if until <= now => Self::Free,
            lock => lock,
        }
    }

    /// Whether nothing forbids to destroy the object at this instant.
    pub fn is_free(&self, now: Timestamp) -> bool {
        self.clone().at(now) == Self::Free
    }

    /// The verdict over two objects of which both must go or neither: the one that lasts longer. What is unknown lasts longest.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if other.rank() > self.rank() {
            other
        } else {
            self
        }
    }

    fn rank(&self) -> (u8, Timestamp) {
        match self {
            Self::Free => (0, Timestamp::MAX),
            Self::LockedUntil { until, .. } => (1, until.unwrap_or(Timestamp::MAX)),
            Self::Held => (2, Timestamp::MAX),
            Self::Unknown(_) => (3, Timestamp::MAX),
        }
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => formatter.write_str("no object lock"),
            Self::LockedUntil {
                until: Some(until), ..
            } => write!(formatter, "object lock until {until}"),
            Self::LockedUntil { until: None, .. } => {
                formatter.write_str("object lock until a time that the store does not tell")
            }
            Self::Held => formatter.write_str("legal hold"),
            Self::Unknown(why) => write!(formatter, "whether it is locked is unknown: {why}"),
        }
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        })
    }
}

/// What a destination does by itself to keep what is written there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRetention {
    /// Whether its objects can be locked.
    pub locking: Locking,
    /// What a delete leaves behind.
    pub remains: Remains,
}

impl BucketRetention {
    /// A destination without locks, where what is deleted is gone.
    pub const NONE: Self = Self {
        locking: Locking::Off,
        remains: Remains::Nothing,
    };
}

/// Whether the objects of a destination can be locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locking {
    /// None ever is.
    Off,
    /// They can be.
    On {
        /// What a new object gets by itself, if anything.
        default: Option<DefaultLock>,
    },
    /// It could not be found out, for this reason.
    Unknown(String),
}

/// The lock that a new object gets by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultLock {
    /// Who may shorten it.
    pub mode: LockMode,
    /// For how long, where the store tells it.
    pub period: Option<Duration>,
}

/// What a delete leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remains {
    /// The bytes are gone.
    Nothing,
    /// The bytes stay as a version that is no longer current.
    Version {
        /// For how long after the delete; `None` is until somebody removes them.
        kept: Option<Duration>,
    },
    /// The bytes can be brought back.
    SoftDeleted {
        /// For how long after the delete.
        kept: Duration,
    },
    /// It could not be found out, for this reason.
    Unknown(String),
}

impl Remains {
    /// When the bytes of something that is deleted at an instant are gone; `None` if nobody can say.
    pub fn gone_at(&self, deleted: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Nothing => Some(deleted),
            Self::Version { kept } => kept.map(|kept| deleted + kept),
            Self::SoftDeleted { kept } => Some(deleted + *kept),
            Self::Unknown(_) => None,
        }
    }

    /// Whether a delete only hides what it deletes.
    pub fn is_logical(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::SoftDeleted { .. })
    }
}

/// The locks of what would be deleted in one destination, as far as somebody has looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locks {
    /// What the destination does by itself.
    pub retention: BucketRetention,
    /// Of each directory below `base/` that was looked at, the lock that lasts longest.
    pub directories: BTreeMap<BackupId, Lock>,
    /// Of each span of WAL that was looked at, a lock that forbids to delete all of it, if there is one.
    pub wal: BTreeMap<WalSpan, Lock>,
}

impl Locks {
    /// Nobody has looked at more than this.
    pub fn new(retention: BucketRetention) -> Self {
        Self {
            retention,
            directories: BTreeMap::new(),
            wal: BTreeMap::new(),
        }
    }

    /// The lock of a directory below `base/`; `None` if nobody has looked.
    pub fn directory(&self, id: &BackupId) -> Option<Lock> {
        match self.retention.locking {
            Locking::Off => Some(Lock::Free),
            Locking::On { .. } | Locking::Unknown(_) => self.directories.get(id).cloned(),
        }
    }

    /// The lock of a span of WAL; `None` if nobody has looked at all of it.
    pub fn span(&self, span: &WalSpan) -> Option<Lock> {
        if self.retention.locking == Locking::Off {
            return Some(Lock::Free);
        }
        let touches = |(seen, _): &(&WalSpan, &Lock)| seen.overlaps(span);
        let mut unseen: Runs = [span.run].into_iter().collect();
        let mut lock = Lock::Free;
        for (seen, found) in self.wal.iter().filter(touches) {
            unseen.remove(seen.run);
            lock = lock.and(found.clone());
        }
        unseen.is_empty().then_some(lock)
    }
}

/// What somebody should look at in one destination, before a plan can delete it. Even if it names nothing, what the destination does by
/// itself should be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Directories below `base/`.
    pub directories: BTreeSet<BackupId>,
    /// WAL, each span in the reach of one backup.
    pub wal: Vec<WalSpan>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds).expect("an instant")
    }

    fn locked(until: Option<i64>) -> Lock {
        Lock::LockedUntil {
            until: until.map(at),
            mode: LockMode::Governance,
        }
    }

    #[test]
    fn only_what_is_known_to_be_free_may_go() {
        for (lock, expected) in [
            (Lock::Free, true),
            (locked(Some(9)), true),
            (locked(Some(10)), true),
            (locked(Some(11)), false),
            (locked(None), false),
            (Lock::Held, false),
            (Lock::Unknown("silence".to_owned()), false),
        ] {
            assert_eq!(lock.is_free(at(10)), expected, "{lock}");
        }
    }

    #[test]
    fn of_all_locks_the_one_that_lasts_longest_counts() {
        let ascending = [
            Lock::Free,
            locked(Some(1)),
            locked(Some(2)),
            locked(None),
            Lock::Held,
            Lock::Unknown("silence".to_owned()),
        ];
        for (index, longer) in ascending.iter().enumerate() {
            for shorter in &ascending[..=index] {
                assert_eq!(shorter.clone().and(longer.clone()), *longer);
                assert_eq!(longer.clone().and(shorter.clone()), *longer);
            }
        }
    }

    #[test]
    fn a_lock_is_told_in_words() {
        for (lock, told) in [
            (Lock::Free, "no object lock"),
            (locked(Some(0)), "object lock until 1970-01-01T00:00:00Z"),
            (
                locked(None),
                "object lock until a time that the store does not tell",
            ),
        ] {
            assert_eq!(lock.to_string(), told);
        }
        let modes = [LockMode::Governance, LockMode::Compliance];
        assert_eq!(
            modes.map(|mode| mode.to_string()),
            ["governance", "compliance"]
        );
    }

    #[test]
    fn what_a_delete_leaves_behind_goes_by_itself_or_by_somebodys_hand() {
        let second = Duration::from_secs(1);
        for (remains, gone, is_logical) in [
            (Remains::Nothing, Some(7), false),
            (Remains::Version { kept: Some(second) }, Some(8), true),
            (Remains::Version { kept: None }, None, true),
            (Remains::SoftDeleted { kept: second }, Some(8), true),
            (Remains::Unknown("silence".to_owned()), None, false),
        ] {
            assert_eq!(remains.gone_at(at(7)), gone.map(at), "{remains:?}");
            assert_eq!(remains.is_logical(), is_logical, "{remains:?}");
        }
    }
}
