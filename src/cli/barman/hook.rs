//! Called by a Barman server: a hook script is told by its environment what it is about.
//!
//! `post_backup_retry_script = barman-cloud-backup …` relays a finished backup of the server, `pre_archive_retry_script =
//! barman-cloud-wal-archive …` a WAL file. A process is a hook script if both `BARMAN_HOOK` and `BARMAN_PHASE` are set, be it to nothing.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::error::Error;
use crate::{format::backup_info::BackupInfo, model::backup::BackupId};

/// What a Barman server may tell.
const VARIABLES: [&str; 7] = [
    "BARMAN_BACKUP_DIR",
    "BARMAN_BACKUP_ID",
    "BARMAN_BACKUP_INFO_PATH",
    "BARMAN_FILE",
    "BARMAN_HOOK",
    "BARMAN_PHASE",
    "BARMAN_STATUS",
];

/// What a Barman server has told this hook script.
pub(super) struct Hook {
    program: &'static str,
    variables: BTreeMap<&'static str, OsString>,
}

/// A finished backup that a Barman server keeps on its disk.
pub(super) struct Finished {
    pub(super) id: BackupId,
    pub(super) directory: PathBuf,
    pub(super) info: Bytes,
}

impl Hook {
    /// `None` if this process is none.
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment is how a Barman server speaks to its hooks"
    )]
    pub(super) fn read(program: &'static str) -> Option<Self> {
        let variables = VARIABLES.into_iter();
        let variables = variables.filter_map(|name| Some((name, std::env::var_os(name)?)));
        Self::of(program, variables.collect())
    }

    fn of(program: &'static str, variables: BTreeMap<&'static str, OsString>) -> Option<Self> {
        let is_set = |name: &str| variables.contains_key(name);
        let is_hook = is_set("BARMAN_HOOK") && is_set("BARMAN_PHASE");
        is_hook.then_some(Self { program, variables })
    }

    /// The WAL file to archive. What is wrong ends with 1: Barman does not catch it.
    pub(super) fn wal_file(&self) -> Result<PathBuf, Error> {
        let expected = ["pre_archive_script", "pre_archive_retry_script"];
        self.check(expected).map_err(Error::Operation)?;
        let file = self.path("BARMAN_FILE").ok_or_else(|| {
            Error::Operation("Expected environment variable BARMAN_FILE not set".to_owned())
        });
        file.map(Path::to_owned)
    }

    /// The backup to relay, checked in Barman's order. One that is not complete ends with the code after which no retry follows.
    pub(super) fn backup(&self, name: Option<&str>) -> Result<Finished, Error> {
        let expected = ["post_backup_script", "post_backup_retry_script"];
        self.check(expected).map_err(Error::General)?;
        if name.is_some() {
            let why = "Cannot set backup name when running as a hook script";
            return Err(Error::General(why.to_owned()));
        }
        let directory = self.required("BARMAN_BACKUP_DIR")?;
        let id = self.required("BARMAN_BACKUP_ID")?;
        let status = self.text("BARMAN_STATUS");
        if status.as_deref() != Some("DONE") {
            return Err(Error::Hook(format!(
                "backup in '{}' has status '{}' (status should be: DONE)",
                directory.display(),
                status.as_deref().unwrap_or("None"),
            )));
        }
        let path = self.required("BARMAN_BACKUP_INFO_PATH")?;
        let unread = |error| Error::General(format!("cannot read {}: {error}", path.display()));
        let text = fs::read(path).map_err(unread)?;
        let info = BackupInfo::parse(&text).map_err(|error| Error::general(&error))?;
        if info.get("compression").is_some() {
            let why = "Compressed backups are not supported when running as a hook script";
            return Err(Error::General(why.to_owned()));
        }
        Ok(Finished {
            id: BackupId::new(id.to_string_lossy()),
            directory: directory.to_owned(),
            info: text.into(),
        })
    }

    /// Whether the script was called as one of those that it can be.
    fn check(&self, expected: [&str; 2]) -> Result<(), String> {
        let text = |name| self.text(name).unwrap_or_default();
        let script = format!("{}_{}", text("BARMAN_PHASE"), text("BARMAN_HOOK"));
        if expected.contains(&script.as_str()) {
            return Ok(());
        }
        let program = self.program;
        Err(format!(
            "{program} called as unsupported hook script: {script}"
        ))
    }

    fn required(&self, name: &'static str) -> Result<&Path, Error> {
        let missing = || Error::General(format!("{name} environment variable not set"));
        self.path(name).ok_or_else(missing)
    }

    fn path(&self, name: &str) -> Option<&Path> {
        self.variables.get(name).map(Path::new)
    }

    fn text(&self, name: &str) -> Option<String> {
        let value = self.variables.get(name)?;
        Some(value.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(variables: &[(&'static str, &str)]) -> Option<Hook> {
        let variable = |(name, value): &(&'static str, &str)| (*name, OsString::from(value));
        Hook::of("barman-cloud-x", variables.iter().map(variable).collect())
    }

    fn told<T>(result: Result<T, Error>) -> String {
        match result {
            Ok(_) => "fine".to_owned(),
            Err(error) => format!("{:?} {error}", error.code()),
        }
    }

    #[test]
    fn a_hook_is_told_by_two_variables_even_if_they_are_empty() {
        assert!(hook(&[("BARMAN_HOOK", "archive_script")]).is_none());
        let empty = hook(&[("BARMAN_HOOK", ""), ("BARMAN_PHASE", "")]);
        let told = told(empty.expect("a hook").wal_file());
        assert!(
            told.ends_with("barman-cloud-x called as unsupported hook script: _"),
            "{told}"
        );
    }

    #[test]
    fn only_a_file_before_it_is_archived_and_a_backup_after_it_was_taken_will_do() {
        for (phase, name, is_wal, is_backup) in [
            ("pre", "archive_script", true, false),
            ("pre", "archive_retry_script", true, false),
            ("post", "archive_script", false, false),
            ("pre", "backup_script", false, false),
            ("post", "backup_retry_script", false, true),
        ] {
            let file = ("BARMAN_FILE", "/wal/000000010000000000000001");
            let hook = hook(&[("BARMAN_HOOK", name), ("BARMAN_PHASE", phase), file]);
            let hook = hook.expect("a hook");
            assert_eq!(hook.wal_file().is_ok(), is_wal, "{phase} {name}");
            let told = told(hook.backup(None));
            assert_eq!(told.contains("BARMAN_BACKUP_DIR"), is_backup, "{told}");
        }
    }

    #[test]
    fn what_is_missing_is_told_in_order_and_a_backup_that_is_not_done_is_not_tried_again() {
        let home = tempfile::tempdir().expect("a directory");
        let record = |text: &str| {
            let path = home.path().join("backup.info");
            fs::write(&path, text).expect("a file");
            path.to_str().expect("a path").to_owned()
        };
        let mut variables = vec![("BARMAN_HOOK", "backup_script"), ("BARMAN_PHASE", "post")];
        let compressed = record("compression=gzip\n");
        let mut told_after = |variable: (&'static str, &str)| {
            // Later ones win, as in an environment.
            variables.push((
                variable.0,
                Box::leak(variable.1.to_owned().into_boxed_str()),
            ));
            told(hook(&variables).expect("a hook").backup(None))
        };
        for (variable, expected) in [
            (("BARMAN_BACKUP_DIR", "/b"), "BARMAN_BACKUP_ID environment"),
            (
                ("BARMAN_BACKUP_ID", "20261120T020000"),
                "(63)) backup in '/b' has status 'None'",
            ),
            (
                ("BARMAN_STATUS", "WAITING_FOR_WALS"),
                "(63)) backup in '/b' has status 'WAITING",
            ),
            (
                ("BARMAN_STATUS", "DONE"),
                "(4)) BARMAN_BACKUP_INFO_PATH environment",
            ),
            (
                ("BARMAN_BACKUP_INFO_PATH", compressed.as_str()),
                "Compressed backups",
            ),
        ] {
            let told = told_after(variable);
            assert!(told.contains(expected), "{told}");
        }
        record("compression=None\n");
        assert_eq!(told_after(("BARMAN_STATUS", "DONE")), "fine");
        let named = hook(&variables).expect("a hook").backup(Some("x"));
        assert!(told(named).contains("Cannot set backup name"));
    }
}
