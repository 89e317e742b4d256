//! A cloud, a catalog in the store of the same cloud for each program, a server, and both programs on the same command line.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use barkeep::{
    format::{backup_info::BackupInfo, keys::BaseObject, keys::ObjectKey},
    model::{
        desired::{GcsOptions, S3Options},
        names::ServerName,
    },
    secret::Secret,
    store::{
        Archive, SharedStore, StoreExt as _,
        gcs::{Environment, Gcs},
        s3::{AccessKeys, S3},
    },
};
use futures_util::TryStreamExt as _;

use crate::{
    fake::{Cloud, GROUP, INSTANCE, Kind, PROJECT, REGION, SUBSCRIPTION, TOKEN, ZONE},
    support::{
        azurite::{Azurite, account_url, connection_string},
        bed::{bed, run},
        cluster::Cluster,
        gcs, s3,
    },
};

const KEYS: (&str, &str) = ("testkey", "testsecret1");

/// What `findmnt` says here, whatever the kernel does: Barman asks nothing else, and ours where the kernel knows nothing.
const FINDMNT: &str = "#!/bin/sh
for device; do :; done
case $device in
*/sdf | */lun10 | */by-lun/10 | */google-device-1) echo '/mnt/pgdata rw,noatime' ;;
*/sdg | */lun11 | */by-lun/11 | */google-device-2) echo '/mnt/pgwal rw,relatime' ;;
*) exit 1 ;;
esac
";

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Theirs,
    Ours,
}

impl Whose {
    pub(crate) const BOTH: [Self; 2] = [Self::Theirs, Self::Ours];

    pub(crate) fn bucket(self) -> &'static str {
        match self {
            Self::Theirs => "theirs",
            Self::Ours => "ours",
        }
    }
}

enum Catalogs {
    S3(s3::Server),
    Azure(Azurite),
    Google(gcs::Gcs),
}

/// All of it.
pub(crate) struct Place {
    pub(crate) cloud: Cloud,
    catalogs: Catalogs,
    cluster: Cluster,
    programs: PathBuf,
    home: tempfile::TempDir,
    /// Where EC2 is, if not at the stand-in.
    ec2: Option<String>,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stderr: String,
}

/// A backup as it is recorded.
pub(crate) struct Stored {
    pub(crate) id: String,
    pub(crate) info: BackupInfo,
    /// The names of what lies beside the record.
    pub(crate) objects: Vec<String>,
}

impl Place {
    /// `None` after saying what is missing.
    pub(crate) async fn start(kind: Kind) -> Option<Self> {
        let mut cluster = Cluster::create(17)?;
        let place = Self {
            programs: bed().get("BARMAN_BIN")?,
            cloud: Cloud::start(kind),
            catalogs: match kind {
                Kind::Aws => Catalogs::S3(s3::Server::moto()?),
                Kind::Azure => Catalogs::Azure(Azurite::start()?),
                Kind::Google => Catalogs::Google(gcs::Gcs::start()),
            },
            home: tempfile::tempdir().expect("a directory"),
            ec2: None,
            cluster: {
                cluster.start();
                cluster
            },
        };
        for whose in Whose::BOTH {
            match &place.catalogs {
                Catalogs::Google(service) => {
                    service.create_bucket(whose.bucket(), gcs::Rules::default());
                }
                _ => place
                    .store(whose)
                    .await
                    .create_destination()
                    .await
                    .expect("a bucket"),
            }
        }
        place.write("bin/findmnt", FINDMNT);
        let login = serde_json::json!({
            "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
            "token_uri": format!("{}/token", place.cloud.url()),
        });
        place.write("login.json", &login.to_string());
        Some(place)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    }

    /// From now on, EC2 is moto, with an instance like that of the stand-in.
    pub(crate) fn go_to_moto(&mut self) {
        let Catalogs::S3(server) = &self.catalogs else {
            panic!("moto is AWS only");
        };
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/python/instance.py");
        let mut command = Command::new(self.programs.join("python"));
        command.arg(script).arg(server.url());
        command
            .env("AWS_ACCESS_KEY_ID", KEYS.0)
            .env("AWS_SECRET_ACCESS_KEY", KEYS.1);
        run(&mut command);
        self.ec2 = Some(server.url());
    }

