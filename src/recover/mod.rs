//! Bringing back what is stored.

pub mod wal;
