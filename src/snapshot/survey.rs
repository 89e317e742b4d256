//! Finding the disks that are to be snapshotted: on their instance, and where they are mounted; and whether they hold all that they must.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Disk, Error, Provider, Result, Role,
    mounts::{Host, Mounts, Report, command},
};
use crate::model::{
    desired::SnapshotOptions,
    snapshot::{Mount, MountsFrom},
};

/// What is to be snapshotted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The instance: a name or an identifier.
    pub instance: String,
    /// Its disks: names or identifiers.
    pub disks: Vec<String>,
}

impl From<&SnapshotOptions> for Order {
    fn from(options: &SnapshotOptions) -> Self {
        Self {
            instance: options.instance.clone(),
            disks: options.disks.clone(),
        }
    }
}

/// Who says where disks are mounted.
#[derive(Clone, Debug)]
pub enum Mounting {
    /// The tables of this host.
    Here(Host),
    /// Somebody who has declared it, each disk by its name in the order.
    Declared(BTreeMap<String, Mount>),
    /// A command, which speaks of another host.
    Command(Vec<String>),
}

impl From<&MountsFrom> for Mounting {
    fn from(from: &MountsFrom) -> Self {
        match from {
            MountsFrom::Here => Self::Here(Host::here()),
            MountsFrom::Declared(mounts) => Self::Declared(mounts.clone()),
            MountsFrom::Command(words) => Self::Command(words.clone()),
        }
    }
}

impl Mounting {
    /// What they say; of these paths, too.
    async fn ask(&self, paths: &[PathBuf]) -> Result<Told> {
        Ok(match self {
            Self::Here(host) => Told::Here(host.clone()),
            Self::Declared(mounts) => Told::Declared(mounts.clone()),
            Self::Command(words) => Told::Report(command::ask(words, paths).await?),
        })
    }
}

/// What is known of where disks are mounted.
enum Told {
    Here(Host),
    Declared(BTreeMap<String, Mount>),
    Report(Report),
}

impl Told {
    /// Where a disk is mounted, by what it was called in the order.
    fn of(&self, asked: &str, disk: &Disk) -> Result<Mounts, String> {
        match self {
            Self::Here(host) => host.of(&disk.device),
            Self::Report(report) => report.of(&disk.device),
            Self::Declared(mounts) => {
                let mount = mounts.get(asked);
                let mount = mount.ok_or_else(|| "`mounts` does not say where".to_owned())?;
                Ok(Mounts {
                    mounts: vec![mount.clone()],
                    blocks: Vec::new(),
                })
            }
        }
    }

    /// The point on which the file system of a path is mounted, and what the kernel calls its disks.
    fn holding(&self, path: &Path) -> std::io::Result<(String, Vec<String>)> {
        let (mount, disks) = match self {
            Self::Here(host) => host.holding(path)?,
            Self::Report(report) => report.holding(path)?,
            Self::Declared(mounts) => {
                let points = mounts.values().map(|mount| &mount.point);
                let deepest = points
                    .filter(|point| path.starts_with(point))
                    .max_by_key(|point| point.len());
                let deepest = deepest.map_or("another disk", String::as_str);
                return Ok((deepest.to_owned(), Vec::new()));
            }
        };
        Ok((mount.point, disks))
    }
}

/// A disk that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it was called in the order.
    pub asked: String,
    /// The disk.
    pub disk: Disk,
    /// Where it is mounted.
    pub mounts: Mounts,
}

impl Found {
    /// The mount that is recorded: the first one of the disk.
    pub fn mount(&self) -> &Mount {
        self.mounts
            .mounts
            .first()
            .expect("a disk that was found is mounted")
    }
}

/// What a survey has found.
#[derive(Debug)]
pub struct Surveyed {
    /// The disks of the order that are attached and mounted.
    pub found: Vec<Found>,
    /// What is wrong with the others.
    pub faults: Vec<Error>,
    /// What of the server's files would be missing or useless: each path that is on a file system of which not all disks are in the
    /// order, or that spans several, whose snapshots show different instants.
    pub gaps: Vec<Error>,
}

impl Surveyed {
    /// The disks, if nothing is wrong with one.
    pub fn complete(self) -> Result<Vec<Found>> {
        self.faults.into_iter().next().map_or(Ok(self.found), Err)
    }
}

