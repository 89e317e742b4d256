//! Secrets: values that cannot be printed, serialised or compared, and that are wiped when dropped.
//!
//! The configuration holds only [`SecretRef`]s: where a secret is, never what it is. They are resolved here, as late as possible, by
//! whoever connects. Nothing else reads a secret, and `validate`, `plan --now` over a recorded catalog and the JSON
//! Schema work without any.

use std::{io, path::PathBuf, process::Command};

use zeroize::Zeroizing;

use crate::{failure::Kind, model::desired::SecretRef};

/// A secret text. It has neither `Debug`, `Display` nor `Serialize`, on purpose.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Why a secret could not be had. No variant carries the secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment variable is not set.
    #[error("the secret's environment variable `{0}` is not set")]
    Variable(String),
    /// The file could not be read.
    #[error("cannot read the secret file `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("the secret file `{0}` is readable by everyone; restrict it with `chmod o-rwx`")]
    Exposed(PathBuf),
    /// The command could not be run.
    #[error("cannot run the secret command `{program}`")]
    Command {
        /// Its first word.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The command failed.
    #[error("the secret command `{program}` failed with {status}")]
    CommandFailed {
        /// Its first word.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// What was read is not text.
    #[error("the secret from `{0}` is not UTF-8 text")]
    NotText(String),
}

impl Error {
    /// A secret that cannot be had is a matter of configuration.
    pub fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// Reads a secret from where the configuration says it is. One trailing line end is not part of it.
pub fn resolve(reference: &SecretRef) -> Result<Secret, Error> {
    match reference {
        SecretRef::Env(name) => from_environment(name),
        SecretRef::File(path) => from_file(path),
        SecretRef::Command(words) => from_command(words),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a secret by reference to the environment"
)]
fn from_environment(name: &str) -> Result<Secret, Error> {
    let value = std::env::var_os(name).ok_or_else(|| Error::Variable(name.to_owned()))?;
    value
        .into_string()
        .map(Secret::new)
        .map_err(|_| Error::NotText(name.to_owned()))
}

fn from_file(path: &PathBuf) -> Result<Secret, Error> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |source| Error::File {
        path: path.clone(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.permissions().mode() & 0o004 != 0 {
        return Err(Error::Exposed(path.clone()));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    text(bytes, &path.display().to_string())
}

fn from_command(words: &[String]) -> Result<Secret, Error> {
    let program = words.first().cloned().unwrap_or_default();
    let output = Command::new(&program)
        .args(words.iter().skip(1))
        .output()
        .map_err(|source| Error::Command {
            program: program.clone(),
            source,
        })?;
    if !output.status.success() {
        return Err(Error::CommandFailed {
            program,
            status: output.status,
        });
    }
    text(output.stdout, &program)
}

fn text(bytes: Vec<u8>, origin: &str) -> Result<Secret, Error> {
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::NotText(origin.to_owned()))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Secret::new(
        text.strip_suffix('\r').unwrap_or(text).to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(content: &str, mode: u32) -> (tempfile::TempDir, SecretRef) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("secret");
        std::fs::write(&path, content).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        (directory, SecretRef::File(path))
    }

    #[test]
    fn a_file_loses_one_line_end_and_nothing_else() {
        let (_directory, reference) = file(" p w \n\n", 0o600);
        assert!(resolve(&reference).is_ok_and(|secret| secret.expose() == " p w \n"));
    }

    #[test]
    fn a_file_that_everyone_can_read_is_refused() {
        let (_directory, reference) = file("pw", 0o644);
        assert!(matches!(resolve(&reference), Err(Error::Exposed(_))));
    }

    #[test]
    fn a_failing_command_is_an_error_that_does_not_show_its_output() {
        let words = ["sh", "-c", "echo pw; exit 3"].map(str::to_owned).to_vec();
        let error = resolve(&SecretRef::Command(words))
            .err()
            .expect("it failed");
        assert!(matches!(error, Error::CommandFailed { .. }));
        assert!(!error.to_string().contains("pw"));
    }
}
