//! A store in memory, for tests and for the simulation.
//!
//! It is deterministic: versions are numbered, its clock stands still until [`Memory::set_time`] or goes with the one that it follows, and its page size can be chosen,
//! because a page size must change nothing. A clone is another client of the same store. It is stricter than most: it
//! insists on equal parts, and refuses to delete or to overwrite what is locked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};

use super::{
    Checksum, Deleted, Error, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest,
    Meaning, ObjectMeta, ObjectVersion, Operation, Part, PendingUpload, PutMode, PutOptions,
    Result, Store, Stored, Tags, Upload, UploadId, UploadOptions,
    checksum::crc32,
    listing::{Filling, Then, first},
};
use crate::{
    clock::Clock,
    model::{
        lock::{BucketRetention, Lock},
        time::Timestamp,
    },
};

const LOCATION: &str = "memory:";
const PAGE_SIZE: usize = 1000;

/// A store in memory.
#[derive(Clone, Debug)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    page_size: usize,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<UploadId, Pending>,
    retention: BucketRetention,
    listed: Listed,
    is_write_once: bool,
    serial: u64,
    now: Timestamp,
    clock: Option<Clock>,
    heeds_conditions: bool,
}

/// What listings tell beside names, sizes and times.
#[derive(Debug)]
struct Listed {
    locks: bool,
    versions: bool,
}

#[derive(Clone, Debug)]
struct Object {
    content: Bytes,
    meta: ObjectMeta,
    lock: Lock,
    tags: Tags,
}

#[derive(Debug)]
struct Pending {
    key: Key,
    options: UploadOptions,
    started: Timestamp,
    parts: BTreeMap<u32, Bytes>,
}

impl Memory {
    /// An empty store whose clock stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            retention: BucketRetention::NONE,
            listed: Listed {
                locks: false,
                versions: true,
            },
            is_write_once: false,
            serial: 0,
            now,
            clock: None,
            heeds_conditions: true,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            page_size: PAGE_SIZE,
        }
    }

    /// The same store, listed in pages of this size.
    #[must_use]
    pub fn with_page_size(self, page_size: usize) -> Self {
        Self { page_size, ..self }
    }

    /// The same store, whose listings tell the locks, as those of some clouds do.
    #[must_use]
    pub fn listing_locks(self) -> Self {
        self.lock().listed.locks = true;
        self
    }

    /// The same store, whose listings tell no versions.
    #[must_use]
    pub fn listing_no_versions(self) -> Self {
        self.lock().listed.versions = false;
        self
    }

    /// The same store, which writes no object twice.
    #[must_use]
    pub fn forbidding_overwriting(self) -> Self {
        self.lock().is_write_once = true;
        self
    }

    /// Sets the store's clock.
    pub fn set_time(&self, now: Timestamp) {
        self.lock().now = now;
    }

    /// From now on conditions of writes are ignored, as some stores do.
    pub fn ignore_conditions(&self) {
        self.lock().heeds_conditions = false;
    }

    /// Lets the store's clock go with another one.
    pub fn follow(&self, clock: Clock) {
        self.lock().clock = Some(clock);
    }

    /// Locks an object, frees it, or hides whether it is locked.
    pub fn set_lock(&self, key: &Key, lock: Lock) {
        if let Some(object) = self.lock().objects.get_mut(key.as_str()) {
            object.lock = lock;
        }
    }

    /// Sets what the store does to keep what it holds. Nothing heeds it but who asks for it.
    pub fn set_retention(&self, retention: BucketRetention) {
        self.lock().retention = retention;
    }

    /// Every object, for a test to compare.
    pub fn contents(&self) -> BTreeMap<Key, Bytes> {
        let objects = &self.lock().objects;
        let pair = |object: &Object| (object.meta.key.clone(), object.content.clone());
        objects.values().map(pair).collect()
    }

    /// The tags that an object was written with.
    pub fn tags(&self, key: &Key) -> Option<Tags> {
        let state = self.lock();
        state
            .objects
            .get(key.as_str())
            .map(|object| object.tags.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        let mut state = state.expect("no panic happens while it is locked");
        if let Some(clock) = state.clock {
            state.now = clock.now();
        }
        state
    }
}

fn error(meaning: Meaning, operation: Operation, key: &Key) -> Error {
    Error::new(meaning, operation, LOCATION).about(key)
}

impl State {
    fn version(&mut self) -> ObjectVersion {
        self.serial += 1;
        ObjectVersion(format!("v{}", self.serial))
    }

