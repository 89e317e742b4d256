//! Deleting in batches, and one by one only in a store that has no batches.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures_util::{StreamExt, stream};

use super::{
    super::{Deleted, Error, Key, Meaning, Operation, Result},
    DELETE_BATCH_MAX,
    bucket::Bucket,
    failure::meaning,
    wire::{BatchChecksum, WithMd5},
};

/// How many batches are under way at once.
const BATCHES_PARALLEL: usize = 4;
const SINGLES_PARALLEL: usize = 16;

/// Whether the store is known not to delete in batches.
#[derive(Debug, Default)]
pub(super) struct Batch {
    is_missing: AtomicBool,
}

impl Batch {
    /// How many objects one request deletes, as far as is known.
    pub(super) fn max(&self) -> usize {
        if self.is_missing.load(Ordering::Relaxed) {
            1
        } else {
            DELETE_BATCH_MAX
        }
    }
}

/// Deletes any number, and answers in their order.
pub(super) async fn delete(bucket: &Bucket, keys: &[Key]) -> Vec<Deleted> {
    let batches = keys.chunks(DELETE_BATCH_MAX);
    let batches: Vec<_> = batches.map(|keys| batch_or_singles(bucket, keys)).collect();
    let outcomes = stream::iter(batches).buffered(BATCHES_PARALLEL);
    outcomes.collect::<Vec<_>>().await.concat()
}

async fn batch_or_singles(bucket: &Bucket, keys: &[Key]) -> Vec<Deleted> {
    if bucket.batch.max() == 1 {
        return singles(bucket, keys).await;
    }
    match batch(bucket, keys).await {
        Ok(deleted) => deleted,
        Err(error) if error.meaning == Meaning::Unsupported => {
            bucket.batch.is_missing.store(true, Ordering::Relaxed);
            singles(bucket, keys).await
        }
        // One answer for all of them.
        Err(error) => keys
            .iter()
            .map(|key| Deleted {
                key: key.clone(),
                outcome: Err(error.clone().about(key)),
            })
            .collect(),
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
        if error.meaning != Meaning::NotFound {
            errors.insert(key, error);
        }
    }
    let answer = |key: &Key| Deleted {
        key: key.clone(),
        outcome: errors.get(key).cloned().map_or(Ok(()), Err),
    };
    Ok(keys.iter().map(answer).collect())
}

async fn singles(bucket: &Bucket, keys: &[Key]) -> Vec<Deleted> {
    let requests: Vec<_> = keys.iter().map(|key| single(bucket, key)).collect();
    let outcomes = stream::iter(requests).buffered(SINGLES_PARALLEL);
    outcomes.collect().await
}

async fn single(bucket: &Bucket, key: &Key) -> Deleted {
    let request = bucket.client().delete_object().bucket(&bucket.name);
    let outcome = match request.key(bucket.full(key)).send().await {
        Ok(_) => Ok(()),
        Err(error) => match bucket.error(Operation::Delete, key, &error) {
            error if error.is_not_found() => Ok(()),
            error => Err(error),
        },
    };
    Deleted {
        key: key.clone(),
        outcome,
    }
}
