//! The loop: observe, plan, guard, execute. The only place that knows the order.
//!
//! An activation takes no input but the configuration and the world. [`once`] goes through it until there is nothing left to do or nothing
//! more that can be done, and waits for the attempts that it starts. Both take
//! the rights that [`exclusion`] gives.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt as _, stream};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::{
    actor,
    clock::Clock,
    execute::attempt,
    failure::Failure,
    format::keys::OWN,
    model::{
        desired::{Connection, Desired, Destination, Server},
        lock::Questions,
        names::{DestinationName, ServerName},
        observed::Observed,
        progress::{Progress, Unwatched},
        record::Actor,
    },
    observe::{self, Depth, Surroundings, observe},
    pipeline::throttle::Throttle,
    plan::{
        Plan, disks,
        guard::{Asked, Guarded, guard},
        lock, plan,
    },
    postgres::{Connector, Environment},
    secret,
    snapshot::{AllClouds, Clouds},
    store::{
        self, Archive, SharedStore, Tags,
        control::Controlled,
        probe::{self, Conditions},
    },
};

pub mod approval;
pub mod board;
pub mod exclusion;
pub mod once;
pub mod reached;
pub mod servers;
pub mod watch;

#[cfg(test)]
mod fleet;
mod outage;
mod queue;
mod receivers;

use self::{
    board::Board,
    exclusion::Exclusion,
    outage::Outages,
    reached::OnBoard,
    servers::{Postgres, Servers},
};

/// How many servers are looked after at once.
const SERVERS_MAX: usize = 16;

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
    /// How the servers are reached.
    pub servers: Arc<dyn Servers>,
    /// How clouds are opened.
    pub clouds: Arc<dyn Clouds>,
    /// Who acts: the name under which leases are held.
    pub actor: Actor,
    /// Whether leases are taken.
    pub exclusion: Exclusion,
    environment: Environment,
    destinations: BTreeMap<DestinationName, Place>,
    outages: Outages,
    board: Option<Board>,
}

/// A destination that was opened, with all that its servers share.
#[derive(Clone)]
struct Place {
    configured: Destination,
    store: Result<SharedStore, Failure>,
    turns: Arc<Semaphore>,
    throttle: Option<Throttle>,
    conditions: Arc<OnceCell<Conditions>>,
}

impl Place {
    fn new(configured: Destination, store: Result<SharedStore, Failure>) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(configured.max_parallel.get())),
            throttle: attempt::throttle(&configured),
            conditions: Arc::default(),
            configured,
            store,
        }
    }

    async fn open(configured: &Destination) -> Self {
        let opened = crate::store::open(configured).await;
        let store = opened.map_err(|error| Failure::of(error.kind(), &error));
        Self::new(configured.clone(), store)
    }
}

impl Ports {
    /// Opens the destinations. One that cannot be opened fails only those who need it.
    pub async fn open(
        desired: Desired,
        clock: Clock,
        cancel: CancellationToken,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let mut destinations = BTreeMap::new();
        for (name, configured) in &desired.destinations {
            destinations.insert(name.clone(), Place::open(configured).await);
        }
        Self {
            clock,
            cancel,
            progress,
            ..Self::new(desired, destinations)
        }
    }

    /// The same ports for another configuration. Destinations that are configured as before stay open, with their turns and limits.
    pub async fn reopened(&self, desired: Desired) -> Self {
        let mut destinations = BTreeMap::new();
        for (name, configured) in &desired.destinations {
            let same = self.destinations.get(name);
            let same = same.filter(|place| place.configured == *configured && place.store.is_ok());
            let place = match same {
                Some(place) => place.clone(),
                None => Place::open(configured).await,
            };
            destinations.insert(name.clone(), place);
        }
        Self {
            clock: self.clock,
            cancel: self.cancel.clone(),
            progress: self.progress.clone(),
            servers: self.servers.clone(),
            clouds: self.clouds.clone(),
            actor: self.actor.clone(),
            exclusion: self.exclusion,
            ..Self::new(desired, destinations)
        }
    }

    /// The same over stores that are open already, by the machine's clock, with nobody to stop it or to watch.
    pub fn with_stores(
        desired: Desired,
        stores: BTreeMap<DestinationName, Result<SharedStore, Failure>>,
    ) -> Self {
        let place = |(name, store)| {
            let configured = desired.destinations.get(&name)?.clone();
            Some((name, Place::new(configured, store)))
        };
        let destinations = stores.into_iter().filter_map(place).collect();
        Self::new(desired, destinations)
    }

    fn new(desired: Desired, destinations: BTreeMap<DestinationName, Place>) -> Self {
        Self {
            desired,
            clock: Clock::System,
            cancel: CancellationToken::new(),
            progress: Arc::new(Unwatched),
            servers: Arc::new(Postgres),
            clouds: Arc::new(AllClouds),
            actor: actor::current(),
            exclusion: Exclusion::On,
            environment: Environment::read(),
            destinations,
            outages: Outages::new(outage::Memory::None),
            board: None,
        }
    }

    /// Remembers which destinations do not answer, so that not everybody waits for them.
    #[must_use]
    pub fn sharing_outages(mut self) -> Self {
        self.outages = Outages::new(outage::Memory::Shared);
        self
    }

