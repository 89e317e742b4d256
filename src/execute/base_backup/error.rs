//! What can go wrong with a base backup.

use std::path::PathBuf;

use super::{
    archive::ArchiveError as TarError, copy::CopyError, stream::UnpackError, walk::WalkError,
};
use crate::{
    failure::Kind,
    model::{
        backup::BackupId,
        compression,
        wal::{SegmentName, SystemId},
    },
    pipeline::{manifest, untar},
    postgres::{self, control_file, locality},
    snapshot,
    store::{self, ArchiveError},
};

/// A base backup was not taken, or not finished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The compression cannot be used for a base backup.
    #[error("cannot compress the backup as asked")]
    Compression(#[source] compression::Error),
    /// Barman could not restore what is compressed like this.
    #[error("{0} compression is not restored by Barman and not used for base backups")]
    NotRestorable(compression::Compression),
    /// The server did not do what was asked of it.
    #[error("cannot {doing}")]
    Server {
        /// What was asked.
        doing: &'static str,
        /// Why not.
        source: postgres::Error,
    },
    /// The files here are not the server's.
    #[error("the server's files are not on this host")]
    NotLocal(#[source] locality::Error),
    /// The catalog belongs to another cluster.
    #[error("the catalog belongs to the cluster {pinned}, not to {found}")]
    ForeignSystem {
        /// Whose it is.
        pinned: SystemId,
        /// Who asks.
        found: SystemId,
    },
    /// A backup exists whose id lies in the future.
    #[error("the backup `{newest}` is from the future; it is now {now}")]
    Future {
        /// The id that a new one would have to be above.
        newest: BackupId,
        /// The id of this second.
        now: BackupId,
    },
    /// No free id was found.
    #[error("cannot claim an id for the backup: {0} seconds in a row are taken")]
    NoId(u32),
    /// Something in the catalog could not be read or written.
    #[error("cannot {doing}")]
    Catalog {
        /// What was wanted.
        doing: &'static str,
        /// Why not.
        source: ArchiveError,
    },
    /// A directory could not be walked through.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// What cannot be read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The control file stays damaged.
    #[error("cannot use `{}`", path.display())]
    ControlFile {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: control_file::Error,
    },
    /// An archive could not be built.
    #[error("cannot build the archive `{archive}`")]
    Build {
        /// Which one.
        archive: String,
        /// Why not.
        source: std::io::Error,
    },
    /// An archive could not be stored.
    #[error("cannot store the archive `{archive}`")]
    Upload {
        /// Which one.
        archive: String,
        /// Why not.
        source: store::Error,
    },
    /// Threads cannot be started.
    #[error("cannot start the compressing threads")]
    Threads(#[source] std::io::Error),
    /// What the server sent is no backup.
    #[error("cannot understand what the server sent")]
    Received(#[source] untar::Error),
    /// The server sent no label, without which nothing recovers.
    #[error("the server sent no `backup_label`")]
    NoLabel,
    /// What came is not what the server says that it sent.
    #[error("the backup is not what the server sent")]
    Manifest(#[source] manifest::Error),
    /// The disks are not found, or not where they should be.
    #[error(transparent)]
    Disks(snapshot::Error),
    /// The snapshots cannot be taken.
    #[error(transparent)]
    Snapshots(snapshot::Error),
    /// The session in which the backup ran is gone, and with it the backup.
    #[error("the connection to PostgreSQL was lost, and with it the backup")]
    SessionLost,
    /// An object in the store is not what was written.
    #[error("`{key}` is not what was written: {why}")]
    ReadBack {
        /// The object.
        key: String,
        /// What differs.
        why: String,
    },
    /// Somebody else changed the backup's record meanwhile.
    #[error("the record of the backup `{0}` was changed by somebody else")]
    Changed(BackupId),
    /// The backup that this one was to build on is not there, or not complete.
    #[error("the backup `{0}` is not one to build on")]
    NoParent(BackupId),
    /// There is no attempt of ours with this id.
    #[error("no attempt of barkeep's made the backup `{0}`")]
    NotOurs(BackupId),
    /// The attempt ended before PostgreSQL left backup mode: it can only be abandoned.
    #[error("the backup `{0}` was never stopped and cannot be finished")]
    NeverStopped(BackupId),
    /// The operator stopped it.
    #[error("interrupted")]
    Interrupted,
    /// The operator stopped it while it waited for WAL; a later run finishes it.
    #[error("interrupted while waiting for the WAL segment `{missing}` of the backup `{backup}`")]
    InterruptedWaiting {
        /// The backup.
        backup: BackupId,
        /// What it waited for.
        missing: SegmentName,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Compression(_) | Self::NotRestorable(_) => Kind::Usage,
            Self::Server { source, .. } => source.kind(),
            Self::NotLocal(source) => source.kind(),
            Self::Disks(source) | Self::Snapshots(source) => source.kind(),
            Self::Catalog { source, .. } => source.kind(),
            Self::Upload { source, .. } => source.kind(),
            Self::ForeignSystem { .. } | Self::Future { .. } | Self::NotOurs(_) => Kind::Refused,
            Self::ReadBack { .. }
            | Self::ControlFile { .. }
            | Self::Received(_)
            | Self::NoLabel
            | Self::Manifest(_) => Kind::Verification,
            Self::SessionLost => Kind::Unreachable,
            Self::Interrupted | Self::InterruptedWaiting { .. } => Kind::Interrupted,
            Self::NoId(_)
            | Self::Read { .. }
            | Self::Build { .. }
            | Self::Threads(_)
            | Self::Changed(_)
            | Self::NoParent(_)
            | Self::NeverStopped(_) => Kind::Failed,
        }
    }

    /// Whether the store refuses the request, whatever is there.
    pub(super) fn is_denied(&self) -> bool {
        match self {
            Self::Catalog {
                source: ArchiveError::Store(source),
                ..
            } => source.meaning == store::Meaning::PermissionDenied,
            _ => false,
        }
    }

    /// Whether the store keeps an object as it is.
    pub(in crate::execute) fn is_locked(&self) -> bool {
        let Self::Catalog {
            source: ArchiveError::Store(source),
            ..
        } = self
        else {
            return false;
        };
        source.meaning == store::Meaning::Locked
    }

    /// Whether the store may still begin to receive something: what it did not answer may arrive late, and what was asked beside it.
    pub(super) fn may_arrive(&self) -> bool {
        matches!(self, Self::Upload { .. })
    }

    /// What may help.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Server { source, .. } => source.hint(),
            Self::Disks(source) => source.hint(),
            _ => None,
        }
    }

    pub(super) fn server(doing: &'static str) -> impl FnOnce(postgres::Error) -> Self {
        move |source| Self::Server { doing, source }
    }

    pub(super) fn catalog<E: Into<ArchiveError>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Catalog {
            doing,
            source: source.into(),
        }
    }
}

impl From<UnpackError> for Error {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::CutOff => Self::SessionLost,
            UnpackError::Archive(source) => Self::Received(source),
            UnpackError::NoLabel => Self::NoLabel,
            UnpackError::Manifest(source) => Self::Manifest(source),
            UnpackError::Copy(source) => source.into(),
        }
    }
}

impl From<CopyError> for Error {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Walk(WalkError { path, source })
            | CopyError::Archive(TarError::Read { path, source }) => Self::Read { path, source },
            CopyError::Archive(TarError::Write { archive, source }) => Self::Build {
                archive: format!("{} {}", archive.root, archive.part),
                source,
            },
            CopyError::Upload { archive, source } => Self::Upload { archive, source },
            CopyError::Threads(source) => Self::Threads(source),
        }
    }
}
