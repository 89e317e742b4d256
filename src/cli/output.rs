//! What the program says: data on standard output, talk on standard error.
//!
//! The only place that writes to either. A reader that closes the pipe early has seen enough: that is no failure.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

use serde::Serialize;

use super::args::Format;

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    /// Results in a form.
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    /// The form that was asked for.
    pub(super) fn format(self) -> Format {
        self.format
    }

    /// Prints a result: its text, or its JSON in one line.
    pub(super) fn result(self, text: &dyn fmt::Display, json: &impl Serialize) -> io::Result<()> {
        match self.format {
            Format::Text => data(&format!("{text}")),
            Format::Json => data(&format!("{}\n", to_json(json)?)),
        }
    }
}

fn to_json(value: &impl Serialize) -> io::Result<String> {
    serde_json::to_string(value).map_err(io::Error::from)
}

/// Writes to standard output.
pub(super) fn data(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a line to standard error. Where even that fails, there is nobody to tell.
pub(super) fn talk(text: &dyn fmt::Display) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Whether somebody watches standard error.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Whether colours are welcome on standard error.
#[expect(
    clippy::disallowed_methods,
    reason = "NO_COLOR is a convention among terminal programs"
)]
pub(super) fn wants_colour() -> bool {
    is_watched() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
