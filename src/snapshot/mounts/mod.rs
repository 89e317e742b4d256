//! Where the disks of this host are mounted: from the kernel's own tables, without `findmnt`.
//!
//! A disk is found by what its cloud calls it ([`device`]), then everything that lies on it: partitions, logical volumes, whatever the
//! kernel lists as its holders. What of that is mounted, `mountinfo` tells by device number. Where `findmnt` is installed it is asked too:
//! a disk that the tables do not lead to may be known to it by a link, and where both answer they must agree.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

mod device;
mod table;

use self::table::Mounted;
use super::Device;
use crate::model::snapshot::Mount;

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
        let table = self.table().map_err(|error| error.to_string())?;
        let found = device::find(&self.root, device);
        let blocks = found
            .as_deref()
            .map_or_else(Vec::new, |block| self.above(block));
        let on_disk = |mounted: &&Mounted| blocks.iter().any(|block| self.is(mounted, block));
        let whole = table.iter().filter(on_disk);
        let mounts: Vec<Mount> = whole.map(|mounted| mounted.mount.clone()).collect();
        let asked = match self.findmnt {
            Findmnt::Asked => findmnt(&device::names_of(device)),
            Findmnt::Ignored => None,
        };
        match (mounts.is_empty(), asked) {
            (true, Some(mount)) => Ok(Mounts {
                mounts: vec![mount],
                blocks,
            }),
            (true, None) if blocks.is_empty() => Err("this host has no such disk".to_owned()),
            (true, None) => Err(format!("nothing of `{}` is mounted", blocks.join("`, `"))),
            (false, Some(mount)) if !mounts.iter().any(|own| own.point == mount.point) => {
                Err(format!(
                    "the kernel says that it is mounted on `{}`, `findmnt` says on `{}`",
                    mounts[0].point, mount.point
                ))
            }
            (false, _) => Ok(Mounts { mounts, blocks }),
        }
    }

    /// What of an attached disk can be mounted: the disk itself, or the one thing that lies on it. Says why that cannot be told.
    pub fn mountable(&self, device: &Device) -> Result<String, String> {
        let block = device::find(&self.root, device);
        let block = block.ok_or_else(|| "this host has no such disk".to_owned())?;
        let all = self.above(&block);
        let leaves: Vec<&String> = all.iter().filter(|one| self.is_leaf(one)).collect();
        match leaves[..] {
            [leaf] => {
                let mapped = fs::read_to_string(self.block(leaf).join("dm/name"));
                Ok(match mapped {
                    Ok(name) => format!("/dev/mapper/{}", name.trim()),
                    Err(_) => format!("/dev/{leaf}"),
                })
            }
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
        let blocks = self.names();
        let block = blocks.iter().find(|block| self.is(mounted, block));
        let below = block.map_or_else(
            || vec![mounted.source.clone()],
            |block| self.slaves(block).unwrap_or_else(|| vec![block.clone()]),
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

    /// Whether it is this device that is mounted there. Some file systems have numbers of their own; they are told by their source.
    fn is(&self, mounted: &Mounted, block: &str) -> bool {
        let number = fs::read_to_string(self.block(block).join("dev"));
        if number.is_ok_and(|number| number.trim() == mounted.number) {
            return true;
        }
        let source = Path::new(&mounted.source);
        if source == Path::new("/dev").join(block) {
            return true;
        }
        let mapped = fs::read_to_string(self.block(block).join("dm/name"));
        mapped.is_ok_and(|name| source == Path::new("/dev/mapper").join(name.trim()))
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
