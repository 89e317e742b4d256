//! What can be reached, as intervals: from the ends of good backups along a timeline to where the WAL breaks off.
//!
//! [`intervals`] finds them in a catalog, one for each timeline and place at which WAL breaks off. [`answer`] says whether an instant or a
//! position lies in one, and if none does, what lies next to it and what lacks. WAL knows positions and not times: where an interval
//! ends is exact as a position, and as an instant only the latest that it can be.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::leads_to;
use crate::model::{
    backup::{Backup, BackupId},
    catalog::Catalog,
    time::Timestamp,
    timeline::TimelineId,
    wal::{Lsn, SegmentName},
};

/// A stretch of a timeline in which every point can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interval {
    /// The timeline that recovery follows.
    pub timeline: TimelineId,
    /// The backups that it starts from, earliest first; never empty. The first one's end is where the interval begins.
    pub starts: Vec<Start>,
    /// The last segment that is there without a gap.
    pub until: SegmentName,
    /// Where that segment ends: no later position can be reached.
    pub until_lsn: Lsn,
    /// No later instant can be reached.
    pub until_at: Timestamp,
    /// The segment that recovery would need next.
    pub missing: SegmentName,
    /// What follows.
    pub end: End,
    /// When WAL behind it was being written already, whenever its own was stored.
    #[serde(skip)]
    later: Option<Timestamp>,
}

/// What follows an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Nothing: WAL is stored up to here.
    Archive,
    /// A gap, and behind it WAL of the same timeline.
    Gap,
}

/// A backup, where it becomes consistent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Start {
    /// When.
    pub at: Timestamp,
    /// At which position.
    pub lsn: Lsn,
    /// The backup.
    pub backup: BackupId,
}

impl Interval {
    /// The earliest point.
    pub fn first(&self) -> &Start {
        self.starts.first().expect("an interval starts somewhere")
    }

    /// Takes note of when its last segment was stored: what it holds was written before. A copy is stored later, and says less than the
    /// next backup.
    pub fn stored(&mut self, at: Timestamp) {
        let at = self.later.map_or(at, |later| later.min(at));
        self.until_at = self.until_at.max(at);
    }

    fn covers(&self, point: Point) -> Option<&Start> {
        let within = match point {
            Point::Time(time) => time <= self.until_at,
            Point::Lsn(lsn) => lsn <= self.until_lsn,
        };
        let mut starts = self.starts.iter().rev();
        starts.find(|start| within && point.is_reached_from(start))
    }
}

/// Where somebody wants to recover to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// An instant.
    Time(Timestamp),
    /// A position.
    Lsn(Lsn),
}

impl Point {
    fn is_reached_from(self, start: &Start) -> bool {
        match self {
            Self::Time(time) => start.at <= time,
            Self::Lsn(lsn) => start.lsn <= lsn,
        }
    }
}

/// Whether a point can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// It can.
    Yes {
        /// How, the newest timeline first: each timeline that has the point.
        ways: Vec<Way>,
    },
    /// It cannot.
    No {
        /// The nearest point before it that can be reached.
        before: Option<Before>,
        /// The nearest point after it that can be reached: the end of a backup.
        after: Option<Way>,
    },
}

/// How a point can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Way {
    /// The timeline that recovery follows.
    pub timeline: TimelineId,
    /// The newest backup that ended before the point.
    #[serde(flatten)]
    pub start: Start,
}

/// The end of an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Before {
    /// No later instant can be reached.
    pub at: Timestamp,
    /// No later position can be reached.
    pub lsn: Lsn,
    /// How it is reached.
    #[serde(flatten)]
    pub interval: Broken,
}

/// Where an interval breaks off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The timeline that recovery follows.
    pub timeline: TimelineId,
    /// The newest backup that it starts from.
    pub backup: BackupId,
    /// What lacks to go on.
    pub missing: SegmentName,
    /// What follows that.
    pub end: End,
}

