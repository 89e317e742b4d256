//! Values and laws: what backups, WAL, policies and plans *are*. No I/O, no async, no clock, no logging.
//!
//! [`desired`] and [`observed`] are the two sides of the loop; [`judge`] and [`wal_expiry`] say what may go between them, [`schedule`] when
//! something is due, [`recovery`] what can be reached; [`action`], [`reason`] and [`condition`] are the words of a plan. Whatever can be
//! held here is valid: texts are parsed once, on the way in.

pub mod action;
pub mod backup;
pub mod catalog;
pub mod compression;
pub mod condition;
pub mod desired;
pub mod health;
pub mod judge;
pub mod lease;
pub mod location;
pub mod lock;
pub mod names;
pub mod observed;
pub mod policy;
pub mod progress;
pub mod reason;
pub mod receiving;
pub mod record;
pub mod recovery;
pub mod retention;
pub mod runs;
#[cfg(test)]
pub(crate) mod scene;
pub mod schedule;
pub mod semantics;
pub mod slot;
pub mod snapshot;
pub mod time;
pub mod timeline;
pub mod wal;
pub mod wal_expiry;
pub mod zone;
