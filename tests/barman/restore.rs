//! Each restores what the other wrote, over S3, and the restored cluster starts.

use std::{path::Path, process::Command, sync::Arc};

use barkeep::{
    execute::base_backup::TakenState,
    model::{
        backup::{BackupId, BackupStatus},
        compression::Compression,
        desired::{Method, S3Options},
        recovery::RecoveryTarget,
    },
    secret::Secret,
    store::{
        Archive, Store as _,
        s3::{AccessKeys, S3},
    },
};
use serde_json::Value;

use crate::support::{
    backup::{
        DIGEST, EVERY, SERVER, archives, catalog, fill, fill_tablespace, read, request,
        start_restored, take_of,
    },
    bed::{bed, run},
    cluster::Cluster,
    s3::Server,
};

const BUCKET: &str = "backups";
const PREFIX: &str = "some/where";
const KEYS: (&str, &str) = ("testkey", "testsecret1");

/// An S3 server that checks signatures and checksums, with Barman's commands.
struct S3Bed {
    server: Server,
    programs: std::path::PathBuf,
}

impl S3Bed {
    async fn start() -> Option<Self> {
        let bed = Self {
            programs: bed().get("BARMAN_BIN")?,
            server: Server::s3s()?,
        };
        let store = bed.store().await;
        store.create_destination().await.expect("a bucket");
        Some(bed)
    }

    async fn store(&self) -> S3 {
        let options = S3Options {
            endpoint_url: Some(self.server.url()),
            region: Some("us-east-1".to_owned()),
            ..S3Options::default()
        };
        let keys = AccessKeys {
            id: KEYS.0.to_owned(),
            secret: Secret::new(KEYS.1.to_owned()),
        };
        S3::with_keys(BUCKET, PREFIX, &options, Some(keys)).await
    }

    async fn catalog(&self) -> Archive {
        catalog(Arc::new(self.store().await))
    }

    /// Runs a command of Barman's on the catalog; options come first, as its own users put them.
    fn barman(&self, command: &str, options: &[&str], more: &[&str]) -> String {
        let url = format!("s3://{BUCKET}/{PREFIX}");
        run(Command::new(self.programs.join(command))
            .args(["--endpoint-url", &self.server.url()])
            .args(options)
            .args([&url, SERVER])
            .args(more)
            .env("AWS_ACCESS_KEY_ID", KEYS.0)
            .env("AWS_SECRET_ACCESS_KEY", KEYS.1)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true"))
    }

    fn listed(&self) -> Vec<Value> {
        let list = self.barman("barman-cloud-backup-list", &["--format", "json"], &[]);
        let list: Value = serde_json::from_str(&list).expect("JSON");
        list["backups_list"].as_array().expect("a list").clone()
    }
}

/// A cluster with a tablespace and a few megabytes.
fn cluster(major: u32) -> Option<Cluster> {
    let mut cluster = Cluster::create(major)?;
    cluster.start();
    fill_tablespace(&cluster);
    fill(&cluster);
    Some(cluster)
}

macro_rules! on_majors {
    ($($name:ident: $major:literal),* $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn barman_restores_what_barkeep_wrote() {
                super::barman_restores_what_barkeep_wrote($major).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn barkeep_restores_what_barman_wrote() {
                super::barkeep_restores_what_barman_wrote($major).await;
            }
        }
    )*};
}

on_majors! { v15: 15, v17: 17, v18: 18 }

async fn barman_restores_what_barkeep_wrote(major: u32) {
    let (Some(bed), Some(cluster)) = (S3Bed::start().await, cluster(major)) else {
        return;
    };
    for compression in EVERY {
        barman_restores(&bed, &cluster, Method::Files, compression).await;
    }
    for compression in [Compression::None, Compression::Lz4] {
        barman_restores(&bed, &cluster, Method::Stream, compression).await;
    }
}

