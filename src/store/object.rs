//! Objects: their keys, and what a store says about them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{lock::Lock, time::Timestamp};

/// The longest key that every store takes, in bytes.
const KEY_BYTES_MAX: usize = 1024;

/// The name of an object, relative to its destination.
///
/// What barkeep writes is normal: components joined by single slashes, none empty, `.` or `..`. What it finds is taken as it is,
/// through [`Key::verbatim`], so that nothing in a destination is invisible.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is nothing in it.
    #[error("an object key must not be empty")]
    Empty,
    /// A component means a place rather than a name.
    #[error("the object key `{0}` contains a `.` or `..` component")]
    Component(String),
    /// It is longer than stores allow.
    #[error("the object key `{0}` is longer than 1024 bytes")]
    Long(String),
    /// It contains a byte that no file name can hold.
    #[error("the object key `{0}` contains a control character")]
    Control(String),
}

impl Key {
    /// Takes a text as a key in its normal form: without leading, trailing and double slashes.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let components: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        let key = components.join("/");
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        if components.iter().any(|part| matches!(*part, "." | "..")) {
            return Err(KeyError::Component(key));
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(KeyError::Long(key));
        }
        if key.chars().any(char::is_control) {
            return Err(KeyError::Control(key));
        }
        Ok(Self(key))
    }

    /// Takes a key as a store spelled it, or as another program would. Nothing is checked.
    pub fn verbatim(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The key below this one.
    pub fn join(&self, rest: &str) -> Result<Self, KeyError> {
        Self::new(&format!("{}/{rest}", self.0))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether [`Key::new`] would leave it as it is.
    pub fn is_normal(&self) -> bool {
        Self::new(&self.0).as_ref() == Ok(self)
    }

    /// What follows the last slash.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// One state of one object, in the store's own words: an entity tag, a generation. Two reads with the same version read the same
/// object. Empty where a store does not tell it, which some do not in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectVersion(pub String);

impl ObjectVersion {
    /// An entity tag, which comes with quotes or without, from one store in one answer or another.
    pub fn from_entity_tag(tag: Option<&str>) -> Self {
        Self(tag.unwrap_or_default().trim_matches('"').to_owned())
    }

    /// The version as an entity tag, with quotes.
    pub fn entity_tag(&self) -> String {
        format!("\"{}\"", self.0.trim_matches('"'))
    }

    /// Whether the store has told it.
    pub fn is_told(&self) -> bool {
        !self.0.is_empty()
    }
}

impl fmt::Display for ObjectVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// How a checksum was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChecksumAlgorithm {
    /// CRC-32 as in gzip.
    Crc32,
    /// CRC-32 with Castagnoli's polynomial.
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// MD5.
    Md5,
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Crc32 => "CRC-32",
            Self::Crc32c => "CRC-32C",
            Self::Crc64Nvme => "CRC-64/NVME",
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        })
    }
}

/// A checksum as the store keeps it, to be compared and never computed with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Checksum {
    /// How it was computed.
    pub algorithm: ChecksumAlgorithm,
    /// Its big-endian bytes in Base64. That of an object sent in parts may be the checksum of its parts' checksums, followed by
    /// `-` and their number.
    pub value: String,
}

/// What a store says about an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeta {
    /// Its name.
    pub key: Key,
    /// Its length in bytes.
    pub size: u64,
    /// When its present version was written, by the store's clock.
    pub last_modified: Timestamp,
    /// Which version it is.
    pub version: ObjectVersion,
    /// Its checksum, if the store keeps one; never in a listing.
    pub checksum: Option<Checksum>,
    /// Whether it may be destroyed, where this very answer tells; a retention that has passed is told as free. `None` is "not told", which is not "free": ask
    /// [`locks`](super::Store::locks).
    pub lock: Option<Lock>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_spelling() {
        for (text, key) in [
            ("a/b", "a/b"),
            ("/a//b/", "a/b"),
            ("a b+%ü/..x", "a b+%ü/..x"),
        ] {
            assert_eq!(Key::new(text), Ok(Key::verbatim(key)));
        }
    }

    #[test]
    fn what_means_no_object_is_refused() {
        for text in ["", "/", "a/../b", "./a", "a\0b", &"x".repeat(1025)] {
            assert!(Key::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_version_is_the_same_with_quotes_and_without() {
        let [quoted, bare] = ["\"a\"", "a"].map(|tag| ObjectVersion::from_entity_tag(Some(tag)));
        assert_eq!(quoted, bare);
        assert_eq!(bare.entity_tag(), "\"a\"");
    }

    #[test]
    fn a_found_key_keeps_its_slashes_and_says_so() {
        assert!(!Key::verbatim("/srv/base").is_normal());
        assert!(Key::verbatim("srv/base").is_normal());
    }
}