/// Everything that can be reached, earliest first. What lies wholly within a later timeline's interval is not told twice.
pub fn intervals(catalog: &Catalog) -> Vec<Interval> {
    let mut found: BTreeMap<(TimelineId, SegmentName), Interval> = BTreeMap::new();
    let good = catalog.backups.iter();
    for backup in good.filter(|backup| catalog.is_good(backup)) {
        for timeline in timelines(catalog) {
            let Some(one) = interval(catalog, backup, timeline) else {
                continue;
            };
            match found.get_mut(&(timeline, one.until)) {
                Some(known) => known.join(one),
                None => {
                    found.insert((timeline, one.until), one);
                }
            }
        }
    }
    let all: Vec<Interval> = found.into_values().collect();
    let is_told = |one: &Interval| all.iter().any(|other| contains(catalog, other, one));
    let mut told: Vec<_> = all.iter().filter(|one| !is_told(one)).cloned().collect();
    told.sort_by_key(|one| (one.first().at, one.until));
    told
}

/// Says whether a point can be reached.
pub fn answer(intervals: &[Interval], point: Point) -> Answer {
    let way = |interval: &Interval| {
        Some(Way {
            timeline: interval.timeline,
            start: interval.covers(point)?.clone(),
        })
    };
    let mut ways: Vec<Way> = intervals.iter().filter_map(way).collect();
    if !ways.is_empty() {
        ways.sort_by(|one, two| (two.timeline, &two.start).cmp(&(one.timeline, &one.start)));
        ways.dedup_by_key(|way| way.timeline);
        return Answer::Yes { ways };
    }
    let (before, after) = match point {
        Point::Time(_) => (
            ending_before(intervals, point).max_by_key(|one| (one.until_at, one.timeline)),
            starting_after(intervals, point).min_by_key(|way| (way.start.at, way.timeline)),
        ),
        Point::Lsn(_) => (
            ending_before(intervals, point).max_by_key(|one| (one.until_lsn, one.timeline)),
            starting_after(intervals, point).min_by_key(|way| (way.start.lsn, way.timeline)),
        ),
    };
    Answer::No {
        before: before.map(before_of),
        after,
    }
}

fn ending_before(intervals: &[Interval], point: Point) -> impl Iterator<Item = &Interval> {
    let all = intervals.iter();
    all.filter(move |one| point.is_reached_from(one.first()))
}

fn starting_after(intervals: &[Interval], point: Point) -> impl Iterator<Item = Way> {
    let way = move |one: &Interval| {
        let start = one.starts.iter().find(|at| !point.is_reached_from(at))?;
        Some(Way {
            timeline: one.timeline,
            start: start.clone(),
        })
    };
    intervals.iter().filter_map(way)
}

fn before_of(interval: &Interval) -> Before {
    let last = interval.starts.last().expect("it starts somewhere");
    Before {
        at: interval.until_at,
        lsn: interval.until_lsn,
        interval: Broken {
            timeline: interval.timeline,
            backup: last.backup.clone(),
            missing: interval.missing,
            end: interval.end,
        },
    }
}

/// Every timeline of which there is anything.
fn timelines(catalog: &Catalog) -> BTreeSet<TimelineId> {
    let wal = catalog.wal.runs.keys().copied();
    wal.chain(catalog.wal.histories.keys().copied()).collect()
}

