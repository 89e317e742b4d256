//! What a server says of itself.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{
    backup::Tablespace,
    time::Timestamp,
    timeline::TimelineId,
    wal::{Lsn, SegmentSize, SystemId, WalFile},
};

/// Whether a server takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It does.
    Primary,
    /// It is in recovery.
    Standby,
}

/// What a server says of itself, as of [`now`](Self::now).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// The identity that `initdb` gave the cluster.
    pub system_id: SystemId,
    /// `server_version_num`, such as 170005.
    pub version: u32,
    /// The size of its WAL segments.
    pub segment_size: SegmentSize,
    /// Whether it takes writes.
    pub role: Role,
    /// The timeline it writes, or on a standby the one it replays.
    pub timeline: TimelineId,
    /// The end of its WAL: written on a primary, replayed on a standby.
    pub position: Lsn,
    /// `data_directory`.
    pub data_directory: PathBuf,
    /// `port`.
    pub port: u16,
    /// `config_file`.
    pub config_file: Option<PathBuf>,
    /// `hba_file`.
    pub hba_file: Option<PathBuf>,
    /// `ident_file`.
    pub ident_file: Option<PathBuf>,
    /// Every other file that supplied a setting, inside PGDATA and outside, in order of name.
    pub included_files: Vec<PathBuf>,
    /// The tablespaces that lie outside PGDATA's own directories, in order of name.
    pub tablespaces: Vec<Tablespace>,
    /// Whether data pages carry checksums.
    pub data_checksums: bool,
    /// `summarize_wal`; `None` before PostgreSQL 17.
    pub summarize_wal: Option<bool>,
    /// The bytes in all tablespaces; `None` without the privilege to ask.
    pub cluster_size: Option<u64>,
    /// How WAL is archived, and how that goes.
    pub archiving: Archiving,
    /// When the postmaster started.
    pub started_at: Timestamp,
    /// The server's clock.
    pub now: Timestamp,
}

impl ServerFacts {
    /// The major version, such as 17.
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }
}

/// How WAL is archived, and how that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archiving {
    /// `archive_mode`: `off`, `on` or `always`.
    pub mode: String,
    /// `archive_command`, unless empty.
    pub command: Option<String>,
    /// `archive_library`, unless empty; PostgreSQL 15 and later.
    pub library: Option<String>,
    /// What `pg_stat_archiver` counts.
    pub archiver: Archiver,
}

/// What `pg_stat_archiver` counts since its last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archiver {
    /// How many files were archived.
    pub archived_count: u64,
    /// The last file archived.
    pub last_archived: Option<WalFile>,
    /// When.
    pub last_archived_at: Option<Timestamp>,
    /// How many attempts failed.
    pub failed_count: u64,
    /// The last file that could not be archived.
    pub last_failed: Option<WalFile>,
    /// When.
    pub last_failed_at: Option<Timestamp>,
}
