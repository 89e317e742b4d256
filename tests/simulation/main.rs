//! The simulation: the program's own loop against made-up stores, servers, clocks and people, through whole histories, each from a seed.
//!
//! `BARKEEP_SEEDS=10000` lives through so many histories, `BARKEEP_SEED=17` through that one, telling all that happens, each request. What every process
//! does is judged at each request by [`witness`], which knows nothing of the planner; after each history the world comes to peace, and
//! a new process must find nothing left to do.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use barkeep::reconcile::exclusion::Exclusion;

mod catalog;
mod cloud;
mod cluster;
#[path = "../support/dice.rs"]
mod dice;
mod fate;
mod hands;
mod history;
mod line;
mod people;
mod place;
mod policy;
mod postgres;
mod witness;
mod world;

use line::Blind;
use world::Entry;

/// So many histories where nobody says how many.
const SEEDS: u64 = 500;

/// So many histories are lived through several times.
const TWINS: u64 = 20;

/// So many histories without a guard are enough to show that it is missed.
const GUARDLESS: u64 = 300;

/// What is shown of a history that went wrong.
const LINES: usize = 60;

/// A history that takes so long has stopped.
const STUCK_AFTER: Duration = Duration::from_mins(2);

/// How a history went.
struct Lived {
    seed: u64,
    entries: Vec<Entry>,
    wrong: Option<String>,
}

impl Lived {
    fn requests(&self) -> usize {
        let entries = self.entries.iter();
        entries.filter(|entry| entry.is_request()).count()
    }

    /// All of it, as it is told.
    fn told(&self) -> String {
        let lines: Vec<String> = self.entries.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    /// The last that happened, requests apart.
    fn end(&self) -> String {
        let happened = self.entries.iter().filter(|entry| !entry.is_request());
        let lines: Vec<String> = happened.map(ToString::to_string).collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

fn live(seed: u64, exclusion: Exclusion, blind: Option<Blind>) -> Lived {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let log = Mutex::new(None);
    let lived = panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let history = history::History::new(seed, exclusion, blind);
            *log.lock().expect("no panic") = Some(history.log());
            Box::pin(history.live()).await;
        });
    }));
    let log = log.into_inner().expect("no panic").expect("it began");
    let panicked = lived
        .err()
        .map(|_| "it panicked; the place is told above".to_owned());
    Lived {
        seed,
        entries: log.take(),
        wrong: log.violation().or(panicked),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the tests chooses the seeds"
)]
fn asked(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("`{variable}={text}` is no number")),
    )
}

fn seeds() -> std::ops::Range<u64> {
    match asked("BARKEEP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..asked("BARKEEP_SEEDS").unwrap_or(SEEDS),
    }
}

/// Lives through many histories on all cores. Returns those that went wrong, and the only one in any case.
fn live_all(seeds: std::ops::Range<u64>, exclusion: Exclusion) -> Vec<Lived> {
    let all = seeds.end - seeds.start;
    let next = Arc::new(AtomicU64::new(seeds.start));
    let (sender, lived) = mpsc::channel();
    for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
        let (sender, next, end) = (sender.clone(), next.clone(), seeds.end);
        thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end || sender.send(live(seed, exclusion, None)).is_err() {
                    return;
                }
            }
        });
    }
    let (mut wrong, mut requests) = (Vec::new(), 0);
    for done in 0..all {
        let waited = lived.recv_timeout(STUCK_AFTER);
        let lived = waited.unwrap_or_else(|_| {
            panic!("{done} of {all} are lived through, and one before {next:?} does not end")
        });
        requests += lived.requests();
        if lived.wrong.is_some() || all == 1 {
            wrong.push(lived);
        }
    }
    tell(&format!(
        "{all} histories, {requests} requests, leases {exclusion:?}"
    ));
    wrong.sort_by_key(|lived| lived.seed);
    wrong
}

#[expect(
    clippy::print_stderr,
    reason = "whoever asks for many or for one reads it"
)]
fn tell(text: &str) {
    eprintln!("{text}");
}

fn check(seeds: std::ops::Range<u64>, exclusion: Exclusion) {
    let is_only = seeds.end - seeds.start == 1;
    let lived = live_all(seeds, exclusion);
    let mut wrong = String::new();
    for lived in &lived {
        if is_only {
            tell(&lived.told());
        }
        if let Some(what) = &lived.wrong {
            writeln!(wrong, "seed {}: {what}", lived.seed).expect("text");
        }
    }
    if let Some(first) = lived.iter().find(|lived| lived.wrong.is_some()) {
        let (seed, end) = (first.seed, first.end());
        panic!("{wrong}The first of them ends so:\n{end}\nBARKEEP_SEED={seed} tells all of it");
    }
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_and_all_converges() {
    check(seeds(), Exclusion::On);
}

#[test]
fn without_leases_it_is_as_safe() {
    let seeds = seeds();
    let fewer = (seeds.end - seeds.start).div_ceil(4);
    check(seeds.start..seeds.start + fewer, Exclusion::Off);
}

/// Lives through some histories several times, on all cores and beside each other.
#[test]
fn a_seed_is_the_same_history_every_time() {
    let lives: Vec<_> = (0..TWINS).flat_map(|seed| [seed; 3]).collect();
    let next = AtomicUsize::new(0);
    let lived = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(seed) = lives.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = live(*seed, Exclusion::On, None);
                    let mut lived = lived.lock().expect("no history panics");
                    lived.entry(*seed).or_insert_with(Vec::new).push(one);
                }
            });
        }
    });
    for (seed, lives) in lived.into_inner().expect("no history panics") {
        for other in &lives[1..] {
            assert_same(seed, &lives[0].entries, &other.entries);
        }
    }
}

fn assert_same(seed: u64, one: &[Entry], other: &[Entry]) {
    let differs = (0..one.len().max(other.len())).find(|at| one.get(*at) != other.get(*at));
    if let Some(at) = differs {
        let tell = |all: &[Entry]| all.get(at).map(ToString::to_string);
        panic!(
            "seed {seed} goes apart after {at} entries:\n{:?}\n{:?}",
            tell(one),
            tell(other)
        );
    }
}

/// Takes a guard away from every process: within a few histories somebody must notice.
fn noticed(blind: Blind, wrong: &str) {
    let mut lived = (0..GUARDLESS).map(|seed| live(seed, Exclusion::On, Some(blind)));
    let found = lived.find_map(|lived| Some((lived.seed, lived.wrong?)));
    let (seed, found) = found.unwrap_or_else(|| panic!("nobody misses what {blind:?} hides"));
    tell(&format!("{blind:?}: seed {seed}: {found}"));
    assert!(found.contains(wrong), "seed {seed}: {found}");
}

#[test]
fn without_the_look_at_locks_what_is_locked_would_go() {
    noticed(Blind::Locks, "deletes what is locked");
}

#[test]
fn without_the_look_at_keeps_what_people_keep_would_be_touched() {
    // What is not deleted is marked for ever in vain: whoever marks looks again.
    noticed(Blind::Keeps, " kept");
}

#[test]
fn without_the_record_of_deletes_the_budget_would_not_hold() {
    noticed(Blind::Tombstones, "are gone today");
}

#[test]
fn without_heeding_deletes_that_failed_what_stays_would_lack_something() {
    noticed(Blind::FailedDeletes, "deletes ");
}
