//! Restoring an incremental backup: every backup of its chain is fetched, and `pg_combinebackup` makes one cluster of them.
//!
//! The backups are put beside one another in the directories that the cluster will have, so that the room that they take is where it is
//! needed, under a name that no cluster uses; what the program makes of them is moved to its place and the rest removed. That takes up to
//! three times the cluster's size for a while. Nothing is begun while a link of the chain is missing. Until the very end the control file
//! and the label have other names, as in every restore.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::{
    Error, RestorePorts, RestoreRequest,
    error::unwritten,
    extract::{self, Extraction},
    finish::LAST,
    layout::{self, Layout},
};
use crate::{
    model::{
        backup::{ArchiveRoot, Backup, BackupStatus, Tablespace},
        catalog::Catalog,
    },
    pipeline::untar::{Durability, HELD},
};

/// Where the backups of a chain lie while they are combined, in every directory of the cluster.
const CHAIN: &str = "barkeep-restore-chain";

/// Where they are combined.
const COMBINED: &str = "barkeep-restore-combined";

/// The program that combines them.
const PROGRAM: &str = "pg_combinebackup";

/// A backup and all that it builds on, the full one first. Refuses a chain of which a link is missing or not complete.
pub fn chain<'a>(catalog: &'a Catalog, backup: &'a Backup) -> Result<Vec<&'a Backup>, Error> {
    let mut chain = vec![backup];
    while let Some(parent) = &chain.last().expect("it has one").parent {
        let link = catalog.backup(parent).filter(|link| {
            let complete = link.status == BackupStatus::Done && link.missing_archive().is_none();
            // One that comes again runs in a circle.
            complete && chain.iter().all(|other| other.id != link.id)
        });
        let link = link.ok_or_else(|| Error::MissingLink {
            backup: backup.id.clone(),
            link: parent.clone(),
        })?;
        chain.push(link);
    }
    chain.reverse();
    Ok(chain)
}

/// Fetches a chain and combines it.
pub(super) async fn restore(
    request: &RestoreRequest,
    layout: &Layout,
    ports: &RestorePorts,
) -> Result<Extraction, Error> {
    check(request)?;
    let members: Vec<&Backup> = request.chain.iter().chain([&request.backup]).collect();
    let mut sources = Vec::new();
    for member in &members {
        sources.push(extract::sources(member, ports).await?);
    }
    layout.prepare(&request.backup.id)?;
    let mut extraction = None;
    let mut directories = Vec::new();
    for (member, sources) in members.iter().zip(sources) {
        let place = beside(layout, member);
        place.make()?;
        let extracted = extract::extract(sources, &place, ports).await?;
        complete(&place, &extracted)?;
        directories.push(place.data.clone());
        extraction = Some(extracted);
    }
    let last = extraction.expect("a chain has a member");
    let program = program(request)?;
    combine(
        &program,
        layout,
        &beside(layout, &request.backup),
        &directories,
        ports,
    )
    .await?;
    settle(layout)?;
    Ok(Extraction {
        destinations: extract::open(layout)?,
        extracted: last.extracted,
        memory: last.memory,
    })
}

/// That each backup builds on the one before it.
fn check(request: &RestoreRequest) -> Result<(), Error> {
    let members = request.chain.iter().chain([&request.backup]);
    let mut before: Option<&Backup> = None;
    for member in members {
        let expected = before.map(|before| &before.id);
        if member.parent.as_ref() != expected {
            return Err(Error::MissingLink {
                backup: request.backup.id.clone(),
                link: member.parent.clone().unwrap_or_else(|| member.id.clone()),
            });
        }
        before = Some(member);
    }
    Ok(())
}

/// The directories of one backup of the chain.
fn beside(layout: &Layout, member: &Backup) -> Layout {
    let id = member.id.as_str();
    let place = |space: &Tablespace| {
        let known = layout
            .tablespaces
            .iter()
            .find(|known| known.oid == space.oid);
        Tablespace {
            location: match known {
                Some(known) => known.location.join(CHAIN).join(id),
                // One that was dropped before the backup that is restored.
                None => layout.data.join(CHAIN).join(format!("{id}.{}", space.oid)),
            },
            ..space.clone()
        }
    };
    Layout {
        data: layout.data.join(CHAIN).join(id),
        tablespaces: member.tablespaces.iter().map(place).collect(),
    }
}

/// Makes a backup of the chain what the program expects: with all of its files, and linked tablespaces.
fn complete(place: &Layout, extraction: &Extraction) -> Result<(), Error> {
    for (root, destination) in &extraction.destinations {
        let finished = |source| Error::Finish {
            directory: place.directory(*root).to_owned(),
            source,
        };
        destination.finish(Durability::Leave).map_err(finished)?;
        if *root == ArchiveRoot::Data {
            for name in LAST {
                destination.release(name).map_err(finished)?;
            }
        }
    }
    let links = place.data.join("pg_tblspc");
    fs::create_dir_all(&links).map_err(unwritten(&links))?;
    for space in &place.tablespaces {
        let link = links.join(space.oid.to_string());
        symlink(&space.location, &link).map_err(unwritten(&link))?;
    }
    Ok(())
}

