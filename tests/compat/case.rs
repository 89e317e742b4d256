//! Tables of command lines: the files below `cases`.
//!
//! `in STATE` says with which catalog the following lines begin. A line is a command line in a shell's manner, with quotes and with
//! variables in front; `{url}`, `{bucket}`, `{missing}` and `{LABEL}` of a backup are filled in. What ends otherwise than Barman's is told behind
//! `##`: the row of `docs/quirks.md` that says why, and which of `code`, `stdout` and `objects` differ;
//! `objects@s3+azure` differ only on those.

use std::collections::BTreeMap;

use crate::support::cloud::Cloud;

/// One command line.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The catalog that it begins with.
    pub(crate) state: String,
    /// As written, for messages.
    pub(crate) line: String,
    words: Vec<String>,
    /// What may, and must, differ.
    pub(crate) differs: Vec<String>,
    /// Because of which row.
    pub(crate) row: Option<u32>,
}

impl Case {
    /// Variables, the program and its arguments, with all places filled in.
    pub(crate) fn filled(&self, fill: &dyn Fn(&str) -> String) -> Filled {
        let mut variables = BTreeMap::new();
        let mut words = Vec::new();
        for word in &self.words {
            let word = fill(word);
            match word.split_once('=') {
                Some((name, value)) if words.is_empty() => {
                    variables.insert(name.to_owned(), value.to_owned());
                }
                _ => words.push(word),
            }
        }
        let program = words.remove(0);
        Filled {
            variables,
            program,
            words,
        }
    }
}

/// A command line as it is run.
pub(crate) struct Filled {
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) program: String,
    pub(crate) words: Vec<String>,
}

impl Filled {
    /// Adds what leads to a cloud; what the line says itself stays. Nothing is tried twice.
    pub(crate) fn lead_to(&mut self, cloud: &Cloud) {
        let options = cloud.options().iter().map(ToString::to_string);
        self.words.splice(0..0, options);
        let once = ("AWS_MAX_ATTEMPTS", "1".to_owned());
        for (name, value) in cloud.environment().into_iter().chain([once]) {
            let variable = self.variables.entry(name.to_owned());
            variable.or_insert(value);
        }
    }
}

/// The command lines of a file.
pub(crate) fn cases(text: &str) -> Vec<Case> {
    let mut state = "empty".to_owned();
    let mut cases = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix("in ") {
            name.clone_into(&mut state);
            continue;
        }
        let (command, difference) = line.split_once(" ## ").unwrap_or((line, ""));
        let mut difference = difference.split_whitespace();
        let row = difference
            .next()
            .map(|row| row.parse().expect("a row's number"));
        cases.push(Case {
            state: state.clone(),
            line: line.to_owned(),
            words: split(command),
            differs: difference.map(str::to_owned).collect(),
            row,
        });
    }
    cases
}

/// Words, where quotes keep spaces.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}
