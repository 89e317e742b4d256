//! barkeep: declarative PostgreSQL backups in Barman's cloud catalog.

// The scenes of the tests are compiled here and with `tests/pure`, and name what they use in the same words.
#[cfg(test)]
extern crate self as barkeep;

pub mod actor;
pub mod cli;
pub mod clock;
pub mod config;
pub mod execute;
pub mod failure;
pub mod format;
pub mod model;
pub mod observe;
pub mod pipeline;
pub mod plan;
pub mod postgres;
pub mod reconcile;
pub mod recover;
pub mod secret;
pub mod spool;
pub mod store;
