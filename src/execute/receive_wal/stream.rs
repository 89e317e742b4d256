//! WAL of one timeline, from the server to the disk, and back to the server how much of it is safe.

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::{Duration, Instant, interval, timeout};

use super::{Error, blocking, desk::Desk};
use crate::{
    model::{
        receiving::{Phase, Receiving},
        timeline::Position,
        wal::{Lsn, SegmentName, SegmentSize, WalFile},
    },
    postgres::replication::{Replication, Reply, WalMessage, WalProgress, WalStream},
    spool::{self, SegmentWriter},
};

/// How often the server hears how far everything is, though nothing has changed, and is asked whether it lives.
const BEAT: Duration = Duration::from_secs(10);

/// How long a server that was asked may say nothing.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// How much is taken before it is written, in bytes.
const BATCH_MAX: usize = 1 << 20;

/// How long ending the stream in good order may take.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// The session after the end of a timeline, and where the next one begins, if the server knows it.
type Followed = (Replication, Option<Position>);

/// A stream of one timeline.
pub(super) struct Streaming<'a> {
    desk: &'a Desk<'a>,
    stream: WalStream,
    size: SegmentSize,
    /// Elsewhere while it writes.
    writer: Option<SegmentWriter>,
    heard: Instant,
    told: Option<Lsn>,
}

/// Whether the timeline goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timeline {
    GoesOn,
    HasEnded,
}

impl<'a> Streaming<'a> {
    pub(super) fn new(
        desk: &'a Desk<'a>,
        stream: WalStream,
        from: Position,
        size: SegmentSize,
    ) -> Self {
        Self {
            desk,
            stream,
            size,
            writer: Some(desk.received.writer(from, size)),
            heard: Instant::now(),
            told: None,
        }
    }

    /// Receives to the end of the timeline, and says where the next one begins; `None` if told to stop before.
    pub(super) async fn run(mut self) -> Result<Option<Followed>, Error> {
        let cancel = self.desk.bench.cancel;
        let mut bell = self.desk.subscribe();
        let mut beat = interval(BEAT);
        loop {
            let has_room = self.desk.has_room(self.size);
            self.desk.phase(if has_room {
                Phase::Streaming
            } else {
                Phase::Full
            });
            tokio::select! {
                () = cancel.cancelled() => {
                    self.stop().await;
                    return Ok(None);
                }
                message = self.stream.next(), if has_room => {
                    if self.take(message?).await? == Timeline::HasEnded {
                        return self.end().await.map(Some);
                    }
                    self.tell_what_is_new().await?;
                }
                _ = bell.changed() => self.tell_what_is_new().await?,
                _ = beat.tick() => {
                    if !has_room {
                        // It has not been listened to.
                        self.heard = Instant::now();
                    } else if self.heard.elapsed() > SILENCE_MAX {
                        return Err(Error::Silent(SILENCE_MAX));
                    }
                    self.tell(Reply::Wanted).await?;
                }
            }
        }
    }

    /// Takes a message and whatever has come with it.
    async fn take(&mut self, first: WalMessage) -> Result<Timeline, Error> {
        self.heard = Instant::now();
        let (mut batch, mut bytes_taken) = (Vec::new(), 0);
        let (mut timeline, mut wants_reply) = (Timeline::GoesOn, false);
        let mut message = first;
        loop {
            match message {
                WalMessage::Data { at, bytes } => {
                    bytes_taken += bytes.len();
                    batch.push((at, bytes));
                }
                WalMessage::Alive { end, reply } => {
                    wants_reply |= reply;
                    self.desk.change(|state| {
                        state.end = state.end.max(Some(end));
                        state.trouble = None;
                    });
                }
                WalMessage::Ended => {
                    timeline = Timeline::HasEnded;
                    break;
                }
            }
            if bytes_taken >= BATCH_MAX {
                break;
            }
            match self.stream.next().now_or_never() {
                Some(next) => message = next?,
                None => break,
            }
        }
        if !batch.is_empty() {
            self.write(batch).await?;
        }
        if wants_reply && timeline == Timeline::GoesOn {
            self.tell(Reply::Unneeded).await?;
        }
        Ok(timeline)
    }

    async fn write(&mut self, batch: Vec<(Lsn, Bytes)>) -> Result<(), Error> {
        let writer = self.writer.take().expect("one write at a time");
        let (writer, written) = blocking(move || write(writer, &batch)).await;
        let to = writer.position();
        self.writer = Some(writer);
        self.desk.grown(to, &written?, self.size);
        Ok(())
    }

    async fn tell_what_is_new(&mut self) -> Result<(), Error> {
        if self.desk.read(Receiving::confirmable) > self.told {
            self.tell(Reply::Unneeded).await?;
        }
        Ok(())
    }

    /// Tells the server how far everything is. It takes a position of zero for none.
    async fn tell(&mut self, reply: Reply) -> Result<(), Error> {
        let (received, confirmable) = self
            .desk
            .read(|state| (state.received, state.confirmable()));
        let progress = WalProgress {
            written: received.map_or(Lsn(0), |received| received.lsn),
            flushed: confirmable.unwrap_or_default(),
        };
        self.stream.report(progress, reply).await?;
        if confirmable > self.told {
            self.told = confirmable;
            self.desk.change(|state| state.confirmed = confirmable);
        }
        Ok(())
    }

    /// What there is of the last segment is all that there will ever be.
    async fn end(mut self) -> Result<Followed, Error> {
        let writer = self.writer.take().expect("nothing is being written");
        let (at, size) = (writer.position(), self.size);
        let has_partial = blocking(move || writer.end()).await?;
        self.desk.close();
        if has_partial {
            let file = WalFile::Partial(at.segment(size));
            self.desk.stored(file, size.bytes(), Some(at));
        }
        Ok(self.stream.follow().await?)
    }

    /// Ends the stream in good order, if the server hears of it at once.
    async fn stop(mut self) {
        let farewell = async {
            self.tell(Reply::Unneeded).await?;
            self.stream.stop().await?.close().await;
            Ok::<_, Error>(())
        };
        // A stream that is dropped ends as well.
        let _ended = timeout(FAREWELL, farewell).await;
    }
}

/// Blocks.
fn write(
    mut writer: SegmentWriter,
    batch: &[(Lsn, Bytes)],
) -> (SegmentWriter, Result<Vec<SegmentName>, spool::Error>) {
    let mut whole = Vec::new();
    for (at, bytes) in batch {
        match writer.append(*at, bytes) {
            Ok(segments) => whole.extend(segments),
            Err(error) => return (writer, Err(error)),
        }
    }
    let synced = writer.sync();
    (writer, synced.map(|()| whole))
}
