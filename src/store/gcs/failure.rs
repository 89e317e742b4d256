//! What the service's refusals mean, and how they are told: who was refused what, where, and what is missing.
//!
//! The JSON interface refuses with a reason, the XML interface with a code; both say the same, with a message.

use quick_xml::{Reader, events::Event};
use serde::Deserialize;

use super::{
    super::{
        Error, Meaning, PutMode,
        permission::{Lack, Principal},
    },
    client::Request,
};

/// A refusal longer than this is some proxy's page.
const MESSAGE_CHARACTERS_MAX: usize = 500;

/// Reasons and codes that say what the status alone does not.
const MEANINGS: [(Meaning, &[&str]); 6] = [
    (Meaning::BucketMissing, &["NoSuchBucket"]),
    (
        Meaning::NotFound,
        &["NoSuchKey", "NoSuchUpload", "notFound"],
    ),
    (
        Meaning::Precondition,
        &["conditionNotMet", "PreconditionFailed", "InvalidRange"],
    ),
    (
        Meaning::Throttled,
        &[
            "rateLimitExceeded",
            "userRateLimitExceeded",
            "quotaExceeded",
            "SlowDown",
            "ServiceUnavailable",
        ],
    ),
    (
        Meaning::Locked,
        &[
            "retentionPolicyNotMet",
            "objectUnderActiveHold",
            "RetentionPolicyNotMet",
            "ObjectUnderActiveHold",
        ],
    ),
    (
        Meaning::Checksum,
        &["BadDigest", "InvalidDigest", "IncompleteBody"],
    ),
];

/// What was asked, by whom.
pub(super) struct Asked<'a> {
    pub(super) location: &'a str,
    pub(super) principal: &'a Principal,
    pub(super) request: &'a Request,
}

/// What was answered.
pub(super) struct Answered<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

/// The service's own words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    reason: String,
    message: String,
}

/// Turns a refusal into ours.
pub(super) fn refused(asked: &Asked<'_>, answered: &Answered<'_>) -> Error {
    let said = said(answered.body);
    let meaning = meaning(&said, answered.status);
    let request = asked.request;
    let error = Error::new(meaning, request.operation, asked.location);
    let error = match &request.key {
        Some(key) => error.about(key),
        None => error,
    };
    let error = error.because(sentence(request, meaning, &said, answered.status));
    error.refusing(asked.principal, lack(&said, answered.status))
}

/// The meaning of a refused condition depends on the condition.
pub(super) fn conditional(mut error: Error, mode: &PutMode) -> Error {
    error.meaning = match (error.meaning, mode) {
        (Meaning::Precondition, PutMode::Create) => Meaning::AlreadyExists,
        (Meaning::NotFound, PutMode::Replace(_)) => Meaning::Precondition,
        (meaning, _) => meaning,
    };
    error
}

/// Whether the service itself says that it is the object which is missing.
pub(super) fn names_object(error: &Error) -> bool {
    let words = std::error::Error::source(error);
    words.is_some_and(|words| words.to_string().contains("No such object"))
}

fn meaning(said: &Said, status: u16) -> Meaning {
    let has = |words: &[&str]| words.iter().any(|word| said.message.contains(word));
    if has(&["specified bucket does not exist"]) {
        return Meaning::BucketMissing;
    }
    if status == 403
        && has(&[
            "retention policy",
            "active hold",
            "event-based hold",
            "temporary hold",
        ])
    {
        return Meaning::Locked;
    }
    if status == 400 && has(&["CRC32C", "crc32c", "MD5"]) {
        return Meaning::Checksum;
    }
    let known = |(_, words): &&(Meaning, &[&str])| words.contains(&said.reason.as_str());
    match (MEANINGS.iter().find(known), status) {
        (Some((meaning, _)), _) => *meaning,
        (None, 404 | 410) => Meaning::NotFound,
        (None, 304 | 409 | 412 | 416) => Meaning::Precondition,
        (None, 401 | 403) => Meaning::PermissionDenied,
        (None, 429 | 503) => Meaning::Throttled,
        (None, 405 | 501) => Meaning::Unsupported,
        (None, 408 | 500..=599) => Meaning::Unreachable,
        (None, _) => Meaning::Other,
    }
}

fn sentence(asked: &Request, meaning: Meaning, said: &Said, status: u16) -> String {
    let Said { reason, message } = said;
    let words = match (reason.as_str(), message.as_str()) {
        ("", "") => format!("status {status}"),
        (reason, "") => format!("{reason} (status {status})"),
        ("", message) => format!("{message} (status {status})"),
        (reason, message) => format!("{reason}: {message} (status {status})"),
    };
    match meaning {
        Meaning::PermissionDenied => format!("{} {}: {words}", asked.method, asked.url.path()),
        _ => words,
    }
}

/// What was missing, of a refusal with these words.
fn lack(said: &Said, status: u16) -> Lack {
    // "pg@p.iam.gserviceaccount.com does not have storage.objects.create access to …"
    let is_name = |word: &&str| word.starts_with("storage.") && word.matches('.').count() == 2;
    let words = said
        .message
        .split(|c: char| !c.is_alphanumeric() && c != '.');
    let named = words.map(|word| word.trim_matches('.')).find(is_name);
    match (named, status) {
        (Some(permission), _) => Lack::Named(permission.to_owned()),
        (None, 401) => Lack::Recognition,
        (None, _) => Lack::Permission,
    }
}

