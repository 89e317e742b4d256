//! The program while it runs, and what it said and how it ended.

use std::{
    fmt,
    process::{Child, ExitStatus, Output},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What the program said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it said beside it.
    pub(crate) stderr: String,
}

impl Ran {
    /// Insists on an exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Insists that something was printed or said.
    #[track_caller]
    pub(crate) fn says(self, what: &str) -> Self {
        let said = self.stdout.contains(what) || self.stderr.contains(what);
        assert!(said, "`{what}` was not said: {self}");
        self
    }

    /// The standard output, understood.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(
            formatter,
            "exit {code:?}\n--- stdout\n{stdout}--- stderr\n{stderr}---"
        )
    }
}

/// The program while it runs; killed when dropped.
pub(crate) struct Running(pub(super) Option<Child>);

impl Running {
    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.0.as_ref().expect("it runs"));
        // It may have ended meanwhile, and is not waited for yet: its number is still its own.
        let _ = kill_process(pid, signal);
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.0
            .as_mut()
            .expect("it was started")
            .try_wait()
            .expect("a child")
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let child = self.0.take().expect("it was started");
        child.wait_with_output().expect("a child").into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
