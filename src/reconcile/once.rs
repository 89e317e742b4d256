//! Converging once: short steps until nothing is left of them, then the attempt, then again.
//!
//! What deletes is done under the lease of retention, an attempt under its own. Whatever was planned before a right was taken is planned
//! again under it, unless nobody can have acted since it was seen.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use tracing::{Instrument as _, info, info_span, warn};

use super::{
    Activation, Ports, SERVERS_MAX,
    approval::Baselines,
    exclusion::{Fences, Rights, wanted},
};
use crate::{
    execute::{self, Outcome, Workshop, attempt::Ended},
    failure::Failure,
    format::keys::OwnObject,
    model::{
        desired::{Server, SnapshotOptions},
        names::DestinationName,
        observed::{Knowledge, Observed},
        reason::Waiting,
        record::Identity,
        semantics::SAFE,
        snapshot::Access,
        time::Timestamp,
    },
    plan::{
        Plan, Step,
        baseline::{Word, baselines},
        guard::{Asked, Guarded, Refusal},
    },
    store::{Archive, PutMode},
};

/// How often one call plans again. Each round either changes the catalog or is the last.
const ROUNDS_MAX: usize = 16;

/// What converging one server came to.
#[derive(Debug)]
pub struct Report {
    /// Every short step that was tried.
    pub outcomes: Vec<Outcome>,
    /// Every attempt.
    pub attempts: Vec<Ended>,
    /// What the guard refused.
    pub refusals: Vec<Refusal>,
    /// The rights that were not to be had.
    pub missing: Vec<Waiting>,
    /// How the server stands at the end.
    pub last: Activation,
}

impl Report {
    pub(super) fn new(last: Activation) -> Self {
        Self {
            outcomes: Vec::new(),
            attempts: Vec::new(),
            refusals: Vec::new(),
            missing: Vec::new(),
            last,
        }
    }

    /// The attempt that is left to be made.
    pub(super) fn attempt(&self) -> Option<Step> {
        let mut steps = self.last.plan.steps.iter();
        steps.find(|step| step.action.is_attempt()).cloned()
    }

    fn miss(&mut self, waiting: &Waiting) {
        if !self.missing.contains(waiting) {
            self.missing.push(waiting.clone());
        }
    }

    async fn look_again(&mut self, ports: &Ports, server: &Server) {
        self.last = ports.plan_again(server, Some(&self.last.observed)).await;
    }
}

/// Converges servers once, several at a time. The reports are in the order given.
pub async fn once(ports: &Ports, servers: &[&Server]) -> Vec<Report> {
    let each = stream::iter(servers.iter().copied()).map(|server| {
        let span = info_span!("reconcile", server = %server.name);
        converge(ports, server).instrument(span)
    });
    each.buffered(SERVERS_MAX).collect().await
}

async fn converge(ports: &Ports, server: &Server) -> Report {
    let mut report = Report::new(ports.plan(server).await);
    for _ in 0..ROUNDS_MAX {
        settle(ports, server, &mut report, |_| None).await;
        remember(ports, server, &report.last.observed).await;
        let Some(step) = report.attempt().filter(|_| !ports.cancel.is_cancelled()) else {
            break;
        };
        match attempt(ports, server, &step, &report.last.observed).await {
            Tried::Missing(waiting) => {
                let is_attempt = |step: &Step| step.action.is_attempt().then(|| waiting.clone());
                report.last.plan.withhold(is_attempt);
                report.miss(&waiting);
                break;
            }
            Tried::NotNeeded => report.look_again(ports, server).await,
            Tried::Ended(ended) => {
                let failed = ended.result.is_err();
                report.attempts.push(*ended);
                report.look_again(ports, server).await;
                // A backup that failed changes the catalog too, but trying again at once would only fail again.
                if failed {
                    break;
                }
            }
        }
    }
    report
}

/// Carries out short steps, round after round, until none is left or none succeeds. `holds` says what a step waits for that is not to be
/// taken now. What is left at the end is the attempt, if there is one, and what failed.
pub(super) async fn settle(
    ports: &Ports,
    server: &Server,
    report: &mut Report,
    holds: impl Fn(&Step) -> Option<Waiting>,
) {
    for _ in 0..ROUNDS_MAX {
        report.last.plan.withhold(&holds);
        let short: Vec<&Step> = short(&report.last.plan).collect();
        if ports.cancel.is_cancelled() || short.is_empty() {
            return;
        }
        let mut rights = Rights::take(ports, server, wanted(short)).await;
        let missing = rights.missing().clone();
        missing.iter().for_each(|waiting| report.miss(waiting));
        let holds = |step: &Step| holds(step).or_else(|| missing.waits_for(step));
        let progressed = round(ports, server, report, &mut rights, &holds).await;
        rights.release().await;
        if !progressed {
            return;
        }
    }
}

