//! Getting back what was stored: segments and clusters.

pub mod wal;
