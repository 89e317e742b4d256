//! What should be true: the configuration as it is meant, with no invalid value left representable.
//!
//! `config` compiles it from text; nothing else makes one. A feature that is not supported has no value here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    action::Effect,
    backup::KeepTarget,
    compression::Compression,
    location::Location,
    names::{DestinationName, PolicyName, ServerName},
    retention::RetentionPolicy,
    schedule::{Schedule, StartWindow, Zone},
    snapshot::{Access, MountsFrom, Place, SnapshotLock},
    time::Timestamp,
};

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Where backups live.
    pub destinations: BTreeMap<DestinationName, Destination>,
    /// What must be backed up.
    pub servers: BTreeMap<ServerName, Server>,
    /// How barkeep runs as a service.
    pub service: Service,
}

/// How barkeep runs as a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Where the status page and the metrics are served; nowhere if unset.
    pub listen: Option<SocketAddr>,
    /// How often a server is looked at though nothing is due.
    pub check_every: Duration,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            listen: None,
            check_every: Duration::from_mins(5),
        }
    }
}

/// A place where backups live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// Its name in the configuration.
    pub name: DestinationName,
    /// Its URL, parsed.
    pub location: Location,
    /// What its provider needs to know.
    pub provider: ProviderOptions,
    /// Bytes per second that one process may send to it, over all its servers.
    pub max_bandwidth: Option<u64>,
    /// How many attempts may run at once against it.
    pub max_parallel: NonZeroUsize,
    /// Only one barkeep ever deletes here: no right is needed where the store cannot keep several apart.
    pub single_writer: bool,
    /// What is done about the locks of its objects.
    pub object_lock: ObjectLock,
    /// The destination that holds barkeep's own objects, because this one forbids overwriting.
    pub control: Option<DestinationName>,
}

impl Destination {
    /// Whether what is stored there may be written again.
    pub fn overwriting(&self) -> Overwriting {
        match self.control {
            Some(_) => Overwriting::Forbidden,
            None => Overwriting::Allowed,
        }
    }
}

/// Whether what is stored may be written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overwriting {
    /// It may.
    #[default]
    Allowed,
    /// It may not: every object is written once.
    Forbidden,
}

/// What is done about the locks of objects.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectLock {
    /// They are looked at before every delete.
    #[default]
    Respect,
    /// The same, and it is an objective that new objects are locked.
    Require,
    /// They are not looked at.
    Ignore,
}

/// What a provider needs beyond the URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderOptions {
    /// A directory needs nothing.
    Directory,
    /// S3 and compatible stores.
    S3(S3Options),
    /// Google Cloud Storage.
    Gcs(GcsOptions),
    /// Azure Blob Storage.
    Azure(AzureOptions),
}

impl ProviderOptions {
    /// The tags of timeline histories, if they are not those of everything.
    pub fn history_tags(&self) -> Option<&BTreeMap<String, String>> {
        let tags = match self {
            Self::Directory => return None,
            Self::S3(options) => &options.history_tags,
            Self::Gcs(options) => &options.history_tags,
            Self::Azure(options) => &options.history_tags,
        };
        (!tags.is_empty()).then_some(tags)
    }
}

/// What Azure needs beyond the URL. `None` leaves the choice to the environment, as Barman does, or to the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AzureOptions {
    /// Whose identity is used; unset, whatever the environment has.
    pub credential: Option<AzureCredential>,
    /// Where a connection string is.
    pub connection_string: Option<SecretRef>,
    /// The encryption scope of what is written.
    pub encryption_scope: Option<String>,
    /// How long a response may take.
    pub read_timeout: Option<Duration>,
    /// Up to how many bytes an object is sent in one request.
    pub max_single_put_bytes: Option<u64>,
    /// The length of the blocks of what is longer.
    pub max_block_bytes: Option<u64>,
    /// How many of these are sent at once.
    pub max_concurrency: Option<NonZeroUsize>,
    /// Tags on every object of a backup.
    pub tags: BTreeMap<String, String>,
    /// Tags on timeline histories instead; the same if there are none.
    pub history_tags: BTreeMap<String, String>,
}

/// Whose identity is used on Azure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(schemars::JsonSchema)]
pub enum AzureCredential {
    /// The account that the `az` command is signed in with.
    AzureCli,
    /// The machine's, or the one that `AZURE_CLIENT_ID` names.
    ManagedIdentity,
    /// Whatever is found first: a client secret or a workload identity of the environment, the machine's identity, `az`.
    Default,
}

