//! The copy: from a cluster's directories to archives in the store, on all cores.
//!
//! One thread walks, some build archives, the compressing threads are shared by them, and every archive has a task that sends it.
//! Memory is bounded by [`Memory`], whatever the cluster's size. `data.tar` stays open for what must be read last; everything else
//! has been read when [`Copy::run`] returns.

use std::{
    mem,
    ops::ControlFlow,
    panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    archive::{ArchiveError, OpenArchive, Owners, Reading},
    dimensions::{Dimensions, Memory, Wanted},
    findings::{Findings, Warning},
    outgoing::{Outgoing, Room, Uploads},
    queue::{InHand, Next, Queue},
    sink::Sink,
    walk::{Attributes, Found, FoundKind, Sight, Tree, WalkError, walk},
};
use crate::{
    model::{
        backup::BackupId,
        compression::Codec,
        progress::{Event, Progress},
        record::ArchiveRecord,
        wal::Lsn,
    },
    pipeline::throttle::Throttle,
    store::{self, Archive},
};

/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// What is to be copied, and how.
pub(super) struct Order {
    pub(super) backup: BackupId,
    pub(super) trees: Vec<Tree>,
    pub(super) codec: Codec,
    /// How many archives are built at once.
    pub(super) jobs: usize,
    /// When an archive is closed and the next begun, in bytes as stored.
    pub(super) max_archive_bytes: u64,
    pub(super) part_bytes: u64,
    /// Pages older than this are verified; none if the cluster has no checksums.
    pub(super) verify_before: Option<Lsn>,
    /// What the copy is expected to read, in bytes.
    pub(super) estimate: Option<u64>,
}

/// The copy failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("cannot store the archive `{archive}`")]
    Upload {
        archive: String,
        source: store::Error,
    },
    #[error("cannot start the compressing threads")]
    Threads(#[source] std::io::Error),
}

struct Shared {
    order: Order,
    jobs: usize,
    outgoing: Outgoing,
    queue: Queue<OpenArchive<Sink>>,
    reading: Reading,
    findings: Mutex<Findings>,
}

/// A copy of which only the last files are missing.
pub(super) struct Copy {
    data_tar: OpenArchive<Sink>,
    uploads: Uploads,
    owners: Owners,
    codec: Codec,
    cancel: CancellationToken,
    /// What was noticed.
    pub(super) findings: Findings,
    /// How many bytes were read.
    pub(super) bytes: u64,
    /// What was held at most, in bytes.
    pub(super) memory: Memory,
}

/// A text that ends `data.tar`.
pub(super) struct LastFile {
    pub(super) name: Vec<u8>,
    pub(super) content: Vec<u8>,
    pub(super) attributes: Attributes,
}

/// What a copy works with.
pub(super) struct CopyPorts<'a> {
    pub(super) catalog: &'a Archive,
    pub(super) throttle: Option<&'a Throttle>,
    pub(super) progress: &'a dyn Progress,
    /// Stops everything; cancelled by the copy itself when it fails.
    pub(super) cancel: &'a CancellationToken,
}

impl Copy {
    /// Reads every tree. After an error no upload is under way.
    pub(super) async fn run(order: Order, ports: &CopyPorts<'_>) -> Result<Self, CopyError> {
        let cancel = ports.cancel.clone();
        // Dropping the future must not leave threads behind that read on.
        let guard = cancel.clone().drop_guard();
        let shared = Arc::new(Shared::new(order, ports)?);
        let mut threads = JoinSet::new();
        let walker = Arc::clone(&shared);
        threads.spawn_blocking(move || walker.walk());
        for _ in 0..shared.jobs {
            let builder = Arc::clone(&shared);
            threads.spawn_blocking(move || builder.build());
        }
        ports.progress.report(Event::Begun {
            bytes: shared.order.estimate,
        });
        let failure = shared.watch(&mut threads, ports).await;
        let uploads = shared.outgoing.take_uploads();
        if let Some(error) = failure {
            cancel.cancel();
            return Err(uploads.because(error).await);
        }
        guard.disarm();
        let shared = Arc::into_inner(shared).expect("all threads have ended");
        let findings = mem::take(&mut *lock(&shared.findings));
        Ok(Self {
            codec: shared.order.codec,
            memory: shared.outgoing.memory(),
            bytes: shared.reading.bytes.load(Ordering::Relaxed),
            owners: shared.reading.owners,
            data_tar: (shared.queue.into_parked()).expect("`data.tar` is parked in the end"),
            uploads,
            findings,
            cancel,
        })
    }

    /// Adds files at the end of `data.tar`.
    pub(super) async fn append(mut self, files: Vec<LastFile>) -> Result<Self, CopyError> {
        let cancel = self.cancel.clone();
        let appended = blocking(move || {
            for file in files {
                self.data_tar
                    .add_text(&file.name, &file.content, file.attributes, &self.owners)
                    .map_err(|error| (error, mem::take(&mut self.uploads)))?;
            }
            Ok(self)
        });
        match appended.await {
            Ok(copy) => Ok(copy),
            Err((error, uploads)) => {
                cancel.cancel();
                Err(uploads.because(CopyError::Archive(error)).await)
            }
        }
    }

    /// Gives everything up because of an error; no upload is under way afterwards.
    pub(super) async fn give_up<E>(self, error: E) -> E {
        self.cancel.cancel();
        drop(self.data_tar);
        self.uploads.end().await;
        error
    }

