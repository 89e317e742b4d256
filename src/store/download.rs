//! An object of the store as a stream for a thread: read ahead in ranges, in order, within bounds.
//!
//! A task asks for the next ranges while the thread works on what has come. All ranges are of one version of the object. A range that
//! breaks off is asked for again, a few times: a restore of hours must not end because of one dropped connection.

use std::{
    io::{self, BufRead, Read},
    ops::Range,
};

use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{GetOptions, GetRange, Key, ObjectVersion, Result, SharedStore};
use crate::failure::Disposition;

/// How often a range is asked for.
const ATTEMPTS: u32 = 4;

/// An object to be read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it is.
    pub store: SharedStore,
    /// Under which key.
    pub key: Key,
    /// In which version.
    pub version: ObjectVersion,
    /// Its length in bytes.
    pub size: u64,
}

/// How far to read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The size of a range in bytes.
    pub range_bytes: u64,
    /// How many ranges are asked for at once.
    pub ranges: usize,
}

impl Window {
    /// What one object takes in memory at most: the ranges asked for, one that waits and one being read.
    pub fn memory(self) -> u64 {
        self.range_bytes * (self.ranges as u64 + 2)
    }
}

/// The thread's end: what has arrived.
pub struct Arrivals {
    receiver: mpsc::Receiver<Vec<Bytes>>,
    /// What has arrived and was not read, in order.
    current: std::collections::VecDeque<Bytes>,
    cancel: CancellationToken,
    missing: u64,
}

/// The task's end.
pub struct Fetching {
    source: Source,
    window: Window,
    sender: mpsc::Sender<Vec<Bytes>>,
    cancel: CancellationToken,
}

/// Makes the two ends.
pub fn download(source: Source, window: Window, cancel: CancellationToken) -> (Arrivals, Fetching) {
    let (sender, receiver) = mpsc::channel(1);
    let arrivals = Arrivals {
        receiver,
        current: std::collections::VecDeque::new(),
        cancel: cancel.clone(),
        missing: source.size,
    };
    let fetching = Fetching {
        source,
        window,
        sender,
        cancel,
    };
    (arrivals, fetching)
}

impl Fetching {
    /// Fetches everything, or until nobody wants more.
    pub async fn run(self) -> Result<()> {
        let Self {
            source,
            window,
            sender,
            cancel,
        } = self;
        let ranges = stream::iter(ranges(source.size, window.range_bytes));
        let mut fetched = ranges
            .map(|range| fetch(&source, range))
            .buffered(window.ranges);
        loop {
            let chunks = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                next = fetched.next() => match next {
                    Some(chunks) => chunks?,
                    None => return Ok(()),
                },
            };
            if sender.send(chunks).await.is_err() {
                // Whoever read has enough, or failed and says so itself.
                return Ok(());
            }
        }
    }
}

fn ranges(size: u64, each: u64) -> impl Iterator<Item = Range<u64>> {
    let count = size.div_ceil(each);
    (0..count).map(move |index| index * each..((index + 1) * each).min(size))
}

async fn fetch(source: &Source, range: Range<u64>) -> Result<Vec<Bytes>> {
    let mut attempt = 1;
    loop {
        match fetch_once(source, range.clone()).await {
            Ok(chunks) => return Ok(chunks),
            Err(error) => {
                if error.disposition() != Disposition::Transient || attempt == ATTEMPTS {
                    return Err(error);
                }
                tracing::debug!(key = %source.key, %error, "a range is asked for again");
                attempt += 1;
            }
        }
    }
}

async fn fetch_once(source: &Source, range: Range<u64>) -> Result<Vec<Bytes>> {
    let options = GetOptions {
        range: Some(GetRange::Bounded(range)),
        version: Some(source.version.clone()),
    };
    let result = source.store.get(&source.key, options).await?;
    result.body.try_collect().await
}

impl Read for Arrivals {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Arrivals {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.front().is_none_or(Bytes::is_empty) {
            self.current.pop_front();
            if self.current.is_empty() {
                match self.receiver.blocking_recv() {
                    Some(chunks) => self.current.extend(chunks),
                    None if self.missing == 0 => return Ok(&[]),
                    None if self.cancel.is_cancelled() => {
                        return Err(io::Error::other("interrupted"));
                    }
                    // Why is what the task answers.
                    None => return Err(io::Error::other("the download has ended")),
                }
            }
        }
        Ok(self.current.front().map_or(&[], |chunk| &chunk[..]))
    }

    fn consume(&mut self, amount: usize) {
        if let Some(chunk) = self.current.front_mut() {
            chunk.advance(amount);
        }
        self.missing = self.missing.saturating_sub(amount as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_the_object_once() {
        let of = |size, each| ranges(size, each).collect::<Vec<_>>();
        assert_eq!(of(10, 4), [0..4, 4..8, 8..10]);
        assert_eq!(of(8, 4), [0..4, 4..8]);
        assert_eq!(of(0, 4), []);
    }
}
