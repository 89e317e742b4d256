//! Objects in parts, by the service's own multipart uploads.
//!
//! Parts are no objects: they cost nothing once the upload has ended, are not kept by versioning, soft deletion or retention, and go at any
//! speed at once. Only the XML interface has them. They cannot have a condition.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;

use super::{
    super::{
        Checksum, Head, Key, Meaning, Operation, Part, PendingUpload, Result, Stored, Upload,
        UploadId, UploadOptions,
    },
    bucket::{Bucket, MEDIA_TYPE},
    client::{Request, text},
    endpoint::Url,
    failure::elements,
    resource::sent_checksum,
    whole,
};
use crate::model::time::Timestamp;

/// Joining many parts takes the service minutes, where other answers take it seconds.
const JOIN_PATIENCE: u32 = 10;

/// One object in parts.
#[derive(Debug)]
pub(super) struct Multipart {
    bucket: Arc<Bucket>,
    key: Key,
    id: UploadId,
}

impl Multipart {
    pub(super) async fn begin(
        bucket: Arc<Bucket>,
        key: &Key,
        options: &UploadOptions,
    ) -> Result<Self> {
        let operation = Operation::BeginUpload;
        let url = bucket.client.endpoint.xml_object(&bucket.full(key));
        let mut request = Request::new(operation, Method::POST, url.with_word("uploads"))
            .about(key)
            .with_content(MEDIA_TYPE, Vec::new());
        if let Some(kms_key) = &bucket.options.kms_key {
            request = request.with_header("x-goog-encryption-kms-key-name", kms_key);
        }
        for (name, value) in bucket.metadata(&options.tags) {
            request = request.with_metadata(name, value);
        }
        let answer = bucket.client.ask(&request).await?;
        let found = elements(&String::from_utf8_lossy(&answer.body), &["UploadId"]);
        let Some((_, id)) = found.into_iter().next() else {
            let error = bucket.error(Meaning::Unsupported, operation).about(key);
            return Err(error.because("the service gave the upload no name"));
        };
        Ok(Self {
            bucket,
            key: key.clone(),
            id: UploadId(id),
        })
    }

    fn url(&self) -> Url {
        let endpoint = &self.bucket.client.endpoint;
        let url = endpoint.xml_object(&self.bucket.full(&self.key));
        url.with("uploadId", &self.id.0)
    }

    /// What has become of the parts.
    async fn found(&self, parts: &[Part]) -> Result<Stored> {
        let Head { meta, date } = self
            .bucket
            .head(&self.key)
            .await
            .map_err(|error| error.during(Operation::CompleteUpload).about(&self.key))?;
        whole::check(&self.bucket, &meta, parts)?;
        Ok(Stored {
            version: meta.version,
            checksum: meta.checksum,
            date,
        })
    }
}

#[async_trait]
impl Upload for Multipart {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn put_part(&self, number: u32, content: Bytes) -> Result<Part> {
        let operation = Operation::PutPart;
        let size = content.len() as u64;
        let checksum = Checksum::of_crc32c(crc32c::crc32c(&content));
        let url = self.url().with("partNumber", &number.to_string());
        let request = Request::new(operation, Method::PUT, url)
            .about(&self.key)
            .with_header("x-goog-hash", &format!("crc32c={}", checksum.value))
            .with_content(MEDIA_TYPE, vec![content]);
        let answer = self.bucket.client.ask(&request).await?;
        if sent_checksum(&answer.headers).is_some_and(|kept| kept != checksum) {
            let error = self
                .bucket
                .error(Meaning::Checksum, operation)
                .about(&self.key);
            return Err(error.because("what was stored is not what was sent"));
        }
        Ok(Part {
            number,
            size,
            tag: text(&answer.headers, "etag").unwrap_or_default().to_owned(),
            checksum: Some(checksum),
        })
    }

    async fn complete(&self, parts: Vec<Part>) -> Result<Stored> {
        let operation = Operation::CompleteUpload;
        let mut list = "<CompleteMultipartUpload>".to_owned();
        for Part { number, tag, .. } in &parts {
            let tag = quick_xml::escape::escape(tag.as_str());
            let part = format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
            list.push_str(&part);
        }
        list.push_str("</CompleteMultipartUpload>");
        let mut request = Request::new(operation, Method::POST, self.url())
            .about(&self.key)
            .with_content("application/xml", vec![list.into()]);
        request.patience = JOIN_PATIENCE;
        match self.bucket.client.ask(&request).await {
            Ok(_) => self.found(&parts).await,
            // An earlier try, whose answer was lost, may have completed it.
            Err(mut error) if error.is_not_found() => {
                error.meaning = Meaning::Other;
                self.found(&parts).await.map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    async fn abort(&self) -> Result<()> {
        abort(&self.bucket, &self.key, &self.id).await
    }
}

/// Ends an upload; one that is not there is ended.
pub(super) async fn abort(bucket: &Bucket, key: &Key, id: &UploadId) -> Result<()> {
    let url = bucket.client.endpoint.xml_object(&bucket.full(key));
    let url = url.with("uploadId", &id.0);
    let request = Request::new(Operation::AbortUpload, Method::DELETE, url).about(key);
    match bucket.client.ask(&request).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// All unfinished uploads below a prefix.
pub(super) async fn pending(bucket: &Bucket, prefix: &str) -> Result<Vec<PendingUpload>> {
    const TOLD: [&str; 6] = [
        "Key",
        "UploadId",
        "Initiated",
        "IsTruncated",
        "NextKeyMarker",
        "NextUploadIdMarker",
    ];
    let mut found = Vec::new();
    let (mut key_marker, mut id_marker) = (None, None);
    loop {
        let url = bucket.client.endpoint.xml_bucket().with_word("uploads");
        let url = url
            .with("prefix", &format!("{}{prefix}", bucket.root))
            .with_some("key-marker", key_marker.as_deref())
            .with_some("upload-id-marker", id_marker.as_deref());
        let request = Request::new(Operation::ListUploads, Method::GET, url);
        let answer = bucket.client.ask(&request).await?;
        let told = elements(&String::from_utf8_lossy(&answer.body), &TOLD);
        found.extend(uploads(bucket, &told));
        let told = |wanted: &str| {
            let found = told.iter().find(|(name, _)| name == wanted);
            found.map(|(_, text)| text.clone())
        };
        if told("IsTruncated").as_deref() != Some("true") {
            return Ok(found);
        }
        (key_marker, id_marker) = (told("NextKeyMarker"), told("NextUploadIdMarker"));
    }
}

/// Each begins with its key.
fn uploads(bucket: &Bucket, told: &[(String, String)]) -> Vec<PendingUpload> {
    let mut found = Vec::new();
    for (place, (_, key)) in told
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| name == "Key")
    {
        let rest = told[place + 1..]
            .iter()
            .take_while(|(name, _)| name != "Key");
        let of = |wanted: &str| {
            let found = rest.clone().find(|(name, _)| name == wanted);
            found.map(|(_, text)| text.as_str())
        };
        let started = of("Initiated").and_then(|text| text.parse::<Timestamp>().ok());
        let (Some(key), Some(id)) = (bucket.relative(key), of("UploadId")) else {
            continue;
        };
        found.push(PendingUpload {
            key,
            id: UploadId(id.to_owned()),
            // One without a date has just begun: nobody takes it for left over.
            started: started.unwrap_or(Timestamp::MAX),
        });
    }
    found
}
