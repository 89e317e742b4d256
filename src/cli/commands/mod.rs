//! One command per file: its arguments come from `args`, its work is done below `cli`, its result is printed here.

pub(super) mod abandon;
pub(super) mod adopt;
pub(super) mod backup;
mod capabilities;
pub(super) mod catalog;
pub(super) mod check;
pub(super) mod configuration;
pub(super) mod delete;
pub(super) mod explain;
pub(super) mod generate;
pub(super) mod import;
pub(super) mod init;
pub(super) mod keep;
mod new_file;
pub(super) mod permissions;
pub(super) mod plan;
pub(super) mod reconcile;
pub(super) mod recoverable;
pub(super) mod restore;
pub(super) mod slot;
pub(super) mod status;
pub(super) mod undelete;
pub(super) mod unlock;
pub(super) mod verify;
pub(super) mod wal;
pub(super) mod watch;
