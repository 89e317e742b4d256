//! Delivering WAL, as a recovering PostgreSQL asks for it.
//!
//! A file appears where PostgreSQL wants it whole, checked and durable, or not at all. It is [`Restored::Absent`] only when every
//! destination has proved that it lacks it: PostgreSQL takes absence for the end of the archive and ends its recovery there, so
//! a refusal, a missing bucket, silence or a damaged object is an error, whose exit code ([`exit_code`]) stops a recovery
//! instead of ending it early.
//!
//! Per destination: a GET of the key under the expected extension; on a miss one LIST of the name, which finds any extension and,
//! where wanted, the `.partial` of a timeline that ended. What all of them lack may be delivered as far as it was received, if that is
//! wanted ([`newest`]). After the asked segment is delivered, the following ones are fetched
//! into the local cache, for a second at most; from there a segment is delivered without a request, after the same checks.
//!
//! Memory: a few chunks per download and the decoder's state.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{task, time::Instant};

use crate::{
    failure::{Disposition, Failure},
    format::{
        keys::{ObjectKey, WalObject, wal_stem},
        wal_header::{ContentCheck, SegmentHeader},
    },
    model::{
        compression::Compression,
        names::DestinationName,
        wal::{SegmentName, WalFile},
    },
    postgres::control_file,
    spool::{Fetched, Spool},
    store::{self, Archive},
};

mod error;
mod fetch;
mod newest;
#[cfg(test)]
mod tests;

pub use error::Error;

use fetch::{Expected, fetch};

/// Between two tries, at first; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How many segments are fetched ahead at once.
const AHEAD_PARALLEL: usize = 8;

/// A destination that WAL is read from.
#[derive(Clone, Debug)]
pub struct RestoreSource {
    /// Its name, for messages.
    pub destination: DestinationName,
    /// The server's catalog in it.
    pub archive: Archive,
}

/// What PostgreSQL asks for.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// The file.
    pub file: WalFile,
    /// Where it is wanted.
    pub to: PathBuf,
    /// The data directory that recovers, where it is known: its cluster must be the segment's, and it has a cache of its own.
    pub data_directory: Option<PathBuf>,
}

/// Whether the last, incomplete segment of a timeline is delivered in place of the whole one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partial {
    /// If the whole one is nowhere in that destination.
    #[default]
    Deliver,
    /// The same, and where nobody has either of them, as much of it as was received: from the hot tail or the spool.
    DeliverNewest,
    /// Never.
    Refuse,
}

/// How to deliver.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// How files are compressed, as far as the configuration tells; what was found last counts more. Where nobody knows, the
    /// destination is asked what there is.
    pub compression: Option<Compression>,
    /// Whether `.partial` files are delivered.
    pub partial: Partial,
    /// Whether content is checked.
    pub check: ContentCheck,
    /// How many segments are fetched ahead; none without a spool.
    pub read_ahead: usize,
    /// For how long, after the asked one is delivered.
    pub read_ahead_time: Duration,
    /// The local cache.
    pub spool: Option<Spool>,
    /// Where WAL that was received is kept durably, if that may be on this machine.
    pub received: Option<Spool>,
    /// For how long a destination that does not answer is asked again.
    pub retry_time: Duration,
}

impl RestoreOptions {
    /// Checks on, no cache, no second try.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression: Some(compression),
            partial: Partial::Deliver,
            check: ContentCheck::On,
            read_ahead: 0,
            read_ahead_time: Duration::from_secs(1),
            spool: None,
            received: None,
            retry_time: Duration::ZERO,
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The file is where PostgreSQL wants it.
    Delivered(Delivered),
    /// Every destination has proved that it is not there.
    Absent,
}

/// A file that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Where it came from.
    pub from: From,
    /// What it is: the file that was asked for, or the `.partial` of it.
    pub file: WalFile,
    /// How many segments were fetched ahead.
    pub ahead: usize,
    /// Why destinations that were asked before, or the cache, did not have it.
    pub warnings: Vec<Failure>,
}

/// Where a file came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// The local cache.
    Cache,
    /// The local spool of received WAL.
    Received,
    /// This destination.
    Destination(DestinationName),
}

/// Whether `standby.signal` lies in the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbySignal {
    /// It does: a standby falls back to streaming and asks the archive again later.
    Present,
    /// It does not, or nobody knows.
    Missing,
}

impl StandbySignal {
    /// Looks for it.
    pub fn of(data_directory: &Path) -> Self {
        if data_directory.join("standby.signal").exists() {
            Self::Present
        } else {
            Self::Missing
        }
    }
}

/// The exit code of `barkeep wal-restore`.
///
/// PostgreSQL reads 0 as "delivered" and 1 to 125 as "not in the archive", which ends a recovery. Above 125 it stops with an
/// error, and the recovery can be started again. So whatever is not proven absence is 255, but for a standby 1: it will try
/// streaming and come back.
pub fn exit_code(outcome: &Result<Restored, Error>, standby: StandbySignal) -> u8 {
    match (outcome, standby) {
        (Ok(Restored::Delivered(_)), _) => 0,
        (Ok(Restored::Absent), _) | (Err(_), StandbySignal::Present) => 1,
        (Err(_), StandbySignal::Missing) => 255,
    }
}

