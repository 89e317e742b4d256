//! A command line as Barman's program and ours run it: each in an environment of its own, where only what the line says is set.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::json;

use crate::{
    case::Filled,
    support::peer::{Peer, ZONE},
};

/// How a program ended.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code().expect("it was not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ran {
    /// Runs Barman's program, as a child of the process that has all its code loaded: loading takes longer than the rest.
    pub(crate) fn barman(peer: &mut Peer, filled: &Filled, directory: &Path) -> Self {
        let answer = peer.ask(&json!({
            "ask": "run",
            "program": filled.program,
            "argv": filled.words,
            "environment": filled.variables,
            "directory": directory,
            "zone": ZONE,
        }));
        let text = |name: &str| answer[name].as_str().expect("a text").to_owned();
        let code = answer["code"].as_i64().expect("a code");
        Self {
            code: code.try_into().expect("an exit code"),
            stdout: text("stdout"),
            stderr: text("stderr"),
        }
    }

    /// Runs ours.
    pub(crate) fn barkeep(filled: &Filled, directory: &Path) -> Self {
        Self::ended(started(filled, directory))
    }

    /// Waits for ours.
    pub(crate) fn ended(barkeep: Child) -> Self {
        barkeep.wait_with_output().expect("it ends").into()
    }

    /// The errors, each without what the libraries below say.
    pub(crate) fn told(&self) -> Vec<String> {
        let lines = self.stderr.lines();
        let errors = lines.filter_map(|line| line.split_once("] ERROR: "));
        let short = |(head, message): (&str, &str)| {
            let is_stamped = head.split_once(" [").is_some_and(|(time, process)| {
                chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S,%3f").is_ok()
                    && process.bytes().all(|byte| byte.is_ascii_digit())
            });
            assert!(is_stamped, "{head}");
            let ends = ["exception: ", " (", "postgres: ", "provider: "];
            let ends = ends.iter();
            let end = ends.filter_map(|end| Some(message.find(end)? + end.len()));
            message[..end.min().unwrap_or(message.len())].to_owned()
        };
        errors.map(short).collect()
    }
}

/// Starts ours.
pub(crate) fn started(filled: &Filled, directory: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_barkeep"))
        .arg(&filled.program)
        .args(&filled.words)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TZ", ZONE)
        .envs(&filled.variables)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("barkeep starts")
}
