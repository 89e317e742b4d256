//! New records: what `barman-cloud-backup` would have written, field by field.

use std::path::{Path, PathBuf};

use super::{BackupInfo, FIELDS, snapshots, time};
use crate::{
    format::python::Value,
    model::{
        backup::{BackupId, BackupStatus, Tablespace},
        snapshot::SnapshotSet,
        time::Timestamp,
        timeline::TimelineId,
        wal::{Lsn, SegmentSize, SystemId},
    },
};

/// What is known when PostgreSQL has entered backup mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The server's name, for backups of disk snapshots; archives are recorded as Barman's literal
    /// `cloud`, so `None`.
    pub server_name: Option<String>,
    /// `server_version_num`.
    pub version: u32,
    /// The cluster's identity, if it could be read.
    pub system_id: Option<SystemId>,
    /// The cluster's segment size.
    pub segment_size: SegmentSize,
    /// PGDATA.
    pub pgdata: PathBuf,
    /// The tablespaces outside PGDATA, in the server's order.
    pub tablespaces: Vec<Tablespace>,
    /// The server's clock at the start.
    pub time: Timestamp,
    /// Where recovery will start.
    pub lsn: Lsn,
    /// The timeline of that position.
    pub timeline: TimelineId,
    /// What the server says about its configuration.
    pub settings: Settings,
}

/// What a server says about its configuration, as recorded in `backup.info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `config_file`
    pub config_file: Option<PathBuf>,
    /// `hba_file`
    pub hba_file: Option<PathBuf>,
    /// `ident_file`
    pub ident_file: Option<PathBuf>,
    /// Configuration files other than the main one that supplied settings.
    pub included_files: Vec<PathBuf>,
    /// `data_checksums`: `on` or `off`.
    pub data_checksums: Option<String>,
    /// `summarize_wal`, from PostgreSQL 17 on: `on` or `off`.
    pub summarize_wal: Option<String>,
    /// The size of all databases, in bytes.
    pub cluster_size: Option<u64>,
}

/// What is known when PostgreSQL has left backup mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Stopped {
    /// The server's clock at the stop.
    pub time: Timestamp,
    /// Where the backup becomes consistent.
    pub lsn: Lsn,
    /// The timeline of that position.
    pub timeline: TimelineId,
    /// The text of `backup_label`.
    pub backup_label: String,
    /// How long copying took, as a Python dictionary.
    pub copy_stats: Option<Value>,
}

impl BackupInfo {
    /// The record of a backup that has started, with every field that Barman expects.
    pub fn started(start: &Started) -> Self {
        let mut info = Self::default();
        for field in FIELDS {
            info.set(field, None);
        }
        let name = start.server_name.as_deref().unwrap_or("cloud");
        info.set("server_name", Some(name.to_owned()));
        info.set("version", Some(start.version.to_string()));
        info.set("systemid", start.system_id.map(|id| id.to_string()));
        info.set(
            "xlog_segment_size",
            Some(start.segment_size.bytes().to_string()),
        );
        info.set("pgdata", Some(path(&start.pgdata)));
        info.set("tablespaces", tablespaces(&start.tablespaces));
        let segment = start.lsn.segment(start.timeline, start.segment_size);
        info.set("begin_wal", Some(segment.to_string()));
        info.set("begin_xlog", Some(start.lsn.to_string()));
        let offset = start.lsn.offset(start.segment_size);
        info.set("begin_offset", Some(offset.to_string()));
        info.set("begin_time", Some(time::render(start.time)));
        info.set("timeline", Some(start.timeline.number().to_string()));
        info.set_settings(&start.settings);
        info.set_status(BackupStatus::Started);
        info
    }

    fn set_settings(&mut self, settings: &Settings) {
        let text = |path_of: &Option<PathBuf>| path_of.as_deref().map(path);
        self.set("config_file", text(&settings.config_file));
        self.set("hba_file", text(&settings.hba_file));
        self.set("ident_file", text(&settings.ident_file));
        let files = settings.included_files.iter();
        let files: Vec<_> = files.map(|file| Value::Str(path(file))).collect();
        self.set("included_files", literal_list(files));
        self.set("data_checksums", settings.data_checksums.clone());
        self.set("summarize_wal", settings.summarize_wal.clone());
        self.set(
            "cluster_size",
            settings.cluster_size.map(|size| size.to_string()),
        );
    }

    /// Records where the backup ended.
    ///
    /// The last segment is the one that PostgreSQL names for the position: at the very start of a
    /// segment, the one before it.
    pub fn set_stopped(&mut self, stop: &Stopped, size: SegmentSize) {
        let segment = stop.lsn.segment_before(stop.timeline, size);
        self.set("end_wal", Some(segment.to_string()));
        self.set("end_xlog", Some(stop.lsn.to_string()));
        self.set("end_offset", Some(stop.lsn.offset(size).to_string()));
        self.set("end_time", Some(time::render(stop.time)));
        let label = Value::Str(stop.backup_label.clone());
        self.set("backup_label", Some(label.to_string()));
        self.set("copy_stats", stop.copy_stats.as_ref().map(Value::to_string));
    }

    /// Records how far the backup has come: `Done`, or `WaitingForWals` while WAL up to its end is
    /// not stored.
    pub fn set_status(&mut self, status: BackupStatus) {
        self.set("status", Some(status.to_string()));
    }

    /// Records the backup that this one builds on.
    pub fn set_parent(&mut self, parent: &BackupId) {
        self.set("parent_backup_id", Some(parent.to_string()));
    }

    /// Records the incrementals that build on this one.
    pub fn set_children(&mut self, children: &[BackupId]) {
        let ids: Vec<&str> = children.iter().map(BackupId::as_str).collect();
        let text = (!ids.is_empty()).then(|| ids.join(","));
        self.set("children_backup_ids", text);
    }

    /// Records that the backup failed. Only the first line of the message is kept.
    pub fn set_failed(&mut self, message: &str) {
        let line = message.lines().next().unwrap_or_default();
        self.set("error", Some(line.to_owned()));
        self.set_status(BackupStatus::Failed);
    }

    /// Records the snapshots that the backup consists of.
    pub fn set_snapshots(&mut self, set: &SnapshotSet) {
        self.set("snapshots_info", Some(snapshots::render(set).to_string()));
    }

    /// Records the name that people gave the backup. Barman writes it with the final record only.
    pub fn set_name(&mut self, name: Option<&str>) {
        self.set("backup_name", name.map(str::to_owned));
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Barman writes an empty list as `None`.
fn literal_list(items: Vec<Value>) -> Option<String> {
    (!items.is_empty()).then(|| Value::List(items).to_string())
}

fn tablespaces(spaces: &[Tablespace]) -> Option<String> {
    let tuple = |space: &Tablespace| {
        Value::Tuple(vec![
            Value::Str(space.name.clone()),
            Value::Int(space.oid.into()),
            Value::Str(path(&space.location)),
        ])
    };
    literal_list(spaces.iter().map(tuple).collect())
}
