//! What a delete would do, in Barman's words, object by object.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    super::{arguments::Connection, error::Error},
    desk::Desk,
};
use crate::{
    cli::output,
    format::{
        keys::{ArchiveName, BASE, ObjectKey, WALS, WalObject},
        python::Value,
    },
    model::{
        backup::{ArchiveRoot, Backup, BackupId},
        location::Location,
        wal::WalFile,
        wal_expiry::{Cycle, Going, barman_cycles},
    },
    store::StoreExt as _,
};

/// Tells it on standard output.
pub(super) async fn tell(desk: &Desk, connection: &Connection, going: &Going) -> Result<(), Error> {
    let mut telling = Telling {
        desk,
        root: root(connection, desk)?,
        directories: Vec::new(),
        files: BTreeMap::new(),
        text: String::new(),
    };
    if !going.backups.is_empty() {
        telling.list_wal(connection).await?;
    }
    for (id, cycle) in barman_cycles(&desk.catalog, going) {
        telling.backup(&id);
        if let Some(cycle) = cycle {
            telling.wal(&cycle);
        }
    }
    Ok(output::data(&telling.text)?)
}

/// What lies in front of a catalog's own paths in a bucket.
fn root(connection: &Connection, desk: &Desk) -> Result<String, Error> {
    let prefix = match connection.location()? {
        Location::S3 { prefix, .. }
        | Location::Gcs { prefix, .. }
        | Location::Azure { prefix, .. } => prefix,
        Location::Directory { .. } => String::new(),
    };
    let server = desk.archive.server();
    Ok(match prefix.as_str() {
        "" => format!("{server}/"),
        prefix => format!("{prefix}/{server}/"),
    })
}

struct Telling<'a> {
    desk: &'a Desk,
    root: String,
    /// The directories of the WAL archive, where the store can delete a whole one.
    directories: Vec<String>,
    /// The paths of WAL files; of several for one file, the last counts.
    files: BTreeMap<String, (WalFile, String)>,
    text: String,
}

impl Telling<'_> {
    async fn list_wal(&mut self, connection: &Connection) -> Result<(), Error> {
        let archive = &self.desk.archive;
        if matches!(connection.location()?, Location::S3 { .. }) {
            let (directories, _) = archive.store().list_children(&archive.prefix(WALS)).await?;
            let strip = |key: &String| {
                key.strip_prefix(archive.server())?
                    .strip_prefix('/')
                    .map(str::to_owned)
            };
            self.directories = directories.iter().filter_map(strip).collect();
        }
        for meta in archive.objects(WALS).await? {
            if let Some(ObjectKey::Wal(object)) = archive.parse(&meta.key) {
                let WalObject { file, .. } = object;
                self.files
                    .insert(file.to_string(), (file, object.to_string()));
            }
        }
        Ok(())
    }

    fn line(&mut self, what: &str) {
        let line = format!("Skipping deletion of {what} due to --dry-run option");
        writeln!(self.text, "{line}").expect("a string grows");
    }

    fn objects(&mut self, paths: impl IntoIterator<Item = String>) {
        let paths = paths.into_iter().map(|path| format!("{}{path}", self.root));
        let paths = Value::List(paths.map(Value::Str).collect());
        self.line(&format!("objects {paths}"));
    }

    fn backup(&mut self, id: &BackupId) {
        let Some(backup) = self.desk.catalog.backup(id) else {
            return;
        };
        if !backup.snapshots.is_empty() {
            self.line("snapshots");
            let label = format!("{}{BASE}{id}/backup_label", self.root);
            self.line(&label);
        }
        let archives = archives(backup).into_iter();
        let info = std::iter::once(ObjectKey::info(id).to_string());
        self.objects(archives.chain(info).collect::<Vec<_>>());
    }

    fn wal(&mut self, cycle: &Cycle) {
        let whole = |path: &&String| {
            let name = path
                .strip_prefix(WALS)
                .and_then(|name| name.strip_suffix('/'));
            let segment = name
                .filter(|name| name.len() == 16)
                .map(|name| format!("{name}00000000"));
            let segment = segment.and_then(|name| name.parse().ok());
            segment.is_some_and(|segment: crate::model::wal::SegmentName| {
                cycle.removes_directory(segment.timeline, segment.log)
            })
        };
        let whole: Vec<String> = self.directories.iter().filter(whole).cloned().collect();
        for directory in &whole {
            self.line(&format!(
                "all objects under prefix {}{directory}",
                self.root
            ));
        }
        let goes = |(_, (file, path)): &(&String, &(WalFile, String))| {
            cycle.removes_file(*file) && !whole.iter().any(|directory| path.starts_with(directory))
        };
        let gone: Vec<_> = self
            .files
            .iter()
            .filter(goes)
            .map(|(name, (_, path))| (name.clone(), path.clone()))
            .collect();
        if gone.is_empty() {
            return;
        }
        let mut paths: Vec<_> = gone.iter().map(|(_, path)| path.clone()).collect();
        paths.sort();
        self.objects(paths);
        for (name, _) in gone {
            self.files.remove(&name);
        }
    }
}

/// The archives of a backup: the cluster's first, then those of its tablespaces.
fn archives(backup: &Backup) -> Vec<String> {
    let known = |root: ArchiveRoot| match root {
        ArchiveRoot::Data => true,
        ArchiveRoot::Tablespace(oid) => backup.tablespaces.iter().any(|space| space.oid == oid),
    };
    let archives = backup.archives.iter().filter(|archive| known(archive.root));
    let key = |archive| ObjectKey::archive(&backup.id, ArchiveName::from(archive)).to_string();
    archives.map(key).collect()
}
