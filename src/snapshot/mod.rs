//! Port: snapshots of the disks of an instance, in three clouds.
//!
//! [`Provider`] is what a cloud is asked for; [`survey`] finds an instance's disks and where they are mounted; [`Taking`] takes one snapshot
//! of each and waits, first for the instant that they show to be fixed, then until they can be restored. Point in time and
//! completion are told apart because PostgreSQL stays in backup mode only until the first.
//!
//! Nothing here decides what is backed up or deleted. Requests are retried inside a provider and nowhere else. Deleting what is absent
//! is success; a name alone never makes a snapshot ours, its tags do.

use std::fmt;

use async_trait::async_trait;

use crate::model::{
    backup::BackupId,
    lock::Lock,
    snapshot::{Account, Recorded, SnapshotLock},
    time::Timestamp,
};

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "aws-ebs")]
mod ec2;
mod error;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(feature = "gcp")]
mod gce;
pub mod making;
pub mod mounts;
mod open;
pub mod permission;
#[cfg(any(feature = "azure", feature = "gcp"))]
mod rest;
mod survey;
mod taking;

pub use self::{
    error::Error,
    open::{AllClouds, Clouds, StandIn, open, open_at},
    survey::{Found, Mounting, Order, Surveyed, survey},
    taking::{Taking, Waiting, sweep},
};

/// What this module's operations return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A tag's key and its value.
pub type Tag = (String, String);

/// A cloud that makes snapshots of disks.
#[async_trait]
pub trait Provider: making::Makes + fmt::Debug {
    /// The disks that are attached to the one instance with this name or identifier.
    async fn attached(&self, instance: &str) -> Result<Vec<Disk>>;

    /// The same disk, with what only a question about it tells: where it is and what it was made from.
    async fn detailed(&self, disk: Disk) -> Result<Disk>;

    /// Begins a snapshot. When this returns, the cloud has accepted it.
    async fn begin(&self, wanted: &Wanted<'_>) -> Result<Begun>;

    /// How far a snapshot has come. One that failed is an error.
    async fn stage(&self, begun: &Begun) -> Result<Stage>;

    /// Locks a snapshot.
    async fn lock(&self, id: &str, lock: &SnapshotLock) -> Result<()>;

    /// Whether snapshots may be deleted, in the order of the question; what is absent is free.
    async fn locks(&self, ids: &[String]) -> Result<Vec<Lock>>;

    /// A snapshot, if there is one with this identifier.
    async fn describe(&self, id: &str) -> Result<Option<Described>>;

    /// Deletes a snapshot; whether it was there.
    async fn delete(&self, id: &str) -> Result<Deleted>;

    /// The snapshots that carry all of these tags.
    async fn tagged(&self, tags: &[Tag]) -> Result<Vec<Described>>;

    /// Whether a snapshot carries all of these tags, spelled as the cloud can.
    fn carries(&self, described: &Described, tags: &[Tag]) -> bool {
        tags.iter().all(|tag| described.tags.contains(tag))
    }

    /// The backup that a snapshot's tag names.
    fn backup_of(&self, described: &Described) -> Option<BackupId> {
        let mut tags = described.tags.iter();
        let (_, id) = tags.find(|(key, _)| key == BACKUP)?;
        Some(BackupId::new(id.clone()))
    }

    /// How a snapshot is recorded of which nothing is known but that it exists.
    fn found(&self, described: &Described) -> Recorded;

    /// How a snapshot is recorded.
    fn recorded(&self, disk: &Disk, begun: &Begun, lock: Option<&SnapshotLock>) -> Recorded;

    /// Where all of them are, as it is recorded.
    fn account(&self, begun: &[Begun]) -> Account;
}

/// A disk as it is attached to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What the cloud knows it by: a volume's identifier, a resource's path, a name.
    pub id: String,
    /// What people call it, if it has a name beside that.
    pub name: Option<String>,
    /// How its instance knows it.
    pub device: Device,
    /// What it is for.
    pub role: Role,
    /// The snapshot that it was made from: its identifier as it is recorded.
    pub source: Option<String>,
    /// Its region, where a snapshot must be told.
    pub location: Option<String>,
}

