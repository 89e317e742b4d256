//! Answers as the two interfaces word them.

use serde_json::{Value, json};

use super::{super::http::Answer, state::now};

pub(super) fn empty(status: u16) -> Answer {
    let date = now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    Answer {
        status,
        headers: vec![("date".to_owned(), date)],
        body: Vec::new(),
    }
}

pub(super) fn with_body(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    Answer {
        body: body.into(),
        ..empty(status).with("content-type", media_type)
    }
}

pub(super) fn json(value: &Value) -> Answer {
    with_body(200, "application/json; charset=UTF-8", value.to_string())
}

pub(super) fn xml(status: u16, body: &str) -> Answer {
    let body = format!("<?xml version='1.0' encoding='UTF-8'?>{body}");
    with_body(status, "application/xml; charset=UTF-8", body)
}

/// A refusal by the JSON interface.
pub(super) fn refusal(status: u16, reason: &str, message: &str) -> Answer {
    let one = json!({ "message": message, "domain": "global", "reason": reason });
    let refusal = json!({
        "error": { "code": status, "message": message, "errors": [one] }
    });
    Answer {
        status,
        ..self::json(&refusal)
    }
}
