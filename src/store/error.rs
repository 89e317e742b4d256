//! Why a store did not do what it was asked.
//!
//! The meanings are closed, so that a caller can decide on them; what the store itself said is the source.

use std::{fmt, sync::Arc};

use super::{
    Key,
    permission::{Lack, Principal, Refusal},
};
use crate::failure::{Disposition, Kind};

/// What a store was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Write an object.
    Put,
    /// Read an object.
    Get,
    /// Look at an object.
    Head,
    /// List.
    List,
    /// Delete an object.
    Delete,
    /// See whether objects are locked.
    Locks,
    /// See what the destination does to keep what it holds.
    Retention,
    /// Begin an object sent in parts.
    BeginUpload,
    /// Send a part.
    PutPart,
    /// Make an object of its parts.
    CompleteUpload,
    /// Give up an object sent in parts.
    AbortUpload,
    /// List the unfinished ones.
    ListUploads,
    /// See whether the destination answers.
    CheckReachable,
    /// Create the bucket or directory.
    CreateDestination,
    /// Ask for the time.
    Time,
    /// Make the client.
    Open,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; Self::Open as usize + 1] = [
        Self::Put,
        Self::Get,
        Self::Head,
        Self::List,
        Self::Delete,
        Self::Locks,
        Self::Retention,
        Self::BeginUpload,
        Self::PutPart,
        Self::CompleteUpload,
        Self::AbortUpload,
        Self::ListUploads,
        Self::CheckReachable,
        Self::CreateDestination,
        Self::Time,
        Self::Open,
    ];

    /// Whether it may change what is stored.
    pub fn is_write(self) -> bool {
        match self {
            Self::Put
            | Self::Delete
            | Self::BeginUpload
            | Self::PutPart
            | Self::CompleteUpload
            | Self::AbortUpload
            | Self::CreateDestination => true,
            Self::Get
            | Self::Head
            | Self::List
            | Self::Locks
            | Self::Retention
            | Self::ListUploads
            | Self::CheckReachable
            | Self::Time
            | Self::Open => false,
        }
    }

    /// A word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Locks => "locks",
            Self::Retention => "retention",
            Self::BeginUpload => "begin-upload",
            Self::PutPart => "put-part",
            Self::CompleteUpload => "complete-upload",
            Self::AbortUpload => "abort-upload",
            Self::ListUploads => "list-uploads",
            Self::CheckReachable => "check-reachable",
            Self::CreateDestination => "create-destination",
            Self::Time => "time",
            Self::Open => "open",
        }
    }

    fn phrase(self) -> &'static str {
        match self {
            Self::Put => "write",
            Self::Get => "read",
            Self::Head => "look at",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Locks => "see the lock of",
            Self::Retention => "see the retention of",
            Self::BeginUpload => "begin to upload",
            Self::PutPart => "upload a part of",
            Self::CompleteUpload => "complete the upload of",
            Self::AbortUpload => "abort the upload of",
            Self::ListUploads => "list unfinished uploads of",
            Self::CheckReachable => "reach",
            Self::CreateDestination => "create",
            Self::Time => "ask the time of",
            Self::Open => "open",
        }
    }
}

/// What a failure means to whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meaning {
    /// The object is not there, and the store said so.
    NotFound,
    /// The object must not exist, and does.
    AlreadyExists,
    /// The object is not the version asked for, or the range begins beyond its end.
    Precondition,
    /// The store refuses these credentials this request.
    PermissionDenied,
    /// The bucket or directory is not there.
    BucketMissing,
    /// No answer: not connected, or not in time.
    Unreachable,
    /// The store answers that it is busy.
    Throttled,
    /// The object is locked against the change.
    Locked,
    /// What arrived is not what was sent.
    Checksum,
    /// The store, or this implementation of it, cannot do that.
    Unsupported,
    /// The right to delete does not last long enough any more.
    RightLost,
    /// The caller stopped it.
    Interrupted,
    /// Anything else.
    Other,
}

impl Meaning {
    fn phrase(self) -> &'static str {
        match self {
            Self::NotFound => "it does not exist",
            Self::AlreadyExists => "it exists already",
            Self::Precondition => "it is not in the expected state",
            Self::PermissionDenied => "permission denied",
            Self::BucketMissing => "the destination does not exist",
            Self::Unreachable => "the destination does not answer",
            Self::Throttled => "the destination is busy",
            Self::Locked => "it is locked",
            Self::Checksum => "the checksum differs",
            Self::Unsupported => "not supported there",
            Self::RightLost => "the right to delete is not certain any more",
            Self::Interrupted => "interrupted",
            Self::Other => "the request failed",
        }
    }
}

