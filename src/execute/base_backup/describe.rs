//! What a backup records of the server: the fields of `backup.info`, as Barman would have filled them.

use std::{path::Path, time::Duration};

use super::{Backup, Warning};
use crate::{
    format::{
        backup_info::{self, Settings},
        python::Value,
    },
    model::{backup::BackupId, desired::Method},
    postgres::{BackupStart, BackupStop},
};

impl Backup<'_> {
    pub(super) fn started(&self, start: &BackupStart) -> backup_info::Started {
        let on = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
        let facts = &self.facts;
        backup_info::Started {
            server_name: self.title(),
            version: facts.version,
            system_id: Some(facts.system_id),
            segment_size: facts.segment_size,
            pgdata: facts.data_directory.clone(),
            tablespaces: facts.tablespaces.clone(),
            time: start.time,
            lsn: start.lsn,
            timeline: start.timeline,
            settings: Settings {
                config_file: facts.config_file.clone(),
                hba_file: facts.hba_file.clone(),
                ident_file: facts.ident_file.clone(),
                included_files: facts.included_files.clone(),
                data_checksums: Some(on(facts.data_checksums)),
                summarize_wal: facts.summarize_wal.map(on),
                cluster_size: facts.cluster_size,
            },
        }
    }

    pub(super) fn ended(&self, stop: &BackupStop) -> backup_info::Stopped {
        backup_info::Stopped {
            time: stop.time,
            lsn: stop.lsn,
            timeline: stop.timeline,
            backup_label: stop.backup_label.clone(),
            copy_stats: Some(self.copy_stats()),
        }
    }

    /// What Barman calls the server of such a backup, if not `cloud`.
    pub(super) fn title(&self) -> Option<String> {
        let server = || self.ports.catalog.server().to_owned();
        (self.request.method == Method::Snapshot).then(server)
    }

    /// Every backup has this label, in Barman's words.
    pub(super) fn label(&self, id: &BackupId) -> String {
        let server = self.title().unwrap_or_else(|| "cloud".to_owned());
        format!("Barman backup {server} {id}")
    }

    /// The keys that Barman writes. Archives are built side by side, so each took as long as all.
    fn copy_stats(&self) -> Value {
        let text = |text: &str| Value::Str(text.to_owned());
        if self.request.method == Method::Snapshot {
            let time = Value::Float((self.times.copy.as_secs_f64() * 1e6).round() / 1e6);
            let pairs = [
                (text("copy_time"), time.clone()),
                (text("total_time"), time),
            ];
            return Value::Dict(pairs.into());
        }
        let seconds = |span: Duration| {
            let micros = (span.as_secs_f64() * 1e6).round() / 1e6;
            Value::Float(micros)
        };
        let spaces = self
            .facts
            .tablespaces
            .iter()
            .map(|space| space.oid.to_string());
        let items: Vec<_> = spaces.chain(["data".to_owned()]).collect();
        let each = |value: &Value| {
            let pair = |item: &String| (text(item), value.clone());
            Value::Dict(items.iter().map(pair).collect())
        };
        let (total, copy) = (
            seconds(self.times.start + self.times.copy),
            seconds(self.times.copy),
        );
        let workers = i128::try_from(self.request.files.jobs.get()).unwrap_or(i128::MAX);
        Value::Dict(vec![
            (text("total_time"), total),
            (text("number_of_workers"), Value::Int(workers)),
            (text("analysis_time"), Value::Int(0)),
            (text("analysis_time_per_item"), each(&Value::Int(0))),
            (text("copy_time_per_item"), each(&copy)),
            (text("serialized_copy_time_per_item"), each(&copy)),
            (text("copy_time"), copy.clone()),
            (text("serialized_copy_time"), copy),
        ])
    }

    pub(super) fn unstored_settings(&self) -> Vec<Warning> {
        let included = self.facts.outside_settings().map(Path::to_owned);
        included.map(Warning::IncludedFile).collect()
    }
}