async fn barman_restores(bed: &S3Bed, cluster: &Cluster, method: Method, compression: Compression) {
    let catalog = bed.catalog().await;
    let mut request = request(compression);
    request.method = method;
    request.files.max_archive_bytes = 12 << 20;
    // S3 takes no smaller parts.
    request.files.part_bytes = 5 << 20;
    let name = format!("{method}-with-{compression}");
    request.name = Some(name.clone());
    let newest = bed.listed().pop();
    let newest = newest.and_then(|backup| Some(BackupId::new(backup["backup_id"].as_str()?)));
    request.above = newest;
    let taken = take_of(cluster, None, &catalog, &request).await;
    let taken = taken.expect("a backup");
    assert_eq!(taken.state, TakenState::Done);
    let names = archives(&catalog, &taken.backup).await;
    let is_split = names.iter().any(|name| name.starts_with("data_0001"));
    assert!(is_split || compression != Compression::None, "{names:?}");
    let listed = bed.listed().pop().expect("a backup");
    assert_eq!(listed["backup_id"], taken.backup.as_str());
    assert_eq!(listed["status"], "DONE");
    let show = ["--format", "json"];
    let shown = bed.barman("barman-cloud-backup-show", &show, &[&name]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["cloud"]["status"], "DONE");
    let copy = restored_by_barman(bed, cluster, &name);
    assert_eq!(copy.sql(DIGEST), cluster.sql(DIGEST), "{name}");
    assert_eq!(copy.sql("SELECT sum(id) FROM in_space"), "500500");
}

/// As a user of Barman restores: files, then the settings by hand.
fn restored_by_barman(bed: &S3Bed, from: &Cluster, backup: &str) -> Cluster {
    let mut copy = Cluster::empty(from.major()).expect("this version is here");
    let home = copy.archive().parent().expect("a parent").to_owned();
    let rule = format!("space:{}", home.join("space").display());
    let directory = copy.pgdata();
    let directory = directory.to_str().expect("a path");
    let more = [backup, directory];
    bed.barman("barman-cloud-restore", &["--tablespace", &rule], &more);
    std::fs::write(copy.pgdata().join("recovery.signal"), "").expect("written");
    copy.configure(&[
        (
            "restore_command",
            &format!("cp {}/%f %p", from.archive().display()),
        ),
        ("archive_mode", "off"),
        ("recovery_target", "immediate"),
        ("recovery_target_action", "promote"),
    ]);
    give(&home);
    copy.start();
    copy
}

fn give(home: &Path) {
    bed().give(home);
    // Barman makes the directories that a backup does not name by the mask of whoever runs it.
    run(Command::new("chmod").arg("700").arg(home.join("data")));
}

async fn barkeep_restores_what_barman_wrote(major: u32) {
    let (Some(bed), Some(cluster)) = (S3Bed::start().await, cluster(major)) else {
        return;
    };
    let catalog = bed.catalog().await;
    let socket = cluster.socket_directory().to_str().expect("a path");
    let port = cluster.port().to_string();
    for option in ["", "--gzip", "--bzip2", "--snappy", "--lz4"] {
        let mut options = vec!["-h", socket, "-p", &port, "-U", "postgres"];
        // Small enough for every codec to make it several archives.
        options.extend(["--immediate-checkpoint", "-S", "1MB"]);
        options.extend(Some(option).filter(|option| !option.is_empty()));
        bed.barman("barman-cloud-backup", &options, &[]);
        let listed = bed.listed().pop().expect("a backup");
        let id = BackupId::new(listed["backup_id"].as_str().expect("an id"));
        let backup = read(&catalog, &id).await;
        assert_eq!(backup.status, BackupStatus::Done);
        assert!(backup.archives.len() > 2, "{option}: {:?}", backup.archives);
        let latest = RecoveryTarget::Immediate;
        let (copy, _) = start_restored(&cluster, &catalog, &id, latest).await;
        assert_eq!(copy.sql(DIGEST), cluster.sql(DIGEST), "{option}");
        assert_eq!(copy.sql("SELECT sum(id) FROM in_space"), "500500");
    }
}
