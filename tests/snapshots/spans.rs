//! File systems over several disks: their snapshots show different instants, so they are refused, by the names of the disks.

use std::{fs, path::Path};

use barkeep::{
    cli::exit::Exit,
    snapshot::{Error, Mounting, Order, mounts::Host, survey},
};

use crate::fake::{Cloud, INSTANCE, Kind};

/// Two volumes of AWS over NVMe, and what is made of both.
const TABLES: &str = "
    sys/class/block/nvme1n1/dev = 259:1
    sys/class/block/nvme1n1/device/serial = vol00000000000000001
    sys/class/block/nvme2n1/dev = 259:2
    sys/class/block/nvme2n1/device/serial = vol00000000000000002
    sys/class/block/{of}/dev = 252:0
    sys/class/block/{of}/slaves/nvme1n1/x = 1
    sys/class/block/{of}/slaves/nvme2n1/x = 1
    sys/class/block/nvme1n1/holders/{of}/x = 1
    sys/class/block/nvme2n1/holders/{of}/x = 1
";

/// A logical volume, and an array.
const OVER_BOTH: [(&str, &str, &str); 2] = [
    ("dm-0", "dm/name = vg-pg", "/dev/mapper/vg-pg"),
    ("md0", "md/level = raid0", "/dev/md0"),
];

fn record(root: &Path, tables: &str) {
    for line in tables.lines().filter(|line| line.contains(" = ")) {
        let (path, text) = line.trim().split_once(" = ").expect("a file");
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, format!("{text}\n")).expect("a file");
    }
}

#[tokio::test]
async fn a_file_system_over_two_volumes_is_refused_by_their_names() {
    let cloud = Cloud::start(Kind::Aws);
    let provider = cloud.provider().await;
    for (of, word, source) in OVER_BOTH {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("it exists");
        let data = root.join("mnt");
        fs::create_dir(&data).expect("a directory");
        let tables = format!("{TABLES}sys/class/block/{{of}}/{word}\n").replace("{of}", of);
        record(&root, &tables);
        let mount = data.display();
        let mounted = format!("31 22 252:0 / {mount} rw,noatime - xfs {source} rw");
        record(&root, &format!("proc/self/mountinfo = {mounted}"));
        let mounting = Mounting::Here(Host::recorded(&root));
        let gaps = async |disks: &[&str]| {
            let order = Order {
                instance: INSTANCE.to_owned(),
                disks: disks.iter().map(|disk| (*disk).to_owned()).collect(),
            };
            let surveyed = survey(&*provider, &order, &mounting, std::slice::from_ref(&data));
            surveyed.await.expect("disks").gaps
        };
        let both = gaps(&["pgdata", "pgwal"]).await;
        let told = format!(
            "`{mount}` is on `{mount}`, a file system over several disks (pgdata, pgwal), \
             whose snapshots would show different instants"
        );
        assert_eq!(both[0].to_string(), told, "{of}");
        assert_eq!(Exit::from(both[0].kind()).code(), 4);
        // Half of it is no backup either; the other half is named.
        let half = gaps(&["pgwal"]).await;
        let [half @ Error::Uncovered { .. }] = &half[..] else {
            panic!("{of}: {half:?}");
        };
        let half = half.to_string();
        assert!(half.contains("pgdata (vol-00000000000000001)"), "{half}");
    }
}
