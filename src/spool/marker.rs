//! Markers: segments that are in the archive before PostgreSQL asks for it.
//!
//! A marker answers one later `archive_command` without a single request, and only for the very file that was archived: the same
//! size, inode and times, or at least the same content; of the same cluster; to all destinations that are required by then. It
//! is removed before it is believed, so it answers once. There are none for `.partial` and `.history` files.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Error, Folder};
use crate::model::wal::{SegmentName, SystemId};

/// What makes a file the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Its length in bytes.
    pub bytes: u64,
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    /// What the file system says about a file.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A segment that is durable in these destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The URLs of the destinations.
    pub destinations: BTreeSet<String>,
    /// The cluster that wrote it.
    pub system_id: SystemId,
    /// The file that was archived.
    pub file: FileStamp,
    /// CRC-32C of its content, where it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32c: Option<u32>,
}

impl Marker {
    /// Whether a file is still the one that was archived.
    ///
    /// Reads it only where its inode or its times differ while its length does not: not every file system keeps those.
    pub fn matches(&self, path: &Path) -> io::Result<bool> {
        let stamp = FileStamp::of(&fs::metadata(path)?);
        if stamp == self.file {
            return Ok(true);
        }
        match self.crc32c {
            Some(crc32c) if stamp.bytes == self.file.bytes => Ok(crc32c_of(path)? == crc32c),
            _ => Ok(false),
        }
    }
}

fn crc32c_of(path: &Path) -> io::Result<u32> {
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let mut crc = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(crc),
            count => crc = crc32c::crc32c_append(crc, &buffer[..count]),
        }
    }
}

/// The markers of one server.
#[derive(Clone, Debug)]
pub struct Markers {
    folder: Folder,
}

impl Markers {
    pub(super) fn new(folder: Folder) -> Self {
        Self { folder }
    }

    /// Leaves a marker, durable when this returns.
    pub fn leave(&self, segment: SegmentName, marker: &Marker) -> Result<(), Error> {
        let content = serde_json::to_vec(marker).expect("a marker has no maps with odd keys");
        self.folder.write(&segment.to_string(), &content)
    }

    /// The marker of a segment; one that cannot be understood is none.
    pub fn look(&self, segment: SegmentName) -> Result<Option<Marker>, Error> {
        let content = self.folder.read(&segment.to_string())?;
        Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
    }

    /// The marker of a segment, which is gone when this returns.
    pub fn take(&self, segment: SegmentName) -> Result<Option<Marker>, Error> {
        let marker = self.look(segment)?;
        if marker.is_some() {
            self.folder.remove(&segment.to_string())?;
        }
        Ok(marker)
    }

    /// Removes all markers but those of these segments, and whatever a killed process left.
    pub fn retain(&self, segments: &BTreeSet<SegmentName>) -> Result<(), Error> {
        let kept = |name: &String| {
            let segment = name.parse::<SegmentName>();
            segment.is_ok_and(|segment| segments.contains(&segment))
        };
        for name in self.folder.names()?.iter().filter(|name| !kept(name)) {
            self.folder.remove(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Spool;

    struct Scene {
        root: tempfile::TempDir,
        markers: Markers,
        segment: SegmentName,
    }

    fn scene() -> Scene {
        let root = tempfile::tempdir().expect("a directory");
        let markers = Spool::new(root.path().join("spool")).markers("x", root.path());
        let segment = "000000010000000000000001".parse().expect("a name");
        Scene {
            root,
            markers,
            segment,
        }
    }

    impl Scene {
        fn file(&self, content: &str) -> std::path::PathBuf {
            let path = self.root.path().join("segment");
            fs::write(&path, content).expect("a writable directory");
            path
        }

        fn marker(&self, content: &str) -> Marker {
            let path = self.file(content);
            Marker {
                destinations: BTreeSet::from(["s3://a".to_owned()]),
                system_id: SystemId(7),
                file: FileStamp::of(&fs::metadata(path).expect("a file")),
                crc32c: Some(crc32c::crc32c(content.as_bytes())),
            }
        }
    }

    #[test]
    fn a_marker_answers_once() -> Result<(), Error> {
        let scene = scene();
        let marker = scene.marker("content");
        assert_eq!(scene.markers.take(scene.segment)?, None);
        scene.markers.leave(scene.segment, &marker)?;
        assert_eq!(scene.markers.look(scene.segment)?, Some(marker.clone()));
        assert_eq!(scene.markers.take(scene.segment)?, Some(marker));
        assert_eq!(scene.markers.take(scene.segment)?, None);
        Ok(())
    }

    #[test]
    fn only_the_file_that_was_archived_matches() -> io::Result<()> {
        let scene = scene();
        let marker = scene.marker("content");
        let path = scene.root.path().join("segment");
        assert!(marker.matches(&path)?);
        // The same bytes in another file: what a copied data directory looks like.
        fs::rename(&path, scene.root.path().join("old"))?;
        scene.file("content");
        assert!(marker.matches(&path)?);
        scene.file("CONTENT");
        assert!(!marker.matches(&path)?);
        scene.file("content and more");
        assert!(!marker.matches(&path)?);
        fs::remove_file(&path)?;
        assert!(marker.matches(&path).is_err());
        Ok(())
    }

    #[test]
    fn what_nobody_waits_for_is_removed() -> Result<(), Error> {
        let scene = scene();
        let marker = scene.marker("content");
        let other = "000000010000000000000002".parse().expect("a name");
        scene.markers.leave(scene.segment, &marker)?;
        scene.markers.leave(other, &marker)?;
        fs::write(scene.markers.folder.path.join(".tmpLeft"), "x").expect("our own directory");
        scene.markers.retain(&BTreeSet::from([other]))?;
        assert_eq!(scene.markers.folder.names()?, [other.to_string()]);
        Ok(())
    }

    #[test]
    fn a_marker_that_was_cut_off_is_none() -> Result<(), Error> {
        let scene = scene();
        scene.markers.leave(scene.segment, &scene.marker("x"))?;
        scene
            .markers
            .folder
            .write(&scene.segment.to_string(), b"{\"dest")?;
        assert_eq!(scene.markers.take(scene.segment)?, None);
        Ok(())
    }
}