    /// Ends `data.tar` and waits until every archive has arrived.
    pub(super) async fn finish(self) -> Result<(Vec<ArchiveRecord>, Findings), CopyError> {
        let Self {
            data_tar,
            uploads,
            codec,
            cancel,
            mut findings,
            ..
        } = self;
        findings.files += data_tar.files();
        let name = data_tar.name();
        let finished = blocking(move || {
            let sink = data_tar.finish()?;
            sink.finish().map_err(|source| ArchiveError::Write {
                archive: name,
                source,
            })
        });
        if let Err(error) = finished.await {
            cancel.cancel();
            return Err(uploads.because(CopyError::Archive(error)).await);
        }
        let records = uploads.arrive(codec, &cancel).await?;
        Ok((records, findings))
    }
}

impl Shared {
    fn new(order: Order, ports: &CopyPorts<'_>) -> Result<Self, CopyError> {
        let wanted = Wanted {
            codec: order.codec,
            jobs: order.jobs,
            part_bytes: order.part_bytes,
            max_archive_bytes: order.max_archive_bytes,
        };
        let dimensions = Dimensions::of(&wanted, ports.catalog.store().limits());
        Ok(Self {
            queue: Queue::new(),
            reading: Reading {
                verify_before: order.verify_before,
                owners: Owners::load(),
                bytes: AtomicU64::new(0),
                cancel: ports.cancel.clone(),
            },
            jobs: dimensions.jobs,
            outgoing: Outgoing::new(&order.backup, order.codec, dimensions, ports)?,
            findings: Mutex::default(),
            order,
        })
    }

    /// Waits for all threads, telling how far they are; the first failure stops the others.
    async fn watch(
        &self,
        threads: &mut JoinSet<Result<(), CopyError>>,
        ports: &CopyPorts<'_>,
    ) -> Option<CopyError> {
        let mut failure = None;
        let mut ticks = tokio::time::interval(REPORT_EVERY);
        loop {
            let joined = tokio::select! {
                joined = threads.join_next() => joined,
                _ = ticks.tick() => {
                    let bytes = self.reading.bytes.load(Ordering::Relaxed);
                    ports.progress.report(Event::Advanced { bytes });
                    continue;
                }
                () = ports.cancel.cancelled(), if failure.is_none() && !self.queue.has_failed() => {
                    self.queue.fail();
                    continue;
                }
            };
            let Some(joined) = joined else {
                let bytes = self.reading.bytes.load(Ordering::Relaxed);
                ports.progress.report(Event::Advanced { bytes });
                return failure.or_else(|| self.outgoing.interrupted());
            };
            let ended = joined.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
            if let Err(error) = ended {
                self.queue.fail();
                ports.cancel.cancel();
                failure.get_or_insert(error);
            }
        }
    }

    fn walk(&self) -> Result<(), CopyError> {
        for tree in &self.order.trees {
            self.queue.enter(tree.root);
            walk(tree, &mut |sight| match sight {
                Sight::Found(found) => match self.queue.push(found) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_abandoned) => ControlFlow::Break(()),
                },
                Sight::DirectoryLink(path) => self.warn(Warning::DirectoryLink(path)),
                Sight::Special(path) => self.warn(Warning::Special(path)),
            })?;
        }
        self.queue.end_walk();
        Ok(())
    }

    fn warn(&self, warning: Warning) -> ControlFlow<()> {
        lock(&self.findings).warn(warning);
        ControlFlow::Continue(())
    }

    fn build(&self) -> Result<(), CopyError> {
        let mut open: Option<OpenArchive<Sink>> = None;
        loop {
            match self.queue.next(open.as_ref().map(OpenArchive::name)) {
                Next::Open(root, part) => {
                    open = Some(
                        self.outgoing
                            .open(InHand { root, part }, self.outgoing.part_bytes())?,
                    );
                }
                Next::Add(found) => {
                    let archive = open.take().expect("only an open archive is added to");
                    let archive = self.with_room_for(archive, &found)?;
                    open = Some(self.add(archive, &found)?);
                }
                Next::AddParked(data_tar, found) => {
                    let data_tar = self.add(data_tar, &found)?;
                    self.queue.park(data_tar);
                }
                Next::Close => {
                    let archive = open.take().expect("only an open archive is closed");
                    self.close(archive)?;
                }
                Next::Done => return Ok(()),
            }
        }
    }

    fn add(
        &self,
        mut archive: OpenArchive<Sink>,
        found: &Found,
    ) -> Result<OpenArchive<Sink>, CopyError> {
        if let Some(damaged) = archive.add(found, &self.reading)? {
            lock(&self.findings).damage(damaged);
        }
        Ok(archive)
    }

    /// The archive itself, or the next one of its tree if this file would make it too large.
    fn with_room_for(
        &self,
        archive: OpenArchive<Sink>,
        found: &Found,
    ) -> Result<OpenArchive<Sink>, CopyError> {
        let FoundKind::File(size) = found.kind else {
            return Ok(archive);
        };
        if self.outgoing.is_large(size) {
            let path = found.path.clone();
            lock(&self.findings).warn(Warning::LargeFile { path, bytes: size });
        }
        let Room::Next { part_bytes } = self.outgoing.room(&archive, size) else {
            return Ok(archive);
        };
        let root = archive.name().root;
        self.close(archive)?;
        let part = self.queue.next_part(root);
        self.outgoing.open(InHand { root, part }, part_bytes)
    }

    /// Ends an archive without waiting for its arrival; `data.tar` is parked instead.
    fn close(&self, archive: OpenArchive<Sink>) -> Result<(), CopyError> {
        if archive.name().is_data_tar() {
            self.queue.park(archive);
            return Ok(());
        }
        lock(&self.findings).files += archive.files();
        Outgoing::close(archive)
    }
}

/// Runs what blocks in a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let mut thread = JoinSet::new();
    thread.spawn_blocking(work);
    let joined = thread.join_next().await.expect("one was started");
    joined.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds this")
}