/// What can be reached from a backup along a timeline, if recovery gets onto it at all.
fn interval(catalog: &Catalog, backup: &Backup, timeline: TimelineId) -> Option<Interval> {
    let history = catalog.wal.history(timeline);
    if !leads_to(backup, &history) {
        return None;
    }
    let size = backup.segment_size;
    let begin = backup.begin_wal?.number(size);
    let until = catalog.wal.reached(&history, begin, size)?;
    let name = until.name(history.timeline_of(until, size), size);
    let next = until.next();
    let missing = next.name(history.timeline_of(next, size), size);
    let follows = catalog.wal.next_run(missing.timeline, next);
    let at = backup.end_time?;
    (name.timeline == timeline).then(|| Interval {
        timeline,
        starts: vec![Start {
            at,
            lsn: backup.end_lsn.expect("what leads somewhere has an end"),
            backup: backup.id.clone(),
        }],
        until: name,
        until_lsn: next.start(size),
        until_at: at,
        missing,
        end: follows.map_or(End::Archive, |_| End::Gap),
        later: later(catalog, name),
    })
}

/// When the first backup began that needs only later segments of a timeline.
fn later(catalog: &Catalog, until: SegmentName) -> Option<Timestamp> {
    let begun = catalog.backups.iter().filter(|backup| {
        let behind = |begin: SegmentName| begin.timeline == until.timeline && begin > until;
        backup.begin_wal.is_some_and(behind)
    });
    begun.filter_map(|backup| backup.begin_time).min()
}

impl Interval {
    fn join(&mut self, other: Self) {
        self.until_at = self.until_at.max(other.until_at);
        self.starts.extend(other.starts);
        self.starts.sort();
    }
}

