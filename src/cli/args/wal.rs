//! Arguments of what is done about WAL.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::model::{
    names::{DestinationName, ServerName},
    wal::WalFile,
};

/// `wal-archive`
#[derive(Debug, Args)]
pub struct WalArchive {
    /// The server
    pub server: ServerName,
    /// The file: PostgreSQL's `%p`
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}

/// `wal-restore`
#[derive(Debug, Args)]
pub struct WalRestore {
    /// The server
    pub server: ServerName,
    /// The file's name: PostgreSQL's `%f`
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where to put it: PostgreSQL's `%p`
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Only from this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
    /// Never deliver a partial segment
    #[arg(long)]
    pub no_partial: bool,
}

/// `wal`
#[derive(Debug, Args)]
pub struct Wal {
    /// What to do.
    #[command(subcommand)]
    pub what: WalCommand,
}

/// What can be done about a WAL archive.
#[derive(Debug, Subcommand)]
pub enum WalCommand {
    /// Tell what collided in the WAL archive, and say which of it is right
    ///
    /// Where two contents come under one name, the first has the place and the other is put aside, and archiving stands still until a person
    /// says which one is right: with `--take` and the beginning of its digest. What has the place then is put aside before; nothing is deleted.
    Resolve(WalResolve),
}

/// `wal resolve`
#[derive(Debug, Args)]
pub struct WalResolve {
    /// The server
    pub server: ServerName,
    /// Only this file
    pub file: Option<WalFile>,
    /// Give the place to the content with this digest, or one that begins so
    #[arg(long, value_name = "DIGEST", requires = "file")]
    pub take: Option<String>,
    /// Only in this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<DestinationName>,
}
