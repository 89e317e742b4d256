//! A backup of snapshots: whoever restores has made disks of them, attached and mounted these; what is left is to check that, and the label.

use std::path::Path;

use super::{super::error::Error, Restore};
use crate::{
    model::{
        backup::BackupId,
        snapshot::{Account, Place},
    },
    recover::disks,
    snapshot::{self, mounts::Host},
    store::Archive,
};

impl Restore {
    /// Checks that disks were made of the snapshots, and writes the label that they lack.
    pub(super) async fn attach_snapshots(
        &self,
        archive: &Archive,
        id: &BackupId,
    ) -> Result<(), Error> {
        let general = |why: String| Err(Error::General(why));
        if !self.tablespaces.is_empty() {
            return general(format!(
                "Backup {id} is a snapshot backup therefore tablespace relocation rules cannot be used."
            ));
        }
        let stored = archive.read_info(id).await?;
        let set = stored.map(|stored| stored.info.snapshots()).transpose();
        let set = set.map_err(|error| Error::general(&error))?.flatten();
        let Some(set) = set else {
            return general(format!("the record of the backup {id} has changed"));
        };
        let place = self.place(&set.account);
        let zone = matches!(&place, Place::Gcp { zone: None, .. }).then_some("gcp_zone");
        let group = matches!(
            &place,
            Place::Azure {
                resource_group: None,
                ..
            }
        );
        let group = group.then_some("azure_resource_group");
        let instance = match &self.snapshot_instance {
            None => Some("snapshot_recovery_instance"),
            Some(_) => None,
        };
        let missing: Vec<_> = [instance, zone, group].into_iter().flatten().collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return general(format!(
                "Incomplete options for snapshot restore - missing: {missing}"
            ));
        }
        let instance = self.snapshot_instance.as_deref().unwrap_or_default();
        let provider = snapshot::open(&place).await;
        let provider = provider.map_err(|error| Error::general(&error))?;
        let checked = disks::check_disks(&*provider, &Host::here(), &set, instance).await;
        checked.map_err(|error| Error::general(&error))?;
        let written = disks::write_label(archive, id, Path::new(&self.directory)).await;
        written.map_err(|error| Error::general(&error))
    }

    /// Where the instance is: where the snapshots are, unless something else was said.
    fn place(&self, account: &Account) -> Place {
        match account.place(&self.connection.access()) {
            Place::Aws { profile, region } => Place::Aws {
                profile,
                region: self.aws_region.clone().or(region),
            },
            Place::Azure {
                subscription,
                credential,
                ..
            } => Place::Azure {
                subscription,
                resource_group: self.azure_resource_group.clone(),
                credential,
            },
            Place::Gcp { project, .. } => Place::Gcp {
                project,
                zone: self.gcp_zone.clone(),
            },
        }
    }
}
