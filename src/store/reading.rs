//! Reading an object to its end, also when the connection breaks on the way.
//!
//! What is read goes on where it broke off, with the same version or not at all. A whole object whose checksum the store keeps is
//! checked at its end.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use md5::{Digest, Md5};

use super::{
    Body, Checksum, ChecksumAlgorithm, Error, GetOptions, GetRange, Key, Meaning, ObjectMeta,
    ObjectVersion, Operation, Result,
};

/// How often reading begins again without having got a byte in between.
const RESUMES_MAX: u32 = 4;

/// The bytes of one answer, with what broke them off.
pub(super) type Chunks = BoxStream<'static, Result<Bytes, String>>;

/// Where reading goes on.
#[async_trait]
pub(super) trait Source: Send + Sync + 'static {
    /// The URL of the destination, for messages.
    fn location(&self) -> &str;

    /// Asks for the rest of an object, in the version that was begun with.
    async fn reopen(&self, key: &Key, options: &GetOptions) -> Result<Chunks>;
}

/// The bytes of a range, resumed where they break off, and checked if they are all.
pub(super) fn body(
    source: impl Source,
    meta: &ObjectMeta,
    range: Range<u64>,
    chunks: Chunks,
) -> Body {
    let reading = Reading {
        source,
        key: meta.key.clone(),
        version: meta.version.clone(),
        check: Check::new(meta, &range),
        rest: range,
        chunks,
        resumes: 0,
    };
    stream::try_unfold(reading, |mut reading| async move {
        let chunk = reading.next().await?;
        Ok(chunk.map(|chunk| (chunk, reading)))
    })
    .boxed()
}

struct Reading<S> {
    source: S,
    key: Key,
    version: ObjectVersion,
    rest: Range<u64>,
    chunks: Chunks,
    resumes: u32,
    check: Option<Check>,
}

impl<S: Source> Reading<S> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while !self.rest.is_empty() {
            match self.chunks.next().await {
                Some(Ok(chunk)) => {
                    self.rest.start += chunk.len() as u64;
                    self.resumes = 0;
                    if self.rest.start > self.rest.end {
                        return Err(self.error(Meaning::Checksum, "more bytes than it has"));
                    }
                    if let Some(check) = &mut self.check {
                        check.update(&chunk);
                    }
                    return Ok(Some(chunk));
                }
                Some(Err(why)) => self.resume(&why).await?,
                None => self.resume("the answer ended early").await?,
            }
        }
        if self.check.take().is_none_or(Check::holds) {
            return Ok(None);
        }
        Err(self.error(Meaning::Checksum, "what was read is not what was stored"))
    }

    async fn resume(&mut self, why: &str) -> Result<()> {
        if self.resumes == RESUMES_MAX {
            return Err(self.error(Meaning::Unreachable, why));
        }
        self.resumes += 1;
        let options = GetOptions {
            range: Some(GetRange::Bounded(self.rest.clone())),
            // Never the rest of another object.
            version: Some(self.version.clone()),
        };
        self.chunks = self.source.reopen(&self.key, &options).await?;
        Ok(())
    }

    fn error(&self, meaning: Meaning, why: &str) -> Error {
        Error::new(meaning, Operation::Get, self.source.location())
            .about(&self.key)
            .because(why)
    }
}

/// The checksum of a whole object that is being read.
struct Check {
    hash: Hash,
    expected: Checksum,
}

enum Hash {
    Crc32(crc32fast::Hasher),
    Crc32c(u32),
    Md5(Md5),
}

impl Check {
    /// Only of a whole object, and not where the checksum is one of parts' checksums.
    fn new(meta: &ObjectMeta, range: &Range<u64>) -> Option<Self> {
        let expected = meta.checksum.clone()?;
        if *range != (0..meta.size) || expected.value.contains('-') {
            return None;
        }
        let hash = match expected.algorithm {
            ChecksumAlgorithm::Crc32 => Hash::Crc32(crc32fast::Hasher::new()),
            ChecksumAlgorithm::Crc32c => Hash::Crc32c(0),
            ChecksumAlgorithm::Md5 => Hash::Md5(Md5::new()),
            _ => return None,
        };
        Some(Self { hash, expected })
    }

    fn update(&mut self, bytes: &[u8]) {
        match &mut self.hash {
            Hash::Crc32(hasher) => hasher.update(bytes),
            Hash::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
            Hash::Md5(hasher) => hasher.update(bytes),
        }
    }

    fn holds(self) -> bool {
        let read = match self.hash {
            Hash::Crc32(hasher) => Checksum::of_crc32(hasher.finalize()),
            Hash::Crc32c(crc) => Checksum::of_crc32c(crc),
            Hash::Md5(hasher) => Checksum::of_md5(&hasher.finalize()),
        };
        read.value == self.expected.value
    }
}
