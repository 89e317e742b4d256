//! Arguments of `restore`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::DiskArguments;
use crate::model::{
    names::{DestinationName, ServerName},
    wal::Lsn,
};

/// `restore`
#[derive(Debug, Args)]
pub struct Restore {
    /// The server
    pub server: ServerName,
    /// The backup: id, name, shortcut, or `auto` for the best one for the target
    pub backup: String,
    /// The directory to restore into; must be empty or absent
    #[arg(value_name = "DIRECTORY")]
    pub directory: PathBuf,
    /// From this destination, if the server has several
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
    /// Put a tablespace elsewhere; may be repeated
    #[arg(long, value_name = "NAME:LOCATION", value_parser = tablespace)]
    pub tablespace: Vec<(String, PathBuf)>,
    /// What recovery stops at.
    #[command(flatten)]
    pub target: RecoveryArguments,
    /// What PostgreSQL does when it has reached the target
    #[arg(long, value_name = "ACTION", default_value = "promote")]
    pub target_action: TargetAction,
    /// Become a standby instead of ending recovery
    #[arg(long)]
    pub standby: bool,
    /// Leave archiving on in the restored cluster; only for one that replaces the old
    #[arg(long)]
    pub keep_archiving: bool,
    /// What is done with snapshots of disks.
    #[command(flatten)]
    pub disks: DiskArguments,
    /// How many archives are fetched at once
    #[arg(long, value_name = "N")]
    pub jobs: Option<std::num::NonZeroUsize>,
    /// Where PostgreSQL's programs are, for an incremental backup; looked for if unset
    #[arg(long, value_name = "DIRECTORY")]
    pub pg_bin: Option<PathBuf>,
    /// The `restore_command` to write; barkeep's own if unset, none if empty
    #[arg(long, value_name = "COMMAND")]
    pub restore_command: Option<String>,
}

/// What recovery stops at: at most one.
#[derive(Debug, Args)]
pub struct RecoveryArguments {
    /// Recover to an instant
    #[arg(long, value_name = "TIME", group = "target")]
    pub target_time: Option<String>,
    /// Recover to a WAL position
    #[arg(long, value_name = "LSN", group = "target")]
    pub target_lsn: Option<Lsn>,
    /// Recover to a transaction
    #[arg(long, value_name = "XID", group = "target")]
    pub target_xid: Option<u64>,
    /// Recover to a restore point made with `pg_create_restore_point`
    #[arg(long, value_name = "NAME", group = "target")]
    pub target_name: Option<String>,
    /// Stop as soon as the backup is consistent
    #[arg(long, group = "target")]
    pub target_immediate: bool,
    /// Stop just before the target rather than just after it
    #[arg(long)]
    pub exclusive: bool,
    /// Follow a timeline: a number, `current` or `latest`
    #[arg(long, value_name = "TIMELINE")]
    pub target_timeline: Option<String>,
}

/// What PostgreSQL does when it has reached the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetAction {
    /// Wait for somebody to look.
    Pause,
    /// Accept connections.
    Promote,
    /// Stop.
    Shutdown,
}

fn tablespace(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once(':') {
        Some((name, location)) if !name.is_empty() && location.starts_with('/') => {
            Ok((name.to_owned(), PathBuf::from(location)))
        }
        _ => Err("write NAME:LOCATION, the location being absolute".to_owned()),
    }
}