/// What an S3 store needs beyond bucket and prefix. `None` leaves the choice to the SDK's own chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct S3Options {
    /// The URL of a store that is not AWS.
    pub endpoint_url: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The named profile of the shared configuration files.
    pub profile: Option<String>,
    /// How the bucket appears in requests.
    pub addressing_style: AddressingStyle,
    /// How long a response may take.
    pub read_timeout: Option<Duration>,
    /// When checksums are sent and expected.
    pub checksums: Checksums,
    /// A role to assume.
    pub role: Option<String>,
    /// How objects are encrypted by the store.
    pub encryption: Option<S3Encryption>,
    /// Tags on every object of a backup.
    pub tags: BTreeMap<String, String>,
    /// Tags on timeline histories instead; the same if there are none.
    pub history_tags: BTreeMap<String, String>,
}

/// What Google Cloud Storage needs beyond bucket and prefix. What is unset comes from where Google's own clients look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcsOptions {
    /// Where the file with the credentials is.
    pub credentials: Option<SecretRef>,
    /// The URL of the service, if not the usual one.
    pub endpoint_url: Option<String>,
    /// The project in which a missing bucket is created.
    pub project: Option<String>,
    /// How long a response may take.
    pub read_timeout: Option<Duration>,
    /// The key that encrypts what is written.
    pub kms_key: Option<String>,
    /// Metadata on every object of a backup.
    pub tags: BTreeMap<String, String>,
    /// Metadata on timeline histories instead; the same if there is none.
    pub history_tags: BTreeMap<String, String>,
}

/// How a bucket appears in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(schemars::JsonSchema)]
pub enum AddressingStyle {
    /// In the host name on AWS, in the path elsewhere.
    #[default]
    Auto,
    /// In the host name.
    Virtual,
    /// In the path.
    Path,
}

/// When checksums are sent and expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(schemars::JsonSchema)]
pub enum Checksums {
    /// Wherever the protocol knows them.
    #[default]
    WhenSupported,
    /// Only where the protocol demands them, for stores that refuse them.
    WhenRequired,
}

/// How S3 encrypts what it stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum S3Encryption {
    /// With the store's own keys.
    Aes256,
    /// With a key of the key management service; its default one if none is named.
    Kms {
        /// The key.
        key: Option<String>,
    },
}

/// A PostgreSQL cluster that must be backed up.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name in the catalog.
    pub name: ServerName,
    /// What may be done to its catalog.
    pub mode: Mode,
    /// Whether it still lives.
    pub state: ServerState,
    /// For selection.
    pub labels: BTreeMap<String, String>,
    /// How to reach it; without one, only its catalog is looked after.
    pub connection: Option<Connection>,
    /// Where its files are; asked of the server if unset.
    pub pgdata: Option<PathBuf>,
    /// What is backed up where.
    pub entries: Vec<Entry>,
    /// The keeps that the configuration declares.
    pub keeps: Vec<DeclaredKeep>,
    /// How its WAL is received as it is written; not at all if unset.
    pub receive: Option<Receive>,
}

/// How WAL is received from a server as it is written, in the watch mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receive {
    /// The physical slot that makes the server keep what has not been received.
    pub slot: String,
    /// Where it is safe before it is in a destination; without one only destinations are.
    pub spool: Option<PathBuf>,
    /// How much may lie there, in bytes.
    pub spool_bytes_max: u64,
    /// How often the beginning of the segment that is being written is stored; never if unset.
    pub tail_every: Option<Duration>,
    /// How much WAL the slot may hold before that is an alarm, in bytes.
    pub max_slot_lag: u64,
}

impl Server {
    /// The entry for a destination.
    pub fn entry(&self, destination: &DestinationName) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.destination == *destination)
    }

    /// Whether archiving waits for a destination: not for what heals later, and not for what gets none.
    pub fn archives_to(&self, destination: &DestinationName) -> bool {
        let entry = self.entry(destination);
        entry.is_some_and(|entry| entry.delivery == Delivery::Required)
    }
}

/// What may be done to a server's catalog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(schemars::JsonSchema)]
pub enum Mode {
    /// Nothing: plans are shown, never executed.
    Observe,
    /// Whatever only adds.
    Additive,
    /// Everything.
    #[default]
    Full,
}

