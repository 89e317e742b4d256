//! Making a cluster of what was extracted: links, configuration, durability, and at last the names without which it cannot start.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use super::{
    Becomes, Error, MARKER, Override, Recovery, RestoreRequest, RestoredCluster,
    error::unwritten,
    extract::Extraction,
    layout::{self, Layout},
    settings,
};
use crate::{
    model::backup::{ArchiveRoot, Tablespace},
    pipeline::untar::{Destination, EntryKind, Extracted},
};

/// The files without which nothing starts, in the order in which they get their names.
pub(super) const LAST: [&str; 2] = ["backup_label", "global/pg_control"];

/// Files of the original's present that must not act in a copy.
const INHERITED: [&str; 7] = [
    "standby.signal",
    "recovery.signal",
    "recovery.conf",
    "postmaster.pid",
    "postmaster.opts",
    "tablespace_map",
    "current_logfiles",
];

/// Everything after the last byte: blocks.
pub(super) fn finish(
    request: &RestoreRequest,
    layout: &Layout,
    extraction: &Extraction,
) -> Result<RestoredCluster, Error> {
    let directory = &layout.data;
    make_directories(directory, request)?;
    for space in &layout.tablespaces {
        let link = directory.join("pg_tblspc").join(space.oid.to_string());
        match symlink(&space.location, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link).map_err(unwritten(&link))?;
                symlink(&space.location, &link).map_err(unwritten(&link))?;
            }
            made => made.map_err(unwritten(&link))?,
        }
    }
    let (removed, overrides) = match &request.recovery {
        Some(recovery) => (
            remove_inherited(directory)?,
            configure(directory, recovery)?,
        ),
        None => (Vec::new(), Vec::new()),
    };
    give_to_owner(directory, &layout.tablespaces)?;
    for destination in extraction.destinations.values() {
        destination
            .finish(request.durability)
            .map_err(|source| Error::Finish {
                directory: directory.clone(),
                source,
            })?;
    }
    close_to_others(directory)?;
    release(
        request,
        directory,
        &extraction.destinations[&ArchiveRoot::Data],
    )?;
    let all = || extraction.extracted.values().flatten();
    Ok(RestoredCluster {
        directory: directory.clone(),
        tablespaces: layout.tablespaces.clone(),
        files: all().map(|archive| archive.files).sum(),
        bytes: all().map(|archive| archive.bytes).sum(),
        removed,
        overrides,
        links: outward_links(layout, &extraction.extracted),
        memory: extraction.memory,
    })
}

/// Makes a cluster that came as a whole recover: removes what of the original's present must not act in it, and writes its settings. Blocks.
pub(in crate::recover) fn settle(
    directory: &Path,
    recovery: &Recovery,
) -> Result<(Vec<PathBuf>, Vec<Override>), Error> {
    let mut removed = remove_inherited(directory)?;
    removed.extend(remove_slots(directory)?);
    let overrides = configure(directory, recovery)?;
    give_to_owner(directory, &[])?;
    sync_directory(directory)?;
    Ok((removed, overrides))
}

/// Replication slots of the original would hold back WAL here for nobody.
fn remove_slots(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let slots = directory.join("pg_replslot");
    let entries = match fs::read_dir(&slots) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unwritten(&slots))?,
    };
    let mut removed = Vec::new();
    for entry in entries {
        let path = entry.map_err(unwritten(&slots))?.path();
        fs::remove_dir_all(&path).map_err(unwritten(&path))?;
        removed.push(path.strip_prefix(directory).unwrap_or(&path).to_owned());
    }
    Ok(removed)
}

/// A server refuses a data directory that others may look into; an archive need not say what its root may.
fn close_to_others(directory: &Path) -> Result<(), Error> {
    const ALLOWED: u32 = 0o750;
    let metadata = fs::metadata(directory).map_err(unwritten(directory))?;
    let mut permissions = metadata.permissions();
    if permissions.mode() & 0o777 & !ALLOWED == 0 {
        return Ok(());
    }
    permissions.set_mode(0o700);
    fs::set_permissions(directory, permissions).map_err(unwritten(directory))
}

/// Gives the last files their names, when everything else is safe.
fn release(
    request: &RestoreRequest,
    directory: &Path,
    destination: &Destination,
) -> Result<(), Error> {
    for name in LAST {
        let released = destination.release(name).map_err(|source| Error::Finish {
            directory: directory.to_owned(),
            source,
        })?;
        if !released {
            return Err(Error::MissingFile {
                backup: request.backup.id.clone(),
                name,
            });
        }
    }
    let marker = directory.join(MARKER);
    fs::remove_file(&marker).map_err(unwritten(&marker))?;
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> Result<(), Error> {
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(unwritten(directory))
}

/// The directories that a server expects and a backup may lack.
fn make_directories(directory: &Path, request: &RestoreRequest) -> Result<(), Error> {
    // PostgreSQL makes the other one itself; what adds nothing adds not even that.
    let wal = match request.recovery {
        Some(_) => "pg_wal/archive_status",
        None => "pg_wal",
    };
    for name in [wal, "pg_tblspc"] {
        let path = directory.join(name);
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path);
        made.map_err(unwritten(&path))?;
    }
    Ok(())
}

fn remove_inherited(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    for name in INHERITED {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Ok(()) => removed.push(PathBuf::from(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unwritten(&path)(error)),
        }
    }
    Ok(removed)
}

/// Writes the recovery settings, and overrides what would not work here.
fn configure(directory: &Path, recovery: &Recovery) -> Result<Vec<Override>, Error> {
    let files = layout::configuration(directory)?;
    let changes = settings::adapt(directory, &files, recovery, &|path| path.exists());
    for (path, text) in &changes.files {
        let path = directory.join(path);
        layout::rewrite(&path, text).map_err(unwritten(&path))?;
    }
    let signal = directory.join(match recovery.becomes {
        Becomes::Primary => "recovery.signal",
        Becomes::Standby => "standby.signal",
    });
    layout::rewrite(&signal, "").map_err(unwritten(&signal))?;
    Ok(changes.overrides)
}

/// Run by root, what was made here belongs to whoever owned the data directory.
fn give_to_owner(directory: &Path, spaces: &[Tablespace]) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let path = directory.join("PG_VERSION");
    let owner = fs::metadata(&path).map_err(unwritten(&path))?;
    for path in layout::made(directory, spaces) {
        layout::give(&path, &owner).map_err(unwritten(&path))?;
    }
    Ok(())
}

/// Links that lead elsewhere; those of tablespaces are known.
fn outward_links(
    layout: &Layout,
    extracted: &BTreeMap<ArchiveRoot, Vec<Extracted>>,
) -> Vec<(PathBuf, PathBuf)> {
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let mut links = Vec::new();
    for (root, archives) in extracted {
        let directory = layout.directory(*root);
        for special in archives.iter().flat_map(|archive| &archive.special) {
            if let EntryKind::Symlink(target) = &special.kind {
                links.push((directory.join(path(&special.name)), path(target)));
            }
        }
    }
    links
}
