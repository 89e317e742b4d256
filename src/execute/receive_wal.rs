//! Receiving WAL, as the server writes it: over the replication protocol, through a slot, into every destination.
//!
//! One [`receive`] looks after one server for as long as it is wanted. What comes is written to files, one segment after another; a whole
//! segment goes to each destination through [`archive_wal`](super::archive_wal), under the same rules as if PostgreSQL had handed it over.
//! With a hot tail, the beginning of the segment that is being written is stored, too, every so often.
//!
//! The server hears that a position is safe only when it is (see [`Receiving::confirmable`]): where there is a spool, when it is synced there,
//! else when every destination has it. Until then its slot keeps the WAL. When too much waits on the local disk, no more is received;
//! nothing is ever dropped. Timelines are followed, and what ends with one is stored once, as its `.partial`. Whatever fails is tried
//! again, for ever.
//!
//! Nothing is detached: all of it runs in the one future, and ends with it. Memory: a MiB of what comes, and per destination one segment
//! as [`archive_wal`](super::archive_wal) holds it, or one piece of the tail.

use futures_util::future::join_all;
use tokio::task;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{Clock, pause},
    model::{
        desired::Receive,
        receiving::{Arrival, Receiving, Trouble, Waiting},
    },
    postgres::Connector,
    spool::{Kept, Received, Spool},
};

mod courier;
mod desk;
mod error;
mod resume;
mod session;
mod stream;
mod tail;

pub use error::Error;

use self::{courier::Courier, desk::Desk};
use super::archive_wal::{ArchiveOptions, ArchiveTarget};

/// How many segments may wait for a destination where there is no spool.
const WAITING_SEGMENTS: u64 = 4;

/// What a receiver works with.
pub struct ReceiveBench<'a> {
    /// The server's name in the catalog.
    pub server: &'a str,
    /// How it is reached.
    pub connector: Connector,
    /// What is wanted.
    pub wanted: &'a Receive,
    /// Where WAL goes: each of them gets all of it.
    pub targets: Vec<ArchiveTarget>,
    /// How it is archived.
    pub options: ArchiveOptions,
    /// Where WAL lies meanwhile, if there is no spool that lasts.
    pub scratch: Spool,
    /// The present.
    pub clock: Clock,
    /// Ends it.
    pub cancel: &'a CancellationToken,
    /// Who is told how it goes.
    pub tell: &'a dyn Fn(&Receiving),
}

/// Receives WAL until it is told to stop.
pub async fn receive(bench: &ReceiveBench<'_>) {
    let Some(received) = open(bench).await else {
        return;
    };
    let desk = Desk::new(bench, received);
    let couriers = bench.targets.iter().enumerate();
    let couriers = couriers.map(|(index, target)| Courier::new(&desk, index, target).run());
    // What waits on the disk leaves also while the server is away.
    tokio::join!(desk.receive(), join_all(couriers));
}

/// Takes hold of the place where WAL lies meanwhile; `None` if told to stop before.
async fn open(bench: &ReceiveBench<'_>) -> Option<Received> {
    let mut state = initial(bench);
    loop {
        (bench.tell)(&state);
        let (spool, kept) = place(bench);
        let server = bench.server.to_owned();
        let error = match blocking(move || spool.received(&server, kept)).await {
            Ok(received) => return Some(received),
            Err(error) => Error::from(error),
        };
        let failure = error.failure();
        tracing::warn!("WAL is not received: {failure}");
        let trouble = Trouble::again(state.trouble.take(), failure, bench.clock.now());
        let wait = pause(trouble.pause());
        state.trouble = Some(trouble);
        tokio::select! {
            () = bench.cancel.cancelled() => return None,
            () = wait => {}
        }
    }
}

fn place(bench: &ReceiveBench<'_>) -> (Spool, Kept) {
    match &bench.wanted.spool {
        Some(spool) => (Spool::new(spool), Kept::Durably),
        None => (bench.scratch.clone(), Kept::ForNow),
    }
}

fn initial(bench: &ReceiveBench<'_>) -> Receiving {
    let waiting = Waiting {
        bytes: 0,
        bytes_max: bench.wanted.spool_bytes_max,
        durable: bench.wanted.spool.is_some(),
    };
    let arrivals = bench.targets.iter();
    Receiving {
        arrivals: arrivals
            .map(|target| (target.destination.clone(), Arrival::default()))
            .collect(),
        ..Receiving::new(&bench.wanted.slot, waiting)
    }
}

/// Runs what blocks in a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
