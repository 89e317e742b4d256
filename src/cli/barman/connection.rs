//! From the options of a command line to a catalog.
//!
//! URLs follow Barman's grammar for each provider, which is never guessed from the URL. Opening contacts nobody; [`Connection::test`] does.

use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

use super::{
    arguments::{CloudProvider, Connection, Upload},
    error::Error,
};
use crate::{
    failure::chain,
    model::{
        desired::{
            AzureOptions, Checksums, Destination, GcsOptions, ObjectLock, ProviderOptions,
            S3Encryption, S3Options,
        },
        location::Location,
        names::{DestinationName, ServerName},
    },
    store::{self, Archive, Meaning, SharedStore},
};

impl Connection {
    /// Opens the catalog that the command line names; none if it was only asked whether the store answers.
    pub(super) async fn reach(&self, upload: &Upload) -> Result<Option<Archive>, Error> {
        let archive = self.open(upload).await?;
        if !self.test {
            return Ok(Some(archive));
        }
        test(archive.store(), self.bucket()?).await?;
        Ok(None)
    }

    /// The catalog where Barman looks for keeps if the URL ends with a slash: below a component that is empty.
    pub(super) fn other_spelling(&self, archive: &Archive) -> Option<Archive> {
        self.ends_with_slash()
            .then(|| archive.spelled(&format!("/{}", archive.server())))
    }

    fn ends_with_slash(&self) -> bool {
        let below = match self.named() {
            Ok(Location::S3 { prefix, .. } | Location::Azure { prefix, .. }) => !prefix.is_empty(),
            // On Google Cloud Barman strips it.
            Ok(Location::Gcs { .. } | Location::Directory { .. }) | Err(_) => false,
        };
        below && self.url.ends_with('/')
    }

    /// Opens the catalog that the command line names.
    pub(super) async fn open(&self, upload: &Upload) -> Result<Archive, Error> {
        let server = self.server_name()?;
        let destination = Destination {
            name: self.destination(),
            location: self.location()?,
            provider: match self.provider {
                CloudProvider::AzureBlobStorage => ProviderOptions::Azure(self.azure(upload)),
                CloudProvider::GoogleCloudStorage => ProviderOptions::Gcs(GcsOptions {
                    kms_key: upload.kms_key_name.clone(),
                    tags: upload.tags.iter().cloned().collect(),
                    ..GcsOptions::default()
                }),
                CloudProvider::AwsS3 => ProviderOptions::S3(self.s3(upload)?),
            },
            max_bandwidth: None,
            max_parallel: NonZeroUsize::MIN,
            single_writer: false,
            object_lock: ObjectLock::Ignore,
            control: None,
        };
        let store = store::open(&destination).await?;
        Ok(Archive::new(store, &server))
    }

    /// The path below the bucket with its trailing slash, or nothing.
    pub(super) fn path(&self) -> String {
        match self.location() {
            Ok(
                Location::S3 { prefix, .. }
                | Location::Gcs { prefix, .. }
                | Location::Azure { prefix, .. },
            ) if !prefix.is_empty() => format!("{prefix}/"),
            _ => String::new(),
        }
    }

    /// What the place is called in messages: its provider.
    pub(super) fn destination(&self) -> DestinationName {
        let name = match self.provider {
            CloudProvider::AwsS3 => "aws-s3",
            CloudProvider::AzureBlobStorage => "azure-blob-storage",
            CloudProvider::GoogleCloudStorage => "google-cloud-storage",
        };
        DestinationName::parse(name).expect("letters, digits and dashes are a name")
    }

    /// The server's name: its last component, where it is a path.
    pub(super) fn server_name(&self) -> Result<ServerName, Error> {
        let (_, name) = self.server.rsplit_once('/').unwrap_or(("", &self.server));
        let name = ServerName::verbatim(name);
        name.map_err(|error| Error::general(&error))
    }

    /// The place that the URL names, and what of the server's name is a path.
    pub(super) fn location(&self) -> Result<Location, Error> {
        let location = self.named()?;
        let Some((path, _)) = self.server.rsplit_once('/') else {
            return Ok(location);
        };
        let clear = |component: &str| !matches!(component, "" | "." | "..");
        // Its keeps would lie in yet another place.
        if path.split('/').all(clear) && !self.ends_with_slash() {
            return Ok(location.below(path));
        }
        let name = &self.server;
        Err(Error::General(format!(
            "`{name}` cannot be the name of a server"
        )))
    }

