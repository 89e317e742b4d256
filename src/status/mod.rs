//! How things stand, for people and for what watches over them.
//!
//! [`Status`] is the one description from which everything else is drawn: the table of `barkeep status`, `/status.json`, the status
//! [`page`] and the [`metrics`]. It is a value made from what was seen and planned; nothing here looks at the world or decides.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    model::{
        backup::{BackupId, BackupStatus},
        catalog::{Catalog, Finding},
        condition::{Condition, Standing},
        names::{DestinationName, ServerName},
        observed::{Knowledge, Observed, Stored},
        reason::Waiting,
        receiving::Receiving,
        record::Mark,
        recovery::RecoveryWindow,
        time::Timestamp,
    },
    plan::{
        Budget, Plan, Target, WalState, render,
        wake::{Failed, Wake},
    },
    reconcile::{
        Activation,
        board::{Attempt, Configuration, Row, State},
    },
};

pub mod metrics;
pub mod page;
pub mod strip;

use strip::Strip;

/// How everything stands at one instant.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The version of this shape.
    pub format: u32,
    /// The present.
    pub now: Option<Timestamp>,
    /// The watch mode itself; none where a command has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// One line for each server and destination.
    pub servers: Vec<Line>,
}

/// The watch mode.
#[derive(Clone, Debug, Serialize)]
pub struct Watch {
    /// Since when it watches.
    pub started: Timestamp,
    /// Which configuration holds, and why not another.
    #[serde(flatten)]
    pub configuration: Configuration,
    /// The servers that it has not looked at yet.
    pub unseen: Vec<ServerName>,
}

/// How one server stands in one destination.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The server.
    pub server: ServerName,
    /// The destination.
    pub destination: DestinationName,
    /// Its URL.
    pub location: String,
    /// When it was read.
    pub read_at: Timestamp,
    /// The worst of the conditions.
    pub standing: Standing,
    /// How things stand, worst first.
    pub conditions: Vec<Condition>,
    /// What is not done, and what it waits for.
    pub waiting: Vec<Waiting>,
    /// How many steps a plan would take now.
    pub pending: usize,
    /// The newest backup that a restore can rely on.
    pub newest_good: Option<NewestGood>,
    /// When the next backup is due.
    pub next_due: Option<Timestamp>,
    /// What can be restored.
    pub window: Option<RecoveryWindow>,
    /// When its last segment was archived, if the server tells.
    pub reached: Option<Timestamp>,
    /// What is wrong with the archived WAL; none where nobody can tell, or wants to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalState>,
    /// How many backups may be deleted.
    pub budget: Budget,
    /// The backups and what can be restored from them, in time.
    pub strip: Option<Strip>,
    /// What is stored.
    pub stored: Option<Amount>,
    /// Since when the oldest complete WAL segment waits to be archived, as far as that can be told.
    pub wal_waits_since: Option<Timestamp>,
    /// What the watch mode knows beside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watched: Option<Watched>,
    /// The notes of the plan, each with its word.
    #[serde(skip)]
    pub notes: Vec<(String, String)>,
}

/// The newest backup that a restore can rely on.
#[derive(Clone, Debug, Serialize)]
pub struct NewestGood {
    /// Its id.
    pub backup: BackupId,
    /// When it ended.
    pub end_time: Option<Timestamp>,
}

/// What is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// The backups that a restore can rely on.
    pub good: usize,
    /// All others.
    pub other: usize,
    /// The bytes of their archives.
    pub backup_bytes: u64,
    /// The WAL segments.
    pub wal_segments: u64,
    /// Their bytes.
    pub wal_bytes: u64,
    /// How many complete backups were never read back.
    pub unverified: usize,
    /// How many had faults when they were.
    pub faulty: usize,
    /// When the one was read back whose reading is the oldest.
    pub oldest_verified: Option<Timestamp>,
    /// How many backups are marked, and go when their grace has passed; none if that is not known.
    pub marked: Option<usize>,
}

