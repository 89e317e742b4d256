//! A directory as a destination: `file:///path`.
//!
//! The key is the path below it. An object is written to a file of another name in its own directory, fsynced, renamed, and its
//! directories are fsynced: it is visible whole or not at all, and survives a power cut. What a crash leaves has a name that
//! begins with `.barkeep-upload.`: listings do not show it, and it is found and ended like any unfinished upload.
//!
//! A version is a file's inode, size and time of modification, and a write makes that time greater than its predecessor's.
//! [`PutMode::Replace`](super::PutMode) compares and renames under an exclusive `flock` on `.barkeep-lock` that every other change
//! takes shared: it is safe among all that write through here, on any file system whose locks and names work across those hosts.
//! Times are compared with this machine's clock, so over a network file system the clocks must agree.
//!
//! Nothing outside is ever reached: a symbolic link below the directory is refused, in a path and in a listing.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use rustix::fs::{Stat, fstat};

use self::{
    listing::{objects, uploads},
    tree::{Place, Tree},
    write::Temporary,
};
use super::{
    Body, Deleted, Error, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest, Meaning,
    ObjectMeta, ObjectVersion, Operation, Part, PendingUpload, PutOptions, Result, Store, Stored,
    Upload, UploadId, UploadOptions,
};
use crate::{
    clock::Clock,
    model::{
        lock::{BucketRetention, Lock},
        time::Timestamp,
    },
};

mod delete;
mod listing;
mod tree;
mod write;

const PAGE_SIZE: usize = 1000;
/// How much of a file is read at once.
const READ_BYTES: u64 = 1 << 20;

/// A directory that holds objects.
#[derive(Clone, Debug)]
pub struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    location: Arc<str>,
    clock: Clock,
}

/// Why a call to the operating system ended: what it means, and what it said.
type Failed = (Meaning, std::io::Error);

impl Directory {
    /// The destination at this path, which need not exist yet. Nothing is touched.
    pub fn new(path: impl AsRef<Path>, clock: Clock) -> Self {
        let root = path.as_ref().to_owned();
        let location = format!("file://{}", root.display()).into();
        let inner = Inner {
            root,
            location,
            clock,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Runs what blocks where it may block, and says what failed.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        work: impl FnOnce(&Inner) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failed)) => Err(self.inner.error(operation, key, failed)),
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::new(
                    Meaning::Interrupted,
                    operation,
                    self.inner.location.clone(),
                )),
            },
        }
    }
}

impl Inner {
    fn tree(&self) -> Result<Tree, Failed> {
        Tree::open(&self.root)
    }

    fn error(&self, operation: Operation, key: Option<&Key>, (meaning, source): Failed) -> Error {
        let error = Error::new(meaning, operation, self.location.clone());
        let error = match key {
            Some(key) => error.about(key),
            None => error,
        };
        match meaning {
            // They say it all.
            Meaning::NotFound | Meaning::AlreadyExists => error,
            _ => error.because(source),
        }
    }

    fn stored(&self, stat: &Stat) -> Stored {
        Stored {
            version: version(stat),
            checksum: None,
            date: self.clock.now(),
        }
    }
}