    /// The place that the URL names.
    fn named(&self) -> Result<Location, Error> {
        let url = self.url.as_str();
        let invalid = |what: &str| Error::General(format!("Invalid {what} URL address: {url}"));
        let location = url.parse::<Location>();
        // To Barman that is another place, which has no name here.
        if url.ends_with("//") && self.provider != CloudProvider::GoogleCloudStorage {
            return Err(invalid("cloud"));
        }
        match (self.provider, location) {
            (CloudProvider::AwsS3, Ok(location @ Location::S3 { .. }))
            | (CloudProvider::AzureBlobStorage, Ok(location @ Location::Azure { .. }))
            | (CloudProvider::GoogleCloudStorage, Ok(location @ Location::Gcs { .. })) => {
                Ok(location)
            }
            (CloudProvider::AwsS3, _) => Err(invalid("s3")),
            (CloudProvider::AzureBlobStorage, _) => Err(invalid("azure")),
            (CloudProvider::GoogleCloudStorage, _) => Err(invalid("google cloud storage")),
        }
    }

    /// What the provider calls the place that holds the objects.
    fn bucket(&self) -> Result<String, Error> {
        Ok(match self.location()? {
            Location::S3 { bucket, .. } | Location::Gcs { bucket, .. } => bucket,
            Location::Azure { container, .. } => container,
            Location::Directory { path } => path.display().to_string(),
        })
    }

    fn azure(&self, upload: &Upload) -> AzureOptions {
        let concurrency = upload
            .max_concurrency
            .and_then(|count| usize::try_from(count).ok());
        AzureOptions {
            credential: self.azure_credential(),
            connection_string: None,
            encryption_scope: upload.encryption_scope.clone(),
            read_timeout: None,
            max_single_put_bytes: upload.max_single_put_size,
            max_block_bytes: upload.max_block_size,
            max_concurrency: concurrency.and_then(NonZeroUsize::new),
            tags: upload.tags.iter().cloned().collect(),
            history_tags: BTreeMap::new(),
        }
    }

    fn s3(&self, upload: &Upload) -> Result<S3Options, Error> {
        let read_timeout = match self.read_timeout {
            None => None,
            Some(seconds) => {
                let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
                let why = "the read timeout must be a positive number of seconds";
                let seconds = seconds.ok_or_else(|| Error::General(why.to_owned()))?;
                Some(Duration::from_secs(seconds))
            }
        };
        Ok(S3Options {
            endpoint_url: self.endpoint_url.clone(),
            region: None,
            profile: self.profile.clone(),
            addressing_style: self.addressing_style,
            read_timeout,
            checksums: Checksums::WhenSupported,
            role: None,
            encryption: upload.s3_encryption()?,
            tags: upload.tags.iter().cloned().collect(),
            history_tags: BTreeMap::new(),
        })
    }
}

impl Upload {
    fn s3_encryption(&self) -> Result<Option<S3Encryption>, Error> {
        let key = self.sse_kms_key_id.clone();
        match self.encryption.as_deref() {
            Some("aws:kms") => Ok(Some(S3Encryption::Kms { key })),
            _ if key.is_some() => Err(Error::General(
                "Encryption type must be 'aws:kms' if SSE KMS Key ID is specified".to_owned(),
            )),
            Some(_) => Ok(Some(S3Encryption::Aes256)),
            None => Ok(None),
        }
    }
}

/// Whether the store answers, and the bucket is there.
async fn test(store: &SharedStore, bucket: String) -> Result<(), Error> {
    let Err(error) = store.check_reachable().await else {
        return Ok(());
    };
    match error.meaning {
        Meaning::BucketMissing => Err(Error::Operation(format!("Bucket {bucket} does not exist"))),
        Meaning::Unreachable => Err(unreachable(&error)),
        _ => Err(error.into()),
    }
}

/// What is told of a store that does not answer.
pub(super) fn unreachable(error: &store::Error) -> Error {
    Error::Network(format!("Can't connect to cloud provider: {}", chain(error)))
}
