//! The first signal asks for the next safe point, the second leaves at once.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::scene::Scene;

/// A server that accepts and never answers, so that whoever asks it waits.
fn silent() -> (TcpListener, Scene) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let scene = Scene::new();
    let store = scene.path("store");
    scene.configure(&format!(
        "version = 1\n\n[destinations.disk]\nurl = \"file://{}\"\n\n[servers.orders]\ndestination = \"disk\"\n\
         connection = \"host=127.0.0.1 port={port} user=barkeep sslmode=disable\"\nschedule = \"0 2 * * *\"\nretention = \"REDUNDANCY 7\"\n",
        store.display()
    ));
    (listener, scene)
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a small number")).expect("a process");
    kill_process(pid, signal).expect("it runs");
}

#[test]
fn told_once_it_says_what_it_waits_for_and_told_twice_it_leaves() {
    let (listener, scene) = silent();
    let mut command = scene.command(&["reconcile", "--once"]);
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    // From here on it is waiting for an answer, and listens for signals.
    let (mut asked, _) = listener.accept().expect("it connects");
    let mut first = [0_u8; 1];
    asked.read_exact(&mut first).expect("it speaks first");
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    signal(&child, Signal::TERM);
    let mut line = String::new();
    said.read_line(&mut line).expect("it says so");
    assert_eq!(
        line,
        "stopping at the next safe point; once more to leave now\n"
    );
    signal(&child, Signal::INT);
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
}
