//! How far WAL has been received and brought to where it is safe.
//!
//! [`Receiving`] is what a receiver tells of itself: a value that others show and judge. Its one law is [`Receiving::confirmable`]: the server
//! hears of no position before everything up to it is durable, in the spool where there is one, else in every destination.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    condition::{Condition, Standing},
    names::DestinationName,
    time::{Span, Timestamp},
    timeline::{Position, TimelineHistory},
    wal::{Lsn, SystemId},
};
use crate::failure::Failure;

/// How long something may fail before it is more than a hiccup, in seconds.
const PATIENCE_SECONDS: u64 = 60;

/// The longest pause between two tries, in seconds.
const PAUSE_SECONDS_MAX: u64 = 30;

/// A receiver, as it tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receiving {
    /// The slot that it receives through.
    pub slot: String,
    /// What it does.
    pub phase: Phase,
    /// Whom it receives from, once it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The cluster whose WAL it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_id: Option<SystemId>,
    /// The end of the server's WAL, as it told last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Lsn>,
    /// How far it has received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Position>,
    /// How far the spool holds it for certain, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spooled: Option<Position>,
    /// How far the server was told that everything is safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<Lsn>,
    /// Since when there is WAL that is not confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<Timestamp>,
    /// What waits on the local disk.
    pub waiting: Waiting,
    /// Each destination.
    pub arrivals: BTreeMap<DestinationName, Arrival>,
    /// Why there is no stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// Where the timelines lead to the one that is received.
    #[serde(skip)]
    pub history: Option<TimelineHistory>,
}

/// What a receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It looks for the server, or waits before it does again.
    Connecting,
    /// It receives.
    Streaming,
    /// It receives nothing, because nothing more may lie on the local disk; the slot holds the WAL.
    Full,
}

/// What lies on the local disk because it is not in every destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// How much, in bytes.
    pub bytes: u64,
    /// How much may, in bytes.
    pub bytes_max: u64,
    /// Whether what lies there counts as safe.
    pub durable: bool,
}

/// How one destination gets what is received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Arrival {
    /// Everything up to there is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Position>,
    /// Why it does not get more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// Something that fails, and is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// How often in a row.
    pub times: u32,
    /// How, the last time.
    pub failure: Failure,
}

impl Trouble {
    /// The trouble after one more failure.
    pub fn again(earlier: Option<Self>, failure: Failure, now: Timestamp) -> Self {
        let (since, times) = earlier.map_or((now, 0), |earlier| (earlier.since, earlier.times));
        Self {
            since,
            times: times.saturating_add(1),
            failure,
        }
    }

    /// How long to wait before it is tried again: a second at first, twice as long each time, half a minute at most.
    pub fn pause(&self) -> Duration {
        let doubled = 1_u64.checked_shl(self.times.saturating_sub(1));
        Duration::from_secs(doubled.unwrap_or(PAUSE_SECONDS_MAX).min(PAUSE_SECONDS_MAX))
    }

    fn is_lasting(&self, now: Timestamp) -> bool {
        now.since(self.since).as_secs() >= PATIENCE_SECONDS
    }
}

impl Receiving {
    /// A receiver that has not begun.
    pub fn new(slot: &str, waiting: Waiting) -> Self {
        Self {
            slot: slot.to_owned(),
            phase: Phase::Connecting,
            endpoint: None,
            system_id: None,
            end: None,
            received: None,
            spooled: None,
            confirmed: None,
            behind_since: None,
            waiting,
            arrivals: BTreeMap::new(),
            trouble: None,
            history: None,
        }
    }

    /// How far everything that was received is safe, on the way to the timeline that is received; never beyond what was received.
    pub fn confirmable(&self) -> Option<Lsn> {
        let received = self.received?;
        let safe = if self.waiting.durable {
            self.along(self.spooled?)?
        } else {
            let arrived = self.arrivals.values();
            let arrived = arrived.map(|arrival| self.along(arrival.until?));
            // One that has nothing makes nothing safe.
            arrived.min().flatten()?
        };
        Some(safe.min(received.lsn))
    }

    /// The part of a position that is on the way to the timeline that is received.
    fn along(&self, position: Position) -> Option<Lsn> {
        let left = self.history.as_ref()?.left_at(position.timeline)?;
        Some(position.lsn.min(left))
    }

    /// How much of the server's WAL is not confirmed, in bytes.
    pub fn behind_bytes(&self) -> Option<u64> {
        Some(self.end?.0.saturating_sub(self.confirmed?.0))
    }

    /// How far a destination has everything.
    pub fn arrived(&self, destination: &DestinationName) -> Option<Position> {
        self.arrivals.get(destination)?.until
    }

    /// How that stands in a destination.
    pub fn conditions(&self, destination: &DestinationName, now: Timestamp) -> Vec<Condition> {
        let stalled = |message| Condition::new(Standing::Stalled, message);
        let mut conditions = Vec::new();
        if self.phase == Phase::Full {
            let Waiting { bytes_max, .. } = self.waiting;
            conditions.push(stalled(format!(
                "the spool is full ({} MiB): slot `{}` holds the WAL",
                bytes_max >> 20,
                self.slot
            )));
        }
        let arrival = self.arrivals.get(destination);
        let arriving = arrival.and_then(|arrival| arrival.trouble.as_ref());
        for (what, trouble) in [
            ("no WAL is received", self.trouble.as_ref()),
            ("received WAL does not get there", arriving),
        ] {
            let Some(trouble) = trouble else {
                continue;
            };
            let age = Span(now.since(trouble.since));
            let message = format!("{what} for {age}: {}", trouble.failure);
            conditions.push(if trouble.is_lasting(now) {
                stalled(message)
            } else {
                Condition::new(Standing::Progressing, message)
            });
        }
        conditions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        failure::Kind,
        model::timeline::{Branch, TimelineId},
    };

