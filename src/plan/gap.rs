//! WAL that was archived and is not there any more, and what of it the server still has.
//!
//! A gap needs no second look: the server is asked before the archive is listed, and whatever lies before the last segment that it calls
//! archived has been acknowledged; if the listing does not show it, it is gone. PostgreSQL archives in order but for what a crash left
//! unmarked; such a segment still waits, and waiting is no gap.
//!
//! What is gone from the archive and still lies in `pg_wal` on this host is archived again, as long as a backup that stays can reach it.
//! Only what neither has makes a backup due.

use super::{Decision, Scene, Weight, copy::first_of, segments_in};
use crate::model::{
    action::{Action, WalSpan},
    backup::Backup,
    catalog::{Catalog, Run},
    desired::WalCheck,
    judge::{Fate, Verdicts, WalNeed},
    observed::ServerFacts,
    reason::Reason,
    runs::Runs,
    timeline::{TimelineHistory, TimelineId},
    wal::{SegmentName, SegmentNumber, SegmentSize},
};

/// How many segments one step brings back. What is left follows in the next activation.
const SEGMENTS_MAX: u64 = 256;

/// Segments that were archived and are not there; at least one.
pub(super) struct Gap {
    spans: Vec<WalSpan>,
    size: SegmentSize,
}

impl Gap {
    fn of(spans: Vec<WalSpan>, size: SegmentSize) -> Option<Self> {
        (!spans.is_empty()).then_some(Self { spans, size })
    }

    /// The first of them.
    pub(super) fn first(&self) -> SegmentName {
        let first = self.spans[0];
        first.run.first.name(first.timeline, self.size)
    }

    /// How many ranges they are in.
    pub(super) fn ranges(&self) -> usize {
        self.spans.len()
    }

    /// How many they are.
    pub(super) fn segments(&self) -> u64 {
        segments_in(&self.spans)
    }

    /// Those that are not at hand either.
    pub(super) fn lost(&self, at_hand: &[WalSpan]) -> Option<Self> {
        let rest = |span: &WalSpan| {
            let mut rest: Runs = [span.run].into_iter().collect();
            on(at_hand, span.timeline).for_each(|there| rest.remove(there));
            spans(span.timeline, &rest)
        };
        Self::of(self.spans.iter().flat_map(rest).collect(), self.size)
    }
}

/// Brings back what is missing, can be reached from a backup that stays, and still lies in `pg_wal`.
pub(super) fn decide(scene: &Scene<'_>, verdicts: &Verdicts) -> Decision {
    let mut decision = Decision::default();
    let (Some(facts), Some(catalog)) = (scene.postgres.known(), scene.stored.catalog.known())
    else {
        return decision;
    };
    // A copy gets its WAL from where it is copied.
    if scene.entry.wal.check == WalCheck::Off || scene.entry.copy_of.is_some() {
        return decision;
    }
    let history = history(catalog, facts);
    let stays = |backup: &&Backup| {
        let verdict = verdicts.get(&backup.id);
        let needs = verdict.is_some_and(|verdict| {
            verdict.fate != Fate::Expire && verdict.wal == WalNeed::FromBegin
        });
        needs && backup.system_id == Some(facts.system_id)
    };
    let begins = catalog.backups.iter().filter(stays);
    let begins = begins.filter_map(|backup| backup.begin_wal);
    let begins = begins.filter(|begin| is_on_the_way(*begin, &history, facts.segment_size));
    let Some(begin) = begins.min_by_key(|begin| begin.number(facts.segment_size)) else {
        return decision;
    };
    let missing = missing(scene, (catalog, &history), begin, facts);
    let there = missing.iter().flat_map(|span| {
        let missing: Runs = [span.run].into_iter().collect();
        let at_hand: Runs = on(&facts.at_hand, span.timeline).collect();
        spans(span.timeline, &missing.intersection(&at_hand))
    });
    let there = first_of(&there.collect::<Vec<_>>(), SEGMENTS_MAX);
    if !there.is_empty() {
        let weight = Weight {
            bytes: 0,
            segments: segments_in(&there),
        };
        let action = Action::ArchiveWal { spans: there };
        decision.step(scene, action, Reason::StillInPgWal, weight);
    }
    decision
}

