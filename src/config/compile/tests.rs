//! Whole configurations in, errors as people see them out.

mod drawn;
mod meaning;
mod refused;

use super::*;
use crate::config::{Style, load};

const HEAD: &str = "version = 1\n[destinations.d]\nurl = \"file:///srv/backup\"\n";

/// Compiles texts as files of these names.
fn compiled(texts: &[(&str, &str)]) -> Result<Compiled, Report> {
    compile(load::from_texts(texts))
}

/// Everything that is said about one file: errors, else warnings.
fn said(text: &str) -> String {
    said_of(&[("barkeep.toml", text)])
}

fn said_of(texts: &[(&str, &str)]) -> String {
    match compiled(texts) {
        Ok(compiled) => compiled.warnings.render(Style::Plain),
        Err(report) => report.render(Style::Plain),
    }
}

/// The messages alone, one a line, of a server with these keys after a usual head.
fn messages(keys: &str) -> String {
    let base = "[servers.s]\nconnection = \"\"\ndestination = \"d\"\n";
    messages_of(&format!("{HEAD}{base}{keys}"))
}

fn messages_of(text: &str) -> String {
    let report = match compiled(&[("barkeep.toml", text)]) {
        Ok(compiled) => compiled.warnings,
        Err(report) => report,
    };
    let message = |finding: crate::config::diagnostic::Finding| {
        let place = finding.places.first().map(|at| at.place.to_string());
        format!("{} {}", place.unwrap_or_default(), finding.message)
    };
    let messages: Vec<String> = report.findings().into_iter().map(message).collect();
    messages.join("\n")
}
