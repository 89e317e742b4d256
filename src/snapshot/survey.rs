//! Finding the disks that are to be snapshotted: on their instance, and where they are mounted.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    Disk, Error, Provider, Result, Role,
    mounts::{Host, Mounts},
};
use crate::model::snapshot::Mount;

/// What is to be snapshotted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The instance: a name or an identifier.
    pub instance: String,
    /// Its disks: names or identifiers.
    pub disks: Vec<String>,
}

/// Where disks are mounted.
#[derive(Clone, Debug)]
pub enum Mounting {
    /// Where the tables of this host say.
    Here(Host),
    /// Where somebody has declared, each disk by its name in the order.
    Declared(BTreeMap<String, Mount>),
}

impl Mounting {
    fn of(&self, asked: &str, disk: &Disk) -> Result<Mounts, String> {
        match self {
            Self::Here(host) => host.of(&disk.device),
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
        match self {
            Self::Here(host) => {
                let (mount, disks) = host.holding(path)?;
                Ok((mount.point, disks))
            }
            Self::Declared(mounts) => {
                let points = mounts.values().map(|mount| &mount.point);
                let deepest = points
                    .filter(|point| path.starts_with(point))
                    .max_by_key(|point| point.len());
                Ok((
                    deepest.map_or("another disk", String::as_str).to_owned(),
                    Vec::new(),
                ))
            }
        }
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

/// Finds every disk of an order, attached and mounted. Each name must mean exactly one disk.
pub async fn survey(
    provider: &dyn Provider,
    order: &Order,
    mounting: &Mounting,
) -> Result<Vec<Found>> {
    let attached = provider.attached(&order.instance).await?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in &order.disks {
        match called(&attached, name)? {
            Some(disk) => found.push((name.clone(), provider.detailed(disk.clone()).await?)),
            None => missing.push(name.clone()),
        }
    }
    if !missing.is_empty() {
        return Err(Error::NotAttached {
            instance: order.instance.clone(),
            disks: missing,
            attached: attached.iter().map(title).collect(),
        });
    }
    let mounting = mounting.clone();
    let mounted = tokio::task::spawn_blocking(move || {
        let each = found.into_iter();
        let each = each.map(|(asked, disk)| (mounting.of(&asked, &disk), asked, disk));
        each.collect::<Vec<_>>()
    });
    let mounted = mounted.await.expect("looking at mounts does not panic");
    let mut found = Vec::new();
    let mut unmounted = Vec::new();
    for (mounts, asked, disk) in mounted {
        match mounts {
            Ok(mounts) => found.push(Found {
                asked,
                disk,
                mounts,
            }),
            Err(why) => unmounted.push(format!("{asked} ({why})")),
        }
    }
    if unmounted.is_empty() {
        return Ok(found);
    }
    Err(Error::NotMounted {
        instance: order.instance.clone(),
        disks: unmounted,
    })
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

/// What of a server's files would be missing or useless: each path that is on a file system of which not all disks are in the set, or that
/// spans several, whose snapshots show different instants.
pub fn uncovered(mounting: &Mounting, found: &[Found], paths: &[PathBuf]) -> Vec<Error> {
    let gap = |path: &PathBuf| gap(mounting, found, path).transpose();
    paths
        .iter()
        .filter_map(gap)
        .map(|gap| gap.unwrap_or_else(Error::Mounts))
        .collect()
}

fn gap(mounting: &Mounting, found: &[Found], path: &Path) -> std::io::Result<Option<Error>> {
    let (mount, disks) = mounting.holding(path)?;
    // A disk that only `findmnt` knows, or somebody declared, has no name in the kernel's tables.
    let by_point = |found: &Found| found.mounts.blocks.is_empty() && found.mount().point == mount;
    let by_name = |found: &Found, disk: &String| found.mounts.blocks.contains(disk);
    let holds = |found: &&Found| by_point(found) || disks.iter().any(|disk| by_name(found, disk));
    let holding: Vec<&Found> = found.iter().filter(holds).collect();
    let is_covered = |disk: &String| holding.iter().any(|found| by_name(found, disk));
    match holding[..] {
        [only] if by_point(only) || disks.iter().all(is_covered) => Ok(None),
        [] | [_] => Ok(Some(Error::Uncovered {
            path: path.display().to_string(),
            mount,
        })),
        _ => Ok(Some(Error::Spans {
            path: path.display().to_string(),
            mount,
            disks: holding.iter().map(|found| found.asked.clone()).collect(),
        })),
    }
}
