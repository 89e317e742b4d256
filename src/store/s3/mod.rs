//! S3 and what is compatible with it: `s3://bucket/prefix`, on the official SDK.
//!
//! Every object and every part is protected on its way by a CRC-32 that the store checks and keeps, or, for stores that refuse it, by
//! a signature over the content. Parts are equal, as some stores demand; deletes go in batches with the MD5 that many demand.
//! Storage class, owner and ACL are never set. Versions are entity tags: an object that is rewritten with the same bytes
//! keeps its version.
//!
//! Tries are repeated by the SDK, with backoff and a deadline; reading goes on where it broke off. Nothing here is retried above that.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::Builder as ConfigOverride,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        get_object::GetObjectOutput, head_object::HeadObjectOutput,
        list_objects_v2::ListObjectsV2Output,
    },
    types::{
        BucketLocationConstraint, CreateBucketConfiguration, Object, ObjectLockLegalHoldStatus,
        ObjectLockMode, ServerSideEncryption,
    },
};
use aws_smithy_types::DateTime;
use bytes::Bytes;

use self::{
    client::{Connection, Integrity, connect},
    failure::{conditional, failed, failed_with},
    wire::{Answered, WithStoredChecksum},
};
use super::{
    Checksum, ChecksumAlgorithm, Deleted, Error, GetOptions, GetRange, GetResult, Head, Key,
    Limits, ListPage, ListRequest, LockMode, Meaning, ObjectLock, ObjectMeta, ObjectVersion,
    Operation, PageToken, PendingUpload, PutMode, PutOptions, Result, Store, Stored, Tags, Upload,
    UploadOptions, checksum::crc32,
};
use crate::{
    model::{
        desired::{S3Encryption, S3Options},
        time::Timestamp,
    },
    secret::Secret,
};

mod client;
mod delete;
mod failure;
mod read;
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