/// The gap between a backup's beginning and the last segment that the server calls archived.
pub(super) fn gap(
    scene: &Scene<'_>,
    catalog: &Catalog,
    newest: &Backup,
    facts: &ServerFacts,
) -> Option<Gap> {
    if scene.entry.wal.check == WalCheck::Off || newest.system_id != Some(facts.system_id) {
        return None;
    }
    let history = history(catalog, facts);
    let missing = missing(scene, (catalog, &history), newest.begin_wal?, facts);
    let gap = Gap::of(missing, facts.segment_size)?;
    let ready = facts.archiver.oldest_ready;
    ready.is_none_or(|ready| ready > gap.first()).then_some(gap)
}

/// What is missing along the server's ancestry from a segment on, up to the last one that must be there.
fn missing(
    scene: &Scene<'_>,
    (catalog, history): (&Catalog, &TimelineHistory),
    begin: SegmentName,
    facts: &ServerFacts,
) -> Vec<WalSpan> {
    let size = facts.segment_size;
    let last = last_stored(scene, catalog, facts);
    let last = last.filter(|last| last.timeline == facts.timeline);
    let Some(last) = last.filter(|_| history.left_at(begin.timeline).is_some()) else {
        return Vec::new();
    };
    let last = last.number(size);
    let mut next = begin.number(size);
    let mut missing = Vec::new();
    while next <= last {
        let timeline = history.timeline_of(next, size);
        let end = last_on(history, timeline, last, size).min(last);
        if let Some(until) = catalog.wal.contiguous_until(timeline, next) {
            next = until.min(end).next();
            continue;
        }
        let present = catalog.wal.next_run(timeline, next);
        let until = present
            .map_or(end, |run| SegmentNumber(run.first.0 - 1))
            .min(end);
        let run = Run {
            first: next,
            last: until,
        };
        missing.push(WalSpan { timeline, run });
        next = until.next();
    }
    missing
}

/// Whether recovery along a history comes by a segment.
fn is_on_the_way(segment: SegmentName, history: &TimelineHistory, size: SegmentSize) -> bool {
    let left = history.left_at(segment.timeline);
    left.is_some_and(|left| segment.number(size).start(size) < left)
}

/// The last segment that must be there: the last one that the server calls archived. Nobody tells where WAL is received; it comes in order.
fn last_stored(scene: &Scene<'_>, catalog: &Catalog, facts: &ServerFacts) -> Option<SegmentName> {
    let archived = facts.archiver.last_archived;
    if scene.server.receive.is_none() {
        return archived;
    }
    let runs = catalog.wal.runs.get(&facts.timeline);
    let last = runs.and_then(|runs| Some(runs.last()?.last));
    let received = last.map(|last| last.name(facts.timeline, facts.segment_size));
    archived.max(received)
}

/// The last segment that is read from a timeline along a history.
fn last_on(
    history: &TimelineHistory,
    timeline: TimelineId,
    until: SegmentNumber,
    size: SegmentSize,
) -> SegmentNumber {
    // The segment of the switch is read from the next timeline.
    let last =
        |left: crate::model::wal::Lsn| SegmentNumber((left.0 / size.bytes()).saturating_sub(1));
    let left = history.left_at(timeline);
    left.map_or(until, |left| last(left).min(until))
}

fn history(catalog: &Catalog, facts: &ServerFacts) -> TimelineHistory {
    let own = facts.history.clone();
    own.unwrap_or_else(|| catalog.wal.history(facts.timeline))
}

/// What some spans hold of a timeline.
fn on(spans: &[WalSpan], timeline: TimelineId) -> impl Iterator<Item = Run> {
    let same = spans.iter().filter(move |span| span.timeline == timeline);
    same.map(|span| span.run)
}

