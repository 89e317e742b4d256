//! The loop: observe, plan, guard, execute. The only place that knows the order.
//!
//! An activation takes no input but the configuration and the world. Long work is an attempt: `--once` waits for the one that it started, and then
//! looks and plans again, until there is nothing left to do or nothing more that can be done.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use crate::{
    clock::Clock,
    execute::{self, Outcome, Workshop, attempt},
    failure::Failure,
    format::keys::OwnObject,
    model::{
        action::Action,
        desired::{Connection, Desired, Destination, Server},
        lock::Questions,
        names::DestinationName,
        observed::{Knowledge, Observed},
        progress::{Progress, Unwatched},
        record::Identity,
        semantics::SAFE,
        time::Timestamp,
    },
    observe::{self, Depth, Surroundings, observe},
    pipeline::throttle::Throttle,
    plan::{
        Plan,
        guard::{Asked, Guarded, Refusal, guard},
        lock, plan,
    },
    postgres::{Connector, Environment},
    secret,
    store::{Archive, PutMode, SharedStore, control::Controlled},
};

/// How many servers are looked after at once.
const SERVERS_MAX: usize = 16;

/// How often one call of [`once`] plans again. Each round either changes the catalog or is the last.
const ROUNDS_MAX: usize = 16;

/// How often is asked for locks before one plan. What is not answered then counts as locked.
const QUESTIONS_MAX: usize = 16;

/// The destinations, opened once for the whole process, and what else every server shares.
pub struct Ports {
    /// The configuration.
    pub desired: Desired,
    /// The present.
    pub clock: Clock,
    /// Stops the work at its next safe point.
    pub cancel: CancellationToken,
    /// Who wants to know how far it is.
    pub progress: Arc<dyn Progress>,
    environment: Environment,
    stores: BTreeMap<DestinationName, Result<SharedStore, Failure>>,
    attempts: BTreeMap<DestinationName, Arc<Semaphore>>,
    throttles: BTreeMap<DestinationName, Throttle>,
}

impl Ports {
    /// Opens the destinations. One that cannot be opened fails only those who need it.
    pub async fn open(
        desired: Desired,
        clock: Clock,
        cancel: CancellationToken,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let mut stores = BTreeMap::new();
        for (name, destination) in &desired.destinations {
            let opened = crate::store::open(destination).await;
            stores.insert(name.clone(), opened.map_err(|e| Failure::of(e.kind(), &e)));
        }
        Self {
            clock,
            cancel,
            progress,
            ..Self::with_stores(desired, stores)
        }
    }

    /// The same over stores that are open already, by the machine's clock, with nobody to stop it or to watch.
    pub fn with_stores(
        desired: Desired,
        stores: BTreeMap<DestinationName, Result<SharedStore, Failure>>,
    ) -> Self {
        let destinations = desired.destinations.iter();
        let permits =
            |destination: &Destination| Arc::new(Semaphore::new(destination.max_parallel.get()));
        let attempts = destinations
            .clone()
            .map(|(name, d)| (name.clone(), permits(d)));
        let throttles =
            destinations.filter_map(|(name, d)| Some((name.clone(), attempt::throttle(d)?)));
        Self {
            attempts: attempts.collect(),
            throttles: throttles.collect(),
            stores,
            desired,
            clock: Clock::System,
            cancel: CancellationToken::new(),
            progress: Arc::new(Unwatched),
            environment: Environment::read(),
        }
    }

    /// A server's catalog in each of its destinations.
    pub fn archives(&self, server: &Server) -> BTreeMap<DestinationName, Result<Archive, Failure>> {
        let each = server.entries.iter().filter_map(|entry| {
            let store = self.store(&entry.destination)?;
            let archive = store
                .map(|store| Archive::new(store, &server.name).with_overwriting(entry.overwriting));
            Some((entry.destination.clone(), archive))
        });
        each.collect()
    }

    /// A destination, with the one that holds barkeep's own objects if there is such a one.
    fn store(&self, name: &DestinationName) -> Option<Result<SharedStore, Failure>> {
        let data = match self.stores.get(name)? {
            Ok(data) => data.clone(),
            Err(failure) => return Some(Err(failure.clone())),
        };
        let destination = self.desired.destinations.get(name);
        let Some(control) = destination.and_then(|one| one.control.as_ref()) else {
            return Some(Ok(data));
        };
        let control = match self.stores.get(control)? {
            Ok(control) => control.clone(),
            Err(failure) => return Some(Err(failure.clone())),
        };
        Some(Ok(Arc::new(Controlled::new(data, control, name))))
    }

