//! From what a cloud calls a disk to what the kernel calls it.
//!
//! Links that the cloud's own rules for udev make come first where a cloud documents them, then what the devices say of themselves. Sources: *Amazon
//! EBS volumes and NVMe* (the serial number is the volume's identifier without its dash) and *Device names on Linux instances*; the
//! rules of azure-vm-utils and of the Azure Linux agent; the rules of Google's guest configurations.

use std::{collections::BTreeMap, ffi::OsStr, fs, path::Path};

use super::{super::Device, names, report::HostDisk};

/// The controllers of Azure's data disks on the virtual machine bus; `f8b3781a` has the disks of the system.
const AZURE_DATA: [&str; 3] = ["f8b3781b-", "f8b3781c-", "f8b3781d-"];

/// What Azure's remote disks over NVMe call themselves. Local ones have other names, and no snapshots.
const AZURE_NVME: &str = "MSFT NVMe Accelerator v1.0";

/// Namespaces count from 1, and the first is the disk of the system.
const AZURE_NVME_FIRST: u32 = 2;

/// Where there are links to disks, below the root.
const LINKS: [&str; 4] = [
    "dev",
    "dev/disk/azure/data/by-lun",
    "dev/disk/azure/scsi1",
    "dev/disk/by-id",
];

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

/// The disk of a host that a cloud means. What a disk says of itself comes before the names that lead to it.
pub(super) fn find<'a>(disks: &'a [HostDisk], device: &Device) -> Option<&'a HostDisk> {
    let by_itself = disks.iter().find(|disk| is(disk, device));
    by_itself.or_else(|| {
        let names = names_of(device);
        names
            .iter()
            .find_map(|name| disks.iter().find(|disk| disk.names.contains(name)))
    })
}

/// Whether a disk says that it is the one.
fn is(disk: &HostDisk, device: &Device) -> bool {
    match device {
        Device::Ebs { volume, .. } => {
            let serial = volume.replace('-', "");
            disk.serial.as_ref() == Some(&serial)
        }
        Device::Lun(lun) => disk.lun == Some(*lun),
        // It says so only to whoever may send it commands; its link tells.
        Device::Google(_) => false,
    }
}

/// The serial number of the controller of the disk with this directory in `/sys/class/block`.
pub(super) fn serial(directory: &Path) -> Option<String> {
    told(directory, "device/serial").filter(|serial| !serial.is_empty())
}

/// The number under which Azure has attached the disk with this directory in `/sys/class/block`.
pub(super) fn lun(directory: &Path) -> Option<u32> {
    if told(directory, "device/model").as_deref() == Some(AZURE_NVME) {
        let namespace: u32 = told(directory, "nsid")?.parse().ok()?;
        return namespace.checked_sub(AZURE_NVME_FIRST);
    }
    let place = fs::canonicalize(directory.join("device")).ok()?;
    let place = place.to_str()?;
    let on_bus = AZURE_DATA.iter().any(|bus| place.contains(bus));
    let number = place.rsplit(':').next().filter(|_| on_bus);
    number?.parse().ok()
}

/// What a file below a device's directory says.
fn told(directory: &Path, file: &str) -> Option<String> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    Some(text.trim().to_owned())
}

/// The names in `/dev` that lead to each block device, in order.
pub(super) fn links(root: &Path) -> BTreeMap<String, Vec<String>> {
    let mut links: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for directory in LINKS {
        let below = root.join(directory);
        for name in names(&below) {
            let target = fs::read_link(below.join(&name)).ok();
            let target = target.as_deref().and_then(Path::file_name);
            if let Some(block) = target.and_then(OsStr::to_str) {
                let links = links.entry(block.to_owned()).or_default();
                links.push(format!("/{directory}/{name}"));
            }
        }
    }
    links
}
