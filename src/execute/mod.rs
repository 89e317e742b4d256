//! Carrying out what was decided or asked for.
//!
//! Only a guarded plan is executed, one step after another, in the plan's order; each destructive step checks its own precondition again just
//! before it acts. A step that fails stops the destructive steps of its destination, not those of others. Nothing is retried here: the
//! next activation is the retry.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    failure::Kind,
    model::{
        action::{Action, Effect, WalSpan},
        backup::{ArchiveRoot, Backup, BackupId},
        catalog::Catalog,
        desired::{Entry, ObjectLock, Server},
        lease::LeaseKind,
        lock::{Lock, Locking},
        names::DestinationName,
        observed::Observed,
        reason::Reason,
        record::{Epitaph, KeepRecord, Mark, SetBy},
        semantics::{Goes, LockRule, Records, Semantics},
        snapshot::Access,
        time::Timestamp,
        timeline::TimelineId,
        wal::{SegmentName, SegmentSize},
    },
    pipeline::throttle::Throttle,
    plan::{Step, abandon::Unfinished, guard::Guarded},
    snapshot::Clouds,
    store::{
        Archive, ArchiveError,
        fenced::{Closed, Fence},
    },
};

pub mod archive_wal;
pub mod attempt;
pub mod base_backup;

pub mod copy;
pub mod receive_wal;
pub mod verify;

mod delete;
mod heal_wal;
mod keep;
mod mark;

/// What steps are carried out with.
pub struct Workshop<'a> {
    /// The server.
    pub server: &'a Server,
    /// Its catalogs.
    pub archives: &'a BTreeMap<DestinationName, Archive>,
    /// How fast may be written where there is a limit.
    pub throttles: &'a BTreeMap<DestinationName, Throttle>,
    /// Where something may be deleted, for as long as the fence lets it.
    pub fences: &'a BTreeMap<DestinationName, Arc<dyn Fence>>,
    /// What the plan was made from.
    pub observed: &'a Observed,
    /// What carrying out a step comes to.
    pub semantics: Semantics,
    /// How the clouds are opened that have snapshots of disks.
    pub clouds: &'a dyn Clouds,
    /// In whose name they are asked for what records speak of.
    pub access: &'a Access,
    /// The present.
    pub clock: Clock,
    /// Stops at the next step.
    pub cancel: &'a CancellationToken,
}

impl Workshop<'_> {
    /// The catalog that a step acts on: behind a fence, if it takes a lease to do that.
    fn archive(&self, step: &Step) -> Option<Archive> {
        let archive = self.archives.get(&step.destination)?;
        let is_fenced = step.action.lease() == Some(LeaseKind::Retention);
        // Whoever writes down nothing of its own holds no lease either: a command under Barman's name.
        if !is_fenced || self.semantics.records == Records::None {
            return Some(archive.clone());
        }
        let fence = self.fences.get(&step.destination).cloned();
        Some(archive.fenced(fence.unwrap_or_else(|| Arc::new(Closed))))
    }
}

