//! The way from a key to a file, one directory at a time, never through a symbolic link.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, fsync, mkdirat, open,
        openat, statat,
    },
    io::Errno,
};

use super::{Failed, refused};
use crate::store::{Key, Meaning};

/// How names begin that are not objects.
pub(super) const PRIVATE: &str = ".barkeep-";
const LOCK: &str = ".barkeep-lock";
/// Leaves room for a temporary name in the 255 bytes of a file name.
const COMPONENT_BYTES_MAX: usize = 200;
/// What others may do is up to the umask; nothing for everyone.
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o750);

/// An open destination.
pub(super) struct Tree(OwnedFd);

/// Where an object is or would be: its directory, open, and its name there.
pub(super) struct Place {
    pub(super) parent: OwnedFd,
    pub(super) name: String,
}

/// The lock under which names change; released when dropped.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] Option<OwnedFd>);

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Self, Failed> {
        // The destination itself may be reached through a link: the operator has named it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open(root, flags, Mode::empty()) {
            Ok(root) => Ok(Self(root)),
            Err(Errno::NOENT | Errno::NOTDIR) => Err((Meaning::BucketMissing, Errno::NOENT.into())),
            Err(error) => Err(errno(error)),
        }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Where an object is, if its directories exist.
    pub(super) fn find(&self, key: &Key) -> Result<Option<Place>, Failed> {
        let (directories, name) = components(key)?;
        let mut parent = self.0.try_clone().map_err(io)?;
        for directory in directories {
            match enter(parent.as_fd(), directory)? {
                Some(child) => parent = child,
                None => return Ok(None),
            }
        }
        let name = name.to_owned();
        Ok(Some(Place { parent, name }))
    }

    /// Where an object will be; makes its directories, durably.
    pub(super) fn make(&self, key: &Key) -> Result<Place, Failed> {
        let (directories, name) = components(key)?;
        let mut parent = self.0.try_clone().map_err(io)?;
        for directory in directories {
            parent = enter_or_make(parent.as_fd(), directory)?;
        }
        let name = name.to_owned();
        Ok(Place { parent, name })
    }

    /// Opens an object for reading.
    pub(super) fn read(&self, key: &Key) -> Result<File, Failed> {
        let absent = || (Meaning::NotFound, Errno::NOENT.into());
        let place = self.find(key)?.ok_or_else(absent)?;
        // A pipe that somebody has put there must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&place.parent, &place.name, flags, Mode::empty()) {
            Err(Errno::LOOP) => return Err(link(&place.name)),
            result => result.map_err(errno)?,
        };
        match kind(&fstat(&file).map_err(errno)?) {
            FileType::RegularFile => Ok(File::from(file)),
            FileType::Directory => Err(absent()),
            _ => Err(strange(&place.name)),
        }
    }

    /// Waits for the right to change names beside others, or alone.
    pub(super) fn lock(&self, operation: FlockOperation) -> Result<Lock, Failed> {
        let create = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&self.0, LOCK, create | OFlags::RDWR, FILE_MODE) {
            // Another user has made it. Some file systems lock for writing only what is open for writing; then this is refused.
            Err(Errno::ACCESS) => openat(
                &self.0,
                LOCK,
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            ),
            result => result,
        };
        let file = file.map_err(errno)?;
        let alone = matches!(operation, FlockOperation::LockExclusive);
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Lock(Some(file))),
                Err(Errno::INTR) => {}
                // Without locks nobody can replace, so nobody needs to be kept out.
                Err(Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS | Errno::BADF) if !alone => {
                    return Ok(Lock(None));
                }
                Err(error) => return Err((Meaning::Unsupported, error.into())),
            }
        }
    }
}

