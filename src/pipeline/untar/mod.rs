//! Extracting tar archives into a directory that they cannot leave.
//!
//! A [`Destination`] is a directory; several archives can be extracted into it at the same time,
//! each by a thread of its own. Guarantees:
//!
//! - Nothing outside the directory is created, changed or linked to: names that are absolute or
//!   go up are refused, no path is followed through a symbolic link, whoever made it, and hard
//!   links are made to regular files inside only.
//! - No file is ever opened for writing but one that was just created. The last entry of a name
//!   wins; a directory is never replaced.
//! - An archive that is cut off or damaged is an error, whatever was extracted by then.
//! - Modes and times are restored, of directories at the very end, so that a read-only one
//!   does not stop its own content. Set-user-id bits never are.
//! - Nothing is durable before [`Destination::finish`] has answered, if asked to make it so.
//!
//! Memory: one buffer of 256 KiB per archive, and the attributes of the directories and the names
//! of the special entries, which are results.

mod confined;
mod reader;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Mutex,
};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};

use self::confined::{ConfinedPath, Missing, Walker, file_type, open_root, replace};
pub use self::reader::{Entry, EntryKind, Reader};
use super::tar::FileTime;
use crate::failure::Kind;

const BUFFER: usize = 256 << 10;

/// What a file that is held back has behind its name.
pub const HELD: &str = ".incomplete";

/// What went wrong while an archive was extracted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive could not be read.
    #[error("cannot read the archive")]
    Read {
        /// The cause.
        source: io::Error,
    },
    /// The archive ends before its end mark.
    #[error("the archive is cut off")]
    Truncated,
    /// What should be a header is none.
    #[error("the archive is damaged: {what} before byte {offset}")]
    Damaged {
        /// What was found.
        what: &'static str,
        /// Where, in the uncompressed archive.
        offset: u64,
    },
    /// An entry that a backup has no business to hold: a device, a sparse file.
    #[error("the archive's entry `{name}` is of a kind that is not extracted")]
    Unsupported {
        /// The entry's name.
        name: String,
    },
    /// An entry would lie, or a hard link would point, outside the directory.
    #[error("the archive's entry `{name}` leads outside the directory")]
    Outside {
        /// The entry's name.
        name: String,
    },
    /// A symbolic link of a kind that was not allowed.
    #[error("the archive's symbolic link `{name}` points to `{target}`")]
    Symlink {
        /// The entry's name.
        name: String,
        /// What it points to.
        target: String,
    },
    /// An entry could not be created.
    #[error("cannot create `{path}`")]
    Create {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What was extracted could not be made durable.
    #[error("cannot make `{path}` durable")]
    Sync {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Truncated | Self::Damaged { .. } => Kind::Verification,
            // This is how the decoders say that what they read is not what was compressed.
            Self::Read { source }
                if matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
                ) =>
            {
                Kind::Verification
            }
            Self::Unsupported { .. } | Self::Outside { .. } | Self::Symlink { .. } => Kind::Refused,
            Self::Read { .. } | Self::Create { .. } | Self::Sync { .. } => Kind::Failed,
        }
    }

    fn read(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Read { source },
        }
    }
}

/// Whose files they will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Whoever runs the program.
    Process,
    /// Whoever owned them, by number. Needs root.
    Archive,
    /// This user and group, whatever the archive says. Needs root.
    Fixed {
        /// The user's id.
        uid: u32,
        /// The group's id.
        gid: u32,
    },
}

/// Which symbolic links are made. None is ever followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlinks {
    /// None.
    Refuse,
    /// Relative ones whose text stays inside the directory.
    Inside,
    /// All; the caller looks through [`Extracted::special`].
    Any,
}

/// How an archive is extracted.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whose files they will be.
    pub ownership: Ownership,
    /// Which symbolic links are made.
    pub symlinks: Symlinks,
}

/// Whether what was extracted survives a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It may be lost: the caller makes it durable, or does not care.
    Leave,
    /// It does: the whole file system is written out, once (`syncfs`), which is as good as a sync
    /// of every file and directory and much faster than thousands of them. Errors of writing are
    /// reported from Linux 5.8 on.
    SyncFileSystem,
}

/// What was in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// All entries.
    pub entries: u64,
    /// The regular files among them.
    pub files: u64,
    /// Their content, in bytes.
    pub bytes: u64,
    /// Those that are neither a file nor a directory, in the order of the archive.
    pub special: Vec<Special>,
}

/// An entry that is neither a file nor a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Special {
    /// Its name in the archive.
    pub name: Vec<u8>,
    /// What it is, and where it points to.
    pub kind: EntryKind,
}

/// A directory that archives are extracted into.
pub struct Destination {
    path: PathBuf,
    root: OwnedFd,
    options: Options,
    directories: Mutex<BTreeMap<ConfinedPath, Attributes>>,
    held: Vec<ConfinedPath>,
}

#[derive(Clone, Copy)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    modified: FileTime,
}

