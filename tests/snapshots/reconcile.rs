//! `method = "snapshot"` under a configuration, with a directory for the catalog: taken, listed, kept, deleted, and killed on the way.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use barkeep::format::backup_info::BackupInfo;

use crate::{
    fake::{Cloud, Fault, GROUP, INSTANCE, Kind, PROJECT, REGION, SUBSCRIPTION, ZONE},
    support::{bed::bed, cluster::Cluster, wait::until},
};

const BARKEEP: &str = env!("CARGO_BIN_EXE_barkeep");

/// A cloud, a server whose disks it has, and a directory with the configuration and the catalog.
struct Scene {
    cloud: Cloud,
    cluster: Cluster,
    directory: tempfile::TempDir,
}

impl Scene {
    fn start(kind: Kind) -> Option<Self> {
        let mut cluster = Cluster::create(17)?;
        let directory = tempfile::Builder::new().prefix("snap.").tempdir_in("/tmp");
        let scene = Self {
            cloud: Cloud::start(kind),
            directory: directory.expect("a directory in /tmp"),
            cluster: {
                let command = "true";
                cluster.configure(&[("archive_command", command)]);
                cluster.start();
                cluster
            },
        };
        std::fs::create_dir(scene.path("store")).expect("mkdir");
        let login = serde_json::json!({
            "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
            "token_uri": format!("{}/token", scene.cloud.url()),
        });
        std::fs::write(scene.path("login.json"), login.to_string()).expect("written");
        scene.configure();
        bed().give(scene.directory.path());
        let config = scene.path("barkeep.toml");
        let archive = format!("{BARKEEP} --config {} wal-archive srv %p", config.display());
        scene.cluster.sql(&format!(
            "ALTER SYSTEM SET archive_command = '{archive}'; SELECT pg_reload_conf()"
        ));
        Some(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration: one server, its two disks, one backup to be retained.
    fn configure(&self) {
        let place = match self.cloud.kind {
            Kind::Aws => format!("provider = \"aws\", region = \"{REGION}\""),
            Kind::Azure => format!(
                "provider = \"azure\", subscription = \"{SUBSCRIPTION}\", resource_group = \"{GROUP}\""
            ),
            Kind::Google => {
                format!("provider = \"gcp\", project = \"{PROJECT}\", zone = \"{ZONE}\"")
            }
        };
        let pgdata = self.cluster.pgdata();
        let pgdata = pgdata.parent().expect("a parent").display();
        let text = format!(
            "version = 1\n[destinations.d]\nurl = \"file://{}\"\n\
             [servers.srv]\ndestination = \"d\"\nconnection = \"host={} port={} user=postgres\"\n\
             method = \"snapshot\"\nimmediate_checkpoint = true\nwal = {{ spool = \"{}\" }}\n\
             snapshot = {{ {place}, instance = \"{INSTANCE}\", disks = [\"pgdata\", \"pgwal\"], tags = {{ team = \"db\" }}, \
             mounts = {{ pgdata = \"{pgdata} rw,noatime\", pgwal = \"/mnt/pgwal\" }} }}\n\
             retention = {{ redundancy = 1 }}\ndeletes = {{ grace = \"0s\" }}\n",
            self.path("store").display(),
            self.cluster.socket_directory().display(),
            self.cluster.port(),
            self.path("spool").display(),
        );
        std::fs::write(self.path("barkeep.toml"), text).expect("written");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bed().as_server(Path::new(BARKEEP));
        command
            .args(arguments)
            .env("HOME", self.directory.path())
            .env("BARKEEP_CONFIG", self.path("barkeep.toml"))
            .env("AWS_ACCESS_KEY_ID", "testkey")
            .env("AWS_SECRET_ACCESS_KEY", "testsecret1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("GOOGLE_APPLICATION_CREDENTIALS", self.path("login.json"))
            .envs(self.cloud.environment())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str], code: i32) -> Output {
        let output = self.command(arguments).output().expect("it starts");
        let told = String::from_utf8_lossy(&output.stderr);
        let kind = self.cloud.kind;
        assert_eq!(
            output.status.code(),
            Some(code),
            "{kind:?} {arguments:?}: {told}"
        );
        output
    }

    /// The records below `base/`, oldest first.
    fn records(&self) -> Vec<BackupInfo> {
        let base = std::fs::read_dir(self.path("store/srv/base"));
        let mut paths: Vec<PathBuf> = base
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        let texts = paths
            .iter()
            .filter_map(|path| std::fs::read(path.join("backup.info")).ok());
        texts
            .map(|text| BackupInfo::parse(&text).expect("a record"))
            .collect()
    }

    fn snapshots(&self) -> usize {
        self.cloud.state().snapshots.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_snapshots_lives_and_goes_under_its_policy() {
    for kind in Kind::ALL {
        let Some(scene) = Scene::start(kind) else {
            return;
        };
        let checked = scene.run(&["check", "srv"], 0);
        let told = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(
            told.contains("pgdata, pgwal of pg-1 hold all files"),
            "{kind:?}: {told}"
        );
        for _ in 0..2 {
            scene.run(&["backup", "srv"], 0);
        }
        let records = scene.records();
        let states: Vec<_> = records
            .iter()
            .filter_map(|info| info.get("status"))
            .collect();
        assert_eq!(
            (states, scene.snapshots()),
            (vec!["DONE"; 2], 4),
            "{kind:?}"
        );
        let tags: Vec<String> = {
            let state = scene.cloud.state();
            let first = state.snapshots.values().next().expect("one");
            first.tags.keys().cloned().collect()
        };
        for tag in [
            "barkeep-server",
            "barkeep-catalog",
            "barkeep-backup",
            "team",
        ] {
            assert!(tags.iter().any(|key| key == tag), "{kind:?}: {tags:?}");
        }
        scene.run(&["keep", "srv", "oldest", "--target", "full"], 0);
        scene.run(&["delete", "srv", "oldest"], 4);
        assert_eq!(scene.snapshots(), 4, "{kind:?}");
        scene.run(&["keep", "srv", "oldest", "--release"], 0);
        let planned = scene.run(&["plan", "srv"], 0);
        let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
        scene.run(&["reconcile", "--once"], 0);
        assert_eq!(
            (scene.records().len(), scene.snapshots()),
            (1, 2),
            "{kind:?}: {planned}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_a_backup_leaves_no_snapshot_after_the_next_run() {
    for kind in Kind::ALL {
        let Some(scene) = Scene::start(kind) else {
            return;
        };
        // How many snapshots have begun when it is killed.
        for begun in 0..=2 {
            scene.cloud.state().pace = (1_000_000, 1);
            scene.cloud.asked();
            if begun == 1 {
                // The second is refused again and again, so that there is time.
                let slow = Fault::Refused(503, "RequestLimitExceeded");
                let faults = [Fault::None].into_iter().chain(vec![slow; 5]);
                scene.cloud.state().faults.extend(faults);
            }
            let mut command = scene.command(&["backup", "srv"]);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut child = child.expect("it starts");
            until("the snapshots begin", async || {
                let asked = scene
                    .cloud
                    .state()
                    .asked
                    .iter()
                    .any(|words| words == "instance");
                (asked && scene.snapshots() >= begun).then_some(())
            })
            .await;
            child.kill().expect("it is ours");
            child.wait().expect("it ends");
            scene.cloud.state().faults.clear();
            scene.cloud.state().pace = (1, 1);
            scene.run(&["reconcile", "--once"], 0);
            let unfinished = scene.records().into_iter();
            let unfinished = unfinished.filter(|info| info.get("status") == Some("STARTED"));
            assert_eq!(
                (unfinished.count(), scene.snapshots()),
                (0, 0),
                "{kind:?} {begun}"
            );
        }
    }
}
