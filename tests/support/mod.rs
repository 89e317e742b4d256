//! What the tests share that run against real programs: where these are, and throw-away clusters.
//!
//! A test that cannot run, because a program is missing, says so and passes; in CI, where `CI=true`, it fails.

// Each test binary compiles this module and uses a part of it.
#![allow(dead_code, reason = "no test binary uses all of it")]

#[cfg(feature = "azure")]
pub(crate) mod azurite;
pub(crate) mod backup;
pub(crate) mod bed;
pub(crate) mod certificates;
pub(crate) mod cloud;
pub(crate) mod cluster;
pub(crate) mod dice;
pub(crate) mod gcs;
pub(crate) mod http;
pub(crate) mod peer;
pub(crate) mod pgbench;
pub(crate) mod s3;
pub(crate) mod wait;
