//! The servers themselves, as the loop needs them: asked what they are, and read by an attempt.
//!
//! PostgreSQL over a connection is one such; a simulation has others.

use async_trait::async_trait;
use tracing::{Instrument as _, info_span};

use super::Ports;
use crate::{
    execute::{
        attempt::{self, Ended},
        base_backup,
        verify::Verifier,
    },
    failure::Failure,
    model::{
        action::Action,
        desired::Server,
        names::DestinationName,
        observed::{Knowledge, Locality, Observed, ServerFacts},
    },
    observe,
    plan::Step,
    postgres::{Error, HeldLock, LockKey},
};

/// How servers are reached.
#[async_trait(?Send)]
pub trait Servers: Send + Sync {
    /// What a server is, and whether its files are on this host.
    async fn ask(&self, ports: &Ports, server: &Server) -> (Knowledge<ServerFacts>, Locality);

    /// Runs an attempt to its end.
    async fn attempt(
        &self,
        ports: &Ports,
        server: &Server,
        step: &Step,
        observed: &Observed,
    ) -> Ended;

    /// Takes a lock on the primary of a server; `None` if somebody else holds it, or if there is no connection to a primary.
    async fn lock(
        &self,
        ports: &Ports,
        server: &Server,
        key: LockKey,
    ) -> Result<Option<HeldLock>, Error>;
}

/// PostgreSQL, as the configuration says it is reached.
#[derive(Clone, Copy, Debug)]
pub struct Postgres;

#[async_trait(?Send)]
impl Servers for Postgres {
    async fn ask(&self, ports: &Ports, server: &Server) -> (Knowledge<ServerFacts>, Locality) {
        observe::ask(server, ports.connector(server), ports.clock).await
    }

    async fn attempt(
        &self,
        ports: &Ports,
        server: &Server,
        step: &Step,
        observed: &Observed,
    ) -> Ended {
        if let Action::CopyBackup { from, .. } = &step.action {
            return copy(ports, server, step, from).await;
        }
        if let Action::VerifyBackup { .. } = &step.action {
            return verify(ports, server, step, observed).await;
        }
        match reached(ports, server) {
            Some(Ok(postgres)) => take(ports, server, step, observed, Box::new(postgres)).await,
            Some(Err(failure)) => Ended::failed(step, failure),
            None => Ended::not_open(step),
        }
    }

    async fn lock(
        &self,
        ports: &Ports,
        server: &Server,
        key: LockKey,
    ) -> Result<Option<HeldLock>, Error> {
        let Some(Ok(connector)) = ports.primary(server).or_else(|| ports.connector(server)) else {
            return Ok(None);
        };
        HeldLock::take(connector.connect().await?, key).await
    }
}

/// How an attempt reaches a server, and its primary if it is a standby.
fn reached(ports: &Ports, server: &Server) -> Option<Result<base_backup::Server, Failure>> {
    let connector = ports.connector(server)?;
    let primary = ports.primary(server).transpose();
    let reached = connector.and_then(|connector| Ok((connector, primary?)));
    Some(reached.map(|(connector, primary)| base_backup::Server::new(connector, primary)))
}

/// Takes a backup of a server that is reached like this.
pub async fn take(
    ports: &Ports,
    server: &Server,
    step: &Step,
    observed: &Observed,
    postgres: Box<dyn base_backup::Postgres>,
) -> Ended {
    let archive = match ports.archives(server).remove(&step.destination) {
        Some(Ok(archive)) => archive,
        Some(Err(failure)) => return Ended::failed(step, failure),
        None => return Ended::not_open(step),
    };
    let bench = attempt::Bench {
        server,
        archive: &archive,
        postgres,
        clouds: &*ports.clouds,
        throttle: ports.throttle(&step.destination),
        actor: ports.actor.clone(),
        observed,
        clock: ports.clock,
        cancel: &ports.cancel,
        progress: ports.progress_of(&server.name),
    };
    let span = info_span!("attempt", destination = %step.destination);
    // Much is held across its awaits; on the heap it costs nothing.
    Box::pin(attempt::run(step, bench)).instrument(span).await
}

/// Reads a backup back.
pub async fn verify(ports: &Ports, server: &Server, step: &Step, observed: &Observed) -> Ended {
    let archive = match ports.archives(server).remove(&step.destination) {
        Some(Ok(archive)) => archive,
        Some(Err(failure)) => return Ended::failed(step, failure),
        None => return Ended::not_open(step),
    };
    let stored = observed.destinations.get(&step.destination);
    let catalog = stored.and_then(|stored| stored.catalog.known());
    let (Some(catalog), Some(entry)) = (catalog, server.entry(&step.destination)) else {
        return Ended::not_open(step);
    };
    let verifier = Verifier {
        archive: &archive,
        catalog,
        zone: &entry.zone,
        clock: ports.clock,
        progress: ports.progress_of(&server.name),
        cancel: &ports.cancel,
    };
    let span = info_span!("verify", destination = %step.destination);
    Box::pin(attempt::verify(step, verifier))
        .instrument(span)
        .await
}

/// Runs a copy to its end.
pub async fn copy(ports: &Ports, server: &Server, step: &Step, from: &DestinationName) -> Ended {
    let mut archives = ports.archives(server);
    let (source, target) = match (archives.remove(from), archives.remove(&step.destination)) {
        (Some(Ok(source)), Some(Ok(target))) => (source, target),
        (Some(Err(failure)), _) | (_, Some(Err(failure))) => return Ended::failed(step, failure),
        _ => return Ended::not_open(step),
    };
    let bench = attempt::CopyBench {
        server,
        source: &source,
        target: &target,
        throttle: ports.throttle(&step.destination),
        cancel: &ports.cancel,
    };
    let span = info_span!("copy", destination = %step.destination);
    Box::pin(attempt::copy(step, bench)).instrument(span).await
}
