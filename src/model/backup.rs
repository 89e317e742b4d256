//! A backup as the catalog knows it, and the operator's word that it must stay.
//!
//! A [`Backup`] holds what judgements need. The whole record, with the fields that other programs wrote, is
//! `format::backup_info::BackupInfo`; it is read and rewritten there and never lost.

use std::{fmt, path::PathBuf, str::FromStr};

use chrono::NaiveDateTime;
use serde::{Deserialize, Serialize};

use super::{
    compression::Compression,
    time::Timestamp,
    timeline::TimelineId,
    wal::{Lsn, SegmentName, SegmentSize, SystemId},
};

/// The name of a backup's directory in the catalog: local time as `20261120T234333` where Barman or barkeep chose it, but
/// any text that a catalog holds.
///
/// Barman orders backups by this text everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BackupId(String);

impl BackupId {
    const FORMAT: &str = "%Y%m%dT%H%M%S";

    /// Takes a directory name as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The id of a backup that starts at this local time.
    pub fn at(local: NaiveDateTime) -> Self {
        Self(local.format(Self::FORMAT).to_string())
    }

    /// The local time that the id names, if it has the usual form.
    pub fn local_time(&self) -> Option<NaiveDateTime> {
        let exact = self.0.len() == 15;
        let parse = || NaiveDateTime::parse_from_str(&self.0, Self::FORMAT).ok();
        exact.then(parse).flatten()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// How far a backup has come, in Barman's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BackupStatus {
    /// Nothing has been recorded.
    Empty,
    /// PostgreSQL is in backup mode, or was when the writer died.
    Started,
    /// It did not succeed.
    Failed,
    /// The files are stored; WAL up to its end is not yet.
    WaitingForWals,
    /// Complete.
    Done,
    /// A passive Barman node is copying it.
    Syncing,
}

impl BackupStatus {
    /// Every status with Barman's word for it.
    pub const ALL: [(Self, &str); 6] = [
        (Self::Empty, "EMPTY"),
        (Self::Started, "STARTED"),
        (Self::Failed, "FAILED"),
        (Self::WaitingForWals, "WAITING_FOR_WALS"),
        (Self::Done, "DONE"),
        (Self::Syncing, "SYNCING"),
    ];
}

impl fmt::Display for BackupStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(status, _)| status == self);
        formatter.pad(known.map_or("EMPTY", |(_, word)| word))
    }
}

/// Why a text is no status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no status of a backup")]
pub struct UnknownStatus(pub String);

impl FromStr for BackupStatus {
    type Err = UnknownStatus;
    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        let known = Self::ALL.iter().find(|(_, word)| *word == text);
        known
            .map(|(status, _)| *status)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

/// How much of the WAL a kept backup keeps with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(schemars::JsonSchema)]
pub enum KeepTarget {
    /// All WAL from its beginning on: any later instant stays reachable.
    Full,
    /// Only the WAL that makes it consistent.
    Standalone,
}

impl fmt::Display for KeepTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Full => "full",
            Self::Standalone => "standalone",
        })
    }
}

/// A tablespace outside PGDATA.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its name in SQL.
    pub name: String,
    /// Its object id, which names its archive and its link in `pg_tblspc`.
    pub oid: u32,
    /// Its directory on the server.
    pub location: PathBuf,
}

/// Which directory of the server an archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveRoot {
    /// PGDATA: `data.tar`.
    Data,
    /// The tablespace with this object id: `<oid>.tar`.
    Tablespace(u32),
}

impl fmt::Display for ArchiveRoot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data => formatter.write_str("data"),
            Self::Tablespace(oid) => write!(formatter, "{oid}"),
        }
    }
}

/// One tar object of a backup, as listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StoredArchive {
    /// Whose files it holds.
    pub root: ArchiveRoot,
    /// Its place among the archives of that root: 0 for `data.tar`, 1 for `data_0001.tar`.
    pub part: u32,
    /// How it is compressed, which only the object's name tells.
    pub compression: Compression,
    /// Its size as stored, in bytes.
    pub bytes: u64,
}

