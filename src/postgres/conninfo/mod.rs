//! Connection strings, the way libpq understands them.
//!
//! [`Target::resolve`] turns a connection string (`keyword=value` pairs or a URI), the environment, a service file and a password file
//! into one [`Target`]: every place to try, in order, with what to say there. Precedence is libpq's: the string, then the service, then the
//! environment, then defaults. Every keyword is honoured, harmless or refused; see `keyword`. The environment comes in as a value,
//! [`Environment`], which one function reads. No message holds a password or a piece of the string.

mod encryption;
mod keyword;
mod passfile;
mod service;
mod settings;
mod target;
mod text;
mod uri;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use self::keyword::{KEYWORDS, Keyword};
use self::settings::Settings;
pub use self::{
    encryption::{
        ClientCertificate, SslMode, SslNegotiation, TlsSettings, TlsVersions, TrustRoots,
    },
    passfile::PassedOver,
    target::{Address, ChannelBinding, Endpoint, HostOrder, Keepalives, SessionAttributes, Target},
};

/// Why a connection string cannot be used. No variant holds a piece of it that could be a password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A word is not followed by `=`.
    #[error("no `=` after the word at byte {at} of the connection string")]
    NoEquals {
        /// Where the word begins.
        at: usize,
    },
    /// A quote is not closed.
    #[error("the quote opened at byte {at} of the connection string is never closed")]
    OpenQuote {
        /// Where it opens.
        at: usize,
    },
    /// A part of a URI is malformed.
    #[error("{0} of the connection URI is malformed")]
    Uri(&'static str),
    /// A part of a URI has a bad escape, or is not UTF-8 once decoded.
    #[error("`{0}` in the connection URI is not valid percent-encoded text")]
    Encoding(&'static str),
    /// libpq knows no such keyword.
    #[error(
        "`{keyword}` is no keyword of a connection string{}",
        suggestion(keyword)
    )]
    UnknownKeyword {
        /// The word.
        keyword: String,
    },
    /// The keyword asks for something that cannot be done.
    #[error("`{keyword}` in the connection cannot be honoured: {reason}")]
    Refused {
        /// The keyword.
        keyword: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// The keyword has a value that it cannot have.
    #[error("`{value}` is no value of `{keyword}`; expected {expected}")]
    Value {
        /// The keyword.
        keyword: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// Two lists do not have the same length.
    #[error("the connection has {left} of `{left_keyword}` and {right} of `{right_keyword}`")]
    Count {
        /// One keyword.
        left_keyword: &'static str,
        /// How many values it has.
        left: usize,
        /// The other.
        right_keyword: &'static str,
        /// How many values it has.
        right: usize,
    },
    /// Two settings exclude each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// There is no such service.
    #[error("no service file defines the service `{0}`")]
    NoService(String),
    /// A line of a service file is malformed.
    #[error("line {line} of the service file `{path}` cannot be understood")]
    ServiceFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A file that the connection names cannot be read.
    #[error("cannot read `{path}`, which the connection names")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody said who logs in.
    #[error("the connection names no user, and this process has no user name")]
    NoUser,
}

fn suggestion(word: &str) -> String {
    let near = |keyword: &&Keyword| distance(word, keyword.name) <= 2;
    let nearest = KEYWORDS
        .iter()
        .filter(near)
        .min_by_key(|keyword| distance(word, keyword.name));
    nearest.map_or_else(String::new, |keyword| {
        format!("; did you mean `{}`?", keyword.name)
    })
}

/// How many letters must be added, removed or replaced to get from one word to the other.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

/// What a connection takes from the process around it: variables, the user's name and home directory.
///
/// It has no `Debug`, because `PGPASSWORD` may be in it.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, Zeroizing<String>>,
    user: Option<String>,
    home: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "libpq's variables are an interface"
    )]
    pub fn read() -> Self {
        let variables = KEYWORDS
            .iter()
            .filter_map(|keyword| keyword.variable)
            .chain(["PGSYSCONFDIR", "PGREQUIRESSL"]);
        let variables = variables.filter_map(|name| Some((name, std::env::var(name).ok()?)));
        Self {
            user: whoami::username().ok(),
            home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
            ..Self::new(variables)
        }
    }

    /// An environment of just these variables, without a user or a home.
    pub fn new(
        variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), Zeroizing::new(value.into())))
            .collect();
        Self {
            variables,
            ..Self::default()
        }
    }

    /// The same for a user with this name in the operating system.
    #[must_use]
    pub fn of_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// The same with a home directory.
    #[must_use]
    pub fn at_home(mut self, home: &Path) -> Self {
        self.home = Some(home.to_owned());
        self
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }
}
