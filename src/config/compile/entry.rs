//! Settings: when, how long, how and how much, for one server in one destination.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use super::{Context, destination::at_least_one};
use crate::{
    config::{
        diagnostic::Diagnostic,
        document::{
            EntryTable, Written,
            settings::{
                self, CompressionTable, ExpiryTable, IntervalTable, KeepTable, RetentionTable,
                WalTable,
            },
        },
        quantity::{Bytes, Cron, OrNone, Text, TextOr},
    },
    model::{
        compression::{Codec, Compression},
        desired::{
            Checkpoint, DeleteBudget, Delivery, Entry, FilesOptions, Incremental, KeepRule, Method,
            ObjectLock, Overwriting, SnapshotOptions, WalCheck, WalOptions,
        },
        names::{DestinationName, PolicyName},
        retention::RetentionPolicy,
        schedule::{Schedule, Zone},
        semantics::RETIRE_AFTER,
    },
};

/// The least age at which orphans go: a running backup has no `backup.info` of its own for a while.
const ORPHANS_LEAST: Duration = Duration::from_hours(48);
/// What S3 allows.
const PART_LEAST: Bytes = Bytes(5 << 20);
/// What S3 allows.
const PART_MOST: Bytes = Bytes(5 << 30);
/// How many parts an object of S3 may have.
const PARTS_MAX: u64 = 10_000;

/// Compiles the settings of an entry. What is wrong is reported, and has some value in what is
/// returned.
pub(super) fn settings(
    table: &EntryTable,
    destination: &DestinationName,
    context: &mut Context<'_>,
) -> Entry {
    let zone = zone(table, context);
    let schedule = table
        .schedule
        .as_ref()
        .and_then(|text| schedule(text, &zone, context));
    let copy_of = table.copy_of.as_ref();
    let snapshot = snapshot(table, &zone, context);
    let files = files(table, context);
    if let Some(written) = table
        .compression
        .as_ref()
        .filter(|_| method(table) == Method::Snapshot && files.compression != Compression::None)
    {
        let warning = Diagnostic::warning("snapshots are not compressed");
        context.report(warning.label(&written.span(), "is for the other methods"));
    }
    Entry {
        destination: destination.clone(),
        policy: table
            .policy
            .as_ref()
            .and_then(|name| PolicyName::parse(name.get()).ok()),
        // A copy is made when there is something to copy.
        schedule: schedule.filter(|_| copy_of.is_none()),
        window: table
            .window
            .as_ref()
            .and_then(|window| window.get().0.0.clone()),
        splay: table
            .splay
            .as_ref()
            .map_or(Duration::ZERO, |splay| splay.get().0),
        catch_up: copied(table.catch_up.as_ref()),
        zone,
        retention: table
            .retention
            .as_ref()
            .and_then(|text| retention(text, context)),
        minimum_redundancy: minimum_redundancy(table, context),
        keep_rules: table
            .keep
            .iter()
            .flatten()
            .filter_map(|rule| keep_rule(rule, context))
            .collect(),
        manage_keeps: copied(table.manage_keeps.as_ref()),
        method: method(table),
        snapshot,
        server_compression: server_compression(table, context),
        incremental: incremental(table, context),
        files,
        wal: wal(table, context),
        failed_after: expiry(table.failed_backups.as_ref()),
        orphans_after: orphans(table, context),
        deletes: deletes(table, context),
        verify_every: verify_every(table, context),
        retire_after: table
            .retire_after
            .as_ref()
            .map_or(RETIRE_AFTER, |after| after.get().0),
        grace: grace(table),
        object_lock: ObjectLock::default(),
        copy_of: copy_of.and_then(|name| DestinationName::parse(name.get()).ok()),
        delivery: delivery(table),
        overwriting: Overwriting::default(),
    }
}

fn copied<T: Copy + Default>(written: Option<&Written<T>>) -> T {
    written.map_or_else(T::default, |written| *written.get())
}

