//! The tables and words within the settings that defaults, policies, servers and entries share.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Written;
use crate::{
    config::quantity::{Bytes, FromText, LevelText, OrNone, Text, TextOr, Until},
    model::{
        backup::KeepTarget,
        compression::Compression,
        desired::{AzureCredential, CalendarSpan, Delivery, Period},
        retention::Window,
    },
};

/// How backups are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// PostgreSQL's files are read where barkeep runs.
    Files,
    /// Over the replication protocol.
    Stream,
    /// Of the cloud's volumes.
    Snapshot,
}

/// A backup every so often.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntervalTable {
    /// How often: with `at` a divisor of a day or a number of whole days, else any time from 1m to
    /// 366d. Required.
    pub every: Option<Text<std::time::Duration>>,
    /// From which local time of day on. Without it the interval is counted from 1970-01-01 00:00
    /// UTC.
    pub at: Option<String>,
}

/// Incremental backups.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncrementalTable {
    /// How often a backup is a full one. Required.
    pub full_every: Option<Written<Text<std::time::Duration>>>,
    /// How many backups a chain may have, its full one included; 14 if unset.
    pub max_chain: Option<Written<u32>>,
}

/// How long backups stay; one of the two.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionTable {
    /// Whatever is needed to reach any instant of the past so long.
    pub window: Option<Text<Window>>,
    /// So many of the newest.
    pub redundancy: Option<u32>,
}

/// Backups to keep: a rule of the calendar, or one backup.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepTable {
    /// Keeps the first good backup of every `day`, `week` (from Monday), `month` or `year`.
    pub first_of: Option<Written<Period>>,
    /// For how long a rule keeps: `12 months`.
    #[serde(rename = "for")]
    pub keep_for: Option<Written<Text<CalendarSpan>>>,
    /// Keeps the backup of this id or name.
    pub backup: Option<Written<String>>,
    /// `full`: with all WAL from it on. `standalone`: with the WAL that makes it consistent.
    /// Required.
    pub target: Option<Written<KeepTarget>>,
    /// Why one backup is kept.
    pub reason: Option<Written<String>>,
    /// Until when one backup is kept, the day included; for ever if unset.
    pub until: Option<Written<Text<Until>>>,
    /// In which destinations one backup is kept; in all of the server's if unset.
    pub destinations: Option<Vec<Written<String>>>,
}

/// A codec and its level.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompressionTable {
    /// The codec. Required.
    pub codec: Option<Text<Compression>>,
    /// How hard to compress: a number of the codec's own scale, or `low`, `medium` or `high`.
    pub level: Option<LevelText>,
}

/// When stored backups are read back.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyTable {
    /// How often each is.
    pub every: Option<Written<Text<std::time::Duration>>>,
}

/// The WAL archive.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WalTable {
    /// How segments are compressed: `none`, `gzip`, `bzip2`, `snappy`, `lz4`, `xz` or `zstd`, or `{
    /// codec = "zstd", level = 3 }`.
    pub compression: Option<Written<TextOr<Compression, CompressionTable>>>,
    /// The age that the oldest complete segment may have which is not in the destination yet.
    /// `none`: no objective.
    pub max_lag: Option<Written<Text<OrNone<std::time::Duration>>>>,
    /// Whether every activation looks for gaps and for segments of other clusters.
    pub check: Option<Written<bool>>,
    /// How many segments after the asked one a recovery fetches ahead; 0 for none.
    pub read_ahead: Option<Written<u32>>,
    /// The directory for markers and for segments fetched ahead. Deleting it loses only speed.
    pub spool: Option<Written<std::path::PathBuf>>,
    /// How a copy gets WAL: `required` (archiving waits for it), `healed` (copied later) or `none`.
    pub delivery: Option<Written<Delivery>>,
    /// How WAL is received as it is written, in the watch mode. `{}`: with the usual settings. `none`: not at all.
    pub receive: Option<Written<TextOr<Nothing, ReceiveTable>>>,
}

