//! Where a destination is: a URL, parsed once.
//!
//! The grammar is Barman's (`s3://`, `gs://`, Azure's `https://`) with `file:///` beside it. A path loses its leading and
//! trailing slashes here, so that one place is never spelled in two ways.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::Serialize;

/// A place that holds objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub enum Location {
    /// `s3://bucket/prefix`
    S3 {
        /// The bucket.
        bucket: String,
        /// The path below it; may be empty.
        prefix: String,
    },
    /// `gs://bucket/prefix`
    Gcs {
        /// The bucket.
        bucket: String,
        /// The path below it; may be empty.
        prefix: String,
    },
    /// `https://account.blob.core.windows.net/container/prefix`, or an emulator's URL.
    Azure {
        /// Scheme, host and, for an emulator, the account.
        account_url: String,
        /// The container.
        container: String,
        /// The path below it; may be empty.
        prefix: String,
    },
    /// `file:///path`
    Directory {
        /// The directory, absolute.
        path: PathBuf,
    },
}

/// Why a text is no location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has no scheme, or one that is not known.
    #[error("`{0}` is no destination; write s3://, gs://, https:// (Azure) or file:///")]
    Scheme(String),
    /// The bucket, container or directory is missing.
    #[error("`{url}` names no {what}")]
    Missing {
        /// The text.
        url: String,
        /// What is missing.
        what: &'static str,
    },
    /// A component that could mean two places.
    #[error("`{0}` contains an empty, `.` or `..` component")]
    Component(String),
}

impl FromStr for Location {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| Error::Scheme(text.to_owned()))?;
        match scheme {
            "s3" => {
                let (bucket, prefix) = bucket_and_prefix(text, rest)?;
                Ok(Self::S3 { bucket, prefix })
            }
            "gs" => {
                let (bucket, prefix) = bucket_and_prefix(text, rest)?;
                Ok(Self::Gcs { bucket, prefix })
            }
            "file" => directory(text, rest),
            "https" | "http" => azure(text, scheme, rest),
            _ => Err(Error::Scheme(text.to_owned())),
        }
    }
}

fn bucket_and_prefix(url: &str, rest: &str) -> Result<(String, String), Error> {
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(missing(url, "bucket"));
    }
    Ok((bucket.to_owned(), prefix(url, path)?))
}

fn directory(url: &str, rest: &str) -> Result<Location, Error> {
    if !rest.starts_with('/') {
        return Err(missing(url, "absolute path"));
    }
    let path = prefix(url, rest)?;
    if path.is_empty() {
        return Err(missing(url, "directory"));
    }
    Ok(Location::Directory {
        path: PathBuf::from(format!("/{path}")),
    })
}

fn azure(url: &str, scheme: &str, rest: &str) -> Result<Location, Error> {
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if let Some(path) = host.starts_with("console.cloud.google.com").then_some(path) {
        let path = path.strip_prefix("storage/browser/");
        let (bucket, prefix) = bucket_and_prefix(url, path.ok_or_else(|| missing(url, "bucket"))?)?;
        return Ok(Location::Gcs { bucket, prefix });
    }
    // An emulator, like any host that is not Azure's own, has the account as the first component.
    let (account_url, path) = if host.ends_with("blob.core.windows.net") {
        (format!("{scheme}://{host}"), path)
    } else {
        let (account, path) = path
            .split_once('/')
            .ok_or_else(|| missing(url, "container"))?;
        (format!("{scheme}://{host}/{account}"), path)
    };
    let (container, path) = path.split_once('/').unwrap_or((path, ""));
    if container.is_empty() {
        return Err(missing(url, "container"));
    }
    Ok(Location::Azure {
        account_url,
        container: container.to_owned(),
        prefix: prefix(url, path)?,
    })
}

fn missing(url: &str, what: &'static str) -> Error {
    Error::Missing {
        url: url.to_owned(),
        what,
    }
}

fn prefix(url: &str, path: &str) -> Result<String, Error> {
    let path = path.trim_matches('/');
    let clear = |component: &str| !matches!(component, "" | "." | "..");
    if !path.is_empty() && !path.split('/').all(clear) {
        return Err(Error::Component(url.to_owned()));
    }
    Ok(path.to_owned())
}

impl Location {
    /// The place below this one.
    #[must_use]
    pub fn below(mut self, path: &str) -> Self {
        match &mut self {
            Self::S3 { prefix, .. } | Self::Gcs { prefix, .. } | Self::Azure { prefix, .. } => {
                let below = format!("{prefix}/{path}");
                below.trim_matches('/').clone_into(prefix);
            }
            Self::Directory { path: directory } => directory.push(path),
        }
        self
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, prefix) = match self {
            Self::S3 { bucket, prefix } => (format!("s3://{bucket}"), prefix.as_str()),
            Self::Gcs { bucket, prefix } => (format!("gs://{bucket}"), prefix.as_str()),
            Self::Azure {
                account_url,
                container,
                prefix,
            } => (format!("{account_url}/{container}"), prefix.as_str()),
            Self::Directory { path } => (format!("file://{}", path.display()), ""),
        };
        match prefix {
            "" => formatter.pad(&place),
            prefix => formatter.pad(&format!("{place}/{prefix}")),
        }
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        location.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_spelling() {
        let cases = [
            ("s3://b", "s3://b"),
            ("s3://b/a/c/", "s3://b/a/c"),
            ("gs://b/a", "gs://b/a"),
            (
                "https://console.cloud.google.com/storage/browser/b/a/",
                "gs://b/a",
            ),
            (
                "https://acc.blob.core.windows.net/c/p/",
                "https://acc.blob.core.windows.net/c/p",
            ),
            (
                "http://127.0.0.1:10000/acc/c",
                "http://127.0.0.1:10000/acc/c",
            ),
            ("file:///srv/backup/", "file:///srv/backup"),
        ];
        for (text, spelled) in cases {
            let location = text
                .parse::<Location>()
                .map(|location| location.to_string());
            assert_eq!(location.as_deref(), Ok(spelled));
            let location: Location = spelled.parse().expect("a place");
            let json = serde_json::to_string(&location).expect("JSON");
            assert_eq!(json, format!("\"{spelled}\""));
        }
    }

    #[test]
    fn a_place_has_places_below_it() {
        for (text, below) in [
            ("s3://b", "s3://b/x/y"),
            ("gs://b/a", "gs://b/a/x/y"),
            ("file:///a", "file:///a/x/y"),
        ] {
            let location = text
                .parse::<Location>()
                .map(|location| location.below("x/y").to_string());
            assert_eq!(location.as_deref(), Ok(below));
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for text in [
            "b/c",
            "s3://",
            "s3:///x",
            "file://x",
            "file:///",
            "ftp://b",
            "s3://b/../c",
            "https://acc.blob.core.windows.net/",
            "https://127.0.0.1/acc/",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }
}
