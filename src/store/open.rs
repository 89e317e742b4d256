//! From a destination as it is configured to a store.
//!
//! The one place that knows every backend. Opening contacts nobody; what a build leaves out, or what is not there yet, is refused
//! by name.

use std::sync::Arc;

use super::{Error, Meaning, Operation, Result, SharedStore, directory::Directory};
use crate::{
    clock::Clock,
    model::{
        desired::{AzureOptions, Destination, GcsOptions, ProviderOptions, S3Options},
        location::Location,
    },
};

/// Opens a destination of the configuration.
pub async fn open(destination: &Destination) -> Result<SharedStore> {
    match &destination.provider {
        ProviderOptions::S3(options) => open_location(&destination.location, options).await,
        ProviderOptions::Gcs(options) => gcs(&destination.location, options),
        ProviderOptions::Azure(options) => azure(&destination.location, options),
        ProviderOptions::Directory => {
            open_location(&destination.location, &S3Options::default()).await
        }
    }
}

/// Opens a URL; `options` hold for S3 only.
pub async fn open_location(location: &Location, options: &S3Options) -> Result<SharedStore> {
    match location {
        Location::Directory { path } => Ok(Arc::new(Directory::new(path, Clock::System))),
        Location::S3 { bucket, prefix } => s3(location, bucket, prefix, options).await,
        Location::Gcs { .. } => gcs(location, &GcsOptions::default()),
        Location::Azure { .. } => azure(location, &AzureOptions::default()),
    }
}

#[cfg(feature = "aws")]
async fn s3(
    _location: &Location,
    bucket: &str,
    prefix: &str,
    options: &S3Options,
) -> Result<SharedStore> {
    Ok(Arc::new(super::s3::S3::open(bucket, prefix, options).await))
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "it is one function with the other")]
async fn s3(
    location: &Location,
    _bucket: &str,
    _prefix: &str,
    _options: &S3Options,
) -> Result<SharedStore> {
    Err(unsupported(location, "this build has no S3"))
}

#[cfg(feature = "gcp")]
fn gcs(location: &Location, options: &GcsOptions) -> Result<SharedStore> {
    let Location::Gcs { bucket, prefix } = location else {
        return Err(unsupported(location, "this is no bucket of Google's"));
    };
    Ok(Arc::new(super::gcs::Gcs::open(bucket, prefix, options)?))
}

#[cfg(not(feature = "gcp"))]
fn gcs(location: &Location, _options: &GcsOptions) -> Result<SharedStore> {
    Err(unsupported(
        location,
        "this build has no Google Cloud Storage",
    ))
}

#[cfg(feature = "azure")]
fn azure(location: &Location, options: &AzureOptions) -> Result<SharedStore> {
    let Location::Azure {
        account_url,
        container,
        prefix,
    } = location
    else {
        return Err(unsupported(location, "this is no container of Azure"));
    };
    let store = super::azure::Azure::open(account_url, container, prefix, options)?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "azure"))]
fn azure(location: &Location, _options: &AzureOptions) -> Result<SharedStore> {
    Err(unsupported(location, "this build has no Azure"))
}

fn unsupported(location: &Location, why: &str) -> Error {
    let error = Error::new(Meaning::Unsupported, Operation::Open, location.to_string());
    error.because(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn opened(url: &str) -> Result<String, Meaning> {
        let location: Location = url.parse().expect("a location");
        let store = open_location(&location, &S3Options::default()).await;
        store
            .map(|store| store.location().to_owned())
            .map_err(|error| error.meaning)
    }

    #[tokio::test]
    async fn a_url_opens_what_it_names_or_says_that_it_cannot() {
        let directory = "file:///srv/backup";
        assert_eq!(opened(directory).await.as_deref(), Ok(directory));
    }

    #[cfg(feature = "gcp")]
    #[tokio::test]
    async fn opening_a_bucket_of_googles_contacts_nobody() {
        let url = "gs://no-such-bucket-anywhere/p";
        assert_eq!(opened(url).await.as_deref(), Ok(url));
    }

    #[cfg(feature = "azure")]
    #[tokio::test]
    async fn opening_a_container_contacts_nobody() {
        let url = "https://nosuchaccountanywhere.blob.core.windows.net/c/p";
        assert_eq!(opened(url).await.as_deref(), Ok(url));
    }

    #[cfg(feature = "aws")]
    #[tokio::test]
    async fn opening_a_bucket_contacts_nobody() {
        let url = "s3://no-such-bucket-anywhere/p";
        assert_eq!(opened(url).await.as_deref(), Ok(url));
    }
}
