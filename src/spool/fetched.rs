//! Segments fetched ahead in a recovery, waiting for PostgreSQL to ask for them.
//!
//! A segment is taken out by being moved to where PostgreSQL wants it. Whoever takes one checks its header and its length first:
//! this is a directory like any other, and a cache may hold anything.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Error, Folder};
use crate::model::{compression::Compression, wal::SegmentName};

const COMPRESSION: &str = "compression";

/// The segments fetched ahead for one data directory.
#[derive(Clone, Debug)]
pub struct Fetched {
    folder: Folder,
}

impl Fetched {
    pub(super) fn new(folder: Folder) -> Self {
        Self { folder }
    }

    /// Where a segment lies if it was fetched.
    pub fn find(&self, segment: SegmentName) -> Result<Option<PathBuf>, Error> {
        let path = self.path(segment);
        let there = self.folder.exists()? && path.is_file();
        Ok(there.then_some(path))
    }

    /// Where a segment lies once it is fetched.
    pub fn path(&self, segment: SegmentName) -> PathBuf {
        self.folder.path.join(segment.to_string())
    }

    /// The directory, made if it was missing; what is written there and renamed to [`Fetched::path`] is fetched.
    pub fn directory(&self) -> Result<&Path, Error> {
        self.folder.create()?;
        Ok(&self.folder.path)
    }

    /// Removes a segment.
    pub fn remove(&self, segment: SegmentName) -> Result<(), Error> {
        self.folder.remove(&segment.to_string())
    }

    /// Removes all segments but these, and whatever a killed process left.
    pub fn retain(&self, segments: &BTreeSet<SegmentName>) -> Result<(), Error> {
        let kept = |name: &String| {
            let segment = name.parse::<SegmentName>();
            name == COMPRESSION || segment.is_ok_and(|segment| segments.contains(&segment))
        };
        for name in self.folder.names()?.iter().filter(|name| !kept(name)) {
            self.folder.remove(name)?;
        }
        Ok(())
    }

    /// How the last segment that was found in the archive was compressed.
    pub fn compression(&self) -> Result<Option<Compression>, Error> {
        let content = self.folder.read(COMPRESSION)?;
        Ok(content.and_then(|content| String::from_utf8(content).ok()?.parse().ok()))
    }

    /// Remembers how segments are compressed.
    pub fn set_compression(&self, compression: Compression) -> Result<(), Error> {
        if self.compression()? == Some(compression) {
            return Ok(());
        }
        self.folder
            .write(COMPRESSION, compression.word().as_bytes())
    }

    /// The first bytes of a fetched segment and its length.
    pub fn peek(&self, segment: SegmentName, count: usize) -> Result<(Vec<u8>, u64), Error> {
        use io::Read as _;
        let path = self.path(segment);
        let peek = || -> io::Result<(Vec<u8>, u64)> {
            let file = fs::File::open(&path)?;
            let length = file.metadata()?.len();
            let mut bytes = Vec::with_capacity(count);
            file.take(count as u64).read_to_end(&mut bytes)?;
            Ok((bytes, length))
        };
        peek().map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Spool;

    fn segment(text: &str) -> SegmentName {
        text.parse().expect("a name")
    }

    #[test]
    fn a_segment_is_found_by_the_recovery_that_fetched_it_only() -> Result<(), Error> {
        let root = tempfile::tempdir().expect("a directory");
        let spool = Spool::new(root.path());
        let one = segment("000000010000000000000001");
        let fetched = spool.fetched(&["s3://a"], "x", Path::new("/data/a"));
        fs::write(fetched.directory()?.join(one.to_string()), "content").expect("our directory");
        assert_eq!(fetched.find(one)?, Some(fetched.path(one)));
        assert_eq!(fetched.peek(one, 3)?, (b"con".to_vec(), 7));
        let elsewhere = [
            spool.fetched(&["s3://a"], "x", Path::new("/data/b")),
            spool.fetched(&["s3://b"], "x", Path::new("/data/a")),
            spool.fetched(&["s3://a", "s3://b"], "x", Path::new("/data/a")),
        ];
        for other in elsewhere {
            assert_eq!(other.find(one)?, None);
        }
        Ok(())
    }

    #[test]
    fn the_compression_survives_what_is_removed() -> Result<(), Error> {
        let root = tempfile::tempdir().expect("a directory");
        let fetched = Spool::new(root.path()).fetched(&["s3://a"], "x", Path::new("/data"));
        assert_eq!(fetched.compression()?, None);
        fetched.set_compression(Compression::Zstd)?;
        let (one, two) = (
            segment("000000010000000000000001"),
            segment("000000010000000000000002"),
        );
        for name in [one, two] {
            fs::write(fetched.path(name), "content").expect("our directory");
        }
        fetched.retain(&BTreeSet::from([two]))?;
        assert_eq!(fetched.find(one)?, None);
        assert!(fetched.find(two)?.is_some());
        fetched.remove(two)?;
        fetched.remove(two)?;
        assert_eq!(fetched.compression()?, Some(Compression::Zstd));
        Ok(())
    }
}
