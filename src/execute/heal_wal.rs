//! Brings WAL back that a destination has lost, from the `pg_wal` of the server that was asked.
//!
//! It is archived like any other, by the same rules: only what its header says it is, only of the cluster that the destination is pinned to,
//! and never over anything. What has gone from `pg_wal` meanwhile is an error; the next activation sees that it is gone.

use std::slice;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Error, Workshop,
    archive_wal::{self, ArchiveOptions, ArchiveTarget, Backlog, Requirement, archive_wal},
};
use crate::{
    model::{
        action::WalSpan,
        compression::{Codec, Level},
        desired::Entry,
        time::Timestamp,
        wal::{SegmentName, SegmentNumber},
    },
    plan::Step,
    store::{Archive, Tags},
};

/// How many segments are archived at once.
const PARALLEL: usize = 2;

/// Archives the segments of some spans, in their order.
pub(super) async fn heal(
    step: &Step,
    archive: &Archive,
    spans: &[WalSpan],
    workshop: &Workshop<'_>,
) -> Result<(), Error> {
    let entry = workshop.server.entry(&step.destination);
    let facts = workshop.observed.postgres.known();
    let (Some(entry), Some(facts)) = (entry, facts) else {
        return Err(Error::NotOpen(step.destination.clone()));
    };
    let configured = workshop.server.pgdata.as_ref();
    let pg_wal = configured.unwrap_or(&facts.data_directory).join("pg_wal");
    let target = ArchiveTarget {
        destination: step.destination.clone(),
        archive: archive.clone(),
        requirement: Requirement::Required,
        // For histories, which are not brought back.
        history_tags: Tags::Configured,
    };
    let options = options(entry, workshop.clock.now());
    let names = spans.iter().flat_map(|span| {
        let numbers = span.run.first.0..=span.run.last.0;
        numbers.map(|number| SegmentNumber(number).name(span.timeline, facts.segment_size))
    });
    let one = async |name: SegmentName| {
        let path = pg_wal.join(name.to_string());
        archive_wal(&path, slice::from_ref(&target), &options).await
    };
    let mut all = stream::iter(names).map(one).buffered(PARALLEL);
    while let Some(archived) = all.try_next().await.map_err(not_archived)? {
        for warning in archived.warnings {
            tracing::warn!(file = %archived.file, "{warning}");
        }
    }
    Ok(())
}

/// As the entry has WAL archived. Whatever it says, headers are checked.
fn options(entry: &Entry, now: Timestamp) -> ArchiveOptions {
    let wal = &entry.wal;
    let codec = Codec::for_wal(wal.compression, wal.level.map(Level::Exact));
    let codec = codec.expect("a configuration holds only levels that its codec has");
    ArchiveOptions {
        backlog: Backlog::NONE,
        ..ArchiveOptions::new(codec, now)
    }
}

fn not_archived(source: archive_wal::Error) -> Error {
    Error::ArchiveWal {
        source: Box::new(source),
    }
}
