//! Everything that holds one backup, or lets it go.

use std::fmt;

use serde::Serialize;

use super::Plan;
use crate::model::{
    backup::{Backup, BackupId},
    catalog::Catalog,
    judge::Verdict,
    lock::Lock,
    names::DestinationName,
    observed::Observed,
    record::KeepRecord,
};

/// What is known of one backup in one destination, and what the plan makes of it.
#[derive(Serialize)]
pub struct Explanation<'a> {
    /// Where.
    pub destination: &'a DestinationName,
    backup: &'a Backup,
    verdict: Option<&'a Verdict>,
    steps: Vec<String>,
    keep: Option<&'a KeepRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<Lock>,
    needed_by: Vec<&'a BackupId>,
}

/// Explains one backup in every destination that has it.
pub fn explain<'a>(plan: &'a Plan, observed: &'a Observed, id: &BackupId) -> Vec<Explanation<'a>> {
    let in_destination = |(destination, stored): (&'a DestinationName, &'a _)| {
        let stored: &crate::model::observed::Stored = stored;
        let catalog: &Catalog = stored.catalog.known()?;
        let backup = catalog.backup(id)?;
        let target = plan.targets.get(destination);
        let own = plan
            .steps
            .iter()
            .filter(|step| step.destination == *destination && step.action.backup() == Some(id));
        let builds = |other: &&Backup| other.parent.as_ref() == Some(id);
        Some(Explanation {
            destination,
            backup,
            verdict: target.and_then(|target| target.verdicts.get(id)),
            steps: own.map(super::Step::describe).collect(),
            keep: stored
                .keep_records
                .known()
                .and_then(|records| records.get(id)),
            lock: stored.locks.known().and_then(|locks| locks.directory(id)),
            needed_by: catalog
                .backups
                .iter()
                .filter(builds)
                .map(|other| &other.id)
                .collect(),
        })
    };
    observed
        .destinations
        .iter()
        .filter_map(in_destination)
        .collect()
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backup = self.backup;
        writeln!(formatter, "{} in {}", backup.id, self.destination)?;
        let mut line = |label: &str, value: String| writeln!(formatter, "  {label:<10} {value}");
        line("status", backup.status.to_string())?;
        if let (Some(begin), Some(end)) = (backup.begin_time, backup.end_time) {
            line("taken", format!("{begin} .. {end}"))?;
        }
        if let (Some(begin), Some(end)) = (backup.begin_wal, backup.end_wal) {
            line("needs", format!("{begin} .. {end}"))?;
        }
        if let Some(verdict) = self.verdict {
            line("verdict", verdict.fate.to_string())?;
            for reason in &verdict.reasons {
                line("because", reason.to_string())?;
            }
        }
        match (backup.keep, self.keep) {
            (Some(target), Some(record)) => {
                let until = record
                    .until
                    .map_or(String::new(), |until| format!(" until {until}"));
                line("kept", format!("{target}{until}, {}", record.reason))?;
            }
            (Some(target), None) => line("kept", format!("{target}, set by somebody"))?,
            (None, _) => {}
        }
        if let Some(lock) = self.lock.as_ref().filter(|lock| **lock != Lock::Free) {
            line("locked", lock.to_string())?;
        }
        for child in &self.needed_by {
            line("needed by", child.to_string())?;
        }
        for step in &self.steps {
            line("planned", step.clone())?;
        }
        Ok(())
    }
}
