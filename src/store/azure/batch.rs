//! Many deletes in one request, and the many answers in its answer.
//!
//! Source of the format: Microsoft's "Blob Batch", which is `multipart/mixed` of RFC 2046 with a whole request in each part.

use std::{collections::BTreeMap, fmt::Write};

use azure_core::http::Request;

use super::failure::element;

/// Between the parts. It contains what no request here contains.
const BOUNDARY: &str = "batch_barkeep_6f1c1d0e";

/// The content type of a batch.
pub(super) fn content_type() -> String {
    format!("multipart/mixed; boundary={BOUNDARY}")
}

/// The body of a batch of signed requests, which are answered under these numbers.
pub(super) fn body(requests: &[(usize, Request)]) -> String {
    let mut body = String::new();
    for (index, request) in requests {
        write!(
            body,
            "--{BOUNDARY}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\
             Content-ID: {index}\r\n\r\n{} {} HTTP/1.1\r\n",
            request.method().as_str(),
            request.path_and_query(),
        )
        .expect("a string takes all");
        for (name, value) in request.headers().iter() {
            write!(body, "{}: {}\r\n", name.as_str(), value.as_str()).expect("a string takes all");
        }
        body.push_str("Content-Length: 0\r\n\r\n");
    }
    write!(body, "--{BOUNDARY}--\r\n").expect("a string takes all");
    body
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) text: String,
}

/// The answers in the body of an answer, by the index of their requests. What cannot be read is not among them.
pub(super) fn answers(body: &str) -> BTreeMap<usize, Answer> {
    // The service chooses the boundary, and begins its body with it.
    let boundary = body
        .lines()
        .find(|line| line.starts_with("--"))
        .unwrap_or("--")
        .trim_end();
    body.split(boundary).filter_map(answer).collect()
}

fn answer(part: &str) -> Option<(usize, Answer)> {
    let mut lines = part.lines().map(str::trim_end);
    let index = lines
        .by_ref()
        .find_map(|line| value(line, "content-id"))?
        .parse()
        .ok()?;
    let status = lines.by_ref().find(|line| line.starts_with("HTTP/"))?;
    let status = status.split(' ').nth(1)?.parse().ok()?;
    let code = lines.find_map(|line| value(line, "x-ms-error-code"));
    let code = code
        .or_else(|| element(part, "Code"))
        .unwrap_or_default()
        .to_owned();
    let text = element(part, "Message").and_then(|text| text.lines().next());
    let text = text.unwrap_or_default().to_owned();
    Some((index, Answer { status, code, text }))
}

fn value<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let (key, value) = line.split_once(':')?;
    key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_that_of_its_request() {
        let body = "--batchresponse_1\r\nContent-Type: application/http\r\nContent-ID: 1\r\n\r\n\
                    HTTP/1.1 404 The specified blob does not exist.\r\n\
                    x-ms-error-code: BlobNotFound\r\n\r\n\
                    <Error><Code>BlobNotFound</Code><Message>Gone.\nTime:1</Message></Error>\r\n\
                    --batchresponse_1\r\nContent-ID: 0\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n\r\n\
                    --batchresponse_1--";
        let answers = answers(body);
        let told = |index| {
            answers
                .get(&index)
                .map(|answer| (answer.status, answer.code.as_str()))
        };
        assert_eq!(told(0), Some((202, "")));
        assert_eq!(told(1), Some((404, "BlobNotFound")));
        assert_eq!(answers[&1].text, "Gone.");
        assert_eq!(answers.len(), 2);
    }

    #[test]
    fn what_is_no_batch_answers_nothing() {
        assert!(answers("<html>sorry</html>").is_empty());
        assert!(answers("").is_empty());
    }
}
