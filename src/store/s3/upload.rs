//! Objects in parts.

use std::{fmt::Write, sync::Arc};

use async_trait::async_trait;
use aws_sdk_s3::types::{
    ChecksumAlgorithm as SdkChecksum, CompletedMultipartUpload, CompletedPart, MultipartUpload,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use md5::{Digest, Md5};

use super::{
    super::{
        Checksum, ChecksumAlgorithm, Error, Head, Key, Meaning, ObjectMeta, Operation, Part,
        PendingUpload, Result, Stored, Upload, UploadId, UploadOptions, checksum::crc32,
    },
    answer::{instant, version},
    bucket::{Bucket, conditions},
    client::Integrity,
    failure::conditional,
    wire::Answered,
};

/// One object in parts.
#[derive(Debug)]
pub(super) struct S3Upload {
    bucket: Arc<Bucket>,
    key: Key,
    id: UploadId,
    options: UploadOptions,
}

impl S3Upload {
    pub(super) async fn begin(
        bucket: Arc<Bucket>,
        key: &Key,
        options: UploadOptions,
    ) -> Result<Self> {
        let (encryption, encryption_key) = bucket.encryption();
        let checksum = bucket.connection.integrity.has_crc32();
        let output = bucket
            .client()
            .create_multipart_upload()
            .bucket(&bucket.name)
            .key(bucket.full(key))
            .set_tagging(bucket.tagging(&options.tags))
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(encryption_key)
            .set_checksum_algorithm(checksum.then_some(SdkChecksum::Crc32))
            .send()
            .await
            .map_err(|error| bucket.error(Operation::BeginUpload, key, &error))?;
        let id = output.upload_id().ok_or_else(|| {
            Error::new(
                Meaning::Other,
                Operation::BeginUpload,
                bucket.location.as_str(),
            )
            .about(key)
            .because("the store gave the upload no name")
        })?;
        Ok(Self {
            id: UploadId(id.to_owned()),
            key: key.clone(),
            bucket,
            options,
        })
    }

    /// A repeated completion finds no upload where an earlier try, whose answer was lost, has completed it.
    async fn completed_before(&self, parts: &[Part], error: Error) -> Result<Stored> {
        let size: u64 = parts.iter().map(|part| part.size).sum();
        match self.bucket.head(&self.key).await {
            Ok(Head { meta, date }) if meta.size == size && is_made_of(&meta, parts) => {
                Ok(Stored {
                    version: meta.version,
                    checksum: meta.checksum,
                    date,
                })
            }
            _ => Err(error),
        }
    }
}

#[async_trait]
impl Upload for S3Upload {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn put_part(&self, number: u32, content: Bytes) -> Result<Part> {
        let bucket = &self.bucket;
        let integrity = bucket.connection.integrity;
        let size = content.len() as u64;
        let checksum = integrity
            .has_crc32()
            .then(|| Checksum::of_crc32(crc32(&content)));
        let settings = bucket.sending(&content);
        let mut request = bucket
            .client()
            .upload_part()
            .bucket(&bucket.name)
            .key(bucket.full(&self.key))
            .upload_id(&self.id.0)
            .part_number(i32::try_from(number).unwrap_or(i32::MAX))
            .body(content.into())
            .set_checksum_crc32(checksum.as_ref().map(|checksum| checksum.value.clone()))
            .customize()
            .config_override(settings);
        if integrity == Integrity::Crc32 {
            request = request.disable_payload_signing();
        }
        let output = request
            .send()
            .await
            .map_err(|error| bucket.error(Operation::PutPart, &self.key, &error))?;
        Ok(Part {
            number,
            size,
            tag: output.e_tag().unwrap_or_default().to_owned(),
            checksum: checksum.filter(|sent| output.checksum_crc32() == Some(&sent.value)),
        })
    }

    async fn complete(&self, parts: Vec<Part>) -> Result<Stored> {
        let (bucket, answered) = (&self.bucket, Answered::default());
        let part = |part: &Part| {
            CompletedPart::builder()
                .part_number(i32::try_from(part.number).unwrap_or(i32::MAX))
                .e_tag(&part.tag)
                .set_checksum_crc32(part.checksum.as_ref().map(|sum| sum.value.clone()))
                .build()
        };
        let completed = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.iter().map(part).collect()))
            .build();
        let (if_none_match, if_match) = conditions(&self.options.mode);
        let output = bucket
            .client()
            .complete_multipart_upload()
            .bucket(&bucket.name)
            .key(bucket.full(&self.key))
            .upload_id(&self.id.0)
            .multipart_upload(completed)
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .customize()
            .interceptor(answered.clone())
            .send()
            .await;
        match output {
            Ok(output) => Ok(Stored {
                version: version(output.e_tag()),
                checksum: output.checksum_crc32().map(|value| Checksum {
                    algorithm: ChecksumAlgorithm::Crc32,
                    value: value.to_owned(),
                }),
                date: answered.date(),
            }),
            Err(error) => {
                let error = bucket.error(Operation::CompleteUpload, &self.key, &error);
                match error.meaning {
                    Meaning::NotFound => self.completed_before(&parts, error).await,
                    _ => Err(conditional(error, &self.options.mode)),
                }
            }
        }
    }

    async fn abort(&self) -> Result<()> {
        abort(&self.bucket, &self.key, &self.id).await
    }
}

