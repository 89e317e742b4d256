//! Where a cluster is restored to: its directories, checked before anything is fetched.

use std::{
    fs::{self, Metadata},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, lchown},
    path::{Path, PathBuf, absolute},
};

use super::{
    Error, MARKER, RestoreRequest,
    error::unwritten,
    settings::{AUTO, Files},
};
use crate::{
    model::backup::{ArchiveRoot, BackupId, Tablespace},
    pipeline::untar::HELD,
};

/// Configuration files larger than this are not looked into.
const CONFIGURATION_BYTES_MAX: u64 = 4 << 20;

/// Where a tablespace goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablespaceRule {
    /// Its name in SQL.
    pub name: String,
    /// Its new directory.
    pub location: PathBuf,
}

/// The directories of a cluster that is restored.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The data directory.
    pub(super) data: PathBuf,
    /// The tablespaces, where they will be.
    pub(super) tablespaces: Vec<Tablespace>,
}

impl Layout {
    /// Works out the directories, and refuses those that hold something already.
    pub(super) fn plan(request: &RestoreRequest) -> Result<Self, Error> {
        let data = absolute(&request.directory).map_err(unwritten(&request.directory))?;
        let spaces = &request.backup.tablespaces;
        for rule in &request.tablespaces {
            if !spaces.iter().any(|space| space.name == rule.name) {
                return Err(Error::UnknownTablespace(rule.name.clone()));
            }
        }
        let place = |space: &Tablespace| {
            let rule = request
                .tablespaces
                .iter()
                .find(|rule| rule.name == space.name);
            let location = rule.map_or(&space.location, |rule| &rule.location);
            let location = absolute(location).map_err(unwritten(location))?;
            Ok(Tablespace {
                location,
                ..space.clone()
            })
        };
        let layout = Self {
            tablespaces: spaces.iter().map(place).collect::<Result<_, Error>>()?,
            data,
        };
        layout.check()?;
        Ok(layout)
    }

    fn check(&self) -> Result<(), Error> {
        check_empty(&self.data)?;
        for (at, space) in self.tablespaces.iter().enumerate() {
            check_empty(&space.location)?;
            // A tablespace may lie in the data directory, as it may with PostgreSQL, but not the other way round.
            let others = self.tablespaces[..at].iter().map(|other| &other.location);
            for other in others {
                let overlaps =
                    other.starts_with(&space.location) || space.location.starts_with(other);
                if overlaps {
                    return Err(overlap(other, &space.location));
                }
            }
            if self.data.starts_with(&space.location) {
                return Err(overlap(&self.data, &space.location));
            }
        }
        Ok(())
    }

    /// Makes the directories.
    pub(super) fn make(&self) -> Result<(), Error> {
        for (_, path) in self.directories() {
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(path);
            made.map_err(unwritten(path))?;
        }
        Ok(())
    }

    /// Makes the directories and marks the data directory as incomplete.
    pub(super) fn prepare(&self, backup: &BackupId) -> Result<(), Error> {
        self.make()?;
        let marker = self.data.join(MARKER);
        let text = format!("The restore of the backup {backup} has not ended.\n");
        rewrite(&marker, &text).map_err(unwritten(&marker))
    }

    /// Every directory with the archives that go there.
    pub(super) fn directories(&self) -> impl Iterator<Item = (ArchiveRoot, &Path)> {
        let spaces = self.tablespaces.iter();
        let spaces = spaces.map(|space| {
            let root = ArchiveRoot::Tablespace(space.oid);
            (root, space.location.as_path())
        });
        std::iter::once((ArchiveRoot::Data, self.data.as_path())).chain(spaces)
    }

    /// The directory that an archive goes to.
    pub(super) fn directory(&self, root: ArchiveRoot) -> &Path {
        let found = self.directories().find(|(other, _)| *other == root);
        found.map_or(&self.data, |(_, path)| path)
    }
}

fn overlap(one: &Path, two: &Path) -> Error {
    Error::Overlap {
        one: one.to_owned(),
        two: two.to_owned(),
    }
}

fn check_empty(path: &Path) -> Result<(), Error> {
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unwritten(path)(error)),
    };
    if path.join(MARKER).exists() {
        return Err(Error::Unfinished(path.to_owned()));
    }
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Error::NotEmpty(path.to_owned())),
    }
}

/// The configuration files in a data directory: those directly in it, and in its directories that hold nothing else.
pub(super) fn configuration(data: &Path) -> Result<Files, Error> {
    let mut files = Files::new();
    let mut directories = Vec::new();
    for path in children(data)? {
        if path.is_dir() {
            // PostgreSQL's own directories hold no configuration.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with("pg_") && !matches!(&*name, "base" | "global" | "log") {
                directories.push(path);
            }
        } else {
            read_configuration(data, &path, &mut files)?;
        }
    }
    for directory in directories {
        for path in children(&directory)? {
            read_configuration(data, &path, &mut files)?;
        }
    }
    Ok(files)
}

fn read_configuration(data: &Path, path: &Path, files: &mut Files) -> Result<(), Error> {
    let is_configuration = path
        .extension()
        .is_some_and(|extension| extension == "conf");
    // Not through links: they are the original's.
    let Some(metadata) = fs::symlink_metadata(path).ok().filter(|_| is_configuration) else {
        return Ok(());
    };
    let name = path.file_name().unwrap_or_default();
    let is_access = name == "pg_hba.conf" || name == "pg_ident.conf";
    if !metadata.is_file() || metadata.len() > CONFIGURATION_BYTES_MAX || is_access {
        return Ok(());
    }
    let content = fs::read(path).map_err(unwritten(path))?;
    // What is no UTF-8 is no file that can be changed without harm.
    if let Ok(text) = String::from_utf8(content) {
        let relative = path.strip_prefix(data).unwrap_or(path).to_owned();
        files.insert(relative, text);
    }
    Ok(())
}

fn children(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(directory).map_err(unwritten(directory))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths
        .collect::<io::Result<_>>()
        .map_err(unwritten(directory))
}

/// Writes a file that only its owner can read, or replaces the content of one.
pub(super) fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// What a restore makes that no archive holds, and the label, which Barman stores as root's.
pub(super) fn made(data: &Path, spaces: &[Tablespace]) -> Vec<PathBuf> {
    let names = [
        "",
        AUTO,
        "recovery.signal",
        "standby.signal",
        "pg_wal",
        "pg_wal/archive_status",
        "pg_tblspc",
    ];
    let label = ["backup_label".to_owned(), format!("backup_label{HELD}")];
    let own = names.into_iter().map(|name| data.join(name));
    let own = own.chain(label.map(|name| data.join(name)));
    let links = spaces.iter();
    let links = links.map(|space| data.join("pg_tblspc").join(space.oid.to_string()));
    let spaces = spaces.iter().map(|space| space.location.clone());
    let all = own.chain(links).chain(spaces);
    all.filter(|path| path.symlink_metadata().is_ok()).collect()
}

/// Gives something to an owner.
pub(super) fn give(path: &Path, owner: &Metadata) -> io::Result<()> {
    lchown(path, Some(owner.uid()), Some(owner.gid()))
}
