//! `barman-cloud-check-wal-archive`: whether a new server can archive its WAL there.

use super::{
    Command, Session,
    arguments::{Connection, Taken, Upload},
    error::Error,
};

/// `barman-cloud-check-wal-archive`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CheckWalArchive {
    pub(super) connection: Connection,
    pub(super) timeline: Option<u64>,
}

impl From<Taken> for CheckWalArchive {
    fn from(mut taken: Taken) -> Self {
        Self {
            connection: taken.destination(),
            timeline: taken.count("timeline"),
        }
    }
}

impl Command for CheckWalArchive {
    const EXCEPTION: &'static str = "Barman cloud WAL archive check exception";

    fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn run(self, _session: &Session) -> Result<(), Error> {
        let Some(_archive) = self.connection.reach(&Upload::default()).await? else {
            return Ok(());
        };
        Err(Error::General("this command is not there yet".to_owned()))
    }
}
