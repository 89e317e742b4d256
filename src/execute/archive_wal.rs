//! Archiving WAL, as PostgreSQL asks for it.
//!
//! One call brings one file into every destination that is required, and answers only when it is durable there. What is stored
//! under a name never changes: the same content again is a success, other content is a stop that somebody must hear, and nothing
//! is ever deleted or overwritten (unless the caller asks for Barman's way, [`WalConflict::Overwrite`]). A segment whose header
//! does not fit its name, or that another cluster wrote, goes nowhere.
//!
//! Per destination: one LIST of the file's name under all extensions runs *beside* reading, checking and compressing; the
//! conditional PUT comes *after* it. Were they sent together, an object of other content under another extension would be noticed
//! only when ours lies beside it, and one of the two would have to be deleted to make the archive clear again. What remains is two
//! processes that archive different content with different codecs in the same instant: the conditional PUT cannot see that, the
//! next LIST of the name does.
//!
//! When PostgreSQL is behind, the segments that wait after the asked one are archived in the same call, each leaving a marker that
//! answers for it later (see [`crate::spool`]). They follow the asked one: its answer never depends on theirs.
//!
//! There is no state but the arguments, so a server can hold everything warm. Memory: one file, compressed, per segment under way
//! (at most [`Backlog::parallel`]); of files above 64 MiB, two parts.

use std::{fmt, num::NonZeroUsize, path::Path, time::Duration};

use futures_util::future::join_all;
use tokio::task;

use crate::{
    failure::Kind,
    format::wal_header::ContentCheck,
    model::{
        compression::Codec,
        names::DestinationName,
        semantics::Records,
        time::Timestamp,
        wal::{SystemId, WalFile},
    },
    spool::Spool,
    store::{Archive, Tags},
};

pub mod resolve;

mod backlog;
mod content;
mod deliver;
mod error;
mod identity;
mod prepare;
#[cfg(test)]
mod tests;

pub use backlog::{Places, acknowledges};
pub use error::{Error, Warning};
pub use identity::{WalArchiveCheck, check_wal_archive, newest_archived};

use deliver::Delivery;
use prepare::{Prepared, Purpose};

/// A destination of WAL.
#[derive(Clone, Debug)]
pub struct ArchiveTarget {
    /// Its name, for messages.
    pub destination: DestinationName,
    /// The server's catalog in it.
    pub archive: Archive,
    /// Whether success depends on it.
    pub requirement: Requirement,
    /// The tags of timeline histories there; everything else gets those that the destination is configured with.
    pub history_tags: Tags,
}

impl ArchiveTarget {
    fn place(&self) -> String {
        place(&self.destination, self.archive.store().location())
    }

    fn tags(&self, file: WalFile) -> Tags {
        match file {
            WalFile::History(_) => self.history_tags.clone(),
            WalFile::Segment(_) | WalFile::Partial(_) | WalFile::BackupHistory(..) => {
                Tags::Configured
            }
        }
    }
}

/// Whether archiving succeeds without a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// No.
    Required,
    /// Yes: it is tried beside the required ones, for so long, and what is missing is brought there later.
    Optional(Duration),
}

/// What happens to a file whose name is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalConflict {
    /// Compare: the same content is success, other content stops.
    #[default]
    Compare,
    /// Write over it without looking, as Barman does.
    Overwrite,
}

/// How many waiting segments are archived ahead in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// At most so many; none turns it off.
    pub segments_max: usize,
    /// At once.
    pub parallel: NonZeroUsize,
    /// None is begun after so long, so that PostgreSQL hears an answer.
    pub time_max: Duration,
}

impl Backlog {
    /// Only what was asked for.
    pub const NONE: Self = Self {
        segments_max: 0,
        parallel: NonZeroUsize::MIN,
        time_max: Duration::ZERO,
    };
}

impl Default for Backlog {
    /// One more than there are cores, so that one uploads while the others compress; a minute.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            segments_max: 512,
            parallel: cores
                .saturating_add(1)
                .min(NonZeroUsize::new(9).unwrap_or(cores)),
            time_max: Duration::from_mins(1),
        }
    }
}

/// How to archive.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// How files are compressed.
    pub codec: Codec,
    /// What happens to a file whose name is taken.
    pub conflict: WalConflict,
    /// Whether the cluster's identity is pinned and what collided is put aside.
    pub records: Records,
    /// Whether content is checked.
    pub check: ContentCheck,
    /// What is archived ahead; nothing without a spool.
    pub backlog: Backlog,
    /// The local cache.
    pub spool: Option<Spool>,
    /// The size of the parts in which large files are sent, in bytes.
    pub part_bytes: u64,
    /// The cluster, where it is known: for files that do not say whose they are.
    pub system_id: Option<SystemId>,
    /// The present instant, which a new identity is dated with.
    pub now: Timestamp,
}

impl ArchiveOptions {
    /// Everything on, no spool.
    pub fn new(codec: Codec, now: Timestamp) -> Self {
        Self {
            codec,
            conflict: WalConflict::Compare,
            records: Records::Written,
            check: ContentCheck::On,
            backlog: Backlog::default(),
            spool: None,
            part_bytes: 8 << 20,
            system_id: None,
            now,
        }
    }
}

