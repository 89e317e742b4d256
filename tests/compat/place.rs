//! Where both keep their catalogs: a server of a cloud's protocol, with a bucket for each.

use std::sync::Arc;

use barkeep::{
    model::desired::S3Options,
    secret::Secret,
    store::{
        ObjectMeta, SharedStore,
        s3::{AccessKeys, S3},
    },
};

#[cfg(feature = "azure")]
use crate::support::azurite::{Azurite, account_url, connection_string};
use crate::{state::Lock, support::s3::Server};

/// Whom the servers know.
const KEYS: (&str, &str) = ("testkey", "testsecret1");

/// A server.
pub(crate) enum Place {
    /// One that speaks S3, with locks and versions.
    S3(Server),
    /// One that speaks Azure Blob.
    #[cfg(feature = "azure")]
    Azure(Azurite),
}

impl Place {
    /// Makes a bucket, on S3 with these headers.
    #[cfg_attr(
        not(feature = "azure"),
        expect(clippy::unused_async, reason = "moto is asked without waiting")
    )]
    pub(crate) async fn create(&self, bucket: &str, headers: &str) {
        match self {
            Self::S3(server) => drop(server.send("PUT", &format!("/{bucket}"), headers, "")),
            #[cfg(feature = "azure")]
            Self::Azure(_) => {
                let created = self.store(bucket).await.create_destination().await;
                created.expect("a container");
            }
        }
    }

    /// Removes an empty bucket.
    pub(crate) fn remove(&self, bucket: &str) {
        match self {
            Self::S3(server) => drop(server.send("DELETE", &format!("/{bucket}"), "", "")),
            #[cfg(feature = "azure")]
            Self::Azure(_) => panic!("nothing creates one there"),
        }
    }

    /// Locks an object.
    pub(crate) fn lock(&self, bucket: &str, key: &str, lock: &Lock) {
        match self {
            Self::S3(server) => {
                let path = format!("/{bucket}/{key}?{}", lock.path);
                server.send("PUT", &path, "", &lock.body);
            }
            #[cfg(feature = "azure")]
            Self::Azure(_) => panic!("Barman knows no locks there"),
        }
    }

    /// A whole bucket.
    pub(crate) async fn store(&self, bucket: &str) -> SharedStore {
        match self {
            Self::S3(server) => {
                let options = S3Options {
                    endpoint_url: Some(server.url()),
                    region: Some("us-east-1".to_owned()),
                    ..S3Options::default()
                };
                let keys = AccessKeys {
                    id: KEYS.0.to_owned(),
                    secret: Secret::new(KEYS.1.to_owned()),
                };
                Arc::new(S3::with_keys(bucket, "", &options, Some(keys)).await)
            }
            #[cfg(feature = "azure")]
            Self::Azure(server) => Arc::new(server.store(bucket, "")),
        }
    }

    /// The URL of a path in a bucket.
    pub(crate) fn url(&self, bucket: &str, prefix: &str) -> String {
        let url = match self {
            Self::S3(_) => format!("s3://{bucket}/{prefix}"),
            #[cfg(feature = "azure")]
            Self::Azure(server) => format!("{}/{bucket}/{prefix}", account_url(&server.url())),
        };
        url.trim_end_matches('/').to_owned()
    }

    /// What a command line needs beside the URL.
    pub(crate) fn options(&self) -> &'static [&'static str] {
        match self {
            Self::S3(_) => &[],
            #[cfg(feature = "azure")]
            Self::Azure(_) => &["--cloud-provider=azure-blob-storage"],
        }
    }

    /// What a command finds in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::S3(server) => vec![
                ("AWS_ACCESS_KEY_ID", KEYS.0.to_owned()),
                ("AWS_SECRET_ACCESS_KEY", KEYS.1.to_owned()),
                ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
                ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
                ("AWS_ENDPOINT_URL", server.url()),
            ],
            #[cfg(feature = "azure")]
            Self::Azure(server) => vec![(
                "AZURE_STORAGE_CONNECTION_STRING",
                connection_string(&server.url()),
            )],
        }
    }

    /// Whether a command line of a table means anything here: those of S3's own are about S3.
    pub(crate) fn takes(&self, line: &str) -> bool {
        let foreign = ["s3://", "AWS_", "http:", "{missing}", "--cloud-provider"];
        let general = line.contains("{url}") && !foreign.iter().any(|word| line.contains(word));
        general || matches!(self, Self::S3(_))
    }

    /// Which of the differences that a line tells are there: `objects@s3` is one only on S3.
    pub(crate) fn expected(&self, told: &[String]) -> Vec<String> {
        let here = |word: &String| match (word.split_once('@'), self) {
            (None, _) => Some(word.clone()),
            (Some((word, "s3")), Self::S3(_)) => Some(word.to_owned()),
            (Some(_), _) => None,
        };
        told.iter().filter_map(here).collect()
    }

    /// By what a listed object is told from another under its key.
    pub(crate) fn tag(&self, meta: &ObjectMeta) -> String {
        match self {
            Self::S3(_) => meta.version.0.clone(),
            // Its versions are of the writing, not of the content.
            #[cfg(feature = "azure")]
            Self::Azure(_) => meta.size.to_string(),
        }
    }

    /// The same of a text.
    pub(crate) fn tag_of(&self, text: &str) -> String {
        match self {
            Self::S3(_) => md5(text),
            #[cfg(feature = "azure")]
            Self::Azure(_) => text.len().to_string(),
        }
    }
}

/// What moto answers for a text.
fn md5(text: &str) -> String {
    use std::fmt::Write as _;

    use md5::{Digest as _, Md5};
    let mut tag = String::from("\"");
    for byte in Md5::digest(text.as_bytes()) {
        write!(tag, "{byte:02x}").expect("a string grows");
    }
    tag.push('"');
    tag
}
