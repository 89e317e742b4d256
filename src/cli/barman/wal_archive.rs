//! `barman-cloud-wal-archive`: one WAL file, for `archive_command`.

//!
//! One short process from start to durable: nothing is archived ahead and nothing is kept on this host. What is there under the name
//! already is compared instead of overwritten, the one thing that Barman's command does not do.

use std::{ops::RangeInclusive, path::PathBuf};

use super::{
    Command, Session, Threads,
    arguments::{Connection, Tag, Taken, Upload},
    error::Error,
    hook::Hook,
};
use crate::{
    clock::Clock,
    execute::archive_wal::{
        self, ArchiveOptions, ArchiveTarget, Backlog, Requirement, WalConflict,
    },
    failure::chain,
    format::{python::Value, wal_header::ContentCheck},
    model::{
        compression::{Codec, Compression, Level},
        semantics::BARMAN,
        wal::WalFile,
    },
    store::Tags,
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
        let path = self.file()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.parse::<WalFile>().is_err() {
            let path = path.display();
            return Err(Error::Usage(format!(
                "{path} is an invalid name for a WAL file"
            )));
        }
        let Some(archive) = self.connection.reach(&self.upload).await? else {
            return Ok(());
        };
        let target = ArchiveTarget {
            destination: self.connection.destination(),
            archive,
            requirement: Requirement::Required,
            history_tags: self.history_tags(),
        };
        let archived = archive_wal::archive_wal(&path, &[target], &self.options()?).await;
        for warning in archived.map_err(told)?.warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }
}

impl WalArchive {
    /// The file: the one typed, or that of the Barman server whose hook this is.
    fn file(&self) -> Result<PathBuf, Error> {
        if let Some(hook) = Hook::read("barman-cloud-wal-archive") {
            return hook.wal_file();
        }
        let path = self.path.as_ref().map(PathBuf::from);
        let missing = "the following arguments are required: wal_path";
        path.ok_or_else(|| Error::Operation(missing.to_owned()))
    }

    fn history_tags(&self) -> Tags {
        if self.history_tags.is_empty() {
            return Tags::Configured;
        }
        Tags::Exactly(self.history_tags.iter().cloned().collect())
    }

    fn options(&self) -> Result<ArchiveOptions, Error> {
        Ok(ArchiveOptions {
            conflict: conflict(),
            records: BARMAN.records,
            check: ContentCheck::Off,
            backlog: Backlog::NONE,
            ..ArchiveOptions::new(codec(self.compression, self.level)?, Clock::System.now())
        })
    }
}

/// A level that is out of range means the nearest that is not, and nothing where there are no levels.
fn codec(compression: Compression, level: Option<Level>) -> Result<Codec, Error> {
    let in_range = |levels: RangeInclusive<i32>| match level? {
        Level::Exact(level) => Some(Level::Exact(level.clamp(*levels.start(), *levels.end()))),
        word => Some(word),
    };
    let level = compression.levels().and_then(in_range);
    Codec::for_wal(compression, level).map_err(|error| Error::general(&error))
}

/// What happens to a file whose name is taken. Barman writes over it; whoever depends on that says so by this variable.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line has no room for what Barman does not know"
)]
fn conflict() -> WalConflict {
    match std::env::var("BARKEEP_WAL_CONFLICT").as_deref() {
        Ok("overwrite") => WalConflict::Overwrite,
        _ => WalConflict::Compare,
    }
}

/// The store answers where a name is taken; everything else is an exception to Barman.
fn told(error: archive_wal::Error) -> Error {
    match error {
        archive_wal::Error::Conflict { .. } => Error::Operation(chain(&error)),
        error => Error::general(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_out_of_range_means_the_nearest_and_none_where_there_are_no_levels() {
        let level = |compression, level| codec(compression, level).expect("a codec").level();
        let exact = |number| Some(Level::Exact(number));
        for (compression, asked, got) in [
            (Compression::Gzip, None, 6),
            (Compression::Gzip, exact(i32::MAX), 9),
            (Compression::Gzip, exact(-3), 1),
            (Compression::Zstd, exact(i32::MIN), -22),
            (Compression::Xz, Some(Level::High), 5),
            (Compression::Snappy, exact(7), 0),
            (Compression::None, Some(Level::Low), 0),
        ] {
            assert_eq!(level(compression, asked), got, "{compression} {asked:?}");
        }
    }
}
