//! What the SDK's errors mean.

use azure_core::{
    error::ErrorKind,
    http::{RawResponse, StatusCode},
};

use super::{
    super::{Error, Key, Meaning, Operation, PutMode, permission::Lack},
    answer::header,
    authorization::Authorization,
    client::Connection,
};
use crate::failure::chain;

/// The codes by which the service says what the status alone does not.
const MEANINGS: [(Meaning, &[&str]); 10] = [
    (
        Meaning::BucketMissing,
        &[
            "ContainerNotFound",
            "ContainerBeingDeleted",
            "ContainerDisabled",
        ],
    ),
    (
        Meaning::NotFound,
        // An upload that was given up has no blocks.
        &["BlobNotFound", "ResourceNotFound", "InvalidBlockList"],
    ),
    (
        Meaning::AlreadyExists,
        &["BlobAlreadyExists", "UnauthorizedBlobOverwrite"],
    ),
    (
        Meaning::Precondition,
        &["ConditionNotMet", "TargetConditionNotMet", "InvalidRange"],
    ),
    (
        Meaning::Throttled,
        &["ServerBusy", "TooManyRequests", "ServiceUnavailable"],
    ),
    (
        Meaning::Checksum,
        &["Md5Mismatch", "Crc64Mismatch", "InvalidMd5"],
    ),
    (
        Meaning::Unreachable,
        &["InternalError", "OperationTimedOut", "RequestTimeout"],
    ),
    (
        Meaning::Unsupported,
        &[
            "FeatureNotSupported",
            "FeatureVersionMismatch",
            "UnsupportedHttpVerb",
            "UnsupportedHeader",
            "UnsupportedQueryParameter",
            "InvalidQueryParameterValue",
            "RequestBodyTooLarge",
            "BlockCountExceedsLimit",
            "BlobArchived",
            "BlobBeingRehydrated",
            "NotImplemented",
        ],
    ),
    (
        Meaning::Locked,
        &[
            "BlobImmutableDueToPolicy",
            "BlobImmutableDueToLegalHold",
            "LeaseIdMissing",
            "LeaseAlreadyPresent",
        ],
    ),
    (
        Meaning::PermissionDenied,
        &[
            "AccountIsDisabled",
            "AuthenticationFailed",
            "AuthorizationFailure",
            "AuthorizationPermissionMismatch",
            "InsufficientAccountPermissions",
            "InvalidAuthenticationInfo",
            "KeyBasedAuthenticationNotPermitted",
            "NoAuthenticationInformation",
            "PublicAccessNotPermitted",
        ],
    ),
];

/// What a code and a status mean.
pub(super) fn meaning(code: &str, status: u16) -> Meaning {
    let known = MEANINGS.iter().find(|(_, codes)| codes.contains(&code));
    match (known, status) {
        (Some((meaning, _)), _) => *meaning,
        (None, 409 | 412 | 416) => Meaning::Precondition,
        (None, 401 | 403) => Meaning::PermissionDenied,
        (None, 429 | 503) => Meaning::Throttled,
        (None, 405 | 501) => Meaning::Unsupported,
        (None, 408 | 500..=599) => Meaning::Unreachable,
        // Also 404: without its code it is not the service that says so, but something before it.
        (None, _) => Meaning::Other,
    }
}

/// The meaning of a refused condition depends on the condition.
pub(super) fn conditional(mut error: Error, mode: &PutMode) -> Error {
    error.meaning = match (error.meaning, mode) {
        (Meaning::Precondition, PutMode::Create) => Meaning::AlreadyExists,
        (Meaning::NotFound | Meaning::AlreadyExists, PutMode::Replace(_)) => Meaning::Precondition,
        // A signature that may create but not overwrite.
        (Meaning::AlreadyExists, PutMode::Overwrite) => Meaning::PermissionDenied,
        (meaning, _) => meaning,
    };
    error
}

/// Turns an error of the SDK into ours.
pub(super) fn failed(
    connection: &Connection,
    location: &str,
    operation: Operation,
    error: &azure_core::Error,
) -> Error {
    let (meaning, said) = match error.kind() {
        ErrorKind::HttpResponse {
            status,
            error_code,
            raw_response,
        } => refused(*status, error_code.as_deref(), raw_response.as_deref()),
        ErrorKind::Connection | ErrorKind::Io => (Meaning::Unreachable, chain(error)),
        ErrorKind::Credential => (Meaning::PermissionDenied, chain(error)),
        _ => (Meaning::Other, chain(error)),
    };
    let said = connection.authorization.blot(&said);
    let lack = lack(&connection.authorization, operation, &said);
    let refused = Error::new(meaning, operation, location).because(said);
    match error.kind() {
        // Nobody has been refused who never found out who to be.
        ErrorKind::Credential => refused,
        _ => refused.refusing(&connection.asker.principal(), lack),
    }
}

