//! What a store is asked, and what it answers: option structs, pages, bounds.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

use super::{Checksum, Error, Key, ObjectMeta, ObjectVersion};
use crate::model::time::Timestamp;

/// When an object may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PutMode {
    /// Whether it exists or not.
    #[default]
    Overwrite,
    /// Only if it does not exist.
    Create,
    /// Only if it exists and is still this version.
    Replace(ObjectVersion),
}

/// Which tags an object gets, where the store has tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tags {
    /// Those that the destination is configured with.
    #[default]
    Configured,
    /// Exactly these, maybe none.
    Exactly(BTreeMap<String, String>),
}

/// How to write an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// When it may be written.
    pub mode: PutMode,
    /// Its tags.
    pub tags: Tags,
}

impl PutOptions {
    /// The configured tags, and this mode.
    pub fn mode(mode: PutMode) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }
}

/// An object that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The version that was made.
    pub version: ObjectVersion,
    /// The checksum that the store has verified and kept, if any.
    pub checksum: Option<Checksum>,
    /// When the store answered, by its own clock.
    pub date: Timestamp,
}

/// Which bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetRange {
    /// From the first offset up to, not including, the second, or to the object's end if that comes first.
    Bounded(Range<u64>),
    /// From an offset to the end.
    From(u64),
}

impl GetRange {
    /// The offsets in an object of this size, or `None` if the range begins at or beyond its end.
    pub fn resolve(&self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Bounded(range) => range.start..range.end.min(size),
            Self::From(start) => *start..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// How to read an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// Which bytes; all if unset. A range that begins beyond the object's end is [`Meaning::Precondition`](super::Meaning).
    pub range: Option<GetRange>,
    /// Read only this version; [`Meaning::Precondition`](super::Meaning) if it is another one by now.
    pub version: Option<ObjectVersion>,
}

impl GetOptions {
    /// All of these bytes, of whatever version there is.
    pub fn range(range: GetRange) -> Self {
        Self {
            range: Some(range),
            version: None,
        }
    }

    /// The offsets in an object of this size, or `None` if they begin beyond its end.
    pub fn resolve(&self, size: u64) -> Option<Range<u64>> {
        match &self.range {
            None => Some(0..size),
            Some(range) => range.resolve(size),
        }
    }
}

/// An object and when the store told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The object.
    pub meta: ObjectMeta,
    /// When the store answered, by its own clock.
    pub date: Timestamp,
}

/// Where a listing goes on; only the store that made it can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub String);

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys that begin with this text, which need not end at a slash; empty means all.
    pub prefix: String,
    /// Keys that go on beyond this character after the prefix are shown once, as the text up to and including it.
    pub delimiter: Option<char>,
    /// Only keys greater than this text. Not to be used with a delimiter: stores disagree about what that means.
    pub start_after: Option<String>,
    /// At most so many objects and prefixes together; the store's own page size if that is smaller.
    pub limit: Option<usize>,
    /// Where to go on, from an earlier page of the same request.
    pub token: Option<PageToken>,
}

impl ListRequest {
    /// Everything below a prefix.
    pub fn below(prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..Self::default()
        }
    }

    /// The same, up to the next slash.
    pub fn children(prefix: impl Into<String>) -> Self {
        Self {
            delimiter: Some('/'),
            ..Self::below(prefix)
        }
    }
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// The objects, in the order of their keys' bytes.
    pub objects: Vec<ObjectMeta>,
    /// The texts that stand for the keys beyond the delimiter, in order, each on one page only.
    pub prefixes: Vec<String>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<PageToken>,
    /// When the store answered, by its own clock.
    pub date: Timestamp,
}

/// What became of one deletion.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object.
    pub key: Key,
    /// Whether it is gone.
    pub outcome: Result<(), Error>,
}

impl Deleted {
    /// What became of an object: one that was not there is gone.
    pub fn of(key: &Key, outcome: Result<(), Error>) -> Self {
        let outcome = match outcome {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome,
        };
        Self {
            key: key.clone(),
            outcome,
        }
    }
}

/// How to send an object in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadOptions {
    /// The length of every part but the last, in bytes.
    pub part_bytes: u64,
    /// When the object may come to be, decided when it is completed.
    pub mode: PutMode,
    /// Its tags.
    pub tags: Tags,
}

/// An upload's name in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadId(pub String);

/// A part that the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u32,
    /// Its length in bytes.
    pub size: u64,
    /// Its name in the store.
    pub tag: String,
    /// The checksum that the store has verified, if any.
    pub checksum: Option<Checksum>,
}

/// An upload that was begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingUpload {
    /// The object that it would make.
    pub key: Key,
    /// Its name in the store.
    pub id: UploadId,
    /// When it was begun, by the store's clock; where the store knows better, when it was last sent to.
    pub started: Timestamp,
}

/// The bounds of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The shortest part, other than the last, in bytes.
    pub part_bytes_min: u64,
    /// The longest part, in bytes.
    pub part_bytes_max: u64,
    /// How many parts an object may have.
    pub parts_max: u32,
    /// The longest object that one [`put`](super::Store::put) may write, in bytes.
    pub put_bytes_max: u64,
    /// The longest object, in bytes.
    pub object_bytes_max: u64,
    /// How many objects one request deletes.
    pub delete_batch_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_where_the_object_ends() {
        let cases = [
            (GetRange::Bounded(2..5), Some(2..5)),
            (GetRange::Bounded(2..50), Some(2..10)),
            (GetRange::Bounded(10..50), None),
            (GetRange::From(9), Some(9..10)),
            (GetRange::From(10), None),
        ];
        for (range, expected) in cases {
            assert_eq!(range.resolve(10), expected, "{range:?}");
        }
    }
}