/// What the watch mode knows of a line beside what was read.
#[derive(Clone, Debug, Serialize)]
pub struct Watched {
    /// When it is looked at next.
    pub wake: Option<Wake>,
    /// Its failures in a row.
    pub failed: Option<Failed>,
    /// The attempt that runs, or is about to.
    pub attempt: Option<Attempt>,
    /// How the server's WAL is received, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiving: Option<Receiving>,
}

impl Status {
    /// What a command has seen.
    pub fn seen<'a>(activations: impl IntoIterator<Item = &'a Activation>) -> Self {
        let mut status = Self {
            format: 1,
            now: None,
            watch: None,
            servers: Vec::new(),
        };
        for activation in activations {
            status.now = status.now.or(Some(activation.plan.now));
            status.servers.extend(lines(activation, &BTreeMap::new()));
        }
        status
    }

    /// What the watch mode knows.
    pub fn watched(state: &State, now: Timestamp) -> Self {
        let rows = state.servers.iter();
        let unseen = rows.clone().filter(|(_, row)| row.last.is_none());
        Self {
            format: 1,
            now: Some(now),
            watch: Some(Watch {
                started: state.started,
                configuration: state.configuration.clone(),
                unseen: unseen.map(|(name, _)| name.clone()).collect(),
            }),
            servers: rows.flat_map(|(_, row)| watched_lines(row, now)).collect(),
        }
    }

    /// The worst standing of all.
    pub fn standing(&self) -> Standing {
        let lines = self.servers.iter().map(|line| line.standing);
        let refused = self
            .watch
            .as_ref()
            .is_some_and(|watch| watch.configuration.refused.is_some());
        let own = if refused {
            Standing::Stalled
        } else {
            Standing::Converged
        };
        lines.fold(own, Standing::max)
    }
}

fn lines<'a>(
    activation: &'a Activation,
    read: &'a BTreeMap<DestinationName, std::sync::Arc<Stored>>,
) -> impl Iterator<Item = Line> + use<'a> {
    let Activation { plan, observed } = activation;
    plan.targets.iter().map(|(destination, target)| {
        let fresh = observed.destinations.get(destination);
        let fresh = fresh.filter(|stored| stored.catalog.unknown().is_none());
        let stored = fresh.or_else(|| read.get(destination).map(|stored| &**stored));
        line(plan, observed, (destination, target), stored)
    })
}

fn watched_lines(row: &Row, now: Timestamp) -> Vec<Line> {
    let Some(last) = &row.last else {
        return Vec::new();
    };
    let mut lines: Vec<Line> = lines(last, &row.read).collect();
    for line in &mut lines {
        let attempt = row.attempt.clone();
        line.watched = Some(Watched {
            wake: row.wakes.get(&line.destination).copied(),
            failed: worst(row, &line.destination),
            attempt: attempt.filter(|attempt| attempt.destination == line.destination),
            receiving: row.receiving.clone(),
        });
        if let Some(receiving) = &row.receiving {
            line.worsen(receiving.conditions(&line.destination, now));
        }
    }
    lines
}

impl Line {
    /// Adds what is wrong beside what was planned.
    fn worsen(&mut self, conditions: Vec<Condition>) {
        self.conditions.extend(conditions);
        self.conditions
            .sort_by_key(|condition| std::cmp::Reverse(condition.standing));
        let worst = self.conditions.first();
        self.standing = worst.map_or(self.standing, |worst| worst.standing.max(self.standing));
    }
}

/// What has failed most often, of steps and attempts.
fn worst(row: &Row, destination: &DestinationName) -> Option<Failed> {
    let failed = [&row.failures, &row.failed_attempts];
    let failed = failed
        .into_iter()
        .filter_map(|failures| failures.get(destination));
    failed.max_by_key(|failed| failed.times).copied()
}

