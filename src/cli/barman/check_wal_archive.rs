//! `barman-cloud-check-wal-archive`: whether a new server can archive its WAL there.

use super::{
    Command, Session,
    arguments::{Connection, Taken, Upload},
    connection,
    error::Error,
};
use crate::{model::timeline::TimelineId, observe::wal::count_files, store::Meaning};

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
        let archive = self.connection.open(&Upload::default()).await?;
        let store = archive.store();
        match store.check_reachable().await {
            Err(error) if error.meaning == Meaning::Unreachable => {
                return Err(connection::unreachable(&error));
            }
            Err(error) if error.meaning == Meaning::BucketMissing && !self.connection.test => {
                store.create_destination().await?;
            }
            Err(error) if error.meaning != Meaning::BucketMissing => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        if self.connection.test {
            return Ok(());
        }
        let timeline = self.timeline.and_then(|timeline| {
            // No segment has a number beyond that.
            TimelineId::new(u32::try_from(timeline).unwrap_or(u32::MAX))
        });
        let count = count_files(&archive, timeline).await?;
        let found = match (count, self.timeline) {
            (0, _) => return Ok(()),
            (_, None) => "Expected empty archive".to_owned(),
            (_, Some(timeline)) => {
                let files = if count == 1 { "file" } else { "files" };
                format!(
                    "Found {count} {files} in WAL archive equal to or newer than timeline {timeline}"
                )
            }
        };
        let server = archive.server();
        Err(Error::Operation(format!(
            "WAL archive check failed for server {server}: {found}"
        )))
    }
}
