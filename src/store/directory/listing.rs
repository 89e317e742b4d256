//! Listing a tree of files as if it were flat.
//!
//! Keys are ordered by their bytes, and in them a directory counts with its slash: `a.b` comes before `a/b`, though the
//! directory `a` is shorter. In memory are the names of the directories on the way, one page, and nothing else.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{AtFlags, Dir, FileType, Stat, statat},
    io::Errno,
};

use super::{
    Failed, Tree, meta, modified, refused,
    tree::{PRIVATE, enter, errno, kind, link, strange},
    write::target,
};
use crate::{
    model::time::Timestamp,
    store::{
        Key, ListPage, ListRequest, Meaning, ObjectMeta, PendingUpload, UploadId,
        listing::{Filling, Then, first},
    },
};

/// One page of the objects.
pub(super) fn objects(
    tree: &Tree,
    request: &ListRequest,
    page_size: usize,
    date: Timestamp,
) -> Result<ListPage, Failed> {
    let mut filling = Filling::new(request, page_size, date);
    let mut walk = Walk::new(tree, &request.prefix, Which::Objects)?;
    let mut from = first(request);
    while let Some(key) = walk.next(&from)? {
        match filling.take(&key, || walk.object(&key))? {
            Then::From(next) => from = next,
            Then::Stop => break,
        }
    }
    Ok(filling.finish())
}

/// All files that are not yet objects, in the order of the objects that they would be.
pub(super) fn uploads(tree: &Tree, prefix: &str) -> Result<Vec<PendingUpload>, Failed> {
    let mut walk = Walk::new(tree, prefix, Which::Uploads)?;
    let mut found = Vec::new();
    while let Some(path) = walk.next("")? {
        let split = path.rfind('/').map_or(0, |slash| slash + 1);
        let (directory, name) = path.split_at(split);
        let Some(target) = target(name) else { continue };
        let key = Key::verbatim(format!("{directory}{target}"));
        if !key.as_str().starts_with(prefix) {
            continue;
        }
        if let Some(stat) = walk.stat(name)? {
            found.push(PendingUpload {
                key,
                id: UploadId(path),
                started: modified(&stat),
            });
        }
    }
    found.sort_by(|left, right| {
        left.key
            .cmp(&right.key)
            .then(left.started.cmp(&right.started))
    });
    Ok(found)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Objects,
    Uploads,
}

/// The walk: the directories on the way, outermost first.
struct Walk {
    prefix: String,
    which: Which,
    levels: Vec<Level>,
}

struct Level {
    directory: OwnedFd,
    /// Its path with a slash at the end; empty for the root.
    path: String,
    /// What is in it and not yet visited, last first. Those of directories end with a slash.
    names: Vec<String>,
}

impl Walk {
    fn new(tree: &Tree, prefix: &str, which: Which) -> Result<Self, Failed> {
        let mut walk = Self {
            prefix: prefix.to_owned(),
            which,
            levels: Vec::new(),
        };
        let root = tree.root().try_clone_to_owned().map_err(super::tree::io)?;
        walk.descend(root, String::new())?;
        Ok(walk)
    }

    /// The first file not yet visited whose path is not less than `from`.
    fn next(&mut self, from: &str) -> Result<Option<String>, Failed> {
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.pop() else {
                self.levels.pop();
                continue;
            };
            let path = format!("{}{name}", level.path);
            // All below a directory is less than what is greater than the directory and not below it.
            let directory = name.strip_suffix('/');
            let is_over = path.as_str() < from && !(path.ends_with('/') && from.starts_with(&path));
            if is_over || !concerns(self.which, &self.prefix, &path) {
                continue;
            }
            let Some(directory) = directory else {
                return Ok(Some(path));
            };
            // What is gone meanwhile is passed over, as in any listing.
            if let Some(child) = enter(level.directory.as_fd(), directory)? {
                self.descend(child, path)?;
            }
        }
        Ok(None)
    }

    fn descend(&mut self, directory: OwnedFd, path: String) -> Result<(), Failed> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(errno)? {
            let entry = entry.map_err(errno)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let name = name.to_str().map_err(|_| {
                let name = name.to_string_lossy();
                refused(Meaning::Unsupported, format!("`{path}{name}` is not UTF-8"))
            })?;
            names.extend(self.name(&directory, &path, name, entry.file_type())?);
        }
        names.sort_unstable_by(|left: &String, right| right.cmp(left));
        self.levels.push(Level {
            directory,
            path,
            names,
        });
        Ok(())
    }

    /// The name as it is sorted, if it concerns this walk.
    fn name(
        &self,
        directory: &OwnedFd,
        path: &str,
        name: &str,
        told: FileType,
    ) -> Result<Option<String>, Failed> {
        let found = match told {
            // Not every file system tells.
            FileType::Unknown => match stat(directory, name)? {
                Some(stat) => kind(&stat),
                None => return Ok(None),
            },
            told => told,
        };
        let is_private = name.starts_with(PRIVATE);
        let full = format!("{path}{name}");
        match found {
            FileType::Directory => Ok(Some(format!("{name}/"))),
            _ if is_private != (self.which == Which::Uploads) => Ok(None),
            FileType::RegularFile => Ok(Some(name.to_owned())),
            _ if !full.starts_with(&self.prefix)
                && !self.prefix.starts_with(&format!("{full}/")) =>
            {
                Ok(None)
            }
            // Hiding it could make somebody delete what it leads to or stands for.
            FileType::Symlink => Err(link(&full)),
            _ => Err(strange(&full)),
        }
    }

    fn stat(&self, name: &str) -> Result<Option<Stat>, Failed> {
        let level = self.levels.last().expect("a file was found in a directory");
        stat(&level.directory, name)
    }

    fn object(&self, path: &str) -> Result<Option<ObjectMeta>, Failed> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let stat = self.stat(name)?;
        Ok(stat.map(|stat| meta(Key::verbatim(path), &stat)))
    }
}

/// Whether a path, that of a directory with a slash at its end, can lead to something below the prefix.
fn concerns(which: Which, prefix: &str, path: &str) -> bool {
    match which {
        _ if path.ends_with('/') => path.starts_with(prefix) || prefix.starts_with(path),
        Which::Objects => path.starts_with(prefix),
        // Its own name says nothing of the object's; the caller looks.
        Which::Uploads => true,
    }
}

fn stat(directory: &OwnedFd, name: &str) -> Result<Option<Stat>, Failed> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(errno(error)),
    }
}
