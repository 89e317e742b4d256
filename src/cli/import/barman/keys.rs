//! What becomes of every key of Barman 3.19's configuration. A test compares the names with those that Barman knows.

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Fate {
    /// It is read.
    Read,
    /// It may call `barman-cloud-*`.
    Hook,
    /// barkeep needs nothing of the kind.
    Needless(&'static str),
    /// There is no equivalent.
    Lost(&'static str),
}

use Fate::{Hook, Lost, Needless, Read};

const LAYOUT: &str = "backups lie in the destination, and nowhere else";
const OWN: &str = "it is about Barman's own process";
const PARALLEL: &str = "barkeep works in parallel by itself";
const NO_DISK: &str = "nothing is staged on a disk";
const NO_SSH: &str = "barkeep runs beside PostgreSQL, or has it send its files";
const SLOT: &str = "barkeep makes a slot of its own; drop Barman's when Barman is gone";
const ENCRYPT: &str = "let the store encrypt: `encryption` of the destination";
const LIMITS: &str = "`barkeep status` tells when a backup is overdue, by the schedule";
const NETWORK: &str = "what is compressed is sent compressed";

/// The keys of a server or of `[barman]`, and what becomes of each.
pub(in crate::cli) const KEYS: [(&str, Fate); 132] = [
    ("active", Read),
    (
        "archiver",
        Needless("barkeep looks at what is in the destination"),
    ),
    ("archiver_batch_size", Needless(PARALLEL)),
    (
        "autogenerate_manifest",
        Needless("`barkeep verify` reads everything back"),
    ),
    ("aws_await_snapshots_timeout", Read),
    (
        "aws_check_object_lock",
        Needless("locks are looked at before every delete"),
    ),
    ("aws_encryption", Read),
    ("aws_profile", Read),
    ("aws_read_timeout", Read),
    ("aws_region", Read),
    ("aws_snapshot_lock_cool_off_period", Read),
    ("aws_snapshot_lock_duration", Read),
    ("aws_snapshot_lock_expiration_date", Read),
    ("aws_snapshot_lock_mode", Read),
    ("aws_sse_kms_key_id", Read),
    ("azure_credential", Read),
    ("azure_resource_group", Read),
    ("azure_subscription_id", Read),
    ("backup_compression", Read),
    ("backup_compression_format", Needless(LAYOUT)),
    ("backup_compression_level", Read),
    ("backup_compression_location", Read),
    ("backup_compression_workers", Needless(PARALLEL)),
    ("backup_directory", Needless(LAYOUT)),
    ("backup_method", Read),
    (
        "backup_options",
        Lost(
            "backups are concurrent, and configuration files outside the data directory are in them",
        ),
    ),
    ("bandwidth_limit", Read),
    ("barman_home", Needless(LAYOUT)),
    ("barman_lock_directory", Needless(OWN)),
    ("barman_user", Needless(OWN)),
    (
        "basebackup_retry_sleep",
        Needless("the next pass is the retry"),
    ),
    (
        "basebackup_retry_times",
        Needless("the next pass is the retry"),
    ),
    ("basebackups_directory", Read),
    ("check_timeout", Needless(OWN)),
    (
        "cloud_delete_batch_size",
        Needless("as many go in one request as the store takes"),
    ),
    ("cloud_staging_directory", Needless(NO_DISK)),
    ("cloud_staging_max_size", Needless(NO_DISK)),
    ("cloud_upload_max_archive_size", Read),
    ("cloud_upload_min_chunk_size", Read),
    ("cloud_wal_archive_parallel", Needless(PARALLEL)),
    ("cloud_wal_restore_parallel", Read),
    ("cluster", Read),
    (
        "combine_mode",
        Needless("`barkeep restore` combines an incremental chain"),
    ),
    ("compression", Read),
    ("compression_level", Read),
    ("config_changes_queue", Needless(OWN)),
    ("configuration_files_directory", Read),
    ("conninfo", Read),
    ("create_slot", Needless(SLOT)),
    (
        "custom_compression_filter",
        Lost("Barman's own codecs are understood: `wal.compression`"),
    ),
    (
        "custom_compression_magic",
        Lost("Barman's own codecs are understood: `wal.compression`"),
    ),
    (
        "custom_decompression_filter",
        Lost("Barman's own codecs are understood: `wal.compression`"),
    ),
    ("description", Read),
    ("disabled", Needless(OWN)),
    ("encryption", Lost(ENCRYPT)),
    ("encryption_key_id", Lost(ENCRYPT)),
    ("encryption_passphrase_command", Lost(ENCRYPT)),
    ("errors_directory", Needless(LAYOUT)),
    ("forward_config_path", Needless(OWN)),
    ("gcp_project", Read),
    ("gcp_zone", Read),
    ("immediate_checkpoint", Read),
    ("incoming_wals_directory", Needless(LAYOUT)),
    (
        "keepalive_interval",
        Needless("sessions are watched by themselves"),
    ),
    (
        "keepalive_internval",
        Needless("sessions are watched by themselves"),
    ),
    ("last_backup_maximum_age", Needless(LIMITS)),
    (
        "last_backup_minimum_size",
        Lost("a backup is good when it was read back; none is judged by its size"),
    ),
    ("last_wal_maximum_age", Read),
    ("local_staging_path", Needless(NO_DISK)),
    ("lock_directory_cleanup", Needless(OWN)),
    ("log_file", Needless("barkeep logs to standard error")),
    ("log_format", Needless("`--log-format`")),
    ("log_level", Needless("`-v` and `-q`")),
    (
        "max_incoming_wals_queue",
        Needless("`wal.max_lag` is the objective"),
    ),
    ("minimum_redundancy", Read),
    ("model", Read),
    ("network_compression", Needless(NETWORK)),
    ("parallel_jobs", Read),
    ("parallel_jobs_start_batch_period", Needless(PARALLEL)),
    ("parallel_jobs_start_batch_size", Needless(PARALLEL)),
    (
        "path_prefix",
        Needless("no program of PostgreSQL's is called; a restore of incrementals has `--pg-bin`"),
    ),
    ("post_archive_retry_script", Hook),
    ("post_archive_script", Hook),
    ("post_backup_retry_script", Hook),
    ("post_backup_script", Hook),
    ("post_delete_retry_script", Hook),
    ("post_delete_script", Hook),
    ("post_recovery_retry_script", Hook),
    ("post_recovery_script", Hook),
    ("post_wal_delete_retry_script", Hook),
    ("post_wal_delete_script", Hook),
    ("pre_archive_retry_script", Hook),
    ("pre_archive_script", Hook),
    ("pre_backup_retry_script", Hook),
    ("pre_backup_script", Hook),
    ("pre_delete_retry_script", Hook),
    ("pre_delete_script", Hook),
    ("pre_recovery_retry_script", Hook),
    ("pre_recovery_script", Hook),
    ("pre_wal_delete_retry_script", Hook),
    ("pre_wal_delete_script", Hook),
    (
        "primary_checkpoint_timeout",
        Needless("the primary is asked to switch its segment"),
    ),
    ("primary_conninfo", Read),
    (
        "primary_ssh_command",
        Lost("a passive node copies another Barman; `copy_of` copies a catalog"),
    ),
    (
        "recovery_options",
        Lost("`barkeep restore` has options of its own"),
    ),
    ("recovery_staging_path", Needless(NO_DISK)),
    ("retention_policy", Read),
    ("retention_policy_mode", Needless("`auto` is the only one")),
    (
        "reuse_backup",
        Lost("`incremental` backs up what has changed, from PostgreSQL 17 on"),
    ),
    ("slot_name", Needless(SLOT)),
    ("snapshot_disks", Read),
    ("snapshot_gcp_project", Read),
    ("snapshot_instance", Read),
    ("snapshot_provider", Read),
    ("snapshot_zone", Read),
    ("ssh_command", Needless(NO_SSH)),
    ("staging_location", Needless(NO_DISK)),
    ("staging_path", Needless(NO_DISK)),
    ("streaming_archiver", Read),
    ("streaming_archiver_batch_size", Needless(PARALLEL)),
    ("streaming_archiver_name", Needless(OWN)),
    ("streaming_backup_name", Needless(OWN)),
    ("streaming_conninfo", Read),
    ("streaming_wals_directory", Needless(LAYOUT)),
    (
        "tablespace_bandwidth_limit",
        Lost("a destination has one limit: `max_bandwidth`"),
    ),
    ("wal_conninfo", Lost("a server has one `connection`")),
    ("wal_retention_policy", Needless("`main` is the only one")),
    (
        "wal_streaming_conninfo",
        Lost("a server has one `connection`"),
    ),
    ("wals_directory", Read),
    ("warehousepg_dbid", Lost("barkeep backs up PostgreSQL")),
    (
        "worm_mode",
        Lost("locks of the store are seen by themselves; the policy `worm-compliance` ships"),
    ),
    ("xlogdb_directory", Needless(LAYOUT)),
];

/// What becomes of a key; `None` if Barman does not know it either.
pub(super) fn fate(key: &str) -> Option<Fate> {
    let mut keys = KEYS.iter();
    keys.find(|(known, _)| *known == key).map(|(_, fate)| *fate)
}

/// Whether a model may say it: hooks and directories are the server's own.
pub(super) fn is_of_models(key: &str) -> bool {
    let is_directory = ["basebackups_directory", "wals_directory"].contains(&key);
    !is_directory && fate(key) != Some(Hook)
}

/// Whether a server that says nothing after the `=` has what `[barman]` says. Where a value may be any text, it has none then.
pub(super) fn is_checked(key: &str) -> bool {
    CHECKED.contains(&key)
}

/// Whether a key of `[barman]` holds for servers that do not say otherwise.
pub(super) fn is_inherited(key: &str) -> bool {
    !OWN_KEYS.contains(&key)
}

/// The keys that only a server's own section has, of those that are read.
pub(in crate::cli) const OWN_KEYS: [&str; 15] = [
    "active",
    "backup_directory",
    "basebackups_directory",
    "cloud_upload_max_archive_size",
    "cloud_upload_min_chunk_size",
    "cluster",
    "conninfo",
    "description",
    "gcp_zone",
    "primary_conninfo",
    "snapshot_disks",
    "snapshot_instance",
    "snapshot_zone",
    "streaming_conninfo",
    "wals_directory",
];

/// The keys of which Barman checks the value, of those that are read and inherited.
const CHECKED: [&str; 14] = [
    "aws_await_snapshots_timeout",
    "aws_encryption",
    "aws_read_timeout",
    "aws_snapshot_lock_cool_off_period",
    "aws_snapshot_lock_duration",
    "backup_compression",
    "backup_compression_level",
    "backup_compression_location",
    "backup_method",
    "cloud_wal_restore_parallel",
    "immediate_checkpoint",
    "last_wal_maximum_age",
    "parallel_jobs",
    "streaming_archiver",
];