/// A file that is durable in every required destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The file.
    pub file: WalFile,
    /// How it got there.
    pub how: How,
    /// How many waiting segments were archived ahead.
    pub ahead: usize,
    /// What the caller should tell.
    pub warnings: Vec<Warning>,
}

/// How a file came to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By this call, in at least one destination.
    Stored,
    /// It was there already, with the same content.
    AlreadyThere,
    /// A `.partial` of other content is there, and stays.
    FirstKept,
}

/// Archives one file, and what waits after it. Whoever has a spool asks first whether a marker [acknowledges] it.
///
/// `path` is the file in `pg_wal`, best absolute: markers belong to its directory.
pub async fn archive_wal(
    path: &Path,
    targets: &[ArchiveTarget],
    options: &ArchiveOptions,
) -> Result<Archived, Error> {
    let file = file_of(path)?;
    let is_required = |target: &&ArchiveTarget| target.requirement == Requirement::Required;
    if targets.iter().find(is_required).is_none() {
        return Err(Error::NoTarget { file });
    }
    let one = archive_one((path, file), Purpose::Asked, targets, options).await?;
    let ahead = backlog::archive_ahead(path, &one, targets, options).await;
    Ok(Archived {
        file,
        how: one.how,
        ahead: ahead.segments,
        warnings: [one.warnings, ahead.warnings].concat(),
    })
}

/// Makes sure that what lies in a destination is of a cluster, which is pinned if none is. `file` is what is to be stored.
pub async fn claim(
    target: &ArchiveTarget,
    (file, system_id): (WalFile, SystemId),
    options: &ArchiveOptions,
) -> Result<(), Error> {
    let pin = identity::look(target, file, options).await?;
    identity::ensure(target, (file, Some(system_id)), pin, options).await
}

fn file_of(path: &Path) -> Result<WalFile, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.parse().map_err(|source| Error::Name {
        path: path.to_owned(),
        source,
    })
}

/// One file in all destinations.
struct One {
    file: WalFile,
    how: How,
    prepared: Prepared,
    warnings: Vec<Warning>,
}

async fn archive_one(
    (path, file): (&Path, WalFile),
    purpose: Purpose,
    targets: &[ArchiveTarget],
    options: &ArchiveOptions,
) -> Result<One, Error> {
    // What is asked of the destinations before anything is sent overlaps with reading and compressing.
    let preparing = {
        let (path, options) = (path.to_owned(), options.clone());
        blocking(move || prepare::prepare(&path, file, purpose, &options))
    };
    let looking = targets
        .iter()
        .map(|target| bounded(target, file, deliver::look(target, file, options)));
    let (prepared, looked) = tokio::join!(preparing, join_all(looking));
    let prepared = prepared?;
    let sending = targets.iter().zip(looked).map(async |(target, looked)| {
        let sending = deliver::deliver(target, &prepared, looked?, options);
        bounded(target, file, sending).await
    });
    let outcomes = join_all(sending).await;
    let mut warnings: Vec<Warning> = prepared.warning.clone().into_iter().collect();
    let how = settle(targets, outcomes, &mut warnings)?;
    Ok(One {
        file,
        how,
        prepared,
        warnings,
    })
}

/// What tells a destination from others in the local cache.
fn place(destination: &DestinationName, location: impl fmt::Display) -> String {
    format!("{destination} {location}")
}

/// Gives an optional destination no more than its time.
async fn bounded<T>(
    target: &ArchiveTarget,
    file: WalFile,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match target.requirement {
        Requirement::Required => work.await,
        Requirement::Optional(time) => {
            tokio::time::timeout(time, work).await.unwrap_or_else(|_| {
                Err(Error::Slow {
                    destination: target.destination.clone(),
                    file,
                })
            })
        }
    }
}

/// One answer of many: that of the required destinations, the gravest error first.
fn settle(
    targets: &[ArchiveTarget],
    outcomes: Vec<Result<Delivery, Error>>,
    warnings: &mut Vec<Warning>,
) -> Result<How, Error> {
    let mut how = How::AlreadyThere;
    let mut worst: Option<Error> = None;
    for (target, outcome) in targets.iter().zip(outcomes) {
        match (outcome, target.requirement) {
            (Ok(delivery), _) => {
                warnings.extend(delivery.warning);
                if how == How::AlreadyThere {
                    how = delivery.how;
                }
            }
            (Err(error), Requirement::Optional(_)) => warnings.push(Warning::Optional {
                destination: target.destination.clone(),
                failure: error.failure(),
            }),
            (Err(error), Requirement::Required) => {
                let is_grave = |error: &Error| error.kind() != Kind::Unreachable;
                if worst
                    .as_ref()
                    .is_none_or(|worst| !is_grave(worst) && is_grave(&error))
                {
                    worst = Some(error);
                }
            }
        }
    }
    worst.map_or(Ok(how), Err)
}

/// Runs what blocks in a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
