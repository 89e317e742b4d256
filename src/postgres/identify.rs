//! What a server says of itself.
//!
//! [`Session::facts`] asks in a handful of queries that work on a primary and a standby, on every version from 13, with the grants of
//! `docs/postgresql-role.md`. What is only nice to know and not granted is `None`; what a backup needs and is not granted is an error with the
//! missing grant as its hint. A file that archived strangely is no reason to know nothing else, so unparsable names are `None`.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use super::{
    Error,
    session::{Session, get},
};
use crate::model::{
    backup::Tablespace,
    time::Timestamp,
    timeline::TimelineId,
    wal::{Lsn, SegmentName, SegmentSize, SystemId, WalFile},
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
    /// From where on the server knows without a gap what its WAL changes, on its present timeline; `None` if it does not summarize it.
    pub summarized_from: Option<Lsn>,
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

    /// Where its files are: WAL may be elsewhere, behind a link.
    pub fn places(&self) -> Vec<PathBuf> {
        let data = &self.data_directory;
        let tablespaces = self.tablespaces.iter().map(|space| space.location.clone());
        [data.clone(), data.join("pg_wal")]
            .into_iter()
            .chain(tablespaces)
            .collect()
    }

    /// The configuration files that lie outside of the data directory, as the server names them.
    pub fn outside_files(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.config_file, &self.hba_file, &self.ident_file];
        let files = files.into_iter().flatten().map(PathBuf::as_path);
        files.filter(|path| !self.holds(path))
    }

    /// Whatever else supplied a setting and lies outside of the data directory.
    pub fn outside_settings(&self) -> impl Iterator<Item = &Path> {
        let files = self.included_files.iter().map(PathBuf::as_path);
        files.filter(|path| !self.holds(path))
    }

    fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.data_directory)
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
    /// The first whole segment that waits to be archived, and since when, if one does and the role may know.
    pub oldest_ready: Option<(SegmentName, Timestamp)>,
}

