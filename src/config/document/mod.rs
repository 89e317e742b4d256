//! What is written: the tables of a configuration file, key by key.
//!
//! These types are the schema. Their descriptions become the JSON Schema and
//! `docs/configuration.md`, and an unknown key is an error because they do not know it. They hold
//! what was written and where, and no meaning: [`super::compile`] gives it one. Every key is
//! optional here, since any may come from another layer; what is missing is noticed when it is
//! needed.

pub mod provider;
pub mod settings;

use std::{collections::BTreeMap, path::PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_spanned::Spanned;

use self::{
    provider::{AzureTable, GcsTable, S3Table},
    settings::{
        CompressionTable, DeletesTable, ExpiryTable, IncrementalTable, IntervalTable, KeepTable,
        Method, RetentionTable, SnapshotTable, VerifyTable, WalTable,
    },
};
use super::{
    quantity::{Bytes, Cron, OrNone, Rate, Text, TextOr},
    source::Span,
};
use crate::model::{
    compression::Compression,
    desired::{CatchUp, Delivery, ManageKeeps, Mode, ObjectLock, SecretRef, ServerState},
    location::Location,
    retention::RetentionPolicy,
    schedule::StartWindow,
};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Written<T>(Spanned<T>);

impl<T> Written<T> {
    /// The value.
    pub fn get(&self) -> &T {
        self.0.get_ref()
    }

    /// Where it was written.
    pub fn span(&self) -> Span {
        self.0.span()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A configuration file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of this format: `1`. The main file must say it.
    pub version: Option<Written<i64>>,
    /// Further files, relative to the file that names them. `*` and `?` stand for any characters of
    /// one path component; a pattern may match nothing, a plain path must exist. What two files
    /// define is an error that names both places.
    pub include: Option<Vec<Written<String>>>,
    /// What holds unless a policy, a server or an entry says otherwise.
    pub defaults: Option<DefaultsTable>,
    /// Where backups live, by name.
    #[serde(default)]
    pub destinations: BTreeMap<String, DestinationTable>,
    /// Named settings that servers follow.
    #[serde(default)]
    pub policies: BTreeMap<String, PolicyTable>,
    /// What must be backed up, by name. The table's name is the server's name in the catalog unless
    /// `name` says otherwise.
    #[serde(default)]
    pub servers: BTreeMap<String, ServerTable>,
    /// How barkeep runs as a service.
    pub service: Option<Written<ServiceTable>>,
}

/// Makes a table of its own keys and all settings.
macro_rules! with_settings {
    ($(#[$attribute:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($own)*
            /// How backups are made. `files`: PostgreSQL's files are read on the machine where
            /// barkeep runs. `stream`: over the replication protocol. `snapshot`: of the cloud's
            /// volumes.
            pub method: Option<Written<Method>>,
            /// When backups are due: five cron fields (minute, hour, day of month, month, weekday),
            /// `@daily` and its like, or `{ every = "24h", at = "02:00" }`. `none`: no scheduled
            /// backups.
            pub schedule: Option<Written<TextOr<Cron, IntervalTable>>>,
            /// The hours in which a backup may start, by the local clock; they may cross midnight.
            /// A backup that falls due outside waits for the next opening.
            pub window: Option<Written<Text<OrNone<StartWindow>>>>,
            /// Delays each server's backups by up to this time, always by the same for the same
            /// server and destination, so that a fleet with one schedule does not start at once.
            pub splay: Option<Written<Text<std::time::Duration>>>,
            /// Whether a missed backup is made up for: `once`, however many were missed, or `skip`: the next instant
            /// counts, if one has passed for more than an hour.
            pub catch_up: Option<Written<CatchUp>>,
            /// The time zone of schedules, windows, calendar keeps and new backup ids: a name such
            /// as `Europe/Rome`.
            pub time_zone: Option<Written<String>>,
            /// Incremental backups between full ones (PostgreSQL 17 and later, method `stream`).
            pub incremental: Option<Written<IncrementalTable>>,
            /// How long backups stay, in Barman's words (`RECOVERY WINDOW OF 30 DAYS`, `REDUNDANCY
            /// 7`; a month has 31 days), or `{ window = "30d" }`, or `{ redundancy = 7 }`. `none`:
            /// everything stays.
            pub retention: Option<Written<TextOr<OrNone<RetentionPolicy>, RetentionTable>>>,
            /// How many good backups stay whatever the retention says; at least 1.
            pub minimum_redundancy: Option<Written<u32>>,
            /// Backups to keep. With `first_of` and `for`: the first good backup of every calendar
            /// period, for so long. With `backup` (in a server only): that one. A list with a
            /// `first_of` in it, and an empty one, replace the rules of the layer below.
            pub keep: Option<Vec<Written<KeepTable>>>,
            /// `exact`: keeps that barkeep has set and the configuration no longer declares are released, after a grace of seven
            /// days. `declared`: they stay until somebody releases them. Those that people have set stay in any case.
            pub manage_keeps: Option<Written<ManageKeeps>>,
            /// How long the newest good backup of a cluster stays protected that has no new ones, once another cluster in the same
            /// catalog has newer ones: after an upgrade to another major version, or a new `initdb`. 90d if unset.
            pub retire_after: Option<Written<Text<std::time::Duration>>>,
            /// How base backups are compressed: `none`, `gzip`, `bzip2`, `snappy` or `lz4`, or `{
            /// codec = "gzip", level = 6 }`. xz and zstd are for WAL only: Barman 3.19 cannot read
            /// them in base backups.
            pub compression: Option<Written<TextOr<Compression, CompressionTable>>>,
            /// How the server compresses what it sends, with `method = "stream"` and from PostgreSQL 15 on: `none`, `gzip`, `lz4` or
            /// `zstd`. For slow networks: what comes is compressed anew as `compression` says.
            pub server_compression: Option<Written<Text<Compression>>>,
            /// How many archives of a base backup are built and sent at once.
            pub jobs: Option<Written<u32>>,
            /// When an archive is closed and the next one begun: its size as stored. At most 10,000
            /// times `part_size`.
            pub max_archive_size: Option<Written<Text<Bytes>>>,
            /// The size of the parts in which archives are uploaded; S3 allows 5 MiB to 5 GiB.
            pub part_size: Option<Written<Text<Bytes>>>,
            /// Whether PostgreSQL makes the checkpoint that a backup starts with at once, or
            /// spreads it over time.
            pub immediate_checkpoint: Option<Written<bool>>,
            /// When stored backups are read back whole.
            pub verify: Option<Written<VerifyTable>>,
            /// The WAL archive. In an entry with `copy_of`, a word is the short form of `delivery`.
            pub wal: Option<Written<TextOr<Delivery, WalTable>>>,
            /// What happens to backups that failed.
            pub failed_backups: Option<Written<ExpiryTable>>,
            /// What happens to objects of a backup without a `backup.info`. At least 48h.
            pub orphans: Option<Written<ExpiryTable>>,
            /// How much may be deleted in any 24 hours of the store's time.
            pub deletes: Option<Written<DeletesTable>>,
            /// How volume snapshots are made, with `method = "snapshot"`.
            pub snapshot: Option<Written<SnapshotTable>>,
        }
    };
}

with_settings! {
    /// What holds unless a policy, a server or an entry says otherwise.
    pub struct DefaultsTable {
        /// The policy of servers that name none.
        pub policy: Option<Written<String>>,
        /// The destination of servers that name none.
        pub destination: Option<Written<String>>,
        /// What may be done to the catalogs of servers that do not say.
        pub mode: Option<Written<Mode>>,
    }
}

with_settings! {
    /// Named settings that servers follow.
    pub struct PolicyTable {
        /// A policy whose settings hold unless this one says otherwise; it must not itself extend
        /// another.
        pub extends: Option<Written<String>>,
        /// The name that each backup gets, beside its id.
        pub name: Option<Written<String>>,
    }
}

with_settings! {
    /// A PostgreSQL cluster that must be backed up.
    pub struct ServerTable {
        /// Its name in the catalog, if that is not the table's.
        pub name: Option<Written<String>>,
        /// The policy that it follows.
        pub policy: Option<Written<String>>,
        /// What may be done to its catalog: `observe` (nothing), `additive` (whatever only adds) or
        /// `full`.
        pub mode: Option<Written<Mode>>,
        /// `active`, or `retired`: no more backups, but what it left expires as ever.
        pub state: Option<Written<ServerState>>,
        /// Words to select servers by.
        #[serde(default)]
        pub labels: BTreeMap<String, String>,
        /// Where its backups live: the short form of one `[[servers.NAME.backups]]` entry.
        pub destination: Option<Written<String>>,
        /// How to reach it: a libpq connection string or URI, without a password. The `PG*`
        /// variables, the service file and the passfile are honoured; an empty text takes
        /// everything from them.
        pub connection: Option<Written<String>>,
        /// How to reach the primary, if `connection` is a standby.
        pub primary_connection: Option<Written<String>>,
        /// Where the password is: `{ env = "NAME" }`, `{ file = "/path" }` or `{ command =
        /// ["program", "argument"] }`. Never the password.
        pub password: Option<Written<SecretRef>>,
        /// Where its data directory is; asked of the server if unset.
        pub pgdata: Option<Written<PathBuf>>,
        /// What is backed up where, if one destination is not enough.
        pub backups: Option<Vec<Written<EntryTable>>>,
    }
}

with_settings! {
    /// One server backed up to one destination.
    pub struct EntryTable {
        /// Where its backups live.
        pub destination: Option<Written<String>>,
        /// The policy that this entry follows, if not the server's.
        pub policy: Option<Written<String>>,
        /// Copies the backups of this other destination, instead of reading the server again.
        pub copy_of: Option<Written<String>>,
        /// The name that each backup gets, beside its id.
        pub name: Option<Written<String>>,
    }
}

/// A place where backups live.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationTable {
    /// Where: `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `https://account.blob.core.windows.net/container/prefix` or `file:///path`. Required.
    pub url: Option<Written<Text<Location>>>,
    /// How much one process may send to it, over all its servers.
    pub max_bandwidth: Option<Written<Text<OrNone<Rate>>>>,
    /// How many backups may run against it at once; 4 if unset.
    pub max_parallel: Option<Written<u32>>,
    /// What is done about object locks: `respect` (look before every delete), `require` (and warn
    /// where nothing locks) or `ignore`.
    pub object_lock: Option<Written<ObjectLock>>,
    /// The destination that holds barkeep's own objects, if this one forbids overwriting.
    pub control: Option<Written<String>>,
    /// Says that only one barkeep ever deletes here, for a store without conditional writes.
    pub single_writer: Option<Written<bool>>,
    /// What S3 needs to know; for `s3://` only.
    pub s3: Option<Written<S3Table>>,
    /// What Azure needs to know; for `https://` only.
    pub azure: Option<Written<AzureTable>>,
    /// What Google Cloud Storage needs to know; for `gs://` only.
    pub gcs: Option<Written<GcsTable>>,
}

/// How barkeep runs as a service.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceTable {
    /// The address and port of the status page and the metrics, such as `127.0.0.1:9187`. They are readable by whoever reaches it,
    /// without a password. Nowhere if unset.
    pub listen: Option<Written<Text<std::net::SocketAddr>>>,
    /// How often each server is looked at though nothing is due; 5m if unset.
    pub check_every: Option<Written<Text<std::time::Duration>>>,
}
