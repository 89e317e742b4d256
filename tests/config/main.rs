//! What is shipped with the program and what it reads: configuration files, policies, examples,
//! documents.
//!
//! Files only; no network, no server, no secret.

mod documents;
mod files;
mod shipped;

use std::path::{Path, PathBuf};

use barkeep::config::{self, Compiled, Style};

/// A path in the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compiles a file; a test fails with everything that is wrong with it.
fn read(path: &Path) -> Compiled {
    config::read(path, None).unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)))
}
