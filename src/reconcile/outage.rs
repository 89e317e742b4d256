//! Destinations that do not answer.
//!
//! Waiting for one takes as long as all tries of a request. In watch mode the first who has waited in vain spares the others that: until a
//! pause is over, the destination is unknown without being asked. Then one of them asks again. So a destination that is down costs the
//! servers that also use others next to nothing.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    failure::{Failure, Kind},
    model::{names::DestinationName, observed::Stored},
};

/// The pause after the first time; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_secs(15);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_mins(2);

/// Whether outages are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// Each asks for itself: whoever runs once wants to know.
    None,
    /// One asks for all.
    Shared,
}

/// What did not answer lately.
#[derive(Debug)]
pub(super) struct Outages {
    memory: Memory,
    known: Mutex<BTreeMap<DestinationName, Outage>>,
}

#[derive(Debug)]
struct Outage {
    times: u32,
    until: Instant,
    failure: Failure,
}

impl Outages {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            memory,
            known: Mutex::default(),
        }
    }

    /// Why a destination need not be asked now. When its pause is over, whoever comes first is let through, to ask for all.
    pub(super) fn known(&self, destination: &DestinationName) -> Option<Failure> {
        let mut known = self.lock();
        let outage = known.get_mut(destination)?;
        let now = Instant::now();
        if now >= outage.until {
            outage.until = now + PAUSE_MAX;
            return None;
        }
        Some(outage.failure.clone())
    }

    /// Remembers how it went.
    pub(super) fn note(&self, destination: &DestinationName, stored: &Stored) {
        if self.memory == Memory::None {
            return;
        }
        let mut known = self.lock();
        let silent = stored.store_time.unknown();
        let Some(failure) = silent.filter(|failure| failure.kind == Kind::Unreachable) else {
            known.remove(destination);
            return;
        };
        let times = known.get(destination).map_or(0, |outage| outage.times);
        let pause = PAUSE_FIRST
            .saturating_mul(2_u32.saturating_pow(times))
            .min(PAUSE_MAX);
        let outage = Outage {
            times: times.saturating_add(1),
            until: Instant::now() + pause,
            failure: failure.clone(),
        };
        known.insert(destination.clone(), outage);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DestinationName, Outage>> {
        self.known
            .lock()
            .expect("no panic happens while it is locked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{observed::Knowledge, scene::now};

    #[tokio::test(start_paused = true)]
    async fn one_asks_for_all_when_the_pause_is_over() {
        let outages = Outages::new(Memory::Shared);
        let destination = DestinationName::parse("d").expect("a name");
        let silent = Stored::unknown(now(), &Failure::new(Kind::Unreachable, "no answer"));
        assert!(outages.known(&destination).is_none());
        for pause in [15, 30, 60, 120, 120] {
            outages.note(&destination, &silent);
            tokio::time::advance(Duration::from_secs(pause - 1)).await;
            assert!(outages.known(&destination).is_some());
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(outages.known(&destination).is_none(), "the first asks");
            assert!(outages.known(&destination).is_some(), "the second does not");
        }
        let answers = Stored {
            store_time: Knowledge::Known(now()),
            ..silent.clone()
        };
        outages.note(&destination, &answers);
        assert!(outages.known(&destination).is_none());
        let alone = Outages::new(Memory::None);
        alone.note(&destination, &silent);
        assert!(alone.known(&destination).is_none());
    }
}
