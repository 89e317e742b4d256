//! Disks with real file systems: files as loop devices, which the stand-in of the cloud copies at the instant at which it is asked for a snapshot.
//!
//! A server runs on one under load, is backed up by a snapshot and lost; a disk made of the snapshot gets it back, to an instant.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::{
    fake::{Event, Kind, RECOVERY},
    scene::Scene,
    support::{
        bed::{bed, run},
        cluster::{Cluster, Stop},
        wait::until,
    },
};

/// Where the kernel's links to disks are.
const LINKS: &str = "/dev/disk/by-id";

/// A file as a disk, gone with the value that stands for it.
pub(crate) struct Disk {
    device: PathBuf,
    link: PathBuf,
    mounted: Option<PathBuf>,
}

impl Disk {
    /// Gives a file a device, and the link that Google's rules would make for its name.
    fn attach(image: &Path, name: &str) -> Self {
        let device = run(Command::new("losetup")
            .args(["--find", "--show"])
            .arg(image));
        let link = Path::new(LINKS).join(format!("google-{name}"));
        std::fs::create_dir_all(LINKS).expect("links to disks");
        symlink(Path::new("../..").join(&device[5..]), &link).expect("a link");
        Self {
            device: device.into(),
            link,
            mounted: None,
        }
    }

    fn mount(&mut self, point: &Path) {
        run(Command::new("mount").arg(&self.device).arg(point));
        self.mounted = Some(point.to_owned());
    }

    /// Whoever mounted it, it is not mounted afterwards.
    fn unmount(&mut self, point: &Path) {
        run(Command::new("umount").arg(point));
        self.mounted = None;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(point) = &self.mounted {
            Command::new("umount")
                .arg("--lazy")
                .arg(point)
                .status()
                .ok();
        }
        let detach = Command::new("losetup")
            .arg("--detach")
            .arg(&self.device)
            .status();
        detach.ok();
        std::fs::remove_file(&self.link).ok();
    }
}

/// Whether this machine gives loop devices to whoever runs the test.
#[expect(clippy::disallowed_methods, reason = "CI says of itself that it is CI")]
#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests must see what was not run"
)]
pub(crate) fn has_loop_devices() -> bool {
    let has = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !has {
        assert!(std::env::var_os("CI").is_none(), "loop devices need root");
        eprintln!("skipped: loop devices need root");
    }
    has
}

/// A cluster whose data directory is the root of a file system on a disk.
pub(crate) fn cluster_on_disk(image: &Path, name: &str) -> Option<(Cluster, Disk)> {
    let cluster = Cluster::create(17)?;
    cluster.configure(&[("archive_command", "true"), ("max_wal_size", "128MB")]);
    run(Command::new("truncate").args(["-s", "1G"]).arg(image));
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image));
    let mut disk = Disk::attach(image, name);
    let (data, aside) = (cluster.pgdata(), cluster.pgdata().with_extension("aside"));
    std::fs::rename(&data, &aside).expect("it is moved");
    std::fs::create_dir(&data).expect("a mount point");
    disk.mount(&data);
    std::fs::remove_dir(data.join("lost+found")).expect("it is empty");
    run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&data));
    run(Command::new("chown")
        .arg("--reference")
        .arg(&aside)
        .arg(&data));
    run(Command::new("chmod")
        .arg("--reference")
        .arg(&aside)
        .arg(&data));
    Some((cluster, disk))
}

fn pgbench(scene: &Scene, arguments: &[&str]) -> Command {
    let programs = bed().postgresql(17).expect("pgbench");
    let mut command = bed().as_server(&programs.join("pgbench"));
    let socket = scene.cluster.socket_directory();
    command
        .args(["-U", "postgres", "-h"])
        .arg(socket)
        .args(["-p", &scene.cluster.port().to_string()])
        .args(arguments)
        .arg("postgres")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// All that pgbench has done, in one line.
const DONE: &str = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT count(*) FROM pgbench_history), \
                    (SELECT md5(string_agg(h::text, ',' ORDER BY mtime, tid, bid, aid, delta)) FROM pgbench_history h)";

