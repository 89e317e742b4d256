//! Carrying out what was decided or asked for.

pub mod archive_wal;