/// What a file is as an object.
fn meta(key: Key, stat: &Stat) -> ObjectMeta {
    ObjectMeta {
        key,
        size: size(stat),
        last_modified: modified(stat),
        version: version(stat),
        checksum: None,
        lock: None,
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

fn modified(stat: &Stat) -> Timestamp {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let instant = chrono::DateTime::from_timestamp(stat.st_mtime, nanoseconds);
    instant.unwrap_or_default().into()
}

fn version(stat: &Stat) -> ObjectVersion {
    let (seconds, nanoseconds) = (stat.st_mtime, stat.st_mtime_nsec);
    let (inode, size) = (stat.st_ino, stat.st_size);
    ObjectVersion(format!("{inode:x}.{size:x}.{seconds:x}.{nanoseconds:x}"))
}

/// A refusal of our own.
fn refused(meaning: Meaning, why: impl Into<String>) -> Failed {
    (meaning, std::io::Error::other(why.into()))
}

#[async_trait]
impl Store for Directory {
    fn location(&self) -> &str {
        &self.inner.location
    }

    fn limits(&self) -> Limits {
        Limits {
            part_bytes_min: 1,
            part_bytes_max: 1 << 40,
            parts_max: 1_000_000,
            put_bytes_max: 1 << 40,
            object_bytes_max: 1 << 60,
            delete_batch_max: 1000,
        }
    }

    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored> {
        let target = key.clone();
        self.blocking(Operation::Put, Some(key), move |inner| {
            let tree = inner.tree()?;
            let temporary = Temporary::whole(&tree, &target, &content, inner.clock.now())?;
            let stat = temporary.publish(&tree, &options.mode)?;
            Ok(inner.stored(&stat))
        })
        .await
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let wanted = key.clone();
        let (file, meta, range) = self
            .blocking(Operation::Get, Some(key), move |inner| {
                let file = inner.tree()?.read(&wanted)?;
                let stat = fstat(&file).map_err(tree::errno)?;
                let meta = meta(wanted, &stat);
                if options
                    .version
                    .as_ref()
                    .is_some_and(|wanted| *wanted != meta.version)
                {
                    return Err(refused(Meaning::Precondition, "it is another version"));
                }
                let range = options.resolve(meta.size).ok_or_else(|| {
                    refused(Meaning::Precondition, "the range begins beyond its end")
                })?;
                Ok((file, meta, range))
            })
            .await?;
        Ok(GetResult {
            body: self.body(key, file, range.clone()),
            meta,
            range,
            date: self.inner.clock.now(),
        })
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        let wanted = key.clone();
        let meta = self
            .blocking(Operation::Head, Some(key), move |inner| {
                let file = inner.tree()?.read(&wanted)?;
                let stat = fstat(&file).map_err(tree::errno)?;
                Ok(meta(wanted, &stat))
            })
            .await?;
        let date = self.inner.clock.now();
        Ok(Head { meta, date })
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let prefix = Key::verbatim(request.prefix.clone());
        self.blocking(Operation::List, Some(&prefix), move |inner| {
            objects(&inner.tree()?, &request, PAGE_SIZE, inner.clock.now())
        })
        .await
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        let wanted = keys.to_vec();
        let outcomes = self
            .blocking(Operation::Delete, None, move |inner| {
                Ok(delete::delete(&inner.tree()?, wanted))
            })
            .await;
        match outcomes {
            Ok(outcomes) => outcomes
                .into_iter()
                .map(|(key, outcome)| {
                    let told = |failed| self.inner.error(Operation::Delete, Some(&key), failed);
                    let outcome = outcome.map_err(told);
                    Deleted { key, outcome }
                })
                .collect(),
            Err(error) => keys
                .iter()
                .map(|key| Deleted {
                    key: key.clone(),
                    outcome: Err(error.clone().about(key)),
                })
                .collect(),
        }
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        vec![Lock::Free; keys.len()]
    }

    async fn retention(&self) -> Result<BucketRetention> {
        Ok(BucketRetention::NONE)
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let target = key.clone();
        let temporary = self
            .blocking(Operation::BeginUpload, Some(key), move |inner| {
                Temporary::create(&inner.tree()?, &target, inner.clock.now())
            })
            .await?;
        Ok(Box::new(DirectoryUpload {
            store: self.clone(),
            key: key.clone(),
            id: temporary.id(),
            temporary: Arc::new(temporary.keep()),
            options,
        }))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        let key = Key::verbatim(prefix);
        let prefix = prefix.to_owned();
        self.blocking(Operation::ListUploads, Some(&key), move |inner| {
            uploads(&inner.tree()?, &prefix)
        })
        .await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        let id = upload.id.clone();
        self.blocking(Operation::AbortUpload, Some(&upload.key), move |inner| {
            write::abort(&inner.tree()?, &id)
        })
        .await
    }

    async fn check_reachable(&self) -> Result<()> {
        self.blocking(Operation::CheckReachable, None, |inner| {
            inner.tree().map(drop)
        })
        .await
    }

    async fn create_destination(&self) -> Result<()> {
        self.blocking(Operation::CreateDestination, None, |inner| {
            tree::create(&inner.root)
        })
        .await
    }

    async fn time(&self) -> Result<Timestamp> {
        Ok(self.inner.clock.now())
    }
}

impl Directory {
    fn body(&self, key: &Key, file: File, range: std::ops::Range<u64>) -> Body {
        let (store, key, file) = (self.clone(), key.clone(), Arc::new(file));
        stream::try_unfold(range, move |rest| {
            let (store, key, file) = (store.clone(), key.clone(), file.clone());
            async move {
                if rest.is_empty() {
                    return Ok(None);
                }
                let end = rest.end.min(rest.start + READ_BYTES);
                let chunk = store.blocking(Operation::Get, Some(&key), move |_| {
                    let length = usize::try_from(end - rest.start).expect("a chunk is small");
                    let mut chunk = vec![0; length];
                    file.read_exact_at(&mut chunk, rest.start)
                        .map_err(tree::io)?;
                    Ok(Bytes::from(chunk))
                });
                Ok(Some((chunk.await?, end..rest.end)))
            }
        })
        .into_stream()
        .boxed()
    }
}

#[derive(Debug)]
struct DirectoryUpload {
    store: Directory,
    key: Key,
    id: UploadId,
    temporary: Arc<Temporary>,
    options: UploadOptions,
}

#[async_trait]
impl Upload for DirectoryUpload {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn put_part(&self, number: u32, content: Bytes) -> Result<Part> {
        let (temporary, part_bytes) = (self.temporary.clone(), self.options.part_bytes);
        self.store
            .blocking(Operation::PutPart, Some(&self.key), move |_| {
                let size = content.len() as u64;
                let before = number
                    .checked_sub(1)
                    .filter(|_| size <= part_bytes)
                    .ok_or_else(unequal)?;
                let offset = u64::from(before) * part_bytes;
                temporary
                    .file()
                    .write_all_at(&content, offset)
                    .map_err(tree::io)?;
                Ok(Part {
                    number,
                    size,
                    tag: number.to_string(),
                    checksum: None,
                })
            })
            .await
    }

    async fn complete(&self, parts: Vec<Part>) -> Result<Stored> {
        let (temporary, options) = (self.temporary.clone(), self.options.clone());
        self.store
            .blocking(Operation::CompleteUpload, Some(&self.key), move |inner| {
                let size = fstat(temporary.file()).map_err(tree::errno)?;
                if total(&parts, options.part_bytes) != u64::try_from(size.st_size).ok() {
                    return Err(unequal());
                }
                let stat = temporary.publish(&inner.tree()?, &options.mode)?;
                Ok(inner.stored(&stat))
            })
            .await
    }

    async fn abort(&self) -> Result<()> {
        let id = self.id.clone();
        self.store
            .blocking(Operation::AbortUpload, Some(&self.key), move |inner| {
                write::abort(&inner.tree()?, &id)
            })
            .await
    }
}

fn unequal() -> Failed {
    refused(Meaning::Other, "the parts are not equal, or not all there")
}

/// The length of the whole, if these are all parts, in order and equal but for the last.
fn total(parts: &[Part], part_bytes: u64) -> Option<u64> {
    let (last, equal) = parts.split_last()?;
    let numbers = parts.iter().map(|part| part.number);
    let whole = numbers.eq(1..=u32::try_from(parts.len()).ok()?)
        && equal.iter().all(|part| part.size == part_bytes)
        && last.size <= part_bytes;
    whole.then(|| parts.iter().map(|part| part.size).sum())
}

#[cfg(test)]
mod tests;
