use std::os::unix::fs::symlink;

use super::*;

/// A host whose tables are written down here: `path = text` makes a file, `path -> target` a link.
struct Recorded {
    directory: tempfile::TempDir,
}

impl Recorded {
    fn new(tables: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let recorded = Self { directory };
        for line in tables
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            if let Some((path, target)) = line.split_once(" -> ") {
                let path = recorded.path(path);
                symlink(target, &path).expect("a link");
            } else if let Some((path, text)) = line.split_once(" = ") {
                fs::write(recorded.path(path), format!("{text}\n")).expect("a file");
            } else {
                let path = recorded.path("proc/self/mountinfo");
                let before = fs::read_to_string(&path).unwrap_or_default();
                fs::write(&path, format!("{before}{line}\n")).expect("a file");
            }
        }
        recorded
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        path
    }

    /// What somebody reads who is told of the paths by the host.
    fn report(&self, paths: &[PathBuf]) -> Report {
        let report = Host::recorded(self.directory.path()).report(paths);
        let report = report.expect("the tables can be read");
        let text = serde_json::to_vec(&report).expect("JSON");
        Report::parse(&text).expect("a report")
    }

    /// What the host says of a disk; whoever is told by it says the same.
    fn of(&self, device: &Device) -> Result<String, String> {
        let mounts = Host::recorded(self.directory.path()).of(device);
        assert_eq!(self.report(&[]).of(device), mounts);
        let mounts = mounts?;
        let told = mounts
            .mounts
            .iter()
            .map(|mount| format!("{} {}", mount.point, mount.options));
        Ok(told.collect::<Vec<_>>().join(" | "))
    }
}

fn ebs(volume: &str, label: &str) -> Device {
    Device::Ebs {
        volume: volume.to_owned(),
        label: label.to_owned(),
        paravirtual: false,
    }
}

/// An instance of the Nitro kind: the controllers' order is not that of the labels, and one disk has partitions.
const NITRO: &str = "
    sys/class/block/nvme0n1/dev = 259:0
    sys/class/block/nvme0n1/device/serial = vol0aaaaaaaaaaaaaaaa
    sys/class/block/nvme1n1/dev = 259:1
    sys/class/block/nvme1n1/device/serial = vol0bbbbbbbbbbbbbbbb
    sys/class/block/nvme2n1/dev = 259:2
    sys/class/block/nvme2n1/device/serial = vol0cccccccccccccccc
    sys/class/block/nvme2n1/nvme2n1p1/partition = 1
    sys/class/block/nvme2n1p1/dev = 259:3
    sys/class/block/nvme2n1p1/partition = 1
    22 1 259:0 / / rw,relatime shared:1 - ext4 /dev/nvme0n1 rw
    40 22 259:1 / /mnt/pg\\040data rw,noatime shared:2 - xfs /dev/nvme1n1 rw,attr2,inode64
    41 22 259:3 / /mnt/wal rw,relatime - ext4 /dev/nvme2n1p1 rw,discard
    42 22 259:1 /sub /srv/bind rw,noatime - xfs /dev/nvme1n1 rw,attr2,inode64
";

#[test]
fn an_ebs_volume_is_found_by_the_serial_number_of_its_controller() {
    let host = Recorded::new(NITRO);
    let data = host.of(&ebs("vol-0bbbbbbbbbbbbbbbb", "/dev/sdg"));
    assert_eq!(data.as_deref(), Ok("/mnt/pg data rw,noatime,attr2,inode64"));
    let wal = host.of(&ebs("vol-0cccccccccccccccc", "/dev/sdf"));
    assert_eq!(wal.as_deref(), Ok("/mnt/wal rw,relatime,discard"));
    let missing = host.of(&ebs("vol-0dddddddddddddddd", "/dev/sdh"));
    assert_eq!(missing, Err("its host has no such disk".to_owned()));
}

#[test]
fn an_ebs_volume_without_nvme_is_found_by_its_renamed_label() {
    let host = Recorded::new(
        "
        sys/class/block/xvdf/dev = 202:80
        sys/class/block/xvdg/dev = 202:96
        40 22 202:80 / /mnt/data ro,relatime - ext4 /dev/xvdf rw
        ",
    );
    let data = host.of(&ebs("vol-1", "/dev/sdf"));
    assert_eq!(data.as_deref(), Ok("/mnt/data ro,relatime"));
    let unmounted = host.of(&ebs("vol-2", "/dev/sdg"));
    assert_eq!(unmounted, Err("nothing of `xvdg` is mounted".to_owned()));
}

#[test]
fn a_disk_of_azure_is_found_by_its_number_on_either_bus() {
    let bus = "sys/devices/VMBUS/f8b3781b-1e82-4818-a1c3-63d806ec15bb/host3";
    let system = "sys/devices/VMBUS/f8b3781a-1e82-4818-a1c3-63d806ec15bb/host0";
    let host = Recorded::new(&format!(
        "
        {bus}/1:0:0:4/x = 1
        {system}/0:0:0:4/x = 1
        sys/class/block/sda/dev = 8:0
        sys/class/block/sda/device -> ../../../../{system}/0:0:0:4
        sys/class/block/sdc/dev = 8:32
        sys/class/block/sdc/device -> ../../../../{bus}/1:0:0:4
        sys/class/block/nvme0n7/dev = 259:7
        sys/class/block/nvme0n7/nsid = 7
        sys/class/block/nvme0n7/device/model = MSFT NVMe Accelerator v1.0
        sys/class/block/sdd/dev = 8:48
        dev/disk/azure/data/by-lun/9 -> ../../../../sdd
        30 22 8:0 / / rw - ext4 /dev/sda rw
        31 22 8:32 / /mnt/scsi rw,noatime - ext4 /dev/sdc rw
        32 22 259:7 / /mnt/nvme rw,noatime - xfs /dev/nvme0n7 rw
        33 22 8:48 / /mnt/link rw,noatime - xfs /dev/sdd rw
        "
    ));
    for (lun, mount) in [(4, "/mnt/scsi"), (5, "/mnt/nvme"), (9, "/mnt/link")] {
        let found = host.of(&Device::Lun(lun));
        assert_eq!(found, Ok(format!("{mount} rw,noatime")), "{lun}");
    }
    assert!(host.of(&Device::Lun(0)).is_err(), "the disk of the system");
}

