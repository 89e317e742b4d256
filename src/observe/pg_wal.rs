//! What a server's `pg_wal` on this host still holds of what was archived: where a gap in an archive can be closed from.
//!
//! A segment counts if it is complete, which those before the server's position are, if nothing says that it waits for the archiver, and if
//! its header says that it is what its name says, of this cluster: files that PostgreSQL will use again keep the content of others.
//! What cannot be read does not count. Blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use crate::{
    format::wal_header::{HEADER_BYTES, SegmentHeader},
    model::{
        action::WalSpan,
        catalog::Run,
        runs::Runs,
        timeline::TimelineId,
        wal::{Lsn, SegmentName, SegmentSize, SystemId},
    },
};

/// A server, as far as its WAL tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer {
    pub(super) system_id: SystemId,
    pub(super) segment_size: SegmentSize,
    pub(super) position: Lsn,
}

/// The segments that could be archived again; none if the directory cannot be read.
pub(super) fn at_hand(pgdata: &Path, writer: Writer) -> Vec<WalSpan> {
    let directory = pgdata.join("pg_wal");
    let Some(waiting) = waiting(&directory) else {
        return Vec::new();
    };
    let size = writer.segment_size;
    let current = writer.position.0 / size.bytes();
    let mut found: BTreeMap<TimelineId, Vec<Run>> = BTreeMap::new();
    for name in names(&directory).into_iter().flatten() {
        let Ok(segment) = name.parse::<SegmentName>() else {
            continue;
        };
        let number = segment.number(size);
        let is_complete = number.0 < current && !waiting.contains(&segment);
        if is_complete && is_of(&directory.join(&name), segment, writer) {
            let (first, last) = (number, number);
            let runs = found.entry(segment.timeline).or_default();
            runs.push(Run { first, last });
        }
    }
    let spans = found.into_iter().flat_map(|(timeline, runs)| {
        let runs: Runs = runs.into_iter().collect();
        let span = |run| WalSpan { timeline, run };
        runs.iter().map(span).collect::<Vec<_>>()
    });
    spans.collect()
}

/// The segments that wait for the archiver.
fn waiting(directory: &Path) -> Option<BTreeSet<SegmentName>> {
    let ready = |name: String| name.strip_suffix(".ready")?.parse().ok();
    let names = names(&directory.join("archive_status"))?;
    Some(names.into_iter().filter_map(ready).collect())
}

fn names(directory: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    Some(names.collect())
}

/// Whether a file holds this segment of this cluster, as far as its beginning and its length tell.
fn is_of(path: &Path, segment: SegmentName, writer: Writer) -> bool {
    let read = || {
        let mut file = File::open(path).ok()?;
        let mut start = [0; HEADER_BYTES];
        file.read_exact(&mut start).ok()?;
        let header = SegmentHeader::parse(&start).ok()?;
        header.check(segment, file.metadata().ok()?.len()).ok()?;
        Some(header)
    };
    read().is_some_and(|header| {
        header.system_id == writer.system_id && header.segment_size == writer.segment_size
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::wal::SegmentNumber;

    const SYSTEM: SystemId = SystemId(7);

    fn size() -> SegmentSize {
        SegmentSize::new(1 << 20).expect("a size")
    }

    fn name(number: u64) -> SegmentName {
        SegmentNumber(number).name(TimelineId::FIRST, size())
    }

    /// The first bytes of a segment, as PostgreSQL 18 writes them.
    fn header(number: u64, system: SystemId) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(0xD118_u16.to_le_bytes());
        bytes.extend(2_u16.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(SegmentNumber(number).start(size()).0.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(system.0.to_le_bytes());
        bytes.extend((1_u32 << 20).to_le_bytes());
        bytes.extend(8192_u32.to_le_bytes());
        bytes
    }

    /// A file of a whole segment with this beginning.
    fn write(pgdata: &Path, number: u64, header: &[u8]) {
        let path = pgdata.join("pg_wal").join(name(number).to_string());
        fs::write(&path, header).expect("a directory that can be written");
        let file = File::options().write(true).open(path).expect("it is there");
        file.set_len(size().bytes()).expect("room for holes");
    }

    fn found(pgdata: &Path) -> Vec<(u64, u64)> {
        let writer = Writer {
            system_id: SYSTEM,
            segment_size: size(),
            position: Lsn(9 * size().bytes() + 100),
        };
        let spans = at_hand(pgdata, writer).into_iter();
        spans
            .map(|span| (span.run.first.0, span.run.last.0))
            .collect()
    }

    #[test]
    fn complete_segments_that_nobody_waits_for_are_at_hand() {
        let pgdata = tempfile::tempdir().expect("a directory");
        let pgdata = pgdata.path();
        assert_eq!(found(pgdata), [], "there is no WAL");
        fs::create_dir_all(pgdata.join("pg_wal/archive_status")).expect("a directory");
        for number in 3..12 {
            write(pgdata, number, &header(number, SYSTEM));
        }
        assert_eq!(found(pgdata), [(3, 8)], "9 is being written");
        let status = |number, word| {
            let file = format!("pg_wal/archive_status/{}.{word}", name(number));
            fs::write(pgdata.join(file), "").expect("a directory that can be written");
        };
        status(4, "done");
        status(6, "ready");
        assert_eq!(found(pgdata), [(3, 5), (7, 8)]);
    }

    #[test]
    fn what_is_not_what_its_name_says_is_not_at_hand() {
        let pgdata = tempfile::tempdir().expect("a directory");
        let pgdata = pgdata.path();
        fs::create_dir_all(pgdata.join("pg_wal/archive_status")).expect("a directory");
        fs::write(pgdata.join("pg_wal/00000002.history"), "1\t0/5\tx\n").expect("a file");
        for number in 3..9 {
            write(pgdata, number, &header(number, SYSTEM));
        }
        write(pgdata, 4, &header(40, SYSTEM));
        write(pgdata, 5, &header(5, SystemId(8)));
        write(pgdata, 6, b"nonsense");
        let short = pgdata.join("pg_wal").join(name(8).to_string());
        fs::write(short, header(8, SYSTEM)).expect("a file");
        assert_eq!(found(pgdata), [(3, 3), (7, 7)]);
        fs::remove_dir(pgdata.join("pg_wal/archive_status")).expect("it is empty");
        assert_eq!(found(pgdata), [], "nobody knows what waits");
    }
}
