//! What is really there: clocks, destinations, servers, and a log of all that happened.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, Mutex},
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
    entries: Arc<Mutex<Vec<Entry>>>,
    violations: Arc<Mutex<Vec<String>>>,
    later: Arc<Mutex<JoinSet<()>>>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    at: Duration,
    /// The process that asked for something; nobody, if it is more than a request.
    process: Option<String>,
    text: String,
}

impl Entry {
    pub(crate) fn is_request(&self) -> bool {
        self.process.is_some()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, millis) = (self.at.as_secs(), self.at.subsec_millis());
        let (days, hours, rest) = (at / 86_400, at % 86_400 / 3600, at % 3600);
        let (minutes, seconds) = (rest / 60, rest % 60);
        write!(
            formatter,
            "{days:>2}d {hours:02}:{minutes:02}:{seconds:02}.{millis:03}  "
        )?;
        match &self.process {
            Some(process) => write!(formatter, "    {process} asks {}", self.text),
            None => formatter.write_str(&self.text),
        }
    }
}

impl Log {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            start: clock.now(),
            entries: Arc::default(),
            violations: Arc::default(),
            later: Arc::default(),
        }
    }

    /// Something has happened.
    pub(crate) fn tell(&self, text: &str) {
        self.note(None, text);
    }

    /// A process asks for something.
    pub(crate) fn ask(&self, process: &str, what: &str) {
        self.note(Some(process.to_owned()), what);
    }

    fn note(&self, process: Option<String>, text: &str) {
        let entry = Entry {
            at: self.elapsed(),
            process,
            text: text.to_owned(),
        };
        self.entries.lock().expect("no panic").push(entry);
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

    /// All that happened, once. What happened in one instant is in the order of who did it.
    pub(crate) fn take(&self) -> Vec<Entry> {
        let mut entries = mem::take(&mut *self.entries.lock().expect("no panic"));
        entries.sort_by(|one, other| (one.at, &one.process).cmp(&(other.at, &other.process)));
        entries
    }

    /// Something happens after a while, whoever lives then.
    pub(crate) fn after(&self, span: Duration, effect: impl FnOnce() + Send + 'static) {
        let later = async move {
            pause(span).await;
            effect();
        };
        self.later.lock().expect("no panic").spawn(later);
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
