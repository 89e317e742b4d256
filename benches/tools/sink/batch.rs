//! Several requests in one, as Azure and Google both pack them: `multipart/mixed` of
//! `application/http`.

use std::fmt::Write as _;

use crate::http::{Request, Response};

const BOUNDARY: &str = "batchresponse_sink";

pub struct Part {
    /// The answer is told it.
    pub id: String,
    pub method: String,
    pub target: String,
}

/// What a media type says is between the parts.
pub fn boundary(request: &Request) -> String {
    let (_, boundary) = request
        .header("content-type")
        .split_once("boundary=")
        .unwrap_or_default();
    let boundary = boundary.split(';').next().unwrap_or_default();
    format!("--{}", boundary.trim_matches('"'))
}

pub fn parts(request: &Request) -> Vec<Part> {
    let text = String::from_utf8_lossy(&request.body);
    let boundary = boundary(request);
    let parts = text.split(boundary.as_str()).skip(1);
    parts.filter_map(part).collect()
}

fn part(text: &str) -> Option<Part> {
    let mut lines = text.lines().map(str::trim_end);
    let mut id = String::new();
    let asked = lines.find(|line| {
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-id")
        {
            value.clone_into(&mut id);
        }
        line.ends_with(" HTTP/1.1")
    })?;
    let mut words = asked.split(' ').map(str::to_owned);
    Some(Part {
        id,
        method: words.next()?,
        target: words.next()?,
    })
}

/// The answers, each with the name of its request, in one.
pub fn response(status: u16, answers: impl Iterator<Item = (String, Response)>) -> Response {
    let mut body = String::new();
    for (id, answer) in answers {
        let text = answer.body_text();
        let _ = write!(
            body,
            "--{BOUNDARY}\r\nContent-Type: application/http\r\nContent-ID: {id}\r\n\r\n\
             HTTP/1.1 {} {}\r\nContent-Length: {}\r\n{}\r\n{text}\r\n",
            answer.status,
            answer.reason(),
            text.len(),
            answer.headers,
        );
    }
    let _ = write!(body, "--{BOUNDARY}--\r\n");
    let media_type = format!("multipart/mixed; boundary={BOUNDARY}");
    Response::text(body)
        .status(status)
        .header("Content-Type", &media_type)
}