/// How a step ended.
#[derive(Debug)]
pub struct Outcome {
    /// The step.
    pub step: Step,
    /// Why it failed, if it did.
    pub result: Result<(), Error>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The backup does not exist any more.
    #[error("backup {0} is not in the catalog")]
    NoSuchBackup(BackupId),
    /// Only complete backups can be kept.
    #[error("backup {0} is not complete, so it cannot be kept")]
    NotDone(BackupId),
    /// A keep would have to change one day, and nothing changes there.
    #[error("backup {0} cannot be kept where nothing is written twice")]
    WrittenOnce(BackupId),
    /// Somebody has kept it since it was judged.
    #[error("backup {0} is kept since the plan was made; it stays")]
    Kept(BackupId),
    /// Something of it is locked, or may be.
    #[error("{what} cannot be deleted: {lock}")]
    Locked {
        /// The backup or the WAL.
        what: String,
        /// Until when, or why.
        lock: Lock,
    },
    /// The snapshots that a backup consists of could not be deleted.
    #[error("the snapshots of backup {backup} stay, and so does all of it")]
    Snapshots {
        /// The backup.
        backup: BackupId,
        /// Why.
        source: crate::snapshot::Error,
    },
    /// A snapshot that no backup records could not be deleted.
    #[error("the snapshot `{snapshot}` stays")]
    Snapshot {
        /// The snapshot.
        snapshot: String,
        /// Why.
        source: crate::snapshot::Error,
    },
    /// The right to delete was lost.
    #[error("the right to delete was lost: {0}")]
    RightLost(String),
    /// The record of what is to be deleted could not be read.
    #[error("cannot read which snapshots backup {backup} consists of")]
    Record {
        /// The backup.
        backup: BackupId,
        /// Why.
        source: ArchiveError,
    },
    /// WAL could not be copied.
    #[error(transparent)]
    Copy {
        /// Why.
        source: copy::Error,
    },
    /// WAL that the server still has could not be archived again.
    #[error("what is missing of the WAL was not archived again")]
    ArchiveWal {
        /// Why.
        source: Box<archive_wal::Error>,
    },
    /// It was changed since it was judged.
    #[error("backup {0} has changed since the plan was made; it stays until it is judged again")]
    Changed(BackupId),
    /// A keep could not be set or released.
    #[error("cannot change the keep of {backup}")]
    Keep {
        /// The backup.
        backup: BackupId,
        /// Why.
        source: ArchiveError,
    },
    /// A mark could not be set or withdrawn.
    #[error("cannot change the mark of {backup}")]
    Mark {
        /// The backup.
        backup: BackupId,
        /// Why.
        source: ArchiveError,
    },
    /// A backup has come that may need what would be deleted.
    #[error("backup {0} has appeared since the plan was made; nothing goes until it is judged")]
    Appeared(BackupId),
    /// What was about to be deleted could not be written down.
    #[error("cannot record what is to be deleted, so nothing was")]
    Tombstone {
        /// Why.
        source: Arc<ArchiveError>,
    },
    /// What was about to be deleted could not be looked at again.
    #[error("cannot look at {what} again, so it stays")]
    Look {
        /// What.
        what: String,
        /// Why.
        source: Arc<crate::store::Error>,
    },
    /// Something could not be deleted.
    #[error("cannot delete {what}")]
    Delete {
        /// What.
        what: String,
        /// Why.
        source: crate::store::Error,
    },
    /// What a dead attempt left could not be settled.
    #[error("cannot settle what the attempt of {backup} left")]
    Adopt {
        /// The backup.
        backup: BackupId,
        /// Why.
        source: Box<base_backup::Error>,
    },
    /// WAL that a backup needs is missing again.
    #[error("{0} still waits for WAL {1}")]
    Waiting(BackupId, SegmentName),
    /// The destination could not be opened.
    #[error("the destination `{0}` is not open")]
    NotOpen(DestinationName),
    /// An earlier step in the same destination failed.
    #[error("not tried: an earlier step in `{0}` failed")]
    Skipped(DestinationName),
    /// The operator stopped the work.
    #[error("interrupted before it began")]
    Interrupted,
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSuchBackup(_) => Kind::NotFound,
            Self::NotDone(_)
            | Self::WrittenOnce(_)
            | Self::Kept(_)
            | Self::Locked { .. }
            | Self::Changed(_)
            | Self::Appeared(_) => Kind::Refused,
            Self::Snapshots { source, .. } | Self::Snapshot { source, .. } => source.kind(),
            Self::RightLost(_) => Kind::LeaseHeld,
            Self::Keep { source, .. } | Self::Mark { source, .. } | Self::Record { source, .. } => {
                source.kind()
            }
            Self::Copy { source } => source.kind(),
            Self::ArchiveWal { source } => source.kind(),
            Self::Tombstone { source } => source.kind(),
            Self::Look { source, .. } => source.kind(),
            Self::Delete { source, .. } => source.kind(),
            Self::NotOpen(_) => Kind::Unreachable,
            Self::Adopt { source, .. } => source.kind(),
            Self::Waiting(..) | Self::Skipped(_) => Kind::Partial,
            Self::Interrupted => Kind::Interrupted,
        }
    }
}

