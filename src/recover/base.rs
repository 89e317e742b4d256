//! Restoring a base backup into directories of this host.
//!
//! [`restore`] fetches the archives side by side, decompresses and extracts them as they come, links the tablespaces, adapts the
//! configuration, and makes everything durable. It writes into empty directories only. Until the very end the control file and the
//! backup label have other names, and a marker says that the restore is not complete: PostgreSQL cannot start on half a cluster, and
//! nobody can take one for a whole. Reads what barkeep and what Barman wrote, alike.

mod download;
mod error;
mod layout;
mod settings;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, symlink},
    panic,
    path::{Path, PathBuf},
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
use tracing::Instrument as _;

use self::{
    download::{Arrivals, Fetching, Source, Window, download},
    error::unwritten,
    layout::Layout,
};
pub use self::{
    error::Error,
    layout::TablespaceRule,
    settings::{ArchiveMode, Becomes, Inclusive, Override, Recovery, TargetAction},
};
use crate::{
    format::keys::{ArchiveName, ObjectKey},
    model::{
        backup::{ArchiveRoot, Backup, Tablespace},
        compression::Compression,
        names::{DestinationName, ServerName},
        progress::{Event, Progress},
    },
    pipeline::{
        compress::Decoder,
        untar::{
            self, Destination, Durability, EntryKind, Extracted, Options, Ownership, Symlinks,
        },
    },
    store::{self, Archive},
};

/// Says in the data directory that it is not complete.
pub const MARKER: &str = "barkeep-restore-incomplete";

/// The files without which nothing starts, in the order in which they get their names.
const LAST: [&str; 2] = ["backup_label", "global/pg_control"];

/// Files of the original's present that must not act in a copy.
const INHERITED: [&str; 7] = [
    "standby.signal",
    "recovery.signal",
    "recovery.conf",
    "postmaster.pid",
    "postmaster.opts",
    "tablespace_map",
    "current_logfiles",
];

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

/// What is to be restored, and where.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// The server, for messages.
    pub server: ServerName,
    /// The destination that it is restored from.
    pub destination: DestinationName,
    /// The backup.
    pub backup: Backup,
    /// The data directory: missing or empty.
    pub directory: PathBuf,
    /// Where tablespaces go that do not go where they were.
    pub tablespaces: Vec<TablespaceRule>,
    /// How the cluster recovers; `None` writes no settings and removes nothing, as Barman.
    pub recovery: Option<Recovery>,
    /// Whether what was restored survives a crash of this host.
    pub durability: Durability,
}

/// What a restore works with.
pub struct RestorePorts {
    /// The server's catalog.
    pub catalog: Archive,
    /// Whoever watches.
    pub progress: Arc<dyn Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// A cluster that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredCluster {
    /// Its data directory.
    pub directory: PathBuf,
    /// Its tablespaces, where they are now.
    pub tablespaces: Vec<Tablespace>,
    /// How many files it has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of the original that were removed.
    pub removed: Vec<PathBuf>,
    /// Settings of the original that were changed.
    pub overrides: Vec<Override>,
    /// Links that lead out of the data directory, as they were in the backup; some may lead nowhere.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// What was held in memory at most, in bytes.
    pub memory: u64,
}

/// Restores a backup.
pub async fn restore(
    request: &RestoreRequest,
    ports: &RestorePorts,
) -> Result<RestoredCluster, Error> {
    let (server, destination) = (&request.server, &request.destination);
    let backup = &request.backup.id;
    let span = tracing::info_span!("restore", %server, %destination, %backup);
    restore_in_span(request, ports).instrument(span).await
}

async fn restore_in_span(
    request: &RestoreRequest,
    ports: &RestorePorts,
) -> Result<RestoredCluster, Error> {
    if let Some(root) = request.backup.missing_archive() {
        return Err(Error::MissingArchive {
            backup: request.backup.id.clone(),
            root,
        });
    }
    let layout = Layout::plan(request)?;
    let sources = sources(request, ports).await?;
    layout.prepare(&request.backup.id)?;
    let extraction = extract(sources, &layout, ports).await?;
    ports.progress.report(Event::Checking);
    let request = request.clone();
    let mut finishing = JoinSet::new();
    finishing.spawn_blocking(move || finish(&request, &layout, extraction));
    let finished = finishing.join_next().await.expect("one was started");
    finished.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}

/// An archive in the store.
struct Stored {
    root: ArchiveRoot,
    compression: Compression,
    source: Source,
}

