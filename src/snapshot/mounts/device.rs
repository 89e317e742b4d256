//! From what a cloud calls a disk to what the kernel calls it.
//!
//! Links that the cloud's own rules for udev make come first where a cloud documents them, then what the devices say of themselves. Sources: *Amazon
//! EBS volumes and NVMe* (the serial number is the volume's identifier without its dash) and *Device names on Linux instances*; the
//! rules of azure-vm-utils and of the Azure Linux agent; the rules of Google's guest configurations.

use std::{fs, path::Path};

use super::{super::Device, names};

/// The controllers of Azure's data disks on the virtual machine bus; `f8b3781a` has the disks of the system.
const AZURE_DATA: [&str; 3] = ["f8b3781b-", "f8b3781c-", "f8b3781d-"];

/// What Azure's remote disks over NVMe call themselves. Local ones have other names, and no snapshots.
const AZURE_NVME: &str = "MSFT NVMe Accelerator v1.0";

/// Namespaces count from 1, and the first is the disk of the system.
const AZURE_NVME_FIRST: u32 = 2;

/// The names under which a disk may be known in `/dev`, the likeliest first.
pub(super) fn names_of(device: &Device) -> Vec<String> {
    match device {
        Device::Ebs {
            volume,
            label,
            paravirtual,
        } => {
            let by_id = format!(
                "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{}",
                volume.replace('-', "")
            );
            let prefix = if *paravirtual { "/dev/hd" } else { "/dev/xvd" };
            let renamed = label.strip_prefix("/dev/sd");
            let renamed = renamed.map(|letters| format!("{prefix}{letters}"));
            [by_id, label.clone()].into_iter().chain(renamed).collect()
        }
        Device::Lun(lun) => vec![
            format!("/dev/disk/azure/data/by-lun/{lun}"),
            format!("/dev/disk/azure/scsi1/lun{lun}"),
        ],
        Device::Google(name) => vec![format!("/dev/disk/by-id/google-{name}")],
    }
}

/// What the kernel calls a disk: `nvme1n1`, `sdc`.
pub(super) fn find(root: &Path, device: &Device) -> Option<String> {
    let blocks = names(&root.join("sys/class/block"));
    let by_itself = blocks.iter().find(|block| is(root, block, device));
    let by_itself = by_itself.cloned();
    by_itself.or_else(|| {
        let names = names_of(device);
        names.iter().find_map(|name| linked(root, name, &blocks))
    })
}

/// Whether a block device says that it is the disk.
fn is(root: &Path, block: &str, device: &Device) -> bool {
    let directory = root.join("sys/class/block").join(block);
    let told = |file: &str| {
        let text = fs::read_to_string(directory.join(file));
        text.ok().map(|text| text.trim().to_owned())
    };
    match device {
        Device::Ebs { volume, .. } => {
            let serial = told("device/serial");
            serial.is_some_and(|serial| serial == volume.replace('-', ""))
        }
        Device::Lun(lun) => {
            let is_nvme = told("device/model").is_some_and(|model| model == AZURE_NVME);
            let namespace = told("nsid").and_then(|id| id.parse::<u32>().ok());
            if is_nvme && namespace == Some(lun + AZURE_NVME_FIRST) {
                return true;
            }
            let place = fs::canonicalize(directory.join("device"));
            let Some(place) = place
                .ok()
                .and_then(|place| place.to_str().map(str::to_owned))
            else {
                return false;
            };
            let on_bus = AZURE_DATA.iter().any(|bus| place.contains(bus));
            let number = place.rsplit(':').next();
            on_bus && number.and_then(|number| number.parse().ok()) == Some(*lun)
        }
        // It says so only to whoever may send it commands; its link tells.
        Device::Google(_) => false,
    }
}

/// The block device that a name in `/dev` leads to.
fn linked(root: &Path, name: &str, blocks: &[String]) -> Option<String> {
    let path = root.join(name.trim_start_matches('/'));
    let target = fs::read_link(&path).unwrap_or(path);
    let target = target.file_name()?.to_str()?;
    blocks.iter().find(|block| *block == target).cloned()
}
