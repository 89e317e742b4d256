//! A file that a command writes for the first time: none is ever overwritten.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use crate::cli::error::Error;

/// Whoever runs a command needs to read it, and nobody else needs to change it.
const MODE: u32 = 0o644;

/// Refuses a file that is there already, before anything is done.
pub(super) fn refuse(path: &Path) -> Result<(), Error> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let path = path.display();
    Err(Error::Usage(format!(
        "`{path}` is there already, and is not overwritten"
    )))
}

/// Writes a file that does not exist yet.
pub(super) fn create(path: &Path, text: &str) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(MODE);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| Error::File {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}
