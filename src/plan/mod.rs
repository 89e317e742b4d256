//! The decision: from what should be true and what is true to what to do, with a reason on every line.
//!
//! [`plan`] is pure, synchronous and total: no I/O, no clock, no randomness, no error. Configuration is already valid when it comes
//! here, and missing knowledge is no error but a reason to wait. It is a page of named deciders; each looks at one server in one
//! destination and says what it would do, what it waits for, and how things stand.
//!
//! What holds of every plan, whatever the deciders say, is checked by [`guard`], which knows nothing of them.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Kind},
    model::{
        action::{Action, Effect, WalSpan},
        backup::{Backup, BackupId},
        compression::Compression,
        condition::{Condition, Standing},
        desired::{Entry, Method, Mode, Server},
        judge::Verdict,
        lock::Remains,
        names::{DestinationName, ServerName},
        observed::{Knowledge, Locality, Observed, ServerFacts, Stored},
        reason::{Reason, Waiting},
        recovery::RecoveryWindow,
        time::Timestamp,
    },
};

mod adopt;
mod choose;
mod copy;
mod digest;
mod expire;
mod gap;
mod health;
mod keep;
mod mark;
mod slot;
mod trust;
mod unrecorded;

#[cfg(test)]
pub(crate) mod testing;

pub mod abandon;
pub mod after;
pub mod baseline;
pub mod chain;
pub mod disks;
pub mod due;
pub mod explain;
pub mod guard;
pub mod lock;
pub mod render;
pub mod requested;
pub mod saved;
pub mod wake;

mod verify;
mod withhold;

use lock::Unseen;

/// Ordered work for one server, with the judgement that it follows from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The server.
    pub server: ServerName,
    /// What may be done to its catalog.
    pub mode: Mode,
    /// The instant that the plan was made for.
    pub now: Timestamp,
    /// What to do, in this order. Empty means converged, or waiting.
    pub steps: Vec<Step>,
    /// How each destination stands, and why.
    pub targets: BTreeMap<DestinationName, Target>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Where.
    pub destination: DestinationName,
    /// What.
    #[serde(flatten)]
    pub action: Action,
    /// Why; never empty.
    pub reasons: Vec<Reason>,
    /// What it frees or adds.
    pub weight: Weight,
}

/// How much a step frees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// Bytes as stored.
    pub bytes: u64,
    /// WAL segments.
    pub segments: u64,
}

/// How a server stands in one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The destination's URL.
    pub location: String,
    /// When it was read.
    pub read_at: Timestamp,
    /// How base backups are compressed there.
    pub compression: Compression,
    /// How a backup's files come here.
    #[serde(default)]
    pub method: Method,
    /// The configuration files that are in none of its backups, where these are snapshots of disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<PathBuf>,
    /// What is not done, and what it waits for.
    pub waiting: Vec<Waiting>,
    /// How things stand, worst first; never empty.
    pub conditions: Vec<Condition>,
    /// The judgement on every backup.
    pub verdicts: BTreeMap<BackupId, Verdict>,
    /// Which instants can be restored now.
    pub window: Option<RecoveryWindow>,
    /// When the last segment of that window was archived, if the server tells: nothing later can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Timestamp>,
    /// What is wrong with the archived WAL; none where nobody can tell, or wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalState>,
    /// Which instants can be restored after the plan.
    pub window_after: Option<RecoveryWindow>,
    /// How many backups may be deleted now, of how many in 24 hours.
    pub budget: Budget,
    /// What the plan's deletes leave behind, where they only hide what they delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remains: Option<Remaining>,
}

/// What is wrong with the archived WAL of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalState {
    /// How many ranges of segments are missing since the newest good backup began, those that are still in `pg_wal` included.
    pub gaps: usize,
    /// How many segments that are.
    pub missing: u64,
    /// How many timelines above the server's own there are, which only another server can have archived.
    pub forks: usize,
}

