//! The world, turned into facts.

pub mod wal;
