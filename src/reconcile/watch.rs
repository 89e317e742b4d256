//! The watch mode: the loop for ever, for every server at its own time.
//!
//! One task owns everything: activations, each of one server, attempts, which go on beside them, and receivers of WAL. When a server is looked at next is
//! decided by [`plan::wake`](crate::plan::wake), which one of several by the queue; here they are only started and waited for. What
//! panics, hangs or fails is one server's activation and no other's. Nothing is detached: told to stop, the loop starts nothing more, and
//! returns when what runs has come to its next safe point.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered,
};
use tokio::sync::mpsc;
use tracing::{Instrument as _, error, info, info_span, warn};

use super::{
    Ports,
    board::{Attempt, Board, Busy, Row},
    once::{self, Report, Tried},
    queue::{Lane, Queue},
    reached::Reached,
    receivers::{self, Receivers},
};
use crate::{
    clock::pause,
    execute::attempt::Ended,
    failure::chain,
    model::{
        desired::{Desired, Server},
        names::{DestinationName, ServerName},
        observed::Observed,
        reason::Waiting,
        time::Timestamp,
    },
    plan::{
        Step,
        wake::{self, Failed, Failures},
    },
};

/// How many servers that share their destinations are looked at at once.
const LANE_MAX: usize = 16;

/// The longest sleep: the clock of the machine may jump meanwhile, and whoever watches the loop wants to see it go round.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// How soon a server is looked at again after a panic.
const AFTER_PANIC: Duration = Duration::from_mins(5);

/// How soon an attempt asks again for a lease that somebody else held.
const LEASE_AGAIN: Duration = Duration::from_mins(1);

/// What the loop is told from outside.
#[derive(Debug)]
pub enum Order {
    /// Another configuration holds.
    Configure(Box<Desired>),
    /// Every server is to be looked at now.
    Look,
}

/// Watches until the ports are told to stop. `chosen` says which servers of a configuration are looked after.
pub async fn watch(
    ports: Ports,
    orders: mpsc::Receiver<Order>,
    board: &Board,
    chosen: impl Fn(&Server) -> Choice,
) {
    let mut watch = Watch {
        ports: Rc::new(ports.sharing_outages().shown_on(board)),
        queue: Queue::new(LANE_MAX),
        activations: FuturesUnordered::new(),
        attempts: FuturesUnordered::new(),
        attempting: BTreeMap::new(),
        receivers: Receivers::new(board),
        board,
    };
    watch.take_up(&chosen);
    watch.run(orders, &chosen).await;
    watch.wind_down().await;
}

/// Whether a server is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is.
    Chosen,
    /// It is not.
    Left,
}

struct Watch<'a> {
    ports: Rc<Ports>,
    queue: Queue,
    activations: FuturesUnordered<LocalBoxFuture<'a, (ServerName, Option<Report>)>>,
    attempts: FuturesUnordered<LocalBoxFuture<'a, (ServerName, Option<Tried>)>>,
    attempting: BTreeMap<ServerName, Attempt>,
    receivers: Receivers<'a>,
    board: &'a Board,
}

