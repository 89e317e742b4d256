//! A directory that nothing leaves: paths of an archive resolved one component at a time.
//!
//! Every component but the last is opened relative to the one before and never through a symbolic
//! link, so that neither the name of an entry nor a link that an earlier entry, an earlier run or
//! somebody else made can lead out of the directory, not even while it is being changed.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

/// A relative path in its components: none is empty, `.` or `..`. Empty for the directory itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConfinedPath(Vec<Vec<u8>>);

impl ConfinedPath {
    /// Takes an entry's name, unless it is absolute or tries to go up.
    pub(super) fn parse(name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.starts_with(b"/") || name.contains(&0) {
            return None;
        }
        let components: Vec<Vec<u8>> = name
            .split(|&byte| byte == b'/')
            .filter(|&component| !component.is_empty() && component != b".")
            .map(<[u8]>::to_vec)
            .collect();
        (!components.iter().any(|component| component == b"..")).then_some(Self(components))
    }

    /// The components.
    pub(super) fn components(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// The last component and those before it; none for the directory itself.
    pub(super) fn split(&self) -> Option<(&[u8], &[Vec<u8>])> {
        self.0
            .split_last()
            .map(|(last, parents)| (&last[..], parents))
    }

    /// The same place under a longer name.
    pub(super) fn with_suffix(&self, suffix: &str) -> Self {
        let mut components = self.0.clone();
        if let Some(last) = components.last_mut() {
            last.extend_from_slice(suffix.as_bytes());
        }
        Self(components)
    }

    /// Whether a relative link at this place, read as a text, stays inside.
    pub(super) fn link_stays_inside(&self, target: &[u8]) -> bool {
        if target.starts_with(b"/") {
            return false;
        }
        let mut depth = self.0.len().saturating_sub(1);
        for component in target.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." if depth == 0 => return false,
                b".." => depth -= 1,
                _ => depth += 1,
            }
        }
        true
    }
}

/// What to do about a directory that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make it, for the owner only.
    Create,
    /// Fail.
    Fail,
}

/// The way to one parent directory after the other; remembers the last, since entries come in
/// the order of a walk.
pub(super) struct Walker<'a> {
    root: BorrowedFd<'a>,
    path: Vec<Vec<u8>>,
    parent: Option<OwnedFd>,
}

impl<'a> Walker<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Self {
        Self {
            root,
            path: Vec::new(),
            parent: None,
        }
    }

    /// Opens a directory below the root.
    pub(super) fn directory(
        &mut self,
        path: &[Vec<u8>],
        missing: Missing,
    ) -> io::Result<BorrowedFd<'_>> {
        // What was opened once stays what it is: directories are never replaced.
        if self.path != path {
            let mut opened: Option<OwnedFd> = None;
            for component in path {
                let below = opened.as_ref().map_or(self.root, AsFd::as_fd);
                opened = Some(open_below(below, component, missing)?);
            }
            self.parent = opened;
            path.clone_into(&mut self.path);
        }
        Ok(self.parent.as_ref().map_or(self.root, AsFd::as_fd))
    }
}

/// Opens a directory to work in, making it and its parents where they are missing.
pub(super) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn open_below(parent: BorrowedFd<'_>, name: &[u8], missing: Missing) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) if missing == Missing::Create => {
            match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                // Somebody who extracts another archive beside this one was faster.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
        }
        other => Ok(other?),
    }
}

/// Makes something that must not exist yet, removing what is in its place unless that is a
/// directory: the last entry of a name wins.
pub(super) fn replace<T>(
    parent: BorrowedFd<'_>,
    name: &[u8],
    make: impl Fn() -> rustix::io::Result<T>,
) -> io::Result<T> {
    match make() {
        Err(Errno::EXIST) => {
            // Without `REMOVEDIR` this refuses a directory.
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            Ok(make()?)
        }
        other => Ok(other?),
    }
}

/// What lies under a name, without following a link.
pub(super) fn file_type(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<FileType> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}
