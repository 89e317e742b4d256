//! Whoever brings received WAL into one destination: whole files in their order, then the beginning of the segment that is being received.
//!
//! Each destination has its own, so that one that does not answer holds up none but itself; what it lacks waits on the disk.

use std::{slice, time::Duration};

use tracing::{Instrument as _, info_span, warn};

use super::{
    Error,
    desk::{Desk, Parcel},
    tail::Tail,
};
use crate::{
    clock::pause,
    execute::archive_wal::{ArchiveOptions, ArchiveTarget, archive_wal},
    failure::chain,
    model::{receiving::Trouble, wal::WalFile},
};

/// How long it sleeps when nothing rings.
const IDLE: Duration = Duration::from_mins(1);

/// Whoever brings received WAL into one destination.
pub(super) struct Courier<'a> {
    desk: &'a Desk<'a>,
    /// Its place among all.
    index: usize,
    target: &'a ArchiveTarget,
    tail: Option<Tail<'a>>,
}

impl<'a> Courier<'a> {
    pub(super) fn new(desk: &'a Desk<'a>, index: usize, target: &'a ArchiveTarget) -> Self {
        let every = desk.bench.wanted.tail_every;
        Self {
            desk,
            index,
            target,
            tail: every.map(|every| Tail::new(desk, target, every)),
        }
    }

    /// Brings what there is and what comes, until told to stop.
    pub(super) async fn run(self) {
        let span = info_span!("receive", destination = %self.target.destination);
        self.go_round().instrument(span).await;
    }

    async fn go_round(mut self) {
        let mut bell = self.desk.subscribe();
        let cancel = self.desk.bench.cancel;
        loop {
            bell.borrow_and_update();
            let round = tokio::select! {
                () = cancel.cancelled() => return,
                round = self.round() => round,
            };
            let destination = &self.target.destination;
            self.desk.went(destination, round.as_ref().map(|_| ()));
            match round {
                Ok(rest) => tokio::select! {
                    () = cancel.cancelled() => return,
                    _ = bell.changed() => {}
                    () = pause(rest) => {}
                },
                Err(error) => {
                    warn!("received WAL does not get there: {}", chain(&error));
                    let wait = self.desk.read(|state| {
                        let arrival = state.arrivals.get(destination);
                        arrival.and_then(|arrival| arrival.trouble.as_ref().map(Trouble::pause))
                    });
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = pause(wait.unwrap_or(IDLE)) => {}
                    }
                }
            }
        }
    }

    /// Brings what there is, and says how long nothing more is to be done unless something comes.
    async fn round(&mut self) -> Result<Duration, Error> {
        while let Some(parcel) = self.desk.parcel(self.index) {
            self.deliver(parcel).await?;
        }
        match &mut self.tail {
            Some(tail) => tail.go_on().await.map(|rest| rest.unwrap_or(IDLE)),
            None => Ok(IDLE),
        }
    }

    async fn deliver(&self, parcel: Parcel) -> Result<(), Error> {
        let targets = slice::from_ref(self.target);
        let options = options(self.desk);
        let archived = archive_wal(&parcel.path, targets, &options).await?;
        for warning in archived.warnings {
            warn!(file = %parcel.file, "{warning}");
        }
        if let Some(until) = parcel.until {
            self.desk.arrived(&self.target.destination, until);
        }
        if let (Some(tail), WalFile::Segment(segment) | WalFile::Partial(segment)) =
            (&self.tail, parcel.file)
        {
            tail.clear(segment).await;
        }
        self.desk.delivered(self.index, parcel.file).await
    }
}

/// How files are archived, now that it is known whose they are.
pub(super) fn options(desk: &Desk<'_>) -> ArchiveOptions {
    ArchiveOptions {
        system_id: desk.read(|state| state.system_id),
        now: desk.now(),
        ..desk.bench.options.clone()
    }
}
