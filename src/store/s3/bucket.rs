//! One bucket, as one client in one region sees it.

use std::fmt::Write;

use aws_sdk_s3::{
    Client,
    config::Builder as ConfigOverride,
    error::{ProvideErrorMetadata, SdkError},
    operation::{get_object::GetObjectOutput, list_objects_v2::ListObjectsV2Output},
    types::{
        BucketLocationConstraint, CommonPrefix, CreateBucketConfiguration, Object,
        ServerSideEncryption,
    },
};
use bytes::Bytes;

use super::{
    super::{
        Checksum, ChecksumAlgorithm, Error, GetOptions, GetRange, Head, Key, ListPage, ListRequest,
        Meaning, ObjectMeta, Operation, PageToken, PutMode, PutOptions, Result, Stored, Tags,
        batches::Batches, checksum::crc32,
    },
    answer::{entity_tag, headed, instant, listed, stored_checksum, version},
    client::{Connection, Integrity},
    failure::{conditional, failed, lack},
    wire::{Answered, WithStoredChecksum},
};
use crate::model::desired::{S3Encryption, S3Options};

/// A bucket, or what is below a prefix of it.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) connection: Connection,
    pub(super) name: String,
    /// With a slash at its end, unless empty.
    pub(super) root: String,
    pub(super) location: String,
    pub(super) options: S3Options,
    pub(super) batches: Batches,
}

impl Bucket {
    pub(super) fn client(&self) -> &Client {
        &self.connection.client
    }

    /// The key in the bucket.
    pub(super) fn full(&self, key: &Key) -> String {
        format!("{}{key}", self.root)
    }

    /// The key in the destination, of one in the bucket.
    pub(super) fn relative(&self, full: &str) -> Option<Key> {
        full.strip_prefix(&self.root).map(Key::verbatim)
    }

    pub(super) fn tagging(&self, tags: &Tags) -> Option<String> {
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

    pub(super) fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options.encryption {
            None => (None, None),
            Some(S3Encryption::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(S3Encryption::Kms { key }) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }

    /// What a request that sends this content needs of its own.
    pub(super) fn sending(&self, content: &Bytes) -> ConfigOverride {
        let timeouts = self.connection.timeouts.sending(content.len());
        ConfigOverride::default().timeout_config(timeouts)
    }

    /// What an error of the SDK means, about an object.
    pub(super) fn error<E>(&self, operation: Operation, key: &Key, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.failed(operation, error).about(key)
    }

    /// What an error of the SDK means.
    pub(super) fn failed<E>(&self, operation: Operation, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (code, text) = (error.code(), error.message());
        let failed = failed(&self.location, operation, error);
        self.refused(failed, code.unwrap_or_default(), text.unwrap_or_default())
    }

    /// A refusal names who was refused.
    pub(super) fn refused(&self, error: Error, code: &str, text: &str) -> Error {
        match self.connection.signer.principal() {
            Some(principal) => error.refusing(&principal, lack(code, text)),
            None => error,
        }
    }
}

impl Bucket {
    pub(super) async fn put(
        &self,
        key: &Key,
        content: Bytes,
        options: &PutOptions,
    ) -> Result<Stored> {
        let answered = Answered::default();
        let (encryption, encryption_key) = self.encryption();
        let integrity = self.connection.integrity;
        let checksum = integrity.has_crc32().then(|| crc32(&content));
        let checksum = checksum.map(Checksum::of_crc32);
        let (if_none_match, if_match) = conditions(&options.mode);
        let settings = self.sending(&content);
        let mut request = self
            .client()
            .put_object()
            .bucket(&self.name)
            .key(self.full(key))
            .body(content.into())
            .set_if_none_match(if_none_match)
            .set_if_match(if_match)
            .set_tagging(self.tagging(&options.tags))
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(encryption_key)
            .set_checksum_crc32(checksum.as_ref().map(|checksum| checksum.value.clone()))
            .customize()
            .config_override(settings)
            .interceptor(answered.clone());
        if integrity == Integrity::Crc32 {
            request = request.disable_payload_signing();
        }
        let output = request
            .send()
            .await
            .map_err(|error| conditional(self.error(Operation::Put, key, &error), &options.mode))?;
        Ok(Stored {
            version: version(output.e_tag()),
            checksum: checksum.filter(|sent| output.checksum_crc32() == Some(&sent.value)),
            date: answered.date(),
        })
    }

    pub(super) async fn head(&self, key: &Key) -> Result<Head> {
        let answered = Answered::default();
        let output = self
            .client()
            .head_object()
            .bucket(&self.name)
            .key(self.full(key))
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
                let error = self.error(Operation::Head, key, &error);
                match error.meaning {
                    // The answer to HEAD has no words: ask with one that has, whether it is the object or the bucket that lacks.
                    Meaning::NotFound => Err(match self.page("", None, 1).await {
                        Ok(_) => error,
                        Err(other) => other.during(Operation::Head).about(key),
                    }),
                    _ => Err(error),
                }
            }
        }
    }

    pub(super) async fn create(&self) -> Result<()> {
        let region = self.connection.region.as_ref();
        // The first region has no name there.
        let place = (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let created = self
            .client()
            .create_bucket()
            .bucket(&self.name)
            .set_create_bucket_configuration(place)
            .send()
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            Err(error) => Err(self.failed(Operation::CreateDestination, &error)),
        }
    }

    pub(super) async fn get(
        &self,
        key: &Key,
        options: &GetOptions,
    ) -> Result<(GetObjectOutput, Answered)> {
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
            .bucket(&self.name)
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
    pub(super) fn got(&self, key: &Key, output: &GetObjectOutput) -> Result<ObjectMeta> {
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

    pub(super) async fn page(
        &self,
        prefix: &str,
        request: Option<&ListRequest>,
        limit: usize,
    ) -> Result<(ListObjectsV2Output, Answered)> {
        let answered = Answered::default();
        let mut builder = self
            .client()
            .list_objects_v2()
            .bucket(&self.name)
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

    pub(super) async fn list(&self, request: &ListRequest) -> Result<ListPage> {
        const PAGE_SIZE: usize = 1000;
        let limit = request.limit.unwrap_or(PAGE_SIZE).clamp(1, PAGE_SIZE);
        let (output, answered) = self.page(&request.prefix, Some(request), limit).await?;
        let object = |object: &Object| self.relative(object.key()?).map(|key| listed(key, object));
        let prefixes = output.common_prefixes().iter();
        let prefix = |prefix: &CommonPrefix| self.relative(prefix.prefix()?);
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

pub(super) fn conditions(mode: &PutMode) -> (Option<String>, Option<String>) {
    match mode {
        PutMode::Overwrite => (None, None),
        PutMode::Create => (Some("*".to_owned()), None),
        PutMode::Replace(version) => (None, Some(entity_tag(version))),
    }
}

/// A text as in a form: what is not plain is escaped, and a space is a plus.
fn form(text: &str) -> String {
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
}
