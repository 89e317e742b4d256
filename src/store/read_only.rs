//! A store that cannot be written to, whatever asks: belt and braces for `plan` and everything else that only looks.

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

/// Passes on what reads, and refuses what writes with [`Meaning::PermissionDenied`].
#[derive(Debug)]
pub struct ReadOnly(SharedStore);

impl ReadOnly {
    /// The same store, for reading.
    pub fn new(store: SharedStore) -> Self {
        Self(store)
    }

    fn refused(&self, operation: Operation) -> Error {
        let error = Error::new(Meaning::PermissionDenied, operation, self.0.location());
        error.because("it was opened for reading only")
    }
}

#[async_trait]
impl Store for ReadOnly {
    fn location(&self) -> &str {
        self.0.location()
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    async fn put(&self, key: &Key, _: Bytes, _: PutOptions) -> Result<Stored> {
        Err(self.refused(Operation::Put).about(key))
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.0.get(key, options).await
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        self.0.head(key).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.0.list(request).await
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        let refused = |key: &Key| Deleted {
            key: key.clone(),
            outcome: Err(self.refused(Operation::Delete).about(key)),
        };
        keys.iter().map(refused).collect()
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        self.0.locks(keys).await
    }

    async fn retention(&self) -> Result<BucketRetention> {
        self.0.retention().await
    }

    async fn begin_upload(&self, key: &Key, _: UploadOptions) -> Result<Box<dyn Upload>> {
        Err(self.refused(Operation::BeginUpload).about(key))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        self.0.list_uploads(prefix).await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        Err(self.refused(Operation::AbortUpload).about(&upload.key))
    }

    async fn check_reachable(&self) -> Result<()> {
        self.0.check_reachable().await
    }

    async fn create_destination(&self) -> Result<()> {
        Err(self.refused(Operation::CreateDestination))
    }

    async fn time(&self) -> Result<Timestamp> {
        self.0.time().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{PutMode, StoreExt, Tags, memory::Memory};

    #[tokio::test]
    async fn what_reads_passes_and_what_writes_does_not() {
        let memory = Memory::new(Timestamp::from_unix_seconds(0).expect("an instant"));
        let key = Key::verbatim("a");
        memory
            .put_text(&key, "x", PutMode::Create)
            .await
            .expect("written");
        let before = memory.contents();
        let store = ReadOnly::new(Arc::new(memory.clone()));
        assert_eq!(store.get_text(&key).await.expect("it is read"), "x");
        let denied = |error: Option<Error>| {
            let meaning = error.map(|error| error.meaning);
            assert_eq!(meaning, Some(Meaning::PermissionDenied));
        };
        let upload = UploadOptions {
            part_bytes: 1,
            mode: PutMode::Overwrite,
            tags: Tags::Configured,
        };
        denied(store.put_text(&key, "y", PutMode::Overwrite).await.err());
        denied(store.begin_upload(&key, upload).await.err());
        denied(store.create_destination().await.err());
        denied(store.delete(&[key]).await.remove(0).outcome.err());
        assert_eq!(memory.contents(), before);
    }
}
