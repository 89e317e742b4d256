//! Timeline histories and backup history files: PostgreSQL's own small texts in the WAL archive.
//!
//! A timeline history (`0000000A.history`) has one line per ancestor: its number, where it was
//! left, why. PostgreSQL skips blank lines and lines beginning with `#`, separates by any white
//! space, and wants ancestors ascending and below the timeline itself. A backup history file
//! (`….00000028.backup`) has `NAME: value` lines, of which only the two positions matter here.
//! Format: PostgreSQL's `timeline.c` and `xlogbackup.c`.

use crate::{
    failure::Kind,
    model::{
        timeline::{Branch, TimelineHistory, TimelineId},
        wal::{Lsn, SegmentName},
    },
};

/// Why a history cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no UTF-8.
    #[error("cannot read the history of timeline {timeline} as text")]
    Text {
        /// The timeline.
        timeline: TimelineId,
        /// Where it stops being text.
        #[source]
        source: std::str::Utf8Error,
    },
    /// A line does not hold a timeline and a position.
    #[error("cannot read `{line}` in the history of timeline {timeline}")]
    Line {
        /// The timeline.
        timeline: TimelineId,
        /// The line.
        line: String,
    },
    /// An ancestor is not above the one before it and below the timeline.
    #[error("ancestor {ancestor} is out of order in the history of timeline {timeline}")]
    Order {
        /// The timeline.
        timeline: TimelineId,
        /// The ancestor.
        ancestor: TimelineId,
    },
    /// A backup history file without its positions.
    #[error("a backup history file lacks `{field}`")]
    BackupField {
        /// The line that is missing or broken.
        field: &'static str,
    },
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        Kind::Failed
    }
}

/// Reads the history of a timeline.
pub fn parse(timeline: TimelineId, content: &[u8]) -> Result<TimelineHistory, Error> {
    let text = std::str::from_utf8(content).map_err(|source| Error::Text { timeline, source })?;
    let mut branches: Vec<Branch> = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let branch = branch(line).ok_or_else(|| Error::Line {
            timeline,
            line: line.to_owned(),
        })?;
        let above = branches
            .last()
            .is_none_or(|last| last.timeline < branch.timeline);
        if !above || branch.timeline >= timeline {
            return Err(Error::Order {
                timeline,
                ancestor: branch.timeline,
            });
        }
        branches.push(branch);
    }
    Ok(TimelineHistory { timeline, branches })
}

/// Writes a history as PostgreSQL does: tabs between the fields.
pub fn render(history: &TimelineHistory) -> String {
    let line = |branch: &Branch| {
        let number = branch.timeline.number();
        format!("{number}\t{}\t{}\n", branch.switch, branch.reason)
    };
    history.branches.iter().map(line).collect()
}

fn branch(line: &str) -> Option<Branch> {
    let (number, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (switch, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Some(Branch {
        timeline: TimelineId::new(number.parse().ok()?)?,
        switch: switch.parse().ok()?,
        reason: reason.trim().to_owned(),
    })
}

/// What a backup history file says about its backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupHistory {
    /// Where recovery starts.
    pub start: Lsn,
    /// The first segment that a restore needs.
    pub start_wal: SegmentName,
    /// Where the backup becomes consistent.
    pub stop: Lsn,
    /// The last segment that makes it consistent.
    pub stop_wal: SegmentName,
    /// The label that the backup was started with.
    pub label: Option<String>,
}

impl BackupHistory {
    /// Reads a backup history file.
    pub fn parse(content: &[u8]) -> Result<Self, Error> {
        // The label may hold bytes of any encoding; the positions are ASCII.
        let text = String::from_utf8_lossy(content);
        let value = |field: &str| {
            let lines = text.lines();
            let mut values = lines.filter_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
            values.next().map(str::trim_end)
        };
        let position = |field| {
            let position = value(field).and_then(position_and_file);
            position.ok_or(Error::BackupField { field })
        };
        let (start, start_wal) = position("START WAL LOCATION")?;
        let (stop, stop_wal) = position("STOP WAL LOCATION")?;
        let label = value("LABEL").map(str::to_owned);
        Ok(Self {
            start,
            start_wal,
            stop,
            stop_wal,
            label,
        })
    }
}

/// Reads `0/3000028 (file 000000010000000000000003)`.
fn position_and_file(text: &str) -> Option<(Lsn, SegmentName)> {
    let (lsn, file) = text.split_once(" (file ")?;
    Some((lsn.parse().ok()?, file.strip_suffix(')')?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn third(text: &str) -> Result<TimelineHistory, String> {
        let timeline = TimelineId::new(3).expect("not zero");
        parse(timeline, text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_history_is_written_again_as_it_was() {
        let text = "1\t0/5000100\tno recovery target specified\n\
                    2\t0/7000000\tbefore 2026-11-20 22:43:33.130666+00\n";
        let history = third(text).expect("a history");
        assert_eq!(history.branches.len(), 2);
        assert_eq!(render(&history), text);
    }

    #[test]
    fn comments_blank_lines_and_other_white_space_are_allowed() {
        let history = third("# why\n\n  1 0/5000100   a reason \r\n2\t1/0").expect("a history");
        assert_eq!(render(&history), "1\t0/5000100\ta reason\n2\t1/0\t\n");
    }

    #[test]
    fn a_broken_history_is_refused() {
        for (text, message) in [
            ("1", "cannot read `1` in the history of timeline 00000003"),
            (
                "0\t0/1\t",
                "cannot read `0\t0/1\t` in the history of timeline 00000003",
            ),
            (
                "2\t0/1\t\n1\t0/2\t",
                "ancestor 00000001 is out of order in the history of timeline 00000003",
            ),
            (
                "3\t0/1\t",
                "ancestor 00000003 is out of order in the history of timeline 00000003",
            ),
        ] {
            assert_eq!(third(text).err().as_deref(), Some(message));
        }
    }

    #[test]
    fn a_backup_history_file_tells_both_positions() {
        let text = "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\n\
                    STOP WAL LOCATION: 0/3000100 (file 000000010000000000000003)\n\
                    CHECKPOINT LOCATION: 0/3000060\nLABEL: Barman backup cloud x\n";
        let history = BackupHistory::parse(text.as_bytes()).expect("a backup history");
        assert_eq!(history.stop, Lsn(0x0300_0100));
        assert_eq!(history.start_wal.to_string(), "000000010000000000000003");
        assert_eq!(history.label.as_deref(), Some("Barman backup cloud x"));
        let broken = BackupHistory::parse(b"START WAL LOCATION: 0/3000028\n");
        assert_eq!(broken.as_ref().map_err(Error::kind), Err(Kind::Failed));
        assert_eq!(
            broken,
            Err(Error::BackupField {
                field: "START WAL LOCATION"
            })
        );
    }

    proptest! {
        #[test]
        fn histories_round_trip(
            ancestors in prop::collection::btree_map(1_u32..1_000_000, any::<u64>(), 0..6),
            reason in "[!-~]([ -~]{0,20}[!-~])?",
        ) {
            let branches = ancestors.into_iter().filter_map(|(number, switch)| Some(Branch {
                timeline: TimelineId::new(number)?,
                switch: Lsn(switch),
                reason: reason.clone(),
            }));
            let timeline = TimelineId::new(1_000_000).expect("not zero");
            let history = TimelineHistory { timeline, branches: branches.collect() };
            prop_assert_eq!(parse(timeline, render(&history).as_bytes()), Ok(history));
        }
    }
}