fn zone(table: &EntryTable, context: &mut Context<'_>) -> Zone {
    let Some(name) = &table.time_zone else {
        return Zone::utc();
    };
    if let Some(zone) = context.zones.get(name.get()) {
        return zone.clone();
    }
    context.report(
        Diagnostic::error(format!("there is no time zone `{}`", name.get()))
            .label(&name.span(), "not known")
            .help("a name such as `Europe/Rome` or `UTC`, as in /usr/share/zoneinfo"),
    );
    Zone::utc()
}

fn schedule(
    written: &Written<TextOr<Cron, IntervalTable>>,
    zone: &Zone,
    context: &mut Context<'_>,
) -> Option<Schedule> {
    let interval = match written.get() {
        TextOr::Text(Cron(schedule)) => return Some(schedule.clone()?.in_zone(zone)),
        TextOr::Table(interval) => interval,
    };
    let Some(Text(every)) = interval.every else {
        let error = Diagnostic::error("the schedule does not say how often");
        context.report(error.label(&written.span(), "should have a key `every`"));
        return None;
    };
    let schedule = Schedule::every(every, interval.at.as_deref(), zone);
    schedule
        .map_err(|error| {
            let error = Diagnostic::error(error.to_string());
            context.report(error.label(&written.span(), "not a schedule"));
        })
        .ok()
}

fn retention(
    written: &Written<TextOr<OrNone<RetentionPolicy>, RetentionTable>>,
    context: &mut Context<'_>,
) -> Option<RetentionPolicy> {
    let policy = match written.get() {
        TextOr::Text(OrNone(policy)) => (*policy)?,
        TextOr::Table(RetentionTable {
            window: Some(Text(window)),
            redundancy: None,
        }) => RetentionPolicy::RecoveryWindow(*window),
        TextOr::Table(RetentionTable {
            window: None,
            redundancy: Some(count),
        }) => RetentionPolicy::Redundancy(*count),
        TextOr::Table(_) => {
            let error = Diagnostic::error("a retention is either a window or a redundancy");
            context.report(error.label(
                &written.span(),
                "should have one of `window` and `redundancy`",
            ));
            return None;
        }
    };
    let nothing = match policy {
        RetentionPolicy::Redundancy(count) => count == 0,
        RetentionPolicy::RecoveryWindow(window) => window.count == 0,
    };
    if nothing {
        let error = Diagnostic::error(format!("`{policy}` keeps nothing"));
        context.report(
            error
                .label(&written.span(), "should be 1 or more")
                .help("to keep everything, write `none`"),
        );
        return None;
    }
    Some(policy)
}

fn minimum_redundancy(table: &EntryTable, context: &mut Context<'_>) -> u32 {
    let Some(written) = &table.minimum_redundancy else {
        return 1;
    };
    if *written.get() == 0 {
        let error = Diagnostic::error("at least the newest good backup always stays");
        context.report(error.label(&written.span(), "should be 1 or more"));
    }
    (*written.get()).max(1)
}

fn keep_rule(written: &Written<KeepTable>, context: &mut Context<'_>) -> Option<KeepRule> {
    let table = written.get();
    if let Some(backup) = &table.backup {
        context.report(
            Diagnostic::error("one backup is kept by its server")
                .label(&backup.span(), "only rules stand here")
                .help("write it as `[[servers.NAME.keep]]`"),
        );
        return None;
    }
    let foreign = [
        table.reason.as_ref().map(Written::span),
        table.until.as_ref().map(Written::span),
        table
            .destinations
            .as_ref()
            .and_then(|all| all.first())
            .map(Written::span),
    ];
    for span in foreign.into_iter().flatten() {
        let error = Diagnostic::error("`reason`, `until` and `destinations` belong to one backup");
        context.report(error.label(&span, "not to a rule"));
    }
    let missing = [
        ("first_of", table.first_of.is_none()),
        ("for", table.keep_for.is_none()),
        ("target", table.target.is_none()),
    ];
    missing_keys("a rule to keep backups", written, &missing, context)?;
    Some(KeepRule {
        first_of: *table.first_of.as_ref()?.get(),
        keep_for: table.keep_for.as_ref()?.get().0,
        target: *table.target.as_ref()?.get(),
    })
}