/// Archives all that was written so far.
async fn archived(scene: &Scene) {
    let segment = scene.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())");
    until("the segment is archived", async || {
        let last = scene
            .cluster
            .sql("SELECT last_archived_wal FROM pg_stat_archiver");
        (last >= segment).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_under_load_comes_back_from_a_snapshot_to_an_instant() {
    if !has_loop_devices() {
        return;
    }
    let directory = tempfile::Builder::new().prefix("disks.").tempdir_in("/tmp");
    let directory = directory.expect("a directory");
    let image = directory.path().join("disk.img");
    let name = format!("bk{}", std::process::id());
    let Some((mut cluster, mut original)) = cluster_on_disk(&image, &name) else {
        return;
    };
    cluster.start();
    let mut scene = Scene::over(Kind::Google, cluster);
    scene.configure_disks("disks = [\"pgdata\"]", "");
    scene.cloud.state().disks[1].device.clone_from(&name);
    let data = scene.cluster.pgdata();
    let restored = witness(&scene, (&image, &data), directory.path());

    run(&mut pgbench(&scene, &["-i", "-q", "-s", "3"]));
    let load = pgbench(&scene, &["-c", "3", "-T", "600"]).spawn();
    let mut load = load.expect("pgbench starts");
    until("it has done something", async || {
        let done = scene
            .cluster
            .sql("SELECT count(*) > 50 FROM pgbench_history");
        (done == "t").then_some(())
    })
    .await;
    scene.run(&["backup", "srv"], 0);
    let during = scene.cluster.sql("SELECT count(*) FROM pgbench_history");
    until("it goes on", async || {
        let now = scene.cluster.sql("SELECT count(*) FROM pgbench_history");
        let count = |text: &str| text.parse::<u64>().expect("a number");
        (count(&now) > count(&during) + 50).then_some(())
    })
    .await;
    load.kill().expect("it is ours");
    load.wait().expect("it ends");
    until("its sessions end", async || {
        let others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'";
        (scene.cluster.sql(others) == "0").then_some(())
    })
    .await;
    let expected = scene.cluster.sql(DONE);
    let target = scene.cluster.sql("SELECT clock_timestamp()");
    run(&mut pgbench(&scene, &["-t", "50"]));
    assert_ne!(scene.cluster.sql(DONE), expected, "more was done since");
    archived(&scene).await;

    scene.cluster.stop(Stop::Immediate);
    original.unmount(&data);
    drop(original);
    let at = data.to_str().expect("text");
    let words = ["restore", "srv", "latest", at, "--instance", RECOVERY];
    let words = [&words[..], &["--mount", "--target-time", &target]].concat();
    let output = scene.own_command(&words).output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let mut disk = restored
        .lock()
        .expect("a disk")
        .pop()
        .expect("a disk was attached");
    disk.mounted = Some(data.clone());
    scene.cluster.start();
    until("it has recovered", async || {
        (scene.cluster.sql("SELECT pg_is_in_recovery()") == "f").then_some(())
    })
    .await;
    assert_eq!(scene.cluster.sql(DONE), expected);
    // Whoever restores again would ruin a server that runs.
    let output = scene.own_command(&words).output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("a server runs in"), "{told}");
    scene.cluster.stop(Stop::Immediate);
    disk.unmount(&data);
}

/// Copies the image when a snapshot is taken, while the file system stands still; gives the copy a device when a disk made of it is attached.
fn witness(
    scene: &Scene,
    (image, point): (&Path, &Path),
    directory: &Path,
) -> Arc<Mutex<Vec<Disk>>> {
    let disks: Arc<Mutex<Vec<Disk>>> = Arc::default();
    let (image, point, directory) = (image.to_owned(), point.to_owned(), directory.to_owned());
    let made = disks.clone();
    scene.cloud.state().witness = Some(Box::new(move |event| match event {
        Event::Taken { snapshot } => {
            let copy = directory.join(snapshot);
            run(Command::new("fsfreeze").arg("--freeze").arg(&point));
            let copied = Command::new("cp")
                .arg("--sparse=always")
                .arg(&image)
                .arg(&copy)
                .status();
            run(Command::new("fsfreeze").arg("--unfreeze").arg(&point));
            assert!(copied.expect("cp starts").success(), "the image is copied");
        }
        Event::Attached { device, snapshot } => {
            let disk = Disk::attach(&directory.join(snapshot), device);
            made.lock().expect("a list").push(disk);
        }
    }));
    disks
}
