//! Barman's code in one Python process, asked line by line.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use super::bed::bed;

/// The zone in which the process thinks it runs: one with summer time.
pub(crate) const ZONE: &str = "Europe/Rome";

/// The process.
pub(crate) struct Peer {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it with a script below `tests`; `None` after saying that Barman is not installed.
    pub(crate) fn start(script: &str) -> Option<Self> {
        let python = bed().get("BARMAN_BIN")?.join("python");
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut child = Command::new(python)
            .arg(tests.join(script))
            .env("TZ", ZONE)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        Some(Self {
            questions: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        })
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        let questions = self.questions.as_mut().expect("open until dropped");
        writeln!(questions, "{question}").expect("the process reads");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the process answers");
        serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("{error}: `{answer}` to {question}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}