/// Whether an object is the one that these parts make, by its entity tag or, where that is none of MD5, by its checksum.
fn is_made_of(found: &ObjectMeta, parts: &[Part]) -> bool {
    let has = |expected: Option<String>, told: Option<&str>| {
        expected.is_some_and(|expected| Some(expected.as_str()) == told)
    };
    let checksum = found.checksum.as_ref();
    let checksum = checksum.filter(|checksum| checksum.algorithm == ChecksumAlgorithm::Crc32);
    has(entity_tag_of(parts), Some(&found.version.0))
        || has(
            checksum_of(parts),
            checksum.map(|checksum| checksum.value.as_str()),
        )
}

/// The MD5 of the parts' MD5, and their number.
fn entity_tag_of(parts: &[Part]) -> Option<String> {
    let mut whole = Md5::new();
    for part in parts {
        whole.update(digest(part.tag.trim_matches('"'))?);
    }
    let mut tag = String::new();
    for byte in whole.finalize() {
        write!(tag, "{byte:02x}").expect("a string takes all");
    }
    Some(format!("{tag}-{}", parts.len()))
}

/// The CRC-32 of the parts' CRC-32, and their number.
fn checksum_of(parts: &[Part]) -> Option<String> {
    let mut all = Vec::new();
    for part in parts {
        let checksum = part.checksum.as_ref()?;
        all.extend(STANDARD.decode(&checksum.value).ok()?);
    }
    let whole = Checksum::of_crc32(crc32(&all));
    Some(format!("{}-{}", whole.value, parts.len()))
}

fn digest(hex: &str) -> Option<Vec<u8>> {
    let pair = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (hex.len() == 32).then(|| (0..32).step_by(2).map(pair).collect())?
}

/// Ends an upload; one that is not there is ended.
pub(super) async fn abort(bucket: &Bucket, key: &Key, id: &UploadId) -> Result<()> {
    let request = bucket
        .client()
        .abort_multipart_upload()
        .bucket(&bucket.name)
        .key(bucket.full(key))
        .upload_id(&id.0);
    match request.send().await {
        Ok(_) => Ok(()),
        Err(error) => match bucket.error(Operation::AbortUpload, key, &error) {
            error if error.is_not_found() => Ok(()),
            error => Err(error),
        },
    }
}

/// All unfinished uploads below a prefix.
pub(super) async fn pending(bucket: &Bucket, prefix: &str) -> Result<Vec<PendingUpload>> {
    let mut found = Vec::new();
    let (mut key_marker, mut id_marker) = (None, None);
    loop {
        let page = bucket
            .client()
            .list_multipart_uploads()
            .bucket(&bucket.name)
            .prefix(format!("{}{prefix}", bucket.root))
            .set_key_marker(key_marker)
            .set_upload_id_marker(id_marker)
            .send()
            .await
            .map_err(|error| bucket.failed(Operation::ListUploads, &error))?;
        let upload = |upload: &MultipartUpload| {
            Some(PendingUpload {
                key: bucket.relative(upload.key()?)?,
                id: UploadId(upload.upload_id()?.to_owned()),
                started: instant(upload.initiated()),
            })
        };
        found.extend(page.uploads().iter().filter_map(upload));
        if page.is_truncated() != Some(true) {
            return Ok(found);
        }
        key_marker = page.next_key_marker().map(str::to_owned);
        id_marker = page.next_upload_id_marker().map(str::to_owned);
    }
}