/// Whether all of one interval lies on the way of another, a later timeline's.
fn contains(catalog: &Catalog, other: &Interval, one: &Interval) -> bool {
    let history = catalog.wal.history(other.timeline);
    let left = history.left_at(one.timeline);
    other.timeline != one.timeline
        && left.is_some_and(|left| one.until_lsn <= left)
        && one.until_lsn <= other.until_lsn
        && one.starts.iter().all(|start| other.starts.contains(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        scene::{Scene, instant},
        wal::{SegmentNumber, SegmentSize},
    };

    /// `1 8d,1d ..1000 gap`: timeline, backups, last segment, and what follows.
    fn told(text: &str) -> Vec<String> {
        let scene = Scene::parse(text);
        let line = |one: &Interval| {
            let starts = one.starts.iter();
            let starts: Vec<_> = starts.map(|start| scene.label(&start.backup)).collect();
            let until = one.until.number(SegmentSize::DEFAULT).0;
            let end = if one.end == End::Gap { " gap" } else { "" };
            let timeline = one.timeline.number();
            format!("{timeline} {} ..{until}{end}", starts.join(","))
        };
        intervals(&scene.catalog).iter().map(line).collect()
    }

    fn asked(text: &str, point: Point) -> String {
        let scene = Scene::parse(text);
        let way = |way: &Way| {
            format!(
                "{}@{}",
                scene.label(&way.start.backup),
                way.timeline.number()
            )
        };
        match answer(&intervals(&scene.catalog), point) {
            Answer::Yes { ways } => ways.iter().map(way).collect::<Vec<_>>().join(" "),
            Answer::No { before, after } => {
                let lacks = before.map(|before| {
                    let number = before.interval.missing.number(SegmentSize::DEFAULT).0;
                    format!("{} lacks {number}", scene.label(&before.interval.backup))
                });
                let after = after.as_ref().map(way);
                let none = || "-".to_owned();
                format!(
                    "no: {}, {}",
                    lacks.unwrap_or_else(none),
                    after.unwrap_or_else(none)
                )
            }
        }
    }

    fn at(age: &str) -> Point {
        Point::Time(instant(age))
    }

    fn segment(number: u64) -> Point {
        Point::Lsn(Lsn(
            SegmentNumber(number).start(SegmentSize::DEFAULT).0 + 500
        ))
    }

    #[test]
    fn backups_that_reach_equally_far_share_an_interval() {
        assert_eq!(
            told("none | done 1d | done 8d | failed 9d"),
            ["1 8d,1d ..1010"]
        );
        assert_eq!(
            told("none | failed 9d | done 8d empty:"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_gap_parts_intervals_and_is_called_one() {
        let gap = "none | done 1d | done 5d | done 8d | wal 1:900-955 1:957-1000";
        assert_eq!(told(gap), ["1 8d,5d ..955 gap", "1 1d ..1000"]);
    }

    #[test]
    fn a_timeline_that_went_on_beside_another_has_an_interval_of_its_own() {
        let both = "none | done 8d | wal 1:900-970 2:950-1000 | history 2:1@950";
        assert_eq!(told(both), ["1 8d ..970", "2 8d ..1000"]);
        let left = "none | done 8d | wal 1:900-949 2:950-1000 | history 2:1@950";
        assert_eq!(told(left), ["2 8d ..1000"], "it lies on the way");
        let late = "none | done 1d | wal 1:900-1000 2:950-1010 | history 2:1@950";
        assert_eq!(told(late), ["1 1d ..1000"], "it ended after the fork");
        let hole = "none | done 8d | wal 1:900-940 2:950-1000 | history 2:1@950";
        assert_eq!(
            told(hole),
            ["1 8d ..940"],
            "recovery never gets to the fork"
        );
    }

    #[test]
    fn a_backup_kept_by_itself_reaches_its_own_end_only() {
        let alone = "none | done 1d | done 30d keep:standalone | wal 1:700-701 1:980-1010";
        assert_eq!(told(alone), ["1 30d ..701 gap", "1 1d ..1010"]);
    }

    #[test]
    fn a_point_is_reached_from_the_newest_backup_before_it() {
        let text = "none | done 1d | done 5d | done 8d | wal 1:900-1010";
        assert_eq!(asked(text, at("4d")), "5d@1");
        assert_eq!(asked(text, at("5d")), "5d@1", "the very end of a backup");
        assert_eq!(asked(text, segment(985)), "5d@1");
        assert_eq!(asked(text, segment(1010)), "1d@1");
    }

    #[test]
    fn what_no_interval_has_lies_between_two_points_and_lacks_something() {
        let text = "none | done 1d | done 5d | done 8d | wal 1:900-955 1:957-1000";
        assert_eq!(asked(text, segment(957)), "no: 5d lacks 956, 1d@1");
        assert_eq!(asked(text, at("3d")), "no: 5d lacks 956, 1d@1");
        assert_eq!(asked(text, segment(1001)), "no: 1d lacks 1001, -");
        assert_eq!(asked(text, segment(900)), "no: -, 8d@1");
        assert_eq!(asked("none", at("3d")), "no: -, -");
    }

    #[test]
    fn both_sides_of_a_fork_are_offered_the_newest_first() {
        let text = "none | done 8d | wal 1:900-970 2:950-1000 | history 2:1@950";
        assert_eq!(asked(text, segment(960)), "8d@2 8d@1");
        assert_eq!(asked(text, segment(980)), "8d@2");
    }

    #[test]
    fn an_interval_ends_when_its_last_segment_was_stored() {
        let scene = Scene::parse("none | done 8d");
        let mut all = intervals(&scene.catalog);
        let within = |all: &[Interval], age| matches!(answer(all, at(age)), Answer::Yes { .. });
        assert!(!within(&all, "2d"), "nobody has said how far it goes");
        all[0].stored(instant("1d"));
        assert!(within(&all, "2d") && !within(&all, "12h"));
        all[0].stored(instant("3d"));
        assert!(within(&all, "2d"), "an earlier word does not shorten it");
    }

    #[test]
    fn wal_that_was_stored_again_is_not_taken_for_younger_than_what_follows() {
        let scene = Scene::parse("none | done 1d | done 5d | wal 1:900-955 1:957-1000");
        let mut all = intervals(&scene.catalog);
        all[0].stored(instant("1h"));
        assert!(matches!(answer(&all, at("2d")), Answer::Yes { .. }));
        let between = answer(&all[..1], at("23h"));
        assert!(matches!(between, Answer::No { .. }), "{between:?}");
    }
}
