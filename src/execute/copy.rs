//! Copies backups and WAL from one destination to another, object by object.
//!
//! A backup's WAL goes first, then its archives and what else lies beside them, then its keep and what barkeep noted about it; all of it is
//! looked at again, and `backup.info` goes last. So whatever interrupts a copy, no reader takes it for a backup, and the next activation
//! brings what is missing: what is there already is not sent again. Nothing is ever written over something else.
//!
//! Every byte is checked on both ways: the source's checksum when it is read, the target's when it is written. In memory are at most
//! [`WAL_PARALLEL`] objects of [`object::WHOLE_MAX`], or the parts of one archive that are under way.

use std::{collections::BTreeSet, fmt};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use self::object::Route;
use super::base_backup;
use crate::{
    failure::Kind,
    format::keys::{self, BaseObject, ObjectKey, OwnObject},
    model::{
        action::WalSpan,
        backup::{Backup, BackupId},
        catalog::Run,
        desired::Overwriting,
        timeline::TimelineId,
        wal::{SegmentName, SegmentNumber, SegmentSize, WalFile},
        zone::Zone,
    },
    pipeline::throttle::Throttle,
    store::{Archive, ArchiveError, Error as StoreError, ObjectMeta, PutMode},
};

pub(super) mod object;
#[cfg(test)]
mod tests;

/// How many objects of WAL are copied at once.
const WAL_PARALLEL: usize = 4;

/// From where to where, and how.
pub(super) struct Copying<'a> {
    pub(super) source: &'a Archive,
    pub(super) target: &'a Archive,
    /// The size of the parts in which long objects are sent.
    pub(super) part_bytes: u64,
    /// The target's limit on bandwidth.
    pub(super) throttle: Option<Throttle>,
    pub(super) cancel: &'a CancellationToken,
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The backup.
    pub backup: BackupId,
    /// How many objects were sent; what was there already is not among them.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl fmt::Display for Copied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            backup,
            objects,
            bytes,
        } = self;
        let size = crate::plan::render::Bytes(*bytes);
        write!(formatter, "copy {backup}, {objects} objects, {size}")
    }
}

/// Why something was not copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read or written.
    #[error("cannot copy {what}")]
    Copy {
        /// The backup or the WAL.
        what: String,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// The record of a backup could not be read or written.
    #[error("cannot copy the record of {backup}")]
    Record {
        /// The backup.
        backup: BackupId,
        /// Why.
        #[source]
        source: ArchiveError,
    },
    /// What an incremental backup builds on cannot be told in the destination.
    #[error("cannot copy {backup} after what it builds on")]
    Chain {
        /// The backup.
        backup: BackupId,
        /// Why not.
        #[source]
        source: Box<base_backup::Error>,
    },
    /// The record does not say which WAL the backup needs, or that needs something else.
    #[error("the record of {0} does not say what it needs")]
    Unspecified(BackupId),
    /// The backup is not what it was when the plan was made.
    #[error("backup {0} has changed since the plan was made")]
    Changed(BackupId),
    /// The target holds something else under the same name.
    #[error("`{0}` is another object in the destination")]
    Differs(String),
    /// WAL that the backup needs is not where it is copied from.
    #[error("WAL {0} is not there to be copied")]
    NoWal(SegmentName),
    /// It was stopped.
    #[error("interrupted; the next activation goes on")]
    Interrupted,
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Copy { source, .. } => source.kind(),
            Self::Record { source, .. } => source.kind(),
            Self::Chain { source, .. } => source.kind(),
            Self::Unspecified(_) | Self::Differs(_) => Kind::Failed,
            Self::Changed(_) => Kind::Refused,
            Self::NoWal(_) => Kind::NotFound,
            Self::Interrupted => Kind::Interrupted,
        }
    }
}