impl Disk {
    /// Whether somebody who says this means this disk.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.name.as_deref() == Some(name)
    }
}

/// How an instance knows a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// An EBS volume: its identifier is the serial number of its NVMe controller; without NVMe, the label is near the name of its device.
    Ebs {
        /// `vol-…`
        volume: String,
        /// Such as `/dev/sdf`.
        label: String,
        /// Whether the instance is paravirtual, which names devices otherwise.
        paravirtual: bool,
    },
    /// A data disk of Azure, by its number.
    Lun(u32),
    /// A disk of Google Cloud, by the name under which it is attached.
    Google(String),
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ebs { label, .. } => formatter.write_str(label),
            Self::Lun(lun) => write!(formatter, "lun {lun}"),
            Self::Google(name) => write!(formatter, "google-{name}"),
        }
    }
}

/// What a disk is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// For data.
    Data,
    /// For something of which no snapshot is taken, for this reason.
    Refused(&'static str),
}

/// A snapshot that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Of which disk.
    pub disk: &'a Disk,
    /// Its name.
    pub name: &'a str,
    /// Its tags.
    pub tags: &'a [Tag],
}

/// A snapshot that the cloud has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// What the cloud knows it by.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The account's number, where the cloud tells it.
    pub owner: Option<String>,
    /// Where to ask how far the cloud has come, if not by the snapshot itself.
    pub operation: Option<String>,
}

/// How far a snapshot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Which instant it will show is not decided.
    Accepted,
    /// It shows a certain instant, whatever is written to the disk from now on. So many hundredths of it are stored, if the cloud tells.
    Fixed(Option<u8>),
    /// A disk can be made of it.
    Usable,
}

/// A snapshot as it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// What the cloud knows it by.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// When it was begun, by the cloud's clock.
    pub begun_at: Option<Timestamp>,
}

/// The tag that names a backup.
const BACKUP: &str = "barkeep-backup";

/// Whose snapshots are: only these tags make one ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The server.
    pub server: String,
    /// The URL of the destination.
    pub catalog: String,
}

impl Owner {
    /// The tags of all its snapshots.
    pub fn of_catalog(&self) -> Vec<Tag> {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        vec![
            pair("barkeep-server", &self.server),
            pair("barkeep-catalog", &self.catalog),
        ]
    }

    /// The tags of the snapshots of one backup.
    pub fn tags(&self, backup: &BackupId) -> Vec<Tag> {
        let mut tags = self.of_catalog();
        tags.push((BACKUP.to_owned(), backup.as_str().to_owned()));
        tags
    }
}

/// What became of a snapshot that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// It was not there.
    Absent,
}

/// What a snapshot of a disk is called, as Barman calls it. Where a cloud allows fewer characters, the disk's name is cut and told apart by a
/// checksum.
pub fn snapshot_name(disk: &str, backup: &str, characters: usize) -> String {
    let suffix = format!("-{}", backup.to_lowercase());
    let name = format!("{disk}{suffix}");
    if name.chars().count() <= characters {
        return name;
    }
    let sum = format!("-{:08x}", crc32c::crc32c(disk.as_bytes()));
    let room = characters.saturating_sub(sum.len() + suffix.len());
    let cut: String = disk.chars().take(room).collect();
    format!("{cut}{sum}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_called_as_barman_calls_it_unless_that_is_too_long() {
        let backup = "20261120T235109";
        assert_eq!(
            snapshot_name("pgdata", backup, 63),
            "pgdata-20261120t235109"
        );
        let long = "a".repeat(60);
        let name = snapshot_name(&long, backup, 63);
        assert_eq!(name.len(), 63);
        assert!(name.ends_with("-20261120t235109"), "{name}");
        let other = snapshot_name(&format!("{long}b"), backup, 63);
        assert_ne!(name, other, "two disks");
    }
}