fn refused(
    status: StatusCode,
    code: Option<&str>,
    response: Option<&RawResponse>,
) -> (Meaning, String) {
    let status = u16::from(status);
    let headers = response.map(RawResponse::headers);
    let named = headers.and_then(|headers| header(headers, "x-ms-error-code"));
    let body = response.map(|response| String::from_utf8_lossy(response.body()).into_owned());
    let body = body.unwrap_or_default();
    let code = named
        .or_else(|| element(&body, "Code"))
        .or(code)
        .unwrap_or_default();
    let request = headers.and_then(|headers| header(headers, "x-ms-request-id"));
    let said = sentence(
        code,
        element(&body, "Message"),
        status,
        request.unwrap_or("-"),
    );
    let meaning = match meaning(code, status) {
        // A success that cannot be understood, such as a proxy's page.
        Meaning::Other if status < 300 => Meaning::Unreachable,
        meaning => meaning,
    };
    (meaning, said)
}

/// The service's sentence without what follows it: the request's id and the time, each on a line.
fn sentence(code: &str, text: Option<&str>, status: u16, request: &str) -> String {
    let text = text
        .and_then(|text| text.lines().next())
        .unwrap_or_default();
    match (code, text) {
        ("", "") => format!("status {status}, request {request}"),
        (code, "") => format!("{code} (status {status}, request {request})"),
        (code, text) => format!("{code}: {text} (status {status}, request {request})"),
    }
}

/// The text of a simple element.
pub(super) fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(content)
}

/// What whoever asks lacks, as far as a refusal can tell.
fn lack(authorization: &Authorization, operation: Operation, said: &str) -> Lack {
    const STRANGERS: [&str; 3] = [
        "AuthenticationFailed",
        "InvalidAuthenticationInfo",
        "NoAuthenticationInformation",
    ];
    let is_stranger = STRANGERS.iter().any(|code| said.starts_with(code));
    match authorization {
        _ if is_stranger => Lack::Recognition,
        // A key may do everything, unless the account takes none, or none from here.
        Authorization::Key(_) => Lack::Recognition,
        Authorization::Signature(_) => Lack::Named(format!("sp={}", letters(operation))),
        Authorization::Token(_) => Lack::Permission,
    }
}

/// What a shared access signature has to allow.
fn letters(operation: Operation) -> &'static str {
    match operation {
        Operation::Get | Operation::Head => "r",
        Operation::List
        | Operation::ListUploads
        | Operation::Locks
        | Operation::Retention
        | Operation::CheckReachable
        | Operation::Time => "rl",
        Operation::Delete => "d",
        Operation::AbortUpload => "wd",
        Operation::CreateDestination => "c",
        Operation::Put
        | Operation::BeginUpload
        | Operation::PutPart
        | Operation::CompleteUpload
        | Operation::Open => "cw",
    }
}

/// The same, about an object.
pub(super) fn failed_with(
    connection: &Connection,
    location: &str,
    (operation, key): (Operation, &Key),
    error: &azure_core::Error,
) -> Error {
    failed(connection, location, operation, error).about(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_more_than_a_status() {
        let cases = [
            ("ContainerNotFound", 404, Meaning::BucketMissing),
            ("BlobNotFound", 404, Meaning::NotFound),
            ("", 404, Meaning::Other),
            ("BlobAlreadyExists", 409, Meaning::AlreadyExists),
            ("ConditionNotMet", 412, Meaning::Precondition),
            ("BlobImmutableDueToPolicy", 409, Meaning::Locked),
            ("LeaseIdMissing", 412, Meaning::Locked),
            ("ServerBusy", 503, Meaning::Throttled),
            ("OperationTimedOut", 500, Meaning::Unreachable),
            ("", 502, Meaning::Unreachable),
            (
                "AuthorizationPermissionMismatch",
                403,
                Meaning::PermissionDenied,
            ),
            ("", 403, Meaning::PermissionDenied),
            ("Md5Mismatch", 400, Meaning::Checksum),
            ("InvalidBlockList", 400, Meaning::NotFound),
            ("InvalidHeaderValue", 400, Meaning::Other),
        ];
        for (code, status, expected) in cases {
            assert_eq!(meaning(code, status), expected, "{code} {status}");
        }
    }

    #[test]
    fn a_refused_condition_means_what_was_asked() {
        let replace = || PutMode::Replace(super::super::super::ObjectVersion("x".to_owned()));
        let cases = [
            (
                Meaning::Precondition,
                PutMode::Create,
                Meaning::AlreadyExists,
            ),
            (Meaning::Precondition, replace(), Meaning::Precondition),
            (Meaning::NotFound, replace(), Meaning::Precondition),
            (
                Meaning::AlreadyExists,
                PutMode::Overwrite,
                Meaning::PermissionDenied,
            ),
        ];
        for (told, mode, expected) in cases {
            let error = conditional(Error::new(told, Operation::Put, "x"), &mode);
            assert_eq!(error.meaning, expected, "{mode:?}");
        }
    }

    #[test]
    fn only_the_services_sentence_is_shown() {
        let body = "<Error><Code>X</Code><Message>No.\nRequestId:1\nTime:2</Message></Error>";
        let said = sentence("X", element(body, "Message"), 400, "1");
        assert_eq!(said, "X: No. (status 400, request 1)");
    }
}
