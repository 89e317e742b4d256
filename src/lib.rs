//! barkeep: declarative PostgreSQL backups in Barman's cloud catalog.

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
