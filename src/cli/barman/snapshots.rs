//! What several commands need to speak to the cloud whose disks are snapshotted.
//!
//! The cloud is the one of the catalog's store. Options that are missing are told in the names that Barman's own code has for them.

use std::time::Duration;

use super::{
    arguments::{CloudProvider, Connection},
    backup::{Backup, Snapshot},
    error::Error,
};
use crate::{
    execute::base_backup::{Coverage, Disks},
    model::{
        desired::AzureCredential,
        lock::LockMode,
        snapshot::{Access, LockEnd, Place, SnapshotLock},
    },
    snapshot::{self, Mounting, Order, mounts::Host},
};

impl Connection {
    /// In whose name snapshots are asked for.
    pub(super) fn access(&self) -> Access {
        Access {
            aws_profile: self.profile.clone(),
            azure_credential: self.azure_credential(),
        }
    }

    pub(super) fn azure_credential(&self) -> Option<AzureCredential> {
        match self.azure_credential.as_deref() {
            Some("azure-cli") => Some(AzureCredential::AzureCli),
            Some("managed-identity") => Some(AzureCredential::ManagedIdentity),
            Some(_) => Some(AzureCredential::Default),
            None => None,
        }
    }
}

impl Backup {
    /// What is snapshotted, and where.
    pub(super) async fn disks(&self) -> Result<Disks, Error> {
        let wanted = &self.snapshot;
        let place = self.place()?;
        let zone = wanted.gcp_zone.as_ref();
        let group = wanted.azure_resource_group.as_ref();
        let is_there = [
            ("snapshot_disks", !wanted.disks.is_empty()),
            ("snapshot_instance", wanted.instance.is_some()),
            match place {
                Place::Gcp { .. } => ("gcp_zone", zone.is_some()),
                Place::Azure { .. } => ("azure_resource_group", group.is_some()),
                Place::Aws { .. } => ("", true),
            },
        ];
        let missing = is_there.into_iter().filter(|(_, is_there)| !is_there);
        let missing: Vec<_> = missing.map(|(name, _)| name).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(Error::General(format!(
                "Incomplete options for snapshot backup - missing: {missing}"
            )));
        }
        let provider = snapshot::open(&place).await;
        let is_aws = matches!(place, Place::Aws { .. });
        Ok(Disks {
            provider: provider.map_err(|error| Error::general(&error))?,
            order: Order {
                instance: wanted.instance.clone().unwrap_or_default(),
                disks: wanted.disks.clone(),
            },
            mounting: Mounting::Here(Host::here()),
            owner: None,
            // Barman tags snapshots nowhere else.
            tags: if is_aws {
                self.upload.tags.clone()
            } else {
                Vec::new()
            },
            lock: wanted.lock().filter(|_| is_aws),
            limit: Duration::from_secs(wanted.aws_await_timeout),
            coverage: Coverage::Told,
        })
    }

    fn place(&self) -> Result<Place, Error> {
        let wanted = self.snapshot.clone();
        let needed = |option: &str, provider: &str| {
            Error::General(format!(
                "{option} option must be set for snapshot backups when cloud provider is {provider}"
            ))
        };
        match self.connection.provider {
            CloudProvider::AwsS3 => Ok(Place::Aws {
                profile: self.connection.profile.clone(),
                region: wanted.aws_region,
            }),
            CloudProvider::AzureBlobStorage if wanted.azure_subscription.is_none() => {
                Err(needed("--azure-subscription-id", "azure-blob-storage"))
            }
            // What is still missing is told with everything else that is.
            CloudProvider::AzureBlobStorage => Ok(Place::Azure {
                subscription: wanted.azure_subscription,
                resource_group: wanted.azure_resource_group,
                credential: self.connection.azure_credential(),
            }),
            CloudProvider::GoogleCloudStorage if wanted.gcp_project.is_none() => {
                Err(needed("--gcp-project", "google-cloud-storage"))
            }
            CloudProvider::GoogleCloudStorage => Ok(Place::Gcp {
                project: wanted.gcp_project,
                zone: wanted.gcp_zone,
            }),
        }
    }
}

impl Snapshot {
    fn lock(&self) -> Option<SnapshotLock> {
        let number = |value: Option<u64>| u32::try_from(value?).ok()?.try_into().ok();
        let days = number(self.aws_lock_duration).map(LockEnd::Days);
        let instant = self.aws_lock_expiration.as_deref();
        let instant = instant.and_then(|text| Some(LockEnd::At(text.parse().ok()?)));
        Some(SnapshotLock {
            mode: match self.aws_lock_mode.as_deref()? {
                "compliance" => LockMode::Compliance,
                _ => LockMode::Governance,
            },
            end: days.or(instant),
            cool_off_hours: number(self.aws_lock_cool_off),
        })
    }
}
