//! As much of HTTP as the clients of three services speak: a request with its body, a response.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Read, Write};
use std::ops::Range;

use crate::content::Content;
use crate::text::{Plus, http_time, now, percent_decoded};

pub struct Request {
    pub method: String,
    /// As they were sent: what is one name to a service may have an escaped slash.
    pub path: String,
    pub parameters: String,
    /// As S3 reads the path; another service's request is told its own.
    pub bucket: String,
    pub key: String,
    pub query: HashMap<String, String>,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// The next request of a connection; none once the client has closed it.
    pub fn read(reader: &mut impl BufRead, writer: &mut impl Write) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or("/");
        let (path, parameters) = target.split_once('?').unwrap_or((target, ""));
        let (path, parameters) = (path.to_owned(), parameters.to_owned());
        let mut headers = HashMap::new();
        read_fields(reader, &mut headers)?;
        if headers
            .get("expect")
            .is_some_and(|it| it.eq_ignore_ascii_case("100-continue"))
        {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = read_body(reader, &mut headers)?;
        let place = percent_decoded(path.trim_start_matches('/'), Plus::IsPlus);
        let (bucket, key) = place.split_once('/').unwrap_or((&place, ""));
        let query = parameters
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (
                    percent_decoded(name, Plus::IsSpace),
                    percent_decoded(value, Plus::IsSpace),
                )
            });
        Ok(Some(Self {
            method,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            query: query.collect(),
            path,
            parameters,
            headers,
            body,
        }))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// The same request for another place.
    pub fn at(self, bucket: &str, key: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            ..self
        }
    }

    pub fn range(&self, len: usize) -> Result<Option<Range<usize>>, Response> {
        let asked = match self.header("x-ms-range") {
            "" => self.header("range"),
            asked => asked,
        };
        let Some((first, last)) = asked
            .strip_prefix("bytes=")
            .and_then(|range| range.split_once('-'))
        else {
            return Ok(None);
        };
        let range = match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) => first..len.min(last.saturating_add(1)),
            (Ok(first), Err(_)) => first..len,
            (Err(_), Ok(suffix)) => len.saturating_sub(suffix)..len,
            (Err(_), Err(_)) => return Ok(None),
        };
        if range.is_empty() {
            Err(Response::error(416, "InvalidRange"))
        } else {
            Ok(Some(range))
        }
    }
}

/// Header fields, or those behind a body in chunks, up to the empty line.
fn read_fields(reader: &mut impl BufRead, fields: &mut HashMap<String, String>) -> io::Result<()> {
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        if let Some((name, value)) = line.split_once(':') {
            fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        line.clear();
    }
    Ok(())
}

fn read_body(
    reader: &mut impl BufRead,
    headers: &mut HashMap<String, String>,
) -> io::Result<Vec<u8>> {
    let contains = |name: &str, word: &str| headers.get(name).is_some_and(|it| it.contains(word));
    let http_chunks = contains("transfer-encoding", "chunked");
    let aws_chunks = contains("content-encoding", "aws-chunked")
        || contains("x-amz-content-sha256", "STREAMING-");
    let len: usize = headers
        .get("content-length")
        .and_then(|len| len.parse().ok())
        .unwrap_or(0);
    match (http_chunks, aws_chunks) {
        (false, false) => {
            let mut body = Vec::with_capacity(len);
            reader.take(len as u64).read_to_end(&mut body)?;
            Ok(body)
        }
        (false, true) => {
            let decoded = headers
                .get("x-amz-decoded-content-length")
                .and_then(|it| it.parse().ok());
            let mut framed = reader.take(len as u64);
            let body = read_chunks(&mut framed, headers, decoded.unwrap_or(len))?;
            io::copy(&mut framed, &mut io::sink())?;
            Ok(body)
        }
        (true, false) => read_chunks(reader, headers, 0),
        (true, true) => {
            let framed = read_chunks(reader, headers, 0)?;
            read_chunks(&mut framed.as_slice(), headers, framed.len())
        }
    }
}

/// Both kinds of chunks are a size in hexadecimal, perhaps an extension, the bytes, a line's end.
fn read_chunks(
    reader: &mut impl BufRead,
    fields: &mut HashMap<String, String>,
    capacity: usize,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(capacity);
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk without a size"))?;
        if size == 0 {
            read_fields(reader, fields)?;
            return Ok(body);
        }
        reader.by_ref().take(size).read_to_end(&mut body)?;
        line.clear();
        reader.read_line(&mut line)?;
    }
}

pub struct Response {
    pub status: u16,
    pub headers: String,
    pub body: Body,
}

pub enum Body {
    Text(String),
    Object(Content, Range<usize>),
}

impl Response {
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: String::new(),
            body: Body::Text(String::new()),
        }
    }

    pub fn text(text: String) -> Self {
        Self {
            body: Body::Text(text),
            ..Self::empty(200)
        }
    }

    pub fn xml(text: String) -> Self {
        Self::text(text).header("Content-Type", "application/xml")
    }

    pub fn json(text: String) -> Self {
        Self::text(text).header("Content-Type", "application/json; charset=UTF-8")
    }

    pub fn error(status: u16, code: &str) -> Self {
        let text = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
        Self {
            status,
            ..Self::xml(text)
        }
    }

    pub fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.headers, "{name}: {value}\r\n");
        self
    }

    pub fn line(mut self, line: Option<&str>) -> Self {
        self.headers += line.unwrap_or_default();
        self
    }

    pub fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            201 => "Created",
            202 => "Accepted",
            204 => "No Content",
            206 => "Partial Content",
            308 => "Resume Incomplete",
            404 => "Not Found",
            409 => "Conflict",
            412 => "Precondition Failed",
            _ => "Other",
        }
    }

    /// Nothing of an object.
    pub fn body_text(&self) -> &str {
        match &self.body {
            Body::Text(text) => text,
            Body::Object(..) => "",
        }
    }

    pub fn write(self, writer: &mut impl Write, with_body: bool) -> io::Result<()> {
        let len = match &self.body {
            Body::Text(text) => text.len(),
            Body::Object(_, range) => range.len(),
        };
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Length: {len}\r\nDate: {}\r\nServer: sink\r\n\
             x-amz-request-id: sink\r\n{}\r\n",
            self.status,
            self.reason(),
            http_time(now()),
            self.headers
        )
        .into_bytes();
        match &self.body {
            Body::Text(text) => {
                if with_body {
                    head.extend_from_slice(text.as_bytes());
                }
                writer.write_all(&head)
            }
            Body::Object(content, range) => {
                writer.write_all(&head)?;
                if with_body {
                    content.write(range.clone(), writer)
                } else {
                    Ok(())
                }
            }
        }
    }
}
