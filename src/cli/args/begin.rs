//! What can be typed to begin with: `init` and `import`.

use std::path::PathBuf;

use clap::Args;

use crate::model::{
    location::Location,
    names::{DestinationName, ServerName},
};

/// `init`
#[derive(Debug, Args)]
pub struct Init {
    /// The server's name, in the configuration and in the catalog
    #[arg(long, value_name = "NAME")]
    pub server: ServerName,
    /// How to reach it: a libpq connection string or URI, without a password; else PG* variables decide
    #[arg(long, value_name = "CONNINFO", default_value = "")]
    pub conninfo: String,
    /// The file that holds its password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Where backups go: an URL that begins with s3, gs, https (Azure) or file
    #[arg(long, value_name = "URL")]
    pub destination: Location,
    /// What the destination is called in the configuration
    #[arg(long, value_name = "NAME", default_value = "primary")]
    pub destination_name: DestinationName,
    /// S3: the region
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// S3 and Google Cloud: the URL of a store that is not the provider's own
    #[arg(long, value_name = "URL")]
    pub endpoint_url: Option<String>,
    /// S3: the profile of the shared configuration files
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// The policy that the server follows: a ready-made one, or one of the configuration
    #[arg(long, value_name = "NAME", default_value = "silver")]
    pub policy: String,
    /// The time zone of schedules and of the names of backups, such as Europe/Rome
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Be this file of the configuration, as in `conf.d/orders.toml`, once it is put there; what is there now does not count
    #[arg(long = "as", value_name = "PLACE")]
    pub place: Option<PathBuf>,
    /// Write into this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `import`
#[derive(Debug, Args)]
// Something must be read.
#[command(group(clap::ArgGroup::new("sources").args(["barman", "crontab", "kubernetes"]).required(true).multiple(true)))]
pub struct Import {
    /// Barman's configuration, and what lies in its `configuration_files_directory`; may be repeated
    #[arg(long, value_name = "FILE")]
    pub barman: Vec<PathBuf>,
    /// A crontab: a user's, `/etc/crontab` or a file of `/etc/cron.d`; may be repeated
    #[arg(long, value_name = "FILE")]
    pub crontab: Vec<PathBuf>,
    /// `ObjectStore`, `Cluster` and `ScheduledBackup` objects as YAML or JSON; may be repeated
    #[arg(long, value_name = "FILE")]
    pub kubernetes: Vec<PathBuf>,
    /// The time zone in which the crontabs were meant; this machine's if unset
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Write into this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
