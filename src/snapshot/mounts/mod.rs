//! Where the disks of this host are mounted: from the kernel's own tables, without `findmnt`.
//!
//! A disk is found by what its cloud calls it ([`device`]), then everything that lies on it: partitions, logical volumes, whatever the
//! kernel lists as its holders. What of that is mounted, `mountinfo` tells by device number. Where `findmnt` is installed it is asked too:
//! a disk that the tables do not lead to may be known to it by a link, and where both answer they must agree.
//!
//! Another host is asked for a [`Report`] of the same, by a [`command`] that somebody names.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

pub(super) mod command;
mod device;
mod report;
mod table;

pub use self::report::{Held, HostDisk, Report};

use self::table::Mounted;
use super::Device;
use crate::{failure::Kind, model::snapshot::Mount};

/// The tables of a host.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    findmnt: Findmnt,
}

/// Whether `findmnt` is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Findmnt {
    Asked,
    /// Not of tables that were recorded elsewhere.
    Ignored,
}

/// Where a disk is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// All file systems on it, in the order in which they were mounted.
    pub mounts: Vec<Mount>,
    /// Everything that the kernel has on the disk, the disk first: `nvme1n1`, `nvme1n1p1`, `dm-0`.
    pub blocks: Vec<String>,
}

impl Host {
    /// This one.
    pub fn here() -> Self {
        Self {
            root: PathBuf::from("/"),
            findmnt: Findmnt::Asked,
        }
    }

    /// One whose `/proc`, `/sys` and `/dev` were recorded below a directory.
    pub fn recorded(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            findmnt: Findmnt::Ignored,
        }
    }

    /// Where a disk is mounted. Says why that cannot be told.
    pub fn of(&self, device: &Device) -> Result<Mounts, String> {
        let disks = self.disks().map_err(|error| error.to_string())?;
        let disk = device::find(&disks, device);
        let by_tables = report::mounted(disk);
        match (by_tables, self.asked(&device::names_of(device))) {
            (Err(_), Some(mount)) => Ok(Mounts {
                mounts: vec![mount],
                blocks: disk.map_or_else(Vec::new, |disk| disk.blocks.clone()),
            }),
            (Ok(mounts), Some(mount)) => {
                contradiction(&mounts.mounts, &mount).map_or(Ok(mounts), Err)
            }
            (by_tables, None) => by_tables,
        }
    }

    /// What there is to tell of this host, and of what holds these paths.
    pub fn report(&self, paths: &[PathBuf]) -> Result<Report, Error> {
        let mut disks = self.disks().map_err(Error::Mounts)?;
        for disk in disks.iter_mut().filter(|disk| !disk.mounts.is_empty()) {
            let asked = self.asked(&disk.names);
            disk.doubt = asked.and_then(|mount| contradiction(&disk.mounts, &mount));
        }
        let held = |path: &PathBuf| {
            let (mount, blocks) = self.holding(path).map_err(|source| Error::Holding {
                path: path.clone(),
                source,
            })?;
            Ok(Held {
                path: path.clone(),
                mount,
                blocks,
            })
        };
        let paths: Result<_, Error> = paths.iter().map(held).collect();
        Ok(Report::new(disks, paths?))
    }

    /// The disks of this host: all that is part of nothing else, and holds something.
    fn disks(&self) -> io::Result<Vec<HostDisk>> {
        let table = self.table()?;
        let blocks = self.blocks();
        let links = device::links(&self.root);
        let disk = |device: String| {
            let directory = self.block(&device);
            let held = self.above(&device);
            let is_held = |block: &&Block| held.contains(&block.name);
            let on_disk = |mounted: &&Mounted| {
                let mut held = blocks.iter().filter(is_held);
                held.any(|block| block.is(mounted))
            };
            let mounts = table.iter().filter(on_disk);
            let own = format!("/dev/{device}");
            let links = links.get(&device).cloned().unwrap_or_default();
            HostDisk {
                mounts: mounts.map(|mounted| mounted.mount.clone()).collect(),
                names: [own].into_iter().chain(links).collect(),
                serial: device::serial(&directory),
                lun: device::lun(&directory),
                blocks: held,
                doubt: None,
                device,
            }
        };
        let whole = self.names().into_iter().filter(|name| self.is_disk(name));
        Ok(whole.map(disk).collect())
    }

    fn is_disk(&self, block: &str) -> bool {
        let directory = self.block(block);
        let size = fs::read_to_string(directory.join("size"));
        // A loop device without a file, a drive without a medium.
        let is_empty = size.is_ok_and(|size| size.trim() == "0");
        let is_part = directory.join("partition").exists();
        !is_empty && !is_part && names(&directory.join("slaves")).is_empty()
    }

    /// What `findmnt` says, if it is asked.
    fn asked(&self, names: &[String]) -> Option<Mount> {
        match self.findmnt {
            Findmnt::Asked => findmnt(names),
            Findmnt::Ignored => None,
        }
    }

    /// What of an attached disk can be mounted: the disk itself, or the one thing that lies on it. Says why that cannot be told.
    pub fn mountable(&self, device: &Device) -> Result<String, String> {
        let disks = self.disks().map_err(|error| error.to_string())?;
        let disk = device::find(&disks, device);
        let disk = disk.ok_or_else(|| "its host has no such disk".to_owned())?;
        let all = &disk.blocks;
        let leaves: Vec<&String> = all.iter().filter(|one| self.is_leaf(one)).collect();
        match leaves[..] {
            [leaf] => Ok(match self.mapped(leaf) {
                Some(name) => format!("/dev/mapper/{name}"),
                None => format!("/dev/{leaf}"),
            }),
            _ => Err(format!("`{}` may each be what is meant", all.join("`, `"))),
        }
    }

    /// Whether nothing is made of a device.
    fn is_leaf(&self, block: &str) -> bool {
        self.above(block).len() == 1
    }

    /// The file system that a path is on, and the disks, partitions and volumes that hold it.
    pub fn holding(&self, path: &Path) -> io::Result<(Mount, Vec<String>)> {
        let path = fs::canonicalize(path)?;
        let table = self.table()?;
        // The last of several on one point hides the others.
        let holds = |mounted: &&Mounted| path.starts_with(&mounted.mount.point);
        let deepest = table.iter().filter(holds).max_by_key(|mounted| {
            let depth = Path::new(&mounted.mount.point).components().count();
            (depth, mounted.order)
        });
        let Some(mounted) = deepest else {
            return Err(io::Error::other("no file system holds it"));
        };
        let blocks = self.blocks();
        let block = blocks.iter().find(|block| block.is(mounted));
        let below = block.map_or_else(
            || vec![mounted.source.clone()],
            |Block { name, .. }| self.slaves(name).unwrap_or_else(|| vec![name.clone()]),
        );
        Ok((mounted.mount.clone(), below))
    }

    fn table(&self) -> io::Result<Vec<Mounted>> {
        let text = fs::read_to_string(self.root.join("proc/self/mountinfo"))?;
        Ok(table::parse(&text))
    }

    fn block(&self, name: &str) -> PathBuf {
        self.root.join("sys/class/block").join(name)
    }

    fn names(&self) -> Vec<String> {
        names(&self.root.join("sys/class/block"))
    }

    fn blocks(&self) -> Vec<Block> {
        let block = |name: String| {
            let number = fs::read_to_string(self.block(&name).join("dev"));
            Block {
                number: number.ok().map(|number| number.trim().to_owned()),
                mapped: self.mapped(&name),
                name,
            }
        };
        self.names().into_iter().map(block).collect()
    }

    /// What a volume of the device mapper is called.
    fn mapped(&self, block: &str) -> Option<String> {
        let name = fs::read_to_string(self.block(block).join("dm/name")).ok()?;
        Some(name.trim().to_owned())
    }

    /// A device, its partitions, and whatever is made of either.
    fn above(&self, block: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![block.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let directory = self.block(&name);
            let partitions = names(&directory).into_iter();
            let is_partition = |part: &String| directory.join(part).join("partition").exists();
            waiting.extend(partitions.filter(is_partition));
            waiting.extend(names(&directory.join("holders")));
            found.push(name);
        }
        found
    }

    /// What a device is made of, down to what is made of nothing else; `None` if it is that itself.
    fn slaves(&self, block: &str) -> Option<Vec<String>> {
        let below = names(&self.block(block).join("slaves"));
        if below.is_empty() {
            return None;
        }
        let leaves = below
            .iter()
            .flat_map(|below| self.slaves(below).unwrap_or_else(|| vec![below.clone()]));
        Some(leaves.collect())
    }
}

