//! A configuration that is to be written: tables and keys in order, with the comments that explain them.
//!
//! `barkeep init` and `barkeep import` make one and print it. It knows TOML and nothing of what a key means: whoever makes one compiles the
//! text before anybody sees it. A text is quoted as it must be; a comment is broken into lines.

use std::fmt;

use toml::Value;

use super::origin::key as spelled;

/// How wide a line of comments is, its `# ` included.
const WIDTH: usize = 100;

/// A configuration that is to be written.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// What stands before the first header, and each table behind it.
    tables: Vec<Table>,
}

/// A table with its header.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// None before the first header.
    header: Option<String>,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
enum Line {
    Comment(String),
    Key(String, Value),
    /// A key that is not set, to be taken in by whoever wants it.
    Suggestion(String, Value),
    /// What is TOML already.
    Verbatim(String),
}

impl Draft {
    /// A draft that begins with this comment.
    pub fn new(comment: &str) -> Self {
        let mut draft = Self::default();
        draft.top().comment(comment);
        draft
    }

    /// What stands before the first header.
    pub fn top(&mut self) -> &mut Table {
        if self.tables.is_empty() {
            self.tables.push(Table::default());
        }
        &mut self.tables[0]
    }

    /// Begins the table with this path.
    pub fn table(&mut self, path: &[&str]) -> &mut Table {
        self.begin(format!("[{}]", joined(path)))
    }

    /// Begins the next of the tables with this path.
    pub fn entry(&mut self, path: &[&str]) -> &mut Table {
        self.begin(format!("[[{}]]", joined(path)))
    }

    fn begin(&mut self, header: String) -> &mut Table {
        self.top();
        self.tables.push(Table {
            header: Some(header),
            lines: Vec::new(),
        });
        self.tables.last_mut().expect("it was just pushed")
    }

    /// Goes on with a text that is TOML already.
    pub fn verbatim(&mut self, text: &str) {
        self.top();
        self.tables.push(Table {
            header: None,
            lines: vec![Line::Verbatim(text.trim_end().to_owned())],
        });
    }
}

impl Table {
    /// Says something about what follows.
    pub fn comment(&mut self, text: &str) -> &mut Self {
        self.lines.push(Line::Comment(text.to_owned()));
        self
    }

    /// Sets a key, which may be dotted.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.lines.push(Line::Key(key.to_owned(), value.into()));
        self
    }

    /// Sets a key if there is a value for it.
    pub fn maybe(&mut self, key: &str, value: Option<impl Into<Value>>) -> &mut Self {
        match value {
            Some(value) => self.set(key, value),
            None => self,
        }
    }

    /// Shows how a key would be set.
    pub fn suggest(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let line = Line::Suggestion(key.to_owned(), value.into());
        self.lines.push(line);
        self
    }

    fn key_width(&self) -> usize {
        let width = |line: &Line| match line {
            Line::Key(key, _) => key.chars().count(),
            _ => 0,
        };
        self.lines.iter().map(width).max().unwrap_or_default()
    }
}

impl fmt::Display for Draft {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = self.tables.iter();
        let written = written.filter(|table| table.header.is_some() || !table.lines.is_empty());
        for (index, table) in written.enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            table.fmt(formatter)?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(header) = &self.header {
            writeln!(formatter, "{header}")?;
        }
        let width = self.key_width();
        for line in &self.lines {
            match line {
                Line::Comment(text) => {
                    for line in text.lines().flat_map(wrapped) {
                        writeln!(formatter, "{}", format!("# {line}").trim_end())?;
                    }
                }
                Line::Key(key, value) => writeln!(formatter, "{key:<width$} = {value}")?,
                Line::Suggestion(key, value) => writeln!(formatter, "# {key} = {value}")?,
                Line::Verbatim(text) => writeln!(formatter, "{text}")?,
            }
        }
        Ok(())
    }
}

/// A path as a header has it.
fn joined(path: &[&str]) -> String {
    let path: Vec<_> = path.iter().map(|part| spelled(part)).collect();
    path.join(".")
}

/// A text in lines that are not wider than they may be, if its words allow it.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one");
        let is_full = line.chars().count() + 1 + word.chars().count() + 2 > WIDTH;
        match line.is_empty() {
            false if is_full => lines.push(word.to_owned()),
            false => line.extend([" ", word]),
            true => line.push_str(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut draft = Draft::new("Of one server.");
        draft.top().set("version", 1);
        let tags = toml::Table::from_iter([("a b".to_owned(), Value::from("\"c\""))]);
        draft
            .table(&["destinations", "the first"])
            .comment("On\nS3.")
            .set("url", "s3://b/p")
            .set("s3.tags", tags)
            .maybe("s3.region", None::<&str>)
            .suggest("max_parallel", 2);
        draft.entry(&["servers", "s", "backups"]).set("jobs", 1);
        draft.verbatim("[policies.p]\njobs = 2\n\n");
        let text = draft.to_string();
        assert_eq!(
            text,
            "# Of one server.\nversion = 1\n\n[destinations.\"the first\"]\n# On\n# S3.\n\
             url     = \"s3://b/p\"\ns3.tags = { \"a b\" = '\"c\"' }\n# max_parallel = 2\n\n\
             [[servers.s.backups]]\njobs = 1\n\n[policies.p]\njobs = 2\n"
        );
        let read: toml::Table = toml::from_str(&text).expect("it is TOML");
        let tags = &read["destinations"]["the first"]["s3"]["tags"];
        assert_eq!(tags["a b"].as_str(), Some("\"c\""));
    }

    #[test]
    fn comments_are_broken_between_words() {
        let mut draft = Draft::new(&"word ".repeat(40));
        draft.top().comment("a");
        let text = draft.to_string();
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 40);
    }
}