/// Carries out the steps of a plan, save attempts, which run beside the loop: `attempts` gives the plan's one to its caller.
pub async fn execute(guarded: &Guarded, workshop: &Workshop<'_>) -> Vec<Outcome> {
    let digest = guarded.plan().digest();
    let mut failed: BTreeSet<DestinationName> = BTreeSet::new();
    let mut outcomes = Vec::new();
    for group in groups(&guarded.plan().steps, workshop.observed) {
        let destination = &group[0].destination;
        let results = if workshop.cancel.is_cancelled() {
            group.iter().map(|_| Err(Error::Interrupted)).collect()
        } else if failed.contains(destination) && is_destructive(&group[0].action) {
            group
                .iter()
                .map(|_| Err(Error::Skipped(destination.clone())))
                .collect()
        } else {
            carry_out(&group, guarded, workshop, &digest).await
        };
        if results.iter().any(Result::is_err) {
            failed.insert(destination.clone());
        }
        let ended = |(step, result): (&&Step, _)| Outcome {
            step: (*step).clone(),
            result,
        };
        outcomes.extend(group.iter().zip(results).map(ended));
    }
    if workshop.semantics.records == Records::Written {
        delete::forget(&outcomes, workshop).await;
    }
    outcomes
}

fn is_destructive(action: &Action) -> bool {
    action.effect() == Effect::Destructive
}

/// Backups of one destination that are deleted one after another are deleted together, in two waves over all of them. What an
/// incremental builds on waits for the group after it: if the incremental stays, so does its parent.
fn groups<'a>(steps: &'a [Step], observed: &Observed) -> Vec<Vec<&'a Step>> {
    let mut groups: Vec<Vec<&Step>> = Vec::new();
    let is_delete = |step: &Step| matches!(step.action, Action::DeleteBackup { .. });
    let builds_on = |child: &Step, parent: &Step| {
        let stored = observed.destinations.get(&child.destination);
        let catalog = stored.and_then(|stored| stored.catalog.known());
        let found = catalog.and_then(|catalog| catalog.backup(child.action.backup()?));
        found.is_some_and(|found| found.parent.as_ref() == parent.action.backup())
    };
    for step in steps.iter().filter(|step| !step.action.is_attempt()) {
        match groups.last_mut() {
            Some(group)
                if is_delete(group[0])
                    && is_delete(step)
                    && group[0].destination == step.destination
                    && !group.iter().any(|child| builds_on(child, step)) =>
            {
                group.push(step);
            }
            _ => groups.push(vec![step]),
        }
    }
    groups
}

async fn carry_out(
    group: &[&Step],
    guarded: &Guarded,
    workshop: &Workshop<'_>,
    digest: &str,
) -> Vec<Result<(), Error>> {
    let step = group[0];
    let Some(archive) = workshop.archive(step) else {
        return group
            .iter()
            .map(|_| Err(Error::NotOpen(step.destination.clone())))
            .collect();
    };
    if matches!(step.action, Action::DeleteBackup { .. }) {
        let occasion = delete::Occasion {
            at: store_time(workshop, &step.destination),
            plan: digest.to_owned(),
            records: workshop.semantics.records,
            gone: gone_before(step, &guarded.plan().steps),
            locks: locks(workshop, &step.destination),
        };
        let snapshots = delete::Snapshots {
            clouds: workshop.clouds,
            access: workshop.access,
            rule: workshop.semantics.locks,
        };
        let doomed = doomed(group, workshop);
        let outcomes = delete::backups(&archive, &doomed, &occasion, snapshots).await;
        let gone = group.iter().zip(&outcomes).filter(|(_, gone)| gone.is_ok());
        let gone = gone.map(|(step, _)| *step);
        if workshop.semantics.records == Records::Written {
            unlink(gone, &guarded.plan().steps, &archive, workshop).await;
        }
        return outcomes;
    }
    vec![one(step, &archive, workshop).await]
}