    /// How to reach a server: itself, and its primary if it is a standby.
    pub fn connector(&self, server: &Server) -> Option<Result<Connector, Failure>> {
        let connection = server.connection.as_ref()?;
        Some(self.connect(connection, &connection.conninfo))
    }

    /// How to reach the primary of a standby, if the configuration says so.
    pub fn primary(&self, server: &Server) -> Option<Result<Connector, Failure>> {
        let connection = server.connection.as_ref()?;
        let conninfo = connection.primary_conninfo.as_ref()?;
        Some(self.connect(connection, conninfo))
    }

    fn connect(&self, connection: &Connection, conninfo: &str) -> Result<Connector, Failure> {
        let password = match &connection.password {
            Some(reference) => {
                let resolved = secret::resolve(reference);
                Some(resolved.map_err(|error| Failure::of(error.kind(), &error))?)
            }
            None => None,
        };
        let connector = Connector::new(conninfo, password.as_ref(), &self.environment);
        connector.map_err(|error| Failure::of(error.kind(), &error))
    }

    /// Finds out how a server stands.
    pub async fn observe(&self, server: &Server, depth: Depth) -> Observed {
        self.observe_again(server, depth, None).await
    }

    /// The same, without reading again what has not changed since.
    async fn observe_again(
        &self,
        server: &Server,
        depth: Depth,
        earlier: Option<&Observed>,
    ) -> Observed {
        let surroundings = Surroundings {
            server,
            postgres: match depth {
                Depth::Everything => self.connector(server),
                Depth::Catalog | Depth::Backups => None,
            },
            archives: self.archives(server),
            clock: self.clock,
            depth,
            earlier,
        };
        observe(&surroundings).await
    }

    /// Observes and plans one server, without changing anything.
    pub async fn plan(&self, server: &Server) -> Activation {
        self.plan_again(server, None).await
    }

    async fn plan_again(&self, server: &Server, earlier: Option<&Observed>) -> Activation {
        let span = info_span!("plan", server = %server.name);
        let mut observed = self
            .observe_again(server, Depth::Everything, earlier)
            .instrument(span)
            .await;
        let now = self.clock.now();
        for _ in 0..QUESTIONS_MAX {
            let questions = lock::questions(server, &observed, now);
            if questions.is_empty() {
                break;
            }
            self.look(server, &questions, &mut observed).await;
        }
        let plan = plan(
            server,
            &observed,
            &|destination| self.location(destination),
            now,
        );
        Activation { observed, plan }
    }

    /// Looks at the locks of what would be deleted.
    pub async fn look(
        &self,
        server: &Server,
        questions: &BTreeMap<DestinationName, Questions>,
        observed: &mut Observed,
    ) {
        observe::lock::look(&self.archives(server), questions, observed).await;
    }

    /// Observes and plans several servers at once, in their order.
    pub async fn plan_all(&self, servers: &[&Server]) -> Vec<Activation> {
        let each = stream::iter(servers.iter().copied()).map(|server| self.plan(server));
        each.buffered(SERVERS_MAX).collect().await
    }

    fn location(&self, destination: &DestinationName) -> String {
        let known = self.desired.destinations.get(destination);
        known.map_or_else(String::new, |known| known.location.to_string())
    }

    /// The guard's word on a plan, at the present instant.
    pub fn guard(&self, plan: Plan, server: &Server, observed: &Observed, asked: Asked) -> Guarded {
        guard(plan, server, observed, asked, self.clock.now())
    }
}

/// What was seen of one server, and what is to be done.
#[derive(Debug)]
pub struct Activation {
    /// What was seen.
    pub observed: Observed,
    /// What is to be done.
    pub plan: Plan,
}

/// What converging one server came to.
#[derive(Debug)]
pub struct Report {
    /// Every short step that was tried.
    pub outcomes: Vec<Outcome>,
    /// Every attempt.
    pub attempts: Vec<attempt::Ended>,
    /// What the guard refused.
    pub refusals: Vec<Refusal>,
    /// How the server stands at the end.
    pub last: Activation,
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
    let mut report = Report {
        outcomes: Vec::new(),
        attempts: Vec::new(),
        refusals: Vec::new(),
        last: ports.plan(server).await,
    };
    for _ in 0..ROUNDS_MAX {
        if report.last.plan.is_empty() || ports.cancel.is_cancelled() {
            break;
        }
        let plan = report.last.plan.clone();
        let guarded = ports.guard(plan, server, &report.last.observed, Asked::ByPolicy);
        let progressed = round(ports, server, &guarded, &mut report).await;
        report.last = ports.plan_again(server, Some(&report.last.observed)).await;
        if !progressed {
            break;
        }
    }
    report
}