    /// Whether the object may be written now.
    fn admit(&self, key: &Key, mode: &PutMode) -> Result<(), Meaning> {
        let present = self.objects.get(key.as_str());
        match (mode, present) {
            _ if !self.heeds_conditions => {}
            (PutMode::Create, Some(_)) => return Err(Meaning::AlreadyExists),
            (PutMode::Replace(_), None) => return Err(Meaning::Precondition),
            (PutMode::Replace(version), Some(object)) if object.meta.version != *version => {
                return Err(Meaning::Precondition);
            }
            _ => {}
        }
        match present {
            Some(object) if self.is_write_once || object.is_locked(self.now) => {
                Err(Meaning::Locked)
            }
            _ => Ok(()),
        }
    }

    fn insert(&mut self, key: &Key, content: Bytes, checksum: Checksum, tags: Tags) -> Stored {
        let version = self.version();
        let meta = ObjectMeta {
            key: key.clone(),
            size: content.len() as u64,
            last_modified: self.now,
            version: version.clone(),
            checksum: Some(checksum.clone()),
            lock: None,
        };
        let object = Object {
            content,
            meta,
            lock: Lock::Free,
            tags,
        };
        self.objects.insert(key.as_str().to_owned(), object);
        Stored {
            version,
            checksum: Some(checksum),
            date: self.now,
        }
    }

    fn remove(&mut self, key: &Key) -> Result<(), Meaning> {
        match self.objects.get(key.as_str()) {
            Some(object) if object.is_locked(self.now) => Err(Meaning::Locked),
            _ => {
                self.objects.remove(key.as_str());
                Ok(())
            }
        }
    }

    fn page(&self, request: &ListRequest, page_size: usize) -> ListPage {
        let mut filling = Filling::new(request, page_size, self.now);
        let mut from = first(request);
        while let Some((key, object)) = self.objects.range(from..).next() {
            if !key.starts_with(&request.prefix) {
                break;
            }
            let listed = || {
                let mut meta = object.meta.clone();
                meta.checksum = None;
                meta.lock = self.listed.locks.then(|| object.lock.clone().at(self.now));
                if !self.listed.versions {
                    meta.version = ObjectVersion(String::new());
                }
                Ok::<_, Infallible>(Some(meta))
            };
            match filling.take(key, listed) {
                Ok(Then::From(next)) => from = next,
                Ok(Then::Stop) => break,
            }
        }
        filling.finish()
    }
}

impl Object {
    fn is_locked(&self, now: Timestamp) -> bool {
        match &self.lock {
            // What is not told is not forbidden.
            Lock::Unknown(_) => false,
            lock => !lock.is_free(now),
        }
    }
}

#[async_trait]
impl Store for Memory {
    fn location(&self) -> &str {
        LOCATION
    }

    fn limits(&self) -> Limits {
        Limits {
            part_bytes_min: 1,
            part_bytes_max: 1 << 40,
            parts_max: 10_000,
            put_bytes_max: 1 << 40,
            object_bytes_max: 1 << 50,
            delete_batch_max: 1000,
        }
    }

    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored> {
        let mut state = self.lock();
        state
            .admit(key, &options.mode)
            .map_err(|meaning| error(meaning, Operation::Put, key))?;
        let checksum = Checksum::of_crc32(crc32(&content));
        Ok(state.insert(key, content, checksum, options.tags))
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let failed = |meaning| error(meaning, Operation::Get, key);
        let state = self.lock();
        let object = state.objects.get(key.as_str());
        let object = object.ok_or_else(|| failed(Meaning::NotFound))?;
        if options
            .version
            .as_ref()
            .is_some_and(|version| *version != object.meta.version)
        {
            return Err(failed(Meaning::Precondition));
        }
        let range = options
            .resolve(object.meta.size)
            .ok_or_else(|| failed(Meaning::Precondition))?;
        let offset = |at: u64| usize::try_from(at).expect("an offset in memory");
        let content = object.content.slice(offset(range.start)..offset(range.end));
        Ok(GetResult {
            meta: object.meta.clone(),
            range,
            date: state.now,
            body: stream::iter([Ok(content)]).boxed(),
        })
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        let state = self.lock();
        let object = state.objects.get(key.as_str());
        let object = object.ok_or_else(|| error(Meaning::NotFound, Operation::Head, key))?;
        Ok(Head {
            meta: object.meta.clone(),
            date: state.now,
        })
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        Ok(self.lock().page(&request, self.page_size))
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        let mut state = self.lock();
        let mut delete = |key: &Key| Deleted {
            key: key.clone(),
            outcome: state
                .remove(key)
                .map_err(|meaning| error(meaning, Operation::Delete, key)),
        };
        keys.iter().map(&mut delete).collect()
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        let state = self.lock();
        let lock = |key: &Key| {
            let object = state.objects.get(key.as_str());
            object.map_or(Lock::Free, |object| object.lock.clone().at(state.now))
        };
        keys.iter().map(lock).collect()
    }

