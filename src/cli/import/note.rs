//! What of another program's configuration has no equivalent, with the place where it is written.

use std::fmt;

use serde::Serialize;

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::cli) struct Place {
    /// The file, as it was named.
    pub(in crate::cli) file: String,
    /// The line, from 1.
    pub(in crate::cli) line: usize,
}

impl Place {
    pub(super) fn new(file: &str, line: usize) -> Self {
        let file = file.to_owned();
        Self { file, line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)
    }
}

/// What becomes of something that is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Loss {
    /// It meant something, and there is no equivalent, or not by itself.
    Lost,
    /// barkeep needs nothing of the kind.
    Needless,
}

/// Something that is not taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Note {
    #[serde(flatten)]
    pub(in crate::cli) place: Place,
    pub(in crate::cli) loss: Loss,
    /// As it is written there.
    pub(in crate::cli) what: String,
    /// Why, and what to do instead.
    pub(in crate::cli) why: String,
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            loss,
            what,
            why,
        } = self;
        let word = match loss {
            Loss::Lost => "no equivalent",
            Loss::Needless => "not needed",
        };
        write!(formatter, "{place}: {what}: {word}: {why}")
    }
}
