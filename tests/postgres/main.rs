//! Against real servers of every supported major version.

#[path = "../support/mod.rs"]
mod support;

mod base_backup;
mod connect;
mod replication;
mod sql;
mod streamed;
mod tls;
mod wal;
