//! When a server is to be looked at next: the scheduling of the watch mode, as a pure function of a plan.
//!
//! Each destination of a server has an instant of its own, told by what its plan waits for; the server wakes at the earliest. However long
//! that is, it is looked at once per check interval, a little earlier or later by an amount of its own, so that a fleet does not look as
//! one. Where something failed it is not tried again before a pause is over that doubles with each failure; that holds up nothing else.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::Plan;
use crate::model::{
    desired::Server,
    names::{DestinationName, ServerName},
    reason::Waiting,
    time::Timestamp,
};

/// The pause after the first failure.
const PAUSE_FIRST: Duration = Duration::from_secs(30);

/// The longest pause after failures.
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// How soon something that is under way is looked at again.
const SOON: Duration = Duration::from_mins(1);

/// When one destination of a server is to be looked at, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Wake {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: Why,
}

/// Why a destination is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// A backup is due.
    Due,
    /// The hours in which backups may start begin.
    Window,
    /// Somebody's lease may have ended.
    Lease,
    /// Something is under way.
    Progress,
    /// The grace of a backup that is marked is over.
    Grace,
    /// A pause after failures is over.
    Retry,
    /// It was not looked at for a while.
    Check,
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Due => "a backup is due",
            Self::Window => "backups may start",
            Self::Lease => "a lease may have ended",
            Self::Progress => "something is under way",
            Self::Grace => "a grace is over",
            Self::Retry => "a pause is over",
            Self::Check => "a check for drift",
        })
    }
}

/// What has failed lately, by destination.
pub type Failures = BTreeMap<DestinationName, Failed>;

/// Failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// How many.
    pub times: u32,
    /// When the last one was.
    pub at: Timestamp,
}

impl Failed {
    /// Until when it is not tried again.
    pub fn until(self) -> Timestamp {
        let doublings = self.times.saturating_sub(1);
        let pause = PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(doublings));
        self.at + pause.min(PAUSE_MAX)
    }

    /// What is waited for, while it still is.
    pub fn waiting(self, now: Timestamp) -> Option<Waiting> {
        let until = self.until();
        (now < until).then_some(Waiting::BackOff {
            until,
            failures: self.times,
        })
    }
}

/// When each destination of a server is to be looked at next.
pub fn wakes(server: &Server, plan: &Plan, every: Duration) -> BTreeMap<DestinationName, Wake> {
    let each = plan.targets.iter().map(|(destination, target)| {
        let check = Wake {
            at: plan.now + jittered(every, &plan.server, destination, plan.now),
            why: Why::Check,
        };
        let waits = target.waiting.iter();
        let told = waits.filter_map(|waiting| told(server, destination, waiting, plan.now));
        (destination.clone(), told.fold(check, Wake::min))
    });
    each.collect()
}

/// What a wait says of the instant at which it ends.
fn told(
    server: &Server,
    destination: &DestinationName,
    waiting: &Waiting,
    now: Timestamp,
) -> Option<Wake> {
    let wake = |at, why| Some(Wake { at, why });
    match waiting {
        Waiting::NextDue { at } => wake(*at, Why::Due),
        Waiting::Window { .. } => {
            let entry = server.entry(destination)?;
            let opening = entry.window.as_ref()?.next_opening(now, &entry.zone)?;
            wake(opening, Why::Window)
        }
        Waiting::BackOff { until, .. } => wake(*until, Why::Retry),
        Waiting::Grace { first, .. } => wake(*first, Why::Grace),
        Waiting::Lease { held } => {
            let until = held.until.unwrap_or(now + SOON);
            // Whoever holds it gives it back sooner, as a rule.
            wake(until.min(now + SOON), Why::Lease)
        }
        Waiting::Wal { .. } | Waiting::AdditiveFirst => wake(now + SOON, Why::Progress),
        _ => None,
    }
}

