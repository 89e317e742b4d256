//! The nine commands beside Barman's own: the same command line to both, the same end from both.

#[path = "../support/mod.rs"]
mod support;

mod base;
mod case;
mod pair;
mod wal_archive;
mod wal_restore;