type Source = Arc<dyn std::error::Error + Send + Sync>;

/// A store did not do what it was asked.
#[derive(Clone, Debug)]
pub struct Error {
    /// What it means.
    pub meaning: Meaning,
    /// What was asked.
    pub operation: Operation,
    /// The object, or the prefix of a listing, if it was about one.
    pub key: Option<Key>,
    /// The URL of the destination.
    pub location: Arc<str>,
    source: Option<Source>,
}

impl Error {
    /// An error without a cause beyond its meaning.
    pub fn new(meaning: Meaning, operation: Operation, location: impl Into<Arc<str>>) -> Self {
        Self {
            meaning,
            operation,
            key: None,
            location: location.into(),
            source: None,
        }
    }

    /// The same, about this object.
    #[must_use]
    pub fn about(mut self, key: &Key) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// The same, of the whole destination, met while doing this.
    #[must_use]
    pub fn during(mut self, operation: Operation) -> Self {
        self.operation = operation;
        self.key = None;
        self
    }

    /// The same, because of this.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(Source::from(source.into()));
        self
    }

    /// The same; a refusal then names who was refused, and what is missing.
    #[must_use]
    pub fn refusing(mut self, principal: &Principal, lack: Lack) -> Self {
        if self.meaning == Meaning::PermissionDenied {
            self.source = Some(Arc::new(Refusal {
                principal: principal.clone(),
                lack,
                operation: self.operation,
                source: self.source.take(),
            }));
        }
        self
    }

    /// Whether the object is known not to be there.
    pub fn is_not_found(&self) -> bool {
        self.meaning == Meaning::NotFound
    }

    /// Whether a conditional write was refused because of what is there.
    pub fn is_conflict(&self) -> bool {
        matches!(self.meaning, Meaning::AlreadyExists | Meaning::Precondition)
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self.meaning {
            Meaning::NotFound | Meaning::BucketMissing => Kind::NotFound,
            Meaning::Unreachable | Meaning::Throttled => Kind::Unreachable,
            Meaning::Locked => Kind::Refused,
            Meaning::Checksum => Kind::Verification,
            Meaning::RightLost => Kind::LeaseHeld,
            Meaning::Interrupted => Kind::Interrupted,
            Meaning::AlreadyExists
            | Meaning::Precondition
            | Meaning::PermissionDenied
            | Meaning::Unsupported
            | Meaning::Other => Kind::Failed,
        }
    }

    /// Whether asking again can help. A write without an answer may have happened.
    pub fn disposition(&self) -> Disposition {
        match self.meaning {
            Meaning::Unreachable | Meaning::Interrupted | Meaning::Other
                if self.operation.is_write() =>
            {
                Disposition::Unknown
            }
            Meaning::Unreachable | Meaning::Throttled | Meaning::Checksum => Disposition::Transient,
            Meaning::NotFound
            | Meaning::AlreadyExists
            | Meaning::Precondition
            | Meaning::PermissionDenied
            | Meaning::BucketMissing
            | Meaning::Locked
            | Meaning::RightLost
            | Meaning::Unsupported
            | Meaning::Interrupted
            | Meaning::Other => Disposition::Permanent,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, location) = (self.operation.phrase(), &self.location);
        let meaning = self.meaning.phrase();
        match &self.key {
            Some(key) => write!(
                formatter,
                "cannot {verb} `{key}` in `{location}`: {meaning}"
            ),
            None => write!(formatter, "cannot {verb} `{location}`: {meaning}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::chain;

    #[test]
    fn a_message_names_what_was_asked_of_what() {
        let error = Error::new(Meaning::PermissionDenied, Operation::Get, "s3://b/p")
            .about(&Key::verbatim("srv/x"))
            .because("AccessDenied");
        assert_eq!(
            chain(&error),
            "cannot read `srv/x` in `s3://b/p`: permission denied: AccessDenied"
        );
    }

    #[test]
    fn a_write_without_an_answer_may_have_happened() {
        let cases = [
            (Operation::Put, Meaning::Unreachable, Disposition::Unknown),
            (Operation::Get, Meaning::Unreachable, Disposition::Transient),
            (Operation::Put, Meaning::Throttled, Disposition::Transient),
            (
                Operation::Put,
                Meaning::PermissionDenied,
                Disposition::Permanent,
            ),
        ];
        for (operation, meaning, expected) in cases {
            let error = Error::new(meaning, operation, "x");
            assert_eq!(error.disposition(), expected, "{error}");
        }
    }
}
