//! Getting back what was stored.

pub mod wal;
