//! Carrying out what was decided or asked for.

pub mod archive_wal;
pub mod base_backup;