fn short(plan: &Plan) -> impl Iterator<Item = &Step> {
    plan.steps.iter().filter(|step| !step.action.is_attempt())
}

/// In whose name snapshots are asked for that backups of a server consist of: as its disks are.
fn access(server: &Server) -> Access {
    let mut entries = server.entries.iter();
    let options = entries.find_map(|entry| entry.snapshot.as_ref());
    options.map(SnapshotOptions::access).unwrap_or_default()
}

/// Executes the short steps of a plan under the rights that were taken for them. Says whether anything succeeded, so that looking again
/// can help.
async fn round(
    ports: &Ports,
    server: &Server,
    report: &mut Report,
    rights: &mut Rights,
    holds: &impl Fn(&Step) -> Option<Waiting>,
) -> bool {
    let seen = &report.last.observed.destinations;
    let store_time = |name: &DestinationName| seen.get(name)?.store_time.known().copied();
    let is_current = rights.were_free(store_time);
    let fences = rights.fences();
    let work = async {
        if !is_current {
            report.look_again(ports, server).await;
        }
        report.last.plan.withhold(holds);
        let plan = report.last.plan.clone();
        let guarded = ports.guard(plan, server, &report.last.observed, Asked::ByPolicy);
        report.refusals.extend_from_slice(guarded.refusals());
        let outcomes = apply(ports, server, &guarded, &report.last.observed, &fences).await;
        let tried = !outcomes.is_empty();
        let progressed = outcomes.iter().any(|outcome| outcome.result.is_ok());
        report.outcomes.extend(outcomes);
        if tried {
            report.look_again(ports, server).await;
            report.last.plan.withhold(holds);
        }
        progressed
    };
    rights.during(work).await
}

/// What became of an attempt that was to be made.
#[derive(Debug)]
pub enum Tried {
    /// It was made.
    Ended(Box<Ended>),
    /// Looking again under the lease showed that it is not needed any more.
    NotNeeded,
    /// Its right was not to be had.
    Missing(Waiting),
}

/// Makes the attempt of a plan: its turn, its lease, another look, and only then the work.
pub(super) async fn attempt(
    ports: &Ports,
    server: &Server,
    step: &Step,
    earlier: &Observed,
) -> Tried {
    let _turn = tokio::select! {
        biased;
        turn = ports.turn(&step.destination) => turn,
        () = ports.cancel.cancelled() => return Tried::NotNeeded,
    };
    let mut rights = match Rights::insist(ports, server, wanted([step])).await {
        Ok(rights) => rights,
        Err(waiting) => return Tried::Missing(waiting),
    };
    let tried = rights
        .during(async {
            let Activation { observed, plan } = ports.plan_again(server, Some(earlier)).await;
            let guarded = ports.guard(plan, server, &observed, Asked::ByPolicy);
            let mut steps = guarded.plan().steps.iter();
            let wanted =
                |found: &&Step| found.action.is_attempt() && found.destination == step.destination;
            let Some(step) = steps.find(wanted) else {
                return Tried::NotNeeded;
            };
            if let Err(failure) = begin(ports, server, &opened(ports, server), &observed).await {
                return Tried::Ended(Box::new(Ended::failed(step, failure)));
            }
            let ended = ports.servers.attempt(ports, server, step, &observed).await;
            Tried::Ended(Box::new(ended))
        })
        .await;
    rights.release().await;
    tried
}

/// Carries out all of a plan that somebody asked for, under rights that were insisted on.
pub async fn carry_out(
    ports: &Ports,
    server: &Server,
    guarded: &Guarded,
    observed: &Observed,
    rights: &mut Rights,
) -> (Vec<Outcome>, Vec<Ended>) {
    let fences = rights.fences();
    let work = async {
        let outcomes = apply(ports, server, guarded, observed, &fences).await;
        let mut attempts = Vec::new();
        let steps = guarded.plan().steps.iter();
        for step in steps.filter(|step| step.action.is_attempt()) {
            attempts.push(ports.servers.attempt(ports, server, step, observed).await);
        }
        (outcomes, attempts)
    };
    rights.during(work).await
}

