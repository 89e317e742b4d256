//! How often a store is asked, for how much, and how long it takes.
//!
//! A request is counted when it is answered, by what was asked. A deletion of many counts as the requests that it takes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::time::Instant;

use super::{
    Deleted, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest, Operation, Part,
    PendingUpload, PutOptions, Result, SharedStore, Store, Stored, Upload, UploadId, UploadOptions,
};
use crate::model::{
    lock::{BucketRetention, Lock},
    time::Timestamp,
};

/// What one kind of request came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many requests.
    pub requests: u64,
    /// How many of them failed.
    pub failures: u64,
    /// Content sent, in bytes.
    pub sent: u64,
    /// Content received, in bytes.
    pub received: u64,
    /// The time until the answers, added up.
    pub time: Duration,
}

/// The counts; a clone is the same ones.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Mutex<BTreeMap<Operation, Count>>>);

impl Counts {
    /// What has been counted so far.
    pub fn snapshot(&self) -> BTreeMap<Operation, Count> {
        self.0.lock().expect("counting does not panic").clone()
    }

    /// All requests together.
    pub fn requests(&self) -> u64 {
        self.snapshot().values().map(|count| count.requests).sum()
    }

    fn add(&self, operation: Operation, change: impl FnOnce(&mut Count)) {
        let mut counts = self.0.lock().expect("counting does not panic");
        change(counts.entry(operation).or_default());
    }

    async fn time<T>(
        &self,
        operation: Operation,
        sent: usize,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        let result = call.await;
        self.add(operation, |count| {
            count.requests += 1;
            count.failures += u64::from(result.is_err());
            count.sent += sent as u64;
            count.time += begun.elapsed();
        });
        result
    }
}

/// A store whose requests are counted.
#[derive(Debug)]
pub struct Meter {
    inner: SharedStore,
    counts: Counts,
}

impl Meter {
    /// The same store, counted here.
    pub fn new(inner: SharedStore, counts: Counts) -> Self {
        Self { inner, counts }
    }
}

#[async_trait]
impl Store for Meter {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored> {
        let (length, call) = (content.len(), self.inner.put(key, content, options));
        self.counts.time(Operation::Put, length, call).await
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let call = self.inner.get(key, options);
        let mut result = self.counts.time(Operation::Get, 0, call).await?;
        let counts = self.counts.clone();
        let body = result.body.inspect_ok(move |chunk| {
            counts.add(Operation::Get, |count| count.received += chunk.len() as u64);
        });
        result.body = Box::pin(body);
        Ok(result)
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        let call = self.inner.head(key);
        self.counts.time(Operation::Head, 0, call).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        let call = self.inner.list(request);
        self.counts.time(Operation::List, 0, call).await
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        let begun = Instant::now();
        let deleted = self.inner.delete(keys).await;
        let failed = deleted.iter().any(|deleted| deleted.outcome.is_err());
        self.counts.add(Operation::Delete, |count| {
            count.requests += keys.len().div_ceil(self.limits().delete_batch_max) as u64;
            count.failures += u64::from(failed);
            count.time += begun.elapsed();
        });
        deleted
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        let begun = Instant::now();
        let locks = self.inner.locks(keys).await;
        let unknown = locks.iter().any(|lock| matches!(lock, Lock::Unknown(_)));
        self.counts.add(Operation::Locks, |count| {
            count.requests += 1;
            count.failures += u64::from(unknown);
            count.time += begun.elapsed();
        });
        locks
    }

    async fn retention(&self) -> Result<BucketRetention> {
        let call = self.inner.retention();
        self.counts.time(Operation::Retention, 0, call).await
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let call = self.inner.begin_upload(key, options);
        let inner = self.counts.time(Operation::BeginUpload, 0, call).await?;
        let counts = self.counts.clone();
        Ok(Box::new(MeteredUpload { inner, counts }))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        let call = self.inner.list_uploads(prefix);
        self.counts.time(Operation::ListUploads, 0, call).await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        let call = self.inner.abort_upload(upload);
        self.counts.time(Operation::AbortUpload, 0, call).await
    }

    async fn check_reachable(&self) -> Result<()> {
        let call = self.inner.check_reachable();
        self.counts.time(Operation::CheckReachable, 0, call).await
    }

    async fn create_destination(&self) -> Result<()> {
        let call = self.inner.create_destination();
        let operation = Operation::CreateDestination;
        self.counts.time(operation, 0, call).await
    }

    async fn time(&self) -> Result<Timestamp> {
        let call = self.inner.time();
        self.counts.time(Operation::Time, 0, call).await
    }
}

#[derive(Debug)]
struct MeteredUpload {
    inner: Box<dyn Upload>,
    counts: Counts,
}

#[async_trait]
impl Upload for MeteredUpload {
    fn id(&self) -> &UploadId {
        self.inner.id()
    }

    async fn put_part(&self, number: u32, content: Bytes) -> Result<Part> {
        let (length, call) = (content.len(), self.inner.put_part(number, content));
        self.counts.time(Operation::PutPart, length, call).await
    }

    async fn complete(&self, parts: Vec<Part>) -> Result<Stored> {
        let call = self.inner.complete(parts);
        self.counts.time(Operation::CompleteUpload, 0, call).await
    }

    async fn abort(&self) -> Result<()> {
        let call = self.inner.abort();
        self.counts.time(Operation::AbortUpload, 0, call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PutMode, StoreExt, conformance, memory::Memory};

    fn metered() -> (Meter, Counts) {
        let memory = Memory::new(Timestamp::from_unix_seconds(0).expect("an instant"));
        let counts = Counts::default();
        (Meter::new(Arc::new(memory), counts.clone()), counts)
    }

    #[tokio::test]
    async fn a_metered_store_conforms() {
        conformance::all(&metered().0).await;
    }

    #[tokio::test]
    async fn requests_bytes_and_failures_are_counted_by_kind() {
        let (store, counts) = metered();
        let key = Key::verbatim("a");
        store
            .put_text(&key, "four", PutMode::Create)
            .await
            .expect("written");
        assert!(store.put_text(&key, "no", PutMode::Create).await.is_err());
        store.get_text(&key).await.expect("read");
        let keys: Vec<Key> = (0..1001).map(|n| Key::verbatim(format!("{n}"))).collect();
        store.delete(&keys).await;
        let counts = counts.snapshot();
        let put = counts[&Operation::Put];
        assert_eq!((put.requests, put.failures, put.sent), (2, 1, 6));
        let get = counts[&Operation::Get];
        assert_eq!((get.requests, get.received), (1, 4));
        assert_eq!(counts[&Operation::Delete].requests, 2);
    }
}
