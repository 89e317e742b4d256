//! Several requests in one.

use std::fmt::Write;

use super::{
    super::http::Answer,
    answer::{self, refusal},
    asked::Asked,
    one,
    state::State,
};

/// What one batch may carry.
const REQUESTS_MAX: usize = 100;

/// Answers each, in a body of as many parts.
pub(super) fn answer(state: &mut State, asked: &Asked) -> Answer {
    let kind = asked.header("content-type").unwrap_or_default();
    let Some((_, boundary)) = kind.split_once("boundary=") else {
        return refusal(400, "badContent", "Missing boundary.");
    };
    let boundary = boundary
        .split(';')
        .next()
        .unwrap_or(boundary)
        .trim_matches('"');
    let body = String::from_utf8_lossy(&asked.body).replace("\r\n", "\n");
    let delimiter = format!("--{boundary}");
    let parts = body.split(&delimiter).skip(1);
    let parts: Vec<&str> = parts.filter(|part| !part.starts_with("--")).collect();
    if parts.len() > REQUESTS_MAX {
        return refusal(
            400,
            "badContent",
            "The batch request could not be processed.",
        );
    }
    let mut answers = String::new();
    for part in parts {
        let (outer, inner) = part.trim_start().split_once("\n\n").unwrap_or((part, ""));
        let name = outer.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-id")
                .then(|| value.trim_matches(['<', '>']))
        });
        let (head, content) = inner.split_once("\n\n").unwrap_or((inner, ""));
        let mut words = head.lines().next().unwrap_or_default().split(' ');
        let (method, target) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        // Google's client for Python sends the whole URL.
        let path = target
            .find("/storage/v1/")
            .map_or(target, |at| &target[at..]);
        let answered = one(state, &Asked::from_within(method, path, content.trim()));
        let name = name.map(|name| format!("Content-ID: <response-{name}>\r\n"));
        let (status, length) = (answered.status, answered.body.len());
        write!(
            answers,
            "--batch_parts\r\nContent-Type: application/http\r\n{}\r\n\
             HTTP/1.1 {status} Answer\r\nContent-Length: {length}\r\n\r\n{}\r\n",
            name.unwrap_or_default(),
            String::from_utf8_lossy(&answered.body)
        )
        .expect("a string takes all");
    }
    answers.push_str("--batch_parts--\r\n");
    answer::with_body(200, "multipart/mixed; boundary=batch_parts", answers)
}
