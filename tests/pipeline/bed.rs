//! Where the programs are that the tests run against; see `tests/bed/README.md`.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

/// Answers what `bed.env` says, or says that the test is skipped; with `CI` set that is a failure.
pub(crate) fn value(key: &str) -> Option<String> {
    let found = values().remove(key);
    if found.is_none() {
        assert!(variable("CI").is_none(), "`{key}` is not in the test bed");
        note(&format!("skipped: `{key}` is not in the test bed"));
    }
    found
}

/// Runs a program to its end and insists on its success.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn values() -> BTreeMap<String, String> {
    let file = variable("BARKEEP_BED").map(PathBuf::from).or_else(|| {
        let cache = variable("BARKEEP_CACHE").map(PathBuf::from);
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".cache/barkeep"));
        Some(cache.or_else(home)?.join("bed.env"))
    });
    let text = file.and_then(|file| fs::read_to_string(file).ok());
    text.unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the tests' own settings, not the program's"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::print_stderr, reason = "a skipped test has to say so")]
fn note(text: &str) {
    eprintln!("{text}");
}