/// Copies a backup as it was judged.
pub(super) async fn backup(
    copying: &Copying<'_>,
    id: &BackupId,
    version: &str,
) -> Result<Copied, Error> {
    let record = |source| Error::Record {
        backup: id.clone(),
        source,
    };
    let info = copying.source.read_info(id).await.map_err(record)?;
    let Some(info) = info.filter(|info| info.version.0 == version) else {
        return Err(Error::Changed(id.clone()));
    };
    let described = info
        .info
        .to_backup(id.clone(), Vec::new(), None, &Zone::utc());
    let described = described.map_err(|_| Error::Unspecified(id.clone()))?;
    let route = Route::new(copying);
    let mut sent = Sent::default();
    needed_wal(copying, &route, &described, &mut sent).await?;
    let what = id.to_string();
    let failed = |source| Error::Copy {
        what: what.clone(),
        source,
    };
    let directory = keys::backup_directory(id);
    let objects = copying.source.objects(&directory).await.map_err(failed)?;
    let (keep, data): (Vec<_>, Vec<_>) = objects
        .into_iter()
        .filter(|meta| kind(copying, meta) != Some(BaseObject::Info))
        .partition(|meta| kind(copying, meta) == Some(BaseObject::Keep));
    let keep = match copying.target.overwriting() {
        Overwriting::Allowed => keep_to_copy(&route, keep).await.map_err(failed)?,
        // Where nothing is written twice, a keep could never be released.
        Overwriting::Forbidden => Vec::new(),
    };
    let notes = notes(copying, id).await.map_err(failed)?;
    for meta in data.iter().chain(&keep).chain(&notes) {
        sent.add(object::copy(&route, meta, &what).await?);
    }
    check(copying, &directory, data.iter().chain(&keep), &what).await?;
    if let Some(parent) = &described.parent {
        match base_backup::link(copying.target, parent, id).await {
            // The child names its parent, too; only whoever does not read that would delete the one without the other.
            Err(error) if error.is_locked() => {
                tracing::warn!(backup = %id, %parent, "what it builds on is locked and does not name it");
            }
            linked => linked.map_err(|source| Error::Chain {
                backup: id.clone(),
                source: Box::new(source),
            })?,
        }
    }
    finish(copying, id, version).await?;
    Ok(Copied {
        backup: id.clone(),
        objects: sent.objects + 1,
        bytes: sent.bytes,
    })
}

/// What was sent so far.
#[derive(Default)]
struct Sent {
    objects: u64,
    bytes: u64,
}

impl Sent {
    fn add(&mut self, bytes: Option<u64>) {
        self.objects += u64::from(bytes.is_some());
        self.bytes += bytes.unwrap_or_default();
    }
}

fn kind(copying: &Copying<'_>, meta: &ObjectMeta) -> Option<BaseObject> {
    match copying.source.parse(&meta.key)? {
        ObjectKey::Base(_, object) => Some(object),
        _ => None,
    }
}

/// The keep, unless the target has one of its own: from an earlier try, before it was changed in the source, or from people.
async fn keep_to_copy(
    route: &Route<'_>,
    keep: Vec<ObjectMeta>,
) -> Result<Vec<ObjectMeta>, StoreError> {
    let mut wanted = Vec::new();
    for meta in keep {
        if !route.has_another(&meta).await? {
            wanted.push(meta);
        }
    }
    Ok(wanted)
}

/// The WAL from a backup's beginning to its end, with the histories of its timelines. All of it must be there.
async fn needed_wal(
    copying: &Copying<'_>,
    route: &Route<'_>,
    backup: &Backup,
    sent: &mut Sent,
) -> Result<(), Error> {
    let (Some(begin), Some(end)) = (backup.begin_wal, backup.end_wal) else {
        return Err(Error::Unspecified(backup.id.clone()));
    };
    let size = backup.segment_size;
    let run = Run {
        first: begin.number(size),
        last: end.number(size),
    };
    let timelines = BTreeSet::from([begin.timeline, end.timeline]);
    let mut found = BTreeSet::new();
    for timeline in timelines {
        history(copying, route, timeline, sent).await?;
        found.extend(segments(route, copying, WalSpan { timeline, run }, size, sent).await?);
    }
    let mut next = run.first;
    while next <= run.last {
        if !found.contains(&next) {
            return Err(Error::NoWal(next.name(end.timeline, size)));
        }
        next = next.next();
    }
    Ok(())
}

/// WAL to copy, as it was judged.
pub(super) struct Wanted<'a> {
    pub(super) spans: &'a [WalSpan],
    pub(super) histories: &'a [TimelineId],
    pub(super) size: SegmentSize,
}

/// Copies WAL.
pub(super) async fn wal(copying: &Copying<'_>, wanted: &Wanted<'_>) -> Result<(), Error> {
    let route = Route::new(copying);
    let mut sent = Sent::default();
    for timeline in wanted.histories {
        history(copying, &route, *timeline, &mut sent).await?;
    }
    for span in wanted.spans {
        segments(&route, copying, *span, wanted.size, &mut sent).await?;
    }
    Ok(())
}

