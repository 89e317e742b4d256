//! The decision: from what should be true and what is true to what to do, with a reason on every line.
//!
//! [`plan`] is pure, synchronous and total: no I/O, no clock, no randomness, no error. Configuration is already valid when it comes
//! here, and missing knowledge is no error but a reason to wait. It is a page of named deciders; each looks at one server in one
//! destination and says what it would do, what it waits for, and how things stand.
//!
//! What holds of every plan, whatever the deciders say, is checked by [`guard`], which knows nothing of them.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::model::{
    action::{Action, Effect, WalSpan},
    backup::{BackupId, KeepTarget},
    compression::Compression,
    condition::{Condition, Standing},
    desired::{Entry, Mode, Server, ServerState},
    judge::Verdict,
    names::{DestinationName, ServerName},
    observed::{Knowledge, Locality, Observed, ServerFacts, Stored},
    reason::{Reason, Waiting},
    recovery::RecoveryWindow,
    time::Timestamp,
};

mod adopt;
mod digest;
mod expire;
mod health;
mod keep;
mod trust;

pub mod after;
pub mod due;
pub mod explain;
pub mod guard;
pub mod render;
pub mod requested;
pub mod saved;

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
    /// Which instants can be restored after the plan.
    pub window_after: Option<RecoveryWindow>,
    /// How many backups may be deleted now, of how many in 24 hours.
    pub budget: Budget,
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
    now: Timestamp,
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

    fn wait(waiting: Waiting) -> Self {
        Self {
            waiting: vec![waiting],
            ..Self::default()
        }
    }

    fn is_quiet(&self) -> bool {
        self.steps.is_empty()
    }

    fn extend(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.waiting.extend(other.waiting);
        self.conditions.extend(other.conditions);
    }
}

/// Decides what to do for one server. `location` gives a destination's URL for the record.
pub fn plan(
    server: &Server,
    observed: &Observed,
    location: &dyn Fn(&DestinationName) -> String,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan {
        server: server.name.clone(),
        mode: server.mode,
        now,
        steps: Vec::new(),
        targets: BTreeMap::new(),
    };
    for entry in &server.entries {
        let Some(stored) = observed.destinations.get(&entry.destination) else {
            continue;
        };
        let scene = Scene {
            server,
            entry,
            postgres: &observed.postgres,
            locality: &observed.locality,
            stored,
            now,
        };
        let (steps, target) = decide(&scene, location(&entry.destination));
        plan.steps.extend(steps);
        plan.targets.insert(entry.destination.clone(), target);
    }
    one_attempt_or_deletes(&mut plan);
    within_mode(&mut plan);
    plan
}

/// The deciders, in their order. Deletes come last.
fn decide(scene: &Scene<'_>, location: String) -> (Vec<Step>, Target) {
    let mut decision = health::assess(scene);
    match trust::additive(scene) {
        Ok(()) => {
            let adopted = adopt::decide(scene);
            // What dead attempts left is settled before anything new begins: the next activation finds a quiet catalog.
            let settled = adopted.is_quiet();
            decision.extend(adopted);
            decision.extend(keep::decide(scene));
            if settled && scene.server.state == ServerState::Active {
                decision.extend(due::decide(scene));
            }
        }
        Err(waiting) => {
            decision.conditions.extend(health::of_obstacle(&waiting));
            decision.waiting.push(waiting);
        }
    }
    let kept = with_keeps(scene.stored, &decision.steps);
    let scene = &Scene {
        stored: &kept,
        ..*scene
    };
    let verdicts = expire::judge(scene);
    let budget = expire::budget(scene);
    match trust::destructive(scene) {
        Ok(()) => decision.extend(expire::decide(scene, &verdicts, budget)),
        Err(waiting) => decision.waiting.extend(waiting),
    }
    decision.waiting.dedup();
    let windows = expire::windows(scene, &decision.steps);
    let target = Target {
        location,
        read_at: scene.stored.read_at,
        compression: scene.entry.files.compression,
        conditions: conditions(&decision),
        waiting: decision.waiting,
        verdicts: verdicts.backups,
        reached: health::archived_at(scene, windows.0.as_ref()),
        window: windows.0,
        window_after: windows.1,
        budget,
    };
    (decision.steps, target)
}

/// The catalog as it is when the keeps of this plan are set, so that no plan keeps and deletes one backup. Until a keep is really
/// there, whatever its target, the backup holds all of its WAL.
fn with_keeps<'a>(stored: &'a Stored, steps: &[Step]) -> Cow<'a, Stored> {
    let mut kept = Cow::Borrowed(stored);
    for step in steps {
        if let Action::SetKeep { backup, .. } = &step.action
            && let Knowledge::Known(catalog) = &mut kept.to_mut().catalog
            && let Some(backup) = catalog.backups.iter_mut().find(|known| known.id == *backup)
        {
            backup.keep = Some(KeepTarget::Full);
        }
    }
    kept
}

/// What the deciders said, worst first; what nobody complained about has converged.
fn conditions(decision: &Decision) -> Vec<Condition> {
    let mut conditions = decision.conditions.clone();
    if !decision.steps.is_empty() {
        let steps = decision.steps.len();
        let message = format!("{steps} to do");
        conditions.push(Condition::new(Standing::Progressing, message));
    }
    if conditions.is_empty() {
        conditions.push(Condition::new(Standing::Converged, "nothing to do"));
    }
    // Stable: among equals the deciders' order stays.
    conditions.sort_by_key(|condition| std::cmp::Reverse(condition.standing));
    conditions.dedup();
    conditions
}

/// A plan holds either one attempt or destructive steps, never both, so that nothing is deleted beside a running backup of the same plan.
fn one_attempt_or_deletes(plan: &mut Plan) {
    let Some(first) = plan.steps.iter().position(|step| step.action.is_attempt()) else {
        return;
    };
    let attempt = plan.steps[first].clone();
    let mut withheld = Vec::new();
    plan.steps.retain(|step| {
        let stays = *step == attempt
            || (!step.action.is_attempt() && step.action.effect() == Effect::Additive);
        if !stays {
            withheld.push(step.destination.clone());
        }
        stays
    });
    for destination in withheld {
        if let Some(target) = plan.targets.get_mut(&destination)
            && !target.waiting.contains(&Waiting::AdditiveFirst)
        {
            target.waiting.push(Waiting::AdditiveFirst);
        }
    }
    // The attempt is the longest: everything short comes before it.
    plan.steps.sort_by_key(|step| step.action.is_attempt());
}

/// Withholds what the server's mode does not allow.
fn within_mode(plan: &mut Plan) {
    let allowed = |effect: Effect| match plan.mode {
        Mode::Full => true,
        Mode::Additive => effect == Effect::Additive,
        Mode::Observe => false,
    };
    let (stay, withheld): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.steps)
        .into_iter()
        .partition(|s| allowed(s.action.effect()));
    plan.steps = stay;
    for step in withheld {
        let waiting = Waiting::Mode {
            mode: format!("{}: would {}", plan.mode, step.describe()),
        };
        if let Some(target) = plan.targets.get_mut(&step.destination) {
            target.waiting.push(waiting);
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