/// Executes the short steps of a guarded plan, deleting only behind these fences.
pub async fn apply(
    ports: &Ports,
    server: &Server,
    guarded: &Guarded,
    observed: &Observed,
    fences: &Fences,
) -> Vec<Outcome> {
    let archives = opened(ports, server);
    if let Err(failure) = begin(ports, server, &archives, observed).await {
        warn!("cannot write down what a run begins with: {failure}");
    }
    let workshop = Workshop {
        server,
        archives: &archives,
        throttles: &ports.throttles(server),
        fences,
        observed,
        semantics: SAFE,
        clouds: &*ports.clouds,
        access: &access(server),
        clock: ports.clock,
        cancel: &ports.cancel,
    };
    let outcomes = execute::execute(guarded, &workshop).await;
    // What failed is in the report, and told by whoever reads that.
    for done in outcomes.iter().filter(|outcome| outcome.result.is_ok()) {
        let destination = &done.step.destination;
        info!(%destination, "{}", done.step.describe());
    }
    outcomes
}

pub(super) fn opened(ports: &Ports, server: &Server) -> BTreeMap<DestinationName, Archive> {
    let archives = ports.archives(server).into_iter();
    archives
        .filter_map(|(name, archive)| Some((name, archive.ok()?)))
        .collect()
}

/// What is written down before anything else: whose a prefix is, and that an empty one was taken up. The backups of one that nobody has
/// taken up would be nobody's.
async fn begin(
    ports: &Ports,
    server: &Server,
    archives: &BTreeMap<DestinationName, Archive>,
    observed: &Observed,
) -> Result<(), Failure> {
    let now = ports.clock.now();
    pin(archives, observed, now).await;
    let mut words = baselines(server, observed, now, Word::Run);
    words.retain(|destination, _| is_first(observed, destination));
    record(archives, observed, &words).await
}

/// What is written down at the end: what a run has seen.
pub(super) async fn remember(ports: &Ports, server: &Server, observed: &Observed) {
    let words = baselines(server, observed, ports.clock.now(), Word::Run);
    if let Err(failure) = record(&opened(ports, server), observed, &words).await {
        warn!("cannot write down what a run has seen: {failure}");
    }
}

fn is_first(observed: &Observed, destination: &DestinationName) -> bool {
    let stored = observed.destinations.get(destination);
    stored.is_some_and(|stored| matches!(stored.baseline, Knowledge::Absent))
}

/// Writes baselines; of two that come first at once, one wins.
pub(super) async fn record(
    archives: &BTreeMap<DestinationName, Archive>,
    observed: &Observed,
    words: &Baselines,
) -> Result<(), Failure> {
    for (destination, baseline) in words {
        let Some(archive) = archives.get(destination) else {
            continue;
        };
        let mode = if is_first(observed, destination) {
            PutMode::Create
        } else {
            PutMode::Overwrite
        };
        let written = archive
            .write_record(OwnObject::Baseline, baseline, mode)
            .await;
        match written {
            Err(error) if !error.is_conflict() => return Err(Failure::of(error.kind(), &error)),
            _ => {}
        }
    }
    Ok(())
}

/// Writes down at the first contact which cluster a prefix belongs to. Created, never overwritten: of two that come at once, one wins,
/// and the other finds itself blocked by what it then reads.
async fn pin(archives: &BTreeMap<DestinationName, Archive>, observed: &Observed, now: Timestamp) {
    let Some(facts) = observed.postgres.known() else {
        return;
    };
    for (name, archive) in archives {
        let stored = observed.destinations.get(name);
        let absent = stored.is_some_and(|stored| matches!(stored.identity, Knowledge::Absent));
        if !absent {
            continue;
        }
        let identity = Identity {
            system_id: facts.system_id,
            pinned_at: now,
        };
        let written = archive
            .write_record(OwnObject::Identity, &identity, PutMode::Create)
            .await;
        if let Err(error) = written
            && !error.is_conflict()
        {
            let error = crate::failure::chain(&error);
            warn!(destination = %name, "cannot pin the system identifier: {error}");
        }
    }
}