/// A bucket, or what is below a prefix of it.
#[derive(Clone, Debug)]
pub struct S3 {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    bucket: String,
    /// With a slash at its end, unless empty.
    root: String,
    location: String,
    options: S3Options,
    batch: delete::Batch,
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
        let inner = Inner {
            connection: connect(options, keys).await,
            bucket: bucket.to_owned(),
            root,
            location,
            options: options.clone(),
            batch: delete::Batch::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

impl Inner {
    fn client(&self) -> &Client {
        &self.connection.client
    }

    /// The key in the bucket.
    fn full(&self, key: &Key) -> String {
        format!("{}{key}", self.root)
    }

    /// The key in the destination, of one in the bucket.
    fn relative(&self, full: &str) -> Option<Key> {
        full.strip_prefix(&self.root).map(Key::verbatim)
    }

    fn tagging(&self, tags: &Tags) -> Option<String> {
        let tags = match tags {
            Tags::Configured => &self.options.tags,
            Tags::Exactly(tags) => tags,
        };
        let pairs = tags
            .iter()
            .map(|(name, value)| format!("{}={}", form(name), form(value)));
        let pairs: Vec<String> = pairs.collect();
        (!pairs.is_empty()).then(|| pairs.join("&"))
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options.encryption {
            None => (None, None),
            Some(S3Encryption::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(S3Encryption::Kms { key }) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }

    /// What a request that sends this content needs of its own.
    fn sending(&self, content: &Bytes) -> ConfigOverride {
        let timeouts = self.connection.timeouts.sending(content.len());
        ConfigOverride::default().timeout_config(timeouts)
    }

    fn error<E>(&self, operation: Operation, key: &Key, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        failed_with(&self.location, operation, key, error)
    }
}

#[async_trait]
impl Store for S3 {
    fn location(&self) -> &str {
        &self.inner.location
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
        let (inner, answered) = (&self.inner, Answered::default());
        let (encryption, encryption_key) = inner.encryption();
        let integrity = inner.connection.integrity;
        let checksum = integrity.has_crc32().then(|| crc32(&content));
        let checksum = checksum.map(Checksum::of_crc32);
        let (if_none_match, if_match) = conditions(&options.mode);
        let settings = inner.sending(&content);
        let mut request = inner
            .client()
            .put_object()
            .bucket(&inner.bucket)
            .key(inner.full(key))
            .body(content.into())
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .set_tagging(inner.tagging(&options.tags))
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(encryption_key)
            .set_checksum_crc32(checksum.as_ref().map(|checksum| checksum.value.clone()))
            .customize()
            .config_override(settings)
            .interceptor(answered.clone());
        if integrity == Integrity::Crc32 {
            request = request.disable_payload_signing();
        }
        let output = request.send().await.map_err(|error| {
            conditional(inner.error(Operation::Put, key, &error), &options.mode)
        })?;
        Ok(Stored {
            version: version(output.e_tag()),
            checksum: checksum.filter(|sent| output.checksum_crc32() == Some(&sent.value)),
            date: answered.date(),
        })
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        let (output, answered) = self.inner.get(key, &options).await?;
        let meta = self.inner.got(key, &output)?;
        let range = match &options.range {
            None => 0..meta.size,
            Some(range) => range.resolve(meta.size).ok_or_else(|| {
                Error::new(Meaning::Precondition, Operation::Get, self.location()).about(key)
            })?,
        };
        let date = answered.date();
        let body = read::body(self.inner.clone(), &meta, range.clone(), output.body);
        Ok(GetResult {
            meta,
            range,
            date,
            body,
        })
    }

    async fn head(&self, key: &Key) -> Result<Head> {
        let (inner, answered) = (&self.inner, Answered::default());
        let output = inner
            .client()
            .head_object()
            .bucket(&inner.bucket)
            .key(inner.full(key))
            .customize()
            .interceptor(answered.clone())
            .interceptor(WithStoredChecksum)
            .send()
            .await;
        match output {
            Ok(output) => Ok(Head {
                meta: headed(key, &output),
                date: answered.date(),
            }),
            Err(error) => {
                let error = inner.error(Operation::Head, key, &error);
                match error.meaning {
                    // The answer to HEAD has no words: ask with one that has, whether it is the object or the bucket that lacks.
                    Meaning::NotFound => Err(match inner.page("", None, 1).await {
                        Err(other) if other.meaning == Meaning::BucketMissing => {
                            other.during(Operation::Head).about(key)
                        }
                        _ => error,
                    }),
                    _ => Err(error),
                }
            }
        }
    }

    async fn list(&self, request: ListRequest) -> Result<ListPage> {
        self.inner.list(&request).await
    }

    async fn delete(&self, keys: &[Key]) -> Vec<Deleted> {
        delete::delete(&self.inner, keys).await
    }

    async fn begin_upload(&self, key: &Key, options: UploadOptions) -> Result<Box<dyn Upload>> {
        let upload = upload::S3Upload::begin(self.inner.clone(), key, options).await?;
        Ok(Box::new(upload))
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<PendingUpload>> {
        upload::pending(&self.inner, prefix).await
    }

    async fn abort_upload(&self, upload: &PendingUpload) -> Result<()> {
        upload::abort(&self.inner, &upload.key, &upload.id).await
    }

    async fn check_reachable(&self) -> Result<()> {
        let page = self.inner.page("", None, 1).await;
        page.map(drop)
            .map_err(|error| error.during(Operation::CheckReachable))
    }

    async fn create_destination(&self) -> Result<()> {
        match self.check_reachable().await {
            Err(error) if error.meaning == Meaning::BucketMissing => {}
            result => return result,
        }
        let inner = &self.inner;
        let region = inner.connection.region.as_ref();
        // The first region has no name there.
        let place = (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let created = inner
            .client()
            .create_bucket()
            .bucket(&inner.bucket)
            .set_create_bucket_configuration(place)
            .send()
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            Err(error) => Err(failed(
                self.location(),
                Operation::CreateDestination,
                &error,
            )),
        }
    }

    async fn time(&self) -> Result<Timestamp> {
        let page = self.inner.page("", None, 1).await;
        page.map(|(_, answered)| answered.date())
            .map_err(|error| error.during(Operation::Time))
    }
}

impl Inner {
    async fn get(&self, key: &Key, options: &GetOptions) -> Result<(GetObjectOutput, Answered)> {
        let answered = Answered::default();
        let range = options.range.as_ref().map(|range| match range {
            GetRange::Bounded(range) => {
                format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
            }
            GetRange::From(start) => format!("bytes={start}-"),
        });
        let request = self
            .client()
            .get_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .set_range(range)
            .set_if_match(options.version.as_ref().map(entity_tag))
            .customize()
            .interceptor(answered.clone())
            .interceptor(WithStoredChecksum);
        let output = request.send().await;
        let output = output.map_err(|error| self.error(Operation::Get, key, &error))?;
        let read = version(output.e_tag());
        match &options.version {
            // Not every store heeds the condition.
            Some(wanted) if *wanted != read => {
                let location = self.location.as_str();
                let error = Error::new(Meaning::Precondition, Operation::Get, location);
                Err(error.about(key).because("it is another version"))
            }
            _ => Ok((output, answered)),
        }
    }

    /// What the answer says of the object. Its length is that of the whole object, also when only a range was asked for.
    fn got(&self, key: &Key, output: &GetObjectOutput) -> Result<ObjectMeta> {
        let length = output.content_length().unwrap_or_default();
        let whole = match output.content_range() {
            None => u64::try_from(length).ok(),
            Some(range) => range.rsplit('/').next().and_then(|size| size.parse().ok()),
        };
        let size = whole.ok_or_else(|| {
            Error::new(Meaning::Other, Operation::Get, self.location.as_str())
                .about(key)
                .because("the store does not tell its length")
        })?;
        Ok(ObjectMeta {
            key: key.clone(),
            size,
            last_modified: instant(output.last_modified()),
            version: version(output.e_tag()),
            checksum: stored_checksum(&[
                (ChecksumAlgorithm::Crc32, output.checksum_crc32()),
                (ChecksumAlgorithm::Crc32c, output.checksum_crc32_c()),
                (ChecksumAlgorithm::Crc64Nvme, output.checksum_crc64_nvme()),
                (ChecksumAlgorithm::Sha1, output.checksum_sha1()),
                (ChecksumAlgorithm::Sha256, output.checksum_sha256()),
            ]),
            lock: None,
        })
    }

    async fn page(
        &self,
        prefix: &str,
        request: Option<&ListRequest>,
        limit: usize,
    ) -> Result<(ListObjectsV2Output, Answered)> {
        let answered = Answered::default();
        let mut builder = self
            .client()
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(format!("{}{prefix}", self.root))
            .max_keys(i32::try_from(limit).unwrap_or(i32::MAX));
        if let Some(request) = request {
            let after = request.start_after.as_ref();
            builder = builder
                .set_delimiter(request.delimiter.map(String::from))
                .set_continuation_token(request.token.clone().map(|token| token.0))
                .set_start_after(after.map(|after| format!("{}{after}", self.root)));
        }
        let output = builder.customize().interceptor(answered.clone()).send();
        match output.await {
            Ok(output) => Ok((output, answered)),
            Err(error) => {
                let prefix = Key::verbatim(prefix);
                Err(self.error(Operation::List, &prefix, &error))
            }
        }
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        const PAGE_SIZE: usize = 1000;
        let limit = request.limit.unwrap_or(PAGE_SIZE).clamp(1, PAGE_SIZE);
        let (output, answered) = self.page(&request.prefix, Some(request), limit).await?;
        let object = |object: &Object| self.relative(object.key()?).map(|key| listed(key, object));
        let prefixes = output.common_prefixes().iter();
        let prefix = |prefix: &aws_sdk_s3::types::CommonPrefix| self.relative(prefix.prefix()?);
        Ok(ListPage {
            objects: output.contents().iter().filter_map(object).collect(),
            prefixes: prefixes
                .filter_map(prefix)
                .map(|key| key.as_str().to_owned())
                .collect(),
            next: match output.is_truncated() {
                Some(true) => output
                    .next_continuation_token()
                    .map(|token| PageToken(token.to_owned())),
                _ => None,
            },
            date: answered.date(),
        })
    }
}

fn listed(key: Key, object: &Object) -> ObjectMeta {
    ObjectMeta {
        key,
        size: object
            .size()
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or_default(),
        last_modified: instant(object.last_modified()),
        version: version(object.e_tag()),
        checksum: None,
        lock: None,
    }
}

fn headed(key: &Key, output: &HeadObjectOutput) -> ObjectMeta {
    let length = output.content_length().unwrap_or_default();
    ObjectMeta {
        key: key.clone(),
        size: u64::try_from(length).unwrap_or_default(),
        last_modified: instant(output.last_modified()),
        version: version(output.e_tag()),
        checksum: stored_checksum(&[
            (ChecksumAlgorithm::Crc32, output.checksum_crc32()),
            (ChecksumAlgorithm::Crc32c, output.checksum_crc32_c()),
            (ChecksumAlgorithm::Crc64Nvme, output.checksum_crc64_nvme()),
            (ChecksumAlgorithm::Sha1, output.checksum_sha1()),
            (ChecksumAlgorithm::Sha256, output.checksum_sha256()),
        ]),
        lock: lock(output),
    }
}

/// The headers are also absent where the caller may not see them, so absence is "not told".
fn lock(output: &HeadObjectOutput) -> Option<ObjectLock> {
    let hold = output.object_lock_legal_hold_status();
    let mode = output.object_lock_mode().map(|mode| match mode {
        ObjectLockMode::Governance => LockMode::Governance,
        // What is not known is the firmer.
        _ => LockMode::Compliance,
    });
    let until = output.object_lock_retain_until_date();
    let retained = until.map(|until| {
        let mode = mode.unwrap_or(LockMode::Compliance);
        (instant(Some(until)), mode)
    });
    (hold.is_some() || retained.is_some()).then(|| ObjectLock {
        retained,
        legal_hold: hold == Some(&ObjectLockLegalHoldStatus::On),
    })
}

fn stored_checksum(told: &[(ChecksumAlgorithm, Option<&str>)]) -> Option<Checksum> {
    told.iter().find_map(|(algorithm, value)| {
        Some(Checksum {
            algorithm: *algorithm,
            value: (*value)?.to_owned(),
        })
    })
}

fn conditions(mode: &PutMode) -> (Option<String>, Option<String>) {
    match mode {
        PutMode::Overwrite => (None, None),
        PutMode::Create => (Some("*".to_owned()), None),
        PutMode::Replace(version) => (None, Some(entity_tag(version))),
    }
}

/// Entity tags come with quotes or without, from one store in one answer or another.
fn version(entity_tag: Option<&str>) -> ObjectVersion {
    ObjectVersion(entity_tag.unwrap_or_default().trim_matches('"').to_owned())
}

fn entity_tag(version: &ObjectVersion) -> String {
    format!("\"{}\"", version.0.trim_matches('"'))
}

fn instant(date: Option<&DateTime>) -> Timestamp {
    let date = date.map(|date| (date.secs(), date.subsec_nanos()));
    let (seconds, nanoseconds) = date.unwrap_or_default();
    let instant = chrono::DateTime::from_timestamp(seconds, nanoseconds);
    instant.unwrap_or_default().into()
}

/// A text as in a form: what is not plain is escaped, and a space is a plus.
fn form(text: &str) -> String {
    use fmt::Write;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            byte => write!(escaped, "%{byte:02X}").expect("a string takes all"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_written_as_in_a_form() {
        assert_eq!(form("b b"), "b+b");
        assert_eq!(form("ä=&/"), "%C3%A4%3D%26%2F");
    }

    #[test]
    fn a_version_is_the_same_with_quotes_and_without() {
        assert_eq!(version(Some("\"a\"")), version(Some("a")));
        assert_eq!(entity_tag(&version(Some("a"))), "\"a\"");
    }
}
