//! The conformance suite against servers that speak a cloud's language, and what only they can show.
#![cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]

use barkeep::store::{Key, Meaning};

mod alike;
#[cfg(feature = "azure")]
mod azure;
mod faults;
#[cfg(feature = "gcp")]
mod gcs;
#[cfg(feature = "aws")]
mod s3;
#[cfg(any(feature = "azure", feature = "gcp"))]
mod sdk;
#[path = "../support/mod.rs"]
mod support;

fn key(text: &str) -> Key {
    Key::new(text).expect("a normal key")
}

fn meaning<T>(result: barkeep::store::Result<T>) -> Option<Meaning> {
    result.err().map(|error| error.meaning)
}
