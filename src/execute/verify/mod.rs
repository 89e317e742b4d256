//! Reading all of a backup back: every byte of its archives and of its WAL, compared with all that is known of them.
//!
//! Archives are decompressed and walked through to their end; their bytes are compared with what was noted while they were sent, with
//! the checksum that the store tells, and every file with the server's manifest where that is kept. WAL from the backup's
//! beginning to its end must be readable and of the backup's cluster. What is found is written below `barkeep/evidence/`. Nothing is
//! changed besides. Memory: 80 MiB, whatever the size of the backup, and 24 bytes per file where there is a manifest.

use std::{fmt, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    failure::Kind,
    format::{
        backup_info::{self, BackupInfo},
        keys::{BaseObject, ObjectKey, OwnObject, backup_directory},
    },
    model::{
        backup::{Backup, BackupId, BackupStatus},
        catalog::Catalog,
        progress::{Event, Progress},
        record::{ArchiveEvidence, Fault, Verification},
        zone::Zone,
    },
    store::{self, Archive, ArchiveError, PutMode, StoredInfo},
};

mod archives;
mod consistency;
mod wal;

/// How many faults of one backup are named.
const FAULTS_MAX: usize = 100;

/// What a backup is verified with.
pub struct Verifier<'a> {
    /// The server's catalog.
    pub archive: &'a Archive,
    /// What was read of it: along which timelines WAL is looked for.
    pub catalog: &'a Catalog,
    /// The zone of times without an offset.
    pub zone: &'a Zone,
    /// The present.
    pub clock: Clock,
    /// Whoever watches.
    pub progress: Arc<dyn Progress>,
    /// Ends it.
    pub cancel: &'a CancellationToken,
}

/// Why a backup was not verified, which says nothing about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such backup.
    #[error("it is not in the catalog")]
    NoSuchBackup,
    /// It is not complete.
    #[error("it is {0}, and not complete")]
    NotDone(BackupStatus),
    /// Something could not be read.
    #[error("cannot read `{object}`")]
    Read {
        /// What.
        object: String,
        /// Why.
        source: store::Error,
    },
    /// It was changed or deleted meanwhile.
    #[error("it was changed or deleted meanwhile")]
    Changed,
    /// What was found could not be written down.
    #[error("cannot write down what was found")]
    Record(#[source] ArchiveError),
    /// The operator stopped it.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoSuchBackup => Kind::NotFound,
            Self::NotDone(_) => Kind::Refused,
            Self::Read { source, .. } => source.kind(),
            Self::Record(source) => source.kind(),
            Self::Changed => Kind::Failed,
            Self::Interrupted => Kind::Interrupted,
        }
    }

    fn read(object: impl fmt::Display) -> impl FnOnce(store::Error) -> Self {
        let object = object.to_string();
        move |source| Self::Read { object, source }
    }
}

/// What is wrong with a backup, as it is found.
#[derive(Debug, Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, object: impl fmt::Display, what: impl fmt::Display) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Fault {
                object: object.to_string(),
                what: what.to_string(),
            });
        }
    }
}

/// Reads all of a backup back and writes down what was found.
pub async fn verify(verifier: &Verifier<'_>, id: &BackupId) -> Result<Verification, Error> {
    let mut verification = Verification {
        backup: id.clone(),
        at: verifier.clock.now(),
        archives: 0,
        files: 0,
        bytes: 0,
        segments: 0,
        faults: Vec::new(),
    };
    let version = match read_info(verifier, id).await? {
        Read::Understood(stored) => {
            let version = stored.version.clone();
            let mut faults = Faults::default();
            read_all(verifier, stored.info, &mut verification, &mut faults).await?;
            verification.faults = faults.0;
            Some(version)
        }
        Read::Nonsense(fault) => {
            verification.faults.push(fault);
            None
        }
    };
    if let Some(version) = version {
        let now = verifier.archive.head(&ObjectKey::info(id)).await;
        let now = now.map_err(Error::read(ObjectKey::info(id)))?;
        if now.is_none_or(|now| now.meta.version != version) {
            return Err(Error::Changed);
        }
    }
    record(verifier.archive, &verification).await?;
    Ok(verification)
}

enum Read {
    Understood(StoredInfo),
    Nonsense(Fault),
}

async fn read_info(verifier: &Verifier<'_>, id: &BackupId) -> Result<Read, Error> {
    match verifier.archive.read_info(id).await {
        Ok(Some(stored)) => Ok(Read::Understood(stored)),
        Ok(None) => Err(Error::NoSuchBackup),
        Err(ArchiveError::Store(source)) => Err(Error::read(ObjectKey::info(id))(source)),
        Err(error) => Ok(Read::Nonsense(Fault {
            object: ObjectKey::info(id).to_string(),
            what: crate::failure::chain(&error),
        })),
    }
}

