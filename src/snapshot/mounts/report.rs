//! The disks and mounts of a host as one value: what `barkeep mounts` prints there, and what is read of it here.
//!
//! A disk is told with every name under which a cloud may know it, and with whatever the kernel has made of it, so that whoever reads
//! can find it as the host itself would. Which file system holds a path, only the host can say: links are followed there.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Mounts, device};
use crate::{model::snapshot::Mount, snapshot::Device};

/// The version of the report's format.
const FORMAT: u32 = 1;

/// What a host tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    format: u32,
    /// Its disks: whatever is part of nothing else.
    pub disks: Vec<HostDisk>,
    /// The paths that it was asked for.
    pub paths: Vec<Held>,
}

/// A disk of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDisk {
    /// What the kernel calls it: `nvme1n1`, `sdc`.
    pub device: String,
    /// The names in `/dev` that lead to it, its own first.
    pub names: Vec<String>,
    /// The serial number of its controller, for NVMe: on AWS the volume's identifier without its dash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The number under which Azure has attached it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lun: Option<u32>,
    /// Everything that the kernel has on it, itself first: partitions, logical volumes.
    pub blocks: Vec<String>,
    /// All file systems on it, in the order in which they were mounted.
    pub mounts: Vec<Mount>,
    /// Why that cannot be relied on: the kernel and `findmnt` say different things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// A path, and what holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The path as it was asked for.
    pub path: PathBuf,
    /// The file system that it is on, behind all links.
    pub mount: Mount,
    /// The disks and partitions below that file system.
    pub blocks: Vec<String>,
}

impl Report {
    pub(super) fn new(disks: Vec<HostDisk>, paths: Vec<Held>) -> Self {
        Self {
            format: FORMAT,
            disks,
            paths,
        }
    }

    /// Reads what a host has printed. Says why it cannot be read.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let report: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if report.format != FORMAT {
            let format = report.format;
            return Err(format!("it has format {format}, not {FORMAT}"));
        }
        Ok(report)
    }

    /// Where a disk is mounted. Says why that cannot be told.
    pub fn of(&self, device: &Device) -> Result<Mounts, String> {
        mounted(device::find(&self.disks, device))
    }

    /// The file system that a path is on, and the disks and partitions that hold it.
    pub fn holding(&self, path: &Path) -> io::Result<(Mount, Vec<String>)> {
        let held = self.paths.iter().find(|held| held.path == path);
        let untold = || io::Error::other(format!("its host does not tell of `{}`", path.display()));
        let held = held.ok_or_else(untold)?;
        Ok((held.mount.clone(), held.blocks.clone()))
    }
}

/// Where a disk that was found is mounted.
pub(super) fn mounted(disk: Option<&HostDisk>) -> Result<Mounts, String> {
    let disk = disk.ok_or_else(|| "its host has no such disk".to_owned())?;
    if let Some(doubt) = &disk.doubt {
        return Err(doubt.clone());
    }
    if disk.mounts.is_empty() {
        return Err(format!(
            "nothing of `{}` is mounted",
            disk.blocks.join("`, `")
        ));
    }
    Ok(Mounts {
        mounts: disk.mounts.clone(),
        blocks: disk.blocks.clone(),
    })
}