fn spans(timeline: TimelineId, runs: &Runs) -> Vec<WalSpan> {
    runs.iter().map(|run| WalSpan { timeline, run }).collect()
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::{stands, steps, waits};

    #[test]
    fn segments_that_were_archived_and_are_gone_are_a_gap() {
        let gap = |text: &str| stands(text).lines().next().unwrap_or_default().to_owned();
        let lost = "| wal 1:900-1002 1:1005-1007 1:1009-1010 | done 9h";
        assert_eq!(
            gap(lost),
            "stalled: WAL gap of 3 from 0000000100000003000000EB"
        );
        let healed = format!("{lost} | done 1h begin:1009");
        assert_eq!(gap(&healed), "converged: nothing to do");
        let running = "| wal 1:900-1005 | done 9h | postgres archived:1005";
        assert_eq!(
            gap(running),
            "converged: nothing to do",
            "the rest is not archived yet"
        );
        let other = format!("{lost} | done 5h sys:2");
        assert_eq!(gap(&other), "converged: nothing to do");
        let early = format!("{lost} | postgres waits:1001");
        assert_eq!(gap(&early), "converged: nothing to do", "so does the rest");
        let late = format!("{lost} | postgres waits:1008");
        assert!(gap(&late).starts_with("stalled: WAL gap of 3"));
        let unchecked = format!("schedule=0_2_*_*_* check=off {lost}");
        assert_eq!(steps(&unchecked), "");
        assert_eq!(gap(&unchecked), "converged: nothing to do");
        let waits = "| wal 1:900-1002 1:1004-1010 | done 9h | postgres waits:1003";
        assert_eq!(
            gap(waits),
            "converged: nothing to do",
            "it is archived late"
        );
        let far = "| wal 1:900-1002 1:900000-900001 | done 9h | postgres archived:900001";
        assert_eq!(
            gap(far),
            "stalled: WAL gap of 898997 from 0000000100000003000000EB"
        );
    }

    #[test]
    fn a_gap_is_looked_for_along_the_ancestry() {
        let gap = |text: &str| stands(text).lines().next().unwrap_or_default().to_owned();
        let promoted = "| wal 1:900-1004 2:1004-1010 | history 2:1@1004 | done 9h | postgres tl:2 archived:1010";
        assert_eq!(gap(promoted), "converged: nothing to do");
        let lost = promoted.replace("1:900-1004", "1:900-1001");
        assert_eq!(
            gap(&lost),
            "stalled: WAL gap of 2 from 0000000100000003000000EA"
        );
        let lost = promoted.replace("2:1004-1010", "2:1005-1010");
        assert_eq!(
            gap(&lost),
            "stalled: WAL gap of 1 from 0000000200000003000000EC"
        );
        // The old primary went on for a while: nobody needs that.
        let beyond = promoted.replace("1:900-1004", "1:900-1004 1:1007-1008");
        assert_eq!(gap(&beyond), "converged: nothing to do");
        // Where the new timeline comes from is not archived yet.
        let unknown = "| wal 1:900-1004 2:1004-1010 | done 9h | postgres tl:2 archived:1010";
        assert_eq!(gap(unknown), "converged: nothing to do");
        let of_old = "| wal 1:900-1002 1:1005-1010 | done 9h | postgres archived:1010 tl:2";
        assert_eq!(
            gap(of_old),
            "converged: nothing to do",
            "archived before the promotion"
        );
    }

    #[test]
    fn what_is_missing_and_still_in_pg_wal_is_archived_again() {
        let lost = "schedule=0_2_*_*_* | wal 1:900-1002 1:1005-1007 1:1009-1010 | done 9h";
        let with = |hand: &str| format!("{lost} | postgres {hand}");
        let healed = |count: usize| format!("archive WAL of {count}: missing, and still in pg_wal");
        assert_eq!(steps(&with("hand:1:1000-1010")), healed(3));
        assert_eq!(
            stands(&with("hand:1:1003-1004 hand:1:1008-1008")),
            "progressing: WAL gap of 3 from 0000000100000003000000EB, still in pg_wal\n\
             progressing: 1 to do"
        );
        // What is gone there, too, makes a backup due, and only that.
        assert_eq!(
            steps(&with("hand:1:1004-1010")),
            format!(
                "{}\nbackup: WAL gap of 1 from 0000000100000003000000EB",
                healed(2)
            )
        );
        assert_eq!(
            steps(&with("hand:1:900-1003")),
            format!(
                "{}\nbackup: WAL gap of 2 from 0000000100000003000000EC",
                healed(1)
            )
        );
        assert!(
            stands(&with("hand:1:1004-1010"))
                .starts_with("stalled: WAL gap of 3 from 0000000100000003000000EB\n")
        );
        // Another timeline's are others.
        assert_eq!(
            steps(&with("hand:2:1000-1010")),
            "backup: WAL gap of 3 from 0000000100000003000000EB"
        );
    }

    #[test]
    fn what_the_server_has_not_archived_yet_is_its_archivers() {
        let text = "| wal 1:900-1005 | done 9h | postgres archived:1005 hand:1:1000-1010";
        assert_eq!(steps(text), "");
        assert_eq!(
            steps(&text.replace("archived:1005", "archived:1006")),
            "archive WAL of 1: missing, and still in pg_wal"
        );
    }

    #[test]
    fn nothing_is_archived_again_that_no_backup_needs_that_stays() {
        let hand = "postgres hand:1:900-1010";
        // A failed backup holds nothing, and one that may go only what it has.
        let alone = format!("| wal 1:900-950 1:1000-1010 | failed 9h begin:940 | {hand}");
        assert_eq!(steps(&alone), "");
        let none = format!("| wal 1:900-950 | {hand}");
        assert_eq!(steps(&none), "");
        let two = "retention=1x | wal 1:940-950 1:1000-1010 | done 9h begin:1000 \
                   | done 3d begin:940";
        let goes = format!("{two} | {hand}");
        assert!(!steps(&goes).contains("archive WAL"), "{}", steps(&goes));
        let stays = goes.replace("retention=1x", "retention=2x");
        assert_eq!(
            steps(&stays),
            "archive WAL of 49: missing, and still in pg_wal"
        );
        // Its first segments make a damaged backup good again.
        let damaged = format!("| wal 1:905-1010 | done 9h begin:902 | {hand}");
        assert_eq!(
            steps(&damaged),
            "archive WAL of 3: missing, and still in pg_wal"
        );
        let foreign = format!("| wal 1:905-1010 | done 9h begin:902 sys:2 | {hand}");
        assert!(!steps(&foreign).contains("archive WAL"));
    }

    #[test]
    fn what_is_missing_is_archived_again_along_the_ancestry() {
        let promoted = "| wal 1:900-1001 2:1005-1010 | history 2:1@1004 | done 9h \
                        | postgres tl:2 archived:1010 hand:1:900-1010 hand:2:1004-1010";
        assert_eq!(
            steps(promoted),
            "archive WAL of 3: missing, and still in pg_wal"
        );
        // A backup of the branch that was left reaches nothing of it.
        let left = "| wal 1:900-1008 2:1004-1010 | history 2:1@1004 | done 9h begin:1006 \
                    | postgres tl:2 archived:1010 hand:2:1004-1010";
        assert_eq!(steps(left), "");
        let left = left.replace("2:1004-1010 | history", "2:1009-1010 | history");
        assert_eq!(steps(&left), "");
        assert_eq!(steps(&left.replace("begin:1006", "begin:1004")), "");
        let at_switch = left.replace("begin:1006", "begin:1003");
        assert_eq!(
            steps(&at_switch),
            "archive WAL of 5: missing, and still in pg_wal"
        );
    }

    #[test]
    fn who_looks_only_or_does_not_look_archives_nothing_again() {
        let lost = "| wal 1:900-1002 1:1004-1010 | done 9h | postgres hand:1:1000-1010";
        assert_eq!(steps(&format!("check=off {lost}")), "");
        let observing = format!("mode=observe {lost}");
        assert_eq!(steps(&observing), "");
        assert!(
            waits(&observing).contains("archive WAL"),
            "{}",
            waits(&observing)
        );
        assert_eq!(
            stands(&observing),
            "stalled: WAL gap of 1 from 0000000100000003000000EB"
        );
        assert_eq!(
            steps(&format!("{lost} | lose server")),
            "",
            "nobody knows what it has"
        );
    }

    #[test]
    fn a_long_gap_is_closed_in_parts() {
        let lost = "| wal 1:900-902 1:1300-1301 | done 9h begin:900 \
                    | postgres archived:1301 hand:1:900-1301";
        assert_eq!(
            steps(lost),
            "archive WAL of 256: missing, and still in pg_wal"
        );
    }
}
