//! barkeep: declarative PostgreSQL backups in Barman's cloud catalog.

pub mod failure;
pub mod model;
pub mod store;
