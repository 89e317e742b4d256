//! The command line as people meet it: exit code, standard output and standard error together, and the documents that describe it.
//!
//! The real binary against directories; no PostgreSQL, no network but closed ports of this host.

mod adoption;
#[path = "../support/bed.rs"]
#[expect(dead_code, reason = "no server is run here")]
mod bed;
mod begin;
mod catalog;
mod configuration;
mod documents;
mod examples;
mod help;
mod import;
mod mounts;
mod packaged;
mod picture;
mod readme;
mod recoverable;
mod scene;
mod signals;
#[cfg(feature = "otlp")]
mod traces;
mod usage;
mod watch;