/// Delivers one file, and fetches what PostgreSQL will ask for next.
///
/// Destinations are asked in the order given.
pub async fn restore_wal(
    request: &RestoreRequest,
    sources: &[RestoreSource],
    options: &RestoreOptions,
) -> Result<Restored, Error> {
    let delivery = Delivery::new(request, sources, options);
    if sources.is_empty() {
        return Err(Error::NoSource { file: request.file });
    }
    let mut warnings = Vec::new();
    if delivery.deliver_cached(&mut warnings).await? {
        return Ok(Restored::Delivered(Delivered {
            from: From::Cache,
            file: request.file,
            ahead: 0,
            warnings,
        }));
    }
    let Some(found) = delivery.ask_destinations(&mut warnings).await? else {
        let newest = newest::deliver(&delivery).await?;
        return Ok(newest.map_or(Restored::Absent, |(from, file)| {
            Restored::Delivered(Delivered {
                from,
                file,
                ahead: 0,
                warnings,
            })
        }));
    };
    let ahead = delivery.read_ahead(&found).await;
    Ok(Restored::Delivered(Delivered {
        from: From::Destination(found.source.destination.clone()),
        file: found.object.file,
        ahead,
        warnings,
    }))
}

/// One request and all that it needs.
struct Delivery<'a> {
    request: &'a RestoreRequest,
    sources: &'a [RestoreSource],
    options: &'a RestoreOptions,
    cache: Option<Fetched>,
    expected: Expected,
}

/// What was delivered, and from where.
struct Found<'a> {
    source: &'a RestoreSource,
    object: WalObject,
    header: Option<SegmentHeader>,
}

impl<'a> Delivery<'a> {
    fn new(
        request: &'a RestoreRequest,
        sources: &'a [RestoreSource],
        options: &'a RestoreOptions,
    ) -> Self {
        let directory = request.data_directory.as_deref();
        let directory = directory.or(request.to.parent()).unwrap_or(Path::new(""));
        let cache = options
            .spool
            .as_ref()
            .zip(sources.first())
            .map(|(spool, first)| {
                let locations: Vec<&str> = sources
                    .iter()
                    .map(|source| source.archive.store().location())
                    .collect();
                spool.fetched(&locations, first.archive.server(), directory)
            });
        let system_id = request
            .data_directory
            .as_deref()
            .and_then(control_file::system_id_of);
        Self {
            request,
            sources,
            options,
            cache,
            expected: Expected {
                check: options.check,
                system_id,
            },
        }
    }

    /// Delivers from the local cache. A cache that fails is an empty one; only the target can fail.
    async fn deliver_cached(&self, warnings: &mut Vec<Failure>) -> Result<bool, Error> {
        let (WalFile::Segment(segment), Some(cache)) = (self.request.file, &self.cache) else {
            return Ok(false);
        };
        match cache.find(segment) {
            Ok(None) => return Ok(false),
            Ok(Some(_)) => {}
            Err(error) => {
                warnings.push(Failure::of(error.kind(), &error));
                return Ok(false);
            }
        }
        let (cache, expected) = (cache.clone(), self.expected);
        let to = self.request.to.clone();
        blocking(move || fetch::take(&cache, segment, expected, &to)).await
    }