/// What logical deletes leave behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remaining {
    /// As what.
    pub remains: Remains,
    /// When the bytes of what is deleted now are gone, where that is known.
    pub gone_at: Option<Timestamp>,
}

/// How many backups may be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// In any 24 hours.
    pub allowed: usize,
    /// In the last 24 hours.
    pub used: usize,
}

impl Budget {
    /// How many may go now.
    pub fn left(self) -> usize {
        self.allowed.saturating_sub(self.used)
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The worst standing over all destinations.
    pub fn standing(&self) -> Standing {
        let worst = |target: &Target| target.conditions.first().map(|first| first.standing);
        let standings = self.targets.values().filter_map(worst);
        standings.max().unwrap_or(Standing::Converged)
    }
}

/// One server in one destination: what every decider looks at.
#[derive(Clone, Copy)]
struct Scene<'a> {
    server: &'a Server,
    entry: &'a Entry,
    postgres: &'a Knowledge<ServerFacts>,
    locality: &'a Locality,
    stored: &'a Stored,
    unseen: Unseen,
    now: Timestamp,
}

impl Scene<'_> {
    /// When a backup was started: by the clock that chose its id, or PostgreSQL's if that is later. Whoever wrote it may live in another
    /// zone, and one of the clocks may be slow; the later instant never makes a second backup due.
    fn started(&self, backup: &Backup) -> Option<Timestamp> {
        let local = backup.id.local_time();
        let by_id = local.and_then(|local| self.entry.zone.instant(local));
        by_id.max(backup.begin_time)
    }

    /// Whether an attempt of ours is on record for a backup.
    fn has_attempt(&self, id: &BackupId) -> bool {
        let attempts = self.stored.attempts.known();
        attempts.is_some_and(|attempts| attempts.contains_key(id))
    }
}

/// What a decider says.
#[derive(Default)]
struct Decision {
    steps: Vec<Step>,
    waiting: Vec<Waiting>,
    conditions: Vec<Condition>,
}

impl Decision {
    fn step(&mut self, scene: &Scene<'_>, action: Action, reason: Reason, weight: Weight) {
        self.steps.push(Step {
            destination: scene.entry.destination.clone(),
            action,
            reasons: vec![reason],
            weight,
        });
    }

    /// One more reason for the last step.
    fn because(&mut self, reason: Reason) {
        if let Some(step) = self.steps.last_mut() {
            step.reasons.push(reason);
        }
    }

    fn wait(waiting: Waiting) -> Self {
        Self {
            waiting: vec![waiting],
            ..Self::default()
        }
    }

    /// Something outside must change first.
    fn block(&mut self, waiting: Waiting) {
        let condition = Condition::new(Standing::Blocked, waiting.to_string());
        self.conditions.push(condition);
        self.waiting.push(waiting);
    }

    fn extend(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.waiting.extend(other.waiting);
        self.conditions.extend(other.conditions);
    }

    /// Says everything once, and puts the worst first; what nobody complained about has converged.
    fn settle(&mut self) {
        let mut said = Vec::new();
        self.waiting.retain(|waiting| {
            let new = !said.contains(waiting);
            said.push(waiting.clone());
            new
        });
        if !self.steps.is_empty() {
            let message = format!("{} to do", self.steps.len());
            let condition = Condition::new(Standing::Progressing, message);
            self.conditions.push(condition);
        }
        if self.conditions.is_empty() {
            let condition = Condition::new(Standing::Converged, "nothing to do");
            self.conditions.push(condition);
        }
        // Stable: among equals the deciders' order stays.
        self.conditions
            .sort_by_key(|condition| std::cmp::Reverse(condition.standing));
        self.conditions.dedup();
    }
}

