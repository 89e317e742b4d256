//! Files that become objects.

use std::{
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    process,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, FlockOperation, RenameFlags, Stat, Timespec, Timestamps,
        UTIME_OMIT, fstat, fsync, futimens, linkat, renameat, renameat_with, unlinkat,
    },
    io::Errno,
};

use super::{
    Failed, Place, Tree, refused,
    tree::{enter, errno, io, kind},
    version,
};
use crate::{
    model::time::Timestamp,
    store::{Key, Meaning, PutMode, UploadId},
};

/// How the name of a file begins that is not yet an object: then its own serial number, a dot, and the object's name.
pub(super) const UPLOAD: &str = ".barkeep-upload.";

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A file that is not yet an object, beside where it will be one. Dropped before it is published, it is removed, unless it is
/// kept for others to find.
#[derive(Debug)]
pub(super) struct Temporary {
    file: File,
    place: Place,
    name: String,
    id: UploadId,
    abandoned_on_drop: AtomicBool,
    /// Whether its content is complete and durable already.
    is_durable: bool,
}

/// What goes when a temporary file is dropped that was not published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drops {
    /// Its name, which is the file's only one.
    Name,
    /// Nothing: it has no name.
    Nothing,
}

/// A name for a file that is to become the object of this name.
fn unique(object: &str, now: Timestamp) -> String {
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let (process, moment) = (process::id(), now.utc().timestamp_micros());
    format!("{UPLOAD}{moment:x}-{process:x}-{serial:x}.{object}")
}

impl std::fmt::Debug for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl Temporary {
    /// A file with this content, which has a name from the moment on when it is whole: a crash while it is written leaves nothing.
    pub(super) fn whole(
        tree: &Tree,
        key: &Key,
        content: &[u8],
        now: Timestamp,
    ) -> Result<Self, Failed> {
        if let Some(mut nameless) = Self::nameless(tree, key, now)? {
            nameless.fill(content)?;
            fsync(&nameless.file).map_err(errno)?;
            nameless.is_durable = true;
            if nameless.appear() {
                return Ok(nameless);
            }
        }
        let named = Self::create(tree, key, now)?;
        named.fill(content)?;
        Ok(named)
    }

    fn fill(&self, content: &[u8]) -> Result<(), Failed> {
        self.file.write_all_at(content, 0).map_err(io)
    }

    /// A file that has no name yet; `None` where the file system does not know how.
    fn nameless(tree: &Tree, key: &Key, now: Timestamp) -> Result<Option<Self>, Failed> {
        let place = tree.make(key)?;
        let Ok(file) = place.create_nameless() else {
            return Ok(None);
        };
        let name = unique(&place.name, now);
        Ok(Some(Self::new(file, place, name, key, Drops::Nothing)))
    }

    /// Gives a nameless file its name. Fails where its directory was taken away meanwhile, or without `/proc`.
    fn appear(&self) -> bool {
        let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let (parent, to) = (&self.place.parent, self.name.as_str());
        let linked = linkat(CWD, from, parent, to, AtFlags::SYMLINK_FOLLOW);
        self.abandoned_on_drop
            .store(linked.is_ok(), Ordering::Relaxed);
        linked.is_ok()
    }

    fn new(file: OwnedFd, place: Place, name: String, key: &Key, drops: Drops) -> Self {
        let directory = key.as_str().strip_suffix(place.name.as_str());
        let id = UploadId(format!("{}{name}", directory.unwrap_or_default()));
        Self {
            file: File::from(file),
            place,
            name,
            id,
            abandoned_on_drop: AtomicBool::new(drops == Drops::Name),
            is_durable: false,
        }
    }