    /// Asks the destinations, again and again while one of them does not answer and there is time.
    async fn ask_destinations(
        &self,
        warnings: &mut Vec<Failure>,
    ) -> Result<Option<Found<'a>>, Error> {
        let until = Instant::now() + self.options.retry_time;
        let mut pause = PAUSE_MIN;
        loop {
            let mut failures = Vec::new();
            let error = match self.try_destinations(&mut failures).await {
                Ok(found) => {
                    warnings.extend(failures);
                    return Ok(found);
                }
                Err(error) => error,
            };
            let may_help = error.disposition() != Disposition::Permanent;
            if !may_help || Instant::now() + pause > until {
                return Err(error);
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "waits for a destination to answer, up to `retry_time`"
            )]
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_destinations(
        &self,
        failures: &mut Vec<Failure>,
    ) -> Result<Option<Found<'a>>, Error> {
        let mut worst: Option<Error> = None;
        for source in self.sources {
            match self.try_destination(source).await {
                Ok(Some(found)) => {
                    failures.extend(worst.iter().map(Error::failure));
                    return Ok(Some(found));
                }
                Ok(None) => {}
                Err(error @ Error::Write { .. }) => return Err(error),
                Err(error) => {
                    // What may pass is told, so that it is tried again.
                    let passes = |error: &Error| error.disposition() != Disposition::Permanent;
                    if worst
                        .as_ref()
                        .is_none_or(|worst| !passes(worst) && passes(&error))
                    {
                        worst = Some(error);
                    }
                }
            }
        }
        worst.map_or(Ok(None), Err)
    }

    /// Delivers from one destination; `None` is proven absence.
    async fn try_destination(&self, source: &'a RestoreSource) -> Result<Option<Found<'a>>, Error> {
        let file = self.request.file;
        let likely = self.likely_compression().filter(|_| self.delivers(file));
        let likely = likely.map(|compression| WalObject { file, compression });
        let mut damaged = None;
        if let Some(likely) = likely {
            match self.try_object(source, likely).await {
                Err(error) if is_damage(&error) => damaged = Some(error),
                Ok(None) => {}
                other => return other,
            }
        }
        for object in self.others(source, likely).await? {
            match self.try_object(source, object).await {
                Err(error) if is_damage(&error) => damaged = damaged.or(Some(error)),
                Ok(None) => {}
                other => return other,
            }
        }
        damaged.map_or(Ok(None), Err)
    }

    fn likely_compression(&self) -> Option<Compression> {
        let cache = self.cache.as_ref();
        // A cache that cannot be read remembers nothing.
        let last = cache.and_then(|cache| cache.compression().ok()?);
        last.or(self.options.compression)
    }

    /// Whether files of this kind are delivered at all, even under their own name.
    fn delivers(&self, file: WalFile) -> bool {
        self.options.partial != Partial::Refuse || !matches!(file, WalFile::Partial(_))
    }

    /// The objects that hold the file under other names: other extensions, then the partial segment.
    async fn others(
        &self,
        source: &RestoreSource,
        tried: Option<WalObject>,
    ) -> Result<Vec<WalObject>, Error> {
        let file = self.request.file;
        let listed = source.archive.objects(&wal_stem(file)).await;
        let listed = listed.map_err(|error| failed(file, source, error))?;
        let partial = match (file, self.options.partial) {
            (WalFile::Segment(name), Partial::Deliver | Partial::DeliverNewest) => {
                Some(WalFile::Partial(name))
            }
            _ => None,
        };
        let holds = |object: &store::ObjectMeta| match source.archive.parse(&object.key) {
            Some(ObjectKey::Wal(object)) if Some(object) != tried => {
                let is_it = object.file == file && self.delivers(file);
                (is_it || Some(object.file) == partial).then_some(object)
            }
            _ => None,
        };
        let mut objects: Vec<WalObject> = listed.iter().filter_map(holds).collect();
        objects.sort_by_key(|object| object.file != file);
        Ok(objects)
    }

    /// Delivers one object; `None` if it is not there.
    async fn try_object(
        &self,
        source: &'a RestoreSource,
        object: WalObject,
    ) -> Result<Option<Found<'a>>, Error> {
        let fetched = fetch(source, object, self.expected, &self.request.to).await?;
        Ok(fetched.map(|header| Found {
            source,
            object,
            header,
        }))
    }

    /// Fetches the segments after the delivered one into the cache and says how many; what goes wrong is left for later.
    async fn read_ahead(&self, found: &Found<'_>) -> usize {
        let (Some(cache), WalFile::Segment(segment), Some(header)) =
            (&self.cache, found.object.file, found.header)
        else {
            return 0;
        };
        // Forgetting it costs a request.
        let _remembered = cache.set_compression(found.object.compression);
        let mut next = Vec::new();
        let mut name = segment;
        for _ in 0..self.options.read_ahead {
            name = name.next(header.segment_size);
            next.push(name);
        }
        let wanted: BTreeSet<SegmentName> = next.iter().copied().collect();
        if next.is_empty() || cache.retain(&wanted).is_err() || cache.directory().is_err() {
            return 0;
        }
        let missing = next
            .into_iter()
            .filter(|name| !matches!(cache.find(*name), Ok(Some(_))));
        let fetching = missing.map(|name| self.fetch_ahead(found, cache, name));
        let mut fetching = stream::iter(fetching).buffered(AHEAD_PARALLEL);
        let mut ahead = 0;
        let until = Instant::now() + self.options.read_ahead_time;
        while let Ok(Some(true)) = tokio::time::timeout_at(until, fetching.next()).await {
            ahead += 1;
        }
        ahead
    }

    /// Whether the segment is in the cache now. That it is not in the destination is remembered nowhere.
    async fn fetch_ahead(&self, found: &Found<'_>, cache: &Fetched, name: SegmentName) -> bool {
        let object = WalObject {
            file: WalFile::Segment(name),
            compression: found.object.compression,
        };
        let fetched = fetch(found.source, object, self.expected, &cache.path(name)).await;
        matches!(fetched, Ok(Some(_)))
    }
}

fn is_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Decompress { .. } | Error::Header { .. } | Error::History { .. }
    )
}

fn failed(file: WalFile, source: &RestoreSource, error: store::Error) -> Error {
    Error::Store {
        file,
        destination: source.destination.clone(),
        source: error,
    }
}

/// Runs what blocks in a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