impl Watch<'_> {
    async fn run(
        &mut self,
        mut orders: mpsc::Receiver<Order>,
        chosen: &impl Fn(&Server) -> Choice,
    ) {
        let cancel = self.ports.cancel.clone();
        let mut told = true;
        while !cancel.is_cancelled() {
            self.board.beat();
            self.start_due();
            let pause = pause(self.idle());
            tokio::select! {
                biased;
                () = cancel.cancelled() => {}
                order = orders.recv(), if told => match order {
                    Some(order) => self.obey(order, chosen).await,
                    None => told = false,
                },
                Some((server, report)) = self.activations.next() => self.looked(&server, report),
                Some((server, tried)) = self.attempts.next() => self.attempted(&server, tried),
                Some(server) = self.receivers.next() => self.receivers.ended(&self.ports, server),
                () = pause => {}
            }
        }
    }

    /// Waits for what runs, which has been told to stop.
    async fn wind_down(&mut self) {
        let is_idle = |watch: &Self| {
            watch.activations.is_empty() && watch.attempts.is_empty() && watch.receivers.is_empty()
        };
        while !is_idle(self) {
            self.board.beat();
            tokio::select! {
                biased;
                Some((server, report)) = self.activations.next() => self.looked(&server, report),
                Some((server, tried)) = self.attempts.next() => self.attempted(&server, tried),
                Some(server) = self.receivers.next() => self.receivers.ended(&self.ports, server),
                () = pause(SLEEP_MAX) => {}
            }
        }
    }

    fn idle(&self) -> Duration {
        let next = self.queue.next_at();
        next.map_or(SLEEP_MAX, |at| at.since(self.now()).min(SLEEP_MAX))
    }

    fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    async fn obey(&mut self, order: Order, chosen: &impl Fn(&Server) -> Choice) {
        match order {
            Order::Look => self.queue.wake_all(self.now()),
            Order::Configure(desired) => {
                let ports = self.ports.reopened(*desired).await;
                self.ports = Rc::new(ports.sharing_outages().shown_on(self.board));
                info!("another configuration holds");
                self.take_up(chosen);
            }
        }
    }

    /// Takes up the servers of the configuration, to be looked at now.
    fn take_up(&mut self, chosen: &impl Fn(&Server) -> Choice) {
        let servers = self.ports.desired.servers.values();
        let chosen: BTreeMap<ServerName, Lane> = servers
            .filter(|server| chosen(server) == Choice::Chosen)
            .map(|server| (server.name.clone(), lane(server)))
            .collect();
        self.board.configured(chosen.keys(), self.now());
        self.receivers.configure(&self.ports, chosen.keys());
        self.queue.set(chosen, self.now());
    }

    /// Starts to look at every server whose time has come.
    fn start_due(&mut self) {
        while let Some(server) = self.queue.next(self.now()) {
            let look = Look {
                ports: self.ports.clone(),
                row: self.board.row(&server),
                attempt: self.attempting.get(&server).cloned(),
            };
            let span = info_span!("reconcile", %server);
            let name = server.clone();
            let looking = async move {
                let looked = AssertUnwindSafe(look.at(&name)).catch_unwind().await;
                (name, looked.ok().flatten())
            };
            self.activations
                .push(looking.instrument(span).boxed_local());
        }
    }

    /// Takes note of what a look came to, and starts the attempt that it asks for.
    fn looked(&mut self, server: &ServerName, report: Option<Report>) {
        let now = self.now();
        let Some(mut report) = report else {
            // It is gone, or has panicked; the panic has told its place.
            self.queue.done(server, now + AFTER_PANIC);
            return;
        };
        for outcome in &report.outcomes {
            if let Err(error) = &outcome.result {
                let destination = &outcome.step.destination;
                warn!(%server, %destination, "{}: {}", outcome.step.describe(), chain(error));
            }
        }
        for refusal in &report.refusals {
            let destination = &refusal.destination;
            error!(%server, %destination, "refused: {}", refusal.violation);
        }
        self.board.count(&report);
        let step = report.attempt();
        let row = self.board.row(server);
        let soon = receivers::look_again(&row, &report.last.observed);
        let failures = failures(row.failures, &report, now);
        let pauses = |step: &Step| {
            let short = !step.action.is_attempt();
            short.then(|| failures.get(&step.destination)?.waiting(now))?
        };
        report.last.plan.withhold(pauses);
        let every = self.ports.desired.service.check_every;
        let wakes = match self.ports.desired.servers.get(server) {
            Some(configured) => wake::wakes(configured, &report.last.plan, every),
            None => BTreeMap::new(),
        };
        let next = wakes.values().map(|wake| wake.at).min();
        let next = next.unwrap_or(now + every);
        let next = soon.map_or(next, |soon| next.min(now + soon));
        self.queue.done(server, next);
        let last = Arc::new(report.last);
        self.board.change(server, |row| {
            row.take(&last.observed);
            row.wakes = wakes;
            row.failures = failures;
            row.last = Some(last.clone());
        });
        if let Some(step) = step
            && !self.ports.cancel.is_cancelled()
            && !self.attempting.contains_key(server)
        {
            self.start_attempt(server, step, last.observed.clone());
        }
    }

    fn start_attempt(&mut self, server: &ServerName, step: Step, observed: Observed) {
        let attempt = Attempt {
            destination: step.destination.clone(),
            action: step.action.verb(),
            since: self.now(),
            reached: Reached::default(),
        };
        self.attempting.insert(server.clone(), attempt.clone());
        self.board.change(server, |row| row.attempt = Some(attempt));
        let ports = self.ports.clone();
        let span = info_span!("reconcile", %server);
        let name = server.clone();
        let attempting = async move {
            let attempt = async {
                let server = ports.desired.servers.get(&name)?;
                Some(once::attempt(&ports, server, &step, &observed).await)
            };
            let tried = AssertUnwindSafe(attempt).catch_unwind().await;
            (name, tried.ok().flatten())
        };
        self.attempts
            .push(attempting.instrument(span).boxed_local());
    }

    /// Takes note of how an attempt went, and has the server looked at again.
    fn attempted(&mut self, server: &ServerName, tried: Option<Tried>) {
        let attempt = self.attempting.remove(server);
        let now = self.now();
        let failed = match &tried {
            Some(Tried::Ended(ended)) => {
                let verb = attempt.as_ref().map_or("backup", |attempt| attempt.action);
                self.board.count_attempt(server, verb, ended);
                tell(server, verb, ended);
                ended.result.is_err()
            }
            Some(Tried::NotNeeded | Tried::Missing(_)) => false,
            None => true,
        };
        let busy = match tried {
            Some(Tried::Missing(waiting)) => {
                info!(%server, "{waiting}");
                let until = now + LEASE_AGAIN;
                Some(Busy { until, waiting })
            }
            _ => None,
        };
        self.board.change(server, |row| {
            row.attempt = None;
            row.busy = busy;
            let Some(Attempt { destination, .. }) = attempt else {
                return;
            };
            if failed {
                fail(&mut row.failed_attempts, &destination, now);
            } else {
                row.failed_attempts.remove(&destination);
            }
        });
        self.queue.wake(server, now);
    }
}