/// Takes backups that are gone out of the records of those that they built on, unless these go, too. What is not done costs nothing but
/// a name in a list.
async fn unlink<'a>(
    gone: impl Iterator<Item = &'a Step>,
    plan: &[Step],
    archive: &Archive,
    workshop: &Workshop<'_>,
) {
    for step in gone {
        let stored = workshop.observed.destinations.get(&step.destination);
        let catalog = stored.and_then(|stored| stored.catalog.known());
        let child = step.action.backup();
        let found = child.and_then(|id| catalog?.backup(id));
        let Some((child, parent)) = child.zip(found.and_then(|found| found.parent.as_ref())) else {
            continue;
        };
        let goes = |other: &Step| {
            other.destination == step.destination && other.action.backup() == Some(parent)
        };
        if plan.iter().any(goes) {
            continue;
        }
        if let Err(error) = base_backup::unlink(archive, parent, child).await {
            let error = crate::failure::chain(&error);
            tracing::warn!(%parent, %child, error, "cannot take an incremental out of its record");
        }
    }
}

fn doomed(group: &[&Step], workshop: &Workshop<'_>) -> Vec<delete::Doomed> {
    let each = group.iter().filter_map(|step| {
        let (id, epitaph) = epitaph(step)?;
        let backup = observed(&id, &step.destination, workshop);
        Some(delete::Doomed {
            scope: scope(&id, &step.destination, workshop),
            has_snapshots: backup.is_some_and(|backup| !backup.snapshots.is_empty()),
            id,
            epitaph,
        })
    });
    each.collect()
}

/// What is remembered of a backup that a step deletes.
fn epitaph(step: &Step) -> Option<(BackupId, Epitaph)> {
    let Action::DeleteBackup { backup, version } = &step.action else {
        return None;
    };
    let epitaph = Epitaph {
        version: version.clone(),
        reason: first_reason(step),
    };
    Some((backup.clone(), epitaph))
}

/// The backups that are gone when a step's turn has come: it would not come if one of them had stayed.
fn gone_before(step: &Step, plan: &[Step]) -> BTreeMap<BackupId, Epitaph> {
    let before = plan.iter().take_while(|other| *other != step);
    let same = before.filter(|other| other.destination == step.destination);
    same.filter_map(epitaph).collect()
}

/// What goes of a backup's directory.
fn scope(id: &BackupId, destination: &DestinationName, workshop: &Workshop<'_>) -> delete::Scope {
    if workshop.semantics.goes == Goes::Directory {
        return delete::Scope::Directory;
    }
    let backup = observed(id, destination, workshop);
    if backup.is_some_and(|backup| !backup.snapshots.is_empty()) {
        return delete::Scope::Label;
    }
    let spaces = backup.into_iter().flat_map(|backup| &backup.tablespaces);
    let roots = spaces.map(|space| ArchiveRoot::Tablespace(space.oid));
    delete::Scope::Archives(roots.chain([ArchiveRoot::Data]).collect())
}

/// A backup as it was observed.
fn observed<'a>(
    id: &BackupId,
    destination: &DestinationName,
    workshop: &'a Workshop<'_>,
) -> Option<&'a Backup> {
    let stored = workshop.observed.destinations.get(destination)?;
    stored.catalog.known()?.backup(id)
}

fn first_reason(step: &Step) -> String {
    let first = step.reasons.first();
    first.map(Reason::to_string).unwrap_or_default()
}