/// A disk, a partition or a volume, as a mount may name it.
struct Block {
    name: String,
    number: Option<String>,
    mapped: Option<String>,
}

impl Block {
    /// Whether it is this device that is mounted there. Some file systems have numbers of their own; they are told by their source.
    fn is(&self, mounted: &Mounted) -> bool {
        let source = Path::new(&mounted.source);
        let mapped = self.mapped.as_ref();
        self.number.as_ref() == Some(&mounted.number)
            || source == Path::new("/dev").join(&self.name)
            || mapped.is_some_and(|name| source == Path::new("/dev/mapper").join(name))
    }
}

/// Why a host's mounts cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's table cannot be read.
    #[error("cannot read what is mounted")]
    Mounts(#[source] io::Error),
    /// What holds a path cannot be found out.
    #[error("cannot find out which file system holds `{}`", path.display())]
    Holding {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Holding { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Kind::NotFound
            }
            Self::Mounts(_) | Self::Holding { .. } => Kind::Failed,
        }
    }
}

/// What does not fit in what the kernel and `findmnt` say.
fn contradiction(mounts: &[Mount], asked: &Mount) -> Option<String> {
    let differs = mounts.iter().all(|own| own.point != asked.point);
    let first = mounts.first().filter(|_| differs)?;
    Some(format!(
        "the kernel says that it is mounted on `{}`, `findmnt` says on `{}`",
        first.point, asked.point
    ))
}

/// The name under which a disk is known in `/dev` wherever it is attached.
pub fn path_of(device: &Device) -> String {
    let mut names = device::names_of(device).into_iter();
    names.next().expect("a disk has a name")
}

/// The names in a directory, in order; none where there is no such directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// What `findmnt` says of the first of these names that it knows.
fn findmnt(devices: &[String]) -> Option<Mount> {
    devices.iter().find_map(|device| {
        let output = Command::new("findmnt")
            .args(["-o", "TARGET,OPTIONS", "-n", device])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        // Options have no spaces; mount points may.
        let (point, options) = text
            .lines()
            .next()?
            .trim()
            .rsplit_once(char::is_whitespace)?;
        Some(Mount {
            point: point.trim_end().to_owned(),
            options: options.to_owned(),
        })
    })
}

#[cfg(test)]
mod tests;