impl Place {
    /// What is there under this name.
    pub(super) fn stat(&self) -> Result<Option<Stat>, Failed> {
        match statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if kind(&stat) == FileType::Symlink => Err(link(&self.name)),
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(errno(error)),
        }
    }

    /// Opens a new file beside it.
    pub(super) fn create(&self, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        openat(&self.parent, name, flags, FILE_MODE)
    }

    /// Opens a new file without a name in its directory.
    pub(super) fn create_nameless(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        openat(&self.parent, ".", flags, FILE_MODE)
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The directories of a key, and its name.
fn components(key: &Key) -> Result<(Vec<&str>, &str), Failed> {
    if !key.is_normal() {
        return Err(refused(Meaning::Unsupported, "no file can have this name"));
    }
    let mut components: Vec<&str> = key.as_str().split('/').collect();
    let private = |part: &&str| part.starts_with(PRIVATE) || part.len() > COMPONENT_BYTES_MAX;
    if let Some(part) = components.iter().copied().find(private) {
        let why = format!("`{part}` is reserved, or longer than {COMPONENT_BYTES_MAX} bytes");
        return Err(refused(Meaning::Unsupported, why));
    }
    let name = components.pop().unwrap_or_default();
    Ok((components, name))
}

/// Opens a directory in another; `None` if there is none of that name.
pub(super) fn enter(parent: BorrowedFd<'_>, name: &str) -> Result<Option<OwnedFd>, Failed> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Ok(child) => Ok(Some(child)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP) => Err(link(name)),
        Err(Errno::NOTDIR) => {
            // A link, or an object: then nothing can be below it.
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)?;
            match kind(&stat) {
                FileType::Symlink => Err(link(name)),
                _ => Ok(None),
            }
        }
        Err(error) => Err(errno(error)),
    }
}

fn enter_or_make(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Failed> {
    // Somebody who deletes the last object of a directory may take the directory away just now.
    for _ in 0..8 {
        if let Some(child) = enter(parent, name)? {
            return Ok(child);
        }
        match mkdirat(parent, name, DIRECTORY_MODE) {
            Ok(()) => fsync(parent).map_err(errno)?,
            Err(Errno::EXIST) => {
                let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
                if stat.is_ok_and(|stat| kind(&stat) != FileType::Directory) {
                    let why = format!("`{name}` is an object, so nothing can be below it");
                    return Err(refused(Meaning::Unsupported, why));
                }
            }
            Err(error) => return Err(errno(error)),
        }
    }
    Err(refused(
        Meaning::Other,
        format!("the directory `{name}` comes and goes"),
    ))
}

/// Makes the destination itself, durably.
pub(super) fn create(root: &Path) -> Result<(), Failed> {
    if root.is_dir() {
        return Ok(());
    }
    let parent = root.parent().ok_or_else(|| errno(Errno::NOENT))?;
    create(parent)?;
    match rustix::fs::mkdir(root, DIRECTORY_MODE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(errno(error)),
    }
    let parent = File::open(parent).map_err(io)?;
    fsync(&parent).map_err(errno)
}

pub(super) fn link(name: &str) -> Failed {
    refused(
        Meaning::PermissionDenied,
        format!("`{name}` is a symbolic link"),
    )
}

pub(super) fn strange(name: &str) -> Failed {
    refused(
        Meaning::Unsupported,
        format!("`{name}` is neither a file nor a directory"),
    )
}

/// What an error of the operating system means.
pub(super) fn io(error: io::Error) -> Failed {
    match Errno::from_io_error(&error) {
        Some(number) => errno(number),
        None if error.kind() == io::ErrorKind::UnexpectedEof => (Meaning::Checksum, error),
        None => (Meaning::Other, error),
    }
}

/// What an error number of the operating system means.
pub(super) fn errno(number: Errno) -> Failed {
    let meaning = match number {
        Errno::NOENT => Meaning::NotFound,
        Errno::EXIST => Meaning::AlreadyExists,
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::LOOP => Meaning::PermissionDenied,
        Errno::NAMETOOLONG | Errno::NOTDIR | Errno::ISDIR | Errno::NOTSUP | Errno::XDEV => {
            Meaning::Unsupported
        }
        Errno::STALE | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH => {
            Meaning::Unreachable
        }
        _ => Meaning::Other,
    };
    (meaning, number.into())
}
