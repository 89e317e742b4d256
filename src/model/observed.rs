//! What could be found out, with the gaps marked.
//!
//! [`Knowledge`] has three answers, not two: what could not be found out is [`Knowledge::Unknown`], and Unknown never
//! authorises destruction. An exhaustive `match` forces whoever decides to take the safe branch.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    action::WalSpan,
    backup::BackupId,
    catalog::Catalog,
    lock::Locks,
    names::{DestinationName, ServerName},
    record::{Attempt, Baseline, Identity, KeepRecord, Life, Mark, Tombstone},
    slot::SlotFacts,
    snapshot::{DiskSurvey, TaggedSnapshot},
    time::Timestamp,
    timeline::{TimelineHistory, TimelineId},
    wal::{Lsn, SegmentName, SegmentSize, SystemId},
};
use crate::failure::Failure;

/// The answer of an observation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knowledge<T> {
    /// It is so.
    Known(T),
    /// It is certainly not there.
    Absent,
    /// It could not be found out.
    Unknown(Failure),
}

impl<T> Knowledge<T> {
    /// What is known, if anything.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// Why it could not be found out, if it could not.
    pub fn unknown(&self) -> Option<&Failure> {
        match self {
            Self::Unknown(failure) => Some(failure),
            Self::Known(_) | Self::Absent => None,
        }
    }
}

/// What was found out about one server and its destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// The server.
    pub server: ServerName,
    /// PostgreSQL itself; `Absent` if the configuration names no connection.
    pub postgres: Knowledge<ServerFacts>,
    /// Whether the server's files are on this host.
    pub locality: Locality,
    /// Each destination of the server.
    pub destinations: BTreeMap<DestinationName, Stored>,
}

/// What was found out about a running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// The cluster's identity.
    pub system_id: SystemId,
    /// `server_version_num`.
    pub version: u32,
    /// The cluster's segment size.
    pub segment_size: SegmentSize,
    /// Whether it is a standby.
    pub role: Role,
    /// Its present timeline.
    pub timeline: TimelineId,
    /// Where that timeline comes from, as far as the server could tell.
    pub history: Option<TimelineHistory>,
    /// Where its files are.
    pub data_directory: PathBuf,
    /// What of them matters to whoever copies disks.
    #[serde(default)]
    pub files: ServerFiles,
    /// The end of its WAL, or of what it has replayed.
    pub position: Lsn,
    /// From where on it knows without a gap what its WAL changes, on its present timeline; `None` if it does not summarize it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summarized_from: Option<Lsn>,
    /// The slot through which its WAL is received, if that is wanted and there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotFacts>,
    /// The complete segments that its `pg_wal` on this host holds and that do not wait to be archived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_hand: Vec<WalSpan>,
    /// What its archiver says.
    pub archiver: Archiver,
    /// Its clock.
    pub clock: Timestamp,
}

/// Where files of a server are that may be on several disks, or on none that is backed up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFiles {
    /// What a copy must hold: the data directory, its WAL, tablespaces. Links are not followed.
    pub places: Vec<PathBuf>,
    /// The configuration files that lie outside of the data directory.
    pub outside: Vec<PathBuf>,
}

/// Whether a server is a primary or a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It accepts writes.
    Primary,
    /// It replays.
    Standby,
}

/// What `pg_stat_archiver` and the settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archiver {
    /// `archive_mode` is on or always.
    pub mode: ArchiveMode,
    /// The last segment archived.
    pub last_archived: Option<SegmentName>,
    /// When.
    pub last_archived_at: Option<Timestamp>,
    /// The last file that could not be archived.
    pub last_failed: Option<String>,
    /// When.
    pub last_failed_at: Option<Timestamp>,
    /// Segments that wait in `pg_wal/archive_status`, where the role may know or the files are local: the oldest.
    pub oldest_ready: Option<SegmentName>,
    /// Since when the oldest waits.
    pub oldest_ready_at: Option<Timestamp>,
}

/// `archive_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveMode {
    /// Nothing is archived.
    #[default]
    Off,
    /// A primary archives.
    On,
    /// A standby archives too.
    Always,
}

/// Whether the PGDATA on this host is the one of the server connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locality {
    /// It is: identifier, directory, port and start time agree.
    Local,
    /// It is not, or cannot be shown to be.
    NotLocal {
        /// What did not agree.
        why: String,
    },
}

/// What was found out about a server's catalog in one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// When it was read, by our clock.
    pub read_at: Timestamp,
    /// The store's clock then.
    pub store_time: Knowledge<Timestamp>,
    /// Backups and WAL; `Absent` where there is nothing yet.
    pub catalog: Knowledge<Catalog>,
    /// The cluster that the prefix belongs to.
    pub identity: Knowledge<Identity>,
    /// What the last run saw; `Absent` where there was none.
    pub baseline: Knowledge<Baseline>,
    /// The attempts on record, each with what is known about its process.
    pub attempts: Knowledge<BTreeMap<BackupId, (Attempt, Life)>>,
    /// The backups that barkeep deleted: at least those of the last 24 hours and since the baseline, and whatever tells of one that is
    /// still there in part.
    pub tombstones: Knowledge<Vec<Tombstone>>,
    /// The backups that are to go when their grace has passed.
    pub marks: Knowledge<BTreeMap<BackupId, Mark>>,
    /// The keeps that barkeep set.
    pub keep_records: Knowledge<BTreeMap<BackupId, KeepRecord>>,
    /// Uploads that were begun and neither completed nor aborted; `Absent` where the store cannot tell.
    pub uploads: Knowledge<Vec<PendingUpload>>,
    /// The locks of what would be deleted; `Absent` as long as nobody has looked.
    #[serde(skip)]
    pub locks: Knowledge<Locks>,
    /// The snapshots of disks that carry the tags of this catalog; `Absent` where no snapshots are taken, and none were.
    pub snapshots: Knowledge<Vec<TaggedSnapshot>>,
    /// Whether snapshots of the configured disks would be a backup; `Absent` where none are taken, and as long as nobody has looked.
    pub disks: Knowledge<DiskSurvey>,
}

impl Stored {
    /// A destination of which nothing could be found out.
    pub fn unknown(read_at: Timestamp, failure: &Failure) -> Self {
        Self {
            read_at,
            store_time: Knowledge::Unknown(failure.clone()),
            catalog: Knowledge::Unknown(failure.clone()),
            identity: Knowledge::Unknown(failure.clone()),
            baseline: Knowledge::Unknown(failure.clone()),
            attempts: Knowledge::Unknown(failure.clone()),
            tombstones: Knowledge::Unknown(failure.clone()),
            marks: Knowledge::Unknown(failure.clone()),
            keep_records: Knowledge::Unknown(failure.clone()),
            uploads: Knowledge::Unknown(failure.clone()),
            locks: Knowledge::Absent,
            snapshots: Knowledge::Absent,
            disks: Knowledge::Absent,
        }
    }
}

/// An upload that was begun and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingUpload {
    /// The backup whose archive it would have become.
    pub backup: BackupId,
    /// The object's key below the server's prefix.
    pub key: String,
    /// The store's name for the upload.
    pub id: String,
    /// When it was begun, by the store's clock.
    pub begun_at: Timestamp,
}