/// An interval, a tenth shorter or longer: always the same for one destination of a server at one instant.
fn jittered(
    every: Duration,
    server: &ServerName,
    destination: &DestinationName,
    now: Timestamp,
) -> Duration {
    let text = format!("{server}/{destination}/{}", now.unix_seconds());
    let part = crc32fast::hash(text.as_bytes()) % 2001;
    every * 9 / 10 + every / 5 * part / 2000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            lease::{HeldLease, LeaseKind},
            scene::now,
        },
        plan::testing::World,
    };

    const EVERY: Duration = Duration::from_mins(5);

    /// When the one destination of a scene wakes, in seconds from now, and why.
    fn wake(text: &str) -> String {
        wake_with(text, |_| None)
    }

    fn wake_with(text: &str, waits: impl Fn(&DestinationName) -> Option<Waiting>) -> String {
        let world = World::parse(text);
        let mut plan = world.plan();
        for (destination, target) in &mut plan.targets {
            target.waiting.extend(waits(destination));
        }
        let wakes = wakes(&world.server, &plan, EVERY);
        let Wake { at, why } = wakes.into_values().next().expect("one destination");
        let seconds = at.since(now()).as_secs();
        match why {
            Why::Check => {
                assert!((270..=330).contains(&seconds), "{seconds}");
                why.to_string()
            }
            why => format!("{why} in {seconds}s"),
        }
    }

    #[test]
    fn a_destination_wakes_when_a_grace_is_over_and_soon_while_something_is_under_way() {
        let marked = "grace=24h retention=1x | done 1d | done 8d | mark 8d 1439m";
        assert_eq!(wake(marked), "a grace is over in 60s");
        let waits = |_: &DestinationName| Some(Waiting::AdditiveFirst);
        let soon = format!("something is under way in {}s", SOON.as_secs());
        assert_eq!(wake_with("| done 1h", waits), soon);
    }

    #[test]
    fn a_destination_wakes_when_what_it_waits_for_ends() {
        assert_eq!(wake("| done 1h"), "a check for drift");
        assert_eq!(
            wake("schedule=@hourly | done 0h"),
            "a check for drift",
            "far away"
        );
        let text = "schedule=2_12_*_*_* | done 9h";
        assert_eq!(wake(text), "a backup is due in 120s");
        let text = "schedule=@daily window=12:01-13:00 | done 9d";
        assert_eq!(wake(text), "backups may start in 60s");
        let text = "schedule=@hourly | done 9d | failed 1h | failed 0h id:20261120T115800";
        assert_eq!(wake(text), "a pause is over in 180s");
    }

    #[test]
    fn a_lease_is_asked_for_again_before_it_may_have_expired() {
        let held = |until| {
            move |destination: &DestinationName| {
                let held = HeldLease {
                    destination: destination.clone(),
                    lease: LeaseKind::Retention,
                    holder: None,
                    until,
                };
                Some(Waiting::Lease { held })
            }
        };
        let soon = now() + Duration::from_secs(20);
        assert_eq!(
            wake_with("| done 1h", held(Some(soon))),
            "a lease may have ended in 20s"
        );
        assert_eq!(
            wake_with("| done 1h", held(Some(Timestamp::MAX))),
            "a lease may have ended in 60s"
        );
        assert_eq!(
            wake_with("| done 1h", held(None)),
            "a lease may have ended in 60s"
        );
    }

    #[test]
    fn failures_double_the_pause_up_to_an_hour() {
        let pauses: Vec<u64> = (1..=9)
            .map(|times| Failed { times, at: now() }.until().since(now()).as_secs())
            .collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        let failed = Failed {
            times: 2,
            at: now(),
        };
        let waiting = failed.waiting(now());
        let told = wake_with("| done 1h", |_| waiting.clone());
        assert_eq!(told, "a pause is over in 60s");
        assert_eq!(failed.waiting(failed.until()), None);
    }

    #[test]
    fn a_fleet_does_not_look_as_one() {
        let name = |number| ServerName::parse(&format!("s{number}")).expect("a name");
        let destination = DestinationName::parse("d").expect("a name");
        let instants: std::collections::BTreeSet<Duration> = (0..1000)
            .map(|number| jittered(EVERY, &name(number), &destination, now()))
            .collect();
        assert!(instants.len() > 700, "{}", instants.len());
        assert!(
            instants
                .iter()
                .all(|at| (270..=330).contains(&at.as_secs()))
        );
    }
}
