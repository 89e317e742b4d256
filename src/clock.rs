//! The only reader of the wall clock.
//!
//! Everything else takes `now` as an argument, so that a decision can be repeated, tested over years in microseconds, and fixed from
//! the command line with `--now`.

use crate::model::time::Timestamp;

/// Where an activation gets its `now` from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// Always the same instant: `--now`.
    Fixed(Timestamp),
}

impl Clock {
    /// The present instant, to the microsecond.
    pub fn now(self) -> Timestamp {
        match self {
            #[expect(
                clippy::disallowed_methods,
                reason = "this is the one reader of the clock"
            )]
            Self::System => Timestamp::from(chrono::Utc::now()),
            Self::Fixed(instant) => instant,
        }
    }
}
