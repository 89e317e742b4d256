//! Getting back from snapshots of disks: disks that were made of them, attached to an instance and mounted as before.
//!
//! The data is there with the disks; what is missing is the label from which PostgreSQL recovers. It is written only where every
//! snapshot of the backup is the source of an attached disk, and every such disk is mounted where its original was, with the same
//! options.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    failure::Kind,
    format::keys::{BaseObject, ObjectKey},
    model::{
        backup::BackupId,
        snapshot::{DiskSnapshot, Mount, SnapshotSet},
    },
    snapshot::{self, Disk, Provider, Role, mounts::Host},
    store::{self, Archive},
};

pub mod cluster;
pub mod making;
pub mod mounting;

/// Why a backup of snapshots cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cloud cannot be asked.
    #[error(transparent)]
    Cloud(#[from] snapshot::Error),
    /// Some snapshots are the source of no attached disk.
    #[error(
        "The following snapshots are not attached to recovery instance {instance}: {}",
        .snapshots.join(", ")
    )]
    NotAttached {
        /// The instance.
        instance: String,
        /// The snapshots.
        snapshots: Vec<String>,
    },
    /// Disks are mounted otherwise than their originals were.
    #[error("Error checking mount points: {}", .0.join(", "))]
    Mounts(Vec<String>),
    /// There is no such directory.
    #[error("Recovery directory '{}' does not exist on the recovery instance. Check all required disks have been created, attached and mounted.", .0.display())]
    NoDirectory(PathBuf),
    /// A disk cannot be mounted.
    #[error("cannot mount the disk `{disk}`: {why}")]
    Mount {
        /// The disk.
        disk: String,
        /// Why not.
        why: String,
    },
    /// The directory is on none of the disks that were made.
    #[error(
        "`{}` is on the file system at `{mount}`, which is none of the backup's",
        directory.display()
    )]
    Elsewhere {
        /// The directory.
        directory: PathBuf,
        /// The point at which its file system is mounted.
        mount: String,
    },
    /// A server runs in the directory.
    #[error("a server runs in `{}`: process {process}", directory.display())]
    Running {
        /// The directory.
        directory: PathBuf,
        /// Its process.
        process: u32,
    },
    /// What holds the directory cannot be found out.
    #[error("cannot find out which file system holds `{}`", path.display())]
    Look {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The settings cannot be written.
    #[error(transparent)]
    Settings(#[from] super::base::Error),
    /// The label cannot be read.
    #[error("cannot read the backup's label")]
    Read(#[source] store::Error),
    /// It is not there.
    #[error("the backup `{0}` has no label")]
    NoLabel(BackupId),
    /// It cannot be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Cloud(source) => source.kind(),
            Self::Read(source) => source.kind(),
            Self::Settings(source) => source.kind(),
            Self::NotAttached { .. }
            | Self::Mounts(_)
            | Self::NoDirectory(_)
            | Self::Elsewhere { .. }
            | Self::Running { .. } => Kind::Refused,
            Self::NoLabel(_) => Kind::NotFound,
            Self::Write { .. } | Self::Mount { .. } | Self::Look { .. } => Kind::Failed,
        }
    }
}

/// Checks that every snapshot is there as a disk, attached and mounted as its original was.
pub async fn check_disks(
    provider: &dyn Provider,
    host: &Host,
    set: &SnapshotSet,
    instance: &str,
) -> Result<(), Error> {
    let mut disks = Vec::new();
    for disk in provider.attached(instance).await? {
        if disk.role == Role::Data {
            disks.push(provider.detailed(disk).await?);
        }
    }
    let made_of = |snapshot: &&DiskSnapshot| {
        let mut disks = disks.iter();
        disks.find(|disk| disk.source.as_deref() == Some(snapshot.recorded.id()))
    };
    let missing = set.disks.iter().filter(|disk| made_of(disk).is_none());
    let missing: Vec<String> = missing.map(|disk| disk.recorded.id().to_owned()).collect();
    if !missing.is_empty() {
        return Err(Error::NotAttached {
            instance: instance.to_owned(),
            snapshots: missing,
        });
    }
    let pairs = set
        .disks
        .iter()
        .filter_map(|snapshot| Some((snapshot, made_of(&snapshot)?)));
    let wrong: Vec<String> = pairs
        .filter_map(|(snapshot, disk)| differs(host, snapshot.mount.as_ref()?, disk))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Mounts(wrong))
}

/// How a disk is mounted otherwise than it was.
fn differs(host: &Host, was: &Mount, disk: &Disk) -> Option<String> {
    let name = disk.name.as_deref().unwrap_or(&disk.id);
    let mounts = match host.of(&disk.device) {
        Ok(mounts) => mounts.mounts,
        Err(why) => return Some(format!("{name}: {why}")),
    };
    if mounts.contains(was) {
        return None;
    }
    let is = mounts.first()?;
    Some(format!("{name} is mounted at {is} but was at {was}"))
}

/// Writes the backup's label into the data directory that came with the disks.
pub async fn write_label(archive: &Archive, id: &BackupId, directory: &Path) -> Result<(), Error> {
    if !directory.is_dir() {
        return Err(Error::NoDirectory(directory.to_owned()));
    }
    let label = ObjectKey::Base(id.clone(), BaseObject::Label);
    let label = archive.read(&label).await.map_err(Error::Read)?;
    let (label, _) = label.ok_or_else(|| Error::NoLabel(id.clone()))?;
    let path = directory.join("backup_label");
    let written = std::fs::File::create(&path).and_then(|mut file| {
        file.write_all(&label)?;
        file.sync_all()
    });
    written.map_err(|source| Error::Write { path, source })
}
