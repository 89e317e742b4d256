//! `backup.info`: the record that makes a directory a backup.
//!
//! One `name=value` per line, ordered by name, `None` for nothing. A [`BackupInfo`] holds every
//! field as the text that was read, known or not, so that rewriting a record changes only what was
//! meant to change. Typed access comes on top, and [`BackupInfo::to_backup`] gives what judgements
//! need. Format: Barman 3.19's cloud catalog, whose reader exits on a field that it does not know,
//! so nothing here ever adds one.
//!
//! Reading is as strict as Barman's or stricter: whatever Barman cannot read is an error here too.

mod build;
mod snapshots;
mod time;

use std::{collections::BTreeMap, fmt, str::FromStr};

pub use build::{Settings, Started, Stopped};
pub use time::{
    parse as parse_time, parse_with_offset as parse_time_with_offset, render as render_time,
};

use super::python::{self, Value};
use crate::{
    failure::Kind,
    model::{
        backup::{Backup, BackupId, BackupStatus, KeepTarget, StoredArchive, Tablespace},
        schedule::Zone,
        snapshot::SnapshotSet,
        time::Timestamp,
        timeline::TimelineId,
        wal::SegmentSize,
    },
};

/// Every field that Barman 3.19 knows, in the order in which it writes them.
pub const FIELDS: [&str; 35] = [
    "backup_label",
    "backup_name",
    "begin_offset",
    "begin_time",
    "begin_wal",
    "begin_xlog",
    "children_backup_ids",
    "cluster_size",
    "compression",
    "config_file",
    "copy_stats",
    "data_checksums",
    "deduplicated_size",
    "encryption",
    "end_offset",
    "end_time",
    "end_wal",
    "end_xlog",
    "error",
    "hba_file",
    "ident_file",
    "included_files",
    "mode",
    "parent_backup_id",
    "pgdata",
    "server_name",
    "size",
    "snapshots_info",
    "status",
    "summarize_wal",
    "systemid",
    "tablespaces",
    "timeline",
    "version",
    "xlog_segment_size",
];

/// Left out of the file where they are null, for the sake of older readers.
pub const HIDDEN_IF_NULL: [&str; 2] = ["backup_name", "snapshots_info"];

const NULL: &str = "None";

/// Why a `backup.info` cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no UTF-8.
    #[error("cannot read `backup.info` as text")]
    Text(#[source] std::str::Utf8Error),
    /// A line is no `name=value`.
    #[error("cannot read line {number} of `backup.info`: `{line}`")]
    Line {
        /// Its number, from 1.
        number: usize,
        /// The line.
        line: String,
    },
    /// A field's value is not of its kind.
    #[error("cannot read `{field}={value}` of `backup.info`: expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A field's Python literal is broken.
    #[error("cannot read the literal `{field}` of `backup.info`")]
    Literal {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: python::Error,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        Kind::Failed
    }
}

/// A record with all of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupInfo {
    /// Values as written; `None` is the text `None`.
    fields: BTreeMap<String, String>,
}

impl BackupInfo {
    /// Reads a record; comments and blank lines are skipped, the last of two lines for one field
    /// counts.
    pub fn parse(content: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(content).map_err(Error::Text)?;
        let mut fields = BTreeMap::new();
        for (index, line) in text.split('\n').enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or_else(|| Error::Line {
                number: index + 1,
                line: line.trim().to_owned(),
            })?;
            fields.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        Ok(Self { fields })
    }

    /// The record with its fields in alphabetical order, as Barman writes it.
    pub fn render(&self) -> String {
        self.to_string()
    }

    /// A field's text; `None` where it is absent or null.
    pub fn get(&self, field: &str) -> Option<&str> {
        let value = self.fields.get(field)?;
        Some(value.as_str()).filter(|value| *value != NULL)
    }

    /// Replaces a field. Line ends in the value become spaces, since a line is a field.
    pub fn set(&mut self, field: &str, value: Option<String>) {
        let hidden = HIDDEN_IF_NULL.contains(&field);
        match value {
            Some(value) => {
                let line = value.replace(['\n', '\r'], " ").trim().to_owned();
                self.fields.insert(field.to_owned(), line);
            }
            None if hidden => drop(self.fields.remove(field)),
            None => drop(self.fields.insert(field.to_owned(), NULL.to_owned())),
        }
    }

    /// The fields that Barman 3.19 would stop at.
    pub fn unknown_fields(&self) -> impl Iterator<Item = &str> {
        let names = self.fields.keys().map(String::as_str);
        names.filter(|name| !FIELDS.contains(name))
    }

    /// How far the backup has come; `EMPTY` where nothing is said.
    pub fn status(&self) -> Result<BackupStatus, Error> {
        let status = self.typed("status", "a status of a backup")?;
        Ok(status.unwrap_or(BackupStatus::Empty))
    }

    /// The size of the cluster's segments: PostgreSQL's default where nothing is said.
    pub fn segment_size(&self) -> Result<SegmentSize, Error> {
        let bytes: Option<u64> = self.typed("xlog_segment_size", "a number of bytes")?;
        let size = bytes.map_or(Ok(SegmentSize::DEFAULT), SegmentSize::new);
        size.map_err(|_| self.field_error("xlog_segment_size", "a size of WAL segments"))
    }