/// Finds every disk of an order, attached and mounted, and whether they hold these paths. Each name must mean exactly one disk.
pub async fn survey(
    provider: &dyn Provider,
    order: &Order,
    mounting: &Mounting,
    paths: &[PathBuf],
) -> Result<Surveyed> {
    let attached = provider.attached(&order.instance).await?;
    let mut named = Vec::new();
    let mut missing = Vec::new();
    let mut faults = Vec::new();
    for name in &order.disks {
        match called(&attached, name) {
            Ok(Some(disk)) => named.push((name.clone(), provider.detailed(disk.clone()).await?)),
            Ok(None) => missing.push(name.clone()),
            Err(fault) => faults.push(fault),
        }
    }
    if !missing.is_empty() {
        faults.push(Error::NotAttached {
            instance: order.instance.clone(),
            disks: missing,
            attached: attached.iter().map(title).collect(),
        });
    }
    let told = mounting.ask(paths).await?;
    let (instance, paths) = (order.instance.clone(), paths.to_vec());
    // Files of the kernel's, links of the server's, and `findmnt`.
    let looking = tokio::task::spawn_blocking(move || {
        let mut surveyed = mounted(&told, named, &instance);
        faults.append(&mut surveyed.faults);
        let gaps = Gaps {
            told: &told,
            found: &surveyed.found,
            attached: &attached,
            instance: &instance,
        };
        Surveyed {
            gaps: paths.iter().filter_map(|path| gaps.at(path)).collect(),
            found: surveyed.found,
            faults,
        }
    });
    Ok(looking.await.expect("looking at mounts does not panic"))
}

/// Where disks are mounted.
fn mounted(told: &Told, named: Vec<(String, Disk)>, instance: &str) -> Surveyed {
    let mut surveyed = Surveyed {
        found: Vec::new(),
        faults: Vec::new(),
        gaps: Vec::new(),
    };
    let mut unmounted = Vec::new();
    for (asked, disk) in named {
        match told.of(&asked, &disk) {
            Ok(mounts) => surveyed.found.push(Found {
                asked,
                disk,
                mounts,
            }),
            Err(why) => unmounted.push(format!("{asked} ({why})")),
        }
    }
    if !unmounted.is_empty() {
        surveyed.faults.push(Error::NotMounted {
            instance: instance.to_owned(),
            disks: unmounted,
        });
    }
    surveyed
}

/// The one disk that a name means; an identifier means more than a name.
fn called<'a>(attached: &'a [Disk], name: &str) -> Result<Option<&'a Disk>> {
    let by_id = attached.iter().find(|disk| disk.id == name);
    let mut by_name = attached.iter().filter(|disk| disk.is_called(name));
    let Some(disk) = by_id.or_else(|| by_name.next()) else {
        return Ok(None);
    };
    let others: Vec<_> = by_name.filter(|other| other.id != disk.id).collect();
    if by_id.is_none() && !others.is_empty() {
        let candidates = std::iter::once(disk).chain(others);
        return Err(Error::Ambiguous {
            what: "disk",
            name: name.to_owned(),
            candidates: candidates.map(title).collect(),
        });
    }
    match disk.role {
        Role::Data => Ok(Some(disk)),
        Role::Refused(why) => Err(Error::Refused {
            disk: name.to_owned(),
            why,
        }),
    }
}

fn title(disk: &Disk) -> String {
    match &disk.name {
        Some(name) => format!("{name} ({})", disk.id),
        None => disk.id.clone(),
    }
}

/// What it takes to see which paths no snapshot would hold.
struct Gaps<'a> {
    told: &'a Told,
    found: &'a [Found],
    attached: &'a [Disk],
    instance: &'a str,
}

