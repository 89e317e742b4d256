//! `barman-cloud-wal-archive`: one WAL file, for `archive_command`.

use super::{
    Command, Session, Threads,
    arguments::{Connection, Tag, Taken, Upload},
    error::Error,
};
use crate::{
    format::python::Value,
    model::compression::{Compression, Level},
};

/// `barman-cloud-wal-archive`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WalArchive {
    pub(super) connection: Connection,
    pub(super) upload: Upload,
    /// None where a hook tells which file it is.
    pub(super) path: Option<String>,
    pub(super) compression: Compression,
    /// Out of the codec's range it means the nearest that is not.
    pub(super) level: Option<Level>,
    /// Instead of the other tags, on timeline histories.
    pub(super) history_tags: Vec<Tag>,
    /// Azure, in bytes.
    pub(super) max_block_size: u64,
    pub(super) max_concurrency: u64,
    /// Azure, in bytes.
    pub(super) max_single_put_size: u64,
}

impl From<Taken> for WalArchive {
    fn from(mut taken: Taken) -> Self {
        Self {
            connection: taken.destination(),
            upload: taken.upload(),
            path: taken.text("wal_path"),
            compression: taken.compression(),
            level: taken.level(),
            history_tags: taken.tags(["history_tags_append", "history_tags_list"]),
            max_block_size: taken.counted("max_block_size"),
            max_concurrency: taken.counted("max_concurrency"),
            max_single_put_size: taken.counted("max_single_put_size"),
        }
    }
}

impl Taken {
    fn level(&mut self) -> Option<Level> {
        match self.0.remove("compression_level")? {
            Value::Int(number) => {
                let nearest = if number < 0 { i32::MIN } else { i32::MAX };
                Some(Level::Exact(i32::try_from(number).unwrap_or(nearest)))
            }
            Value::Str(word) => match word.as_str() {
                "low" => Some(Level::Low),
                "medium" => Some(Level::Medium),
                "high" => Some(Level::High),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Command for WalArchive {
    const EXCEPTION: &'static str = "Barman cloud WAL archiver exception";
    const THREADS: Threads = Threads::One;

    fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn run(self, _session: &Session) -> Result<(), Error> {
        let Some(_archive) = self.connection.reach(&self.upload).await? else {
            return Ok(());
        };
        Err(Error::General("this command is not there yet".to_owned()))
    }
}
