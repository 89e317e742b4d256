//! Servers that speak S3, or another store's language: each test's own, stopped when dropped.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::bed::bed;

/// A server that answers HTTP on a port of its own.
pub(crate) struct Server {
    child: Child,
    port: u16,
    data: tempfile::TempDir,
    command: Box<Program>,
}

/// What starts a server, given its port and directory.
type Program = dyn Fn(u16, &std::path::Path) -> Command;

impl Server {
    /// The server with buckets and locks, which checks nothing.
    pub(crate) fn moto() -> Option<Self> {
        let program = bed().get("MOTO_SERVER")?;
        Some(Self::start(move |port, _| {
            let mut command = Command::new(&program);
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            command
        }))
    }

    /// The server that checks signatures and checksums, and knows neither versions nor locks.
    pub(crate) fn s3s() -> Option<Self> {
        let program = bed().get("S3S_FS")?;
        Some(Self::start(move |port, data| {
            let mut command = Command::new(&program);
            command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
            command.args(["--access-key", "testkey", "--secret-key", "testsecret1"]);
            command.arg(data);
            command
        }))
    }

    /// An emulator of Google Cloud Storage, which knows no conditions, versions and locks.
    pub(crate) fn gcs_emulator() -> Option<Self> {
        let program = bed().get("GCS_EMULATOR")?;
        Some(Self::start(move |port, _| {
            let mut command = Command::new(&program);
            command.args(["start", "--host", "127.0.0.1", "--in-memory"]);
            command.args(["--port", &port.to_string()]);
            command
        }))
    }

    /// Any server, given its port and a directory of its own.
    pub(crate) fn start(command: impl Fn(u16, &std::path::Path) -> Command + 'static) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        // The port may be taken between looking and starting.
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("an address").port();
            drop(listener);
            let mut child = spawn(command(port, data.path()));
            if answers(&mut child, port) {
                let command = Box::new(command);
                return Self {
                    child,
                    port,
                    data,
                    command,
                };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("the server does not answer");
    }

    /// Kills it; what it has stored stays.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again after [`kill`](Self::kill), at the same place.
    pub(crate) fn revive(&mut self) {
        self.child = spawn((self.command)(self.port, self.data.path()));
        assert!(answers(&mut self.child, self.port), "it does not answer");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where the strict server keeps its objects, one file each.
    pub(crate) fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    /// Sends a request with a signature that only a server takes that checks none, for what the store's contract has no words for.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=testkey/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}",
            self.port
        )
        .expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('2'), "{method} {path}: {answer}");
        answer
    }
}

fn spawn(mut command: Command) -> Child {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().expect("the server starts")
}

/// Waits until the server takes a request, or ends.
fn answers(child: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline && child.try_wait().expect("a child").is_none() {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let asked = write!(stream, "GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
            let mut byte = [0];
            if asked.is_ok() && stream.read_exact(&mut byte).is_ok() {
                return true;
            }
        }
        // A refused connection is answered at once; leave the processor to the server meanwhile.
        std::thread::park_timeout(Duration::from_millis(20));
    }
    false
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