/// Where the program is: with the others of the cluster's version.
fn program(request: &RestoreRequest) -> Result<PathBuf, Error> {
    let mut candidates = request
        .programs
        .iter()
        .map(|directory| directory.join(PROGRAM));
    let found = candidates.find(|path| path.is_file());
    found.ok_or_else(|| Error::NoProgram {
        name: PROGRAM,
        major: request.backup.major().unwrap_or_default(),
    })
}

async fn combine(
    program: &Path,
    layout: &Layout,
    newest: &Layout,
    directories: &[PathBuf],
    ports: &RestorePorts,
) -> Result<(), Error> {
    let failed = |why: String| Error::Combine {
        program: program.to_owned(),
        why,
    };
    let mut command = Command::new(program);
    // The restore makes everything durable itself, at its end.
    command.arg("--no-sync").arg("--no-manifest");
    command.arg("--output").arg(layout.data.join(COMBINED));
    for space in &newest.tablespaces {
        let to = layout
            .directory(ArchiveRoot::Tablespace(space.oid))
            .join(COMBINED);
        command
            .arg("--tablespace-mapping")
            .arg(mapping(&space.location, &to));
    }
    command.args(directories).current_dir("/");
    command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = tokio::select! {
        () = ports.cancel.cancelled() => return Err(Error::Interrupted),
        output = command.output() => output.map_err(|error| failed(error.to_string()))?,
    };
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let told = told.lines().rev().find(|line| !line.trim().is_empty());
    Err(failed(told.unwrap_or("it says nothing").to_owned()))
}

/// `old=new`, with the equals signs of either escaped.
fn mapping(from: &Path, to: &Path) -> OsString {
    let escaped = |path: &Path| path.to_string_lossy().replace('=', "\\=");
    format!("{}={}", escaped(from), escaped(to)).into()
}

/// Moves what was combined to its place, and removes the rest.
fn settle(layout: &Layout) -> Result<(), Error> {
    let combined = layout.data.join(COMBINED);
    for name in LAST {
        let from = combined.join(name);
        let to = combined.join(format!("{name}{HELD}"));
        fs::rename(&from, &to).map_err(unwritten(&from))?;
    }
    // Links to where the program put tablespaces; the restore makes its own.
    for space in &layout.tablespaces {
        let link = combined.join("pg_tblspc").join(space.oid.to_string());
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unwritten(&link)(error));
            }
            _ => {}
        }
    }
    give(layout, &combined)?;
    for (_, directory) in layout.directories() {
        let combined = directory.join(COMBINED);
        for entry in fs::read_dir(&combined).map_err(unwritten(&combined))? {
            let from = entry.map_err(unwritten(&combined))?.path();
            let name = from.file_name().unwrap_or_default();
            let to = directory.join(name);
            fs::rename(&from, &to).map_err(unwritten(&to))?;
        }
        fs::remove_dir(&combined).map_err(unwritten(&combined))?;
        let chain = directory.join(CHAIN);
        fs::remove_dir_all(&chain).map_err(unwritten(&chain))?;
    }
    Ok(())
}

/// Run by root, the program makes files of root's: they belong to whoever owned the backed up ones.
fn give(layout: &Layout, combined: &Path) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let newest = layout.data.join(CHAIN);
    let mut members = fs::read_dir(&newest).map_err(unwritten(&newest))?;
    let version = members.find_map(|entry| {
        let path = entry.ok()?.path().join("PG_VERSION");
        fs::metadata(path).ok()
    });
    let Some(owner) = version else {
        return Ok(());
    };
    let spaces = layout
        .tablespaces
        .iter()
        .map(|space| space.location.join(COMBINED));
    let mut left: Vec<PathBuf> = spaces.chain([combined.to_owned()]).collect();
    while let Some(path) = left.pop() {
        layout::give(&path, &owner).map_err(unwritten(&path))?;
        let metadata = fs::symlink_metadata(&path).map_err(unwritten(&path))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(unwritten(&path))? {
                left.push(entry.map_err(unwritten(&path))?.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{backup::BackupId, scene::Scene};

    fn told(text: &str) -> String {
        let scene = Scene::distinct(&format!("none | {text}"));
        let catalog = &scene.catalog;
        let newest = catalog.backup(&BackupId::new("new")).expect("a backup");
        match chain(catalog, newest) {
            Ok(chain) => {
                let ids: Vec<_> = chain.iter().map(|backup| backup.id.as_str()).collect();
                ids.join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_chain_begins_with_a_full_backup() {
        assert_eq!(told("done 1d id:new"), "new");
        let three = "done 1d id:new parent:b | done 2d id:b parent:a | done 3d id:a | done 4d id:x";
        assert_eq!(told(three), "a b new");
    }

    #[test]
    fn a_chain_without_a_link_is_refused() {
        let missing = |link| {
            format!(
                "the backup `new` cannot be restored: `{link}`, a link of its chain, is missing or not complete"
            )
        };
        assert_eq!(told("done 1d id:new parent:a"), missing("a"));
        assert_eq!(
            told("done 1d id:new parent:a | failed 2d id:a"),
            missing("a")
        );
        assert_eq!(
            told("done 1d id:new parent:a | done 2d id:a empty:"),
            missing("a")
        );
        let circle = "done 1d id:new parent:a | done 2d id:a parent:new";
        assert_eq!(told(circle), missing("new"));
    }
}