/// A backup in a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Its directory's name.
    pub id: BackupId,
    /// The name that people gave it.
    pub name: Option<String>,
    /// How far it has come.
    pub status: BackupStatus,
    /// When PostgreSQL entered backup mode.
    pub begin_time: Option<Timestamp>,
    /// When PostgreSQL left backup mode.
    pub end_time: Option<Timestamp>,
    /// The first segment that a restore needs.
    pub begin_wal: Option<SegmentName>,
    /// The last segment that makes it consistent.
    pub end_wal: Option<SegmentName>,
    /// Where recovery starts.
    pub begin_lsn: Option<Lsn>,
    /// Where it becomes consistent.
    pub end_lsn: Option<Lsn>,
    /// The timeline at its start.
    pub timeline: Option<TimelineId>,
    /// The cluster's identity, if the writer could read it.
    pub system_id: Option<SystemId>,
    /// PostgreSQL's `server_version_num`, such as 150018.
    pub version: Option<u32>,
    /// The cluster's segment size.
    pub segment_size: SegmentSize,
    /// PGDATA on the server.
    pub pgdata: Option<PathBuf>,
    /// The tablespaces whose archives belong to it, in the server's order.
    pub tablespaces: Vec<Tablespace>,
    /// The backup that an incremental one builds on.
    pub parent: Option<BackupId>,
    /// The incrementals that build on this one.
    pub children: Vec<BackupId>,
    /// The disk snapshots that hold its files, if no archives do.
    pub snapshots: Vec<String>,
    /// The keep found in the catalog.
    pub keep: Option<KeepTarget>,
    /// Its archives, ordered by root and part.
    pub archives: Vec<StoredArchive>,
    /// What went wrong, for a failed one.
    pub error: Option<String>,
    /// Fields of its record that this program does not know: perhaps a later program's.
    #[serde(default)]
    pub unknown_fields: Vec<String>,
}

impl Backup {
    /// PostgreSQL's major version: 15 for 150018, 9 for 90624.
    pub fn major(&self) -> Option<u32> {
        self.version.map(|version| version / 10_000)
    }

    /// What its archives take up as stored, in bytes.
    pub fn stored_bytes(&self) -> u64 {
        self.archives.iter().map(|archive| archive.bytes).sum()
    }

    /// The first directory whose archive is missing or empty, or whose parts have a hole; `None` if a restore would find all.
    ///
    /// A snapshot backup has no archives; whether its snapshots exist is another question.
    pub fn missing_archive(&self) -> Option<ArchiveRoot> {
        if !self.snapshots.is_empty() {
            return None;
        }
        let tablespaces = self
            .tablespaces
            .iter()
            .map(|space| ArchiveRoot::Tablespace(space.oid));
        std::iter::once(ArchiveRoot::Data)
            .chain(tablespaces)
            .find(|root| !self.is_complete(*root))
    }

    fn is_complete(&self, root: ArchiveRoot) -> bool {
        let parts: Vec<_> = self
            .archives
            .iter()
            .filter(|archive| archive.root == root)
            .collect();
        let in_sequence = |(index, archive): (usize, &&StoredArchive)| {
            archive.bytes > 0 && usize::try_from(archive.part) == Ok(index)
        };
        !parts.is_empty() && parts.iter().enumerate().all(in_sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_local_time_only_in_the_usual_form() {
        let id = BackupId::new("20261120T234333");
        assert_eq!(id.local_time().map(BackupId::at), Some(id));
        assert_eq!(BackupId::new("2026112T0234333x").local_time(), None);
        assert_eq!(BackupId::new("lost+found").local_time(), None);
    }

    #[test]
    fn a_backup_of_snapshots_lacks_no_archive() {
        let mut backup = crate::model::scene::young("done", "1d");
        backup.archives.clear();
        assert_eq!(backup.missing_archive(), Some(ArchiveRoot::Data));
        backup.snapshots.push("snap-1".to_owned());
        assert_eq!(backup.missing_archive(), None);
    }
}