/// Decides what to do for one server. `location` gives a destination's URL for the record.
pub fn plan(
    server: &Server,
    observed: &Observed,
    location: &dyn Fn(&DestinationName) -> String,
    now: Timestamp,
) -> Plan {
    let unseen = unlooked(now);
    let all: Vec<_> = scenes(server, observed, &unseen, now).collect();
    let mut decided: Vec<_> = all.iter().map(|scene| decide(*scene, &all)).collect();
    copy_before_delete(&mut decided);
    for one in &mut decided {
        within_mode(baseline::mode(&one.scene), &mut one.decision);
        baseline::hold(&one.scene, &mut one.decision);
    }
    one_attempt_or_deletes(&mut decided);
    verify::at_last(&mut decided);
    let mut plan = Plan {
        server: server.name.clone(),
        mode: server.mode,
        now,
        steps: Vec::new(),
        targets: BTreeMap::new(),
    };
    for one in decided {
        let destination = one.scene.entry.destination.clone();
        let (steps, target) = one.finish(location(&destination));
        plan.steps.extend(steps);
        plan.targets.insert(destination, target);
    }
    // The attempt is the longest: everything short comes before it.
    plan.steps.sort_by_key(|step| step.action.is_attempt());
    plan
}

/// A server in each of its destinations; what was not looked at is `unseen`.
fn scenes<'a>(
    server: &'a Server,
    observed: &'a Observed,
    unseen: &'a Stored,
    now: Timestamp,
) -> impl Iterator<Item = Scene<'a>> {
    server.entries.iter().map(move |entry| {
        let stored = observed.destinations.get(&entry.destination);
        Scene {
            server,
            entry,
            postgres: &observed.postgres,
            locality: &observed.locality,
            stored: stored.unwrap_or(unseen),
            unseen: Unseen::Locked,
            now,
        }
    })
}

/// A destination that nobody has looked at.
fn unlooked(now: Timestamp) -> Stored {
    let failure = Failure::new(Kind::Failed, "it was not looked at");
    Stored::unknown(now, &failure)
}

/// What the deciders made of one destination.
struct Decided<'a> {
    scene: Scene<'a>,
    verdicts: BTreeMap<BackupId, Verdict>,
    budget: Budget,
    decision: Decision,
}

/// The deciders, in their order. Deletes come last.
fn decide<'a>(scene: Scene<'a>, all: &[Scene<'a>]) -> Decided<'a> {
    let wanted = keep::wanted(&scene);
    let verdicts = expire::judge(&scene, wanted.protected());
    let budget = expire::budget(&scene);
    let mut decision = health::assess(&scene);
    decision.conditions.extend(lock::required(&scene));
    baseline::assess(&scene, &mut decision);
    disks::assess(&scene, &mut decision);
    match trust::additive(&scene) {
        Ok(()) => {
            decision.extend(adopt::decide(&scene));
            decision.extend(keep::decide(&scene, &wanted));
            // Not held up by what a dead attempt left: if that cannot be settled, backups go on all the same.
            decision.extend(due::decide(&scene));
            decision.extend(gap::decide(&scene, &verdicts));
            if let Some(source) = source(&scene, all) {
                decision.extend(copy::decide(&scene, source));
            }
        }
        Err(waiting) => decision.block(waiting),
    }
    match trust::destructive(&scene) {
        Ok(()) => decision.extend(expire::decide(&scene, &verdicts, budget)),
        Err(waiting) => decision.waiting.extend(waiting),
    }
    Decided {
        scene,
        verdicts: verdicts.backups,
        budget,
        decision,
    }
}

impl Decided<'_> {
    fn finish(mut self, location: String) -> (Vec<Step>, Target) {
        self.decision.settle();
        let remains = self.remains();
        let windows = expire::windows(&self.scene, &self.decision.steps);
        let target = Target {
            location,
            read_at: self.scene.stored.read_at,
            compression: self.scene.entry.files.compression,
            method: self.scene.entry.method,
            outside: disks::outside(&self.scene),
            reached: health::archived_at(&self.scene, windows.0.as_ref()),
            waiting: self.decision.waiting,
            conditions: self.decision.conditions,
            verdicts: self.verdicts,
            window: windows.0,
            wal: health::wal(&self.scene),
            window_after: windows.1,
            budget: self.budget,
            remains,
        };
        (self.decision.steps, target)
    }

    fn remains(&self) -> Option<Remaining> {
        let deletes = |step: &Step| {
            matches!(
                step.action,
                Action::DeleteBackup { .. }
                    | Action::DeleteOrphan { .. }
                    | Action::DeleteWal { .. }
            )
        };
        let locks = self.scene.stored.locks.known()?;
        let remains = locks.retention.remains.clone();
        let steps = &self.decision.steps;
        (steps.iter().any(deletes) && remains.is_logical()).then(|| Remaining {
            gone_at: remains.gone_at(self.scene.now),
            remains,
        })
    }
}

