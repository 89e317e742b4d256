//! What the SDK's errors mean.

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
};

use super::super::{Error, Meaning, Operation, PutMode, permission::Lack};
use crate::failure::chain;

/// The codes by which stores say what the status alone does not.
const MEANINGS: [(Meaning, &[&str]); 8] = [
    (Meaning::BucketMissing, &["NoSuchBucket"]),
    (
        Meaning::NotFound,
        &["NoSuchKey", "NotFound", "NoSuchUpload"],
    ),
    (
        Meaning::Precondition,
        &[
            "PreconditionFailed",
            "ConditionalRequestConflict",
            "InvalidRange",
        ],
    ),
    (
        Meaning::Throttled,
        &[
            "SlowDown",
            "ServiceUnavailable",
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
        ],
    ),
    (
        Meaning::Checksum,
        &[
            "BadDigest",
            "InvalidDigest",
            "XAmzContentSHA256Mismatch",
            "XAmzContentChecksumMismatch",
            "IncompleteBody",
        ],
    ),
    (Meaning::Unreachable, &["RequestTimeout", "InternalError"]),
    (
        Meaning::Unsupported,
        &[
            "NotImplemented",
            "MethodNotAllowed",
            "EntityTooLarge",
            "EntityTooSmall",
        ],
    ),
    (
        Meaning::PermissionDenied,
        &[
            "AccessDenied",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
            "InvalidToken",
            "TokenRefreshRequired",
        ],
    ),
];

/// The codes of a store that does not take whoever asks for who he says.
const UNRECOGNISED: [&str; 5] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
];

/// What was missing, of a refusal with this code and text.
pub(super) fn lack(code: &str, text: &str) -> Lack {
    // "User: arn:… is not authorized to perform: kms:Decrypt on resource: …"
    let named = text.split("not authorized to perform: ").nth(1);
    let named = named.and_then(|rest| rest.split_whitespace().next());
    match named {
        Some(permission) => Lack::Named(permission.to_owned()),
        None if UNRECOGNISED.contains(&code) => Lack::Recognition,
        None => Lack::Permission,
    }
}

/// What a code and a status mean.
pub(super) fn meaning(code: &str, message: &str, status: u16) -> Meaning {
    if status == 403 || code == "AccessDenied" {
        let locked = ["object lock", "Object Lock", "WORM", "legal hold"];
        if locked.iter().any(|word| message.contains(word)) {
            return Meaning::Locked;
        }
    }
    let known = MEANINGS.iter().find(|(_, codes)| codes.contains(&code));
    match (known, status) {
        (Some((meaning, _)), _) => *meaning,
        (None, 404) => Meaning::NotFound,
        (None, 409 | 412 | 416) => Meaning::Precondition,
        (None, 401 | 403) => Meaning::PermissionDenied,
        (None, 429 | 503) => Meaning::Throttled,
        (None, 405 | 501) => Meaning::Unsupported,
        (None, 500..=599) => Meaning::Unreachable,
        (None, _) => Meaning::Other,
    }
}

/// The meaning of a refused condition depends on the condition.
pub(super) fn conditional(mut error: Error, mode: &PutMode) -> Error {
    error.meaning = match (error.meaning, mode) {
        (Meaning::Precondition, PutMode::Create) => Meaning::AlreadyExists,
        // AWS finds no version of an object that is not there.
        (Meaning::NotFound, PutMode::Replace(_)) => Meaning::Precondition,
        (meaning, _) => meaning,
    };
    error
}

/// Turns an error of the SDK into ours.
pub(super) fn failed<E>(location: &str, operation: Operation, error: &SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let (meaning, said) = match error {
        SdkError::TimeoutError(_) => (Meaning::Unreachable, chain(error)),
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
            (Meaning::Unreachable, chain(error))
        }
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            let said = chain(error);
            let is_about_credentials = said.contains("redential");
            let meaning = if is_about_credentials {
                Meaning::PermissionDenied
            } else {
                Meaning::Other
            };
            (meaning, said)
        }
        SdkError::ServiceError(service) => {
            let response = service.raw();
            let metadata = service.err().meta();
            let code = metadata.code().unwrap_or_default();
            let text = metadata.message().unwrap_or_default();
            let meaning = match meaning(code, text, response.status().as_u16()) {
                // Whoever does not say what is missing need not be a store. Only the answer to HEAD has no room for it.
                Meaning::NotFound if code.is_empty() && operation != Operation::Head => {
                    Meaning::Unreachable
                }
                meaning => meaning,
            };
            (meaning, sentence(code, text, response))
        }
        SdkError::ResponseError(answer) => {
            let status = answer.raw().status().as_u16();
            let meaning = match meaning("", "", status) {
                // A success or an absence that cannot be understood, such as a proxy's page.
                Meaning::NotFound => Meaning::Unreachable,
                Meaning::Other if status < 300 => Meaning::Unreachable,
                meaning => meaning,
            };
            (meaning, format!("{} (status {status})", chain(error)))
        }
        _ => (Meaning::Other, chain(error)),
    };
    Error::new(meaning, operation, location).because(said)
}

fn sentence(code: &str, text: &str, response: &HttpResponse) -> String {
    let status = response.status().as_u16();
    let request = response.request_id().unwrap_or("-");
    match (code, text) {
        ("", "") => format!("status {status}, request {request}"),
        (code, "") => format!("{code} (status {status}, request {request})"),
        (code, text) => format!("{code}: {text} (status {status}, request {request})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_more_than_a_status() {
        let cases = [
            ("NoSuchBucket", 404, Meaning::BucketMissing),
            ("NoSuchKey", 404, Meaning::NotFound),
            ("", 404, Meaning::NotFound),
            ("AccessDenied", 403, Meaning::PermissionDenied),
            ("ConditionalRequestConflict", 409, Meaning::Precondition),
            ("SlowDown", 503, Meaning::Throttled),
            ("InternalError", 500, Meaning::Unreachable),
            ("", 502, Meaning::Unreachable),
            ("BadDigest", 400, Meaning::Checksum),
            ("NotImplemented", 501, Meaning::Unsupported),
            ("MalformedXML", 400, Meaning::Other),
        ];
        for (code, status, expected) in cases {
            assert_eq!(meaning(code, "", status), expected, "{code} {status}");
        }
        let locked = "Access Denied because object protected by object lock.";
        assert_eq!(meaning("AccessDenied", locked, 403), Meaning::Locked);
    }

    #[test]
    fn a_refusal_tells_what_is_missing() {
        let sentence = "User: arn:aws:iam::1:user/pg is not authorized to perform: \
                        kms:GenerateDataKey on resource: arn:aws:kms:eu-south-1:1:key/k";
        let named = Lack::Named("kms:GenerateDataKey".to_owned());
        let cases = [
            ("AccessDenied", "Access Denied", Lack::Permission),
            ("AccessDenied", sentence, named),
            ("ExpiredToken", "The token has expired.", Lack::Recognition),
        ];
        for (code, text, expected) in cases {
            assert_eq!(lack(code, text), expected, "{code} {text}");
        }
    }

    #[test]
    fn a_refused_condition_is_told_by_its_kind() {
        let refused = |mode| {
            let error = Error::new(Meaning::Precondition, Operation::Put, "x");
            conditional(error, &mode).meaning
        };
        let version = super::super::super::ObjectVersion("v".to_owned());
        assert_eq!(refused(PutMode::Create), Meaning::AlreadyExists);
        assert_eq!(refused(PutMode::Replace(version)), Meaning::Precondition);
    }
}