async fn read_all(
    verifier: &Verifier<'_>,
    info: BackupInfo,
    verification: &mut Verification,
    faults: &mut Faults,
) -> Result<(), Error> {
    let id = &verification.backup.clone();
    let backup = match described(verifier, &info, id).await? {
        Ok(backup) => backup,
        Err(error) => {
            faults.add(ObjectKey::info(id), error);
            return Ok(());
        }
    };
    if backup.status != BackupStatus::Done {
        return Err(Error::NotDone(backup.status));
    }
    let sent = sent(verifier.archive, id, faults).await?;
    verifier.progress.report(Event::Verifying(id.clone()));
    verifier.progress.report(Event::Begun {
        bytes: Some(backup.stored_bytes()),
    });
    let contents = archives::read(verifier, &backup, sent.as_ref(), faults).await?;
    verification.archives = contents.archives;
    verification.files = contents.files;
    verification.bytes = contents.bytes;
    verifier.progress.report(Event::Checking);
    consistency::check(&backup, &contents, faults);
    verification.segments = wal::read(verifier, &backup, faults).await?;
    Ok(())
}

/// The backup with the archives that are there now.
async fn described(
    verifier: &Verifier<'_>,
    info: &BackupInfo,
    id: &BackupId,
) -> Result<Result<Backup, backup_info::Error>, Error> {
    let directory = backup_directory(id);
    let objects = verifier.archive.objects(&directory).await;
    let objects = objects.map_err(Error::read(&directory))?;
    let archive = |object: &store::ObjectMeta| match verifier.archive.parse(&object.key)? {
        ObjectKey::Base(_, BaseObject::Archive(name)) => Some(name.stored(object.size)),
        _ => None,
    };
    let mut archives: Vec<_> = objects.iter().filter_map(archive).collect();
    archives.sort();
    Ok(info.to_backup(id.clone(), archives, None, verifier.zone))
}

/// What was noted while the archives were sent; Barman notes nothing.
async fn sent(
    archive: &Archive,
    id: &BackupId,
    faults: &mut Faults,
) -> Result<Option<ArchiveEvidence>, Error> {
    let object = OwnObject::Evidence(format!("{id}/archives"));
    let key = ObjectKey::Own(object.clone());
    match archive.read_record::<ArchiveEvidence>(object).await {
        Ok(record) => Ok(record.map(|(record, _)| record)),
        Err(ArchiveError::Store(source)) => Err(Error::read(key)(source)),
        Err(error) => {
            faults.add(key, crate::failure::chain(&error));
            Ok(None)
        }
    }
}

/// Writes down what was found; what was found before is then no longer so.
async fn record(archive: &Archive, verification: &Verification) -> Result<(), Error> {
    let id = &verification.backup;
    let names = ["verified", "faults"].map(|name| OwnObject::Evidence(format!("{id}/{name}")));
    let [sound, faulty] = names;
    let (now, before) = if verification.is_sound() {
        (sound, faulty)
    } else {
        (faulty, sound)
    };
    let written = archive
        .write_record(now, verification, PutMode::Overwrite)
        .await;
    match written {
        Ok(_) => {}
        // Whoever may only read still wants to know.
        Err(ArchiveError::Store(error)) if error.meaning == store::Meaning::PermissionDenied => {
            let error = crate::failure::chain(&error);
            tracing::warn!(backup = %id, error, "what was found cannot be written down");
            return Ok(());
        }
        Err(error) => return Err(Error::Record(error)),
    }
    let removed = archive.remove(&ObjectKey::Own(before)).await;
    if let Err(error) = removed {
        // The younger of the two counts.
        let error = crate::failure::chain(&error);
        tracing::debug!(backup = %id, error, "the last result stays beside this one");
    }
    Ok(())
}

/// A verification as people read it.
impl fmt::Display for Verification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            backup,
            archives,
            files,
            bytes,
            segments,
            ..
        } = self;
        let read = format!(
            "{archives} archives, {files} files, {}, {segments} WAL segments",
            crate::plan::render::Bytes(*bytes)
        );
        match self.faults.first() {
            None => write!(formatter, "backup {backup} verified: {read}"),
            Some(first) => {
                let more = match self.faults.len() {
                    1 => String::new(),
                    count => format!(" and {} more", count - 1),
                };
                write!(formatter, "backup {backup} is not sound: {first}{more}")
            }
        }
    }
}
