//! Making a cluster that came with its disks recover: the label first, then what the original's present must not do here, then the settings.
//!
//! Interrupted after any of these, the next run does all of it again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Error, write_label};
use crate::{
    model::{backup::BackupId, snapshot::SnapshotSet},
    recover::base::{self, Override, Recovery},
    snapshot::mounts::Host,
    store::Archive,
};

/// A cluster that is ready to recover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveringCluster {
    /// Its data directory.
    pub directory: PathBuf,
    /// Files of the original that were removed.
    pub removed: Vec<PathBuf>,
    /// Settings of the original that were changed.
    pub overrides: Vec<Override>,
}

/// Makes the cluster in a data directory recover from a backup. The directory must lie on one of the backup's disks, and no server may run
/// in it.
pub async fn recover(
    archive: &Archive,
    (id, set): (&BackupId, &SnapshotSet),
    directory: &Path,
    recovery: &Recovery,
) -> Result<RecoveringCluster, Error> {
    let found = fs::canonicalize(directory);
    let directory = found.map_err(|_| Error::NoDirectory(directory.to_owned()))?;
    check_place(set, &directory)?;
    check_idle(&directory)?;
    write_label(archive, id, &directory).await?;
    let (at, recovery) = (directory.clone(), recovery.clone());
    let settled = tokio::task::spawn_blocking(move || base::settle(&at, &recovery));
    let (removed, overrides) = settled.await.expect("writing settings does not panic")?;
    Ok(RecoveringCluster {
        directory,
        removed,
        overrides,
    })
}

/// Whoever names another cluster's directory would ruin that.
fn check_place(set: &SnapshotSet, directory: &Path) -> Result<(), Error> {
    let (mount, _) = Host::here()
        .holding(directory)
        .map_err(|source| Error::Look {
            path: directory.to_owned(),
            source,
        })?;
    let mut mounts = set.disks.iter().filter_map(|disk| disk.mount.as_ref());
    if mounts.any(|of_a_disk| of_a_disk.point == mount.point) {
        return Ok(());
    }
    Err(Error::Elsewhere {
        directory: directory.to_owned(),
        mount: mount.point,
    })
}

/// The snapshots hold the process file of a server that ran; one that runs here has the directory for its own.
fn check_idle(directory: &Path) -> Result<(), Error> {
    let text = fs::read_to_string(directory.join("postmaster.pid")).unwrap_or_default();
    let Some(process) = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<u32>().ok())
    else {
        return Ok(());
    };
    let of_process = fs::read_link(format!("/proc/{process}/cwd"));
    if of_process.is_ok_and(|of_process| of_process == directory) {
        return Err(Error::Running {
            directory: directory.to_owned(),
            process,
        });
    }
    Ok(())
}
