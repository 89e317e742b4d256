//! Timelines and their ancestry.
//!
//! A promotion starts a timeline: a branch that shares the WAL of its parent up to a switch point. Which segments a backup needs,
//! and which recovery can reach, follows from ancestry, never from comparing names. Format: PostgreSQL's `timeline.c`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::wal::{Lsn, SegmentName, SegmentNumber, SegmentSize};

/// A timeline's number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimelineId(u32);

impl TimelineId {
    /// The timeline that `initdb` starts with.
    pub const FIRST: Self = Self(1);

    /// Any number but zero is a timeline.
    pub fn new(number: u32) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    /// Reads exactly eight hexadecimal digits.
    pub fn parse(digits: &str) -> Option<Self> {
        let valid = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = Some(digits).filter(|_| valid)?;
        Self::new(u32::from_str_radix(digits, 16).ok()?)
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for TimelineId {
    /// Eight hexadecimal digits, as in file names.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08X}", self.0)
    }
}

/// A position on a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The position.
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: TimelineId,
}

impl Position {
    /// The segment that holds the byte at this position.
    pub fn segment(self, size: SegmentSize) -> SegmentName {
        self.lsn.segment(self.timeline, size)
    }

    /// The beginning of that segment.
    #[must_use]
    pub fn segment_start(self, size: SegmentSize) -> Self {
        Self {
            lsn: Lsn(self.lsn.0 - self.lsn.offset(size)),
            ..self
        }
    }

    /// Whether it comes before another one on the same way along the timelines, where what lies before a switch comes on both.
    pub fn is_before(self, other: Self) -> bool {
        (self.timeline, self.lsn) < (other.timeline, other.lsn)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} on timeline {}",
            self.lsn,
            self.timeline.number()
        )
    }
}

/// One line of a history file: an ancestor and where it was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The ancestor.
    pub timeline: TimelineId,
    /// The first position that no longer belongs to it.
    pub switch: Lsn,
    /// What PostgreSQL wrote down as the reason.
    pub reason: String,
}

/// Where a timeline comes from: its ancestors, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineHistory {
    /// The timeline.
    pub timeline: TimelineId,
    /// Its ancestors with their switch points, oldest first; empty for the first timeline.
    pub branches: Vec<Branch>,
}

impl TimelineHistory {
    /// The history of a timeline without ancestors.
    pub fn root(timeline: TimelineId) -> Self {
        Self {
            timeline,
            branches: Vec::new(),
        }
    }

    /// The position at which `ancestor` was left on the way here: `None` if it is no ancestor, the end of time for the timeline itself.
    pub fn left_at(&self, ancestor: TimelineId) -> Option<Lsn> {
        if ancestor == self.timeline {
            return Some(Lsn(u64::MAX));
        }
        let branch = self
            .branches
            .iter()
            .find(|branch| branch.timeline == ancestor)?;
        Some(branch.switch)
    }

    /// The timeline that a recovery along this history reads a segment from: the newest one that had begun by its start.
    pub fn timeline_of(&self, segment: SegmentNumber, size: SegmentSize) -> TimelineId {
        let start = segment.start(size);
        // A segment in which a switch happened is read from the newer timeline, which holds the older one's bytes too.
        let holds = |branch: &&Branch| branch.switch.0 / size.bytes() > start.0 / size.bytes();
        let oldest = self.branches.iter().find(holds);
        oldest.map_or(self.timeline, |branch| branch.timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn third() -> TimelineHistory {
        let branch = |timeline, switch: &str| Branch {
            timeline: TimelineId(timeline),
            switch: switch.parse().expect("a position"),
            reason: "no recovery target specified".to_owned(),
        };
        TimelineHistory {
            timeline: TimelineId(3),
            branches: vec![branch(1, "0/5000100"), branch(2, "0/7000000")],
        }
    }

    #[test]
    fn a_segment_is_read_from_the_newest_timeline_that_has_it() {
        let of = |number| {
            third()
                .timeline_of(SegmentNumber(number), SegmentSize::DEFAULT)
                .number()
        };
        // The switch to 2 fell inside segment 5; the switch to 3 at the very start of segment 7.
        assert_eq!([4, 5, 6, 7, 8].map(of), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_timeline_is_left_where_the_next_began() {
        let history = third();
        assert_eq!(history.left_at(TimelineId(2)), Some(Lsn(0x0700_0000)));
        assert_eq!(history.left_at(TimelineId(4)), None);
    }

    #[test]
    fn a_position_is_told_with_the_number_of_its_timeline() {
        let position = Position {
            timeline: TimelineId(26),
            lsn: Lsn(0x0500_0100),
        };
        assert_eq!(position.to_string(), "0/5000100 on timeline 26");
    }

    #[test]
    fn a_timeline_comes_before_the_next_even_where_that_begins_again() {
        let at = |timeline, lsn| Position {
            timeline: TimelineId::new(timeline).expect("not zero"),
            lsn: Lsn(lsn),
        };
        for (one, other, expected) in [
            (at(1, 0x0600_0000), at(1, 0x0600_0001), true),
            (at(1, 0x0600_0000), at(1, 0x0600_0000), false),
            (at(1, 0x0600_0000), at(2, 0x0600_0000), true),
            (at(1, 0x0600_00F8), at(2, 0x0600_0000), true),
            (at(2, 0x0600_0000), at(1, 0x0600_00F8), false),
        ] {
            assert_eq!(one.is_before(other), expected, "{one} {other}");
        }
    }
}
