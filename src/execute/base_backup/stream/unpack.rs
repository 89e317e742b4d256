//! The server's tar archives, taken apart and put together again as Barman's.
//!
//! Names, splitting and compression are those of every other backup. Left out is what these leave out, too: the map of tablespaces
//! and the files that say how a server starts. Added is the data directory's own entry, which PostgreSQL's archives lack and
//! a restore with Barman needs for its permissions. Everything here blocks and is meant for a thread of its own.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, BufReader, Read},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::pieces::Pieces;
use crate::{
    execute::base_backup::{
        archive::{ArchiveError, OpenArchive, Received},
        copy::CopyError,
        findings::Warning,
        outgoing::{Outgoing, Room},
        queue::InHand,
        sink::Sink,
    },
    model::{backup::ArchiveRoot, compression::Compression},
    pipeline::{
        checksum::{Algorithm, Metered},
        compress::Decoder,
        manifest::{self, Sums},
        untar::{self, EntryKind, Reader},
    },
    postgres::replication::{Location, Piece},
};

/// The largest `backup_label` that is believed, in bytes.
const LABEL_MAX: u64 = 64 << 10;

/// What is read ahead of the server's archives, in bytes.
const BUFFER: usize = 128 << 10;

const LABEL: &[u8] = b"backup_label";
/// What the server sends and no backup holds: a map that would put tablespaces back to where they were, and what says how the original
/// starts.
pub(in crate::execute) const LEFT_OUT: [&[u8]; 3] =
    [b"tablespace_map", b"standby.signal", b"recovery.signal"];

/// What was received could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(in crate::execute::base_backup) enum UnpackError {
    /// The other side gave up; it says why.
    #[error("the backup was cut off")]
    CutOff,
    /// What the server sent is no archive.
    #[error("cannot understand what the server sent")]
    Archive(#[source] untar::Error),
    /// The backup lacks what recovery starts from.
    #[error("the server sent no `backup_label`")]
    NoLabel,
    /// It is not what the server says that it sent.
    #[error(transparent)]
    Manifest(manifest::Error),
    /// What was built could not be stored.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// What is known when everything has been unpacked.
pub(super) struct Unpacked {
    /// The text of `backup_label`.
    pub(super) label: String,
    /// How many files there are.
    pub(super) files: u64,
    /// What people should know.
    pub(super) warnings: Vec<Warning>,
}

/// How a server's archives come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrapping {
    /// Whether they end in the mark with which tar archives end.
    pub(super) has_end_marks: bool,
    /// How they are compressed on their way.
    pub(super) compression: Compression,
}

/// Unpacks a backup.
pub(super) struct Unpack {
    outgoing: Arc<Outgoing>,
    manifest: Option<Sink>,
    wrapping: Wrapping,
    sums: Sums,
    /// The archives in hand: that of the data directory stays until the end.
    open: BTreeMap<ArchiveRoot, OpenArchive<Sink>>,
    has_root: bool,
    label: Option<String>,
    files: u64,
    warnings: Vec<Warning>,
}

impl Unpack {
    pub(super) fn new(outgoing: Arc<Outgoing>, manifest: Sink, wrapping: Wrapping) -> Self {
        Self {
            outgoing,
            manifest: Some(manifest),
            wrapping,
            sums: Sums::default(),
            open: BTreeMap::new(),
            has_root: false,
            label: None,
            files: 0,
            warnings: Vec::new(),
        }
    }

    /// Unpacks everything that comes.
    pub(super) fn run(mut self, mut pieces: Pieces) -> Result<Unpacked, UnpackError> {
        while let Some(piece) = pieces.begin().map_err(|_| UnpackError::CutOff)? {
            match piece {
                Piece::Archive(location) => self.archive(&location, &mut pieces)?,
                Piece::Manifest => self.manifest(&mut pieces)?,
                Piece::Data(_) => unreachable!("bytes are read, not begun"),
            }
        }
        for (_, archive) in std::mem::take(&mut self.open) {
            self.close(archive)?;
        }
        if self.manifest.is_some() {
            return Err(UnpackError::Manifest(manifest::Error::Damaged));
        }
        Ok(Unpacked {
            label: self.label.ok_or(UnpackError::NoLabel)?,
            files: self.files,
            warnings: self.warnings,
        })
    }