async fn one(step: &Step, archive: &Archive, workshop: &Workshop<'_>) -> Result<(), Error> {
    match &step.action {
        Action::SetKeep {
            backup,
            target,
            until,
        } => {
            let record = KeepRecord {
                backup: backup.clone(),
                target: *target,
                reason: first_reason(step),
                until: *until,
                set_at: workshop.clock.now(),
                by: SetBy::Policy,
            };
            keep::set(archive, &record, workshop.semantics.records).await
        }
        Action::ReleaseKeep {
            backup,
            grace: Some(grace),
        } => {
            let until = store_time(workshop, &step.destination) + *grace;
            keep::end(archive, backup, until).await
        }
        Action::ReleaseKeep { backup, .. } => {
            keep::release(archive, backup, workshop.semantics.records).await
        }
        Action::MarkDelete { backup, version } => {
            let mark = Mark {
                backup: backup.clone(),
                at: store_time(workshop, &step.destination),
                epitaph: Epitaph {
                    version: version.clone(),
                    reason: first_reason(step),
                },
            };
            mark::set(archive, &mark).await
        }
        Action::Undelete { backup } => mark::withdraw(archive, backup).await,
        Action::DeleteOrphan { backup, newest } => {
            let locks = locks(workshop, &step.destination);
            delete::orphan(archive, backup, *newest, locks).await
        }
        Action::DeleteSnapshot {
            backup, snapshot, ..
        } => {
            let alone = delete::Alone { backup, snapshot };
            delete_snapshot(step, archive, &alone, workshop).await
        }
        Action::DeleteWal { spans } => delete_wal(step, archive, spans, workshop).await,
        Action::FinishBackup { backup } => finish(archive, backup).await,
        Action::AbandonAttempt { backup, parent } => {
            let entry = workshop.server.entry(&step.destination);
            let around = (entry, workshop.clouds);
            give_up(archive, backup, parent.as_ref(), around).await
        }
        Action::CopyWal {
            from,
            spans,
            histories,
        } => copy_wal(step, from, (spans, histories), workshop).await,
        // Much is held across its awaits, and seldom.
        Action::ArchiveWal { spans } => {
            Box::pin(heal_wal::heal(step, archive, spans, workshop)).await
        }
        // They are taken out of the steps before: they run in groups, and beside the loop.
        Action::TakeBackup { .. }
        | Action::CopyBackup { .. }
        | Action::VerifyBackup { .. }
        | Action::DeleteBackup { .. } => Ok(()),
    }
}

/// Opens the cloud in which the entry's disks are.
async fn delete_snapshot(
    step: &Step,
    archive: &Archive,
    alone: &delete::Alone<'_>,
    workshop: &Workshop<'_>,
) -> Result<(), Error> {
    let entry = workshop.server.entry(&step.destination);
    let disks = entry.and_then(|entry| entry.snapshot.as_ref());
    let disks = disks.ok_or_else(|| Error::Changed(alone.backup.clone()))?;
    let provider = workshop.clouds.open(&disks.place).await;
    let provider = provider.map_err(|source| Error::Snapshot {
        snapshot: alone.snapshot.to_owned(),
        source,
    })?;
    let fence = workshop.fences.get(&step.destination);
    let fence = fence.map_or(&Closed as &dyn Fence, AsRef::as_ref);
    delete::snapshot(archive, alone, provider.as_ref(), fence).await
}

async fn delete_wal(
    step: &Step,
    archive: &Archive,
    spans: &[WalSpan],
    workshop: &Workshop<'_>,
) -> Result<(), Error> {
    let empty = Catalog::default();
    let stored = workshop.observed.destinations.get(&step.destination);
    let catalog = stored.and_then(|stored| stored.catalog.known());
    let catalog = catalog.unwrap_or(&empty);
    let doomed = delete::DoomedWal {
        spans,
        size: catalog.segment_size(),
        known: catalog.ids().cloned().collect(),
        locks: locks(workshop, &step.destination),
    };
    delete::wal(archive, &doomed).await.map(|_| ())
}

/// Gives an attempt up. Its parent forgets it first: once the attempt is forgotten nobody would know that it must.
async fn give_up(
    archive: &Archive,
    backup: &BackupId,
    parent: Option<&BackupId>,
    around: (Option<&Entry>, &dyn Clouds),
) -> Result<(), Error> {
    if let Some(parent) = parent {
        let unlinked = base_backup::unlink(archive, parent, backup).await;
        unlinked.map_err(|source| Error::Adopt {
            backup: backup.clone(),
            source: Box::new(source),
        })?;
    }
    abandon(archive, backup, (&Unfinished::Ours, DIED), around).await
}

