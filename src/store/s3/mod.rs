//! S3 and what is compatible with it: `s3://bucket/prefix`, on the official SDK.
//!
//! Every object and every part is protected on its way by a CRC-32 that the store checks and keeps, or, for stores that refuse it, by
//! a signature over the content. Parts are equal, as some stores demand; deletes go in batches with the MD5 that many demand.
//! Storage class, owner and ACL are never set. Versions are entity tags: an object that is rewritten with the same bytes
//! keeps its version.
//!
//! Tries are repeated by the SDK, with backoff and a deadline; reading goes on where it broke off. A bucket of another region is
//! followed there. Nothing here is retried above that.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use bytes::Bytes;

use self::{bucket::Bucket, client::connect};
use super::{
    Deleted, Error, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest, Meaning,
    Operation, PendingUpload, PutOptions, Result, Store, Stored, Upload, UploadOptions, batches,
};
use crate::{
    failure::chain,
    model::{
        desired::S3Options,
        lock::{BucketRetention, Lock},
        time::Timestamp,
    },
    secret::Secret,
};

mod answer;
mod bucket;
mod client;
mod credentials;
mod delete;
mod failure;
mod http;
mod lock;
mod read;
mod retention;
mod upload;
mod wire;

const PART_BYTES_MIN: u64 = 5 << 20;
const PART_BYTES_MAX: u64 = 5 << 30;
const PARTS_MAX: u32 = 10_000;
/// What one request may write. Some stores end here; AWS allows more only since lately.
const PUT_BYTES_MAX: u64 = 5 << 30;
const OBJECT_BYTES_MAX: u64 = 5 << 40;
const DELETE_BATCH_MAX: usize = 1000;

/// Long-lived credentials.
#[derive(Clone)]
pub struct AccessKeys {
    /// The name of the key.
    pub id: String,
    /// The key.
    pub secret: Secret,
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.id)
    }
}

/// A bucket, or what is below a prefix of it.
#[derive(Clone, Debug)]
pub struct S3 {
    location: Arc<str>,
    keys: Option<AccessKeys>,
    bucket: Arc<RwLock<Arc<Bucket>>>,
}

/// Does it, and once more where the bucket turns out to be.
macro_rules! wherever {
    ($store:expr, $bucket:ident => $call:expr) => {{
        let $bucket = $store.bucket();
        match $call.await {
            Ok(done) => Ok(done),
            Err(error) => match $store.follow(&$bucket).await {
                Some($bucket) => $call.await,
                None => Err(error),
            },
        }
    }};
}

impl S3 {
    /// The destination `s3://bucket/prefix`, with whatever credentials the SDK's own chain finds. Nothing is contacted.
    pub async fn open(bucket: &str, prefix: &str, options: &S3Options) -> Self {
        Self::with_keys(bucket, prefix, options, None).await
    }

    /// The same, with these credentials.
    pub async fn with_keys(
        bucket: &str,
        prefix: &str,
        options: &S3Options,
        keys: Option<AccessKeys>,
    ) -> Self {
        let (root, location) = match prefix {
            "" => (String::new(), format!("s3://{bucket}")),
            prefix => (format!("{prefix}/"), format!("s3://{bucket}/{prefix}")),
        };
        let bucket = Bucket {
            connection: connect(options, keys.as_ref()).await,
            name: bucket.to_owned(),
            root,
            location: location.clone(),
            options: options.clone(),
            batches: batches::Batches::default(),
        };
        Self {
            location: location.into(),
            keys,
            bucket: Arc::new(RwLock::new(Arc::new(bucket))),
        }
    }

    fn bucket(&self) -> Arc<Bucket> {
        let bucket = self.bucket.read().unwrap_or_else(PoisonError::into_inner);
        bucket.clone()
    }

    /// Moves to the region that the store has named, if it has named another than ours.
    async fn follow(&self, from: &Bucket) -> Option<Arc<Bucket>> {
        let region = from.connection.elsewhere.region()?;
        if region == from.connection.region.as_ref() {
            return None;
        }
        let options = S3Options {
            region: Some(region),
            ..from.options.clone()
        };
        let bucket = Arc::new(Bucket {
            connection: connect(&options, self.keys.as_ref()).await,
            name: from.name.clone(),
            root: from.root.clone(),
            location: from.location.clone(),
            options,
            batches: batches::Batches::default(),
        });
        let mut current = self.bucket.write().unwrap_or_else(PoisonError::into_inner);
        *current = bucket.clone();
        Some(bucket)
    }

    fn error(&self, meaning: Meaning, operation: Operation) -> Error {
        Error::new(meaning, operation, self.location.clone())
    }
}

#[async_trait]
impl Store for S3 {
    fn location(&self) -> &str {
        &self.location
    }

    fn limits(&self) -> Limits {
        Limits {
            part_bytes_min: PART_BYTES_MIN,
            part_bytes_max: PART_BYTES_MAX,
            parts_max: PARTS_MAX,
            put_bytes_max: PUT_BYTES_MAX,
            object_bytes_max: OBJECT_BYTES_MAX,
            delete_batch_max: self.bucket().batches.max(DELETE_BATCH_MAX),
        }
    }

    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored> {
        wherever!(self, bucket => bucket.put(key, content.clone(), &options))
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let (bucket, output, answered) = wherever!(self, bucket => async {
            let (output, answered) = bucket.get(key, &options).await?;
            Ok((bucket.clone(), output, answered))
        })?;
        let meta = bucket.got(key, &output)?;
        let range = options
            .resolve(meta.size)
            .ok_or_else(|| self.error(Meaning::Precondition, Operation::Get).about(key))?;
        Ok(GetResult {
            date: answered.date(),
            body: read::body(bucket, &meta, range.clone(), output.body),
            meta,
            range,
        })
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        wherever!(self, bucket => bucket.head(key))
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        wherever!(self, bucket => bucket.list(&request))
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        let bucket = self.bucket();
        let deleted = batches::delete(&*bucket, keys).await;
        if deleted.iter().all(|deleted| deleted.outcome.is_ok()) {
            return deleted;
        }
        match self.follow(&bucket).await {
            Some(bucket) => batches::delete(&*bucket, keys).await,
            None => deleted,
        }
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        match wherever!(self, bucket => lock::locks(&bucket, keys)) {
            Ok(locks) => locks,
            Err(error) => vec![Lock::Unknown(chain(&error)); keys.len()],
        }
    }

    async fn retention(&self) -> Result<BucketRetention> {
        wherever!(self, bucket => retention::retention(&bucket))
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let upload = wherever!(self, bucket => {
            upload::S3Upload::begin(bucket.clone(), key, options.clone())
        });
        Ok(Box::new(upload?))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        wherever!(self, bucket => upload::pending(&bucket, prefix))
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        wherever!(self, bucket => upload::abort(&bucket, &upload.key, &upload.id))
    }

    async fn check_reachable(&self) -> Result<()> {
        let page = wherever!(self, bucket => bucket.page("", None, 1));
        page.map(drop)
            .map_err(|error| error.during(Operation::CheckReachable))
    }

    async fn create_destination(&self) -> Result<()> {
        match self.check_reachable().await {
            Err(error) if error.meaning == Meaning::BucketMissing => self.bucket().create().await,
            result => result,
        }
    }

    async fn time(&self) -> Result<Timestamp> {
        let page = wherever!(self, bucket => bucket.page("", None, 1));
        page.map(|(_, answered)| answered.date())
            .map_err(|error| error.during(Operation::Time))
    }
}
