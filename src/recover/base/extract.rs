//! Fetching, decompressing and extracting archives, several at a time.

use std::{
    collections::BTreeMap,
    io, panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Error, RestorePorts, finish::LAST, layout::Layout};
use crate::{
    format::keys::{ArchiveName, ObjectKey},
    model::{
        backup::{ArchiveRoot, Backup},
        compression::Compression,
        progress::Event,
    },
    pipeline::{
        compress::Decoder,
        untar::{self, Destination, Extracted, Options, Ownership, Symlinks},
    },
    store::{
        self,
        download::{Arrivals, Fetching, Source, Window, download},
    },
};

/// What all downloads may hold together, in bytes.
const DOWNLOAD_BYTES: u64 = 64 << 20;

/// The size of a range in bytes.
const RANGE_BYTES: u64 = 4 << 20;

/// How many archives are extracted at once at most: beyond this the disk is what is waited for.
const THREADS_MAX: usize = 8;

/// How many heads are asked for at once.
const HEADS: usize = 16;

/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// An archive in the store.
pub(super) struct Stored {
    root: ArchiveRoot,
    compression: Compression,
    source: Source,
}

/// Looks at every archive, so that all are read in one version; the largest first.
pub(super) async fn sources(backup: &Backup, ports: &RestorePorts) -> Result<Vec<Stored>, Error> {
    let look = |archive| async move {
        let name = ArchiveName::from(archive);
        let object = ObjectKey::archive(&backup.id, name);
        let head = ports.catalog.head(&object).await;
        let head = head.map_err(|source| Error::Fetch {
            archive: name.to_string(),
            source,
        })?;
        let head = head.ok_or_else(|| Error::MissingArchive {
            backup: backup.id.clone(),
            root: name.root,
        })?;
        Ok(Stored {
            root: name.root,
            compression: name.compression,
            source: Source {
                store: Arc::clone(ports.catalog.store()),
                key: ports.catalog.key(&object),
                version: head.meta.version,
                size: head.meta.size,
            },
        })
    };
    let archives = backup.archives.iter();
    let mut sources: Vec<Stored> = stream::iter(archives)
        .map(look)
        .buffer_unordered(HEADS)
        .try_collect()
        .await?;
    sources.sort_by_key(|stored| std::cmp::Reverse(stored.source.size));
    Ok(sources)
}

/// What was extracted, and where more can be done.
pub(super) struct Extraction {
    pub(super) destinations: BTreeMap<ArchiveRoot, Arc<Destination>>,
    pub(super) extracted: BTreeMap<ArchiveRoot, Vec<Extracted>>,
    pub(super) memory: u64,
}

/// Extracts every archive. When it returns, nobody writes any more.
pub(super) async fn extract(
    sources: Vec<Stored>,
    layout: &Layout,
    ports: &RestorePorts,
) -> Result<Extraction, Error> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.clamp(1, THREADS_MAX).min(sources.len());
    let share = DOWNLOAD_BYTES / RANGE_BYTES / threads as u64;
    let window = Window {
        range_bytes: RANGE_BYTES,
        ranges: usize::try_from(share.saturating_sub(2))
            .unwrap_or(1)
            .clamp(1, 4),
    };
    let destinations = open(layout)?;
    let total = sources.iter().map(|stored| stored.source.size).sum();
    ports.progress.report(Event::Begun { bytes: Some(total) });
    // Cancelled when one archive fails, so that the others stop too, and when this future is dropped.
    let cancel = ports.cancel.child_token();
    let guard = cancel.clone().drop_guard();
    let turns = Arc::new(Semaphore::new(threads));
    let read = Arc::new(AtomicU64::new(0));
    let mut archives = JoinSet::new();
    for stored in sources {
        let destination = Arc::clone(&destinations[&stored.root]);
        let job = Job {
            stored,
            destination,
            window,
            turns: Arc::clone(&turns),
            read: Arc::clone(&read),
            cancel: cancel.clone(),
        };
        archives.spawn(job.run());
    }
    let extracted = watch(&mut archives, ports, &read).await;
    // Nobody writes any more when this returns.
    guard.disarm().cancel();
    while archives.join_next().await.is_some() {}
    Ok(Extraction {
        destinations,
        extracted: extracted?,
        memory: window.memory() * threads as u64 + ((threads as u64) << 20),
    })
}

