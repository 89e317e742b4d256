//! What `restore` is told of a backup of disk snapshots.

use clap::Args;

/// How a backup of disk snapshots becomes disks.
#[derive(Debug, Args)]
pub struct DiskArguments {
    /// For a backup of disk snapshots: the instance that gets disks made of them
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Of which kind these disks are, in the cloud's word
    #[arg(long, value_name = "TYPE")]
    pub disk_type: Option<String>,
    /// Google Cloud: the instance's zone, if it is not the configured one
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Mount the disks on this host, which is the instance
    #[arg(long)]
    pub mount: bool,
    /// Print which disks would be made, attached and mounted
    #[arg(long)]
    pub dry_run: bool,
}
