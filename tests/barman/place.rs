//! Where both keep their backups: a server of each cloud's protocol, with Barman's commands.

use std::{path::PathBuf, process::Command};

use barkeep::store::Archive;
use serde_json::Value;

use crate::support::{
    backup::{SERVER, catalog},
    bed::{bed, run},
    cloud::Cloud,
};

const BUCKET: &str = "backups";
const PREFIX: &str = "some/where";

/// A server, and Barman's commands.
pub(crate) struct Place {
    programs: PathBuf,
    cloud: Cloud,
}

impl Place {
    /// With an empty bucket; `None` after saying what is missing.
    pub(crate) fn new(cloud: Option<Cloud>) -> Option<Self> {
        let place = Self {
            programs: bed().get("BARMAN_BIN")?,
            cloud: cloud?,
        };
        place.cloud.create_bucket(BUCKET);
        Some(place)
    }

    /// The catalog, as barkeep sees it.
    pub(crate) async fn catalog(&self) -> Archive {
        catalog(self.cloud.store(BUCKET, PREFIX).await)
    }

    /// Runs a command of Barman's on the catalog; options come first, as its own users put them.
    pub(crate) fn barman(&self, command: &str, options: &[&str], more: &[&str]) -> String {
        run(&mut self.command(command, options, more))
    }

    /// A command of Barman's on the catalog, not yet run.
    pub(crate) fn command(&self, command: &str, options: &[&str], more: &[&str]) -> Command {
        let program = Command::new(self.programs.join(command));
        self.prepared(program, options, more)
    }

    /// The same command line for barkeep under that name.
    pub(crate) fn drop_in(&self, command: &str, options: &[&str], more: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_barkeep"));
        program.arg(command);
        self.prepared(program, options, more)
    }

    fn prepared(&self, mut command: Command, options: &[&str], more: &[&str]) -> Command {
        let url = self.cloud.url(BUCKET, PREFIX);
        command
            .envs(self.cloud.environment())
            .args(self.cloud.options())
            .args(options)
            .args([&url, SERVER])
            .args(more);
        command
    }

    /// The backups that Barman lists.
    pub(crate) fn listed(&self) -> Vec<Value> {
        let list = self.barman("barman-cloud-backup-list", &["--format", "json"], &[]);
        let list: Value = serde_json::from_str(&list).expect("JSON");
        list["backups_list"].as_array().expect("a list").clone()
    }
}