/// Reports the keys that a table lacks; `None` if there are any.
pub(super) fn missing_keys(
    what: &str,
    written: &Written<KeepTable>,
    keys: &[(&str, bool)],
    context: &mut Context<'_>,
) -> Option<()> {
    let missing: Vec<String> = keys
        .iter()
        .filter(|(_, missing)| *missing)
        .map(|(key, _)| format!("`{key}`"))
        .collect();
    if missing.is_empty() {
        return Some(());
    }
    let missing = missing.join(" and ");
    context.report(
        Diagnostic::error(format!("{what} needs {missing}"))
            .label(&written.span(), format!("should have {missing}"))
            .help(
                "such as `{ first_of = \"month\", for = \"12 months\", target = \"standalone\" }`, \
                 or `{ backup = \"...\", target = \"full\" }`",
            ),
    );
    None
}

fn method(table: &EntryTable) -> Method {
    match table.method.as_ref().map(Written::get) {
        Some(settings::Method::Stream) => Method::Stream,
        Some(settings::Method::Snapshot) => Method::Snapshot,
        Some(settings::Method::Files) | None => Method::Files,
    }
}

/// Of what snapshots are taken, where they are. A policy may say `method = "snapshot"` and leave the disks to the servers.
fn snapshot(table: &EntryTable, zone: &Zone, context: &mut Context<'_>) -> Option<SnapshotOptions> {
    if method(table) != Method::Snapshot {
        return None;
    }
    if table.copy_of.is_some() {
        return None;
    }
    let written = table.snapshot.as_ref()?;
    super::snapshot::options(written, zone, context)
}

fn server_compression(table: &EntryTable, context: &mut Context<'_>) -> Compression {
    let Some(written) = &table.server_compression else {
        return Compression::None;
    };
    let compression = written.get().0;
    match compression {
        Compression::None => {}
        _ if method(table) != Method::Stream => context.report(
            Diagnostic::warning("nothing is sent by the server")
                .label(&written.span(), "is for `method = \"stream\"`"),
        ),
        Compression::Gzip | Compression::Lz4 | Compression::Zstd => return compression,
        _ => context.report(
            Diagnostic::error(format!("PostgreSQL does not compress with {compression}"))
                .label(&written.span(), "should be `gzip`, `lz4` or `zstd`"),
        ),
    }
    Compression::None
}

/// How long a chain may become unless the configuration says so: a restore reads all of it.
const CHAIN_MAX: u32 = 14;

fn incremental(table: &EntryTable, context: &mut Context<'_>) -> Option<Incremental> {
    let written = table.incremental.as_ref()?;
    if method(table) != Method::Stream {
        context.report(
            Diagnostic::error("incremental backups are sent by the server")
                .label(&written.span(), "needs `method = \"stream\"`"),
        );
        return None;
    }
    let Some(full_every) = &written.get().full_every else {
        context.report(
            Diagnostic::error("incremental backups need `full_every`")
                .label(&written.span(), "should have `full_every`")
                .help("such as `{ full_every = \"7d\" }`"),
        );
        return None;
    };
    let max_chain = written.get().max_chain.as_ref();
    if let Some(short) = max_chain.filter(|max| *max.get() < 2) {
        let error = Diagnostic::error("a chain of fewer than two has no incremental backup");
        context.report(error.label(&short.span(), "should be 2 or more"));
    }
    Some(Incremental {
        full_every: full_every.get().0,
        max_chain: max_chain.map_or(CHAIN_MAX, |max| *max.get()),
    })
}

fn files(table: &EntryTable, context: &mut Context<'_>) -> FilesOptions {
    let (compression, level) = codec(table.compression.as_ref(), Codec::for_base, context);
    if let Some(written) = table
        .compression
        .as_ref()
        .filter(|_| !compression.is_supported_for_base())
    {
        context.report(
            Diagnostic::error(format!(
                "base backups cannot be compressed with {compression}"
            ))
            .label(&written.span(), "for WAL only")
            .help(
                "Barman 3.19 could not restore them; `none`, `gzip`, `bzip2`, `snappy` and \
                     `lz4` it can",
            ),
        );
    }
    let size = |written: &Option<Written<Text<Bytes>>>| written.as_ref().map(|size| size.get().0);
    let part = size(&table.part_size).unwrap_or(PART_LEAST);
    let archive = size(&table.max_archive_size).unwrap_or(part);
    part_limits(table, part, archive, context);
    FilesOptions {
        compression,
        level,
        jobs: at_least_one(table.jobs.as_ref(), context).unwrap_or(NonZeroUsize::MIN),
        max_archive_bytes: archive.0,
        part_bytes: part.0,
        checkpoint: if copied(table.immediate_checkpoint.as_ref()) {
            Checkpoint::Immediate
        } else {
            Checkpoint::Spread
        },
        name: backup_name(table, context),
    }
}

