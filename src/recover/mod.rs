//! Getting back what was stored.

pub mod base;
pub mod wal;