async fn watch(
    archives: &mut JoinSet<Result<(ArchiveRoot, Extracted), Error>>,
    ports: &RestorePorts,
    read: &AtomicU64,
) -> Result<BTreeMap<ArchiveRoot, Vec<Extracted>>, Error> {
    let mut extracted: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut ticks = tokio::time::interval(REPORT_EVERY);
    loop {
        let joined = tokio::select! {
            () = ports.cancel.cancelled() => return Err(Error::Interrupted),
            _ = ticks.tick() => {
                let bytes = read.load(Ordering::Relaxed);
                ports.progress.report(Event::Advanced { bytes });
                continue;
            }
            joined = archives.join_next() => joined,
        };
        let Some(joined) = joined else {
            let bytes = read.load(Ordering::Relaxed);
            ports.progress.report(Event::Advanced { bytes });
            return Ok(extracted);
        };
        let joined = joined.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
        let (root, archive) = joined?;
        extracted.entry(root).or_default().push(archive);
    }
}

/// Opens the directories that archives go to.
pub(super) fn open(layout: &Layout) -> Result<BTreeMap<ArchiveRoot, Arc<Destination>>, Error> {
    let is_root = rustix::process::geteuid().is_root();
    let options = Options {
        ownership: if is_root {
            Ownership::Archive
        } else {
            Ownership::Process
        },
        symlinks: Symlinks::Any,
    };
    let roots = layout.directories();
    roots
        .map(|(root, path)| {
            let destination = Destination::open(path, options);
            let destination = destination.map_err(|source| Error::Extract {
                archive: root.to_string(),
                source,
            })?;
            let destination = match root {
                ArchiveRoot::Data => destination.holding_back(&LAST),
                ArchiveRoot::Tablespace(_) => destination,
            };
            Ok((root, Arc::new(destination)))
        })
        .collect()
}

/// One archive on its way.
struct Job {
    stored: Stored,
    destination: Arc<Destination>,
    window: Window,
    turns: Arc<Semaphore>,
    read: Arc<AtomicU64>,
    cancel: CancellationToken,
}

impl Job {
    async fn run(self) -> Result<(ArchiveRoot, Extracted), Error> {
        let _turn = self.turns.acquire().await.expect("it is never closed");
        let Stored {
            root,
            compression,
            source,
        } = self.stored;
        let archive = source.key.file_name().to_owned();
        let (arrivals, fetching) = download(source, self.window, self.cancel);
        let (destination, read) = (self.destination, self.read);
        let mut thread = JoinSet::new();
        thread.spawn_blocking(move || unpack(arrivals, compression, &destination, &read));
        let (fetched, extracted) = both(fetching, thread).await;
        // The thread noticed only that nothing came any more; the download knows why.
        fetched.map_err(|source| Error::Fetch {
            archive: archive.clone(),
            source,
        })?;
        let extracted = extracted.map_err(|source| Error::Extract { archive, source })?;
        Ok((root, extracted))
    }
}

async fn both(
    fetching: Fetching,
    mut thread: JoinSet<Result<Extracted, untar::Error>>,
) -> (store::Result<()>, Result<Extracted, untar::Error>) {
    let joined = async {
        let joined = thread.join_next().await.expect("one was started");
        joined.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
    };
    futures_util::future::join(fetching.run(), joined).await
}

fn unpack(
    arrivals: Arrivals,
    compression: Compression,
    destination: &Destination,
    read: &AtomicU64,
) -> Result<Extracted, untar::Error> {
    let counted = Counted {
        inner: arrivals,
        read,
    };
    let broken = |source| untar::Error::Read { source };
    let mut decoder = Decoder::new(compression, counted).map_err(broken)?;
    let extracted = destination.extract(&mut decoder)?;
    // What is behind the end of the archive still has to be a whole stream.
    io::copy(&mut decoder, &mut io::sink()).map_err(broken)?;
    Ok(extracted)
}

/// Counts what is taken from the download.
struct Counted<'a> {
    inner: Arrivals,
    read: &'a AtomicU64,
}

impl io::Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

impl io::BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.read.fetch_add(amount as u64, Ordering::Relaxed);
        self.inner.consume(amount);
    }
}
