//! Finding a cluster's files while it runs.
//!
//! The walk streams: it holds one open directory per level and nothing else. What vanishes under its feet is no error, and what
//! cannot be read is one that names the path. Nothing is read but directories, links and metadata.

use std::{
    fs::{self, Metadata},
    io,
    ops::ControlFlow,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::exclude::{Rules, Shape, Verdict};
use crate::{model::backup::ArchiveRoot, pipeline::tar::FileTime};

/// A directory tree to be stored.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// Whose files they are.
    pub(super) root: ArchiveRoot,
    /// Where they are.
    pub(super) path: PathBuf,
    /// What is left out.
    pub(super) rules: Rules,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FoundKind {
    /// A directory.
    Directory,
    /// A regular file; its size when it was found.
    File(u64),
    /// A symbolic link and where it points.
    Symlink(PathBuf),
    /// A named pipe.
    Fifo,
}

/// An entry to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Whose file it is.
    pub(super) root: ArchiveRoot,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its path below the root; empty for the root itself.
    pub(super) relative: PathBuf,
    /// What it is.
    pub(super) kind: FoundKind,
    /// Who owns it, what may be done to it, when it was changed.
    pub(super) attributes: Attributes,
}

/// What a tar header tells beside name, kind and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    /// Type and permissions.
    pub(super) mode: u32,
    /// The owner.
    pub(super) uid: u32,
    /// The group.
    pub(super) gid: u32,
    /// When its content was changed.
    pub(super) modified: FileTime,
}

impl Attributes {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            modified: FileTime {
                seconds: metadata.mtime(),
                nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
            },
        }
    }
}

/// What a walk tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// An entry to be stored.
    Found(Found),
    /// A link to a directory that is neither stored nor followed.
    DirectoryLink(PathBuf),
    /// A socket or a device, which no archive can hold.
    Special(PathBuf),
}

/// A directory, a link or metadata could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`", path.display())]
pub(super) struct WalkError {
    /// What could not be read.
    pub(super) path: PathBuf,
    /// Why.
    pub(super) source: io::Error,
}

/// Shows everything in a tree that is to be stored, a directory before what is in it, until told to stop.
///
/// The root itself is shown for a data directory only, as in Barman's archives.
pub(super) fn walk(
    tree: &Tree,
    show: &mut dyn FnMut(Sight) -> ControlFlow<()>,
) -> Result<(), WalkError> {
    let metadata = fs::metadata(&tree.path).map_err(unread(&tree.path))?;
    if tree.root == ArchiveRoot::Data {
        let root = found(
            tree,
            &tree.path,
            Path::new(""),
            FoundKind::Directory,
            &metadata,
        );
        if show(Sight::Found(root)).is_break() {
            return Ok(());
        }
    }
    let first = fs::read_dir(&tree.path).map_err(unread(&tree.path))?;
    let mut levels = vec![(PathBuf::new(), first)];
    while let Some((directory, entries)) = levels.last_mut() {
        let Some(entry) = entries.next() else {
            levels.pop();
            continue;
        };
        let entry = entry.map_err(unread(&tree.path.join(&*directory)))?;
        let relative = directory.join(entry.file_name());
        let Some(step) = look(tree, &relative)? else {
            continue;
        };
        let below = step.descend.then(|| step.path.clone());
        if show(step.sight).is_break() {
            return Ok(());
        }
        if let Some(path) = below {
            match fs::read_dir(&path) {
                Ok(entries) => levels.push((relative, entries)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unread(&path)(error)),
            }
        }
    }
    Ok(())
}

struct Step {
    sight: Sight,
    path: PathBuf,
    descend: bool,
}

/// What is at a path; nothing if it is left out or has vanished.
fn look(tree: &Tree, relative: &Path) -> Result<Option<Step>, WalkError> {
    let path = tree.path.join(relative);
    let Some(metadata) = present(fs::symlink_metadata(&path), &path)? else {
        return Ok(None);
    };
    let file_type = metadata.file_type();
    let (shape, metadata) = if file_type.is_symlink() {
        // A dangling link, or one into a place that may not be read, is stored as a link.
        match fs::metadata(&path) {
            Ok(behind) if behind.is_dir() => (Shape::DirectoryLink, behind),
            _ => (Shape::Other, metadata),
        }
    } else if file_type.is_dir() {
        (Shape::Directory, metadata)
    } else {
        (Shape::Other, metadata)
    };
    let verdict = tree.rules.judge(relative, shape);
    if matches!(verdict, Verdict::Leave | Verdict::Last) {
        return Ok(None);
    }
    let step = |sight, descend| {
        let path = path.clone();
        Ok(Some(Step {
            sight,
            path,
            descend,
        }))
    };
    let show = |kind| Sight::Found(found(tree, &path, relative, kind, &metadata));
    let is_followed = verdict == Verdict::Empty || tree.rules.follows(relative);
    match shape {
        Shape::Directory => step(show(FoundKind::Directory), verdict == Verdict::Include),
        Shape::DirectoryLink if is_followed => {
            step(show(FoundKind::Directory), verdict == Verdict::Include)
        }
        Shape::DirectoryLink => step(Sight::DirectoryLink(path.clone()), false),
        Shape::Other if file_type.is_symlink() => match present(fs::read_link(&path), &path)? {
            Some(target) => step(show(FoundKind::Symlink(target)), false),
            None => Ok(None),
        },
        Shape::Other if file_type.is_file() => step(show(FoundKind::File(metadata.len())), false),
        Shape::Other if file_type.is_fifo() => step(show(FoundKind::Fifo), false),
        Shape::Other => step(Sight::Special(path.clone()), false),
    }
}