fn part_limits(table: &EntryTable, part: Bytes, archive: Bytes, context: &mut Context<'_>) {
    let (Some(part_text), Some(archive_text)) = (&table.part_size, &table.max_archive_size) else {
        return;
    };
    if part < PART_LEAST || part > PART_MOST {
        let error = Diagnostic::error("parts of this size are not accepted by S3");
        context.report(error.label(&part_text.span(), "should be 5MiB to 5GiB"));
    } else if archive.0 == 0 {
        let error = Diagnostic::error("an archive of no size holds nothing");
        context.report(error.label(&archive_text.span(), "should be larger"));
    } else if archive.0 > part.0.saturating_mul(PARTS_MAX) {
        let mib = (archive.0 / PARTS_MAX).div_ceil(1 << 20) + 1;
        context.report(
            Diagnostic::error("an archive of this size has too many parts")
                .label(&archive_text.span(), "larger than 10,000 parts")
                .label(&part_text.span(), "of this size")
                .help(format!(
                    "raise `part_size` to `{mib}MiB`, or lower `max_archive_size`"
                )),
        );
    }
}

/// A codec with its level, each `None` if it was not given; what the codec does not have is
/// reported.
fn codec(
    written: Option<&Written<TextOr<Compression, CompressionTable>>>,
    check: fn(
        Compression,
        Option<crate::model::compression::Level>,
    ) -> Result<Codec, crate::model::compression::Error>,
    context: &mut Context<'_>,
) -> (Compression, Option<i32>) {
    let Some(written) = written else {
        return (Compression::None, None);
    };
    let (compression, level) = match written.get() {
        TextOr::Text(compression) => (*compression, None),
        TextOr::Table(CompressionTable {
            codec: Some(Text(codec)),
            level,
        }) => (*codec, *level),
        TextOr::Table(_) => {
            let error = Diagnostic::error("the compression does not say its codec");
            context.report(error.label(&written.span(), "should have a key `codec`"));
            return (Compression::None, None);
        }
    };
    let Some(level) = level else {
        return (compression, None);
    };
    match check(compression, Some(level.0)) {
        Ok(codec) => (compression, Some(codec.level())),
        Err(error) => {
            let error = Diagnostic::error(error.to_string());
            context.report(error.label(&written.span(), "not a level of this codec"));
            (compression, None)
        }
    }
}

fn backup_name(table: &EntryTable, context: &mut Context<'_>) -> Option<String> {
    const RESERVED: [&str; 8] = [
        "latest",
        "last",
        "oldest",
        "first",
        "last-failed",
        "latest-full",
        "last-full",
        "auto",
    ];
    let written = table.name.as_ref()?;
    let name = written.get();
    let is_id = crate::model::backup::BackupId::new(name.as_str())
        .local_time()
        .is_some();
    if name.is_empty() || is_id || RESERVED.contains(&name.as_str()) {
        context.report(
            Diagnostic::error(format!("`{name}` cannot be the name of backups"))
                .label(&written.span(), "would be taken for something else")
                .help("empty names, ids and words such as `latest` have another meaning"),
        );
    }
    Some(name.clone())
}

