//! The text that `backup-show` prints of a record.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use super::record::{Record, printed};
use crate::format::python::Value;

/// A record, for people.
pub(super) struct Show<'a>(pub(super) &'a Record);

impl Display for Show<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.0;
        let copied = matches!(record.text("status"), "DONE" | "WAITING_FOR_WALS");
        writeln!(formatter, "Backup {}:", record.id)?;
        general(formatter, record, copied)?;
        server(formatter, record)?;
        if copied {
            snapshots(formatter, record)?;
            tablespaces(formatter, record)?;
            base(formatter, record)
        } else if is_set(record.value("error")) {
            row(formatter, "Error", &record.printed("error"))
        } else {
            Ok(())
        }
    }
}

fn row(formatter: &mut fmt::Formatter<'_>, label: &str, value: &dyn Display) -> fmt::Result {
    writeln!(formatter, "  {label:<23}: {value}")
}

fn nested(formatter: &mut fmt::Formatter<'_>, label: &str, value: &dyn Display) -> fmt::Result {
    writeln!(formatter, "    {label:<21}: {value}")
}

fn title(formatter: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
    writeln!(formatter, "  {title}:")
}

/// Whether Python calls a value true.
fn is_set(value: &Value) -> bool {
    match value {
        Value::None | Value::Bool(false) | Value::Int(0) => false,
        Value::Float(number) => *number != 0.0,
        Value::Str(text) => !text.is_empty(),
        Value::Tuple(items) | Value::List(items) => !items.is_empty(),
        Value::Dict(entries) => !entries.is_empty(),
        Value::Bool(true) | Value::Int(_) => true,
    }
}

fn general(formatter: &mut fmt::Formatter<'_>, record: &Record, copied: bool) -> fmt::Result {
    if is_set(record.value("backup_name")) {
        row(formatter, "Backup Name", &record.printed("backup_name"))?;
    }
    row(formatter, "Server Name", &record.printed("server_name"))?;
    if is_set(record.value("systemid")) {
        row(formatter, "System Id", &record.printed("systemid"))?;
    }
    row(formatter, "Status", &record.printed("status"))?;
    if copied {
        row(formatter, "PostgreSQL Version", &record.printed("version"))?;
        row(formatter, "PGDATA directory", &record.printed("pgdata"))?;
        if let Some(size) = bytes(record, "cluster_size") {
            row(formatter, "Estimated Cluster Size", &size)?;
        }
    }
    writeln!(formatter)
}

fn server(formatter: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    let fields = [
        ("Checksums", "data_checksums"),
        ("WAL summarizer", "summarize_wal"),
    ];
    let mut set = fields
        .into_iter()
        .filter(|(_, field)| is_set(record.value(field)))
        .peekable();
    if set.peek().is_none() {
        return Ok(());
    }
    title(formatter, "Server information")?;
    for (label, field) in set {
        nested(formatter, label, &record.printed(field))?;
    }
    writeln!(formatter)
}

fn snapshots(formatter: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    let Value::Dict(info) = record.value("snapshots_info") else {
        return Ok(());
    };
    title(formatter, "Snapshot information")?;
    let inner = |name: &Value| matches!(name.as_str(), Some("snapshots" | "provider_info"));
    for (name, value) in info.iter().filter(|(name, _)| !inner(name)) {
        nested(formatter, &printed(name), &printed(value))?;
    }
    let info = record.value("snapshots_info");
    for (name, value) in entries(info.get("provider_info")) {
        nested(formatter, &printed(name), &printed(value))?;
    }
    writeln!(formatter)?;
    let snapshots = info.get("snapshots").and_then(Value::items);
    for snapshot in snapshots.unwrap_or_default() {
        let mut provider: Vec<_> = entries(snapshot.get("provider")).iter().collect();
        provider.sort_by_key(|(name, _)| printed(name));
        for (name, value) in provider {
            nested(formatter, &printed(name), &printed(value))?;
        }
        for (label, field) in [
            ("Mount point", "mount_point"),
            ("Mount options", "mount_options"),
        ] {
            let value = snapshot.get("mount").and_then(|mount| mount.get(field));
            nested(formatter, label, &printed(value.unwrap_or(&Value::None)))?;
        }
        writeln!(formatter)?;
    }
    Ok(())
}

