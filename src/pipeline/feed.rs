//! A stream that arrives asynchronously, read by code that blocks.
//!
//! Decoders and files are synchronous, downloads are not. [`feed`] runs the reader in a thread that may block and hands it the
//! chunks as they arrive, a few at a time: a slow reader holds the download back, and a slow download makes the reader wait. A
//! stream that fails looks to the reader like an error, never like an end, so that what was cut off is not taken for whole.

use std::io::{self, BufRead, Read};

use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use tokio::{sync::mpsc, task};

/// How many chunks wait between the two: enough that neither side waits for the other's every step.
const CHUNKS: usize = 2;

/// Runs `work` on what the stream yields and returns what it returns.
///
/// The stream's error comes first: what `work` made of a stream that failed is worth nothing. `work` may stop reading early;
/// the rest of the stream is then dropped. Dropping the future makes the next read of `work` fail.
pub async fn feed<S, E, T, F>(stream: S, work: F) -> Result<T, E>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    T: Send + 'static,
    F: FnOnce(Feed) -> T + Send + 'static,
{
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let reader = Feed {
        chunks,
        chunk: Bytes::new(),
        ended: false,
    };
    let work = task::spawn_blocking(move || work(reader));
    let pumped = pump(stream, sender).await;
    let done = match work.await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    };
    pumped.map(|()| done)
}

async fn pump<S, E>(mut stream: S, sender: mpsc::Sender<Option<Bytes>>) -> Result<(), E>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    while let Some(chunk) = stream.next().await {
        if sender.send(Some(chunk?)).await.is_err() {
            // The reader has read enough.
            return Ok(());
        }
    }
    let _heard = sender.send(None).await;
    Ok(())
}

/// The reading end of a stream.
#[derive(Debug)]
pub struct Feed {
    chunks: mpsc::Receiver<Option<Bytes>>,
    chunk: Bytes,
    ended: bool,
}

impl BufRead for Feed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(Some(chunk)) => self.chunk = chunk,
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, count: usize) {
        self.chunk.advance(count);
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn read(mut feed: Feed) -> io::Result<String> {
        let mut text = String::new();
        feed.read_to_string(&mut text)?;
        Ok(text)
    }

    fn chunks(texts: &[&'static str]) -> Vec<Result<Bytes, &'static str>> {
        texts.iter().map(|text| Ok(Bytes::from(*text))).collect()
    }

    #[tokio::test]
    async fn chunks_are_read_as_one_text() {
        let many = chunks(&["a", "", "bc", "d", "e", "f", "g"]);
        let text = feed(stream::iter(many), read).await.expect("no error");
        assert_eq!(text.expect("no error"), "abcdefg");
    }

    #[tokio::test]
    async fn a_stream_that_fails_is_no_end() {
        let mut cut = chunks(&["a", "b"]);
        cut.push(Err("cut off"));
        let (sender, seen) = std::sync::mpsc::channel();
        let result = feed(stream::iter(cut), move |feed| {
            let _heard = sender.send(read(feed).is_err());
        });
        assert_eq!(result.await, Err("cut off"));
        assert_eq!(seen.recv(), Ok(true));
    }

    #[tokio::test]
    async fn a_reader_may_have_enough() {
        let endless = stream::repeat_with(|| Ok::<_, ()>(Bytes::from("ab")));
        let first = feed(endless, |mut feed| {
            let mut byte = [0];
            feed.read_exact(&mut byte).map(|()| byte[0])
        });
        assert_eq!(first.await.expect("no error").expect("a byte"), b'a');
    }
}