impl Destination {
    /// Opens a directory, making it if it is missing. Whether it may hold something already is
    /// for the caller to say.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let create = |source| Error::Create {
            path: path.to_owned(),
            source,
        };
        Ok(Self {
            root: open_root(path).map_err(create)?,
            path: path.to_owned(),
            options,
            directories: Mutex::default(),
            held: Vec::new(),
        })
    }

    /// Keeps the files of these names back, so that what is half extracted cannot be taken for the whole: they get
    /// [`HELD`] behind their names until [`release`](Self::release).
    ///
    /// Names are relative, without `.` and `..`.
    #[must_use]
    pub fn holding_back(mut self, names: &[&str]) -> Self {
        let path = |name: &&str| ConfinedPath::parse(name.as_bytes());
        self.held = names.iter().filter_map(path).collect();
        self
    }

    /// Gives a file that was held back its name. `false` if the archives had no such file.
    pub fn release(&self, name: &str) -> Result<bool, Error> {
        let create = |source| Error::Create {
            path: self.path.join(name),
            source,
        };
        let not_found = || create(io::ErrorKind::NotFound.into());
        let path = ConfinedPath::parse(name.as_bytes()).ok_or_else(not_found)?;
        let held = path.with_suffix(HELD);
        let mut walker = Walker::new(self.root.as_fd());
        let (file, parents) = path.split().ok_or_else(not_found)?;
        let parent = match walker.directory(parents, Missing::Fail) {
            Ok(parent) => parent,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(create(error)),
        };
        let (held, _) = held.split().ok_or_else(not_found)?;
        match rustix::fs::renameat(parent, held, parent, file) {
            Ok(()) => {
                let synced = rustix::fs::fsync(parent);
                synced.map_err(|error| create(error.into()))?;
                Ok(true)
            }
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(create(error.into())),
        }
    }

    /// Extracts one archive. Others may be extracted at the same time, as long as no file is in
    /// two of them.
    pub fn extract(&self, archive: impl Read) -> Result<Extracted, Error> {
        let mut reader = Reader::new(archive);
        let mut extraction = Extraction {
            destination: self,
            walker: Walker::new(self.root.as_fd()),
            buffer: vec![0; BUFFER],
            extracted: Extracted::default(),
        };
        while let Some(entry) = reader.next_entry()? {
            extraction.entry(entry, &mut reader)?;
        }
        Ok(extraction.extracted)
    }

    /// Gives the directories their modes, owners and times, deepest first, and makes everything
    /// durable if asked to.
    pub fn finish(&self, durability: Durability) -> Result<(), Error> {
        let directories = self.directories.lock().expect("no thread panics with it");
        let mut walker = Walker::new(self.root.as_fd());
        for (path, &attributes) in directories.iter().rev() {
            let create = |source| Error::Create {
                path: self.path.clone(),
                source,
            };
            walker
                .directory(path.components(), Missing::Fail)
                .and_then(|directory| self.dress(directory, attributes, 0o3777))
                .map_err(create)?;
        }
        if durability == Durability::SyncFileSystem {
            rustix::fs::syncfs(&self.root).map_err(|error| Error::Sync {
                path: self.path.clone(),
                source: error.into(),
            })?;
        }
        Ok(())
    }

    /// Sets owner, mode and time of something open; in this order, since a change of the owner
    /// may clear bits of the mode, and before the name is of use to anybody.
    fn dress(&self, file: BorrowedFd<'_>, attributes: Attributes, mask: u32) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner(attributes) {
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode & mask))?;
        rustix::fs::futimens(file, &times(attributes.modified))?;
        Ok(())
    }

    fn owner(&self, attributes: Attributes) -> Option<(Uid, Gid)> {
        let (uid, gid) = match self.options.ownership {
            Ownership::Process => return None,
            Ownership::Archive => (attributes.uid, attributes.gid),
            Ownership::Fixed { uid, gid } => (uid, gid),
        };
        // The last number means "leave it" to the system.
        let is_number = uid != u32::MAX && gid != u32::MAX;
        is_number.then(|| (Uid::from_raw(uid), Gid::from_raw(gid)))
    }
}

/// The extraction of one archive.
struct Extraction<'a> {
    destination: &'a Destination,
    walker: Walker<'a>,
    buffer: Vec<u8>,
    extracted: Extracted,
}

