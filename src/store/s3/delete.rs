//! Deleting objects: many in one request, or one.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::{
    super::{
        Deleted, Error, Key, Meaning, Operation, Result,
        batches::{Batches, Deletes},
    },
    DELETE_BATCH_MAX,
    bucket::Bucket,
    failure::meaning,
    wire::{BatchChecksum, WithMd5},
};

#[async_trait]
impl Deletes for Bucket {
    const BATCH_MAX: usize = DELETE_BATCH_MAX;

    fn batches(&self) -> &Batches {
        &self.batches
    }

    async fn batch(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        batch(self, keys).await
    }

    async fn single(&self, key: &Key) -> Result<()> {
        let request = self.client().delete_object().bucket(&self.name);
        let deleted = request.key(self.full(key)).send().await;
        deleted
            .map(drop)
            .map_err(|error| self.error(Operation::Delete, key, &error))
    }
}

async fn batch(bucket: &Bucket, keys: &[Key]) -> Result<Vec<Deleted>> {
    let location = bucket.location.as_str();
    let identifier = |key: &Key| ObjectIdentifier::builder().key(bucket.full(key)).build();
    let objects: Result<Vec<_>, _> = keys.iter().map(identifier).collect();
    let delete = objects.and_then(|objects| {
        Delete::builder()
            .set_objects(Some(objects))
            .quiet(true)
            .build()
    });
    let delete = delete
        .map_err(|error| Error::new(Meaning::Other, Operation::Delete, location).because(error))?;
    let checksum = if bucket.connection.integrity.has_crc32() {
        BatchChecksum::Crc
    } else {
        BatchChecksum::Md5Only
    };
    let output = bucket
        .client()
        .delete_objects()
        .bucket(&bucket.name)
        .delete(delete)
        .customize()
        .interceptor(WithMd5(checksum))
        .send()
        .await
        .map_err(|error| bucket.failed(Operation::Delete, &error))?;
    // A success for the batch is none for each of it.
    let mut errors: BTreeMap<Key, Error> = BTreeMap::new();
    for refused in output.errors() {
        let code = refused.code().unwrap_or_default();
        let text = refused.message().unwrap_or_default();
        let error = Error::new(meaning(code, text, 0), Operation::Delete, location);
        let error = error.because(format!("{code}: {text}"));
        let error = bucket.refused(error, code, text);
        let key = refused.key().and_then(|key| bucket.relative(key));
        let Some(key) = key else {
            return Err(error);
        };
        let error = error.about(&key);
        errors.insert(key, error);
    }
    let answer = |key: &Key| Deleted::of(key, errors.get(key).cloned().map_or(Ok(()), Err));
    Ok(keys.iter().map(answer).collect())
}