    fn position(text: &str) -> Position {
        let (timeline, lsn) = text.split_once(':').expect("a timeline");
        let number = timeline.parse().expect("a number");
        Position {
            timeline: TimelineId::new(number).expect("not zero"),
            lsn: lsn.parse().expect("a position"),
        }
    }

    /// A receiver of timeline 2, which left 1 at 0/500, with what two destinations and the spool hold.
    fn receiving(received: &str, spooled: &str, one: &str, two: &str) -> Receiving {
        let waiting = Waiting {
            bytes: 0,
            bytes_max: 64 << 20,
            durable: !spooled.is_empty(),
        };
        let some = |text: &str| (!text.is_empty()).then(|| position(text));
        let arrival = |name: &str, until: &str| {
            let name = DestinationName::parse(name).expect("a name");
            let arrival = Arrival {
                until: some(until),
                trouble: None,
            };
            (name, arrival)
        };
        Receiving {
            received: some(received),
            spooled: some(spooled),
            arrivals: [arrival("one", one), arrival("two", two)].into(),
            history: Some(TimelineHistory {
                timeline: TimelineId::new(2).expect("not zero"),
                branches: vec![Branch {
                    timeline: TimelineId::FIRST,
                    switch: Lsn(0x500),
                    reason: String::new(),
                }],
            }),
            ..Receiving::new("slot", waiting)
        }
    }

    #[test]
    fn no_more_is_confirmed_than_is_safe_on_the_way_to_the_timeline() {
        let cases = [
            ("2:0/900", "", "2:0/800", "2:0/700", "0/700"),
            ("2:0/900", "", "2:0/800", "", ""),
            ("2:0/900", "2:0/850", "", "", "0/850"),
            // The old primary went on after it was left: nobody needs that.
            ("2:0/900", "", "2:0/800", "1:0/700", "0/500"),
            ("2:0/900", "1:0/700", "", "", "0/500"),
            ("2:0/900", "", "2:0/800", "1:0/400", "0/400"),
            ("2:0/600", "", "2:0/800", "2:0/700", "0/600"),
            ("2:0/900", "", "3:0/800", "2:0/800", ""),
        ];
        for (received, spooled, one, two, confirmable) in cases {
            let lsn = receiving(received, spooled, one, two).confirmable();
            let text = lsn.map(|lsn| lsn.to_string()).unwrap_or_default();
            assert_eq!(text, confirmable, "{received} {spooled} {one} {two}");
        }
    }

    #[test]
    fn what_lasts_is_an_alarm() {
        let now: Timestamp = "2026-11-20T03:00:00Z".parse().expect("an instant");
        let name = DestinationName::parse("one").expect("a name");
        let told = |receiving: &Receiving, now| {
            let conditions = receiving.conditions(&name, now).into_iter();
            let text =
                |condition: Condition| format!("{}: {}", condition.standing, condition.message);
            conditions.map(text).collect::<Vec<_>>().join("\n")
        };
        let mut receiving = receiving("2:0/900", "", "", "");
        assert_eq!(told(&receiving, now), "");
        let failure = Failure::new(Kind::Unreachable, "no answer");
        receiving.trouble = Some(Trouble::again(None, failure, now));
        let young = "progressing: no WAL is received for 0s: no answer";
        assert_eq!(told(&receiving, now), young);
        receiving.phase = Phase::Full;
        let later = now + std::time::Duration::from_secs(90);
        assert_eq!(
            told(&receiving, later),
            "stalled: the spool is full (64 MiB): slot `slot` holds the WAL\n\
             stalled: no WAL is received for 1m 30s: no answer"
        );
    }

    #[test]
    fn the_pause_between_tries_doubles_up_to_half_a_minute() {
        let now: Timestamp = "2026-11-20T03:00:00Z".parse().expect("an instant");
        let mut trouble = None;
        let mut pauses = Vec::new();
        for _ in 0..70 {
            let failure = Failure::new(Kind::Unreachable, "no answer");
            let again = Trouble::again(trouble, failure, now);
            pauses.push(again.pause().as_secs());
            trouble = Some(again);
        }
        assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pauses[69], 30);
    }

    #[test]
    fn how_far_a_server_is_behind_is_known_once_both_ends_are() {
        let mut receiving = receiving("2:0/900", "", "2:0/800", "");
        assert_eq!(receiving.behind_bytes(), None);
        receiving.end = Some(Lsn(0x900));
        receiving.confirmed = Some(Lsn(0x800));
        assert_eq!(receiving.behind_bytes(), Some(0x100));
        // It was told after the server had last said where it is.
        receiving.confirmed = Some(Lsn(0xA00));
        assert_eq!(receiving.behind_bytes(), Some(0));
        let arrived = |name| {
            let name = DestinationName::parse(name).expect("a name");
            receiving.arrived(&name)
        };
        assert_eq!(arrived("one"), Some(position("2:0/800")));
        assert_eq!([arrived("two"), arrived("three")], [None, None]);
    }
}