/// Two disks of Google's: one below a volume that spans both.
const VOLUMES: &str = "
    dev/disk/by-id/google-pgdata -> ../../sdb
    dev/disk/by-id/google-more -> ../../sdc
    sys/class/block/sdb/dev = 8:16
    sys/class/block/sdb/holders/dm-0/x = 1
    sys/class/block/sdc/dev = 8:32
    sys/class/block/sdc/holders/dm-0/x = 1
    sys/class/block/dm-0/dev = 253:0
    sys/class/block/dm-0/dm/name = vg-pg
    sys/class/block/dm-0/slaves/sdb/x = 1
    sys/class/block/dm-0/slaves/sdc/x = 1
    22 1 0:21 / / rw - overlay overlay rw
    31 22 253:0 / {at} rw,noatime - btrfs /dev/mapper/vg-pg rw,space_cache=v2
";

#[test]
fn a_logical_volume_is_on_each_of_its_disks() {
    let host = Recorded::new(&VOLUMES.replace("{at}", "/mnt/pg"));
    for name in ["pgdata", "more"] {
        let found = host.of(&Device::Google(name.to_owned()));
        assert_eq!(found.as_deref(), Ok("/mnt/pg rw,noatime,space_cache=v2"));
    }
    // The file system has a number of its own; its source tells.
    let anonymous = VOLUMES
        .replace("{at}", "/mnt/pg")
        .replace("22 253:0", "22 0:45");
    let found = Recorded::new(&anonymous).of(&Device::Google("more".to_owned()));
    assert_eq!(found.as_deref(), Ok("/mnt/pg rw,noatime,space_cache=v2"));
}

#[test]
fn a_path_is_held_by_every_disk_below_its_file_system() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = directory.path().canonicalize().expect("it exists");
    let recorded = Recorded::new(&VOLUMES.replace("{at}", &at.display().to_string()));
    let report = recorded.report(std::slice::from_ref(&at));
    let host = Host::recorded(recorded.directory.path());
    let (mount, disks) = host.holding(&at).expect("it is held");
    assert_eq!(Path::new(&mount.point), at);
    assert_eq!(disks, ["sdb", "sdc"]);
    let told = report.holding(&at).expect("it is told");
    assert_eq!(told, (mount, disks));
    let (mount, disks) = host.holding(Path::new("/")).expect("it is held");
    assert_eq!(
        (mount.point.as_str(), &disks[..]),
        ("/", &["overlay".to_owned()][..])
    );
}

#[test]
fn a_report_has_every_disk_with_all_that_it_is_known_by() {
    let recorded = Recorded::new(&format!(
        "{NITRO}
        sys/class/block/loop0/dev = 7:0
        sys/class/block/loop0/size = 0
        dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0cccccccccccccccc -> ../../nvme2n1
        dev/sdf -> nvme2n1
        "
    ));
    let disks = recorded.report(&[]).disks;
    let devices: Vec<&str> = disks.iter().map(|disk| disk.device.as_str()).collect();
    assert_eq!(
        devices,
        ["nvme0n1", "nvme1n1", "nvme2n1"],
        "no part, nothing empty"
    );
    let wal = &disks[2];
    assert_eq!(wal.serial.as_deref(), Some("vol0cccccccccccccccc"));
    let by_id = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0cccccccccccccccc";
    assert_eq!(wal.names, ["/dev/nvme2n1", "/dev/sdf", by_id]);
    assert_eq!(wal.blocks, ["nvme2n1", "nvme2n1p1"]);
    let doubtful = HostDisk {
        doubt: Some("two say different things".to_owned()),
        ..wal.clone()
    };
    let told = report::mounted(Some(&doubtful));
    assert_eq!(told, Err("two say different things".to_owned()));
}

#[test]
fn a_path_that_is_not_there_is_told() {
    let recorded = Recorded::new(NITRO);
    let host = Host::recorded(recorded.directory.path());
    let error = host.report(&[PathBuf::from("/nowhere/pg")]);
    let error = error.expect_err("it is not there");
    assert_eq!(error.kind(), Kind::NotFound);
    let told = "cannot find out which file system holds `/nowhere/pg`";
    assert_eq!(error.to_string(), told);
}

#[test]
fn this_hosts_tables_agree_with_findmnt() {
    let Ok(output) = Command::new("findmnt")
        .args(["-n", "-o", "TARGET,OPTIONS", "/"])
        .output()
    else {
        return;
    };
    let text = String::from_utf8(output.stdout).expect("text");
    let Some((point, options)) = text.trim().split_once(char::is_whitespace) else {
        return;
    };
    let (mount, _) = Host::here()
        .holding(Path::new("/"))
        .expect("there is a root");
    assert_eq!(
        (mount.point.as_str(), mount.options.as_str()),
        (point, options.trim())
    );
}
