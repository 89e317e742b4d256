//! How this very program is called: by PostgreSQL for its WAL, and by whoever is told what to do next.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::{args::DEFAULT_CONFIG, error::Error};
use crate::{
    model::{
        location::Location,
        names::{DestinationName, ServerName},
    },
    postgres::Archiving,
};

/// Where a package puts the program, which is then called by its name.
const PACKAGED: &str = "/usr/bin/barkeep";

/// How the restored cluster asks for its WAL: by whole paths, for it may be moved to where the program is not found by its name.
pub(super) fn restore_command(
    config: &Path,
    server: &ServerName,
    destination: &DestinationName,
) -> Result<String, Error> {
    Ok(format!(
        "{} --config {} wal-restore --destination {destination} {server} %f \"%p\"",
        for_postgresql(&own_program()?),
        for_postgresql(&absolute(config)?)
    ))
}

/// How a server hands its WAL over.
pub(super) fn archive_command(config: &Path, server: &ServerName) -> Result<String, Error> {
    let called = called(&own_program()?, &absolute(config)?, for_postgresql);
    Ok(format!("{called} wal-archive {server} %p"))
}

/// The statements that make a server archive by a command. One that archived nothing must be restarted then.
pub(super) fn have_archived(archiving: &Archiving, wal_level: &str, command: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut set = |name: &str, value: &str| {
        let value = value.replace('\'', "''");
        statements.push(format!("ALTER SYSTEM SET {name} = '{value}';"));
    };
    if wal_level == "minimal" {
        set("wal_level", "replica");
    }
    if archiving.library.is_some() {
        set("archive_library", "");
    }
    if !archiving.is_on() {
        set("archive_mode", "on");
    }
    set("archive_command", command);
    if archiving.is_on() {
        statements.push("SELECT pg_reload_conf();".to_owned());
    }
    statements
}

/// What a command of the shell calls. The rest of it may hold what nobody should read.
pub(super) fn program(command: &str) -> &str {
    let mut words = command.split_whitespace();
    let word = words.find(|word| !word.contains('=') && *word != "env");
    let word = word.unwrap_or("something");
    word.rsplit('/').next().unwrap_or(word)
}

/// The program with its configuration, as it is typed before a command.
pub(super) fn typed(config: &Path) -> Result<String, Error> {
    Ok(called(&own_program()?, &absolute(config)?, for_the_shell))
}

/// What goes without saying is left out.
fn called(program: &Path, config: &Path, quoted: fn(&Path) -> String) -> String {
    let program = match program.to_str() {
        Some(PACKAGED) => "barkeep".to_owned(),
        _ => quoted(program),
    };
    if config == Path::new(DEFAULT_CONFIG) {
        return program;
    }
    format!("{program} --config {}", quoted(config))
}

/// What makes a bucket, a container or a directory; barkeep never does.
pub(super) fn made(location: &Location) -> String {
    let command = match location {
        Location::S3 { bucket, .. } => format!("aws s3 mb s3://{bucket}"),
        Location::Gcs { bucket, .. } => format!("gcloud storage buckets create gs://{bucket}"),
        Location::Azure {
            account_url,
            container,
            ..
        } => {
            let host = account_url.split("://").nth(1).unwrap_or(account_url);
            let account = host.split('.').next().unwrap_or(host);
            format!("az storage container create --account-name {account} --name {container}")
        }
        Location::Directory { path } => {
            format!("install -d -m 700 {}", for_the_shell(path))
        }
    };
    format!("create it, for barkeep never does: `{command}`")
}

fn own_program() -> Result<PathBuf, Error> {
    env::current_exe().map_err(|source| Error::File {
        doing: "find",
        path: "barkeep".into(),
        source,
    })
}

/// A path that means the same in whatever directory it is used.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::File {
        doing: "find",
        path: path.to_owned(),
        source,
    })
}

/// A path for the shell, with PostgreSQL's `%` doubled.
fn for_postgresql(path: &Path) -> String {
    quoted(&path.display().to_string().replace('%', "%%"))
}

fn for_the_shell(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A word of the shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_shell_and_postgresql() {
        let path = Path::new("/a b/it's 100%");
        assert_eq!(for_postgresql(path), r"'/a b/it'\''s 100%%'");
        assert_eq!(for_the_shell(path), r"'/a b/it'\''s 100%'");
        assert_eq!(for_postgresql(Path::new("/usr/bin/x")), "/usr/bin/x");
    }

    #[test]
    fn of_a_command_only_the_program_is_told() {
        let cases = [
            ("env KEY=secret /opt/bin/wal-g wal-push %p", "wal-g"),
            ("cp %p /srv/%f", "cp"),
            ("KEY=secret", "something"),
        ];
        for (command, called) in cases {
            assert_eq!(program(command), called);
        }
    }

    #[test]
    fn what_goes_without_saying_is_left_out() {
        let called = |program: &str, config: &str| {
            called(Path::new(program), Path::new(config), for_the_shell)
        };
        assert_eq!(called(PACKAGED, DEFAULT_CONFIG), "barkeep");
        assert_eq!(called("/opt/b", "/c.toml"), "/opt/b --config /c.toml");
    }
}