fn line(
    plan: &Plan,
    observed: &Observed,
    (destination, target): (&DestinationName, &Target),
    stored: Option<&Stored>,
) -> Line {
    let catalog = stored.and_then(|stored| stored.catalog.known());
    let newest = catalog.and_then(|catalog| catalog.newest_good());
    let worst = target.conditions.first();
    let steps = plan.steps.iter();
    let archiver = observed.postgres.known().map(|facts| &facts.archiver);
    Line {
        server: plan.server.clone(),
        destination: destination.clone(),
        location: target.location.clone(),
        read_at: stored.map_or(target.read_at, |stored| stored.read_at),
        standing: worst.map_or(Standing::Converged, |worst| worst.standing),
        conditions: target.conditions.clone(),
        waiting: target.waiting.clone(),
        pending: steps
            .filter(|step| step.destination == *destination)
            .count(),
        newest_good: newest.map(|backup| NewestGood {
            backup: backup.id.clone(),
            end_time: backup.end_time,
        }),
        next_due: next_due(target),
        window: target.window.clone(),
        reached: target.reached,
        wal: target.wal,
        budget: target.budget,
        strip: stored.and_then(|stored| strip::draw(stored, target, observed, plan.now)),
        stored: stored.map(amount),
        wal_waits_since: archiver.and_then(|archiver| archiver.oldest_ready_at),
        watched: None,
        notes: render::notes(target, Standing::Progressing),
    }
}

fn next_due(target: &Target) -> Option<Timestamp> {
    target.waiting.iter().find_map(|waiting| match waiting {
        Waiting::NextDue { at } => Some(*at),
        _ => None,
    })
}

fn amount(stored: &Stored) -> Amount {
    let Some(catalog) = stored.catalog.known() else {
        return Amount::default();
    };
    let good = catalog
        .backups
        .iter()
        .filter(|backup| catalog.is_good(backup));
    let good = good.count();
    let archives = catalog.backups.iter().flat_map(|backup| &backup.archives);
    let complete = catalog.backups.iter();
    let complete = complete.filter(|backup| backup.status == BackupStatus::Done);
    let complete: Vec<_> = complete.collect();
    let read = complete
        .iter()
        .filter_map(|backup| catalog.verified.get(&backup.id));
    let read: Vec<_> = read.collect();
    let faulty = read.iter().filter(|read| read.finding == Finding::Faulty);
    let segments = catalog.wal.runs.values().flatten();
    Amount {
        good,
        other: catalog.backups.len() + catalog.unreadable.len() - good,
        backup_bytes: archives.map(|archive| archive.bytes).sum(),
        wal_segments: segments.map(crate::model::catalog::Run::segments).sum(),
        wal_bytes: catalog.wal.bytes,
        unverified: complete.len() - read.len(),
        faulty: faulty.count(),
        oldest_verified: read.iter().map(|read| read.at).min(),
        marked: marked(stored, catalog),
    }
}

/// How many marks count: each for the very record that it was set on.
fn marked(stored: &Stored, catalog: &Catalog) -> Option<usize> {
    let counts = |mark: &&Mark| catalog.versions.get(&mark.backup) == Some(&mark.epitaph.version);
    match &stored.marks {
        Knowledge::Known(marks) => Some(marks.values().filter(counts).count()),
        Knowledge::Absent => Some(0),
        Knowledge::Unknown(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::World;

    #[test]
    fn marks_are_counted_that_were_set_on_what_is_there() {
        for (text, expected) in [
            ("| done 1d | done 8d", Some(0)),
            ("| done 1d | done 8d | without marks", Some(0)),
            ("| done 1d | done 8d | mark 8d 1h | mark 9d 1h", Some(1)),
            ("| done 1d | done 8d | mark 8d 1h version:other", Some(0)),
            ("| done 1d | done 8d | mark 8d 1h | lose marks", None),
        ] {
            let mut world = World::parse(text);
            assert_eq!(amount(world.stored()).marked, expected, "{text}");
        }
    }
}