impl Archiving {
    /// Whether anything is archived at all.
    pub fn is_on(&self) -> bool {
        self.mode != "off"
    }
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

/// One row with everything that the server must tell. The timeline on a primary is that of the WAL it writes: its control file
/// lags behind a promotion. On a standby it is the newest that recovery has reached.
const FACTS: &str = "\
    SELECT s.system_identifier::text, \
        current_setting('server_version_num')::int, \
        (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'), \
        pg_is_in_recovery(), \
        CASE WHEN pg_is_in_recovery() \
            THEN greatest(c.timeline_id, r.min_recovery_end_timeline) \
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END, \
        (CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), c.redo_lsn) \
            ELSE pg_current_wal_lsn() END)::text, \
        current_setting('data_directory'), \
        current_setting('port')::int, \
        nullif(current_setting('config_file'), ''), \
        nullif(current_setting('hba_file'), ''), \
        nullif(current_setting('ident_file'), ''), \
        current_setting('data_checksums') = 'on', \
        current_setting('summarize_wal', true) = 'on', \
        pg_postmaster_start_time(), \
        clock_timestamp() \
    FROM pg_control_system() s, pg_control_checkpoint() c, pg_control_recovery() r";

/// Every file but the main one that supplied a setting. A superuser or `pg_read_all_settings` sees them.
const INCLUDED_FILES: &str = "\
    SELECT DISTINCT sourcefile FROM pg_settings \
    WHERE sourcefile IS NOT NULL AND sourcefile <> current_setting('config_file') ORDER BY 1";

/// A tablespace in place has a relative location: it is part of PGDATA.
const TABLESPACES: &str = "\
    SELECT spcname::text, oid::bigint, pg_tablespace_location(oid) FROM pg_tablespace \
    WHERE pg_tablespace_location(oid) LIKE '/%' ORDER BY spcname::text COLLATE \"C\"";

const CLUSTER_SIZE: &str = "SELECT sum(pg_tablespace_size(oid))::bigint FROM pg_tablespace";

const ARCHIVING: &str = "\
    SELECT current_setting('archive_mode'), \
        nullif(current_setting('archive_command'), ''), \
        nullif(current_setting('archive_library', true), ''), \
        archived_count, last_archived_wal, last_archived_time, \
        failed_count, last_failed_wal, last_failed_time \
    FROM pg_stat_archiver";

/// What marks a segment that waits is PostgreSQL's: `archive_status/<segment>.ready`, made when it was complete.
const OLDEST_READY: &str = "\
    SELECT left(name, 24), modification FROM pg_ls_archive_statusdir() \
    WHERE name ~ '^[0-9A-F]{24}[.]ready$' ORDER BY name COLLATE \"C\" LIMIT 1";

impl Session {
    /// Asks the server everything about itself that a backup or a check wants to know.
    pub async fn facts(&self) -> Result<ServerFacts, Error> {
        const DOING: &str = "describe the server";
        let row = self.row(DOING, FACTS, &[]).await?;
        let answer = Answer {
            row: &row,
            doing: DOING,
        };
        let timeline = answer.timeline(4)?;
        let summarize_wal: Option<bool> = answer.get(12)?;
        let summarized_from = match summarize_wal {
            Some(true) => self.summarized_from(timeline).await?,
            _ => None,
        };
        Ok(ServerFacts {
            system_id: answer.parsed(0)?,
            version: answer.number(1)?,
            segment_size: answer.checked(2, |bytes: i64| {
                SegmentSize::new(u64::try_from(bytes).ok()?).ok()
            })?,
            role: if answer.get(3)? {
                Role::Standby
            } else {
                Role::Primary
            },
            timeline,
            position: answer.parsed(5)?,
            data_directory: answer.path(6)?,
            port: answer.checked(7, |port: i32| u16::try_from(port).ok())?,
            config_file: answer.maybe_path(8)?,
            hba_file: answer.maybe_path(9)?,
            ident_file: answer.maybe_path(10)?,
            included_files: self.included_files().await?,
            tablespaces: self.tablespaces().await?,
            data_checksums: answer.get(11)?,
            summarize_wal,
            summarized_from,
            cluster_size: self.cluster_size().await?,
            archiving: self.archiving().await?,
            started_at: answer.instant(13)?,
            now: answer.instant(14)?,
        })
    }

    /// Asks how WAL is archived, and how that goes.
    pub async fn archiving(&self) -> Result<Archiving, Error> {
        const DOING: &str = "say how it archives WAL";
        let row = self.row(DOING, ARCHIVING, &[]).await?;
        let answer = Answer {
            row: &row,
            doing: DOING,
        };
        let count = |column| answer.checked(column, |count: i64| u64::try_from(count).ok());
        Ok(Archiving {
            mode: answer.get(0)?,
            command: answer.get(1)?,
            library: answer.get(2)?,
            archiver: Archiver {
                archived_count: count(3)?,
                last_archived: answer.file(4)?,
                last_archived_at: answer.maybe_instant(5)?,
                failed_count: count(6)?,
                last_failed: answer.file(7)?,
                last_failed_at: answer.maybe_instant(8)?,
            },
            oldest_ready: self.oldest_ready().await?,
        })
    }

