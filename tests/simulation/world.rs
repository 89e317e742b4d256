//! What is really there: clocks, destinations, servers, and a log of all that happened.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use barkeep::{
    clock::{Clock, pause},
    model::time::Timestamp,
};
use tokio::task::JoinSet;

use crate::{cluster::Cluster, dice::Dice, place::Place};

/// How often something goes wrong, of ten thousand requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) errors: u64,
    pub(crate) crashes: u64,
    pub(crate) slow: u64,
}

/// All that several processes and people share.
pub(crate) struct World {
    pub(crate) seed: u64,
    /// The true time.
    pub(crate) clock: Clock,
    pub(crate) places: BTreeMap<String, Arc<Place>>,
    pub(crate) clusters: BTreeMap<String, Arc<Mutex<Cluster>>>,
    pub(crate) trouble: Arc<Mutex<Trouble>>,
    pub(crate) log: Log,
}

/// What happened, in order, and what must not have.
#[derive(Clone)]
pub(crate) struct Log {
    clock: Clock,
    start: Timestamp,
    lines: Arc<Mutex<Vec<String>>>,
    violations: Arc<Mutex<Vec<String>>>,
    requests: Arc<AtomicU64>,
    later: Arc<Mutex<JoinSet<()>>>,
}

impl Log {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            start: clock.now(),
            lines: Arc::default(),
            violations: Arc::default(),
            requests: Arc::default(),
            later: Arc::default(),
        }
    }

    pub(crate) fn tell(&self, line: &str) {
        let at = self.elapsed().as_secs();
        let (days, hours, rest) = (at / 86_400, at % 86_400 / 3600, at % 3600);
        let line = format!(
            "{days:>2}d {hours:02}:{:02}:{:02}  {line}",
            rest / 60,
            rest % 60
        );
        self.lines.lock().expect("no panic").push(line);
    }

    /// How long all this goes on by now.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.now().since(self.start)
    }

    pub(crate) fn violate(&self, what: &str) {
        self.tell(&format!("VIOLATION {what}"));
        self.violations
            .lock()
            .expect("no panic")
            .push(what.to_owned());
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.violations.lock().expect("no panic").first().cloned()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }

    /// Something happens after a while, whoever lives then.
    pub(crate) fn after(&self, span: Duration, effect: impl FnOnce() + Send + 'static) {
        let later = async move {
            pause(span).await;
            effect();
        };
        self.later.lock().expect("no panic").spawn(later);
    }

    pub(crate) fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Dice that fall the same whenever they are thrown for the same thing, whatever else is thrown before.
pub(crate) fn dice_for(seed: u64, what: &str) -> Dice {
    let mixed = what
        .bytes()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let mut dice = Dice(mixed);
    dice.roll(2);
    dice
}

/// So many hours.
pub(crate) fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}