/// Reads a refusal in either interface's form.
fn said(body: &[u8]) -> Said {
    #[derive(Deserialize)]
    struct Outer {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        reason: String,
    }
    if let Ok(Outer { error }) = serde_json::from_slice(body) {
        return Said {
            reason: error
                .errors
                .into_iter()
                .next()
                .map_or_else(String::new, |first| first.reason),
            message: short(&error.message.unwrap_or_default()),
        };
    }
    let text = String::from_utf8_lossy(body);
    match elements(&text, &["Code", "Message", "Details"]).as_slice() {
        [] => Said {
            reason: String::new(),
            message: short(text.trim()),
        },
        found => {
            let told = |wanted: &str| {
                let found = found.iter().find(|(name, _)| name == wanted);
                found.map_or("", |(_, text)| text.as_str())
            };
            // The details name what the message only hints at.
            let message = format!("{} {}", told("Message"), told("Details"));
            Said {
                reason: told("Code").to_owned(),
                message: short(message.trim()),
            }
        }
    }
}

fn short(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ")
        .chars()
        .take(MESSAGE_CHARACTERS_MAX)
        .collect()
}

/// The texts of the elements of these names, in order. What follows a fault of the document is left out.
pub(super) fn elements(document: &str, names: &[&str]) -> Vec<(String, String)> {
    let mut reader = Reader::from_str(document);
    let mut found: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                inside = names.contains(&name.as_str());
                if inside {
                    found.push((name, String::new()));
                }
            }
            Ok(Event::Text(text)) if inside => {
                let text = text.decode().unwrap_or_default();
                found.last_mut().expect("begun").1.push_str(&text);
            }
            Ok(Event::GeneralRef(reference)) if inside => {
                let name = reference.decode().unwrap_or_default();
                let meant = match reference.resolve_char_ref() {
                    Ok(Some(character)) => character.to_string(),
                    _ => quick_xml::escape::resolve_xml_entity(&name)
                        .unwrap_or_default()
                        .to_owned(),
                };
                found.last_mut().expect("begun").1.push_str(&meant);
            }
            Ok(Event::End(_)) => inside = false,
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(reason: &str, message: &str) -> String {
        format!(
            r#"{{"error": {{"code": 0, "message": "{message}", "errors": [{{"reason": "{reason}"}}]}}}}"#
        )
    }

    #[test]
    fn both_interfaces_say_what_a_refusal_means() {
        let xml = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        let cases = [
            (
                404,
                json("notFound", "No such object: b/a"),
                Meaning::NotFound,
            ),
            (
                404,
                json("notFound", "The specified bucket does not exist."),
                Meaning::BucketMissing,
            ),
            (404, xml("NoSuchBucket"), Meaning::BucketMissing),
            (404, xml("NoSuchUpload"), Meaning::NotFound),
            (412, json("conditionNotMet", ""), Meaning::Precondition),
            (416, String::new(), Meaning::Precondition),
            (
                403,
                json("forbidden", "no access"),
                Meaning::PermissionDenied,
            ),
            (
                401,
                json("authError", "Invalid Credentials"),
                Meaning::PermissionDenied,
            ),
            (403, json("retentionPolicyNotMet", ""), Meaning::Locked),
            (
                403,
                json(
                    "forbidden",
                    "Object is subject to bucket's retention policy",
                ),
                Meaning::Locked,
            ),
            (403, json("objectUnderActiveHold", ""), Meaning::Locked),
            (403, json("userRateLimitExceeded", ""), Meaning::Throttled),
            (429, json("rateLimitExceeded", ""), Meaning::Throttled),
            (503, xml("ServiceUnavailable"), Meaning::Throttled),
            (500, json("backendError", ""), Meaning::Unreachable),
            (502, "<html>sorry</html>".to_owned(), Meaning::Unreachable),
            (
                400,
                json("invalid", "Provided CRC32C does not match"),
                Meaning::Checksum,
            ),
            (400, json("invalid", "Bad name"), Meaning::Other),
            (501, String::new(), Meaning::Unsupported),
        ];
        for (status, body, expected) in cases {
            let said = said(body.as_bytes());
            assert_eq!(meaning(&said, status), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_refusal_tells_what_is_missing() {
        let message = "a@p does not have storage.buckets.get access to the bucket.";
        let cases = [
            (
                403,
                json("forbidden", message),
                Lack::Named("storage.buckets.get".to_owned()),
            ),
            (
                403,
                json("forbidden", "storage is not for you."),
                Lack::Permission,
            ),
            (401, json("authError", ""), Lack::Recognition),
        ];
        for (status, body, expected) in cases {
            assert_eq!(lack(&said(body.as_bytes()), status), expected, "{body}");
        }
    }

    #[test]
    fn elements_are_read_as_they_were_meant() {
        let document = "<?xml version='1.0'?><A xmlns='x'><Key>a&amp;b&#39;&lt;</Key><N>1</N></A>";
        let found = elements(document, &["Key"]);
        assert_eq!(found, [("Key".to_owned(), "a&b'<".to_owned())]);
        assert!(elements("no document", &["Key"]).is_empty());
    }
}