    /// A directory of its own.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    async fn store(&self, whose: Whose) -> SharedStore {
        match &self.catalogs {
            Catalogs::S3(server) => {
                let options = S3Options {
                    endpoint_url: Some(server.url()),
                    region: Some(REGION.to_owned()),
                    ..S3Options::default()
                };
                let keys = AccessKeys {
                    id: KEYS.0.to_owned(),
                    secret: Secret::new(KEYS.1.to_owned()),
                };
                Arc::new(S3::with_keys(whose.bucket(), "", &options, Some(keys)).await)
            }
            Catalogs::Azure(server) => Arc::new(server.store(whose.bucket(), "")),
            Catalogs::Google(service) => {
                let around = Environment {
                    emulator: Some(service.url()),
                    ..Environment::default()
                };
                let store = Gcs::open_in(&around, whose.bucket(), "", &GcsOptions::default());
                Arc::new(store.expect("a store"))
            }
        }
    }

    /// What one has stored, oldest first.
    pub(crate) async fn stored(&self, whose: Whose) -> Vec<Stored> {
        let server = ServerName::parse("srv").expect("a name");
        let archive = Archive::new(self.store(whose).await, &server);
        let store = archive.store();
        let listed: Vec<_> = store
            .list_all("srv/base/")
            .try_collect()
            .await
            .expect("a list");
        let mut stored: Vec<Stored> = Vec::new();
        for object in &listed {
            let Some(ObjectKey::Base(id, BaseObject::Info)) = archive.parse(&object.key) else {
                continue;
            };
            let text = store.get_bytes(&object.key).await.expect("an object");
            let beside = listed.iter().filter_map(|other| {
                let name = other
                    .key
                    .as_str()
                    .strip_prefix(&format!("srv/base/{id}/"))?;
                (name != "backup.info").then(|| name.to_owned())
            });
            stored.push(Stored {
                id: id.to_string(),
                info: BackupInfo::parse(&text).expect("a record"),
                objects: beside.collect(),
            });
        }
        stored
    }

    /// The words of a command line for a catalog: `URL SERVER`, the provider in front.
    fn catalog(&self, whose: Whose) -> Vec<String> {
        let bucket = whose.bucket();
        let (provider, url) = match &self.catalogs {
            Catalogs::S3(_) => ("aws-s3", format!("s3://{bucket}")),
            Catalogs::Azure(server) => (
                "azure-blob-storage",
                format!("{}/{bucket}", account_url(&server.url())),
            ),
            Catalogs::Google(_) => ("google-cloud-storage", format!("gs://{bucket}")),
        };
        let mut words = vec![format!("--cloud-provider={provider}")];
        if let Catalogs::S3(server) = &self.catalogs {
            words.push(format!("--endpoint-url={}", server.url()));
        }
        words.extend([url, "srv".to_owned()]);
        words
    }

    /// How a backup of the two disks is asked for.
    pub(crate) fn disks(&self) -> Vec<String> {
        let mut words = vec![format!("--snapshot-instance={INSTANCE}")];
        words.extend(["pgdata", "pgwal"].map(|disk| format!("--snapshot-disk={disk}")));
        words.extend(self.project());
        words
    }

    /// Where the instance is.
    pub(crate) fn project(&self) -> Vec<String> {
        match self.cloud.kind {
            Kind::Aws => vec![format!("--aws-region={REGION}")],
            Kind::Azure => vec![
                format!("--azure-subscription-id={SUBSCRIPTION}"),
                format!("--azure-resource-group={GROUP}"),
            ],
            Kind::Google => {
                vec![
                    format!("--gcp-project={PROJECT}"),
                    format!("--gcp-zone={ZONE}"),
                ]
            }
        }
    }

    /// Takes a backup.
    pub(crate) fn back_up(&self, whose: Whose, words: &[String]) -> Ran {
        let server = [
            format!("--host={}", self.cluster.socket_directory().display()),
            format!("--port={}", self.cluster.port()),
            "--user=postgres".to_owned(),
            "--immediate-checkpoint".to_owned(),
        ];
        let words = [&server[..], words].concat();
        self.run(whose, "barman-cloud-backup", (&words, whose), &[])
    }

    /// Runs a command on somebody's catalog; the options come first, the arguments last.
    pub(crate) fn run(
        &self,
        whose: Whose,
        program: &str,
        (options, catalog): (&[String], Whose),
        arguments: &[&str],
    ) -> Ran {
        let mut command = match whose {
            Whose::Theirs => Command::new(self.programs.join(program)),
            Whose::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_barkeep"));
                command.arg(program);
                command
            }
        };
        let stand_ins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/python");
        command
            .args(options)
            .args(self.catalog(catalog))
            .args(arguments)
            .env_clear()
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", self.home.path().join("bin").display()),
            )
            .env("PYTHONPATH", stand_ins)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HOME", self.home.path())
            .env("TZ", "UTC")
            .envs(self.cloud.environment())
            .envs(self.ec2.iter().map(|url| ("AWS_ENDPOINT_URL_EC2", url)));
        match &self.catalogs {
            Catalogs::S3(_) => command
                .env("AWS_ACCESS_KEY_ID", KEYS.0)
                .env("AWS_SECRET_ACCESS_KEY", KEYS.1)
                .env("AWS_DEFAULT_REGION", REGION)
                .env("AWS_EC2_METADATA_DISABLED", "true"),
            Catalogs::Azure(server) => command.env(
                "AZURE_STORAGE_CONNECTION_STRING",
                connection_string(&server.url()),
            ),
            Catalogs::Google(service) => command
                .env("STORAGE_EMULATOR_HOST", service.url())
                .env("GOOGLE_CLOUD_PROJECT", PROJECT)
                .env(
                    "GOOGLE_APPLICATION_CREDENTIALS",
                    self.home.path().join("login.json"),
                ),
        };
        let output = command.output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains(TOKEN), "a secret is told: {stderr}");
        Ran {
            code: output.status.code().expect("it was not killed"),
            stderr,
        }
    }
}
