//! A server that speaks a cloud's protocol, and how each program finds its way to a bucket there.

#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
use std::sync::Arc;

#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
use barkeep::store::SharedStore;

#[cfg(feature = "azure")]
use super::azurite::{self, Azurite};
use super::{
    gcs::{Gcs, Rules},
    s3::Server,
};

/// Whom the servers that speak S3 know.
const KEYS: (&str, &str) = ("testkey", "testsecret1");

/// A server, stopped when dropped.
pub(crate) enum Cloud {
    /// S3 with locks and versions, which checks nothing.
    Moto(Server),
    /// S3 that checks signatures and checksums.
    S3s(Server),
    /// Azure Blob.
    #[cfg(feature = "azure")]
    Azure(Azurite),
    /// The tests' own Google Cloud Storage.
    Gcs(Gcs),
    /// Somebody else's, which knows less.
    GcsEmulator(Server),
}

impl Cloud {
    /// One of each that keeps all the rules, for tests that are the same everywhere.
    #[cfg(all(feature = "aws", feature = "azure", feature = "gcp"))]
    pub(crate) const EACH: [fn() -> Option<Self>; 3] = [Self::moto, Self::azurite, Self::gcs];

    /// `None` after saying that it is missing.
    pub(crate) fn moto() -> Option<Self> {
        Server::moto().map(Self::Moto)
    }

    pub(crate) fn s3s() -> Option<Self> {
        Server::s3s().map(Self::S3s)
    }

    #[cfg(feature = "azure")]
    pub(crate) fn azurite() -> Option<Self> {
        Azurite::start().map(Self::Azure)
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is one of several")]
    pub(crate) fn gcs() -> Option<Self> {
        Some(Self::Gcs(Gcs::start()))
    }

    pub(crate) fn gcs_emulator() -> Option<Self> {
        Server::gcs_emulator().map(Self::GcsEmulator)
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        match self {
            Self::Moto(server) | Self::S3s(server) | Self::GcsEmulator(server) => server.url(),
            #[cfg(feature = "azure")]
            Self::Azure(server) => server.url(),
            Self::Gcs(server) => server.url(),
        }
    }

    /// Makes a bucket without any rules.
    pub(crate) fn create_bucket(&self, bucket: &str) {
        match self {
            Self::Moto(server) => drop(server.send("PUT", &format!("/{bucket}"), "", "")),
            Self::S3s(server) => {
                std::fs::create_dir(server.data().join(bucket)).expect("a directory");
            }
            #[cfg(feature = "azure")]
            Self::Azure(server) => server.create_container(bucket),
            Self::Gcs(server) => server.create_bucket(bucket, Rules::default()),
            Self::GcsEmulator(server) => {
                let described = format!("{{\"name\": \"{bucket}\"}}");
                let json = "content-type: application/json\r\n";
                server.send("POST", "/storage/v1/b?project=emulated", json, &described);
            }
        }
    }

    /// The URL of a path in a bucket.
    pub(crate) fn url(&self, bucket: &str, prefix: &str) -> String {
        let below = format!("{bucket}/{prefix}");
        let below = below.trim_end_matches('/');
        match self {
            Self::Moto(_) | Self::S3s(_) => format!("s3://{below}"),
            #[cfg(feature = "azure")]
            Self::Azure(server) => format!("{}/{below}", server.account_url()),
            Self::Gcs(_) | Self::GcsEmulator(_) => format!("gs://{below}"),
        }
    }

    /// What Barman's command lines need beside the URL.
    pub(crate) fn options(&self) -> &'static [&'static str] {
        match self {
            Self::Moto(_) | Self::S3s(_) => &[],
            #[cfg(feature = "azure")]
            Self::Azure(_) => &["--cloud-provider=azure-blob-storage"],
            Self::Gcs(_) | Self::GcsEmulator(_) => &["--cloud-provider=google-cloud-storage"],
        }
    }

    /// What a program finds in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Moto(server) | Self::S3s(server) => vec![
                ("AWS_ACCESS_KEY_ID", KEYS.0.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", KEYS.1.to_owned()),
                ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
                ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
                ("AWS_ENDPOINT_URL", server.url()),
            ],
            #[cfg(feature = "azure")]
            Self::Azure(server) => vec![(
                "AZURE_STORAGE_CONNECTION_STRING",
                azurite::connection_string(&server.url()),
            )],
            Self::Gcs(_) | Self::GcsEmulator(_) => vec![
                ("STORAGE_EMULATOR_HOST", self.endpoint()),
                ("GOOGLE_CLOUD_PROJECT", "emulated".to_owned()),
            ],
        }
    }

    /// What is below a path in a bucket, as barkeep sees it.
    #[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
    #[cfg_attr(
        not(feature = "aws"),
        expect(clippy::unused_async, reason = "S3 is opened so")
    )]
    pub(crate) async fn store(&self, bucket: &str, prefix: &str) -> SharedStore {
        match self {
            #[cfg(feature = "aws")]
            Self::Moto(server) | Self::S3s(server) => {
                Arc::new(s3(&server.url(), bucket, prefix).await)
            }
            #[cfg(feature = "azure")]
            Self::Azure(server) => Arc::new(server.store(bucket, prefix)),
            #[cfg(feature = "gcp")]
            Self::Gcs(_) | Self::GcsEmulator(_) => Arc::new(gcs(self.endpoint(), bucket, prefix)),
            #[cfg(not(all(feature = "aws", feature = "gcp")))]
            _ => panic!("barkeep was built without it"),
        }
    }
}

#[cfg(feature = "aws")]
async fn s3(url: &str, bucket: &str, prefix: &str) -> barkeep::store::s3::S3 {
    use barkeep::{
        model::desired::S3Options,
        secret::Secret,
        store::s3::{AccessKeys, S3},
    };
    let options = S3Options {
        endpoint_url: Some(url.to_owned()),
        region: Some("us-east-1".to_owned()),
        ..S3Options::default()
    };
    let keys = AccessKeys {
        id: KEYS.0.to_owned(),
        secret: Secret::new(KEYS.1.to_owned()),
    };
    S3::with_keys(bucket, prefix, &options, Some(keys)).await
}

#[cfg(feature = "gcp")]
fn gcs(url: String, bucket: &str, prefix: &str) -> barkeep::store::gcs::Gcs {
    use barkeep::{
        model::desired::GcsOptions,
        store::gcs::{Environment, Gcs},
    };
    let around = Environment {
        emulator: Some(url),
        ..Environment::default()
    };
    Gcs::open_in(&around, bucket, prefix, &GcsOptions::default()).expect("a store")
}
