//! From the task that receives to the thread that unpacks: the server's pieces, as one readable stream per archive.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use crate::postgres::replication::Piece;

/// How many pieces wait between the two: two MiB, as the server sends 32 KiB at a time.
const WAITING: usize = 64;

/// The thread's end; as a [`Read`], the bytes of what [`Pieces::begin`] answered last.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Option<Piece>>,
    chunk: Bytes,
    /// What comes after the bytes of what is being read, once that is known.
    following: Option<Following>,
}

enum Following {
    Piece(Piece),
    /// That was all.
    End,
}

/// Makes the two ends. `None` ends everything; an end without it was broken off.
pub(super) fn pieces() -> (mpsc::Sender<Option<Piece>>, Pieces) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let pieces = Pieces {
        receiver,
        chunk: Bytes::new(),
        following: None,
    };
    (sender, pieces)
}

impl Pieces {
    /// What begins now; `None` when all has come. Bytes of what came before must have been read.
    pub(super) fn begin(&mut self) -> io::Result<Option<Piece>> {
        while self.following.is_none() {
            self.fill()?;
            if self.chunk.has_remaining() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "bytes that belong to nothing",
                ));
            }
        }
        match self.following.take() {
            Some(Following::Piece(piece)) => Ok(Some(piece)),
            Some(Following::End) | None => Ok(None),
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        match self.receiver.blocking_recv() {
            Some(Some(Piece::Data(bytes))) => self.chunk = bytes,
            Some(Some(piece)) => self.following = Some(Following::Piece(piece)),
            Some(None) => self.following = Some(Following::End),
            None => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
        Ok(())
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && self.following.is_none() {
            self.fill()?;
        }
        let length = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::replication::Location;

    fn text(pieces: &mut Pieces) -> io::Result<String> {
        let mut text = String::new();
        pieces.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn what_was_broken_off_is_no_end() {
        let (sender, mut pieces) = pieces();
        let data = |text: &'static str| Some(Piece::Data(Bytes::from(text)));
        let archive = Some(Piece::Archive(Location::Data));
        let all = [
            archive.clone(),
            data("a"),
            data(""),
            data("bc"),
            Some(Piece::Manifest),
        ];
        for piece in all.into_iter().chain([data("m"), None]) {
            sender.try_send(piece).expect("room");
        }
        drop(sender);
        assert_eq!(pieces.begin().expect("the first"), archive);
        assert_eq!(text(&mut pieces).expect("a text"), "abc");
        assert_eq!(pieces.begin().expect("the next"), Some(Piece::Manifest));
        assert_eq!(text(&mut pieces).expect("a text"), "m");
        assert_eq!(pieces.begin().expect("the end"), None);

        let (sender, mut pieces) = super::pieces();
        sender.try_send(Some(Piece::Manifest)).expect("room");
        sender.try_send(data("m")).expect("room");
        drop(sender);
        assert_eq!(pieces.begin().expect("the first"), Some(Piece::Manifest));
        assert!(text(&mut pieces).is_err());
    }
}
