//! What is read when everything else has been read: the control file, configuration from outside PGDATA, the backup label.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Error, copy::LastFile, walk::Attributes};
use crate::{
    pipeline::tar::FileTime,
    postgres::{
        BackupStop, ServerFacts,
        control_file::{self, ControlFile},
    },
};

/// How often a control file that was caught half written is read again.
const CONTROL_ATTEMPTS: usize = 10;

const LABEL_MODE: u32 = 0o600;

/// The names that configuration from outside gets in the root of the archive.
pub(super) fn outside(facts: &ServerFacts) -> Vec<OsString> {
    let names = facts.outside_files().filter_map(Path::file_name);
    names.map(ToOwned::to_owned).collect()
}

/// Where something below the server's data directory is on this host.
pub(super) fn here(path: &Path, data_directory: &Path, pgdata: &Path) -> PathBuf {
    match path.strip_prefix(data_directory) {
        Ok(below) => pgdata.join(below),
        Err(_outside) => path.to_owned(),
    }
}

/// The control file, and then the configuration from outside PGDATA under its bare names, as Barman stores it.
///
/// An ident file may be missing; PostgreSQL starts without one.
pub(super) fn before_stop(pgdata: &Path, facts: &ServerFacts) -> Result<Vec<LastFile>, Error> {
    let mut files = vec![control_file(pgdata)?];
    for path in facts.outside_files() {
        let is_optional = facts.ident_file.as_deref() == Some(path);
        let content = match fs::read(path) {
            Ok(content) => content,
            Err(error) if is_optional && error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(unread(path)(source)),
        };
        let name = path.file_name().expect("a configuration file has a name");
        files.push(LastFile {
            name: name.as_encoded_bytes().to_vec(),
            attributes: attributes(path)?,
            content,
        });
    }
    Ok(files)
}

/// What recovery starts from.
pub(super) fn backup_label(pgdata: &Path, stop: &BackupStop) -> Result<LastFile, Error> {
    Ok(LastFile {
        name: b"backup_label".to_vec(),
        content: stop.backup_label.as_bytes().to_vec(),
        attributes: Attributes {
            mode: LABEL_MODE,
            modified: FileTime {
                seconds: stop.time.unix_seconds(),
                nanoseconds: 0,
            },
            ..attributes(pgdata)?
        },
    })
}

pub(super) fn control_file(pgdata: &Path) -> Result<LastFile, Error> {
    let path = pgdata.join("global/pg_control");
    let mut last = control_file::Error::Checksum;
    for _ in 0..CONTROL_ATTEMPTS {
        let content = fs::read(&path).map_err(unread(&path))?;
        match ControlFile::parse(&content) {
            Ok(_) => {
                return Ok(LastFile {
                    name: b"global/pg_control".to_vec(),
                    attributes: attributes(&path)?,
                    content,
                });
            }
            Err(error) => last = error,
        }
    }
    Err(Error::ControlFile { path, source: last })
}

fn attributes(path: &Path) -> Result<Attributes, Error> {
    let metadata = fs::metadata(path).map_err(unread(path))?;
    Ok(Attributes::of(&metadata))
}

fn unread(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Read { path, source }
}
