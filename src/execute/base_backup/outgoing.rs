//! Archives on their way to the store: opened here, built by whoever has them in hand, sent by a task each.
//!
//! All archives of one backup share the compressing threads and the budget of parts, so memory is bounded by [`Memory`] whatever is
//! backed up. An archive that would become too large for the store, or larger than asked, is followed by another one of its tree.

use std::{
    mem, panic,
    sync::{Arc, Mutex},
};

use tokio::{runtime::Handle, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    archive::{ArchiveError, OpenArchive},
    copy::{CopyError, CopyPorts},
    dimensions::{Dimensions, Memory},
    queue::InHand,
    sink::{Arrived, Parts, Sink, Target, sink},
};
use crate::{
    format::keys::{ArchiveName, ObjectKey},
    model::{
        backup::{ArchiveRoot, BackupId},
        compression::Codec,
        record::ArchiveRecord,
    },
    pipeline::{compress::parallel::Workers, throttle::Throttle},
    store::{self, Archive, Key, Meaning},
};

/// The first archive of the data directory.
const DATA_TAR: InHand = InHand {
    root: ArchiveRoot::Data,
    part: 0,
};

/// The archives of one backup on their way.
pub(super) struct Outgoing {
    backup: BackupId,
    codec: Codec,
    dimensions: Dimensions,
    catalog: Archive,
    throttle: Option<Throttle>,
    workers: Workers,
    parts: Parts,
    uploads: Mutex<Uploads>,
    runtime: Handle,
    cancel: CancellationToken,
}

/// Where a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Into the archive in hand.
    Here,
    /// Into the next one of its tree, sent in parts of this size.
    Next {
        /// In bytes.
        part_bytes: u64,
    },
}

impl Outgoing {
    pub(super) fn new(
        backup: &BackupId,
        codec: Codec,
        dimensions: Dimensions,
        ports: &CopyPorts<'_>,
    ) -> Result<Self, CopyError> {
        Ok(Self {
            backup: backup.clone(),
            codec,
            workers: Workers::start(dimensions.threads).map_err(CopyError::Threads)?,
            parts: Parts::new(dimensions.parts, dimensions.part_bytes),
            uploads: Mutex::default(),
            runtime: Handle::current(),
            catalog: ports.catalog.clone(),
            throttle: ports.throttle.cloned(),
            cancel: ports.cancel.clone(),
            dimensions,
        })
    }

    /// What is held at most, in bytes.
    pub(super) fn memory(&self) -> Memory {
        self.dimensions.memory()
    }

    /// How archives are compressed.
    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// The size of parts, where an archive needs no larger ones.
    pub(super) fn part_bytes(&self) -> u64 {
        self.parts.bytes()
    }

    /// Opens an archive.
    pub(super) fn open(
        &self,
        name: InHand,
        part_bytes: u64,
    ) -> Result<OpenArchive<Sink>, CopyError> {
        let object = ObjectKey::archive(&self.backup, name_of(name, self.codec));
        let (sink, sending) = sink(self.runtime.clone(), &self.parts, part_bytes);
        let target = self.target(self.catalog.key(&object));
        let send = async move { (name, sending.run(target).await) };
        lock(&self.uploads).0.spawn_on(send, &self.runtime);
        let compressing = (&self.workers, self.dimensions.depth);
        let archive = OpenArchive::begin(name, self.codec, compressing, sink);
        Ok(archive?)
    }

    /// Where an object of this backup goes, and how.
    pub(super) fn target(&self, key: Key) -> Target {
        Target {
            store: Arc::clone(self.catalog.store()),
            key,
            throttle: self.throttle.clone(),
            cancel: self.cancel.clone(),
        }
    }

    /// Opens something that is no archive: the two ends of its way, within the same budget.
    pub(super) fn open_object(&self) -> (Sink, super::sink::Sending) {
        sink(self.runtime.clone(), &self.parts, self.parts.bytes())
    }

