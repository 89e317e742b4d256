//! Values and laws: what backups, WAL, policies and plans *are*. No I/O, no async, no clock, no logging.

pub mod backup;
pub mod catalog;
pub mod compression;
pub mod names;
pub mod time;
pub mod timeline;
pub mod wal;
