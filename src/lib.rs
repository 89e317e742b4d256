//! barkeep: declarative PostgreSQL backups in Barman's cloud catalog.

pub mod actor;
pub mod clock;
pub mod failure;
pub mod format;
pub mod model;
pub mod pipeline;
pub mod postgres;
pub mod secret;
pub mod store;