impl Mode {
    /// Whether steps with this effect may be taken.
    pub fn allows(self, effect: Effect) -> bool {
        match self {
            Self::Observe => false,
            Self::Additive => effect == Effect::Additive,
            Self::Full => true,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Observe => "observe",
            Self::Additive => "additive",
            Self::Full => "full",
        })
    }
}

/// Whether a server still lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(schemars::JsonSchema)]
pub enum ServerState {
    /// It is backed up.
    #[default]
    Active,
    /// It is gone: no more backups, but what it left expires as ever.
    Retired,
}

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct Connection {
    /// A libpq connection string or URI, without a password.
    pub conninfo: String,
    /// The primary's, for a server that is a standby.
    pub primary_conninfo: Option<String>,
    /// Where the password is.
    pub password: Option<SecretRef>,
}

/// Where a secret is; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(schemars::JsonSchema)]
pub enum SecretRef {
    /// In an environment variable.
    Env(String),
    /// In a file that not everyone can read.
    File(PathBuf),
    /// On the standard output of a command: the program and its arguments.
    Command(Vec<String>),
}

/// One server backed up to one destination.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where to.
    pub destination: DestinationName,
    /// The policy that it follows, for the record.
    pub policy: Option<PolicyName>,
    /// When; `None` means no scheduled backups.
    pub schedule: Option<Schedule>,
    /// When an attempt may start.
    pub window: Option<StartWindow>,
    /// Delays the due instant by up to so much, by a hash of server and destination.
    pub splay: Duration,
    /// Whether a missed instant is made up for.
    pub catch_up: CatchUp,
    /// The zone of schedules and of new backup ids.
    pub zone: Zone,
    /// How long; `None` keeps everything.
    pub retention: Option<RetentionPolicy>,
    /// How many good backups stay whatever the retention says; at least 1.
    pub minimum_redundancy: u32,
    /// Which backups are kept by the calendar.
    pub keep_rules: Vec<KeepRule>,
    /// Whether keeps that the configuration no longer declares are released.
    pub manage_keeps: ManageKeeps,
    /// How the files of base backups come here.
    pub method: Method,
    /// Of which disks snapshots are taken, with that method.
    pub snapshot: Option<SnapshotOptions>,
    /// How a server compresses what it sends.
    pub server_compression: Compression,
    /// What is backed up between full backups; nothing but full ones if unset.
    pub incremental: Option<Incremental>,
    /// How their archives are made.
    pub files: FilesOptions,
    /// How WAL is archived and checked.
    pub wal: WalOptions,
    /// When failed backups go; `None` leaves them.
    pub failed_after: Option<Duration>,
    /// When objects without a `backup.info` go; `None` leaves them.
    pub orphans_after: Option<Duration>,
    /// How much may be deleted.
    pub deletes: DeleteBudget,
    /// How old the last reading of all of a backup may become; `None` reads none back.
    pub verify_every: Option<Duration>,
    /// How long a cluster without a new backup keeps the protection of its newest good one, if another one has newer backups.
    pub retire_after: Duration,
    /// How long a backup stays marked before it is deleted; zero deletes at once.
    pub grace: Duration,
    /// What is done about locks there, as its destination says.
    pub object_lock: ObjectLock,
    /// The destination whose backups are copied here; `None` if they are read from the server.
    pub copy_of: Option<DestinationName>,
    /// How WAL gets here.
    pub delivery: Delivery,
    /// Whether what is stored here may be written again, as its destination says.
    pub overwriting: Overwriting,
}

impl Entry {
    /// Whether its backups are read, or their disks found, on the host where barkeep runs.
    pub fn is_read_here(&self) -> bool {
        match (self.method, &self.snapshot) {
            (Method::Stream, _) => false,
            (Method::Snapshot, Some(options)) => options.mounts == MountsFrom::Here,
            (Method::Files | Method::Snapshot, _) => true,
        }
    }
}

/// Of which disks snapshots are taken, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotOptions {
    /// Where.
    pub place: Place,
    /// The instance: a name or an identifier.
    pub instance: String,
    /// Its disks: names or identifiers.
    pub disks: Vec<String>,
    /// How long all snapshots of a backup may take.
    pub await_timeout: Duration,
    /// Tags on every snapshot.
    pub tags: BTreeMap<String, String>,
    /// How every snapshot is locked.
    pub lock: Option<SnapshotLock>,
    /// Who says where the disks are mounted.
    pub mounts: MountsFrom,
}

