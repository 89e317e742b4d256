//! Azure Blob Storage: `https://account.blob.core.windows.net/container/prefix`, on the official SDK.
//!
//! What the SDK has calls for goes through them; listing by delimiter, batches and reading go through its pipeline. Objects of one
//! request carry an MD5 that the service checks and keeps; of blocks, the service tells a checksum of what it received. Parts are
//! equal. Access tiers, leases and policies are never set. Versions are entity tags, and every write makes a new one.
//!
//! Tries are repeated by the SDK, few times and within a deadline; reading goes on where it broke off. Nothing here is retried
//! above that, and no secret is in any message.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use self::{container::Container, upload::AzureUpload};
use super::{
    Deleted, Error, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest, Meaning,
    Operation, PendingUpload, PutOptions, Result, Store, Stored, Upload, UploadOptions, batches,
    reading,
};
use crate::model::{
    desired::AzureOptions,
    lock::{BucketRetention, Lock},
    time::Timestamp,
};

mod answer;
mod authorization;
mod batch;
mod client;
mod connection_string;
mod container;
mod delete;
mod failure;
mod identity;
mod lock;
mod page;
mod pending;
mod retention;
mod upload;

const PART_BYTES_MIN: u64 = 64 << 10;
const PART_BYTES_MAX: u64 = 4000 << 20;
const PARTS_MAX: u32 = 50_000;
/// What one request may write.
const PUT_BYTES_MAX: u64 = 5000 << 20;
const OBJECT_BYTES_MAX: u64 = PART_BYTES_MAX * PARTS_MAX as u64;
const DELETE_BATCH_MAX: usize = 256;
const PAGE_SIZE: usize = 5000;

/// A container, or what is below a prefix of it.
#[derive(Clone)]
pub struct Azure {
    container: Arc<Container>,
}

impl fmt::Debug for Azure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Azure")
            .field(&self.container.location)
            .finish()
    }
}

impl Azure {
    /// A container of an account, or what is below a prefix of it. The credential is the first of those that Barman knows, in its
    /// order; nobody is contacted. [`Meaning::PermissionDenied`] if the credential that comes first cannot be used.
    pub fn open(
        account_url: &str,
        container: &str,
        prefix: &str,
        options: &AzureOptions,
    ) -> Result<Self> {
        let location: Arc<str> = match prefix {
            "" => format!("{account_url}/{container}").into(),
            prefix => format!("{account_url}/{container}/{prefix}").into(),
        };
        let connection = client::connect(account_url, container, options).map_err(|problem| {
            let error = Error::new(Meaning::PermissionDenied, Operation::Open, location.clone());
            error.because(problem)
        })?;
        Ok(Self {
            container: Arc::new(Container::new(connection, prefix, location, options)),
        })
    }

    /// The shortest page, which proves what a page proves.
    async fn answers(&self, operation: Operation) -> Result<Timestamp> {
        let request = ListRequest {
            limit: Some(1),
            ..ListRequest::default()
        };
        let page = self
            .container
            .page(&request, container::Telling::Plain)
            .await;
        page.map(|(_, date)| date)
            .map_err(|error| error.during(operation))
    }
}

#[async_trait]
impl Store for Azure {
    fn location(&self) -> &str {
        &self.container.location
    }

    fn limits(&self) -> Limits {
        Limits {
            part_bytes_min: PART_BYTES_MIN,
            part_bytes_max: PART_BYTES_MAX,
            parts_max: PARTS_MAX,
            put_bytes_max: PUT_BYTES_MAX,
            object_bytes_max: OBJECT_BYTES_MAX,
            delete_batch_max: DELETE_BATCH_MAX,
        }
    }

    async fn put(&self, key: &Key, content: Bytes, options: PutOptions) -> Result<Stored> {
        self.container.put(key, content, &options).await
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let container = &self.container;
        let answer = container.get(key, &options).await?;
        let meta = container.meta(Operation::Get, key, answer.headers())?;
        let range = options.resolve(meta.size).ok_or_else(|| {
            let why = "the range begins beyond its end";
            let error = container.problem(Meaning::Precondition, Operation::Get, why);
            error.about(key)
        })?;
        let date = answer::date(answer.headers());
        let chunks = container.chunks(answer);
        Ok(GetResult {
            date,
            body: reading::body(container.clone(), &meta, range.clone(), chunks),
            meta,
            range,
        })
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        self.container.head(key).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.container.list(&request).await
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        batches::delete(&*self.container, keys).await
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        lock::locks(&self.container, keys).await
    }

    async fn retention(&self) -> Result<BucketRetention> {
        retention::retention(&self.container).await
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let upload = AzureUpload::begin(self.container.clone(), key, options)?;
        Ok(Box::new(upload))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        pending::pending(&self.container, prefix).await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        pending::abort(&self.container, &upload.key, &upload.id).await
    }

    async fn check_reachable(&self) -> Result<()> {
        self.answers(Operation::CheckReachable).await.map(drop)
    }

    async fn create_destination(&self) -> Result<()> {
        match self.check_reachable().await {
            Err(error) if error.meaning == Meaning::BucketMissing => self.container.create().await,
            result => result,
        }
    }

    async fn time(&self) -> Result<Timestamp> {
        self.answers(Operation::Time).await
    }
}
