//! A server of HTTP that answers as a test says, remembers what it was asked, and breaks connections when told to.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::certificates::Issued;

/// One request: its first line, its headers in lower case, its body.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    pub(crate) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The path with its query.
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    pub(crate) fn query(&self) -> &str {
        self.target().split_once('?').map_or("", |(_, query)| query)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads one; `None` where the client has closed the connection.
    fn read<S: Read + Write>(stream: &mut BufReader<S>) -> Option<Self> {
        let mut line = String::new();
        stream
            .read_line(&mut line)
            .ok()
            .filter(|length| *length > 0)?;
        let mut request = Self {
            line: line.trim_end().to_owned(),
            headers: headers(stream)?,
            body: Vec::new(),
        };
        if request.header("expect").is_some() {
            let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
            stream.get_mut().write_all(go_on).ok()?;
        }
        let length = request
            .header("content-length")
            .map_or(0, |text| text.parse().expect("a number"));
        request.body.resize(length, 0);
        stream.read_exact(&mut request.body).ok()?;
        Some(request)
    }
}

fn headers(stream: &mut impl BufRead) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            return Some(headers);
        };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

/// What a server answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![(
            "date".to_owned(),
            "Sat, 21 Nov 2026 10:00:00 GMT".to_owned(),
        )];
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces a text in the body.
    pub(crate) fn replace(&mut self, from: &str, to: &str) {
        let text = String::from_utf8_lossy(&self.body);
        if text.contains(from) {
            self.body = text.replace(from, to).into_bytes();
            self.headers.retain(|(name, _)| name != "content-length");
        }
    }

    fn has(&self, header: &str) -> bool {
        self.headers.iter().any(|(name, _)| name == header)
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Answer\r\n", self.status);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").expect("a string takes all");
        }
        if !self.has("content-length") {
            write!(head, "content-length: {}\r\n", self.body.len()).expect("a string takes all");
        }
        head + "\r\n"
    }

    fn read(stream: &mut impl BufRead, method: &str) -> Option<Self> {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = headers(stream)?;
        let value = |name: &str| {
            let found = headers.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        let (length, encoding) = (value("content-length"), value("transfer-encoding"));
        let mut body = Vec::new();
        if method == "HEAD" || status == 204 || status == 304 {
        } else if encoding.is_some() {
            body = chunks(stream)?;
        } else if let Some(length) = length {
            body.resize(length.parse().ok()?, 0);
            stream.read_exact(&mut body).ok()?;
        } else {
            stream.read_to_end(&mut body).ok()?;
        }
        headers.retain(|(name, _)| !["transfer-encoding", "connection"].contains(&name.as_str()));
        Some(Self {
            status,
            headers,
            body,
        })
    }
}

fn chunks(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let start = body.len();
        body.resize(start + length, 0);
        stream.read_exact(&mut body[start..]).ok()?;
        stream.read_line(&mut String::new()).ok()?;
        if length == 0 {
            return Some(body);
        }
    }
}

/// What a server does about a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers.
    Answer(Answer),
    /// Resets the connection.
    Reset,
    /// Answers, and closes the connection in the middle of the body.
    Broken(Answer),
    /// Says nothing for as long as the client listens.
    Silence,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

type Asked = Arc<Mutex<Vec<Request>>>;
type Respond = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server whose every answer a test decides on. It ends with the test's process.
pub(crate) struct Standin {
    url: String,
    asked: Asked,
}

impl Standin {
    pub(crate) fn new<R: Into<Reply>>(
        respond: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) -> Self {
        Self::start("http://127.0.0.1", None, respond)
    }

    /// The same over TLS, as `localhost`.
    pub(crate) fn with_tls<R: Into<Reply>>(
        issued: &Issued,
        respond: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) -> Self {
        let certificates = CertificateDer::pem_file_iter(&issued.certificate).expect("a file");
        let certificates = certificates.map(|found| found.expect("a certificate"));
        let key = PrivateKeyDer::from_pem_file(&issued.key).expect("a key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates.collect(), key);
        let config = Arc::new(config.expect("they belong together"));
        Self::start("https://localhost", Some(config), respond)
    }

    fn start<R: Into<Reply>>(
        place: &str,
        tls: Option<Arc<ServerConfig>>,
        respond: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) -> Self {
        let asked = Asked::default();
        let remembered = asked.clone();
        let port = listen(tls, move |request| {
            remembered.lock().expect("no panic").push(request.clone());
            respond(request).into()
        });
        Self {
            url: format!("{place}:{port}"),
            asked,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// Answers on a port of its own until the test's process ends, and remembers nothing.
pub(crate) fn listen(
    tls: Option<Arc<ServerConfig>>,
    respond: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let respond: Arc<Respond> = Arc::new(respond);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, tls) = (stream.expect("a connection"), tls.clone());
            // A body that waits until its headers are acknowledged waits 40 ms.
            stream.set_nodelay(true).expect("a socket");
            let respond = respond.clone();
            std::thread::spawn(move || {
                let socket = stream.try_clone().expect("a socket");
                match tls {
                    None => serve(stream, &socket, &*respond),
                    Some(config) => {
                        let tls = ServerConnection::new(config).expect("a connection");
                        serve(StreamOwned::new(tls, stream), &socket, &*respond);
                    }
                }
            });
        }
    });
    port
}

fn serve<S: Read + Write>(stream: S, socket: &TcpStream, respond: &Respond) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream) {
        let (answer, length) = match respond(&request) {
            // An answer to HEAD has the headers of the whole one.
            Reply::Answer(mut answer) if request.method() == "HEAD" => {
                let length = answer.body.len().to_string();
                if !answer.has("content-length") {
                    answer = answer.with("content-length", &length);
                }
                answer.body.clear();
                (answer, 0)
            }
            Reply::Answer(answer) => {
                let length = answer.body.len();
                (answer, length)
            }
            Reply::Broken(answer) => {
                let length = answer.body.len() / 2;
                (answer, length)
            }
            Reply::Reset => {
                set_socket_linger(socket, Some(Duration::ZERO)).expect("a socket");
                return;
            }
            Reply::Silence => {
                // Until the client has had enough.
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        let sent = stream.get_mut().write_all(answer.head().as_bytes());
        let sent = sent.and_then(|()| stream.get_mut().write_all(&answer.body[..length]));
        let sent = sent.and_then(|()| stream.get_mut().flush());
        if sent.is_err() || length < answer.body.len() {
            return;
        }
    }
}

/// Passes a request on to another server as it is, so that its signature stays valid.
pub(crate) fn forward(request: &Request, url: &str) -> Answer {
    let address = url.strip_prefix("http://").expect("without TLS");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let mut head = format!("{}\r\nconnection: close\r\n", request.line);
    for (name, value) in &request.headers {
        if !["connection", "expect"].contains(&name.as_str()) {
            write!(head, "{name}: {value}\r\n").expect("a string takes all");
        }
    }
    let sent = stream.write_all((head + "\r\n").as_bytes());
    let sent = sent.and_then(|()| stream.write_all(&request.body));
    sent.expect("it is sent");
    let answer = Answer::read(&mut BufReader::new(stream), request.method());
    answer.expect("an answer")
}