async fn copy_wal(
    step: &Step,
    from: &DestinationName,
    (spans, histories): (&[WalSpan], &[TimelineId]),
    workshop: &Workshop<'_>,
) -> Result<(), Error> {
    let open = |name: &DestinationName| {
        let archive = workshop.archives.get(name);
        archive.ok_or_else(|| Error::NotOpen(name.clone()))
    };
    let entry = workshop.server.entry(&step.destination);
    let copying = copy::Copying {
        source: open(from)?,
        target: open(&step.destination)?,
        part_bytes: entry.map_or(0, |entry| entry.files.part_bytes),
        throttle: workshop.throttles.get(&step.destination).cloned(),
        cancel: workshop.cancel,
    };
    let stored = workshop.observed.destinations.get(from);
    let catalog = stored.and_then(|stored| stored.catalog.known());
    let wanted = copy::Wanted {
        spans,
        histories,
        size: catalog.map_or(SegmentSize::DEFAULT, Catalog::segment_size),
    };
    let copied = copy::wal(&copying, &wanted).await;
    copied.map_err(|source| Error::Copy { source })
}

fn locks(workshop: &Workshop<'_>, destination: &DestinationName) -> delete::LockCheck {
    let entry = workshop.server.entry(destination);
    let ignored = entry.is_some_and(|entry| entry.object_lock == ObjectLock::Ignore);
    let stored = workshop.observed.destinations.get(destination);
    let locks = stored.and_then(|stored| stored.locks.known());
    // Objects that lie there already are not locked by locks that somebody switches on meanwhile.
    let none = locks.is_some_and(|locks| locks.retention.locking == Locking::Off);
    if ignored || none || workshop.semantics.locks == LockRule::Asked {
        delete::LockCheck::Needless
    } else {
        delete::LockCheck::Heeded
    }
}

/// What `backup.info` says of an attempt that died.
const DIED: &str = "the process that took it ended before it was complete";

async fn finish(archive: &Archive, backup: &BackupId) -> Result<(), Error> {
    let finished = base_backup::finish_backup(archive, backup, archive).await;
    match finished {
        Ok(base_backup::Finished::Done) => Ok(()),
        Ok(base_backup::Finished::Waiting(first)) => Err(Error::Waiting(backup.clone(), first)),
        Err(source) => Err(Error::Adopt {
            backup: backup.clone(),
            source: Box::new(source),
        }),
    }
}

/// Releases the keep of a backup, whoever set it.
pub async fn release_keep(
    archive: &Archive,
    backup: &BackupId,
    records: Records,
) -> Result<(), Error> {
    keep::release(archive, backup, records).await
}

/// Keeps a backup that is marked, because somebody wants it to stay, and withdraws its mark.
pub async fn undelete(archive: &Archive, record: &KeepRecord) -> Result<(), Error> {
    mark::undelete(archive, record).await
}

/// Sets a keep that somebody asked for by name.
pub async fn set_keep(
    archive: &Archive,
    record: &KeepRecord,
    records: Records,
) -> Result<(), Error> {
    keep::set(archive, record, records).await
}

/// What `backup.info` says of a backup that a person declared dead.
pub const GIVEN_UP: &str = "declared dead by hand";

/// Declares an unfinished backup failed, for this reason. Of an attempt of ours the snapshots go that its entry says were begun.
pub async fn abandon(
    archive: &Archive,
    backup: &BackupId,
    (unfinished, reason): (&Unfinished, &str),
    (entry, clouds): (Option<&Entry>, &dyn Clouds),
) -> Result<(), Error> {
    let abandoned = match unfinished {
        Unfinished::Ours => {
            let disks = entry.and_then(|entry| entry.snapshot.as_ref());
            let disks = disks.map(|disks| (disks, clouds));
            base_backup::abandon_attempt(archive, backup, reason, disks).await
        }
        Unfinished::Others { version } => {
            base_backup::abandon_foreign(archive, backup, version, reason).await
        }
    };
    abandoned.map_err(|source| Error::Adopt {
        backup: backup.clone(),
        source: Box::new(source),
    })
}

/// The store's clock as it was observed; ours where it was not.
fn store_time(workshop: &Workshop<'_>, destination: &DestinationName) -> Timestamp {
    let stored = workshop.observed.destinations.get(destination);
    let time = stored.and_then(|stored| stored.store_time.known().copied());
    time.unwrap_or_else(|| workshop.clock.now())
}
