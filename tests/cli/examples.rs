//! What stands in the documents to be copied can be: configurations compile, command lines are barkeep's.
//!
//! Some pages are also run, step by step, in a clean root: `tests/packaging/clean-root`.

use std::fmt::Write as _;

use barkeep::{
    cli::args::Arguments,
    config::{Style, compile::compile, load::from_texts},
};
use clap::{Parser as _, error::ErrorKind};

use crate::documents::{documents, read};

const POLICIES: [&str; 6] = [
    "bronze",
    "dev",
    "gold",
    "silver",
    "snapshot-hourly",
    "worm-compliance",
];

/// What stands in a page between fences, with the word after the opening one.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in page.lines() {
        // A block within a list is moved in.
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(word)) => open = Some((word.trim(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Whether it is a whole configuration, not a fragment of one.
fn is_main(text: &str) -> bool {
    text.contains("version = 1")
}

/// What a fragment leaves to the rest of a configuration: the version, and the destinations that it names.
fn rest(text: &str) -> String {
    let mut rest = String::new();
    if !is_main(text) {
        rest.push_str("version = 1\n");
    }
    let mut missing: Vec<&str> = Vec::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let name = value.split('"').nth(1).unwrap_or_default();
        let defined = text.contains(&format!("[destinations.{name}]"));
        if ["destination", "copy_of", "control"].contains(&key.trim()) && !defined {
            missing.push(name);
        }
    }
    missing.sort_unstable();
    missing.dedup();
    for name in missing {
        let _ = write!(
            rest,
            "[destinations.{name}]\nurl = \"file:///srv/{name}\"\n"
        );
    }
    rest
}

/// The configurations of a block: itself, or where it is in no table, one for each line, which are alternatives.
fn configurations(text: String) -> Vec<String> {
    if text.lines().any(|line| line.trim_start().starts_with('[')) {
        return vec![text];
    }
    let settings = text.lines().filter(|line| !line.trim().is_empty());
    settings
        .map(|line| format!("[policies.shown]\n{line}\n"))
        .collect()
}

#[test]
fn every_configuration_in_a_document_compiles() {
    let policies = POLICIES.map(|name| read(&format!("policies/{name}.toml")));
    let mut compiled = 0;
    for document in documents() {
        let page = read(&document);
        let blocks = blocks(&page)
            .into_iter()
            .filter(|(word, _)| *word == "toml");
        for text in blocks.flat_map(|(_, text)| configurations(text)) {
            let rest = rest(&text);
            let mut texts = vec![("the rest", rest.as_str()), (&document, &text)];
            if is_main(&text) {
                texts.reverse();
            }
            // A page may show how a policy of such a name is written.
            let shipped = POLICIES
                .iter()
                .copied()
                .zip(policies.iter().map(String::as_str));
            texts.extend(shipped.filter(|(name, _)| !text.contains(&format!("[policies.{name}]"))));
            if let Err(report) = compile(from_texts(&texts)) {
                panic!("{document}: {}", report.render(Style::Plain));
            }
            compiled += 1;
        }
    }
    assert!(compiled > 10, "the blocks are found: {compiled}");
}

/// The words of a command line of a shell, up to where another command or a comment begins.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | ';') => break,
            (None, '#') if word.is_none() => break,
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_command_line_in_a_document_is_one() {
    let mut read_lines = 0;
    // Its lines are those of the help.
    for document in documents()
        .iter()
        .filter(|page| *page != "docs/commands.md")
    {
        let page = read(document);
        let text = blocks(&page).into_iter();
        let text: Vec<_> = text.map(|(_, text)| text.replace("\\\n", " ")).collect();
        for line in text.iter().flat_map(|text| text.lines()) {
            let line = line.trim_start();
            let line = line
                .strip_prefix("$ ")
                .or_else(|| line.strip_prefix("# "))
                .unwrap_or(line);
            let line = line.strip_prefix("sudo -u postgres ").unwrap_or(line);
            // What it prints begins with other words.
            if !line.starts_with("barkeep ") || line.starts_with("barkeep barman-cloud-") {
                continue;
            }
            if let Err(error) = Arguments::try_parse_from(words(line)) {
                let asked = matches!(
                    error.kind(),
                    ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
                );
                assert!(asked, "{document}: {line}: {error}");
            }
            read_lines += 1;
        }
    }
    assert!(read_lines > 30, "the lines are found: {read_lines}");
}