    pub(super) fn create(tree: &Tree, key: &Key, now: Timestamp) -> Result<Self, Failed> {
        // The directory may be taken away by whoever deletes its last object, and the name be taken.
        for _ in 0..8 {
            let place = tree.make(key)?;
            let name = unique(&place.name, now);
            match place.create(&name) {
                Ok(file) => return Ok(Self::new(file, place, name, key, Drops::Name)),
                Err(Errno::NOENT | Errno::EXIST) => {}
                Err(error) => return Err(errno(error)),
            }
        }
        Err(refused(Meaning::Other, "its directory comes and goes"))
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn id(&self) -> UploadId {
        self.id.clone()
    }

    /// Stays when dropped, to be found as an unfinished upload.
    pub(super) fn keep(self) -> Self {
        self.abandoned_on_drop.store(false, Ordering::Relaxed);
        self
    }

    /// Makes it the object, if the mode allows.
    pub(super) fn publish(&self, tree: &Tree, mode: &PutMode) -> Result<Stat, Failed> {
        if !self.is_durable {
            fsync(&self.file).map_err(errno)?;
        }
        let lock = tree.lock(match mode {
            PutMode::Replace(_) => FlockOperation::LockExclusive,
            PutMode::Overwrite | PutMode::Create => FlockOperation::LockShared,
        })?;
        let present = self.place.stat()?;
        match (mode, &present) {
            (PutMode::Create, _) => self.rename_to_nothing()?,
            (PutMode::Replace(_), None) => {
                return Err(refused(Meaning::Precondition, "it does not exist"));
            }
            (PutMode::Replace(wanted), Some(present)) if version(present) != *wanted => {
                return Err(refused(Meaning::Precondition, "it is another version"));
            }
            (PutMode::Replace(_) | PutMode::Overwrite, present) => {
                if let Some(present) = present {
                    self.outlast(present)?;
                }
                let (parent, name) = (&self.place.parent, self.place.name.as_str());
                renameat(parent, self.name.as_str(), parent, name).map_err(errno)?;
            }
        }
        self.abandoned_on_drop.store(false, Ordering::Relaxed);
        drop(lock);
        fsync(&self.place.parent).map_err(errno)?;
        fstat(&self.file).map_err(errno)
    }

    /// Gives the file its name if nothing has it.
    fn rename_to_nothing(&self) -> Result<(), Failed> {
        let (parent, from, to) = (&self.place.parent, &self.name, &self.place.name);
        match renameat_with(parent, from, parent, to, RenameFlags::NOREPLACE) {
            // The file system does not know how; a second name is as good.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            result => return result.map_err(errno),
        }
        match linkat(parent, from, parent, to, AtFlags::empty()) {
            Err(Errno::PERM) => Err((Meaning::Unsupported, Errno::PERM.into())),
            Err(error) => Err(errno(error)),
            Ok(()) => unlinkat(parent, from, AtFlags::empty()).map_err(errno),
        }
    }

    /// Makes the file's time of modification greater than that of what it replaces, so that no two versions are alike. File
    /// systems keep nanoseconds, microseconds, or as little as every other second.
    fn outlast(&self, present: &Stat) -> Result<(), Failed> {
        let moment = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        let before = moment(present);
        for (seconds, nanoseconds) in [(0, 1_000), (0, 1_000_000), (1, 0), (2, 0)] {
            if moment(&fstat(&self.file).map_err(errno)?) > before {
                return Ok(());
            }
            let total = i128::from(before.0) * 1_000_000_000
                + i128::from(before.1)
                + seconds * 1_000_000_000
                + nanoseconds;
            let last_modification = Timespec {
                tv_sec: i64::try_from(total.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(total.rem_euclid(1_000_000_000)).unwrap_or_default(),
            };
            let last_access = Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            };
            let times = Timestamps {
                last_access,
                last_modification,
            };
            futimens(&self.file, &times).map_err(errno)?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.abandoned_on_drop.load(Ordering::Relaxed) {
            // Without success, the next clean-up finds it as an unfinished upload.
            let _ = unlinkat(&self.place.parent, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// The name of the object that a file of this name was to become.
pub(super) fn target(name: &str) -> Option<&str> {
    let (_, target) = name.strip_prefix(UPLOAD)?.split_once('.')?;
    (!target.is_empty()).then_some(target)
}

/// Removes a file that is not yet an object.
pub(super) fn abort(tree: &Tree, id: &UploadId) -> Result<(), Failed> {
    let (directory, name) = id.0.rsplit_once('/').unwrap_or(("", &id.0));
    if target(name).is_none() {
        return Err(refused(Meaning::Unsupported, "it names no upload"));
    }
    let mut open = None;
    for component in directory.split('/').filter(|part| !part.is_empty()) {
        if matches!(component, "." | "..") {
            return Err(refused(Meaning::Unsupported, "it names no upload"));
        }
        let parent: BorrowedFd<'_> = open.as_ref().map_or_else(|| tree.root(), AsFd::as_fd);
        match enter(parent, component)? {
            Some(child) => open = Some(child),
            None => return Ok(()),
        }
    }
    let parent: BorrowedFd<'_> = open.as_ref().map_or_else(|| tree.root(), AsFd::as_fd);
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if kind(&stat) == FileType::RegularFile => {}
        Ok(_) => return Err(refused(Meaning::Unsupported, "it names no upload")),
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(errno(error)),
    }
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => fsync(parent).map_err(errno),
        Err(error) => Err(errno(error)),
    }
}
