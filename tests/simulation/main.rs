//! The simulation: the program's own loop against made-up stores, servers, clocks and people, through whole histories, each from a seed.
//!
//! `BARKEEP_SEEDS=10000` lives through so many histories, `BARKEEP_SEED=17` through that one, telling all that happens. What every process
//! does is judged at each request by [`witness`], which knows nothing of the planner; after each history the world comes to peace, and
//! a new process must find nothing left to do.

use std::{
    env,
    fmt::Write as _,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use barkeep::reconcile::exclusion::Exclusion;

mod catalog;
mod cluster;
#[path = "../support/dice.rs"]
mod dice;
mod history;
mod line;
mod people;
mod place;
mod policy;
mod postgres;
mod witness;
mod world;

use line::Blind;

/// So many histories where nobody says how many.
const SEEDS: u64 = 100;

/// So many histories without a guard are enough to show that it is missed.
const GUARDLESS: u64 = 300;

/// What is shown of a history that went wrong.
const LINES: usize = 60;

/// A history that takes so long has stopped.
const STUCK_AFTER: Duration = Duration::from_mins(2);

/// How a history went.
struct Lived {
    seed: u64,
    requests: u64,
    lines: Vec<String>,
    wrong: Option<String>,
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
        requests: log.requests(),
        lines: log.lines(),
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
        requests += lived.requests;
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
    let one = seeds.end - seeds.start == 1;
    let lived = live_all(seeds, exclusion);
    let mut told = String::new();
    for lived in &lived {
        let Some(wrong) = &lived.wrong else {
            tell(&lived.lines.join("\n"));
            continue;
        };
        writeln!(told, "seed {}: {wrong}", lived.seed).expect("text");
    }
    if let Some(first) = lived.iter().find(|lived| lived.wrong.is_some()) {
        let skipped = if one {
            0
        } else {
            first.lines.len().saturating_sub(LINES)
        };
        let lines = first.lines[skipped..].join("\n");
        panic!(
            "{told}The first of them ends so:\n{lines}\nBARKEEP_SEED={} tells all of it",
            first.seed
        );
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

#[test]
fn a_seed_is_the_same_history_every_time() {
    for seed in 0..5 {
        let [one, two] = [(); 2].map(|()| live(seed, Exclusion::On, None).lines);
        assert_eq!(one, two, "seed {seed}");
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