    async fn retention(&self) -> Result<BucketRetention> {
        Ok(self.lock().retention.clone())
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let mut state = self.lock();
        state.serial += 1;
        let id = UploadId(format!("u{}", state.serial));
        let pending = Pending {
            key: key.clone(),
            options,
            started: state.now,
            parts: BTreeMap::new(),
        };
        state.uploads.insert(id.clone(), pending);
        Ok(Box::new(MemoryUpload {
            store: self.clone(),
            key: key.clone(),
            id,
        }))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        let state = self.lock();
        let below = |(_, upload): &(&UploadId, &Pending)| upload.key.as_str().starts_with(prefix);
        let told = |(id, upload): (&UploadId, &Pending)| PendingUpload {
            key: upload.key.clone(),
            id: id.clone(),
            started: upload.started,
        };
        Ok(state.uploads.iter().filter(below).map(told).collect())
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        self.lock().uploads.remove(&upload.id);
        Ok(())
    }

    async fn check_reachable(&self) -> Result<()> {
        Ok(())
    }

    async fn create_destination(&self) -> Result<()> {
        Ok(())
    }

    async fn time(&self) -> Result<Timestamp> {
        Ok(self.lock().now)
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: Memory,
    key: Key,
    id: UploadId,
}

impl MemoryUpload {
    fn failed(&self, meaning: Meaning, operation: Operation) -> Error {
        error(meaning, operation, &self.key)
    }
}

#[async_trait]
impl Upload for MemoryUpload {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn put_part(&self, number: u32, content: Bytes) -> Result<Part> {
        let mut state = self.store.lock();
        let upload = state.uploads.get_mut(&self.id);
        let upload = upload.ok_or_else(|| self.failed(Meaning::NotFound, Operation::PutPart))?;
        let part = Part {
            number,
            size: content.len() as u64,
            tag: format!("p{number}"),
            checksum: Some(Checksum::of_crc32(crc32(&content))),
        };
        upload.parts.insert(number, content);
        Ok(part)
    }

    async fn complete(&self, parts: Vec<Part>) -> Result<Stored> {
        let operation = Operation::CompleteUpload;
        let mut state = self.store.lock();
        let upload = state.uploads.get(&self.id);
        let upload = upload.ok_or_else(|| self.failed(Meaning::NotFound, operation))?;
        let content = assemble(upload, &parts).ok_or_else(|| {
            self.failed(Meaning::Other, operation)
                .because("unequal parts")
        })?;
        let (mode, tags) = (upload.options.mode.clone(), upload.options.tags.clone());
        let sums: Vec<u32> = upload.parts.values().map(|part| crc32(part)).collect();
        state
            .admit(&self.key, &mode)
            .map_err(|meaning| self.failed(meaning, operation))?;
        state.uploads.remove(&self.id);
        let checksum = Checksum::of_crc32_parts(&sums);
        Ok(state.insert(&self.key, content, checksum, tags))
    }

    async fn abort(&self) -> Result<()> {
        self.store.lock().uploads.remove(&self.id);
        Ok(())
    }
}

/// The parts as one, if they are all of them, in order, and equal but for the last.
fn assemble(upload: &Pending, parts: &[Part]) -> Option<Bytes> {
    let numbers = parts.iter().map(|part| part.number);
    let complete = numbers.clone().eq(1..=u32::try_from(parts.len()).ok()?)
        && numbers.eq(upload.parts.keys().copied());
    let (last, equal) = parts.split_last()?;
    let fits = equal
        .iter()
        .all(|part| part.size == upload.options.part_bytes)
        && last.size <= upload.options.part_bytes;
    if !complete || !fits {
        return None;
    }
    let mut content = BytesMut::new();
    for part in upload.parts.values() {
        content.extend_from_slice(part);
    }
    Some(content.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::lock::LockMode,
        store::{StoreExt, conformance},
    };

    fn memory() -> Memory {
        Memory::new(Timestamp::from_unix_seconds(1_000_000).expect("an instant"))
    }

    #[tokio::test]
    async fn memory_conforms() {
        conformance::all(&memory()).await;
    }

    #[tokio::test]
    async fn the_page_size_changes_nothing() {
        for page_size in [1, 2, 7] {
            conformance::listing(&memory().with_page_size(page_size)).await;
        }
    }

    #[tokio::test]
    async fn what_is_locked_stays() {
        let store = memory();
        let key = Key::verbatim("a");
        let put = store.put_text(&key, "x", PutMode::Overwrite).await;
        let until = put.expect("put").date + std::time::Duration::from_secs(9);
        store.set_lock(&key, Lock::until(until, LockMode::Compliance));
        let meaning = |deleted: Vec<Deleted>| deleted[0].outcome.as_ref().err().map(|e| e.meaning);
        assert_eq!(
            meaning(store.delete(std::slice::from_ref(&key)).await),
            Some(Meaning::Locked)
        );
        store.set_time(Timestamp::from_unix_seconds(1_000_010).expect("an instant"));
        assert_eq!(meaning(store.delete(&[key]).await), None);
    }
}