impl SnapshotOptions {
    /// In whose name snapshots are asked for.
    pub fn access(&self) -> Access {
        let mut access = Access::default();
        match &self.place {
            Place::Aws { profile, .. } => access.aws_profile.clone_from(profile),
            Place::Azure { credential, .. } => access.azure_credential = *credential,
            Place::Gcp { .. } => {}
        }
        access
    }
}

/// How WAL gets to a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(schemars::JsonSchema)]
pub enum Delivery {
    /// Archiving waits for it.
    #[default]
    Required,
    /// It is copied later from where the backups are copied from.
    Healed,
    /// It gets only what a copied backup needs to be consistent.
    None,
}

/// Whether a missed instant of the schedule is made up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(schemars::JsonSchema)]
pub enum CatchUp {
    /// Once, however many were missed.
    #[default]
    Once,
    /// Not at all: the next instant counts.
    Skip,
}

/// How the files of a server come to whoever backs them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// They are read where barkeep runs.
    #[default]
    Files,
    /// The server sends them, over the replication protocol.
    Stream,
    /// They stay where they are, in snapshots of their disks.
    Snapshot,
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Files => "files",
            Self::Stream => "stream",
            Self::Snapshot => "snapshot",
        })
    }
}

/// Backups of what has changed, between full ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Incremental {
    /// A chain begins anew with a full backup when its first one is this old.
    pub full_every: Duration,
    /// How many backups a chain may have, its full one included.
    pub max_chain: u32,
}

/// How the files of a server are backed up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilesOptions {
    /// The codec; only those that Barman restores.
    pub compression: Compression,
    /// The codec's level; its default if unset.
    pub level: Option<i32>,
    /// How many archives are built at once.
    pub jobs: NonZeroUsize,
    /// When an archive is closed and the next begun, in bytes as stored.
    pub max_archive_bytes: u64,
    /// The size of an upload's parts, in bytes.
    pub part_bytes: u64,
    /// How PostgreSQL makes the checkpoint that a backup starts with.
    pub checkpoint: Checkpoint,
    /// The name that each backup gets.
    pub name: Option<String>,
}

/// How PostgreSQL makes the checkpoint that a backup starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpoint {
    /// Spread over time.
    #[default]
    Spread,
    /// At once.
    Immediate,
}

/// How WAL is archived and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WalOptions {
    /// The codec.
    pub compression: Compression,
    /// The codec's level; its default if unset.
    pub level: Option<i32>,
    /// The age of the oldest complete segment that may be missing in the destination.
    pub max_lag: Option<Duration>,
    /// Whether reconcile looks for gaps and foreign segments.
    pub check: WalCheck,
    /// How many segments after the asked one are fetched ahead in a recovery.
    pub read_ahead: usize,
    /// Where markers and segments fetched ahead lie.
    pub spool: PathBuf,
}

/// Whether the WAL archive is checked by every activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalCheck {
    /// It is.
    #[default]
    On,
    /// It is not.
    Off,
}

/// How much may be deleted in any 24 hours of the store's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeleteBudget {
    /// So many backups.
    pub backups_max: usize,
    /// So many percent of the catalog's backups, but always one.
    pub percent_max: u32,
}

/// Whether keeps that the configuration no longer declares are released.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ManageKeeps {
    /// They are not.
    #[default]
    Declared,
    /// They are, after a grace of seven days. Those that people have set stay.
    Exact,
}

/// A rule that keeps the first good backup of every calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepRule {
    /// Of which period.
    pub first_of: Period,
    /// For how many periods of which unit.
    pub keep_for: CalendarSpan,
    /// With how much WAL.
    pub target: KeepTarget,
}

/// A calendar period, in the entry's zone; weeks begin on Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(schemars::JsonSchema)]
pub enum Period {
    /// A day.
    Day,
    /// A week.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// A span in calendar units: `12 months`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarSpan {
    /// How many.
    pub count: u32,
    /// Of which unit.
    pub unit: Period,
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        })
    }
}

impl fmt::Display for CalendarSpan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, unit } = self;
        let plural = if *count == 1 { "" } else { "s" };
        write!(formatter, "{count} {unit}{plural}")
    }
}

/// A keep that the configuration declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeclaredKeep {
    /// The backup's id or name.
    pub backup: String,
    /// With how much WAL.
    pub target: KeepTarget,
    /// Why.
    pub reason: Option<String>,
    /// Until when; for ever if unset.
    pub until: Option<Timestamp>,
    /// Where; every destination of the server if empty.
    pub destinations: BTreeSet<DestinationName>,
}

#[cfg(test)]
mod tests;
