//! What the watch mode knows, for whoever asks: the status page, the metrics, the watchdog.
//!
//! The loop writes it, others read it; nothing is decided from it. What was read of a destination stays as it was read until it is read
//! again, with the instant at which it was, so that what is old says so.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use serde::Serialize;
use tokio::time::Instant;

use super::{Activation, once::Report};
use crate::{
    execute::{Outcome, attempt::Ended},
    model::{
        names::{DestinationName, ServerName},
        observed::Stored,
        reason::Waiting,
        receiving::Receiving,
        time::Timestamp,
    },
    plan::wake::{Failures, Wake},
};

/// What the watch mode knows; a clone is the same.
#[derive(Clone, Debug)]
pub struct Board(Arc<Mutex<State>>);

/// All of it at one instant.
#[derive(Clone, Debug)]
pub struct State {
    /// When the process began to watch.
    pub started: Timestamp,
    /// When the loop last went round, by the monotonic clock.
    pub beat: Instant,
    /// Whether a configuration has been taken up at all.
    pub is_configured: bool,
    /// The configuration.
    pub configuration: Configuration,
    /// Every server that is configured.
    pub servers: BTreeMap<ServerName, Row>,
    /// What was done since the start, by what it was and how it ended.
    pub done: BTreeMap<Tally, u64>,
    /// How often servers were looked at since the start.
    pub activations: u64,
}

/// Which configuration holds, and why not another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Configuration {
    /// When the one that holds was read.
    pub loaded_at: Timestamp,
    /// Since when what is on disk cannot be used, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Since when.
    pub since: Timestamp,
    /// The first thing that is wrong with it.
    pub why: String,
}

/// One server.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What was seen and is to be done; none before the first look.
    pub last: Option<Arc<Activation>>,
    /// What was read of each destination the last time that it could be read.
    pub read: BTreeMap<DestinationName, Arc<Stored>>,
    /// When each destination is looked at next.
    pub wakes: BTreeMap<DestinationName, Wake>,
    /// Where steps have failed lately.
    pub failures: Failures,
    /// Where attempts have.
    pub failed_attempts: Failures,
    /// The attempt that this process runs, or is about to.
    pub attempt: Option<Attempt>,
    /// Why the last one could not begin, for as long as it need not be asked for again.
    pub busy: Option<Busy>,
    /// How its WAL is received, if it is.
    pub receiving: Option<Receiving>,
}

/// A right that was not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Until when nobody asks for it again.
    pub until: Timestamp,
    /// Why not.
    pub waiting: Waiting,
}

/// An attempt that this process runs, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Where.
    pub destination: DestinationName,
    /// What, as the verb of its action.
    pub action: &'static str,
    /// Since when.
    pub since: Timestamp,
}

/// A kind of thing that was done, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tally {
    /// The server.
    pub server: ServerName,
    /// Where.
    pub destination: DestinationName,
    /// The verb of the action.
    pub action: &'static str,
    /// Whether it succeeded.
    pub result: Success,
}

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Success {
    /// Well.
    Done,
    /// It did not.
    Failed,
}

impl Board {
    /// A board on which nothing is written yet.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State {
            started: now,
            beat: Instant::now(),
            is_configured: false,
            configuration: Configuration {
                loaded_at: now,
                refused: None,
            },
            servers: BTreeMap::new(),
            done: BTreeMap::new(),
            activations: 0,
        })))
    }

    /// All that is on it now.
    pub fn read(&self) -> State {
        self.lock().clone()
    }

    /// A configuration holds from now on.
    pub(crate) fn configured<'a>(
        &self,
        servers: impl Iterator<Item = &'a ServerName>,
        now: Timestamp,
    ) {
        let mut state = self.lock();
        state.is_configured = true;
        state.configuration = Configuration {
            loaded_at: now,
            refused: None,
        };
        let mut known = std::mem::take(&mut state.servers);
        state.servers = servers
            .map(|name| (name.clone(), known.remove(name).unwrap_or_default()))
            .collect();
    }

    /// What is on disk cannot be used; what held goes on to hold.
    pub fn refused(&self, why: &str, now: Timestamp) {
        let refused = &mut self.lock().configuration.refused;
        let since = refused.as_ref().map_or(now, |refused| refused.since);
        *refused = Some(Refused {
            since,
            why: why.to_owned(),
        });
    }

    /// What is on disk is what holds.
    pub fn accepted(&self) {
        self.lock().configuration.refused = None;
    }

    /// The loop goes round.
    pub(super) fn beat(&self) {
        self.lock().beat = Instant::now();
    }

    /// What is known of one server.
    pub(super) fn row(&self, server: &ServerName) -> Row {
        self.lock().servers.get(server).cloned().unwrap_or_default()
    }

    /// Changes what is known of one server, if it is configured.
    pub(super) fn change(&self, server: &ServerName, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.lock().servers.get_mut(server) {
            change(row);
        }
    }

    /// Counts what a look at a server came to.
    pub(super) fn count(&self, report: &Report) {
        let mut state = self.lock();
        state.activations += 1;
        let server = &report.last.plan.server;
        for Outcome { step, result } in &report.outcomes {
            let verb = step.action.verb();
            state.tally(server, &step.destination, verb, Success::of(result));
        }
    }

    /// Counts an attempt, by the verb of its action.
    pub(super) fn count_attempt(&self, server: &ServerName, verb: &'static str, ended: &Ended) {
        let result = Success::of(&ended.result);
        let mut state = self.lock();
        state.tally(server, &ended.destination, verb, result);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic happens while it is locked")
    }
}

impl State {
    fn tally(
        &mut self,
        server: &ServerName,
        destination: &DestinationName,
        action: &'static str,
        result: Success,
    ) {
        let tally = Tally {
            server: server.clone(),
            destination: destination.clone(),
            action,
            result,
        };
        *self.done.entry(tally).or_default() += 1;
    }

    /// Whether every server has been looked at.
    pub fn is_ready(&self) -> bool {
        self.is_configured && self.servers.values().all(|row| row.last.is_some())
    }
}

impl Success {
    fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() {
            Self::Done
        } else {
            Self::Failed
        }
    }
}
