//! The proof that a directory on this machine belongs to the server that was connected to.
//!
//! Copying files of one cluster between the start and the stop of another gives a backup that restores to garbage. [`prove`] therefore compares
//! what the server says with what lies in the directory: the system identifier in `global/pg_control`, and in `postmaster.pid` the
//! data directory, the port and the time of the start. A replica of the same cluster shares the first; only the very same postmaster shares
//! all. The directory may be mounted here under another path. Formats: `catalog/pg_control.h` and `utils/pidfile.h`.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    control_file::{self, ControlFile},
    identify::ServerFacts,
};
use crate::{
    failure::Kind,
    model::{
        time::Timestamp,
        wal::{SegmentSize, SystemId},
    },
};

/// How long after writing `postmaster.pid` a postmaster may set its own start time: it loads libraries, looks up the addresses to
/// listen on and allocates memory in between.
const START_SPREAD: Duration = Duration::from_mins(1);

/// Why a directory is not, or cannot be shown to be, the server's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that the proof needs cannot be read. A missing directory is one, too.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The control file cannot be believed.
    #[error("cannot use the control file in `{pgdata}`")]
    ControlFile {
        /// The directory.
        pgdata: PathBuf,
        /// Why.
        source: control_file::Error,
    },
    /// `postmaster.pid` is not what a running server leaves.
    #[error("`{0}` is not what a running server leaves")]
    PidFile(PathBuf),
    /// Something differs.
    #[error("the server's {what} is `{server}`, but `{pgdata}` has `{here}`")]
    Differs {
        /// What differs.
        what: &'static str,
        /// What the server says.
        server: String,
        /// Where it differs.
        pgdata: PathBuf,
        /// What the directory says.
        here: String,
    },
}

impl Error {
    /// What this means to whoever waits for a backup.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } | Self::PidFile(_) | Self::Differs { .. } => Kind::Failed,
            Self::ControlFile { source, .. } => source.kind(),
        }
    }

    /// Whether the directory simply is another machine's matter, rather than broken.
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Differs { .. } => true,
            Self::PidFile(_) | Self::ControlFile { .. } => false,
        }
    }
}

/// What identifies one running postmaster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The identity that `initdb` gave the cluster.
    pub system_id: SystemId,
    /// The size of its WAL segments.
    pub segment_size: SegmentSize,
    /// Its data directory, as the server sees it.
    pub data_directory: PathBuf,
    /// Its port.
    pub port: u16,
    /// When it started.
    pub started_at: Timestamp,
}

impl From<&ServerFacts> for Identity {
    fn from(facts: &ServerFacts) -> Self {
        Self {
            system_id: facts.system_id,
            segment_size: facts.segment_size,
            data_directory: facts.data_directory.clone(),
            port: facts.port,
            started_at: facts.started_at,
        }
    }
}

/// Shows that a directory here belongs to the server, or says why not. Gives the control file that it read.
///
/// Reads two small files, so call it where blocking for that long does no harm.
pub fn prove(pgdata: &Path, server: &Identity) -> Result<ControlFile, Error> {
    let control = read_control_file(pgdata)?;
    let path = pgdata.join("postmaster.pid");
    let text = String::from_utf8_lossy(&read(&path)?).into_owned();
    let pid_file = PidFile::parse(&text).ok_or(Error::PidFile(path))?;
    compare(pgdata, server, &control, &pid_file).map(|()| control)
}

