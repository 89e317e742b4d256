//! `barman-cloud-wal-restore`: one WAL file, for `restore_command`.

//!
//! The file appears whole or not at all. Only where the store has proved that it lacks it the command ends with 1, which is what ends a
//! recovery; whatever else goes wrong is 4.

use std::path::Path;

use super::{
    Command, Session, Threads,
    arguments::{Connection, Taken, Upload},
    error::Error,
};
use crate::{
    cli::commands::wal::data_directory,
    format::wal_header::ContentCheck,
    model::{compression::Compression, wal::WalFile},
    recover::wal::{self, Partial, RestoreOptions, RestoreRequest, RestoreSource, Restored},
    spool::Spool,
};

/// How many segments are fetched ahead at most: as many as Barman finds in one directory.
const AHEAD_MAX: usize = 255;

/// `barman-cloud-wal-restore`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WalRestore {
    pub(super) connection: Connection,
    pub(super) name: String,
    pub(super) destination: String,
    /// Never deliver a partial segment.
    pub(super) no_partial: bool,
    /// How many segments to fetch, the asked one included; less than two means that one.
    pub(super) parallel: i128,
    pub(super) spool: String,
}

impl From<Taken> for WalRestore {
    fn from(mut taken: Taken) -> Self {
        Self {
            connection: taken.source(),
            name: taken.word("wal_name"),
            destination: taken.word("wal_dest"),
            no_partial: taken.flag("no_partial"),
            parallel: taken.number("parallel").unwrap_or_default(),
            spool: taken.word("spool_dir"),
        }
    }
}

impl Command for WalRestore {
    const EXCEPTION: &'static str = "Barman cloud WAL restore exception";
    const THREADS: Threads = Threads::One;

    fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn run(self, _session: &Session) -> Result<(), Error> {
        let name = &self.name;
        let invalid = |_| Error::Usage(format!("{name} is an invalid name for a WAL file"));
        let file: WalFile = name.parse().map_err(invalid)?;
        let Some(archive) = self.connection.reach(&Upload::default()).await? else {
            return Ok(());
        };
        let to = std::path::absolute(&self.destination)?;
        let request = RestoreRequest {
            file,
            data_directory: data_directory(&to),
            to,
        };
        let source = RestoreSource {
            destination: self.connection.destination(),
            archive,
        };
        let restored = wal::restore_wal(&request, &[source], &self.options()).await;
        match restored.map_err(|error| Error::general(&error))? {
            Restored::Delivered(delivered) => {
                for warning in delivered.warnings {
                    tracing::warn!("{warning}");
                }
                Ok(())
            }
            // Proven: PostgreSQL and CloudNativePG take this code for the end of the archive.
            Restored::Absent => {
                let server = &self.connection.server;
                let message = format!("WAL file {name} for server {server} does not exist");
                Err(Error::Operation(message))
            }
        }
    }
}

impl WalRestore {
    fn options(&self) -> RestoreOptions {
        let ahead = usize::try_from(self.parallel.saturating_sub(1)).unwrap_or(0);
        // One that is there is used even if nothing is fetched ahead this time, as Barman does, but none is made.
        let has_spool = ahead > 0 || Path::new(&self.spool).is_dir();
        RestoreOptions {
            compression: None,
            partial: if self.no_partial {
                Partial::Refuse
            } else {
                Partial::Deliver
            },
            check: ContentCheck::Off,
            read_ahead: ahead.min(AHEAD_MAX),
            spool: has_spool.then(|| Spool::new(&self.spool)),
            ..RestoreOptions::new(Compression::None)
        }
    }
}