    /// An instant of the record; one without an offset is local time in `zone`, as Barman reads it.
    pub fn time(&self, field: &'static str, zone: &Zone) -> Result<Option<Timestamp>, Error> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let time = time::parse(value, zone);
        time.map(Some)
            .ok_or_else(|| self.field_error(field, "a date and a time"))
    }

    /// A field that is a Python literal.
    pub fn literal(&self, field: &'static str) -> Result<Option<Value>, Error> {
        let value = self.get(field).map(Value::parse).transpose();
        value.map_err(|source| Error::Literal { field, source })
    }

    /// The text of PostgreSQL's `backup_label`.
    pub fn backup_label(&self) -> Result<Option<String>, Error> {
        let Some(label) = self.literal("backup_label")? else {
            return Ok(None);
        };
        let text = label.as_str().map(str::to_owned);
        text.map(Some)
            .ok_or_else(|| self.field_error("backup_label", "a string literal"))
    }

    /// The tablespaces, in the server's order.
    pub fn tablespaces(&self) -> Result<Vec<Tablespace>, Error> {
        let error = || self.field_error("tablespaces", "a list of (name, oid, location)");
        let Some(list) = self.literal("tablespaces")? else {
            return Ok(Vec::new());
        };
        let items = list.items().ok_or_else(error)?;
        let tablespace = |item: &Value| match item.items()? {
            [Value::Str(name), Value::Int(oid), Value::Str(location)] => Some(Tablespace {
                name: name.clone(),
                oid: u32::try_from(*oid).ok()?,
                location: location.into(),
            }),
            _ => None,
        };
        let tablespaces: Option<Vec<_>> = items.iter().map(tablespace).collect();
        tablespaces.ok_or_else(error)
    }

    /// The disk snapshots that hold the backup's files, if it consists of some.
    pub fn snapshots(&self) -> Result<Option<SnapshotSet>, Error> {
        let Some(info) = self.literal("snapshots_info")? else {
            return Ok(None);
        };
        let error = || self.field_error("snapshots_info", "snapshots of aws, azure or gcp");
        snapshots::parse(&info).map(Some).ok_or_else(error)
    }

    /// What judgements need to know.
    ///
    /// `archives` and `keep` come from the listing; `zone` is that of instants without an offset.
    pub fn to_backup(
        &self,
        id: BackupId,
        archives: Vec<StoredArchive>,
        keep: Option<KeepTarget>,
        zone: &Zone,
    ) -> Result<Backup, Error> {
        self.check_what_barman_checks()?;
        let text = |field| self.get(field).map(str::to_owned);
        let timeline: Option<u32> = self.typed("timeline", "a timeline")?;
        let mut archives = archives;
        archives.sort();
        Ok(Backup {
            id,
            name: text("backup_name"),
            status: self.status()?,
            begin_time: self.time("begin_time", zone)?,
            end_time: self.time("end_time", zone)?,
            begin_wal: self.typed("begin_wal", "the name of a WAL segment")?,
            end_wal: self.typed("end_wal", "the name of a WAL segment")?,
            begin_lsn: self.typed("begin_xlog", "a WAL position")?,
            end_lsn: self.typed("end_xlog", "a WAL position")?,
            timeline: timeline.and_then(TimelineId::new),
            system_id: self.typed("systemid", "a system identifier")?,
            version: self.typed("version", "a version number")?,
            segment_size: self.segment_size()?,
            pgdata: text("pgdata").map(Into::into),
            tablespaces: self.tablespaces()?,
            parent: text("parent_backup_id").map(BackupId::new),
            children: self.children(),
            snapshots: self.snapshot_ids()?,
            keep,
            archives,
            error: text("error"),
            unknown_fields: self.unknown_fields().map(str::to_owned).collect(),
        })
    }

    fn snapshot_ids(&self) -> Result<Vec<String>, Error> {
        let set = self.snapshots()?;
        let ids = set.iter().flat_map(SnapshotSet::ids);
        Ok(ids.map(str::to_owned).collect())
    }

    /// The incrementals that build on the backup.
    pub fn children(&self) -> Vec<BackupId> {
        let ids = self.get("children_backup_ids").unwrap_or_default();
        let ids = ids.split(',').filter(|id| !id.is_empty());
        ids.map(BackupId::new).collect()
    }

    /// Barman loads every field when it reads a record, also those that nobody asks for.
    fn check_what_barman_checks(&self) -> Result<(), Error> {
        for field in [
            "begin_offset",
            "end_offset",
            "size",
            "deduplicated_size",
            "cluster_size",
        ] {
            self.typed::<i128>(field, "a number")?;
        }
        for field in ["included_files", "copy_stats", "backup_label"] {
            self.literal(field)?;
        }
        Ok(())
    }

    fn typed<T: FromStr>(
        &self,
        field: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, Error> {
        let value = self.get(field).map(str::parse).transpose();
        value.map_err(|_| self.field_error(field, expected))
    }

    fn field_error(&self, field: &'static str, expected: &'static str) -> Error {
        Error::Field {
            field,
            value: self.get(field).unwrap_or_default().to_owned(),
            expected,
        }
    }
}

impl fmt::Display for BackupInfo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = self.fields.iter();
        fields.try_for_each(|(name, value)| writeln!(formatter, "{name}={value}"))
    }
}

#[cfg(test)]
mod tests;
