//! Requests and answers on one connection.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

/// A request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    /// As it was sent.
    pub(super) target: String,
    /// As it was sent, without parameters.
    pub(super) path: String,
    pub(super) parameters: BTreeMap<String, String>,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn new(
        method: &str,
        target: &str,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    ) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), unescaped(&value.replace('+', " ")))
        });
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            path: path.to_owned(),
            parameters: pairs.collect(),
            headers,
            body,
        }
    }

    pub(super) fn from_within(method: &str, target: &str, body: &str) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self::new(method, target, headers, body.as_bytes().to_vec())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// All headers whose name begins like this, by the rest of it.
    pub(super) fn headers_below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let headers = self.headers.iter();
        headers.filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The segments of a path, each read back.
    pub(super) fn segments(path: &str) -> Vec<String> {
        path.split('/').map(unescaped).collect()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(super) fn json(value: &Value) -> Self {
        Self {
            body: value.to_string().into_bytes(),
            ..Self::empty(200).with("Content-Type", "application/json; charset=UTF-8")
        }
    }

    pub(super) fn xml(status: u16, body: &str) -> Self {
        Self {
            body: format!("<?xml version='1.0' encoding='UTF-8'?>{body}").into_bytes(),
            ..Self::empty(status).with("Content-Type", "application/xml; charset=UTF-8")
        }
    }

    /// A refusal as the JSON interface words it.
    pub(super) fn refusal(status: u16, reason: &str, message: &str) -> Self {
        let one = json!({ "message": message, "domain": "global", "reason": reason });
        let refusal = json!({
            "error": { "code": status, "message": message, "errors": [one] }
        });
        Self {
            status,
            ..Self::json(&refusal)
        }
    }

    #[must_use]
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Its first line and its headers.
    pub(super) fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, phrase(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200..=299 => "OK",
        308 => "Resume Incomplete",
        _ => "Refused",
    }
}

/// One client's connection.
pub(super) struct Connection {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        let writer = stream.try_clone().expect("a socket");
        Self {
            reader: BufReader::with_capacity(1 << 16, stream),
            writer,
        }
    }

    /// The next request; nothing when the client has gone.
    pub(super) fn read(&mut self) -> Option<Asked> {
        let line = self.line()?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let told = |name: &str| {
            let found = headers.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        if told("expect").is_some() {
            self.writer
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .ok()?;
        }
        let mut body = Vec::new();
        if told("transfer-encoding").is_some_and(|encoding| encoding == "chunked") {
            while let Some(chunk) = self.chunk()? {
                body.extend(chunk);
            }
        } else if let Some(length) = told("content-length") {
            body.resize(length.parse().ok()?, 0);
            self.reader.read_exact(&mut body).ok()?;
        }
        Some(Asked::new(&method, &target, headers, body))
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).ok()?;
        (length > 0).then(|| line.trim_end().to_owned())
    }

    fn chunk(&mut self) -> Option<Option<Vec<u8>>> {
        let length = usize::from_str_radix(&self.line()?, 16).ok()?;
        let mut chunk = vec![0; length];
        self.reader.read_exact(&mut chunk).ok()?;
        self.line()?;
        Some((length > 0).then_some(chunk))
    }

    pub(super) fn write(&mut self, asked: &Asked, answer: &Answer) -> Option<()> {
        self.writer.write_all(head(answer).as_bytes()).ok()?;
        if asked.method != "HEAD" {
            self.writer.write_all(&answer.body).ok()?;
        }
        Some(())
    }

    /// Half of what it promises; then the connection is of no more use.
    pub(super) fn write_half(&mut self, answer: &Answer) -> Option<()> {
        self.writer.write_all(head(answer).as_bytes()).ok()?;
        let half = &answer.body[..answer.body.len() / 2];
        self.writer.write_all(half).ok()?;
        None
    }
}

fn head(answer: &Answer) -> String {
    #[expect(clippy::disallowed_methods, reason = "a server has a clock of its own")]
    let date = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT");
    let length = answer.body.len();
    format!(
        "{}Date: {date}\r\nContent-Length: {length}\r\n\r\n",
        answer.head()
    )
}

fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut read = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = text.get(at + 1..at + 3);
        let escaped = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], escaped) {
            (b'%', Some(byte)) => {
                read.push(byte);
                at += 3;
            }
            (byte, _) => {
                read.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(read).expect("names are text")
}
