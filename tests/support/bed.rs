//! Where the programs are that tests run against: `bed.env`, which `tests/bed/install` writes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The programs, by the names that `tests/bed/install` gives them.
pub(crate) struct Bed {
    entries: BTreeMap<String, String>,
}

/// The test bed of this machine.
pub(crate) fn bed() -> &'static Bed {
    static BED: OnceLock<Bed> = OnceLock::new();
    BED.get_or_init(Bed::find)
}

impl Bed {
    #[expect(
        clippy::disallowed_methods,
        reason = "the bed is found by environment variables"
    )]
    fn find() -> Self {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let home_cache = || variable("HOME").map(|home| home.join(".cache/barkeep"));
        let cache = || variable("BARKEEP_CACHE").or_else(home_cache);
        let file = variable("BARKEEP_BED").or_else(|| cache().map(|cache| cache.join("bed.env")));
        let text = file.and_then(|file| std::fs::read_to_string(file).ok());
        let text = text.unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self {
            entries: pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    /// A program or directory by its name in the bed; `None` after saying that the test is skipped.
    pub(crate) fn get(&self, name: &str) -> Option<PathBuf> {
        let found = self.entries.get(name).filter(|value| !value.is_empty());
        if found.is_none() {
            skip(name);
        }
        found.map(PathBuf::from)
    }

    /// The programs of a major version of PostgreSQL: at least `initdb`, `pg_ctl` and `postgres`.
    pub(crate) fn postgresql(&self, major: u32) -> Option<PathBuf> {
        self.get(&format!("PG{major}_BIN"))
    }

    /// The user that servers run as; `None` if that is whoever runs the tests.
    pub(crate) fn server_user(&self) -> Option<&str> {
        let user = self.entries.get("PG_USER").map(String::as_str);
        user.filter(|user| !user.is_empty())
    }

    /// A command that runs as the servers' user, from the root directory.
    pub(crate) fn as_server(&self, program: &Path) -> Command {
        let mut command = match self.server_user() {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={user}"), format!("--regid={user}")])
                    .args(["--init-groups", "--"])
                    .arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir("/");
        command
    }

    /// Hands a file or directory with everything in it to the servers' user.
    pub(crate) fn give(&self, path: &Path) {
        if let Some(user) = self.server_user() {
            run(Command::new("chown")
                .args(["-R", &format!("{user}:")])
                .arg(path));
        }
    }
}

/// Runs a command that must succeed, and gives what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("the command can be started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}: {error}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

#[expect(clippy::disallowed_methods, reason = "CI says of itself that it is CI")]
#[expect(
    clippy::print_stderr,
    reason = "whoever runs the tests must see what was not run"
)]
fn skip(name: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "`{name}` is not in the test bed: run tests/bed/install"
    );
    eprintln!("skipped: `{name}` is not in the test bed: run tests/bed/install");
}
