//! What keeps a blob from being destroyed, as headers and listings tell it.
//!
//! A policy of the container as a whole is not among it: the service shows its date on another interface only, and here just whether there
//! is one.

use azure_core::http::headers::Headers;

use super::{
    super::{LockMode, ObjectLock},
    answer::{header, instant},
};

/// A lock as a listing or an answer spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written<'t> {
    /// Until when, as HTTP writes instants.
    pub(super) until: Option<&'t str>,
    /// `Unlocked` or `Locked`, in any case.
    pub(super) mode: Option<&'t str>,
    /// `true` or `false`.
    pub(super) legal_hold: Option<&'t str>,
}

/// The lock in the headers of a blob.
pub(super) fn of_headers(headers: &Headers) -> Option<ObjectLock> {
    read(&Written {
        until: header(headers, "x-ms-immutability-policy-until-date"),
        mode: header(headers, "x-ms-immutability-policy-mode"),
        legal_hold: header(headers, "x-ms-legal-hold"),
    })
}

/// Whether a container as a whole retains what it holds, or may.
pub(super) fn of_container(headers: &Headers) -> bool {
    let says = |name: &str| header(headers, name).is_some_and(|told| told == "true");
    says("x-ms-has-immutability-policy")
        || says("x-ms-has-legal-hold")
        || says("x-ms-immutable-storage-with-versioning-enabled")
}

/// The lock in the words of the port; `None` where nothing is told.
pub(super) fn read(written: &Written<'_>) -> Option<ObjectLock> {
    let retained = written.until.map(|until| {
        // An unlocked policy also forbids deletes, but those with the right may shorten or remove it.
        let mode = match written.mode {
            Some(mode) if mode.eq_ignore_ascii_case("unlocked") => LockMode::Governance,
            _ => LockMode::Compliance,
        };
        (instant(Some(until)), mode)
    });
    let hold = written
        .legal_hold
        .map(|told| told.eq_ignore_ascii_case("true"));
    (retained.is_some() || hold.is_some()).then(|| ObjectLock {
        retained,
        legal_hold: hold == Some(true),
    })
}