fn entries(value: Option<&Value>) -> &[(Value, Value)] {
    match value {
        Some(Value::Dict(entries)) => entries,
        _ => &[],
    }
}

fn tablespaces(formatter: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    let Some(spaces) = record.value("tablespaces").items() else {
        return Ok(());
    };
    title(formatter, "Tablespaces")?;
    for space in spaces {
        if let Some([name, oid, location]) = space.items() {
            let place = format!("{} (oid: {})", printed(location), printed(oid));
            nested(formatter, &printed(name), &place)?;
        }
    }
    writeln!(formatter)
}

fn base(formatter: &mut fmt::Formatter<'_>, record: &Record) -> fmt::Result {
    title(formatter, "Base backup information")?;
    for (label, field) in [("Backup Method", "mode"), ("Encryption", "encryption")] {
        if is_set(record.value(field)) {
            nested(formatter, label, &record.printed(field))?;
        }
    }
    if let Some(size) = bytes(record, "deduplicated_size") {
        nested(formatter, "Backup Size", &size)?;
    }
    if is_set(record.value("compression")) && record.text("compression") != "none" {
        nested(
            formatter,
            "Backup Compression",
            &record.printed("compression"),
        )?;
    }
    for (label, field) in [
        ("Timeline", "timeline"),
        ("Begin WAL", "begin_wal"),
        ("End WAL", "end_wal"),
        ("Begin time", "begin_time"),
        ("End time", "end_time"),
    ] {
        nested(formatter, label, &record.printed(field))?;
    }
    if let Some(time) = copy_time(record.value("copy_stats")) {
        nested(formatter, "Copy time", &time)?;
    }
    for (label, field) in [
        ("Begin Offset", "begin_offset"),
        ("End Offset", "end_offset"),
        ("Begin LSN", "begin_xlog"),
        ("End LSN", "end_xlog"),
    ] {
        nested(formatter, label, &record.printed(field))?;
    }
    writeln!(formatter)?;
    if *record.value("children_backup_ids") != Value::None && record.text("mode") == "postgres" {
        nested(
            formatter,
            "Children Backup(s)",
            &record.printed("children_backup_ids"),
        )?;
    }
    Ok(())
}

/// A size in bytes as people read it, where there is one.
fn bytes(record: &Record, field: &str) -> Option<String> {
    const UNITS: [&str; 8] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];
    let Value::Int(bytes @ 1..) = record.value(field) else {
        return None;
    };
    #[expect(clippy::cast_precision_loss, reason = "one decimal of it is shown")]
    let mut size = *bytes as f64;
    if size < 1024.0 {
        return Some(format!("{bytes} B"));
    }
    let mut unit = "";
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    Some(format!("{size:.1} {unit}"))
}

/// How long copying took, and what went before it, where that is known.
fn copy_time(stats: &Value) -> Option<String> {
    let seconds = |name: &str| match stats.get(name) {
        #[expect(clippy::cast_precision_loss, reason = "a number of seconds")]
        Some(Value::Int(number)) => *number as f64,
        Some(Value::Float(number)) => *number,
        _ => 0.0,
    };
    let copy = seconds("copy_time");
    if copy == 0.0 {
        return None;
    }
    let analysis = seconds("analysis_time");
    let startup = match analysis {
        1.0.. => format!(" + {} startup", span(analysis)),
        _ => String::new(),
    };
    Some(format!("{}{startup}", span(copy)))
}

/// A span in words: `1 day, 2 hours, 3 seconds`.
fn span(seconds: f64) -> String {
    let span = Duration::try_from_secs_f64(seconds.abs()).unwrap_or_default();
    let all = span.as_secs();
    let parts = [
        (all / 86_400, "day"),
        (all / 3_600 % 24, "hour"),
        (all / 60 % 60, "minute"),
        (all % 60, "second"),
    ];
    let part = |(count, unit): (u64, &str)| match count {
        0 => None,
        1 => Some(format!("1 {unit}")),
        _ => Some(format!("{count} {unit}s")),
    };
    let parts: Vec<_> = parts.into_iter().filter_map(part).collect();
    let ago = if seconds < 0.0 { " ago" } else { "" };
    match all {
        0 => format!("less than one second{ago}"),
        _ => format!("{}{ago}", parts.join(", ")),
    }
}