/// Looks at every archive, so that all are read in one version; the largest first.
async fn sources(request: &RestoreRequest, ports: &RestorePorts) -> Result<Vec<Stored>, Error> {
    let look = |archive| async move {
        let name = ArchiveName::from(archive);
        let object = ObjectKey::archive(&request.backup.id, name);
        let head = ports.catalog.head(&object).await;
        let head = head.map_err(|source| Error::Fetch {
            archive: name.to_string(),
            source,
        })?;
        let head = head.ok_or_else(|| Error::MissingArchive {
            backup: request.backup.id.clone(),
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
    let archives = request.backup.archives.iter();
    let mut sources: Vec<Stored> = stream::iter(archives)
        .map(look)
        .buffer_unordered(HEADS)
        .try_collect()
        .await?;
    sources.sort_by_key(|stored| std::cmp::Reverse(stored.source.size));
    Ok(sources)
}

/// What was extracted, and where more can be done.
struct Extraction {
    destinations: BTreeMap<ArchiveRoot, Arc<Destination>>,
    extracted: BTreeMap<ArchiveRoot, Vec<Extracted>>,
    memory: u64,
}

async fn extract(
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

fn open(layout: &Layout) -> Result<BTreeMap<ArchiveRoot, Arc<Destination>>, Error> {
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

/// Everything after the last byte: blocks.
fn finish(
    request: &RestoreRequest,
    layout: &Layout,
    extraction: Extraction,
) -> Result<RestoredCluster, Error> {
    let directory = &layout.data;
    make_directories(directory)?;
    for space in &layout.tablespaces {
        let link = directory.join("pg_tblspc").join(space.oid.to_string());
        match symlink(&space.location, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link).map_err(unwritten(&link))?;
                symlink(&space.location, &link).map_err(unwritten(&link))?;
            }
            made => made.map_err(unwritten(&link))?,
        }
    }
    let (removed, overrides) = match &request.recovery {
        Some(recovery) => (
            remove_inherited(directory)?,
            configure(directory, recovery)?,
        ),
        None => (Vec::new(), Vec::new()),
    };
    give_to_owner(directory, layout)?;
    for destination in extraction.destinations.values() {
        destination
            .finish(request.durability)
            .map_err(|source| Error::Finish {
                directory: directory.clone(),
                source,
            })?;
    }
    release(
        request,
        directory,
        &extraction.destinations[&ArchiveRoot::Data],
    )?;
    let all = || extraction.extracted.values().flatten();
    Ok(RestoredCluster {
        directory: directory.clone(),
        tablespaces: layout.tablespaces.clone(),
        files: all().map(|archive| archive.files).sum(),
        bytes: all().map(|archive| archive.bytes).sum(),
        removed,
        overrides,
        links: outward_links(layout, &extraction.extracted),
        memory: extraction.memory,
    })
}

/// Gives the last files their names, when everything else is safe.
fn release(
    request: &RestoreRequest,
    directory: &Path,
    destination: &Destination,
) -> Result<(), Error> {
    for name in LAST {
        let released = destination.release(name).map_err(|source| Error::Finish {
            directory: directory.to_owned(),
            source,
        })?;
        if !released {
            return Err(Error::MissingFile {
                backup: request.backup.id.clone(),
                name,
            });
        }
    }
    let marker = directory.join(MARKER);
    fs::remove_file(&marker).map_err(unwritten(&marker))?;
    sync_directory(directory)
}

fn sync_directory(directory: &Path) -> Result<(), Error> {
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(unwritten(directory))
}

/// The directories that a server expects and a backup may lack.
fn make_directories(directory: &Path) -> Result<(), Error> {
    for name in ["pg_wal/archive_status", "pg_tblspc"] {
        let path = directory.join(name);
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path);
        made.map_err(unwritten(&path))?;
    }
    Ok(())
}

fn remove_inherited(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut removed = Vec::new();
    for name in INHERITED {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Ok(()) => removed.push(PathBuf::from(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unwritten(&path)(error)),
        }
    }
    Ok(removed)
}

/// Writes the recovery settings, and overrides what would not work here.
fn configure(directory: &Path, recovery: &Recovery) -> Result<Vec<Override>, Error> {
    let files = layout::configuration(directory)?;
    let changes = settings::adapt(directory, &files, recovery, &|path| path.exists());
    for (path, text) in &changes.files {
        let path = directory.join(path);
        layout::rewrite(&path, text).map_err(unwritten(&path))?;
    }
    let signal = directory.join(match recovery.becomes {
        Becomes::Primary => "recovery.signal",
        Becomes::Standby => "standby.signal",
    });
    layout::rewrite(&signal, "").map_err(unwritten(&signal))?;
    Ok(changes.overrides)
}

/// Run by root, what was made here belongs to whoever owned the data directory.
fn give_to_owner(directory: &Path, layout: &Layout) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let path = directory.join("PG_VERSION");
    let owner = fs::metadata(&path).map_err(unwritten(&path))?;
    for path in layout::made(directory, layout) {
        layout::give(&path, &owner).map_err(unwritten(&path))?;
    }
    Ok(())
}

/// Links that lead elsewhere; those of tablespaces are known.
fn outward_links(
    layout: &Layout,
    extracted: &BTreeMap<ArchiveRoot, Vec<Extracted>>,
) -> Vec<(PathBuf, PathBuf)> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let mut links = Vec::new();
    for (root, archives) in extracted {
        let directory = layout.directory(*root);
        for special in archives.iter().flat_map(|archive| &archive.special) {
            if let EntryKind::Symlink(target) = &special.kind {
                links.push((directory.join(path(&special.name)), path(target)));
            }
        }
    }
    links
}

#[cfg(test)]
mod tests;
