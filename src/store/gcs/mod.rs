//! Google Cloud Storage: `gs://bucket/prefix`, over its JSON interface, and its XML interface for uploads in parts.
//!
//! Every object and every part is protected both ways by a CRC-32C that the service checks, keeps and returns. Versions are
//! generations, and every condition is one on the generation. Storage class, owner and ACL are never set; configured tags
//! are the object's metadata, as Barman writes them. Locks come with every listing.
//!
//! An upload in parts is one of the service's own; one that has a condition is composed of temporary objects instead, for the service's
//! own cannot have one. Where a service lacks batches or uploads in parts, as emulators do, the same is done with single requests. Tries
//! are repeated here, with backoff and a deadline, and nowhere above.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use self::{
    bucket::{Bucket, Lacks, first},
    client::{Client, date},
    components::Components,
    endpoint::{Caller, Endpoint},
    multipart::Multipart,
};
use super::{
    Deleted, Error, GetOptions, GetResult, Head, Key, Limits, ListPage, ListRequest, Meaning,
    Operation, PendingUpload, PutMode, PutOptions, Result, Store, Stored, Upload, UploadOptions,
    batches,
};
pub use crate::cloud::google::Environment;
use crate::{
    cloud::google::Credentials,
    model::{
        desired::GcsOptions,
        lock::{BucketRetention, Lock},
        time::Timestamp,
    },
};

mod bucket;
mod client;
mod components;
mod delete;
mod endpoint;
mod failure;
mod lock;
mod multipart;
mod read;
mod resource;
mod whole;

/// What a token allows, within what its owner may.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.full_control";

const PART_BYTES_MIN: u64 = 5 << 20;
const PART_BYTES_MAX: u64 = 5 << 30;
const PARTS_MAX: u32 = 10_000;
const PUT_BYTES_MAX: u64 = 5 << 30;
const OBJECT_BYTES_MAX: u64 = 5 << 40;
const DELETE_BATCH_MAX: usize = 100;

/// A bucket, or what is below a prefix of it.
#[derive(Clone, Debug)]
pub struct Gcs {
    bucket: Arc<Bucket>,
}

impl Gcs {
    /// The destination `gs://bucket/prefix`, with the credentials that this process is meant to use. Nothing is contacted.
    pub fn open(bucket: &str, prefix: &str, options: &GcsOptions) -> Result<Self> {
        Self::open_in(&Environment::of_process(), bucket, prefix, options)
    }

    /// The same, in this environment.
    pub fn open_in(
        around: &Environment,
        bucket: &str,
        prefix: &str,
        options: &GcsOptions,
    ) -> Result<Self> {
        let (root, location) = match prefix {
            "" => (String::new(), format!("gs://{bucket}")),
            prefix => (format!("{prefix}/"), format!("gs://{bucket}/{prefix}")),
        };
        let failed = |why: String| {
            let error = Error::new(
                Meaning::PermissionDenied,
                Operation::Open,
                location.as_str(),
            );
            error.because(why)
        };
        let is_emulated = options.endpoint_url.is_none() && around.emulator.is_some();
        let credentials = if is_emulated {
            Credentials::anonymous()
        } else {
            Credentials::find(options.credentials.as_ref(), around, SCOPE).map_err(failed)?
        };
        let universe = around.universe.as_deref();
        let universe = universe.or_else(|| credentials.told("universe_domain"));
        let configured = options.endpoint_url.as_deref();
        let endpoint = Endpoint::find(bucket, configured, around, universe);
        let project = options.project.clone().or_else(|| around.project.clone());
        let project = project.or_else(|| credentials.told("project_id").map(str::to_owned));
        // Google's own clients give emulators no project either.
        let unnamed = (endpoint.caller == Caller::Anonymous).then(|| "emulated".to_owned());
        let timeout = options.read_timeout;
        let client = Client::new(endpoint, credentials, location.clone(), timeout);
        let client = client.map_err(failed)?;
        let bucket = Bucket {
            client,
            name: bucket.to_owned(),
            root,
            options: options.clone(),
            project: project.or(unnamed),
            batches: batches::Batches::default(),
            lacks: Lacks::default(),
        };
        Ok(Self {
            bucket: Arc::new(bucket),
        })
    }

    async fn begin_multipart(&self, key: &Key, options: &UploadOptions) -> Result<Multipart> {
        let lacks = &self.bucket.lacks.uploads_in_parts;
        if options.mode != PutMode::Overwrite || Lacks::is_noted(lacks) {
            let error = self
                .bucket
                .error(Meaning::Unsupported, Operation::BeginUpload);
            return Err(error.about(key));
        }
        let begun = Multipart::begin(self.bucket.clone(), key, options).await;
        if begun
            .as_ref()
            .is_err_and(|error| error.meaning == Meaning::Unsupported)
        {
            Lacks::note(lacks);
        }
        begun
    }
}

#[async_trait]
impl Store for Gcs {
    fn location(&self) -> &str {
        &self.bucket.client.location
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
        self.bucket.put(key, content, &options).await
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let (meta, response) = self.bucket.get(key, &options).await?;
        let range = options.resolve(meta.size).ok_or_else(|| {
            let error = self.bucket.error(Meaning::Precondition, Operation::Get);
            error.about(key).because("the range begins beyond its end")
        })?;
        Ok(GetResult {
            date: date(response.headers()),
            body: read::body(self.bucket.clone(), &meta, range.clone(), response),
            meta,
            range,
        })
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        self.bucket.head(key).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.bucket.list(&request).await
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        batches::delete(&*self.bucket, keys).await
    }

    async fn locks(&self, keys: &[Key]) -> Vec<Lock> {
        lock::locks(&self.bucket, keys).await
    }

    async fn retention(&self) -> Result<BucketRetention> {
        lock::retention(&self.bucket).await
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        match self.begin_multipart(key, &options).await {
            Ok(upload) => Ok(Box::new(upload)),
            Err(error) if error.meaning == Meaning::Unsupported => Ok(Box::new(Components::begin(
                self.bucket.clone(),
                key,
                options,
            ))),
            Err(error) => Err(error),
        }
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        let own = match multipart::pending(&self.bucket, prefix).await {
            Err(error) if error.meaning == Meaning::Unsupported => Vec::new(),
            own => own?,
        };
        let composed = components::pending(&self.bucket, prefix).await?;
        let mut all = [own, composed].concat();
        all.sort_by(|one, other| (&one.key, &one.id).cmp(&(&other.key, &other.id)));
        Ok(all)
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        if components::is_ours(&upload.id) {
            components::abort(&self.bucket, &upload.key, &upload.id).await
        } else {
            multipart::abort(&self.bucket, &upload.key, &upload.id).await
        }
    }

    async fn check_reachable(&self) -> Result<()> {
        let page = self.bucket.page(&first()).await;
        page.map(drop)
            .map_err(|error| error.during(Operation::CheckReachable))
    }

    async fn create_destination(&self) -> Result<()> {
        match self.check_reachable().await {
            Err(error) if error.meaning == Meaning::BucketMissing => self.bucket.create().await,
            result => result,
        }
    }

    async fn time(&self) -> Result<Timestamp> {
        let page = self.bucket.page(&first()).await;
        page.map(|(_, headers)| date(&headers))
            .map_err(|error| error.during(Operation::Time))
    }
}