    /// Where a file of so many bytes goes, given the archive in hand.
    pub(super) fn room(&self, archive: &OpenArchive<Sink>, size: u64) -> Room {
        let needed = needed(size);
        if archive.sink().written().saturating_add(needed) <= self.dimensions.archive_bytes_max {
            return Room::Here;
        }
        let fits = needed <= archive.sink().capacity(self.dimensions.parts_max);
        if archive.files() == 0 && fits {
            return Room::Here;
        }
        let parts_max = u64::from(self.dimensions.parts_max);
        let part_bytes = needed.div_ceil(parts_max).max(self.parts.bytes());
        Room::Next { part_bytes }
    }

    /// Whether a file alone makes an archive larger than asked.
    pub(super) fn is_large(&self, size: u64) -> bool {
        needed(size) > self.dimensions.archive_bytes_max
    }

    /// Ends an archive without waiting for its arrival.
    pub(super) fn close(archive: OpenArchive<Sink>) -> Result<(), CopyError> {
        let name = archive.name();
        let sink = archive.finish()?;
        sink.finish().map_err(|source| ArchiveError::Write {
            archive: name,
            source,
        })?;
        Ok(())
    }

    /// The uploads under way, to wait for.
    pub(super) fn take_uploads(&self) -> Uploads {
        mem::take(&mut *lock(&self.uploads))
    }

    /// What stopping looks like, if it was stopped.
    pub(super) fn interrupted(&self) -> Option<CopyError> {
        self.cancel.is_cancelled().then(|| {
            let location = self.catalog.store().location();
            CopyError::Upload {
                archive: name_of(DATA_TAR, self.codec).to_string(),
                source: store::Error::new(Meaning::Interrupted, store::Operation::Put, location),
            }
        })
    }
}

/// What a file takes up: compression may not help; a tar header, padding and a codec's frames come on top.
fn needed(size: u64) -> u64 {
    size.saturating_add(size / 64).saturating_add(64 << 10)
}

/// Uploads under way.
#[derive(Default)]
pub(super) struct Uploads(JoinSet<(InHand, store::Result<Arrived>)>);

impl Uploads {
    /// Waits until every archive has arrived. At the first failure the others are given up.
    pub(super) async fn arrive(
        mut self,
        codec: Codec,
        cancel: &CancellationToken,
    ) -> Result<Vec<ArchiveRecord>, CopyError> {
        let mut records = Vec::new();
        while let Some(joined) = self.0.join_next().await {
            match joined.unwrap_or_else(|error| panic::resume_unwind(error.into_panic())) {
                (archive, Ok(arrived)) => records.push(record(archive, codec, arrived)),
                (archive, Err(source)) => {
                    cancel.cancel();
                    let archive = name_of(archive, codec).to_string();
                    return Err(self.because(CopyError::Upload { archive, source }).await);
                }
            }
        }
        records.sort_by_key(|record| (record.root, record.part));
        Ok(records)
    }

    /// Waits for all to end, and answers what an upload says went wrong rather than that a builder noticed.
    pub(super) async fn because(mut self, error: CopyError) -> CopyError {
        let mut cause = None;
        while let Some(joined) = self.0.join_next().await {
            let Ok((archive, Err(source))) = joined else {
                continue;
            };
            if source.meaning != Meaning::Interrupted {
                let archive = format!("{} {}", archive.root, archive.part);
                cause.get_or_insert(CopyError::Upload { archive, source });
            }
        }
        match error {
            CopyError::Archive(ArchiveError::Write { .. }) => cause.unwrap_or(error),
            error => error,
        }
    }

    /// Waits for all to end, however they end.
    pub(super) async fn end(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

fn name_of(archive: InHand, codec: Codec) -> ArchiveName {
    ArchiveName {
        root: archive.root,
        part: archive.part,
        compression: codec.compression(),
    }
}

fn record(archive: InHand, codec: Codec, arrived: Arrived) -> ArchiveRecord {
    ArchiveRecord {
        root: archive.root,
        part: archive.part,
        compression: codec.compression(),
        bytes: arrived.bytes,
        checksum: arrived.stored.checksum.map(|checksum| checksum.value),
        crc32c: Some(arrived.crc32c),
    }
}

fn lock(uploads: &Mutex<Uploads>) -> std::sync::MutexGuard<'_, Uploads> {
    uploads
        .lock()
        .expect("no thread panics while it holds this")
}
