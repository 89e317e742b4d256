//! A cloud, a server whose disks it has, and a directory with the configuration and the catalog.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use barkeep::format::backup_info::BackupInfo;

use crate::{
    fake::{Cloud, GROUP, INSTANCE, Kind, PROJECT, REGION, SUBSCRIPTION, Snapshot, ZONE},
    support::{
        bed::{bed, run},
        cluster::Cluster,
        wait::until,
    },
};

const BARKEEP: &str = env!("CARGO_BIN_EXE_barkeep");

/// The cloud's snapshots as they were.
pub(crate) type Remembered = BTreeMap<String, Snapshot>;

/// All of it.
pub(crate) struct Scene {
    pub(crate) cloud: Cloud,
    pub(crate) cluster: Cluster,
    directory: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let mut cluster = Cluster::create(17)?;
        cluster.configure(&[("archive_command", "true")]);
        cluster.start();
        Some(Self::over(kind, cluster))
    }

    /// Around a server that runs.
    pub(crate) fn over(kind: Kind, cluster: Cluster) -> Self {
        let directory = tempfile::Builder::new().prefix("snap.").tempdir_in("/tmp");
        let scene = Self {
            cloud: Cloud::start(kind),
            directory: directory.expect("a directory in /tmp"),
            cluster,
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
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the configuration: one server, its two disks, one backup to be retained.
    fn configure(&self) {
        self.configure_with("deletes = { grace = \"0s\" }\n");
    }

    /// The same with more said of the server.
    pub(crate) fn configure_with(&self, more: &str) {
        let pgdata = self.cluster.pgdata();
        let pgdata = pgdata.parent().expect("a parent").display();
        let disks = format!(
            "disks = [\"pgdata\", \"pgwal\"], tags = {{ team = \"db\" }}, \
             mounts = {{ pgdata = \"{pgdata} rw,noatime\", pgwal = \"/mnt/pgwal\" }}"
        );
        self.configure_disks(&disks, more);
    }

    /// The same with the disks as they are said to be.
    pub(crate) fn configure_disks(&self, disks: &str, more: &str) {
        let place = match self.cloud.kind {
            Kind::Aws => format!("provider = \"aws\", region = \"{REGION}\""),
            Kind::Azure => format!(
                "provider = \"azure\", subscription = \"{SUBSCRIPTION}\", resource_group = \"{GROUP}\""
            ),
            Kind::Google => {
                format!("provider = \"gcp\", project = \"{PROJECT}\", zone = \"{ZONE}\"")
            }
        };
        let text = format!(
            "version = 1\n[destinations.d]\nurl = \"file://{}\"\n\
             [servers.srv]\ndestination = \"d\"\nconnection = \"host={} port={} user=postgres\"\n\
             method = \"snapshot\"\nimmediate_checkpoint = true\nwal = {{ spool = \"{}\" }}\n\
             snapshot = {{ {place}, instance = \"{INSTANCE}\", {disks} }}\n\
             retention = {{ redundancy = 1 }}\n{more}",
            self.path("store").display(),
            self.cluster.socket_directory().display(),
            self.cluster.port(),
            self.path("spool").display(),
        );
        std::fs::write(self.path("barkeep.toml"), text).expect("written");
    }

    /// The program, run by the servers' user.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.prepared(bed().as_server(Path::new(BARKEEP)), arguments)
    }

    /// The same, run by whoever runs the test.
    pub(crate) fn own_command(&self, arguments: &[&str]) -> Command {
        self.prepared(Command::new(BARKEEP), arguments)
    }

    fn prepared(&self, mut command: Command, arguments: &[&str]) -> Command {
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

    pub(crate) fn run(&self, arguments: &[&str], code: i32) -> Output {
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
    pub(crate) fn records(&self) -> Vec<BackupInfo> {
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

    pub(crate) fn snapshots(&self) -> usize {
        self.cloud.state().snapshots.len()
    }

    /// Runs a command until the cloud has carried out so many requests, and kills it before it hears of the last. Whether it came so far.
    pub(crate) async fn kill_after(&self, requests: u32, arguments: &[&str]) -> bool {
        self.cloud.state().answers = Some(requests);
        let mut command = self.command(arguments);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("it starts");
        let ended = until("the command ends, or waits for the cloud", async || {
            let ended = child.try_wait().expect("it is ours").is_some();
            (ended || self.cloud.state().is_silent).then_some(ended)
        })
        .await;
        if !ended {
            child.kill().expect("it is ours");
            child.wait().expect("it ends");
        }
        self.cloud.answer_again();
        !ended
    }

    /// The catalog and the cloud's snapshots as they are.
    pub(crate) fn remember(&self) -> Remembered {
        run(Command::new("cp")
            .arg("-a")
            .args([self.path("store"), self.path("then")]));
        self.cloud.state().snapshots.clone()
    }

    /// Has them as they were, with the WAL that has come since: the server goes on archiving.
    pub(crate) fn go_back(&self, remembered: &Remembered) {
        for directory in ["store/srv/base", "store/srv/barkeep"] {
            std::fs::remove_dir_all(self.path(directory)).expect("it was there");
        }
        let then = self.path("then").join(".");
        run(Command::new("cp")
            .arg("-a")
            .args([then, self.path("store")]));
        self.cloud.state().snapshots.clone_from(remembered);
    }

    /// The snapshots that no record names.
    pub(crate) fn unrecorded(&self) -> Vec<String> {
        let records = self.records();
        let sets = records
            .iter()
            .filter_map(|info| info.snapshots().expect("a record"));
        let ids: Vec<String> = sets
            .flat_map(|set| set.ids().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let state = self.cloud.state();
        let all = state.snapshots.keys();
        all.filter(|id| !ids.contains(id)).cloned().collect()
    }
}