fn found(tree: &Tree, path: &Path, relative: &Path, kind: FoundKind, metadata: &Metadata) -> Found {
    Found {
        root: tree.root,
        path: path.to_owned(),
        relative: relative.to_owned(),
        kind,
        attributes: Attributes::of(metadata),
    }
}

fn present<T>(result: io::Result<T>, path: &Path) -> Result<Option<T>, WalkError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unread(path)(error)),
    }
}

fn unread(path: &Path) -> impl FnOnce(io::Error) -> WalkError + use<> {
    let path = path.to_owned();
    move |source| WalkError { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn cluster() -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("a directory");
        let pgdata = home.path().join("data");
        for directory in [
            "base/5",
            "base/pgsql_tmp",
            "global",
            "pg_tblspc",
            "pg_replslot/x/y",
            "tsin/PG_17_1/5",
            "log/a/b",
        ] {
            fs::create_dir_all(pgdata.join(directory)).expect("a directory");
        }
        for file in [
            "PG_VERSION",
            "postmaster.pid",
            "base/5/1259",
            "base/5/t1_2",
            "base/pgsql_tmp/pgsql_tmp1.0",
            "global/pg_control",
            "pg_replslot/x/y/state",
            "tsin/PG_17_1/5/16400",
            "log/a/b/c",
        ] {
            fs::write(pgdata.join(file), file).expect("a file");
        }
        let outside = home.path().join("wal");
        fs::create_dir_all(outside.join("archive_status")).expect("a directory");
        symlink(&outside, pgdata.join("pg_wal")).expect("a link");
        symlink(home.path().join("ts"), pgdata.join("pg_tblspc/16399")).expect("a link");
        fs::create_dir(home.path().join("ts")).expect("a directory");
        symlink(&outside, pgdata.join("elsewhere")).expect("a link");
        symlink("/nowhere", pgdata.join("dangling")).expect("a link");
        home
    }

    fn shown(tree: &Tree) -> Vec<String> {
        let mut seen = Vec::new();
        walk(tree, &mut |sight| {
            seen.push(match sight {
                Sight::Found(found) => {
                    let path = found.relative.display().to_string();
                    match found.kind {
                        FoundKind::Directory => format!("{path}/"),
                        FoundKind::Symlink(target) => format!("{path} -> {}", target.display()),
                        FoundKind::File(_) | FoundKind::Fifo => path,
                    }
                }
                Sight::DirectoryLink(path) | Sight::Special(path) => {
                    format!("! {}", path.file_name().expect("a name").display())
                }
            });
            ControlFlow::Continue(())
        })
        .expect("a walk");
        seen.sort();
        seen
    }

    #[test]
    fn a_walk_shows_what_is_stored_and_prunes_what_is_not() {
        let home = cluster();
        let pgdata = home.path().join("data");
        let tree = Tree {
            root: ArchiveRoot::Data,
            rules: Rules::data(&pgdata, &[pgdata.join("tsin")]),
            path: pgdata,
        };
        assert_eq!(
            shown(&tree),
            [
                "! elsewhere",
                "/",
                "PG_VERSION",
                "base/",
                "base/5/",
                "base/5/1259",
                "dangling -> /nowhere",
                "global/",
                "log/",
                "pg_replslot/",
                "pg_tblspc/",
                "pg_wal/",
            ]
        );
    }

    #[test]
    fn a_tablespace_is_shown_without_its_root() {
        let home = cluster();
        let tree = Tree {
            root: ArchiveRoot::Tablespace(16400),
            path: home.path().join("data/tsin"),
            rules: Rules::tablespace(16400, 17),
        };
        assert_eq!(shown(&tree), ["PG_17_1/", "PG_17_1/5/", "PG_17_1/5/16400"]);
    }

    #[test]
    fn a_missing_root_is_an_error_that_names_it() {
        let tree = Tree {
            root: ArchiveRoot::Data,
            path: PathBuf::from("/nowhere/data"),
            rules: Rules::tablespace(1, 17),
        };
        let error = walk(&tree, &mut |_| ControlFlow::Continue(())).expect_err("no root");
        assert_eq!(error.to_string(), "cannot read `/nowhere/data`");
    }
}
