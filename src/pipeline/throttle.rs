//! A limit on bandwidth that several streams share.
//!
//! A [`Throttle`] is a bucket that fills at the rate of the limit, up to what flows in a tenth of
//! a second. Whoever moves bytes takes them from the bucket first; what the bucket lacks is owed,
//! and the taker waits until it would be there. Takers thus wait in the order in which they came,
//! and one large piece is not refused, only paid for. Over any span of time no more passes than
//! the rate allows, plus one bucket.
//!
//! Time is tokio's, so that tests can pause it. Memory: a few words.

use std::{
    io::{self, Read, Write},
    num::NonZeroU64,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

/// What flows at once after a pause: the rate divided by this.
const BURST_DIVISOR: u64 = 10;

/// The largest piece that a [`Throttled`] stream moves at once, so that it flows instead of
/// stopping and rushing.
const PIECE: usize = 256 << 10;

/// A limit in bytes per second; clones share it.
#[derive(Clone, Debug)]
pub struct Throttle {
    rate: NonZeroU64,
    /// When the bucket would be full again if nobody took anything from it.
    full_at: Arc<Mutex<Option<Instant>>>,
}

impl Throttle {
    /// A limit of so many bytes per second, with its bucket full.
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            rate: bytes_per_second,
            full_at: Arc::default(),
        }
    }

    /// The limit in bytes per second.
    pub fn bytes_per_second(&self) -> NonZeroU64 {
        self.rate
    }

    /// Takes so many bytes and answers how long to wait before moving them.
    #[must_use = "the limit holds only if the wait is waited"]
    pub fn take(&self, bytes: u64) -> Duration {
        let now = Instant::now();
        let mut full_at = self.full_at.lock().expect("no thread panics with it");
        let later = full_at.map_or(now, |at| at.max(now)) + self.duration(bytes);
        *full_at = Some(later);
        (later - now).saturating_sub(self.duration(self.rate.get().div_ceil(BURST_DIVISOR)))
    }

    /// Takes so many bytes and waits.
    pub async fn pace(&self, bytes: u64) {
        let wait = self.take(bytes);
        if !wait.is_zero() {
            pause(wait).await;
        }
    }

    /// Takes so many bytes and waits in this thread.
    pub fn pace_blocking(&self, bytes: u64) {
        let wait = self.take(bytes);
        if !wait.is_zero() {
            pause_blocking(wait);
        }
    }

    fn duration(&self, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX / 2))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the wait is bounded by the bytes taken"
)]
async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "the wait is bounded by the bytes taken"
)]
fn pause_blocking(wait: Duration) {
    std::thread::sleep(wait);
}

/// A stream in a thread of its own that keeps to a limit, or to none.
pub struct Throttled<T> {
    inner: T,
    throttle: Option<Throttle>,
}

impl<T> Throttled<T> {
    /// Keeps a stream to a limit.
    pub fn new(inner: T, throttle: Option<Throttle>) -> Self {
        Self { inner, throttle }
    }

    /// The stream.
    pub fn into_inner(self) -> T {
        self.inner
    }

    fn pace(&self, bytes: usize) {
        if let Some(throttle) = &self.throttle {
            throttle.pace_blocking(bytes as u64);
        }
    }
}

impl<R: Read> Read for Throttled<R> {
    /// Reads, then waits for what was read.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(PIECE);
        let length = self.inner.read(&mut buffer[..room])?;
        self.pace(length);
        Ok(length)
    }
}

impl<W: Write> Write for Throttled<W> {
    /// Writes, then waits for what was written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(&bytes[..bytes.len().min(PIECE)])?;
        self.pace(length);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(rate: u64) -> Throttle {
        Throttle::new(NonZeroU64::new(rate).expect("above zero"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_after_one_bucket() {
        let throttle = throttle(1000);
        let start = Instant::now();
        throttle.pace(100).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..50 {
            throttle.pace(100).await;
        }
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_earns_one_bucket_and_no_more() {
        let throttle = throttle(1000);
        throttle.pace(5000).await;
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(throttle.take(100), Duration::ZERO);
        assert_eq!(throttle.take(100), Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_share_one_limit_in_the_order_in_which_they_came() {
        let throttle = throttle(1000);
        let other = throttle.clone();
        assert_eq!(throttle.take(2100), Duration::from_secs(2));
        assert_eq!(other.take(500), Duration::from_millis(2500));
        assert_eq!(throttle.take(0), Duration::from_millis(2500));
    }

    #[test]
    fn a_stream_passes_everything_on() {
        let bytes = vec![7; 1_000_000];
        let throttle = throttle(u64::MAX);
        let mut reader = Throttled::new(&bytes[..], Some(throttle.clone()));
        let mut writer = Throttled::new(Vec::new(), Some(throttle));
        io::copy(&mut reader, &mut writer).expect("memory takes it");
        assert!(writer.into_inner() == bytes);
    }
}