/// Executes a guarded plan: short steps first, then its attempt. Says whether anything succeeded, so that looking again can help.
async fn round(ports: &Ports, server: &Server, guarded: &Guarded, report: &mut Report) -> bool {
    report.refusals.extend_from_slice(guarded.refusals());
    let observed = &report.last.observed;
    let outcomes = apply(ports, server, guarded, observed).await;
    let mut progressed = outcomes.iter().any(|outcome| outcome.result.is_ok());
    report.outcomes.extend(outcomes);
    for step in guarded
        .plan()
        .steps
        .iter()
        .filter(|step| step.action.is_attempt())
    {
        let ended = take(ports, server, step, observed).await;
        // A backup that failed changes the catalog too, but trying again at once would only fail again.
        progressed |= ended.result.is_ok();
        report.attempts.push(ended);
    }
    progressed
}

/// Executes the short steps of a guarded plan.
pub async fn apply(
    ports: &Ports,
    server: &Server,
    guarded: &Guarded,
    observed: &Observed,
) -> Vec<Outcome> {
    let archives = opened(ports, server);
    pin(&archives, observed, ports.clock.now()).await;
    let workshop = Workshop {
        server,
        archives: &archives,
        observed,
        semantics: SAFE,
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

fn opened(ports: &Ports, server: &Server) -> BTreeMap<DestinationName, Archive> {
    let archives = ports.archives(server).into_iter();
    archives
        .filter_map(|(name, archive)| Some((name, archive.ok()?)))
        .collect()
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

/// Runs an attempt to its end, when the destination has room for one.
pub async fn take(
    ports: &Ports,
    server: &Server,
    step: &crate::plan::Step,
    observed: &Observed,
) -> attempt::Ended {
    let _permit = match ports.attempts.get(&step.destination) {
        Some(semaphore) => semaphore.clone().acquire_owned().await.ok(),
        None => None,
    };
    if let Action::CopyBackup { from, .. } = &step.action {
        return copy(ports, server, step, from).await;
    }
    let archive = match ports.archives(server).remove(&step.destination) {
        Some(Ok(archive)) => archive,
        Some(Err(failure)) => return attempt::Ended::failed(step, failure),
        None => return attempt::Ended::not_open(step),
    };
    let connector = match ports.connector(server) {
        Some(Ok(connector)) => connector,
        Some(Err(failure)) => return attempt::Ended::failed(step, failure),
        None => return attempt::Ended::not_open(step),
    };
    let primary = match ports.primary(server).transpose() {
        Ok(primary) => primary,
        Err(failure) => return attempt::Ended::failed(step, failure),
    };
    let bench = attempt::Bench {
        server,
        archive: &archive,
        connector,
        throttle: ports.throttles.get(&step.destination).cloned(),
        primary,
        observed,
        clock: ports.clock,
        cancel: &ports.cancel,
        progress: ports.progress.clone(),
    };
    let span = info_span!("attempt", destination = %step.destination);
    // Much is held across its awaits; on the heap it costs nothing.
    Box::pin(attempt::run(step, bench)).instrument(span).await
}

/// Runs a copy to its end.
async fn copy(
    ports: &Ports,
    server: &Server,
    step: &crate::plan::Step,
    from: &DestinationName,
) -> attempt::Ended {
    let mut archives = ports.archives(server);
    let (source, target) = match (archives.remove(from), archives.remove(&step.destination)) {
        (Some(Ok(source)), Some(Ok(target))) => (source, target),
        (Some(Err(failure)), _) | (_, Some(Err(failure))) => {
            return attempt::Ended::failed(step, failure);
        }
        _ => return attempt::Ended::not_open(step),
    };
    let bench = attempt::CopyBench {
        server,
        source: &source,
        target: &target,
        throttle: ports.throttles.get(&step.destination).cloned(),
        cancel: &ports.cancel,
    };
    let span = info_span!("copy", destination = %step.destination);
    Box::pin(attempt::copy(step, bench)).instrument(span).await
}

#[cfg(test)]
mod tests;