    async fn oldest_ready(&self) -> Result<Option<(SegmentName, Timestamp)>, Error> {
        const DOING: &str = "tell which WAL waits to be archived";
        let rows = match self.rows(DOING, OLDEST_READY).await {
            Ok(rows) => rows,
            Err(error) if error.is_insufficient_privilege() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let answer = Answer { row, doing: DOING };
        let since = answer.maybe_instant(1)?;
        Ok(answer.file(0)?.and_then(WalFile::segment).zip(since))
    }

    async fn summarized_from(&self, timeline: TimelineId) -> Result<Option<Lsn>, Error> {
        const DOING: &str = "tell what it has summarized";
        let sql = format!(
            "SELECT start_lsn::text, end_lsn::text FROM pg_available_wal_summaries() \
             WHERE tli = {} ORDER BY end_lsn DESC",
            timeline.number()
        );
        let rows = match self.rows(DOING, &sql).await {
            Ok(rows) => rows,
            Err(error) if error.is_insufficient_privilege() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut from = None;
        for row in &rows {
            let answer = Answer { row, doing: DOING };
            let (start, end): (Lsn, Lsn) = (answer.parsed(0)?, answer.parsed(1)?);
            if from.is_some_and(|from| end < from) {
                break;
            }
            from = Some(start);
        }
        Ok(from)
    }

    async fn included_files(&self) -> Result<Vec<PathBuf>, Error> {
        const DOING: &str = "name its configuration files";
        let rows = self.rows(DOING, INCLUDED_FILES).await?;
        rows.iter()
            .map(|row| Answer { row, doing: DOING }.path(0))
            .collect()
    }

    /// Asks for the tablespaces outside PGDATA's own directories, in order of name.
    pub async fn tablespaces(&self) -> Result<Vec<Tablespace>, Error> {
        const DOING: &str = "list its tablespaces";
        let rows = self.rows(DOING, TABLESPACES).await?;
        let tablespace = |row| {
            let answer = Answer { row, doing: DOING };
            Ok(Tablespace {
                name: answer.get(0)?,
                oid: answer.checked(1, |oid: i64| u32::try_from(oid).ok())?,
                location: answer.path(2)?,
            })
        };
        rows.iter().map(tablespace).collect()
    }

    async fn cluster_size(&self) -> Result<Option<u64>, Error> {
        const DOING: &str = "tell its size";
        match self.row(DOING, CLUSTER_SIZE, &[]).await {
            Ok(row) => Answer {
                row: &row,
                doing: DOING,
            }
            .checked(0, |bytes: i64| u64::try_from(bytes).ok())
            .map(Some),
            Err(error) if error.is_insufficient_privilege() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A row with what it answers, to name in an error.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) row: &'a Row,
    pub(super) doing: &'static str,
}

impl<'a> Answer<'a> {
    pub(super) fn get<T: tokio_postgres::types::FromSql<'a>>(
        self,
        column: usize,
    ) -> Result<T, Error> {
        get(self.row, self.doing, column)
    }

    /// A value that not every value of its SQL type can stand for.
    pub(super) fn checked<T, V>(
        self,
        column: usize,
        check: impl FnOnce(T) -> Option<V>,
    ) -> Result<V, Error>
    where
        T: tokio_postgres::types::FromSql<'a> + ToString,
    {
        let value: T = self.get(column)?;
        let answer = value.to_string();
        check(value).ok_or(Error::Answer {
            doing: self.doing,
            answer,
        })
    }

    pub(super) fn parsed<V: FromStr>(self, column: usize) -> Result<V, Error> {
        self.checked(column, |text: String| text.parse().ok())
    }

    pub(super) fn timeline(self, column: usize) -> Result<TimelineId, Error> {
        // An `int` in SQL, but 32 bits without a sign in PostgreSQL.
        self.checked(column, |number: i32| {
            TimelineId::new(number.cast_unsigned())
        })
    }

    pub(super) fn instant(self, column: usize) -> Result<Timestamp, Error> {
        self.get::<SystemTime>(column).map(instant)
    }

    fn maybe_instant(self, column: usize) -> Result<Option<Timestamp>, Error> {
        let time: Option<SystemTime> = self.get(column)?;
        Ok(time.map(instant))
    }

    fn number(self, column: usize) -> Result<u32, Error> {
        self.checked(column, |number: i32| u32::try_from(number).ok())
    }

    fn path(self, column: usize) -> Result<PathBuf, Error> {
        self.get::<String>(column).map(PathBuf::from)
    }

    fn maybe_path(self, column: usize) -> Result<Option<PathBuf>, Error> {
        let path: Option<String> = self.get(column)?;
        Ok(path.map(PathBuf::from))
    }

    fn file(self, column: usize) -> Result<Option<WalFile>, Error> {
        let name: Option<String> = self.get(column)?;
        Ok(name.and_then(|name| name.parse().ok()))
    }
}

fn instant(time: SystemTime) -> Timestamp {
    Timestamp::from(DateTime::<Utc>::from(time))
}
