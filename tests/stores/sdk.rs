//! The clouds' own clients for Python, as Barman has them: what they make of the services that the tests pretend.

use std::{path::Path, process::Command};

use crate::support::bed::{bed, run};

/// Runs a script of `sdk` with an argument. Returns what it prints; `None` after saying that Barman is not installed.
pub(crate) fn ask(script: &str, argument: &str) -> Option<String> {
    let python = bed().get("BARMAN_BIN")?.join("python");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores/sdk");
    Some(run(Command::new(python)
        .arg(scripts.join(script))
        .arg(argument)
        .env("PYTHONDONTWRITEBYTECODE", "1")))
}