/// Copies a timeline's history, if there is one.
async fn history(
    copying: &Copying<'_>,
    route: &Route<'_>,
    timeline: TimelineId,
    sent: &mut Sent,
) -> Result<(), Error> {
    let what = format!("the history of timeline {timeline}");
    let stem = keys::wal_stem(WalFile::History(timeline));
    let objects = copying.source.objects(&stem).await;
    let objects = objects.map_err(|source| Error::Copy {
        what: what.clone(),
        source,
    })?;
    for meta in &objects {
        sent.add(object::copy(route, meta, &what).await?);
    }
    Ok(())
}

/// Copies segments, several at once. Returns those that are whole.
async fn segments(
    route: &Route<'_>,
    copying: &Copying<'_>,
    span: WalSpan,
    size: SegmentSize,
    sent: &mut Sent,
) -> Result<BTreeSet<SegmentNumber>, Error> {
    let what = format!("WAL of timeline {}", span.timeline);
    let failed = |source| Error::Copy {
        what: what.clone(),
        source,
    };
    let objects = copying.source.segments(span.timeline, span.run, size);
    let copies = objects.map_err(failed).map(|meta| {
        let what = &what;
        async move {
            let meta = meta?;
            let bytes = object::copy(route, &meta, what).await?;
            Ok::<_, Error>((whole(copying, &meta, size), bytes))
        }
    });
    let mut copies = std::pin::pin!(copies.buffered(WAL_PARALLEL));
    let mut found = BTreeSet::new();
    while let Some((segment, bytes)) = copies.try_next().await? {
        found.extend(segment);
        sent.add(bytes);
    }
    Ok(found)
}

fn whole(copying: &Copying<'_>, meta: &ObjectMeta, size: SegmentSize) -> Option<SegmentNumber> {
    match copying.source.parse(&meta.key)? {
        ObjectKey::Wal(object) => match object.file {
            WalFile::Segment(name) => Some(name.number(size)),
            _ => None,
        },
        _ => None,
    }
}

/// What barkeep noted about a backup and a reader of the copy must know: who keeps it, and what is damaged in it.
async fn notes(copying: &Copying<'_>, id: &BackupId) -> Result<Vec<ObjectMeta>, StoreError> {
    let notes = [
        OwnObject::Keep(id.clone()),
        OwnObject::Evidence(format!("{id}/pages")),
        OwnObject::Evidence(format!("{id}/archives")),
        OwnObject::Manifest(id.clone()),
    ];
    let heads = stream::iter(notes).then(|note| async move {
        let is_keep = matches!(note, OwnObject::Keep(_));
        let note = ObjectKey::Own(note);
        // Who keeps it in the target is known there.
        if is_keep && copying.target.head(&note).await?.is_some() {
            return Ok(None);
        }
        let head = copying.source.head(&note).await?;
        Ok::<_, StoreError>(head.map(|head| head.meta))
    });
    heads
        .try_filter_map(|meta| std::future::ready(Ok(meta)))
        .try_collect()
        .await
}

/// Looks at the target again: everything is there, with its size.
async fn check(
    copying: &Copying<'_>,
    directory: &str,
    expected: impl Iterator<Item = &ObjectMeta>,
    what: &str,
) -> Result<(), Error> {
    let there = copying.target.objects(directory).await;
    let there = there.map_err(|source| Error::Copy {
        what: what.to_owned(),
        source,
    })?;
    for meta in expected {
        let same = |other: &&ObjectMeta| other.key == meta.key && other.size == meta.size;
        if there.iter().find(same).is_none() {
            return Err(Error::Differs(meta.key.to_string()));
        }
    }
    Ok(())
}

/// Writes `backup.info`, if it is still what was judged.
async fn finish(copying: &Copying<'_>, id: &BackupId, version: &str) -> Result<(), Error> {
    if copying.cancel.is_cancelled() {
        return Err(Error::Interrupted);
    }
    let object = ObjectKey::info(id);
    let failed = |source| Error::Copy {
        what: id.to_string(),
        source,
    };
    let content = match copying.source.read(&object).await.map_err(failed)? {
        Some((content, found)) if found.0 == version => content,
        _ => return Err(Error::Changed(id.clone())),
    };
    let written = copying
        .target
        .write(&object, content.clone(), PutMode::Create);
    match written.await {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => {
            let there = copying.target.read(&object).await.map_err(failed)?;
            match there {
                Some((there, _)) if there == content => Ok(()),
                _ => Err(Error::Differs(object.to_string())),
            }
        }
        Err(error) => Err(failed(error)),
    }
}
