//! Spans as a collector gets them.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use crate::scene::{NOW, Scene};

/// A collector that takes one request: its first line, and its body.
fn collector() -> (String, thread::JoinHandle<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let taking = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        let limit = Some(Duration::from_mins(2));
        stream.set_read_timeout(limit).expect("set");
        take(&mut stream)
    });
    (format!("http://{address}"), taking)
}

fn take(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).expect("a request");
        assert!(length > 0, "the request is cut off");
        bytes.extend_from_slice(&buffer[..length]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("its length").parse().expect("a number");
        if bytes.len() < end + 4 + length {
            continue;
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).expect("answered");
        let first = head.lines().next().unwrap_or_default().to_owned();
        return (first, bytes.split_off(end + 4));
    }
}

fn holds(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn a_collector_gets_the_spans_with_their_server() {
    let scene = Scene::new();
    let (endpoint, taking) = collector();
    let output = scene
        .command(&["plan", "--now", NOW])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .output()
        .expect("it starts");
    assert_eq!(
        output.status.code(),
        Some(8),
        "as without a collector: {output:?}"
    );
    let (first, body) = taking.join().expect("a request");
    assert_eq!(first, "post /v1/traces http/1.1");
    for text in ["service.name", "barkeep", "plan", "server", "orders"] {
        assert!(holds(&body, text), "{text}");
    }
}

#[test]
fn a_collector_that_is_not_there_changes_nothing() {
    let scene = Scene::new();
    let plain = scene.run(&["plan", "--now", NOW]);
    let output = scene
        .command(&["plan", "--now", NOW])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(8));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = said.lines().last().expect("a summary");
    assert!(plain.contains(last), "{said}");
}