/// Receiving WAL as it is written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveTable {
    /// The physical replication slot; `barkeep_` and the server's name if unset. It is made where there is none.
    pub slot: Option<Written<String>>,
    /// The directory in which received WAL is safe before it is in a destination. Without one the server keeps it until then.
    pub spool: Option<Written<std::path::PathBuf>>,
    /// How much may wait there. When it is full, the server keeps what comes; nothing is dropped.
    pub spool_limit: Option<Written<Text<Bytes>>>,
    /// How often the beginning of the segment that is being written is stored, from 1s to 1h. `none`: only whole segments are.
    pub tail: Option<Written<Text<OrNone<std::time::Duration>>>>,
    /// How much WAL the server may keep for the slot before that is an alarm.
    pub max_slot_lag: Option<Written<Text<Bytes>>>,
}

/// The word `none`, which unsets what a lower layer has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nothing;

impl FromText for Nothing {
    const EXPECTED: &str = "`none`";
    const PATTERN: &str = "none";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self),
            text => Err(format!("`{text}` is not {}", Self::EXPECTED)),
        }
    }
}

impl FromText for Delivery {
    const EXPECTED: &str = "`required`, `healed` or `none`";
    const PATTERN: &str = "required|healed|none";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "required" => Ok(Self::Required),
            "healed" => Ok(Self::Healed),
            "none" => Ok(Self::None),
            text => Err(format!("`{text}` is not {}", Self::EXPECTED)),
        }
    }
}

/// When something goes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpiryTable {
    /// When it goes. `none`: it stays.
    pub delete_after: Option<Written<Text<OrNone<std::time::Duration>>>>,
}

/// How much may be deleted in any 24 hours of the store's time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeletesTable {
    /// So many backups.
    pub max_backups: Option<Written<u32>>,
    /// So many percent of the catalog's backups, rounded down, but always one.
    pub max_percent: Option<Written<u32>>,
    /// How long a backup stays marked before it is deleted; `0s` deletes at once.
    pub grace: Option<Written<Text<std::time::Duration>>>,
}

/// How volume snapshots are made.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotTable {
    /// Whose volumes.
    pub provider: Option<Written<SnapshotProvider>>,
    /// The machine that they are attached to.
    pub instance: Option<Written<String>>,
    /// The volumes.
    pub disks: Option<Vec<Written<String>>>,
    /// Where the volumes are mounted, if the server runs on another machine: each by its name in `disks`, the options behind a space.
    #[serde(default)]
    pub mounts: BTreeMap<String, String>,
    /// The same from a command, which prints what `barkeep mounts --format json` prints on the server's machine, such as
    /// `["ssh", "db1", "barkeep", "mounts", "--format", "json"]`: it gets the paths that matter as further arguments.
    pub mounts_command: Option<Written<Vec<String>>>,
    /// How long to wait for completion.
    pub await_timeout: Option<Written<Text<std::time::Duration>>>,
    /// Tags on every snapshot.
    #[serde(default)]
    pub tags: BTreeMap<String, Written<String>>,
    /// AWS: the region.
    pub region: Option<Written<String>>,
    /// AWS: the named profile of the shared configuration files.
    pub profile: Option<Written<String>>,
    /// AWS: a lock on every snapshot.
    pub lock: Option<Written<SnapshotLockTable>>,
    /// Azure: the subscription.
    pub subscription: Option<Written<String>>,
    /// Azure: the resource group.
    pub resource_group: Option<Written<String>>,
    /// Azure: whose identity is used.
    pub credential: Option<Written<AzureCredential>>,
    /// Google Cloud: the project.
    pub project: Option<Written<String>>,
    /// Google Cloud: the zone.
    pub zone: Option<Written<String>>,
}

/// Whose volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotProvider {
    /// EBS.
    Aws,
    /// Managed disks.
    Azure,
    /// Persistent disks.
    Gcp,
}

/// A lock on a snapshot.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotLockTable {
    /// `governance` or `compliance`.
    pub mode: Option<Written<LockMode>>,
    /// For how many days.
    pub days: Option<Written<u32>>,
    /// Until which instant, instead of `days`.
    pub until: Option<Written<Text<Until>>>,
    /// How long a `compliance` lock can still be changed.
    pub cool_off: Option<Written<Text<std::time::Duration>>>,
}

/// How firm a lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Those with the right may remove it.
    Governance,
    /// Nobody may.
    Compliance,
}