fn tell(server: &ServerName, verb: &str, ended: &Ended) {
    let destination = &ended.destination;
    match &ended.result {
        Ok(done) => {
            info!(%server, %destination, "{done}");
            for warning in done.warnings() {
                warn!(%server, %destination, "{warning}");
            }
        }
        Err(failure) => error!(%server, %destination, "{verb}: {failure}"),
    }
}

fn lane(server: &Server) -> Lane {
    let entries = server.entries.iter();
    entries.map(|entry| entry.destination.clone()).collect()
}

/// One look at one server.
struct Look {
    ports: Rc<Ports>,
    row: Row,
    attempt: Option<Attempt>,
}

impl Look {
    /// `None` if the server is not configured any more.
    async fn at(self, server: &ServerName) -> Option<Report> {
        let server = self.ports.desired.servers.get(server)?;
        let earlier = self.row.last.as_ref().map(|last| &last.observed);
        let last = self.ports.plan_again(server, earlier).await;
        let mut report = Report::new(last);
        once::settle(&self.ports, server, &mut report, |step| self.holds(step)).await;
        once::remember(&self.ports, server, &report.last.observed).await;
        Some(report)
    }

    /// What a step waits for that the catalog does not tell: a pause after failures, the attempt that is under way.
    fn holds(&self, step: &Step) -> Option<Waiting> {
        if let Some(Attempt { since, .. }) = self.attempt
            && step.action.is_attempt()
        {
            return Some(Waiting::Turn { since });
        }
        let now = self.ports.clock.now();
        if let Some(Busy { until, waiting }) = &self.row.busy
            && step.action.is_attempt()
            && now < *until
        {
            return Some(waiting.clone());
        }
        let failures = if step.action.is_attempt() {
            &self.row.failed_attempts
        } else {
            &self.row.failures
        };
        failures.get(&step.destination)?.waiting(now)
    }
}

impl Row {
    /// Keeps what could be read.
    fn take(&mut self, observed: &Observed) {
        self.read
            .retain(|name, _| observed.destinations.contains_key(name));
        for (name, stored) in &observed.destinations {
            if stored.catalog.unknown().is_none() {
                self.read.insert(name.clone(), Arc::new(stored.clone()));
            }
        }
    }
}

/// How the destinations of a server do after a look at them.
fn failures(mut failures: Failures, report: &Report, now: Timestamp) -> Failures {
    let mut bad: BTreeSet<&DestinationName> = BTreeSet::new();
    let mut good: BTreeSet<&DestinationName> = BTreeSet::new();
    for outcome in &report.outcomes {
        let destination = &outcome.step.destination;
        match outcome.result {
            Ok(()) => good.insert(destination),
            Err(_) => bad.insert(destination),
        };
    }
    // Where nothing is left to be tried, what failed has been mended by somebody else, or is not wanted any more.
    let plan = &report.last.plan;
    let quiet = plan.targets.iter().filter(|(name, target)| {
        let idle =
            |waiting: &Waiting| matches!(waiting, Waiting::NextDue { .. } | Waiting::Grace { .. });
        let is_done = !plan.steps.iter().any(|step| step.destination == **name);
        is_done && target.waiting.iter().all(idle)
    });
    for destination in good.into_iter().chain(quiet.map(|(name, _)| name)) {
        if !bad.contains(destination) {
            failures.remove(destination);
        }
    }
    for destination in bad {
        fail(&mut failures, destination, now);
    }
    failures.retain(|name, _| report.last.observed.destinations.contains_key(name));
    failures
}

fn fail(failures: &mut Failures, destination: &DestinationName, now: Timestamp) {
    let failed = failures.get(destination);
    let times = failed.map_or(0, |failed| failed.times).saturating_add(1);
    failures.insert(destination.clone(), Failed { times, at: now });
}

#[cfg(test)]
mod tests;
