//! The receivers of the watch mode: one for each server whose WAL is received as it is written.
//!
//! They go on for as long as the configuration holds, and belong to the loop that waits for them. Another configuration ends all of them;
//! those that are still wanted begin anew, where they were. One that panics is one server's, and begins again after a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    rc::Rc,
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span, warn};

use super::{Ports, board::Board};
use crate::{
    clock::pause,
    execute::{
        archive_wal::{ArchiveOptions, ArchiveTarget, Backlog, Requirement},
        receive_wal::{ReceiveBench, receive},
    },
    failure::{Failure, Kind, chain},
    model::{
        compression::{Codec, Level},
        desired::{Mode, Receive, Server, ServerState, WalOptions},
        names::ServerName,
        receiving::{Receiving, Trouble, Waiting},
    },
    spool::Spool,
};

/// How soon a receiver begins again after a panic, or after something that only another configuration mends.
const LATER: Duration = Duration::from_mins(1);

/// The receivers that run.
pub(super) struct Receivers<'a> {
    board: &'a Board,
    running: FuturesUnordered<LocalBoxFuture<'a, ServerName>>,
    stops: BTreeMap<ServerName, CancellationToken>,
    wanted: BTreeSet<ServerName>,
}

impl<'a> Receivers<'a> {
    pub(super) fn new(board: &'a Board) -> Self {
        Self {
            board,
            running: FuturesUnordered::new(),
            stops: BTreeMap::new(),
            wanted: BTreeSet::new(),
        }
    }

    /// Another configuration holds: all that run end, and begin anew if they are wanted.
    pub(super) fn configure<'b>(
        &mut self,
        ports: &Rc<Ports>,
        servers: impl Iterator<Item = &'b ServerName>,
    ) {
        let is_wanted = |name: &&ServerName| {
            let server = ports.desired.servers.get(*name);
            server.is_some_and(is_received)
        };
        self.wanted = servers.filter(is_wanted).cloned().collect();
        for stop in self.stops.values() {
            stop.cancel();
        }
        for name in self.wanted.clone() {
            if !self.stops.contains_key(&name) {
                self.start(ports, name);
            }
        }
    }

    /// The next one that ends; it must be told of by [`ended`](Self::ended).
    pub(super) async fn next(&mut self) -> Option<ServerName> {
        self.running.next().await
    }

    /// One has ended: it begins anew if it is wanted.
    pub(super) fn ended(&mut self, ports: &Rc<Ports>, server: ServerName) {
        self.stops.remove(&server);
        self.board.change(&server, |row| row.receiving = None);
        if self.wanted.contains(&server) && !ports.cancel.is_cancelled() {
            self.start(ports, server);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    fn start(&mut self, ports: &Rc<Ports>, name: ServerName) {
        let stop = ports.cancel.child_token();
        self.stops.insert(name.clone(), stop.clone());
        let (ports, board) = (ports.clone(), self.board);
        let span = info_span!("receive", server = %name);
        let receiving = async move {
            let running = run(&ports, &name, board, &stop);
            if AssertUnwindSafe(running).catch_unwind().await.is_err() {
                until(&stop, LATER).await;
            }
            name
        };
        self.running.push(receiving.instrument(span).boxed_local());
    }
}

fn is_received(server: &Server) -> bool {
    let lives = server.state == ServerState::Active && server.mode != Mode::Observe;
    lives && server.receive.is_some()
}

/// Waits, but not longer than until told to stop.
async fn until(stop: &CancellationToken, span: Duration) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = pause(span) => {}
    }
}

/// Runs a receiver until it is told to stop.
async fn run(ports: &Ports, name: &ServerName, board: &Board, stop: &CancellationToken) {
    let tell = |state: &Receiving| {
        board.change(name, |row| row.receiving = Some(state.clone()));
    };
    let Some(server) = ports.desired.servers.get(name) else {
        return;
    };
    let Some(wanted) = &server.receive else {
        return;
    };
    match bench(ports, server, wanted, (&tell, stop)) {
        Ok(bench) => receive(&bench).await,
        Err(failure) => {
            warn!("no WAL is received: {failure}");
            let waiting = Waiting {
                bytes: 0,
                bytes_max: wanted.spool_bytes_max,
                durable: wanted.spool.is_some(),
            };
            tell(&Receiving {
                trouble: Some(Trouble::again(None, failure, ports.clock.now())),
                ..Receiving::new(&wanted.slot, waiting)
            });
            until(stop, LATER).await;
        }
    }
}

fn bench<'b>(
    ports: &Ports,
    server: &'b Server,
    wanted: &'b Receive,
    (tell, stop): (&'b dyn Fn(&Receiving), &'b CancellationToken),
) -> Result<ReceiveBench<'b>, Failure> {
    let missing = || Failure::new(Kind::Usage, "there is nothing to receive from, or into");
    let wal = wal_options(server).ok_or_else(missing)?;
    let codec = Codec::for_wal(wal.compression, wal.level.map(Level::Exact));
    let codec = codec.map_err(|error| Failure::new(Kind::Usage, chain(&error)))?;
    let scratch = Spool::new(&wal.spool);
    let options = ArchiveOptions {
        backlog: Backlog::NONE,
        spool: Some(scratch.clone()),
        ..ArchiveOptions::new(codec, ports.clock.now())
    };
    Ok(ReceiveBench {
        server: server.name.as_str(),
        connector: ports.connector(server).ok_or_else(missing)??,
        wanted,
        targets: ports.archive_targets(server)?,
        options,
        scratch,
        clock: ports.clock,
        cancel: stop,
        tell,
    })
}

/// The settings of the WAL that is read from the server itself.
fn wal_options(server: &Server) -> Option<&WalOptions> {
    let mut entries = server.entries.iter();
    let read = entries.find(|entry| entry.copy_of.is_none())?;
    Some(&read.wal)
}

impl Ports {
    /// Every destination of a server that archiving waits for.
    pub fn archive_targets(&self, server: &Server) -> Result<Vec<ArchiveTarget>, Failure> {
        let archives = self.archives(server).into_iter();
        let waited = archives.filter(|(name, _)| server.archives_to(name));
        waited
            .map(|(destination, archive)| {
                Ok(ArchiveTarget {
                    history_tags: self.history_tags(&destination),
                    archive: archive?,
                    destination,
                    requirement: Requirement::Required,
                })
            })
            .collect()
    }
}
