//! What becomes of every option of `barman-cloud-*`, by the name of the value that it sets.
//!
//! `docs/barman-options.md` says the same to people. A test holds that every option of every command has a row here.

use toml::Value;

use crate::format::python;

/// Where an option's value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// A key of the destination that only one provider has.
    Store(&'static str, &'static str, Form),
    /// A key of the destination that each provider has.
    AnyStore(&'static str, Form),
    /// A key of the destination.
    Destination(&'static str, Form),
    /// A key of the server.
    Server(&'static str, Form),
    /// barkeep needs nothing of the kind.
    Needless(&'static str),
    /// There is no equivalent.
    Lost(&'static str),
    /// It is read together with others.
    Apart,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Seconds,
    Hours,
    Bytes,
    Rate,
    Tags,
    List,
    /// A retention policy in Barman's words.
    Retention,
    /// The size of an archive, of which there is a largest.
    ArchiveSize,
}

/// The size at which an archive is closed at the latest, so that its parts fit.
const ARCHIVE_BYTES_MAX: i128 = 10_000 * (8 << 20);

impl Form {
    /// The value as a configuration has it; `None` if it cannot.
    pub(super) fn of(self, value: &python::Value) -> Option<Value> {
        use python::Value as Python;
        let number = |value: &Python| match value {
            Python::Int(number) => i64::try_from(*number).ok(),
            _ => None,
        };
        match (self, value) {
            (Self::Plain, Python::Str(text)) => Some(text.as_str().into()),
            (Self::Plain, Python::Bool(flag)) => Some((*flag).into()),
            (Self::Plain, value @ Python::Int(_)) => number(value).map(Value::from),
            (Self::Retention, Python::Str(text)) => {
                let policy: crate::model::retention::RetentionPolicy = text.parse().ok()?;
                Some(policy.to_string().into())
            }
            (Self::ArchiveSize, Python::Int(bytes)) if *bytes > ARCHIVE_BYTES_MAX => None,
            (Self::Seconds, value) => number(value).map(|number| format!("{number}s").into()),
            (Self::Hours, value) => number(value).map(|number| format!("{number}h").into()),
            (Self::Bytes | Self::ArchiveSize, value) => {
                number(value).map(|number| size(number).into())
            }
            (Self::Rate, value) => number(value).map(|number| format!("{}/s", size(number)).into()),
            (Self::List, Python::List(items)) => {
                let texts = items.iter().filter_map(Python::as_str);
                Some(texts.map(Value::from).collect::<Vec<_>>().into())
            }
            (Self::Tags, Python::List(items)) => {
                let pair = |item: &Python| match item.items()? {
                    [Python::Str(key), Python::Str(value)] => {
                        Some((key.clone(), Value::from(value.as_str())))
                    }
                    _ => None,
                };
                let tags: toml::Table = items.iter().filter_map(pair).collect();
                Some(tags.into())
            }
            _ => None,
        }
    }
}

/// A number of bytes in the largest unit that has it whole.
pub(super) fn size(bytes: i64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let whole = units
        .into_iter()
        .find(|(_, unit)| bytes > 0 && bytes % unit == 0);
    whole.map_or_else(
        || format!("{bytes}B"),
        |(name, unit)| format!("{}{name}", bytes / unit),
    )
}

/// A codec as a configuration calls it.
pub(super) fn codec(word: &str) -> &str {
    match word {
        "gz" => "gzip",
        "bz2" => "bzip2",
        other => other,
    }
}

const PER_RUN: &str = "it is chosen for each run";
const ONE: &str = "it is asked of one restore, or of one backup";

/// What becomes of an option.
pub(super) fn of(name: &str) -> To {
    let rows = ROWS.iter();
    let mut rows = rows.filter(|(known, _)| *known == name);
    let row = rows.next().map(|(_, to)| *to);
    row.unwrap_or(To::Lost("it is not known"))
}

const ROWS: [(&str, To); 63] = [
    ("verbose", To::Needless(PER_RUN)),
    ("quiet", To::Needless(PER_RUN)),
    (
        "test",
        To::Needless("`barkeep check` tests what a configuration needs"),
    ),
    ("format", To::Needless(PER_RUN)),
    (
        "dry_run",
        To::Needless("`barkeep plan` shows what would be done"),
    ),
    // The URL's scheme says it.
    ("cloud_provider", To::Apart),
    ("endpoint_url", To::Apart),
    ("aws_profile", To::Apart),
    ("azure_credential", To::Apart),
    ("compression", To::Apart),
    ("compression_level", To::Apart),
    ("host", To::Apart),
    ("port", To::Apart),
    ("user", To::Apart),
    ("dbname", To::Apart),
    (
        "read_timeout",
        To::Store("s3", "read_timeout", Form::Seconds),
    ),
    (
        "addressing_style",
        To::Store("s3", "addressing_style", Form::Plain),
    ),
    ("encryption", To::Store("s3", "encryption.sse", Form::Plain)),
    (
        "sse_kms_key_id",
        To::Store("s3", "encryption.key", Form::Plain),
    ),
    ("kms_key_name", To::Store("gcs", "kms_key", Form::Plain)),
    (
        "encryption_scope",
        To::Store("azure", "encryption_scope", Form::Plain),
    ),
    (
        "max_block_size",
        To::Store("azure", "max_block_size", Form::Bytes),
    ),
    (
        "max_concurrency",
        To::Store("azure", "max_concurrency", Form::Plain),
    ),
    (
        "max_single_put_size",
        To::Store("azure", "max_single_put_size", Form::Bytes),
    ),
    ("tags_list", To::AnyStore("tags", Form::Tags)),
    ("tags_append", To::AnyStore("tags", Form::Tags)),
    (
        "history_tags_list",
        To::AnyStore("history_tags", Form::Tags),
    ),
    (
        "history_tags_append",
        To::AnyStore("history_tags", Form::Tags),
    ),
    (
        "max_bandwidth",
        To::Destination("max_bandwidth", Form::Rate),
    ),
    (
        "immediate_checkpoint",
        To::Server("immediate_checkpoint", Form::Plain),
    ),
    ("jobs", To::Server("jobs", Form::Plain)),
    (
        "max_archive_size",
        To::Server("max_archive_size", Form::ArchiveSize),
    ),
    ("min_chunk_size", To::Server("part_size", Form::Bytes)),
    (
        "backup_name",
        To::Lost("a policy names backups, with `name`"),
    ),
    (
        "snapshot_instance",
        To::Server("snapshot.instance", Form::Plain),
    ),
    ("snapshot_disks", To::Server("snapshot.disks", Form::List)),
    ("gcp_zone", To::Server("snapshot.zone", Form::Plain)),
    ("gcp_project", To::Server("snapshot.project", Form::Plain)),
    ("aws_region", To::Server("snapshot.region", Form::Plain)),
    (
        "aws_await_snapshots_timeout",
        To::Server("snapshot.await_timeout", Form::Seconds),
    ),
    (
        "aws_snapshot_lock_mode",
        To::Server("snapshot.lock.mode", Form::Plain),
    ),
    (
        "aws_snapshot_lock_cool_off_period",
        To::Server("snapshot.lock.cool_off", Form::Hours),
    ),
    (
        "aws_snapshot_lock_expiration_date",
        To::Server("snapshot.lock.until", Form::Plain),
    ),
    (
        "aws_snapshot_lock_duration",
        To::Server("snapshot.lock.days", Form::Plain),
    ),
    (
        "azure_subscription_id",
        To::Server("snapshot.subscription", Form::Plain),
    ),
    (
        "azure_resource_group",
        To::Server("snapshot.resource_group", Form::Plain),
    ),
    ("retention_policy", To::Server("retention", Form::Retention)),
    (
        "minimum_redundancy",
        To::Server("minimum_redundancy", Form::Plain),
    ),
    (
        "delete_batch_size",
        To::Needless("as many go in one request as the store takes"),
    ),
    (
        "check_object_lock",
        To::Needless("locks are looked at before every delete"),
    ),
    ("parallel", To::Server("wal.read_ahead", Form::Plain)),
    (
        "spool_dir",
        To::Needless("segments fetched ahead lie below `wal.spool`"),
    ),
    ("backup_id", To::Needless(ONE)),
    ("release", To::Needless(ONE)),
    ("status", To::Needless(ONE)),
    ("target", To::Needless(ONE)),
    ("timeline", To::Needless(ONE)),
    ("tablespace", To::Needless(ONE)),
    ("snapshot_recovery_instance", To::Needless(ONE)),
    ("target_tli", To::Needless(ONE)),
    ("target_lsn", To::Needless(ONE)),
    ("target_time", To::Needless(ONE)),
    (
        "no_partial",
        To::Needless("`barkeep wal-restore --no-partial` asks it of one recovery"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_a_row() {
        let arguments = crate::cli::barman::grammars().flat_map(|grammar| grammar.arguments);
        let options = arguments.flat_map(|some| some.iter());
        let told = |argument: &&&str| !matches!(**argument, "version" | "help");
        let mut names: Vec<_> = options
            .filter(|argument| !argument.flags.is_empty())
            .map(|argument| &argument.name)
            .filter(told)
            .collect();
        names.sort_unstable();
        names.dedup();
        let mut rows: Vec<_> = ROWS.iter().map(|(name, _)| name).collect();
        rows.sort_unstable();
        assert_eq!(rows, names);
    }

    #[test]
    fn sizes_have_the_largest_whole_unit() {
        let sizes = [0, 1023, 1 << 20, 100 << 30].map(size);
        assert_eq!(sizes, ["0B", "1023B", "1MiB", "100GiB"]);
    }
}
