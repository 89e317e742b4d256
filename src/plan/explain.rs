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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::World;

    fn told(text: &str, label: &str) -> String {
        let world = World::parse(text);
        let plan = world.plan();
        let all = explain(&plan, &world.observed, &world.id(label));
        let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
        world.told(lines.concat())
    }

    #[test]
    fn a_backup_is_told_with_all_that_holds_it_or_lets_it_go() {
        let text = "retention=1x | done 1d | done 8d | wal 1:910-1010";
        assert_eq!(
            told(text, "8d"),
            "8d in primary\n\
             \x20 status     DONE\n\
             \x20 taken      2026-11-12T11:00:00Z .. 2026-11-12T12:00:00Z\n\
             \x20 needs      000000010000000300000098 .. 000000010000000300000099\n\
             \x20 verdict    obsolete\n\
             \x20 because    outside REDUNDANCY 1; 1 newer is good\n\
             \x20 planned    delete 8d\n"
        );
        assert_eq!(told(text, "9d"), "", "there is none");
        assert_eq!(told(&format!("{text} | lose catalog"), "8d"), "");
    }

    #[test]
    fn keeps_locks_and_children_are_told_each_in_a_line() {
        let line = |text: &str, begins: &str| {
            let told = told(text, "8d");
            let line = told.lines().find(|line| line.trim().starts_with(begins));
            line.unwrap_or_default().trim().to_owned()
        };
        let kept = "| done 1d | done 8d keep:full";
        assert_eq!(line(kept, "kept"), "kept       full, set by somebody");
        let ours = format!("{kept} | record 8d full until:-3d by:alice");
        assert_eq!(
            line(&ours, "kept"),
            "kept       full until 2026-11-23T12:00:00Z,"
        );
        let for_ever = format!("{kept} | record 8d full by:alice");
        assert_eq!(line(&for_ever, "kept"), "kept       full,");
        let locked = "| done 1d | done 8d | locked 8d held";
        assert_eq!(line(locked, "locked"), "locked     legal hold");
        assert_eq!(line("| done 1d | done 8d | locked 1d held", "locked"), "");
        let chain = "| done 1d id:c parent:20261112T110000 | done 8d";
        assert_eq!(line(chain, "needed by"), "needed by  1d");
        assert_eq!(line("| done 1d | started 8d nowal: noend:", "taken"), "");
        let world = World::parse(chain);
        let unplanned = Plan {
            targets: std::collections::BTreeMap::new(),
            ..world.plan()
        };
        let told = explain(&unplanned, &world.observed, &world.id("8d"));
        assert!(!told[0].to_string().contains("verdict"));
    }

    #[test]
    fn what_holds_a_backup_is_told_in_words() {
        for (text, why) in [
            (
                "retention=1x | done 1d pages: | done 8d",
                "the newest without damaged pages",
            ),
            (
                "retention=1x | done 1d | done 2d parent:20261112T110000 keep:full | done 8d",
                "incremental 2d needs it",
            ),
            (
                "retention=9x | done 8d parent:20261111T110000 | done 9d",
                "builds on 9d",
            ),
            (
                "retention=1x | done 1d | done 8d | record 8d full by:alice",
                "held by alice: ",
            ),
            (
                "retention=1x | done 1d | done 8d | declare 8d full",
                "declared",
            ),
        ] {
            let told = told(text, "8d");
            let because = format!("  because    {why}\n");
            assert!(told.contains(&because), "{text}\n{told}");
        }
    }
}
