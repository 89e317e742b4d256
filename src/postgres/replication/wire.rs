//! Messages over a connection, one after the other.
//!
//! A [`Wire`] frames what PostgreSQL's protocol 3.0 sends and leaves the parsing of each message to `postgres-protocol`, except for
//! the one that only replication has, [`Incoming::CopyBoth`]. Reading may be given up at any await and taken up again: nothing is lost.
//! Memory: the message being read, which for a base backup or WAL is at most a few hundred KiB.

use std::io;

use bytes::{Buf as _, BytesMut};
use postgres_protocol::message::backend::{Header, Message};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The tag of the message that turns a connection into one that both sides copy to.
const COPY_BOTH: u8 = b'W';

/// No message of a server is as long as this; whatever says so is not PostgreSQL.
const MESSAGE_MAX: usize = 1 << 30;

/// How much is asked of the socket at once.
const READ_AHEAD: usize = 256 << 10;

/// What bytes travel over: a socket, encrypted or not.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A message of the server.
pub(super) enum Incoming {
    /// One that every session may see.
    Message(Message),
    /// From here on both sides copy.
    CopyBoth,
}

/// A connection.
pub(super) struct Wire {
    transport: Box<dyn Transport>,
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl Wire {
    pub(super) fn new(transport: Box<dyn Transport>) -> Self {
        Self {
            transport,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
        }
    }

    /// The next message.
    pub(super) async fn receive(&mut self) -> io::Result<Incoming> {
        loop {
            if let Some(message) = self.parse()? {
                return Ok(message);
            }
            self.incoming.reserve(READ_AHEAD);
            if self.transport.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn parse(&mut self) -> io::Result<Option<Incoming>> {
        let Some(header) = Header::parse(&self.incoming)? else {
            return Ok(None);
        };
        let length = usize::try_from(header.len()).unwrap_or(usize::MAX);
        if length > MESSAGE_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if header.tag() == COPY_BOTH {
            let whole = self.incoming.len() > length;
            return Ok(whole.then(|| {
                self.incoming.advance(length + 1);
                Incoming::CopyBoth
            }));
        }
        Ok(Message::parse(&mut self.incoming)?.map(Incoming::Message))
    }

    /// Sends what `write` puts together.
    pub(super) async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> io::Result<()> {
        self.outgoing.clear();
        write(&mut self.outgoing)?;
        self.transport.write_all(&self.outgoing).await?;
        self.transport.flush().await
    }

    /// Ends the connection from this side.
    pub(super) async fn shut_down(&mut self) {
        // Whether the other side hears of it changes nothing.
        let _heard = self.transport.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// Sends bytes in pieces of a size and says what was understood.
    async fn understood(bytes: &'static [u8], piece: usize) -> Vec<String> {
        let (mut server, client) = duplex(8);
        let mut wire = Wire::new(Box::new(client));
        let sending = async move {
            for piece in bytes.chunks(piece) {
                server.write_all(piece).await.expect("a reader");
            }
        };
        let reading = async {
            let mut seen = Vec::new();
            loop {
                match wire.receive().await {
                    Ok(message) => seen.push(words(message)),
                    Err(error) => {
                        seen.push(error.kind().to_string());
                        return seen;
                    }
                }
            }
        };
        futures_util::join!(sending, reading).1
    }

    fn words(message: Incoming) -> String {
        match message {
            Incoming::CopyBoth => "both".to_owned(),
            Incoming::Message(Message::CopyData(body)) => {
                String::from_utf8_lossy(body.data()).into_owned()
            }
            Incoming::Message(Message::CopyDone) => "done".to_owned(),
            Incoming::Message(_) => "another".to_owned(),
        }
    }

    #[tokio::test]
    async fn messages_are_told_apart_however_they_arrive() {
        let bytes = b"W\0\0\0\x07\0\0\0d\0\0\0\x06abc\0\0\0\x04";
        for piece in 1..bytes.len() {
            let seen = understood(bytes, piece).await;
            assert_eq!(seen, ["both", "ab", "done", "unexpected end of file"]);
        }
        let cut = understood(b"d\0\0\0\x08ab", 3).await;
        assert_eq!(cut, ["unexpected end of file"], "a part is no message");
    }
}
