//! The only reader of the wall clock.
//!
//! Everything else takes `now` as an argument, so that a decision can be repeated, tested over years in microseconds, and fixed from
//! the command line with `--now`.

use std::time::Duration;

use crate::model::time::Timestamp;

/// Where an activation gets its `now` from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// Always the same instant: `--now`.
    Fixed(Timestamp),
    /// The instant that lay so long ago by the runtime's clock, which tests pause and advance.
    Since(Timestamp, tokio::time::Instant),
}

impl Clock {
    /// A clock that stands at an instant now, and goes on with the runtime's.
    pub fn starting(at: Timestamp) -> Self {
        Self::Since(at, tokio::time::Instant::now())
    }

    /// The present instant, to the microsecond.
    pub fn now(self) -> Timestamp {
        match self {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is the one reader of the clock"
            )]
            Self::System => Timestamp::from(chrono::Utc::now()),
            Self::Fixed(instant) => instant,
            Self::Since(instant, then) => instant + then.elapsed(),
        }
    }
}

/// Lets a while pass. Whoever waits like this waits for nothing but time: to ask again, to look again.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that waits for time"
)]
pub async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}
