//! Where both keep their backups: a server of each cloud's protocol, with Barman's commands.

use std::{path::PathBuf, process::Command, sync::Arc};

use barkeep::store::{Archive, SharedStore};
use serde_json::Value;

#[cfg(feature = "azure")]
use crate::support::azurite::{Azurite, account_url, connection_string};
#[cfg(feature = "gcp")]
use crate::support::gcs::Gcs;
use crate::support::{
    backup::{SERVER, catalog},
    bed::{bed, run},
    s3::Server,
};

const BUCKET: &str = "backups";
const PREFIX: &str = "some/where";
const KEYS: (&str, &str) = ("testkey", "testsecret1");

/// A server, and Barman's commands.
pub(crate) struct Place {
    programs: PathBuf,
    server: Kind,
}

enum Kind {
    #[cfg_attr(not(feature = "aws"), expect(dead_code, reason = "nothing opens it"))]
    S3(Server),
    #[cfg(feature = "azure")]
    Azure(Azurite),
    #[cfg(feature = "gcp")]
    Gcs(Gcs),
    #[cfg(feature = "gcp")]
    GcsEmulator(Server),
}

impl Place {
    /// An S3 server that checks signatures and checksums.
    #[cfg(feature = "aws")]
    pub(crate) async fn s3() -> Option<Self> {
        Self::with(Kind::S3(Server::s3s()?)).await
    }

    /// A server that speaks Azure Blob.
    #[cfg(feature = "azure")]
    pub(crate) async fn azure() -> Option<Self> {
        Self::with(Kind::Azure(Azurite::start()?)).await
    }

    /// The tests' own Google Cloud Storage.
    #[cfg(feature = "gcp")]
    pub(crate) async fn gcs() -> Option<Self> {
        Self::with(Kind::Gcs(Gcs::start())).await
    }

    /// An emulator of it.
    #[cfg(feature = "gcp")]
    pub(crate) async fn gcs_emulator() -> Option<Self> {
        Self::with(Kind::GcsEmulator(Server::gcs_emulator()?)).await
    }

    async fn with(server: Kind) -> Option<Self> {
        let place = Self {
            programs: bed().get("BARMAN_BIN")?,
            server,
        };
        let store = place.store().await;
        store.create_destination().await.expect("a bucket");
        Some(place)
    }

    async fn store(&self) -> SharedStore {
        match &self.server {
            Kind::S3(server) => s3(server).await,
            #[cfg(feature = "azure")]
            Kind::Azure(server) => Arc::new(server.store(BUCKET, PREFIX)),
            #[cfg(feature = "gcp")]
            Kind::Gcs(server) => gcs(&server.url()),
            #[cfg(feature = "gcp")]
            Kind::GcsEmulator(server) => gcs(&server.url()),
        }
    }

    /// The catalog, as barkeep sees it.
    pub(crate) async fn catalog(&self) -> Archive {
        catalog(self.store().await)
    }

    /// Runs a command of Barman's on the catalog; options come first, as its own users put them.
    pub(crate) fn barman(&self, command: &str, options: &[&str], more: &[&str]) -> String {
        run(&mut self.command(command, options, more))
    }

    /// A command of Barman's on the catalog, not yet run.
    pub(crate) fn command(&self, command: &str, options: &[&str], more: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(command));
        let url = match &self.server {
            Kind::S3(server) => {
                command
                    .args(["--endpoint-url", &server.url()])
                    .env("AWS_ACCESS_KEY_ID", KEYS.0)
                    .env("AWS_SECRET_ACCESS_KEY", KEYS.1)
                    .env("AWS_DEFAULT_REGION", "us-east-1")
                    .env("AWS_EC2_METADATA_DISABLED", "true");
                format!("s3://{BUCKET}/{PREFIX}")
            }
            #[cfg(feature = "azure")]
            Kind::Azure(server) => {
                let string = connection_string(&server.url());
                command
                    .args(["--cloud-provider", "azure-blob-storage"])
                    .env("AZURE_STORAGE_CONNECTION_STRING", string);
                format!("{}/{BUCKET}/{PREFIX}", account_url(&server.url()))
            }
            #[cfg(feature = "gcp")]
            Kind::Gcs(server) => at_google(&mut command, &server.url()),
            #[cfg(feature = "gcp")]
            Kind::GcsEmulator(server) => at_google(&mut command, &server.url()),
        };
        command.args(options).args([&url, SERVER]).args(more);
        command
    }

    /// The backups that Barman lists.
    pub(crate) fn listed(&self) -> Vec<Value> {
        let list = self.barman("barman-cloud-backup-list", &["--format", "json"], &[]);
        let list: Value = serde_json::from_str(&list).expect("JSON");
        list["backups_list"].as_array().expect("a list").clone()
    }
}

#[cfg(feature = "aws")]
async fn s3(server: &Server) -> SharedStore {
    use barkeep::{
        model::desired::S3Options,
        secret::Secret,
        store::s3::{AccessKeys, S3},
    };
    let options = S3Options {
        endpoint_url: Some(server.url()),
        region: Some("us-east-1".to_owned()),
        ..S3Options::default()
    };
    let keys = AccessKeys {
        id: KEYS.0.to_owned(),
        secret: Secret::new(KEYS.1.to_owned()),
    };
    Arc::new(S3::with_keys(BUCKET, PREFIX, &options, Some(keys)).await)
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "it is one function with the other")]
async fn s3(_server: &Server) -> SharedStore {
    unreachable!("nothing opens it")
}

#[cfg(feature = "gcp")]
fn gcs(url: &str) -> SharedStore {
    use barkeep::{
        model::desired::GcsOptions,
        store::gcs::{Environment, Gcs},
    };
    let around = Environment {
        emulator: Some(url.to_owned()),
        ..Environment::default()
    };
    let options = GcsOptions::default();
    Arc::new(Gcs::open_in(&around, BUCKET, PREFIX, &options).expect("a store"))
}

/// Sends a command of Barman's to a service of Google's; its URL of the catalog.
#[cfg(feature = "gcp")]
fn at_google(command: &mut Command, url: &str) -> String {
    command
        .args(["--cloud-provider", "google-cloud-storage"])
        .env("STORAGE_EMULATOR_HOST", url)
        .env("GOOGLE_CLOUD_PROJECT", "emulated");
    format!("gs://{BUCKET}/{PREFIX}")
}
