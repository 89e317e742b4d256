//! A store that deletes only while the right to delete is certain.
//!
//! Everything passes, but before each request that deletes the fence is asked. So the right is looked at once more as close to the effect as
//! this process can come, whatever it is that deletes and however long it has been at it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Deleted, Error, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest, Meaning,
    Operation, PendingUpload, PutOptions, Result, SharedStore, Store, Stored, Upload,
    UploadOptions,
};
use crate::model::{
    lock::{BucketRetention, Lock},
    time::Timestamp,
};

/// Knows whether something may be deleted now.
#[async_trait]
pub trait Fence: fmt::Debug + Send + Sync {
    /// Passes while the right to delete lasts long enough for one more request; else says why it does not.
    async fn check(&self) -> Result<(), String>;
}

/// Nobody has the right: what was never granted cannot be used.
#[derive(Clone, Copy, Debug)]
pub struct Closed;

#[async_trait]
impl Fence for Closed {
    async fn check(&self) -> Result<(), String> {
        Err("nobody has taken the lease".to_owned())
    }
}

/// Whoever asks has the right: there is nobody else.
#[derive(Clone, Copy, Debug)]
pub struct Open;

#[async_trait]
impl Fence for Open {
    async fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Passes on everything, and deletes only while its fence lets it.
#[derive(Debug)]
pub struct Fenced {
    inner: SharedStore,
    fence: Arc<dyn Fence>,
}

impl Fenced {
    /// The same store behind a fence.
    pub fn new(inner: SharedStore, fence: Arc<dyn Fence>) -> Self {
        Self { inner, fence }
    }

    async fn delete_batch(&self, keys: &[Key]) -> Vec<Deleted> {
        let Err(why) = self.fence.check().await else {
            return self.inner.delete(keys).await;
        };
        let refused = |key: &Key| {
            let error = Error::new(Meaning::RightLost, Operation::Delete, self.inner.location());
            Deleted {
                key: key.clone(),
                outcome: Err(error.about(key).because(why.clone())),
            }
        };
        keys.iter().map(refused).collect()
    }
}

#[async_trait]
impl Store for Fenced {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored> {
        self.inner.put(key, content, options).await
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.inner.get(key, options).await
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        self.inner.head(key).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.inner.list(request).await
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        // One batch is one request of the store below.
        let batch = self.limits().delete_batch_max.max(1);
        let mut deleted = Vec::with_capacity(keys.len());
        for keys in keys.chunks(batch) {
            deleted.extend(self.delete_batch(keys).await);
        }
        deleted
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        self.inner.locks(keys).await
    }

    async fn retention(&self) -> Result<BucketRetention> {
        self.inner.retention().await
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        self.inner.begin_upload(key, options).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        self.inner.list_uploads(prefix).await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        self.inner.abort_upload(upload).await
    }

    async fn check_reachable(&self) -> Result<()> {
        self.inner.check_reachable().await
    }

    async fn create_destination(&self) -> Result<()> {
        self.inner.create_destination().await
    }

    async fn time(&self) -> Result<Timestamp> {
        self.inner.time().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::store::{PutMode, StoreExt as _, memory::Memory};

    /// Lets so many requests pass.
    #[derive(Debug)]
    struct Passes(AtomicUsize);

    #[async_trait]
    impl Fence for Passes {
        async fn check(&self) -> Result<(), String> {
            let left = self
                .0
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
            left.map(|_| ()).map_err(|_| "no more".to_owned())
        }
    }

    #[tokio::test]
    async fn each_request_that_deletes_needs_the_right_anew_and_nothing_else_does() {
        let memory = Memory::new(Timestamp::from_unix_seconds(0).expect("an instant"));
        let keys: Vec<Key> = (0..=memory.limits().delete_batch_max)
            .map(|number| Key::verbatim(format!("{number:06}")))
            .collect();
        let fence = Arc::new(Passes(AtomicUsize::new(1)));
        let store = Fenced::new(Arc::new(memory.clone()), fence);
        for key in &keys {
            let written = store.put_text(key, "x", PutMode::Create).await;
            written.expect("writing needs no right");
        }
        let deleted = store.delete(&keys).await;
        let (refused, gone): (Vec<_>, Vec<_>) =
            deleted.iter().partition(|deleted| deleted.outcome.is_err());
        assert_eq!((refused.len(), gone.len()), (1, keys.len() - 1));
        let meaning = refused[0].outcome.as_ref().map_err(|error| error.meaning);
        assert_eq!(meaning, Err(Meaning::RightLost));
        assert_eq!(memory.contents().len(), 1);
        let closed = Fenced::new(Arc::new(memory.clone()), Arc::new(Closed));
        assert!(
            closed
                .delete(&keys)
                .await
                .iter()
                .all(|d| d.outcome.is_err())
        );
    }
}
