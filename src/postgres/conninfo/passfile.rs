//! The password file: `~/.pgpass` or the one named.
//!
//! Lines are `host:port:database:user:password`; the first whose fields all match counts, `*` matches anything, a backslash takes the next
//! character as it is, `#` starts a comment line. A socket in the usual directory is looked up as `localhost`. A file that others may read
//! is not read; that is reported with the failure to log in, if there is one. Source: "The Password File" in libpq's documentation.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::secret::Secret;

/// Who wants to log in where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login<'a> {
    /// The host as written, or `localhost` for a socket in the usual directory.
    pub(super) host: &'a str,
    /// The port.
    pub(super) port: u16,
    /// The database.
    pub(super) database: &'a str,
    /// The user.
    pub(super) user: &'a str,
}

/// A password file as far as it could be read.
#[derive(Default)]
pub(super) struct Passfile {
    text: Zeroizing<String>,
    /// Why the file was passed over, if it was.
    pub(super) passed_over: Option<PassedOver>,
}

/// Why a password file was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassedOver {
    /// Others than its owner may read it.
    #[error("the password file `{0}` was not read: others may read it (chmod 0600)")]
    Exposed(PathBuf),
    /// It is a directory, a pipe or the like.
    #[error("the password file `{0}` was not read: it is not a plain file")]
    NotPlain(PathBuf),
    /// It cannot be opened, or is no text.
    #[error("the password file `{0}` cannot be read")]
    Unreadable(PathBuf),
}

impl Passfile {
    /// Reads a file; one that does not exist is empty.
    pub(super) fn read(path: &Path) -> Self {
        let Ok(metadata) = std::fs::metadata(path) else {
            return Self::default();
        };
        let passed_over = |reason: fn(PathBuf) -> PassedOver| Self {
            passed_over: Some(reason(path.to_owned())),
            ..Self::default()
        };
        if !metadata.is_file() {
            return passed_over(PassedOver::NotPlain);
        }
        if metadata.mode() & 0o077 != 0 {
            return passed_over(PassedOver::Exposed);
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Self {
                text: Zeroizing::new(text),
                passed_over: None,
            },
            Err(_) => passed_over(PassedOver::Unreadable),
        }
    }

    /// The password of the first line that matches.
    pub(super) fn password(&self, login: &Login<'_>) -> Option<Secret> {
        let port = login.port.to_string();
        let wanted = [login.host, &port, login.database, login.user];
        let lines = self.text.lines().filter(|line| !line.starts_with('#'));
        lines.into_iter().find_map(|line| {
            let mut rest = line;
            for value in wanted {
                let (field, after) = field(rest);
                let matches = field == "*" || unescape(field).as_str() == value;
                rest = after.filter(|_| matches)?;
            }
            let (password, _) = field(rest);
            let password = unescape(password);
            Some(Secret::new(password.as_str().to_owned())).filter(|_| !password.is_empty())
        })
    }
}

/// The text up to the next `:` that no backslash precedes, and what follows that `:`.
fn field(text: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            ':' if !escaped => return (&text[..at], Some(&text[at + 1..])),
            character => escaped = character == '\\' && !escaped,
        }
    }
    (text, None)
}

fn unescape(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            character => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = "# a:1:d:u:comment\n\
        a:1:d:u:one\n\
        a:*:d:u:any port\n\
        we\\:ird:*:*:*:with\\:colon\\\\end\n\
        short:1\n\
        *:*:replication:*:stream\n\
        localhost:*:*:*:trailing:ignored\n";

    fn password(host: &str, port: u16, database: &str) -> Option<String> {
        let file = Passfile {
            text: Zeroizing::new(FILE.to_owned()),
            passed_over: None,
        };
        let login = Login {
            host,
            port,
            database,
            user: "u",
        };
        let found = file.password(&login);
        found.map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn the_first_line_whose_fields_all_match_counts() {
        let cases = [
            (("a", 1, "d"), Some("one")),
            (("a", 2, "d"), Some("any port")),
            (("a", 1, "e"), None),
            (("we:ird", 9, "x"), Some(r"with:colon\end")),
            (("short", 1, "d"), None),
            (("b", 1, "replication"), Some("stream")),
            (("localhost", 1, "d"), Some("trailing")),
        ];
        for ((host, port, database), expected) in cases {
            assert_eq!(
                password(host, port, database).as_deref(),
                expected,
                "{host}:{port}"
            );
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_passed_over() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:pw\n").expect("write");
        let mut seen = Vec::new();
        for mode in [0o600, 0o640, 0o604] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
            seen.push(Passfile::read(&path).passed_over);
        }
        let exposed = Some(PassedOver::Exposed(path));
        assert_eq!(seen, [None, exposed.clone(), exposed]);
        let none = Passfile::read(&directory.path().join("none"));
        assert_eq!(none.passed_over, None);
        let not_plain = Passfile::read(directory.path()).passed_over;
        assert!(matches!(not_plain, Some(PassedOver::NotPlain(_))));
    }
}
