//! Configuration: text to [`Desired`](crate::model::desired::Desired).
//!
//! [`load`] reads files, [`document`] says what may be written in them, [`merge`] lays the layers
//! over one another, [`compile`] gives the result its meaning, and [`diagnostic`] says what is
//! wrong with it: everything, at once, with the text underlined. Nothing here contacts a store or a
//! server or reads a secret, so a configuration can be checked anywhere.

pub mod compile;
mod conninfo;
pub mod diagnostic;
pub mod document;
pub mod draft;
mod inline_secret;
pub mod load;
pub mod merge;
mod nearest;
pub mod origin;
pub mod quantity;
mod reader;
pub mod reference;
pub mod schema;
pub mod shipped;
pub mod source;
pub mod tree;

use std::path::Path;

pub use compile::Compiled;
pub use diagnostic::{Report, Severity, Style};
pub use load::{Staged, default_path};
pub use origin::Origins;

/// A connection string without the password in it, and whether there was one.
pub fn without_password(connection: &str) -> (String, bool) {
    conninfo::without_password(connection)
}

/// A value as a connection string of keywords has it.
pub fn quoted(value: &str) -> String {
    conninfo::quoted(value)
}

/// Whether a connection string leads to this machine, as far as it says.
pub fn is_local(connection: &str) -> bool {
    let mut hosts = conninfo::hosts(connection).into_iter();
    hosts.all(|host| conninfo::is_local(&host))
}

/// Reads a configuration with everything that it includes, and gives it its meaning.
///
/// `staged` stands in for one of its files. The error holds everything that is wrong.
pub fn read(path: &Path, staged: Option<&Staged>) -> Result<Compiled, Report> {
    compile::compile(load::load(path, staged))
}

/// All that a configuration is read from, to tell whether it has changed: the texts, and what could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts(std::sync::Arc<source::Sources>, Vec<String>);

/// Reads the texts of a configuration, without giving them a meaning.
pub fn texts(path: &Path) -> Texts {
    let loaded = load::load(path, None);
    let wrong = loaded.diagnostics.iter();
    Texts(
        loaded.sources,
        wrong.map(|one| format!("{one:?}")).collect(),
    )
}

/// What `barkeep validate` has to say: all errors and all warnings. Usable if it counts no
/// [`Severity::Error`].
pub fn validate(path: &Path, staged: Option<&Staged>) -> Report {
    match read(path, staged) {
        Ok(compiled) => compiled.warnings,
        Err(report) => report,
    }
}

/// What `barkeep show-config` prints.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The configuration as it holds, layers merged, as TOML.
    pub text: String,
    /// Where each of its values came from; none if nobody asked.
    pub origins: Option<Vec<origin::Leaf>>,
}

/// The configuration as it holds, layers merged.
pub fn show(path: &Path, origins: Origins) -> Result<Shown, Report> {
    let compiled = read(path, None)?;
    Ok(Shown {
        text: origin::show(&compiled.merged, origins),
        origins: (origins == Origins::Shown).then(|| origin::leaves(&compiled.merged)),
    })
}
