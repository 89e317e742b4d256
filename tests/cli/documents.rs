//! The documents say what the program does, and lead somewhere.
//!
//! `BLESS=1 cargo test --test cli` writes those that are generated.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use barkeep::cli::{args::Arguments, exit::Exit, reference::reference};
use clap::CommandFactory as _;

/// A path in the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether whoever runs the tests wants generated files rewritten.
#[expect(
    clippy::disallowed_methods,
    reason = "who runs the test says whether files are rewritten"
)]
pub(crate) fn blessed() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// Compares a file with what it should be, or writes it.
pub(crate) fn compare(path: &str, text: &str) {
    if blessed() {
        fs::write(repository(path), text).expect("write the file");
    }
    let written = fs::read_to_string(repository(path)).unwrap_or_default();
    let changed = written
        .lines()
        .zip(text.lines())
        .find(|(old, new)| old != new);
    assert!(
        written == text,
        "{path} is not what the program says; run `BLESS=1 cargo test --test cli`: {changed:?}"
    );
}

/// Every document, by its path in the repository.
pub(crate) fn documents() -> Vec<String> {
    let directories = ["", "docs", "benches", "packaging", "tests/bed"];
    let mut documents = Vec::new();
    for directory in directories {
        for entry in fs::read_dir(repository(directory)).expect("read the directory") {
            let name = entry.expect("an entry").file_name();
            let path = Path::new(directory).join(name);
            if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(path.display().to_string());
            }
        }
    }
    documents.sort();
    documents
}

/// The text between two marks, wherever they are.
fn between<'a>(text: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
    text.split(open)
        .skip(1)
        .filter_map(move |rest| rest.split(close).next())
}

#[test]
fn the_reference_describes_every_command() {
    compare("docs/commands.md", &reference());
}

#[test]
fn every_exit_code_is_documented_as_it_is() {
    let page = read("docs/exit-codes.md");
    let rows: Vec<&str> = page
        .lines()
        .skip_while(|line| *line != "| code | meaning |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let table = Exit::TABLE.map(|(_, code, meaning)| format!("| {code} | {meaning} |"));
    assert_eq!(rows, table);
}

#[test]
fn every_quirk_is_decided() {
    let page = read("docs/quirks.md");
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut numbers = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, fact, decision, reason, drop_in] = cells[..] else {
            panic!("{row}");
        };
        numbers.push(number.parse::<u32>().expect("a number"));
        for word in decision.split(", ") {
            assert!(["reproduce", "fix", "later"].contains(&word), "{row}");
        }
        assert!(!fact.is_empty() && !reason.is_empty(), "{row}");
        let decided = ["the same", "reproduced", "fixed", "later"];
        assert!(
            decided.iter().any(|word| drop_in.starts_with(word)),
            "{row}"
        );
    }
    assert_eq!(numbers, (1..=93).collect::<Vec<_>>());
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let text = read(&document);
        let directory = repository(&document);
        let directory = directory.parent().expect("it is in a directory");
        for link in between(&text, "](", ')').filter(|link| !link.contains("://")) {
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = directory.join(file);
            let target = if file.is_empty() {
                repository(&document)
            } else {
                target
            };
            assert!(target.exists(), "{document}: {link}");
            if !fragment.is_empty() {
                let page = fs::read_to_string(&target).expect("read it");
                let mut headings = page.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|heading| anchor(heading) == fragment),
                    "{document}: {link}"
                );
            }
        }
    }
}

#[test]
fn every_page_that_is_mentioned_exists() {
    let mut sources = documents();
    let mut pending = vec![
        repository("src"),
        repository("examples"),
        repository("policies"),
    ];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("read the directory");
            pending.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else {
            sources.push(path.display().to_string());
        }
    }
    for source in sources {
        let text = read(&source);
        let pages = text.replace("docs/status-page.png", "");
        for name in between(&pages, "docs/", '.') {
            let is_page =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if is_page {
                assert!(
                    repository(&format!("docs/{name}.md")).exists(),
                    "{source}: docs/{name}.md"
                );
            }
        }
    }
}

#[test]
fn every_command_in_a_document_exists() {
    let mut program = Arguments::command();
    program.build();
    let commands: BTreeSet<&str> = program
        .get_subcommands()
        .map(clap::Command::get_name)
        .collect();
    let mut sources = documents();
    sources.extend(
        [
            "examples/01-one-server.toml",
            "examples/02-s3.toml",
            "examples/demo",
        ]
        .map(str::to_owned),
    );
    for source in sources.iter().filter(|source| *source != "CHANGELOG.md") {
        let text = read(source);
        for command in between(&text, "`barkeep ", '`') {
            let word = command.split_whitespace().next().unwrap_or_default();
            let is_word = word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            let is_command = is_word && !word.starts_with('-');
            assert!(
                !is_command || commands.contains(word),
                "{source}: barkeep {command}"
            );
        }
    }
}

/// The paths that ARCHITECTURE.md names in its code map.
#[test]
fn every_file_in_the_code_map_exists_and_every_module_is_in_it() {
    let text = read("ARCHITECTURE.md");
    let map = between(&text, "## Code map", '#')
        .next()
        .expect("there is a code map");
    for path in between(map, "`", '`').filter(|path| path.starts_with("src/")) {
        assert!(repository(path).exists(), "{path}");
    }
    let modules = read("src/lib.rs");
    for module in between(&modules, "\npub mod ", ';') {
        let named =
            map.contains(&format!("`src/{module}/")) || map.contains(&format!("`src/{module}.rs`"));
        assert!(named, "{module} is not in the code map");
    }
}