/// The destination that this one is a copy of.
fn source<'s, 'a>(scene: &Scene<'a>, all: &'s [Scene<'a>]) -> Option<&'s Scene<'a>> {
    let name = scene.entry.copy_of.as_ref()?;
    all.iter().find(|other| other.entry.destination == *name)
}

/// WAL that a copy still has to get is not deleted where it is.
fn copy_before_delete(decided: &mut [Decided<'_>]) {
    let all: Vec<Scene<'_>> = decided.iter().map(|one| one.scene).collect();
    let wanted = all.iter().filter_map(|scene| {
        let source = source(scene, &all)?;
        let (own, there) = (
            scene.stored.catalog.known()?,
            source.stored.catalog.known()?,
        );
        let wanted = copy::missing_wal(scene, own, there);
        Some((source.entry.destination.clone(), wanted))
    });
    let wanted: Vec<_> = wanted.collect();
    for one in decided {
        let own = wanted
            .iter()
            .filter(|(from, _)| *from == one.scene.entry.destination);
        for (_, wanted) in own {
            let before = one.decision.steps.len();
            let takes_away = |step: &Step| copy::takes_away(&step.action, wanted);
            one.decision.steps.retain(|step| !takes_away(step));
            if one.decision.steps.len() < before {
                one.decision.waiting.push(Waiting::CopyFirst);
            }
        }
    }
}

/// Withholds what the server's mode does not allow.
fn within_mode(mode: Mode, decision: &mut Decision) {
    let (stay, withheld): (Vec<_>, Vec<_>) = std::mem::take(&mut decision.steps)
        .into_iter()
        .partition(|step| mode.allows(step.action.effect()));
    decision.steps = stay;
    decision
        .waiting
        .extend(withheld.iter().map(|step| Waiting::Mode {
            mode,
            step: step.describe(),
        }));
}

/// A plan holds either one attempt or destructive steps, never both, so that nothing is deleted beside a running backup of the same plan.
fn one_attempt_or_deletes(decided: &mut [Decided<'_>]) {
    let has_attempt = |one: &Decided<'_>| one.decision.steps.iter().any(|s| s.action.is_attempt());
    // A new backup is read from the server only now; a copy can be made later.
    let takes = |one: &Decided<'_>| {
        let mut steps = one.decision.steps.iter();
        steps.any(|step| matches!(step.action, Action::TakeBackup { .. }))
    };
    let first = decided.iter().position(takes);
    let Some(first) = first.or_else(|| decided.iter().position(has_attempt)) else {
        return;
    };
    for (index, one) in decided.iter_mut().enumerate() {
        let before = one.decision.steps.len();
        one.decision.steps.retain(|step| {
            let allowed = index == first || !step.action.is_attempt();
            allowed && step.action.effect() == Effect::Additive
        });
        if one.decision.steps.len() < before {
            one.decision.waiting.push(Waiting::AdditiveFirst);
        }
    }
}

impl Step {
    /// The action with its object, in a few words: `delete 20261012T020003`.
    pub fn describe(&self) -> String {
        match self.action.backup() {
            Some(backup) => format!("{} {backup}", self.action.verb()),
            None => self.action.verb().to_owned(),
        }
    }
}

/// How many segments some spans hold.
fn segments_in(spans: &[WalSpan]) -> u64 {
    spans.iter().map(|span| span.run.segments()).sum()
}