impl Gaps<'_> {
    fn at(&self, path: &Path) -> Option<Error> {
        let gap = self.look(path).transpose()?;
        Some(gap.unwrap_or_else(Error::Mounts))
    }

    fn look(&self, path: &Path) -> std::io::Result<Option<Error>> {
        let (mount, disks) = self.told.holding(path)?;
        // A disk that only `findmnt` knows, or somebody declared, has no name in the kernel's tables.
        let by_point =
            |found: &Found| found.mounts.blocks.is_empty() && found.mount().point == mount;
        let by_name = |found: &Found, disk: &String| found.mounts.blocks.contains(disk);
        let holds =
            |found: &&Found| by_point(found) || disks.iter().any(|disk| by_name(found, disk));
        let holding: Vec<&Found> = self.found.iter().filter(holds).collect();
        let is_covered = |disk: &String| holding.iter().any(|found| by_name(found, disk));
        match holding[..] {
            [only] if by_point(only) || disks.iter().all(is_covered) => Ok(None),
            [] | [_] => {
                let others = disks.iter().filter(|disk| !is_covered(disk));
                Ok(Some(Error::Uncovered {
                    path: path.display().to_string(),
                    mount,
                    disks: others.map(|disk| self.described(disk)).collect(),
                }))
            }
            _ => Ok(Some(Error::Spans {
                path: path.display().to_string(),
                mount,
                disks: holding.iter().map(|found| found.asked.clone()).collect(),
            })),
        }
    }

    /// What is known of something that the kernel calls so, and that is in no snapshot.
    fn described(&self, block: &str) -> String {
        let has = |disk: &&Disk| {
            let mounts = self.told.of("", disk);
            mounts.is_ok_and(|mounts| mounts.blocks.iter().any(|own| own == block))
        };
        match self.attached.iter().find(has) {
            Some(disk) => match disk.role {
                Role::Data => format!("the disk {}", title(disk)),
                Role::Refused(why) => format!("the disk {}, which {why}", title(disk)),
            },
            None => format!("`{block}`, which is no disk of {}", self.instance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Device;

    /// A host with the disk of its system, one for data, one for WAL, and two below one file system; and with a disk of nobody's.
    const HOST: &str = r#"{"format": 1, "disks": [
        {"device": "sda", "names": ["/dev/disk/by-id/google-root"], "blocks": ["sda", "sda1"],
         "mounts": [{"point": "/", "options": "rw"}]},
        {"device": "sdb", "names": ["/dev/disk/by-id/google-pgdata"], "blocks": ["sdb"],
         "mounts": [{"point": "/pg", "options": "rw"}]},
        {"device": "sdc", "names": ["/dev/disk/by-id/google-pgwal"], "blocks": ["sdc", "sdc1"],
         "mounts": [{"point": "/wal", "options": "rw"}]},
        {"device": "sdd", "names": ["/dev/disk/by-id/google-one"], "blocks": ["sdd", "dm-0"],
         "mounts": [{"point": "/both", "options": "rw"}]},
        {"device": "sde", "names": ["/dev/disk/by-id/google-two"], "blocks": ["sde", "dm-0"],
         "mounts": [{"point": "/both", "options": "rw"}]},
        {"device": "sdf", "names": ["/dev/disk/by-id/google-idle"], "blocks": ["sdf"], "mounts": []}
    ], "paths": [
        {"path": "/pg", "mount": {"point": "/pg", "options": "rw"}, "blocks": ["sdb"]},
        {"path": "/pg/pg_wal", "mount": {"point": "/wal", "options": "rw"}, "blocks": ["sdc1"]},
        {"path": "/space", "mount": {"point": "/", "options": "rw"}, "blocks": ["sda1"]},
        {"path": "/both", "mount": {"point": "/both", "options": "rw"}, "blocks": ["sdd", "sde"]},
        {"path": "/nfs", "mount": {"point": "/nfs", "options": "rw"}, "blocks": ["nas:/pg"]}
    ]}"#;

    fn disk(name: &str) -> Disk {
        Disk {
            id: format!("disks/{name}"),
            name: Some(name.to_owned()),
            device: Device::Google(name.to_owned()),
            role: match name {
                "root" => Role::Refused("is the boot disk of its instance"),
                _ => Role::Data,
            },
            source: None,
            location: None,
        }
    }

    /// What is wrong when snapshots of these disks are to hold these paths.
    fn wrong(disks: &[&str], paths: &[&str]) -> String {
        let host = serde_json::from_str(HOST).expect("a report");
        let told = Told::Report(host);
        let named = disks.iter().map(|name| ((*name).to_owned(), disk(name)));
        let surveyed = mounted(&told, named.collect(), "pg-1");
        let attached: Vec<Disk> = ["root", "pgdata", "pgwal", "one", "two"].map(disk).to_vec();
        let gaps = Gaps {
            told: &told,
            found: &surveyed.found,
            attached: &attached,
            instance: "pg-1",
        };
        let gaps = paths.iter().filter_map(|path| gaps.at(Path::new(path)));
        let errors = surveyed.faults.into_iter().chain(gaps);
        let lines: Vec<String> = errors.map(|error| crate::failure::chain(&error)).collect();
        lines.join("\n")
    }

    #[test]
    fn each_path_that_no_snapshot_would_hold_is_told_with_its_disk() {
        let without = "of which no snapshot would be taken";
        for (disks, paths, told) in [
            (&["pgdata", "pgwal"][..], &["/pg", "/pg/pg_wal"][..], String::new()),
            (
                &["pgdata"],
                &["/pg", "/pg/pg_wal", "/space"],
                format!(
                    "`/pg/pg_wal` is on `/wal` of the disk pgwal (disks/pgwal), {without}\n\
                     `/space` is on `/` of the disk root (disks/root), which is the boot disk of its instance, \
                     {without}"
                ),
            ),
            (
                &["pgdata"],
                &["/nfs"],
                format!("`/nfs` is on `/nfs` of `nas:/pg`, which is no disk of pg-1, {without}"),
            ),
            (
                &["one"],
                &["/both"],
                format!("`/both` is on `/both` of the disk two (disks/two), {without}"),
            ),
            (
                &["one", "two"],
                &["/both"],
                "`/both` is on `/both`, a file system over several disks (one, two), whose snapshots \
                 would show different instants"
                    .to_owned(),
            ),
            (
                &["pgdata", "idle", "gone"],
                &["/pg", "/lost"],
                "Cannot find disks mounted on compute instance pg-1: idle (nothing of `sdf` is mounted), \
                 gone (its host has no such disk)\n\
                 cannot find out what is mounted where: its host does not tell of `/lost`"
                    .to_owned(),
            ),
        ] {
            assert_eq!(wrong(disks, paths), told, "{disks:?} {paths:?}");
        }
    }
}
