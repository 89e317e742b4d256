//! Archiving ahead: the segments that wait behind the asked one, and the markers that answer for them.
//!
//! PostgreSQL asks for one file at a time and starts a process for each. When it is behind, most of that is waiting; so the call
//! that was asked for one segment brings the next ones too, several at once, and the calls that ask for those find markers. A
//! segment is begun only while all before it went well, so that a failure leaves no hole that PostgreSQL would not fill itself.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    ArchiveOptions, ArchiveTarget, Error, One, Purpose, Requirement, Warning, archive_one,
    blocking, file_of, place,
};
use crate::{
    failure::Failure,
    format::wal_header::{HEADER_BYTES, SegmentHeader},
    model::{
        names::DestinationName,
        wal::{SegmentName, WalFile},
    },
    spool::{self, Marker, Markers, Spool},
};

/// What was archived ahead.
#[derive(Default)]
pub(super) struct Ahead {
    pub(super) segments: usize,
    pub(super) warnings: Vec<Warning>,
}

/// Where a file has to be before PostgreSQL is told that it is archived: what a marker answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    server: String,
    each: BTreeSet<String>,
}

impl Places {
    /// Destinations, each with its URL; `server` is the server's name in their catalogs.
    pub fn new<'a, L: fmt::Display>(
        server: &str,
        destinations: impl IntoIterator<Item = (&'a DestinationName, L)>,
    ) -> Self {
        let place = |(name, location)| format!("{} {server}", place(name, location));
        Self {
            each: destinations.into_iter().map(place).collect(),
            server: server.to_owned(),
        }
    }

    /// The required ones of these; `None` where there is no destination at all.
    fn required(targets: &[ArchiveTarget]) -> Option<Self> {
        let required = targets
            .iter()
            .filter(|target| target.requirement == Requirement::Required);
        let each = required.map(|target| (&target.destination, target.archive.store().location()));
        Some(Self::new(targets.first()?.archive.server(), each))
    }

    fn markers(&self, path: &Path, spool: &Spool) -> Option<Markers> {
        Some(spool.markers(&self.server, path.parent()?))
    }
}

/// Whether an earlier call has archived the file in all these places. Needs no destination and sends no request.
///
/// Ask before anything is opened: most calls of an archiver that catches up end here.
pub async fn acknowledges(path: &Path, places: &Places, spool: &Spool) -> Result<bool, Warning> {
    let Ok(WalFile::Segment(segment)) = file_of(path) else {
        return Ok(false);
    };
    let Some(markers) = places.markers(path, spool) else {
        return Ok(false);
    };
    let (path, places) = (path.to_owned(), places.each.clone());
    let answer = blocking(move || {
        let marker = markers.take(segment)?;
        Ok(marker.is_some_and(|marker| {
            places.is_subset(&marker.destinations) && is_of(&marker, &path).unwrap_or(false)
        }))
    });
    answer.await.map_err(|error| warning(&error))
}

fn is_of(marker: &Marker, path: &Path) -> io::Result<bool> {
    if !marker.matches(path)? {
        return Ok(false);
    }
    let mut start = [0; HEADER_BYTES];
    File::open(path)?.read_exact(&mut start)?;
    let header = SegmentHeader::parse(&start);
    Ok(header.is_ok_and(|header| header.system_id == marker.system_id))
}

fn warning(error: &spool::Error) -> Warning {
    Warning::Spool(Failure::of(error.kind(), error))
}

