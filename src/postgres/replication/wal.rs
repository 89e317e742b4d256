//! `START_REPLICATION`: WAL as it is written.
//!
//! A [`WalStream`] yields the bytes of one timeline in order, from a position on, and the server's signs of life between them. The server
//! learns from [`WalStream::report`] how far they are safe; it keeps what a slot was not told of. When the timeline ends, it says where the
//! next one begins.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use postgres_protocol::message::{
    backend::Message,
    frontend::{self, CopyData},
};

use super::{
    Position, Replication, Row, column, identifier, timeline::timeline, unexpected, wire::Incoming,
    within,
};
use crate::{model::wal::Lsn, postgres::Error};

const DOING: &str = "stream WAL";

/// What comes over a stream of WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalMessage {
    /// Bytes of WAL.
    Data {
        /// Where they begin.
        at: Lsn,
        /// They.
        bytes: Bytes,
    },
    /// A sign of life.
    Alive {
        /// The end of the server's WAL.
        end: Lsn,
        /// Whether it wants to hear at once how far everything is.
        reply: bool,
    },
    /// The timeline has ended, and with it this stream: [`WalStream::follow`] tells where the next one begins.
    Ended,
}

/// What a request for WAL comes to.
#[derive(Debug)]
pub enum WalStart {
    /// WAL comes.
    Streaming(WalStream),
    /// The timeline ends exactly there, so nothing comes: the next one begins here, if the server knows it.
    Ended(Replication, Option<Position>),
}

/// Whether the server is to give a sign of life at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is.
    Wanted,
    /// When it has something to say.
    Unneeded,
}

/// How far what was received is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalProgress {
    /// Received.
    pub written: Lsn,
    /// Durable: the server may forget what lies before.
    pub flushed: Lsn,
}

/// A stream of WAL.
#[derive(Debug)]
pub struct WalStream {
    session: Replication,
}

impl Replication {
    /// Begins to stream WAL from a position on, through a slot if one is named.
    pub async fn stream_wal(
        mut self,
        slot: Option<&str>,
        from: Position,
    ) -> Result<WalStart, Error> {
        let slot = slot.map(|name| format!("SLOT {} ", identifier(name)));
        let command = format!(
            "START_REPLICATION {}PHYSICAL {} TIMELINE {}",
            slot.unwrap_or_default(),
            from.lsn,
            from.timeline.number()
        );
        let limit = self.deadlines.answer;
        let begin = async {
            self.command(DOING, &command).await?;
            match self.incoming(DOING).await? {
                Incoming::CopyBoth => Ok(None),
                Incoming::Message(Message::RowDescription(_)) => {
                    self.next_timeline().await.map(Some)
                }
                Incoming::Message(other) => Err(unexpected(DOING, &other)),
            }
        };
        Ok(match within(limit, DOING, begin).await? {
            None => WalStart::Streaming(WalStream { session: self }),
            Some(next) => WalStart::Ended(self, next),
        })
    }

    /// Reads the one row that tells where the next timeline begins.
    async fn next_timeline(&mut self) -> Result<Option<Position>, Error> {
        let rows = self.rows(DOING).await?;
        self.until_ready(DOING).await?;
        rows.first().map(next_timeline).transpose()
    }
}

impl WalStream {
    /// The next message. Waits as long as the server has nothing to say; it may be given up and asked again.
    pub async fn next(&mut self) -> Result<WalMessage, Error> {
        match self.session.message(DOING).await? {
            Message::CopyData(body) => understand(body.into_bytes()),
            Message::CopyDone => Ok(WalMessage::Ended),
            other => Err(unexpected(DOING, &other)),
        }
    }

    /// Tells the server how far what was received is safe.
    pub async fn report(&mut self, progress: WalProgress, reply: Reply) -> Result<(), Error> {
        let mut status = BytesMut::with_capacity(34);
        status.put_u8(b'r');
        status.put_u64(progress.written.0);
        status.put_u64(progress.flushed.0);
        // Nothing is applied here, and the clock is not of interest.
        status.put_u64(0);
        status.put_i64(0);
        status.put_u8(u8::from(reply == Reply::Wanted));
        let sent = self.session.wire.send(|buffer| {
            CopyData::new(status.freeze())?.write(buffer);
            Ok(())
        });
        sent.await
            .map_err(|error| self.session.broken(DOING, error))
    }

    /// Ends the stream from this side; the session can be used again.
    pub async fn stop(mut self) -> Result<Replication, Error> {
        let limit = self.session.deadlines.answer;
        let end = async {
            self.done().await?;
            loop {
                match self.session.message(DOING).await? {
                    Message::CopyData(_) | Message::CopyDone | Message::CommandComplete(_) => {}
                    Message::ReadyForQuery(_) => return Ok(()),
                    other => return Err(unexpected(DOING, &other)),
                }
            }
        };
        within(limit, DOING, end).await?;
        Ok(self.session)
    }

    /// Where the next timeline begins, after [`WalMessage::Ended`], if the server knows it; the session can be used again.
    pub async fn follow(mut self) -> Result<(Replication, Option<Position>), Error> {
        let limit = self.session.deadlines.answer;
        let end = async {
            self.done().await?;
            self.session.next_timeline().await
        };
        let next = within(limit, DOING, end).await?;
        Ok((self.session, next))
    }

    async fn done(&mut self) -> Result<(), Error> {
        let done = self.session.wire.send(|buffer| {
            frontend::copy_done(buffer);
            Ok(())
        });
        done.await
            .map_err(|error| self.session.broken(DOING, error))
    }
}

fn next_timeline(row: &Row) -> Result<Position, Error> {
    Ok(Position {
        timeline: column(DOING, row, 0, timeline)?,
        lsn: column(DOING, row, 1, |text| text.parse().ok())?,
    })
}

/// `w`: start, end, clock, bytes. `k`: end, clock, whether to reply.
fn understand(mut message: Bytes) -> Result<WalMessage, Error> {
    let malformed = || Error::Answer {
        doing: DOING,
        answer: "a malformed message".to_owned(),
    };
    let kind = message.try_get_u8().map_err(|_| malformed())?;
    match (kind, message.len()) {
        (b'w', 24..) => {
            let at = Lsn(message.get_u64());
            message.advance(16);
            Ok(WalMessage::Data { at, bytes: message })
        }
        (b'k', 17) => {
            let end = Lsn(message.get_u64());
            message.advance(8);
            let reply = message.get_u8() != 0;
            Ok(WalMessage::Alive { end, reply })
        }
        _ => Err(malformed()),
    }
}
