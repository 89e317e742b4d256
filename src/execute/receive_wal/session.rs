//! A session with the server: who it is, what its slot keeps, which timelines it comes along, and WAL until something breaks.

use tokio::time::Duration;
use tracing::{error, info, warn};

use super::{
    Error, blocking,
    desk::Desk,
    resume::Source,
    stream::{FAREWELL, Streaming},
};
use crate::{
    clock::pause,
    failure::chain,
    format::history,
    model::{
        receiving::{Phase, Trouble},
        slot::is_synchronous,
        timeline::{Position, TimelineHistory, TimelineId},
        wal::{Lsn, SegmentNumber, SegmentSize, SystemId, WalFile},
    },
    postgres::replication::{Replication, Reserve, SlotKind, WalStart},
    spool,
};

/// When reading a slot over the replication protocol came.
const VERSION_15: u32 = 150_000;

impl Desk<'_> {
    /// Receives until told to stop; after whatever goes wrong, again.
    pub(super) async fn receive(&self) {
        let cancel = self.bench.cancel;
        while !cancel.is_cancelled() {
            let session = tokio::select! {
                // A stream ends in good order by itself.
                () = async { cancel.cancelled().await; pause(FAREWELL).await } => return,
                session = self.session() => session,
            };
            let wait = match session {
                Ok(()) => Duration::ZERO,
                Err(error) => self.failed(&error),
            };
            tokio::select! {
                () = cancel.cancelled() => {}
                () = pause(wait) => {}
            }
        }
    }

    /// Takes note of a failure, and says when to try again.
    fn failed(&self, error: &Error) -> Duration {
        let now = self.now();
        let mut wait = Duration::ZERO;
        self.change(|state| {
            let trouble = Trouble::again(state.trouble.take(), error.failure(), now);
            wait = trouble.pause();
            state.phase = Phase::Connecting;
            state.trouble = Some(trouble);
        });
        match error {
            Error::Lost { .. } => error!("{}", chain(error)),
            _ => warn!("no WAL is received: {}", chain(error)),
        }
        wait
    }

    async fn session(&self) -> Result<(), Error> {
        if self.read(|state| state.system_id.is_none()) {
            self.take_stock().await?;
        }
        let mut session = self.bench.connector.replicate().await?;
        let identity = session.identify().await?;
        self.claim(identity.system_id).await?;
        self.check_synchronous(&mut session).await?;
        let size = session.segment_size().await?;
        let history = self.history(&mut session, identity.timeline).await?;
        let kept = self.slot(&mut session, &history, size).await?;
        let source = Source {
            identity,
            size,
            history,
            kept,
        };
        self.change(|state| {
            state.endpoint = Some(session.endpoint().to_owned());
            state.end = Some(identity.position);
            state.history = Some(source.history.clone());
        });
        let at = self.begin_at(&source).await?;
        let streamed = self.timelines(session, at, &source).await;
        match streamed {
            Err(Error::Server(error)) if error.is_removed() => Err(self.skip(&source)),
            streamed => streamed,
        }
    }

    /// Follows the server from timeline to timeline.
    async fn timelines(
        &self,
        mut session: Replication,
        mut at: Position,
        source: &Source,
    ) -> Result<(), Error> {
        let slot = &self.bench.wanted.slot;
        loop {
            self.end_others(at, source.size).await?;
            info!(endpoint = session.endpoint(), "receives WAL from {at} on");
            let next = match session.stream_wal(Some(slot), at).await? {
                WalStart::Ended(rest, next) => {
                    session = rest;
                    next
                }
                WalStart::Streaming(stream) => {
                    self.change(|state| state.phase = Phase::Streaming);
                    let streaming = Streaming::new(self, stream, at, source.size);
                    let Some((rest, next)) = streaming.run().await? else {
                        return Ok(());
                    };
                    session = rest;
                    next
                }
            };
            let next = next.ok_or(Error::NoNext(at.timeline))?;
            let history = self.history(&mut session, next.timeline).await?;
            self.change(|state| state.history = Some(history));
            at = next.segment_start(source.size);
        }
    }

    /// Makes sure that what lies on the disk and what comes is of one cluster.
    async fn claim(&self, system_id: SystemId) -> Result<(), Error> {
        let received = self.received.clone();
        blocking(move || received.set_system_id(system_id)).await?;
        self.change(|state| state.system_id = Some(system_id));
        Ok(())
    }

    /// Refuses to be waited for by commits where only a destination makes anything safe.
    async fn check_synchronous(&self, session: &mut Replication) -> Result<(), Error> {
        if self.is_durable() {
            return Ok(());
        }
        let names = session.synchronous_standbys().await?;
        let own = &self.bench.connector.target().application_name;
        if is_synchronous(&names, own) {
            return Err(Error::Synchronous(own.clone()));
        }
        Ok(())
    }

    /// Where a timeline comes from; its history file is stored like all other WAL.
    async fn history(
        &self,
        session: &mut Replication,
        timeline: TimelineId,
    ) -> Result<TimelineHistory, Error> {
        let Some(text) = session.timeline_history(timeline).await? else {
            return Ok(TimelineHistory::root(timeline));
        };
        let parsed = history::parse(timeline, text.as_bytes());
        let parsed = parsed.map_err(|source| Error::History { timeline, source })?;
        let known = self.read(|state| {
            let known = state.history.as_ref();
            known.is_some_and(|known| known.timeline == timeline)
        });
        if !known {
            let (received, file) = (self.received.clone(), WalFile::History(timeline));
            let bytes = text.len() as u64;
            blocking(move || received.put(file, text.as_bytes())).await?;
            self.stored(file, bytes, None);
        }
        Ok(parsed)
    }

    /// Makes sure that there is a slot, and says from where on it keeps WAL.
    async fn slot(
        &self,
        session: &mut Replication,
        history: &TimelineHistory,
        size: SegmentSize,
    ) -> Result<Option<Position>, Error> {
        let name = &self.bench.wanted.slot;
        let found = if session.version() >= VERSION_15 {
            session.read_slot(name).await?.map(|slot| slot.restart)
        } else {
            self.slot_by_sql(name, history, size).await?
        };
        if let Some(kept) = found {
            return Ok(kept);
        }
        match session
            .create_slot(name, SlotKind::Permanent, Reserve::Now)
            .await
        {
            Ok(()) => info!("made the replication slot `{name}`"),
            Err(error) if error.is_duplicate() => {}
            Err(error) => return Err(error.into()),
        }
        if session.version() >= VERSION_15 {
            let slot = session.read_slot(name).await?;
            return Ok(slot.and_then(|slot| slot.restart));
        }
        Ok(self.slot_by_sql(name, history, size).await?.flatten())
    }

    /// Before PostgreSQL 15 only SQL tells, and not on which timeline.
    async fn slot_by_sql(
        &self,
        name: &str,
        history: &TimelineHistory,
        size: SegmentSize,
    ) -> Result<Option<Option<Position>>, Error> {
        let session = self.bench.connector.connect().await?;
        let facts = session.slot(name).await;
        session.close().await;
        let on = |lsn: Lsn| Position {
            timeline: history.timeline_of(SegmentNumber(lsn.0 / size.bytes()), size),
            lsn,
        };
        Ok(facts?.map(|facts| facts.restart.map(on)))
    }

    /// The server has removed what was to come next: goes on with what it keeps for certain.
    fn skip(&self, source: &Source) -> Error {
        let to = source.certain();
        let from = self.read(|state| state.received).unwrap_or(to);
        self.close();
        self.change(|state| state.received = Some(to));
        Error::Lost { from, to }
    }

    /// What was begun elsewhere ends: another timeline, or WAL after which some is missing.
    async fn end_others(&self, at: Position, size: SegmentSize) -> Result<(), Error> {
        let received = self.received.clone();
        let current = at.segment(size);
        let ended = blocking(move || {
            let others = received.unfinished()?.into_iter();
            let others: Vec<_> = others.filter(|segment| *segment != current).collect();
            for segment in &others {
                received.end(*segment, size)?;
            }
            Ok::<_, spool::Error>(others)
        });
        for segment in ended.await? {
            self.stored(WalFile::Partial(segment), size.bytes(), None);
        }
        Ok(())
    }
}
