//! A request, taken apart.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::http::Request;

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

    pub(super) fn of(request: &Request) -> Self {
        let (headers, body) = (request.headers.clone(), request.body.clone());
        Self::new(request.method(), request.target(), headers, body)
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
