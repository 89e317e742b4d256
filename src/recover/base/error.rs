//! What can go wrong with a restore.

use std::{io, path::PathBuf};

use crate::{
    failure::Kind,
    model::backup::{ArchiveRoot, BackupId},
    pipeline::untar,
    store,
};

/// A backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The backup lacks an archive.
    #[error("the backup `{backup}` cannot be restored: archives of `{root}` are missing")]
    MissingArchive {
        /// The backup.
        backup: BackupId,
        /// Whose files they hold.
        root: ArchiveRoot,
    },
    /// The archives lack a file without which no cluster starts.
    #[error("the backup `{backup}` cannot be restored: `{name}` is missing in its archives")]
    MissingFile {
        /// The backup.
        backup: BackupId,
        /// The file.
        name: &'static str,
    },
    /// A backup that it builds on is missing or not complete.
    #[error(
        "the backup `{backup}` cannot be restored: `{link}`, a link of its chain, is missing or \
         not complete"
    )]
    MissingLink {
        /// The backup.
        backup: BackupId,
        /// What is missing.
        link: BackupId,
    },
    /// The program that combines a chain is not there.
    #[error("cannot find `{name}` of PostgreSQL {major}, which combines incremental backups")]
    NoProgram {
        /// Its name.
        name: &'static str,
        /// The version.
        major: u32,
    },
    /// The program that combines a chain failed.
    #[error("`{}` could not combine the backups: {why}", program.display())]
    Combine {
        /// The program.
        program: PathBuf,
        /// What it said last.
        why: String,
    },
    /// A directory to restore into holds something.
    #[error("the directory `{}` is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// A directory to restore into holds an earlier restore that did not end.
    #[error(
        "the directory `{}` holds a restore that was interrupted; remove what is in it first",
        .0.display()
    )]
    Unfinished(PathBuf),
    /// A tablespace rule names no tablespace of the backup.
    #[error("the backup has no tablespace `{0}`")]
    UnknownTablespace(String),
    /// Two directories of the cluster would be the same, or one inside another.
    #[error("`{}` and `{}` cannot both be restored: one lies in the other", one.display(), two.display())]
    Overlap {
        /// One of them.
        one: PathBuf,
        /// The other.
        two: PathBuf,
    },
    /// An archive could not be read from the store.
    #[error("cannot fetch the archive `{archive}`")]
    Fetch {
        /// Which one.
        archive: String,
        /// Why not.
        source: store::Error,
    },
    /// An archive could not be extracted.
    #[error("cannot extract the archive `{archive}`")]
    Extract {
        /// Which one.
        archive: String,
        /// Why not.
        source: untar::Error,
    },
    /// What was extracted could not be completed.
    #[error("cannot complete the restore into `{}`", directory.display())]
    Finish {
        /// Where.
        directory: PathBuf,
        /// Why not.
        source: untar::Error,
    },
    /// A file or directory could not be read or written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The operator stopped it; the directory is marked as incomplete.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::MissingArchive { .. } | Self::MissingFile { .. } | Self::MissingLink { .. } => {
                Kind::NotFound
            }
            Self::NotEmpty(_) | Self::Unfinished(_) | Self::Overlap { .. } => Kind::Refused,
            Self::UnknownTablespace(_) | Self::NoProgram { .. } => Kind::Usage,
            Self::Fetch { source, .. } => source.kind(),
            Self::Extract { source, .. } | Self::Finish { source, .. } => source.kind(),
            Self::Write { .. } | Self::Combine { .. } => Kind::Failed,
            Self::Interrupted => Kind::Interrupted,
        }
    }
}

pub(super) fn unwritten(path: &std::path::Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}