fn wal(table: &EntryTable, context: &mut Context<'_>) -> WalOptions {
    let wal = match table.wal.as_ref().map(Written::get) {
        Some(TextOr::Table(wal)) => Some(wal),
        _ => None,
    };
    let of = |get: fn(&WalTable) -> Option<&Written<u32>>| {
        wal.and_then(get).map_or(0, |number| *number.get())
    };
    let (compression, level) = codec(
        wal.and_then(|wal| wal.compression.as_ref()),
        Codec::for_wal,
        context,
    );
    let max_lag = wal
        .and_then(|wal| wal.max_lag.as_ref())
        .and_then(|lag| lag.get().0.0);
    let check = wal
        .and_then(|wal| wal.check.as_ref())
        .is_none_or(|check| *check.get());
    let spool = wal.and_then(|wal| wal.spool.as_ref());
    if let Some(spool) = spool.filter(|spool| !spool.get().is_absolute()) {
        let error = Diagnostic::error("the spool must be an absolute path");
        context.report(error.label(&spool.span(), "should begin with `/`"));
    }
    WalOptions {
        compression,
        level,
        max_lag,
        check: if check { WalCheck::On } else { WalCheck::Off },
        read_ahead: usize::try_from(of(|wal| wal.read_ahead.as_ref())).unwrap_or(usize::MAX),
        spool: spool.map_or_else(PathBuf::new, |spool| spool.get().clone()),
    }
}

/// A copy gets its WAL later unless it says otherwise.
fn delivery(table: &EntryTable) -> Delivery {
    let said = match table.wal.as_ref().map(Written::get) {
        Some(TextOr::Text(delivery)) => Some(*delivery),
        Some(TextOr::Table(wal)) => wal.delivery.as_ref().map(|delivery| *delivery.get()),
        None => None,
    };
    said.unwrap_or(match table.copy_of {
        Some(_) => Delivery::Healed,
        None => Delivery::Required,
    })
}

fn expiry(written: Option<&Written<ExpiryTable>>) -> Option<Duration> {
    let after = written?.get().delete_after.as_ref()?;
    after.get().0.0
}

fn orphans(table: &EntryTable, context: &mut Context<'_>) -> Option<Duration> {
    let after = expiry(table.orphans.as_ref())?;
    let written = table.orphans.as_ref()?.get().delete_after.as_ref()?;
    if after < ORPHANS_LEAST {
        context.report(
            Diagnostic::error("orphans must be left alone for at least 48h")
                .label(&written.span(), "should be `48h` or more")
                .help("a backup that is just being made looks like one"),
        );
    }
    Some(after)
}

/// Reading everything back takes as long as restoring it.
const VERIFY_LEAST: Duration = Duration::from_hours(1);

fn verify_every(table: &EntryTable, context: &mut Context<'_>) -> Option<Duration> {
    let written = table.verify.as_ref()?;
    let Some(every) = &written.get().every else {
        context.report(
            Diagnostic::error("`verify` does not say how often")
                .label(&written.span(), "should have a key `every`")
                .help("such as `{ every = \"7d\" }`"),
        );
        return None;
    };
    let Text(every_so_often) = every.get();
    if *every_so_often < VERIFY_LEAST {
        let error = Diagnostic::error("backups cannot be read back all the time");
        context.report(error.label(&every.span(), "should be `1h` or more"));
    }
    Some(*every_so_often)
}

fn deletes(table: &EntryTable, context: &mut Context<'_>) -> DeleteBudget {
    let deletes = table.deletes.as_ref().map(Written::get);
    let percent = deletes.and_then(|deletes| deletes.max_percent.as_ref());
    if let Some(written) = percent.filter(|percent| *percent.get() > 100) {
        let error = Diagnostic::error("there are never more than 100 percent to delete");
        context.report(error.label(&written.span(), "should be 0 to 100"));
    }
    let backups = deletes.and_then(|deletes| deletes.max_backups.as_ref());
    DeleteBudget {
        backups_max: backups.map_or(0, |number| {
            usize::try_from(*number.get()).unwrap_or(usize::MAX)
        }),
        percent_max: percent.map_or(0, |number| *number.get()),
    }
}

fn grace(table: &EntryTable) -> Duration {
    let deletes = table.deletes.as_ref().map(Written::get);
    let grace = deletes.and_then(|deletes| deletes.grace.as_ref());
    grace.map_or(Duration::ZERO, |grace| grace.get().0)
}