/// Archives the segments that wait after the one that was asked for.
pub(super) async fn archive_ahead(
    path: &Path,
    asked: &One,
    targets: &[ArchiveTarget],
    options: &ArchiveOptions,
) -> Ahead {
    let (WalFile::Segment(segment), Some(_)) = (asked.file, asked.prepared.system_id) else {
        return Ahead::default();
    };
    let (Some(spool), Some(directory)) = (&options.spool, path.parent()) else {
        return Ahead::default();
    };
    let Some(places) = Places::required(targets) else {
        return Ahead::default();
    };
    let Some(markers) = places.markers(path, spool) else {
        return Ahead::default();
    };
    if options.backlog.segments_max == 0 {
        return Ahead::default();
    }
    let waiting = {
        let (directory, markers) = (directory.to_owned(), markers.clone());
        blocking(move || waiting(&directory, segment, &markers))
    };
    let waiting = match waiting.await {
        Ok(waiting) => waiting,
        Err(error) => {
            return Ahead {
                segments: 0,
                warnings: vec![warning(&error)],
            };
        }
    };
    let ahead = Window {
        directory,
        asked,
        targets,
        options,
        places,
        markers,
        is_open: Cell::new(true),
    };
    ahead.archive(waiting).await
}

/// The segments that wait after this one and have no marker yet, in the order of their positions.
///
/// A directory without `archive_status` has nothing waiting.
fn waiting(
    directory: &Path,
    after: SegmentName,
    markers: &Markers,
) -> Result<Vec<SegmentName>, spool::Error> {
    let position = |name: &SegmentName| (name.log, name.segment, name.timeline);
    let ready = |entry: io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        match name.strip_suffix(".ready")?.parse() {
            Ok(WalFile::Segment(name)) => Some(name),
            _ => None,
        }
    };
    let entries = fs::read_dir(directory.join("archive_status"));
    let ready: BTreeSet<SegmentName> = entries.into_iter().flatten().filter_map(ready).collect();
    markers.retain(&ready)?;
    let mut waiting = Vec::new();
    for name in ready {
        if position(&name) > position(&after) && markers.look(name)?.is_none() {
            waiting.push(name);
        }
    }
    waiting.sort_by_key(position);
    Ok(waiting)
}

/// Segments on their way, several at once.
struct Window<'a> {
    directory: &'a Path,
    asked: &'a One,
    targets: &'a [ArchiveTarget],
    options: &'a ArchiveOptions,
    places: Places,
    markers: Markers,
    /// Whether more may be begun.
    is_open: Cell<bool>,
}

impl Window<'_> {
    async fn archive(&self, waiting: Vec<SegmentName>) -> Ahead {
        let backlog = self.options.backlog;
        let until = Instant::now() + backlog.time_max;
        let begun = waiting
            .into_iter()
            .take(backlog.segments_max)
            .take_while(|_| self.is_open.get() && Instant::now() < until)
            .map(async |segment| (segment, self.archive_one(segment).await));
        let mut outcomes = stream::iter(begun).buffered(backlog.parallel.get());
        let mut ahead = Ahead::default();
        while let Some((segment, outcome)) = outcomes.next().await {
            match outcome {
                Ok(warnings) => {
                    ahead.segments += 1;
                    ahead.warnings.extend(warnings);
                }
                Err(failure) => {
                    // What is under way goes on; it leaves markers too.
                    self.is_open.set(false);
                    let file = WalFile::Segment(segment);
                    ahead.warnings.push(Warning::Ahead { file, failure });
                }
            }
        }
        ahead
    }

    async fn archive_one(&self, segment: SegmentName) -> Result<Vec<Warning>, Failure> {
        let path: PathBuf = self.directory.join(segment.to_string());
        let file = WalFile::Segment(segment);
        let named = (path.as_path(), file);
        let one = archive_one(named, Purpose::Ahead, self.targets, self.options).await;
        let one = one.map_err(|error| Error::failure(&error))?;
        let system_id = one
            .prepared
            .system_id
            .filter(|id| self.asked.prepared.system_id == Some(*id));
        let Some(system_id) = system_id else {
            // Archived, but nothing that a marker could vouch for.
            return Ok(one.warnings);
        };
        let marker = Marker {
            destinations: self.places.each.clone(),
            system_id,
            file: one.prepared.stamp,
            crc32c: one
                .prepared
                .content
                .as_ref()
                .and_then(|content| content.crc32c),
        };
        let markers = self.markers.clone();
        let left = blocking(move || markers.leave(segment, &marker)).await;
        left.map_err(|error| Failure::of(error.kind(), &error))?;
        Ok(one.warnings)
    }
}