    /// Shows on a board how far attempts are.
    #[must_use]
    fn shown_on(self, board: &Board) -> Self {
        let board = Some(board.clone());
        Self { board, ..self }
    }

    /// Whoever wants to know how far a server's attempt is.
    pub fn progress_of(&self, server: &ServerName) -> Arc<dyn Progress> {
        match &self.board {
            Some(board) => Arc::new(OnBoard::new(board, server)),
            None => self.progress.clone(),
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
        let place = self.destinations.get(name)?;
        let data = match &place.store {
            Ok(data) => data.clone(),
            Err(failure) => return Some(Err(failure.clone())),
        };
        let Some(control) = &place.configured.control else {
            return Some(Ok(data));
        };
        match &self.destinations.get(control)?.store {
            Ok(control) => Some(Ok(Arc::new(Controlled::new(data, control.clone(), name)))),
            Err(failure) => Some(Err(failure.clone())),
        }
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
        connector.map_err(|error| Failure::of(error.kind(), &error).hinted(error.hint()))
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
        let mut archives = self.archives(server);
        for (name, archive) in &mut archives {
            if let Some(failure) = self.outages.known(name) {
                *archive = Err(failure);
            }
        }
        let asked: Vec<_> = archives
            .iter()
            .filter(|(_, archive)| archive.is_ok())
            .collect();
        let asked: Vec<_> = asked.into_iter().map(|(name, _)| name.clone()).collect();
        let postgres = match depth {
            Depth::Everything => self.servers.ask(self, server).await,
            Depth::Catalog | Depth::Backups => crate::observe::ask(server, None, self.clock).await,
        };
        let observed = observe(Surroundings {
            server,
            postgres,
            archives,
            clouds: &*self.clouds,
            clock: self.clock,
            depth,
            earlier,
        })
        .await;
        for name in asked {
            if let Some(stored) = observed.destinations.get(&name) {
                self.outages.note(&name, stored);
            }
        }
        observed
    }

    /// Observes and plans one server, without changing anything.
    pub async fn plan(&self, server: &Server) -> Activation {
        self.plan_again(server, None).await
    }

    async fn plan_again(&self, server: &Server, earlier: Option<&Observed>) -> Activation {
        let span = info_span!("plan", server = %server.name);
        // Much is held across its awaits; on the heap it costs nothing.
        let observing = Box::pin(self.observe_again(server, Depth::Everything, earlier));
        let observed = observing.instrument(span).await;
        self.decide(server, observed).await
    }

    /// Plans from what was observed, and from what has to be looked at more for that.
    async fn decide(&self, server: &Server, mut observed: Observed) -> Activation {
        let now = self.clock.now();
        for _ in 0..QUESTIONS_MAX {
            let questions = lock::questions(server, &observed, now);
            if questions.is_empty() {
                break;
            }
            self.look(server, &questions, &mut observed).await;
        }
        let unsurveyed = disks::unsurveyed(server, &observed, now);
        let looking = observe::disks::look(
            server,
            &unsurveyed,
            &mut observed,
            &*self.clouds,
            self.clock,
        );
        Box::pin(looking).await;
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

    /// Waits for a turn to run an attempt in a destination.
    async fn turn(&self, destination: &DestinationName) -> Option<OwnedSemaphorePermit> {
        let turns = self.destinations.get(destination)?.turns.clone();
        turns.acquire_owned().await.ok()
    }

    /// The tags of timeline histories in a destination.
    fn history_tags(&self, destination: &DestinationName) -> Tags {
        let destination = self.desired.destinations.get(destination);
        let own = destination.and_then(|destination| destination.provider.history_tags());
        own.map_or(Tags::Configured, |tags| Tags::Exactly(tags.clone()))
    }

    /// What limits the bandwidth to a destination.
    fn throttle(&self, destination: &DestinationName) -> Option<Throttle> {
        self.destinations.get(destination)?.throttle.clone()
    }

    /// The limits on what is written for a server.
    fn throttles(&self, server: &Server) -> BTreeMap<DestinationName, Throttle> {
        let names = server.entries.iter().map(|entry| &entry.destination);
        names
            .filter_map(|name| Some((name.clone(), self.throttle(name)?)))
            .collect()
    }

    /// Whether a destination heeds conditions: found out once.
    async fn conditions(
        &self,
        destination: &DestinationName,
        archive: &Archive,
    ) -> Result<Conditions, store::Error> {
        let Some(place) = self.destinations.get(destination) else {
            return Ok(Conditions::Ignored);
        };
        let Actor { pid, started, .. } = self.actor;
        // Of two that probe at once with one key, one could mistake the other's object for its own.
        let directory = format!("{OWN}probe/{}-{pid}-{started}/", self.actor.boot);
        let prefix = archive.prefix(&directory);
        let found = place
            .conditions
            .get_or_try_init(|| probe::conditions(&**archive.store(), &prefix))
            .await?;
        Ok(*found)
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
#[derive(Clone, Debug)]
pub struct Activation {
    /// What was seen.
    pub observed: Observed,
    /// What is to be done.
    pub plan: Plan,
}

#[cfg(test)]
mod tests;
