//! Every text that was read, in one space of positions.
//!
//! The texts are laid end to end, so that one byte range, a [`Span`], names file, line and column
//! together and can travel through any data structure that carries byte ranges. What barkeep sets
//! when nobody says anything is a text like the others.

use std::{ops::Range, sync::Arc};

/// A range of bytes in the space of all texts.
pub type Span = Range<usize>;

/// One text that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What it is called in messages: a path as the user wrote or would write it.
    pub name: String,
    /// What it says.
    pub text: Arc<str>,
    /// Where it begins in the space of all texts.
    pub start: usize,
}

/// Where a span begins, for people: lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// All texts that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Takes a text in and tells where it begins.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> usize {
        // One byte between two texts, so that an empty range at the end of one is not at the start
        // of the next.
        let start = self
            .0
            .last()
            .map_or(0, |last| last.start + last.text.len() + 1);
        let (name, text) = (name.into(), text.into());
        self.0.push(Source { name, text, start });
        start
    }

    /// Replaces a range of a text by asterisks, line ends excepted, so that nothing shows it any
    /// more.
    pub fn blot(&mut self, span: &Span) {
        let following = self.0.partition_point(|source| source.start <= span.start);
        let source = &mut self.0[following.saturating_sub(1)];
        let hidden = span.start - source.start..span.end - source.start;
        let text = source.text.char_indices().flat_map(|(at, character)| {
            let hide = hidden.contains(&at) && character != '\n';
            let (shown, count) = if hide {
                ('*', character.len_utf8())
            } else {
                (character, 1)
            };
            std::iter::repeat_n(shown, count)
        });
        source.text = text.collect::<String>().into();
    }

    /// The text that a span lies in.
    pub fn source(&self, span: &Span) -> &Source {
        let following = self.0.partition_point(|source| source.start <= span.start);
        &self.0[following.saturating_sub(1)]
    }

    /// Where a span begins.
    pub fn place(&self, span: &Span) -> Place {
        let source = self.source(span);
        let offset = (span.start - source.start).min(source.text.len());
        let before = &source.text[..source.text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            file: source.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_knows_its_file_line_and_column() {
        let mut sources = Sources::default();
        let first = sources.add("a.toml", "x = 1\n");
        let second = sources.add("b.toml", "y = 'ü' # z\n");
        let place = |at: usize| sources.place(&(at..at)).to_string();
        assert_eq!(place(first + 4), "a.toml:1:5");
        assert_eq!(place(first + 6), "a.toml:2:1");
        assert_eq!(place(second), "b.toml:1:1");
        assert_eq!(place(second + 11), "b.toml:1:11");
    }
}