impl Extraction<'_> {
    fn entry(&mut self, entry: Entry, content: &mut impl Read) -> Result<(), Error> {
        let outside = || Error::Outside {
            name: display(&entry.name),
        };
        let mut path = ConfinedPath::parse(&entry.name).ok_or_else(outside)?;
        if entry.kind == EntryKind::File && self.destination.held.contains(&path) {
            path = path.with_suffix(HELD);
        }
        let attributes = Attributes {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            modified: entry.modified,
        };
        self.extracted.entries += 1;
        match &entry.kind {
            EntryKind::Directory => self
                .directory(path, attributes)
                .map_err(|source| self.create(&entry.name, source))?,
            EntryKind::File => {
                self.file(&path, attributes, &entry, content)?;
                self.extracted.files += 1;
                self.extracted.bytes += entry.size;
            }
            EntryKind::Symlink(target) => {
                self.check_symlink(&entry.name, &path, target)?;
                self.symlink(&path, attributes, target)
                    .map_err(|source| self.create(&entry.name, source))?;
            }
            EntryKind::HardLink(target) => {
                let target = ConfinedPath::parse(target).ok_or_else(outside)?;
                self.hard_link(&path, &target)
                    .map_err(|source| self.create(&entry.name, source))?;
            }
            EntryKind::Fifo => self
                .fifo(&path, attributes)
                .map_err(|source| self.create(&entry.name, source))?,
        }
        if !matches!(entry.kind, EntryKind::Directory | EntryKind::File) {
            self.extracted.special.push(Special {
                name: entry.name,
                kind: entry.kind,
            });
        }
        Ok(())
    }

    fn create(&self, name: &[u8], source: io::Error) -> Error {
        Error::Create {
            path: self.destination.path.join(display(name)),
            source,
        }
    }

    fn directory(&mut self, path: ConfinedPath, attributes: Attributes) -> io::Result<()> {
        self.walker.directory(path.components(), Missing::Create)?;
        let directories = &self.destination.directories;
        let mut directories = directories.lock().expect("no thread panics with it");
        directories.insert(path, attributes);
        Ok(())
    }

    fn file(
        &mut self,
        path: &ConfinedPath,
        attributes: Attributes,
        entry: &Entry,
        content: &mut impl Read,
    ) -> Result<(), Error> {
        let create = |source| Error::Create {
            path: self.destination.path.join(display(&entry.name)),
            source,
        };
        let open = |walker: &mut Walker<'_>| -> io::Result<File> {
            let (name, parents) = path.split().ok_or(io::ErrorKind::IsADirectory)?;
            let parent = walker.directory(parents, Missing::Create)?;
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let open = || rustix::fs::openat(parent, name, flags, mode);
            replace(parent, name, open).map(File::from)
        };
        let mut file = open(&mut self.walker).map_err(create)?;
        let mut missing = entry.size;
        while missing > 0 {
            let room = usize::try_from(missing).unwrap_or(BUFFER).min(BUFFER);
            content
                .read_exact(&mut self.buffer[..room])
                .map_err(Error::read)?;
            file.write_all(&self.buffer[..room]).map_err(create)?;
            missing -= room as u64;
        }
        self.destination
            .dress(file.as_fd(), attributes, 0o777)
            .map_err(create)
    }

    fn check_symlink(&self, name: &[u8], path: &ConfinedPath, to: &[u8]) -> Result<(), Error> {
        let is_allowed = match self.destination.options.symlinks {
            Symlinks::Refuse => false,
            Symlinks::Inside => path.link_stays_inside(to),
            Symlinks::Any => true,
        };
        if is_allowed {
            return Ok(());
        }
        Err(Error::Symlink {
            name: display(name),
            target: display(to),
        })
    }

    fn symlink(
        &mut self,
        path: &ConfinedPath,
        attributes: Attributes,
        target: &[u8],
    ) -> io::Result<()> {
        let (name, parents) = path.split().ok_or(io::ErrorKind::IsADirectory)?;
        let parent = self.walker.directory(parents, Missing::Create)?;
        replace(parent, name, || rustix::fs::symlinkat(target, parent, name))?;
        if let Some((uid, gid)) = self.destination.owner(attributes) {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)?;
        }
        let times = times(attributes.modified);
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    fn hard_link(&mut self, path: &ConfinedPath, target: &ConfinedPath) -> io::Result<()> {
        let is_a_directory = io::ErrorKind::IsADirectory;
        let (target_name, target_parents) = target.split().ok_or(is_a_directory)?;
        let (name, parents) = path.split().ok_or(is_a_directory)?;
        let mut target_walker = Walker::new(self.destination.root.as_fd());
        let target_parent = target_walker.directory(target_parents, Missing::Fail)?;
        if file_type(target_parent, target_name)? != FileType::RegularFile {
            return Err(io::Error::other("the other end of a hard link is no file"));
        }
        if path == target {
            return Ok(());
        }
        let parent = self.walker.directory(parents, Missing::Create)?;
        let flags = AtFlags::empty();
        let link = || rustix::fs::linkat(target_parent, target_name, parent, name, flags);
        replace(parent, name, link)
    }

    fn fifo(&mut self, path: &ConfinedPath, attributes: Attributes) -> io::Result<()> {
        let (name, parents) = path.split().ok_or(io::ErrorKind::IsADirectory)?;
        let parent = self.walker.directory(parents, Missing::Create)?;
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        let make = || rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0);
        replace(parent, name, make)?;
        if let Some((uid, gid)) = self.destination.owner(attributes) {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)?;
        }
        let times = times(attributes.modified);
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }
}

fn times(modified: FileTime) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: modified.seconds,
            tv_nsec: modified.nanoseconds.into(),
        },
    }
}

fn display(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests;
