//! Snapshots of disks: what a backup that consists of them records, and how they are locked.
//!
//! Whatever a reader may miss is optional here: older records lack some of it, and only what names a snapshot is needed to find it again.

use std::{collections::BTreeMap, fmt, num::NonZeroU32};

use serde::{Deserialize, Serialize};

use super::{
    backup::BackupId,
    desired::AzureCredential,
    lock::{Lock, LockMode},
    time::Timestamp,
};
use crate::failure::Failure;

/// The snapshots that hold a backup's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSet {
    /// Where they are.
    pub account: Account,
    /// One of each disk.
    pub disks: Vec<DiskSnapshot>,
}

impl SnapshotSet {
    /// What the cloud knows each snapshot by.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.disks.iter().map(|disk| disk.recorded.id())
    }
}

/// Where snapshots are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Account {
    /// In an account and a region of AWS.
    Aws {
        /// The owner's number.
        account_id: Option<String>,
        /// The region.
        region: Option<String>,
    },
    /// In a subscription of Azure.
    Azure {
        /// Its identifier.
        subscription: Option<String>,
        /// The group of resources in it.
        resource_group: Option<String>,
    },
    /// In a project of Google Cloud.
    Gcp {
        /// Its name.
        project: Option<String>,
    },
}

/// A snapshot of one disk, and where that was mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSnapshot {
    /// The mount; none if nobody recorded it.
    pub mount: Option<Mount>,
    /// The snapshot.
    pub recorded: Recorded,
}

/// A mounted file system, in the words of `findmnt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is.
    pub point: String,
    /// The options of mount and file system, joined by commas.
    pub options: String,
}

impl fmt::Display for Mount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.point, self.options)
    }
}

/// Who says where disks are mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountsFrom {
    /// The kernel of the host where barkeep runs, which must be the server's.
    Here,
    /// The configuration, by the names of the disks in `disks`.
    Declared(BTreeMap<String, Mount>),
    /// A command, which is given the paths that matter and prints what `barkeep mounts --format json` prints on the server's host: the
    /// program and its arguments.
    Command(Vec<String>),
}

/// A snapshot as its cloud describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Of an EBS volume.
    Aws {
        /// The name under which the volume is attached.
        device: Option<String>,
        /// `snap-…`
        id: String,
        /// The value of its tag `Name`.
        name: Option<String>,
        /// How it was locked.
        lock: Option<String>,
    },
    /// Of a managed disk.
    Azure {
        /// The region.
        location: Option<String>,
        /// The number under which the disk is attached.
        lun: Option<u32>,
        /// Its name.
        name: String,
    },
    /// Of a persistent disk.
    Gcp {
        /// The name under which the disk is attached.
        device: Option<String>,
        /// Its name.
        name: String,
        /// Its project.
        project: Option<String>,
    },
}

impl Recorded {
    /// What the cloud knows the snapshot by.
    pub fn id(&self) -> &str {
        match self {
            Self::Aws { id, .. } => id,
            Self::Azure { name, .. } | Self::Gcp { name, .. } => name,
        }
    }
}

/// A snapshot that carries the tags of a server's backup in a destination: one that barkeep took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaggedSnapshot {
    /// What the cloud knows it by.
    pub id: String,
    /// The backup that its tag names.
    pub backup: BackupId,
    /// When it was begun, by the cloud's clock, if the cloud tells.
    pub begun_at: Option<Timestamp>,
    /// Whether it may be deleted, where no backup of the catalog is the one that its tag names; free elsewhere, for nobody has asked.
    pub lock: Lock,
}

/// What looking at the disks of a server has found: whether their snapshots would be a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSurvey {
    /// When, by our clock.
    pub at: Timestamp,
    /// What is wrong with the disks, and which of the server's files are on others; each with what mends it.
    pub faults: Vec<Failure>,
}

/// How a snapshot is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotLock {
    /// Who may shorten it.
    pub mode: LockMode,
    /// How long it lasts. The cloud refuses a lock without an end, which Barman's options allow.
    pub end: Option<LockEnd>,
    /// For how many hours a lock in compliance mode can still be changed.
    pub cool_off_hours: Option<NonZeroU32>,
}

/// When a lock ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockEnd {
    /// So many days after the snapshot is complete.
    Days(NonZeroU32),
    /// At an instant.
    At(Timestamp),
}

/// Where snapshots are asked for, and in whose name. What is unset comes from where the cloud's own programs look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Of AWS.
    Aws {
        /// The named profile of the shared configuration files.
        profile: Option<String>,
        /// The region; it beats that of the profile.
        region: Option<String>,
    },
    /// Of Azure.
    Azure {
        /// The subscription. There is no other place to look for it.
        subscription: Option<String>,
        /// The group of resources. Nor for this one.
        resource_group: Option<String>,
        /// Whose identity is used.
        credential: Option<AzureCredential>,
    },
    /// Of Google Cloud.
    Gcp {
        /// The project. Nor for this one.
        project: Option<String>,
        /// The zone; only instances need one.
        zone: Option<String>,
    },
}

/// In whose name snapshots are asked for whose place a record tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The named profile for AWS.
    pub aws_profile: Option<String>,
    /// The identity for Azure.
    pub azure_credential: Option<AzureCredential>,
}

impl Account {
    /// Where to ask for the snapshots that it has.
    pub fn place(&self, access: &Access) -> Place {
        match self.clone() {
            Self::Aws { region, .. } => Place::Aws {
                profile: access.aws_profile.clone(),
                region,
            },
            Self::Azure {
                subscription,
                resource_group,
            } => Place::Azure {
                subscription,
                resource_group,
                credential: access.azure_credential,
            },
            Self::Gcp { project } => Place::Gcp {
                project,
                zone: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_asked_for_where_it_is_in_the_name_of_who_asks() {
        let access = Access {
            aws_profile: Some("backup".to_owned()),
            azure_credential: Some(AzureCredential::ManagedIdentity),
        };
        let some = |text: &str| Some(text.to_owned());
        for (account, place) in [
            (
                Account::Aws {
                    account_id: some("123"),
                    region: some("eu-south-1"),
                },
                Place::Aws {
                    profile: some("backup"),
                    region: some("eu-south-1"),
                },
            ),
            (
                Account::Azure {
                    subscription: some("s"),
                    resource_group: some("g"),
                },
                Place::Azure {
                    subscription: some("s"),
                    resource_group: some("g"),
                    credential: Some(AzureCredential::ManagedIdentity),
                },
            ),
            (
                Account::Gcp { project: some("p") },
                Place::Gcp {
                    project: some("p"),
                    zone: None,
                },
            ),
        ] {
            assert_eq!(account.place(&access), place);
        }
    }

    #[test]
    fn a_mount_is_told_with_its_options() {
        let mount = Mount {
            point: "/mnt/pgdata".to_owned(),
            options: "rw,noatime".to_owned(),
        };
        assert_eq!(mount.to_string(), "/mnt/pgdata (rw,noatime)");
    }
}
