//! What barkeep itself writes down beside a catalog, under `<server>/barkeep/`.
//!
//! None of it is needed to restore. Losing any of it makes barkeep more careful, never bolder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{
    backup::{ArchiveRoot, BackupId, KeepTarget},
    compression::Compression,
    policy::Policy,
    time::Timestamp,
    wal::{Lsn, SegmentName, SystemId},
};

/// `barkeep/identity`: the cluster that a prefix belongs to, pinned at the first contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster's system identifier.
    pub system_id: SystemId,
    /// When it was pinned.
    pub pinned_at: Timestamp,
}

/// `barkeep/attempts/<id>`: a backup that a barkeep process started. Removed once the backup is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The backup.
    pub backup: BackupId,
    /// When it was started.
    pub started_at: Timestamp,
    /// The process that runs it.
    pub by: Actor,
    /// The instant of the schedule that it answers, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Rewritten while the attempt lives, so that a dead one can be told from a slow one.
    pub alive_at: Timestamp,
    /// Known once PostgreSQL has left backup mode: all that is needed to finish without the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
}

/// A process, told apart from every other one that ever ran: a number alone is used again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The machine's name, for people.
    pub host: String,
    /// The machine's present start: Linux' boot id.
    pub boot: String,
    /// The process's number.
    pub pid: u32,
    /// When the process started, in clock ticks since the machine did.
    pub started: u64,
}

impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {} on {}", self.pid, self.host)
    }
}

/// What is known about the process behind an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// It runs, on this host.
    Alive,
    /// It does not: this host would know.
    Dead,
    /// It ran elsewhere; only the age of its last sign tells.
    Elsewhere,
}

/// What an attempt knows when PostgreSQL has left backup mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The text that `backup.info` gets once WAL up to `end_wal` is stored.
    pub final_info: String,
    /// The first segment that the backup needs.
    pub begin_wal: SegmentName,
    /// The last segment that the backup needs.
    pub end_wal: SegmentName,
    /// Where it becomes consistent.
    pub end_lsn: Lsn,
    /// Every archive as uploaded.
    pub archives: Vec<ArchiveRecord>,
}

/// An archive as it was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRecord {
    /// Whose files it holds.
    pub root: ArchiveRoot,
    /// Its place among the archives of that root.
    pub part: u32,
    /// How it is compressed.
    pub compression: Compression,
    /// Its size as stored, in bytes.
    pub bytes: u64,
    /// Its checksum as the store returned it, in the store's own words; none if it returns none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// `barkeep/evidence/<id>/pages`: what the verification of data pages found while a backup was taken. Written only if it found
/// damage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageEvidence {
    /// The backup.
    pub backup: BackupId,
    /// When, by our clock.
    pub at: Timestamp,
    /// How many files have damaged pages.
    pub files: u64,
    /// The first of them.
    pub damaged: Vec<DamagedPages>,
}

/// A file of a relation with pages whose checksum is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPages {
    /// Where it was on the server.
    pub path: PathBuf,
    /// How many of its pages are damaged.
    pub pages: u64,
    /// The first of them, counted from the beginning of the relation.
    pub blocks: Vec<u32>,
}

/// `barkeep/deleted/<instant>-<digest>`: the backups that one run set out to delete, written before it does. The budget counts them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// The digest of the plan that did it.
    pub plan: String,
    /// The backups.
    pub backups: BTreeMap<BackupId, Epitaph>,
}

/// What is recorded of one deleted backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epitaph {
    /// The version of its `backup.info`: a backup that comes back under the same id is another one.
    pub version: String,
    /// Why, for people.
    pub reason: String,
}

/// A backup that barkeep deleted, or set out to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// The backup.
    pub backup: BackupId,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// What is recorded of it.
    #[serde(flatten)]
    pub epitaph: Epitaph,
}

impl Deletion {
    /// A tombstone for each backup.
    pub fn tombstones(self) -> impl Iterator<Item = Tombstone> {
        let at = self.at;
        let each = self.backups.into_iter();
        each.map(move |(backup, epitaph)| Tombstone {
            backup,
            at,
            epitaph,
        })
    }
}

/// `barkeep/keeps/<id>`: who set a keep, why, until when. A keep without one is a person's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepRecord {
    /// The backup.
    pub backup: BackupId,
    /// With how much WAL.
    pub target: KeepTarget,
    /// Why.
    pub reason: String,
    /// Until when; for ever if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// When it was set.
    pub set_at: Timestamp,
    /// Who set it.
    #[serde(default)]
    pub by: SetBy,
}

/// Who set a keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetBy {
    /// A plan, because the configuration says so.
    Policy,
    /// A person.
    Person(String),
}

impl Default for SetBy {
    /// Where nobody says, it was a person: nothing but a person releases it.
    fn default() -> Self {
        Self::Person("somebody".to_owned())
    }
}

impl fmt::Display for SetBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy => formatter.pad("the configuration"),
            Self::Person(name) => formatter.pad(name),
        }
    }
}

/// `barkeep/marks/<id>`: a backup that goes once its grace has passed, if the plan still agrees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The backup.
    pub backup: BackupId,
    /// When it was marked, by the store's clock.
    pub at: Timestamp,
    /// What was decided about it: a backup that comes back under the same id is another one.
    #[serde(flatten)]
    pub epitaph: Epitaph,
}

/// `barkeep/baseline`: what the last run was configured to keep, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// What the policy was.
    #[serde(flatten)]
    pub policy: Policy,
    /// The complete backups that were retained: one that is gone without a tombstone has vanished.
    pub backups: BTreeSet<BackupId>,
    /// The backups that had been deleted within a day, and when: the budget must find them again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deleted: BTreeMap<BackupId, Timestamp>,
}
