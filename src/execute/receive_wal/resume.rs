//! Where receiving begins: after what is safe already, at the beginning of a segment, on the way to the server's timeline.

use super::{Error, desk::Desk};
use crate::{
    execute::archive_wal::{ArchiveTarget, newest_archived},
    model::{
        timeline::{Position, TimelineHistory},
        wal::{SegmentName, SegmentSize},
    },
    postgres::replication::SystemIdentity,
};

/// The server that is received from.
pub(super) struct Source {
    pub(super) identity: SystemIdentity,
    pub(super) size: SegmentSize,
    pub(super) history: TimelineHistory,
    /// The first position that the slot keeps.
    pub(super) kept: Option<Position>,
}

impl Source {
    /// The beginning of the segment that the server keeps for certain.
    pub(super) fn certain(&self) -> Position {
        let present = Position {
            timeline: self.identity.timeline,
            lsn: self.identity.position,
        };
        let kept = self.kept.and_then(|kept| self.along(kept));
        kept.unwrap_or(present).segment_start(self.size)
    }

    /// Where what follows a position is to be found: on its own timeline, or where that was left before, on the next one.
    ///
    /// `None` if the server's timeline does not come from there.
    fn along(&self, mut at: Position) -> Option<Position> {
        let branches = &self.history.branches;
        loop {
            if at.lsn < self.history.left_at(at.timeline)? {
                return Some(at);
            }
            let left = branches
                .iter()
                .position(|branch| branch.timeline == at.timeline)?;
            let next = branches.get(left + 1).map(|branch| branch.timeline);
            at = Position {
                lsn: branches[left].switch,
                timeline: next.unwrap_or(self.history.timeline),
            }
            .segment_start(self.size);
        }
    }

    fn start(&self, segment: SegmentName) -> Position {
        Position {
            lsn: segment.number(self.size).start(self.size),
            timeline: segment.timeline,
        }
    }

    fn after(&self, segment: SegmentName) -> Position {
        Position {
            lsn: segment.number(self.size).next().start(self.size),
            timeline: segment.timeline,
        }
    }
}

impl Desk<'_> {
    /// Where receiving begins.
    ///
    /// After what lies on the disk, or was received before; else after what every destination has, but not after what the slot keeps: as
    /// long as it keeps it, nobody has said that it is safe.
    pub(super) async fn begin_at(&self, source: &Source) -> Result<Position, Error> {
        if let Some(at) = self.local(source).and_then(|at| source.along(at)) {
            return Ok(at);
        }
        let mut at = source.certain();
        for target in &self.bench.targets {
            let after = match stored(target, source).await {
                // A spool takes what comes also while nobody else does.
                Err(_) if self.is_durable() => None,
                after => after?,
            };
            at = after.filter(|after| after.is_before(at)).unwrap_or(at);
        }
        Ok(at)
    }

    fn local(&self, source: &Source) -> Option<Position> {
        let before = self.read(|state| state.received);
        let before = before.map(|received| received.segment_start(source.size));
        let begun = self.begun().map(|segment| source.start(segment));
        let whole = self.last_whole().map(|segment| source.after(segment));
        before.or(begun).or(whole)
    }
}

/// The end of what a destination has.
async fn stored(target: &ArchiveTarget, source: &Source) -> Result<Option<Position>, Error> {
    let newest = newest_archived(target).await?;
    let mut after = newest.into_iter().map(|segment| source.after(segment));
    Ok(after.find_map(|at| source.along(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        timeline::{Branch, TimelineId},
        wal::{Lsn, SystemId},
    };

    fn position(timeline: u32, lsn: &str) -> Position {
        Position {
            timeline: TimelineId::new(timeline).expect("not zero"),
            lsn: lsn.parse().expect("a position"),
        }
    }

    /// A server on timeline 3: 2 was left within segment 5, 1 exactly where segment 3 begins.
    fn source(kept: Option<Position>) -> Source {
        let branch = |timeline, switch: &str| Branch {
            timeline: TimelineId::new(timeline).expect("not zero"),
            switch: switch.parse().expect("a position"),
            reason: String::new(),
        };
        let timeline = TimelineId::new(3).expect("not zero");
        Source {
            identity: SystemIdentity {
                system_id: SystemId(7),
                timeline,
                position: Lsn(0x0780_0000),
            },
            size: SegmentSize::DEFAULT,
            history: TimelineHistory {
                timeline,
                branches: vec![branch(1, "0/3000000"), branch(2, "0/5000100")],
            },
            kept,
        }
    }

    #[test]
    fn what_follows_lies_on_the_next_timeline_where_one_was_left() {
        for (at, expected) in [
            ((1, "0/2000000"), Some((1, "0/2000000"))),
            ((1, "0/3000000"), Some((2, "0/3000000"))),
            ((1, "0/6000000"), Some((2, "0/3000000"))),
            ((2, "0/5000000"), Some((2, "0/5000000"))),
            ((2, "0/5000100"), Some((3, "0/5000000"))),
            ((3, "0/9000000"), Some((3, "0/9000000"))),
            ((4, "0/2000000"), None),
        ] {
            let along = source(None).along(position(at.0, at.1));
            let expected = expected.map(|(timeline, lsn)| position(timeline, lsn));
            assert_eq!(along, expected, "{at:?}");
        }
    }

    #[test]
    fn what_the_slot_keeps_is_certain_and_else_the_present() {
        let kept = source(Some(position(2, "0/4000028"))).certain();
        assert_eq!(kept, position(2, "0/4000000"));
        let foreign = source(Some(position(4, "0/4000028"))).certain();
        assert_eq!(foreign, position(3, "0/7000000"));
        assert_eq!(source(None).certain(), position(3, "0/7000000"));
    }
}