    fn archive(&mut self, location: &Location, pieces: &mut Pieces) -> Result<(), UnpackError> {
        let place = Place::of(location);
        if !self.open.contains_key(&place.root) {
            self.begin(place.root, 0, self.outgoing.part_bytes())?;
        }
        // The end mark that older servers leave to whoever receives.
        let mark = if self.wrapping.has_end_marks {
            0
        } else {
            2 * 512
        };
        let source = BufReader::with_capacity(BUFFER, pieces);
        let source = Decoder::new(self.wrapping.compression, source).map_err(unread)?;
        let mut reader = Reader::new(source.chain(io::repeat(0).take(mark)));
        while let Some(entry) = reader.next_entry().map_err(unreadable)? {
            self.entry(&place, &entry, &mut reader)?;
        }
        if let ArchiveRoot::Tablespace(_) = place.root
            && let Some(archive) = self.open.remove(&place.root)
        {
            self.close(archive)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        place: &Place,
        entry: &untar::Entry,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let name = entry.name.strip_suffix(b"/").unwrap_or(&entry.name);
        match entry.kind {
            EntryKind::File => return self.file(place, entry, content),
            EntryKind::Directory if place.root == ArchiveRoot::Data && !self.has_root => {
                self.has_root = true;
                self.add(place.root, Path::new(""), entry)?;
            }
            // A link to a tablespace; restores make their own.
            EntryKind::Symlink(_) if name.starts_with(b"pg_tblspc/") => return Ok(()),
            _ => {}
        }
        let relative = place.relative(name);
        self.add(place.root, &relative, entry)
    }

    fn add(
        &mut self,
        root: ArchiveRoot,
        relative: &Path,
        entry: &untar::Entry,
    ) -> Result<(), UnpackError> {
        let archive = self.in_hand(root);
        archive
            .add_entry(relative, entry)
            .map_err(CopyError::from)?;
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place,
        entry: &untar::Entry,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let path = place.path(&entry.name);
        let mut content = Metered::new(content, &[Algorithm::Crc32c]);
        match path.as_slice() {
            left_out if LEFT_OUT.contains(&left_out) => {
                io::copy(&mut content, &mut io::sink()).map_err(unread)?;
            }
            LABEL => {
                let mut text = Vec::new();
                (&mut content)
                    .take(LABEL_MAX)
                    .read_to_end(&mut text)
                    .map_err(unread)?;
                self.make_room(place.root, entry.size)?;
                self.store(place, entry, &mut text.as_slice())?;
                self.label = Some(String::from_utf8_lossy(&text).into_owned());
            }
            _ => {
                if self.outgoing.is_large(entry.size) {
                    let path = PathBuf::from(OsStr::from_bytes(&path));
                    let bytes = entry.size;
                    self.warnings.push(Warning::LargeFile { path, bytes });
                }
                self.make_room(place.root, entry.size)?;
                self.store(place, entry, &mut content)?;
            }
        }
        let (_, bytes, sums) = content.finish();
        let crc = sums.first().map_or(&[][..], |sum| sum.as_bytes());
        let crc = crc.try_into().map(u32::from_be_bytes);
        let crc = crc.expect("a CRC has four bytes");
        self.sums.add(&path, bytes, crc);
        Ok(())
    }

    fn store(
        &mut self,
        place: &Place,
        entry: &untar::Entry,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let relative = place.relative(&entry.name);
        let archive = self.in_hand(place.root);
        let received = Received { entry, content };
        match archive.add_received(&relative, received) {
            Ok(()) => Ok(()),
            Err(ArchiveError::Read { source, .. }) => Err(unread(source)),
            Err(error) => Err(CopyError::from(error).into()),
        }
    }

    fn in_hand(&mut self, root: ArchiveRoot) -> &mut OpenArchive<Sink> {
        let archive = self.open.get_mut(&root);
        archive.expect("the archive of what comes is open")
    }

    /// Goes on with the next archive of a tree where a file of this size would make the present one too large.
    fn make_room(&mut self, root: ArchiveRoot, size: u64) -> Result<(), UnpackError> {
        let outgoing = Arc::clone(&self.outgoing);
        let Room::Next { part_bytes } = outgoing.room(self.in_hand(root), size) else {
            return Ok(());
        };
        let full = self.open.remove(&root).expect("it was just looked at");
        let part = full.name().part + 1;
        self.close(full)?;
        self.begin(root, part, part_bytes)
    }

    fn begin(&mut self, root: ArchiveRoot, part: u32, part_bytes: u64) -> Result<(), UnpackError> {
        let archive = self.outgoing.open(InHand { root, part }, part_bytes)?;
        self.open.insert(root, archive);
        Ok(())
    }

    fn close(&mut self, archive: OpenArchive<Sink>) -> Result<(), UnpackError> {
        self.files += archive.files();
        Ok(Outgoing::close(archive)?)
    }

    fn manifest(&mut self, pieces: &mut Pieces) -> Result<(), UnpackError> {
        let twice = || UnpackError::Manifest(manifest::Error::Damaged);
        let mut sink = self.manifest.take().ok_or_else(twice)?;
        let sums = std::mem::take(&mut self.sums);
        match sums.check(pieces, &mut sink) {
            Ok(()) => sink.finish().map_err(stored),
            Err(manifest::Error::Read(error)) if is_cut_off(&error) => Err(UnpackError::CutOff),
            Err(error) => Err(UnpackError::Manifest(error)),
        }
    }
}

fn stored(error: io::Error) -> UnpackError {
    UnpackError::Manifest(manifest::Error::Read(error))
}

fn is_cut_off(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionAborted
}

fn unread(error: io::Error) -> UnpackError {
    unreadable(untar::Error::Read { source: error })
}

fn unreadable(error: untar::Error) -> UnpackError {
    match error {
        untar::Error::Read { source } if is_cut_off(&source) => UnpackError::CutOff,
        error => UnpackError::Archive(error),
    }
}

/// Where the entries of an archive belong.
struct Place {
    root: ArchiveRoot,
    /// What stands before their names in the manifest.
    in_manifest: String,
    /// What stands before their names in the archive that is built.
    in_archive: String,
}

impl Place {
    fn of(location: &Location) -> Self {
        let below = |oid: u32| format!("pg_tblspc/{oid}/");
        match location {
            Location::Data => Self {
                root: ArchiveRoot::Data,
                in_manifest: String::new(),
                in_archive: String::new(),
            },
            Location::Tablespace(oid) => Self {
                root: ArchiveRoot::Tablespace(*oid),
                in_manifest: below(*oid),
                in_archive: String::new(),
            },
            Location::InPlace(oid) => Self {
                root: ArchiveRoot::Data,
                in_manifest: below(*oid),
                in_archive: below(*oid),
            },
        }
    }

    fn path(&self, name: &[u8]) -> Vec<u8> {
        let name = name.strip_prefix(b"./").unwrap_or(name);
        [self.in_manifest.as_bytes(), name].concat()
    }

    fn relative(&self, name: &[u8]) -> PathBuf {
        let name = name.strip_prefix(b"./").unwrap_or(name);
        let name = [self.in_archive.as_bytes(), name].concat();
        PathBuf::from(OsStr::from_bytes(&name))
    }
}
