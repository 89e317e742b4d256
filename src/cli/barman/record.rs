//! A `backup.info` as Barman's commands show it.
//!
//! Each field is read as Barman's reader reads it: numbers, instants with the offset that they are stored with, literals; the rest is
//! text. A field that Barman does not know is passed over, where Barman's own commands end.

use chrono::{DateTime, FixedOffset};

use crate::{
    format::{
        backup_info::{BackupInfo, FIELDS, HIDDEN_IF_NULL, parse_time_with_offset},
        python::Value,
    },
    model::{backup::BackupId, zone::Zone},
};

const NUMBERS: [&str; 8] = [
    "begin_offset",
    "cluster_size",
    "deduplicated_size",
    "end_offset",
    "size",
    "timeline",
    "version",
    "xlog_segment_size",
];

const LITERALS: [&str; 5] = [
    "backup_label",
    "copy_stats",
    "included_files",
    "snapshots_info",
    "tablespaces",
];

/// A backup's record, field by field.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The backup.
    pub(super) id: BackupId,
    fields: Vec<(&'static str, Shown)>,
}

/// A field's value.
#[derive(Clone, Debug)]
enum Shown {
    Value(Value),
    Time(DateTime<FixedOffset>),
}

impl Record {
    /// Reads all fields, or says which cannot be read. Instants without an offset are of the zone.
    pub(super) fn read(id: BackupId, info: &BackupInfo, zone: &Zone) -> Result<Self, String> {
        let mut fields = Vec::with_capacity(FIELDS.len());
        for field in FIELDS {
            let unreadable = |text: &str| format!("cannot read `{field}={text}`");
            let shown = match info.get(field) {
                None => Shown::Value(default(field)),
                Some(text) => read(field, text, zone).ok_or_else(|| unreadable(text))?,
            };
            fields.push((field, shown));
        }
        Ok(Self { id, fields })
    }

    fn shown(&self, field: &str) -> Option<&Shown> {
        let found = self.fields.iter().find(|(name, _)| *name == field);
        found.map(|(_, shown)| shown)
    }

    /// A field; null where it is an instant.
    pub(super) fn value(&self, field: &str) -> &Value {
        match self.shown(field) {
            Some(Shown::Value(value)) => value,
            Some(Shown::Time(_)) | None => &Value::None,
        }
    }

    /// An instant, with the offset that it is stored with.
    pub(super) fn time(&self, field: &str) -> Option<DateTime<FixedOffset>> {
        match self.shown(field) {
            Some(Shown::Time(time)) => Some(*time),
            Some(Shown::Value(_)) | None => None,
        }
    }

    /// A field that is a text; empty where it is null.
    pub(super) fn text(&self, field: &str) -> &str {
        self.value(field).as_str().unwrap_or_default()
    }

    /// A field as Python's `print` shows it.
    pub(super) fn printed(&self, field: &str) -> String {
        match self.shown(field) {
            Some(Shown::Time(time)) => iso(*time, ' '),
            Some(Shown::Value(value)) => printed(value),
            None => "None".to_owned(),
        }
    }

    /// All fields, as a dictionary that is meant for JSON.
    pub(super) fn to_dict(&self) -> Value {
        let mut entries = Vec::new();
        for (name, shown) in &self.fields {
            let value = match shown {
                Shown::Time(time) => Value::Str(time.format("%a %b %e %H:%M:%S %Y").to_string()),
                Shown::Value(Value::None) if HIDDEN_IF_NULL.contains(name) => continue,
                Shown::Value(value) if *name == "backup_label" => quoted(value),
                Shown::Value(value) => value.clone(),
            };
            entries.push((Value::from(*name), value));
        }
        entries.push((Value::from("backup_id"), Value::from(self.id.as_str())));
        for field in ["begin_time", "end_time"] {
            if let Some(time) = self.time(field) {
                let name = Value::Str(format!("{field}_iso"));
                entries.push((name, Value::Str(iso(time, 'T'))));
            }
        }
        Value::Dict(entries)
    }
}

/// What a field is worth that is not there.
fn default(field: &str) -> Value {
    match field {
        "status" => Value::from("EMPTY"),
        "xlog_segment_size" => Value::Int(16 << 20),
        _ => Value::None,
    }
}

fn read(field: &str, text: &str, zone: &Zone) -> Option<Shown> {
    let value = if matches!(field, "begin_time" | "end_time") {
        return parse_time_with_offset(text, zone).map(Shown::Time);
    } else if NUMBERS.contains(&field) {
        Value::Int(text.parse().ok()?)
    } else if LITERALS.contains(&field) {
        literal(field, text)?
    } else {
        Value::from(text)
    };
    Some(Shown::Value(value))
}

/// A literal of the kind that the field has.
fn literal(field: &str, text: &str) -> Option<Value> {
    let value = Value::parse(text).ok()?;
    match field {
        "tablespaces" => match value.items() {
            Some([]) => Some(Value::None),
            Some(items) => {
                let space = |item: &Value| item.items().is_some_and(|parts| parts.len() == 3);
                items.iter().all(space).then_some(value)
            }
            None => None,
        },
        "snapshots_info" => {
            let provider = value.get("provider").and_then(Value::as_str);
            let known = matches!(provider, Some("aws" | "azure" | "gcp"));
            (known && value.get("snapshots")?.items().is_some()).then_some(value)
        }
        _ => Some(value),
    }
}

/// A literal's own spelling as a text; null where there is nothing in it.
fn quoted(value: &Value) -> Value {
    match value {
        Value::None => Value::None,
        Value::Str(text) if text.is_empty() => Value::None,
        value => Value::Str(value.to_string()),
    }
}

/// A value as Python's `print` shows it.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An instant in ISO 8601, with microseconds where there are any.
fn iso(time: DateTime<FixedOffset>, between: char) -> String {
    let date = time.format("%Y-%m-%d");
    let clock = match time.timestamp_subsec_micros() {
        0 => time.format("%H:%M:%S%:z"),
        _ => time.format("%H:%M:%S%.6f%:z"),
    };
    format!("{date}{between}{clock}")
}