/// Reads a cluster's control file, again if it was caught half written.
pub fn read_control_file(pgdata: &Path) -> Result<ControlFile, Error> {
    const ATTEMPTS: usize = 10;
    let path = pgdata.join("global/pg_control");
    let mut last = control_file::Error::Checksum;
    for _ in 0..ATTEMPTS {
        match ControlFile::parse(&read(&path)?) {
            Ok(control) => return Ok(control),
            Err(error) => last = error,
        }
    }
    Err(Error::ControlFile {
        pgdata: pgdata.to_owned(),
        source: last,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

/// The lines of `postmaster.pid` that identify its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    /// The second line: the data directory.
    pub data_directory: PathBuf,
    /// The third line: the time of the start, in whole seconds.
    pub started_at: Timestamp,
    /// The fourth line: the port.
    pub port: u16,
}

impl PidFile {
    /// Reads the file's text; `None` if it is not of a running server (a single-user one has a negative process id).
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let _process: u32 = lines.next()?.trim().parse().ok()?;
        let data_directory = PathBuf::from(lines.next()?);
        let started_at = Timestamp::from_unix_seconds(lines.next()?.trim().parse().ok()?)?;
        let port = lines.next()?.trim().parse().ok()?;
        Some(Self {
            data_directory,
            started_at,
            port,
        })
    }
}

fn compare(
    pgdata: &Path,
    server: &Identity,
    control: &ControlFile,
    pid_file: &PidFile,
) -> Result<(), Error> {
    let differs = |what, server: String, here: String| {
        Err(Error::Differs {
            what,
            server,
            pgdata: pgdata.to_owned(),
            here,
        })
    };
    if control.system_id != server.system_id {
        let (server, here) = (server.system_id, control.system_id);
        return differs("system identifier", server.to_string(), here.to_string());
    }
    if control.segment_size != server.segment_size {
        let (server, here) = (server.segment_size, control.segment_size);
        let text = |size: SegmentSize| size.bytes().to_string();
        return differs("WAL segment size", text(server), text(here));
    }
    if pid_file.port != server.port {
        let (server, here) = (server.port, pid_file.port);
        return differs("port", server.to_string(), here.to_string());
    }
    if pid_file.data_directory != server.data_directory {
        let (server, here) = (&server.data_directory, &pid_file.data_directory);
        let text = |path: &Path| path.display().to_string();
        return differs("data directory", text(server), text(here));
    }
    let (started, here) = (server.started_at, pid_file.started_at);
    if started < here || started.since(here) > START_SPREAD {
        return differs("start time", started.to_string(), here.to_string());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID_FILE: &str = "4711\n/pg/data\n1700000000\n5433\n/run/pg\n*\n  123 4\nready   \n";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds).expect("an instant")
    }

    fn server() -> Identity {
        Identity {
            system_id: SystemId(7),
            segment_size: SegmentSize::DEFAULT,
            data_directory: "/pg/data".into(),
            port: 5433,
            started_at: at(1_700_000_000) + Duration::from_millis(250),
        }
    }

    fn control(system_id: u64) -> ControlFile {
        ControlFile {
            system_id: SystemId(system_id),
            version: 1300,
            catalog_version: 202_209_061,
            state: control_file::ClusterState::InProduction,
            written_at: at(0),
            checkpoint: crate::model::wal::Lsn(0),
            redo: crate::model::wal::Lsn(0),
            timeline: crate::model::timeline::TimelineId::FIRST,
            checkpoint_at: at(0),
            min_recovery_end: crate::model::wal::Lsn(0),
            min_recovery_end_timeline: None,
            page_size: 8192,
            pages_per_file: 131_072,
            segment_size: SegmentSize::DEFAULT,
            data_checksums: true,
        }
    }

    fn verdict(system_id: u64, pid_file: &str) -> String {
        let pid_file = PidFile::parse(pid_file).expect("a pid file");
        match compare(Path::new("/mnt"), &server(), &control(system_id), &pid_file) {
            Ok(()) => "local".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn only_the_very_same_postmaster_is_local() {
        assert_eq!(verdict(7, PID_FILE), "local");
        let cases = [
            (
                verdict(8, PID_FILE),
                "the server's system identifier is `7`, but `/mnt` has `8`",
            ),
            (
                verdict(7, &PID_FILE.replace("5433", "5432")),
                "the server's port is `5433`, but `/mnt` has `5432`",
            ),
            (
                verdict(7, &PID_FILE.replace("/pg/data", "/pg/other")),
                "the server's data directory is `/pg/data`, but `/mnt` has `/pg/other`",
            ),
            (
                verdict(7, &PID_FILE.replace("1700000000", "1700000001")),
                "the server's start time is `2023-11-14T22:13:20Z`, but `/mnt` has \
                 `2023-11-14T22:13:21Z`",
            ),
            (
                verdict(7, &PID_FILE.replace("1700000000", "1699999900")),
                "the server's start time is `2023-11-14T22:13:20Z`, but `/mnt` has \
                 `2023-11-14T22:11:40Z`",
            ),
        ];
        for (seen, expected) in cases {
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn what_no_running_server_leaves_is_not_a_pid_file() {
        for text in [
            "",
            "4711\n",
            "4711\n/d\nx\n1\n",
            "-4711\n/d\n1\n1\n",
            "1\n/d\n1\n99999\n",
        ] {
            assert_eq!(PidFile::parse(text), None, "{text:?}");
        }
    }
}
