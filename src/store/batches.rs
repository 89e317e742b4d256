//! Deleting many objects where a service deletes in batches, or turns out not to.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::{Deleted, Key, Meaning, Result};

/// How many batches are under way at once.
const BATCHES_PARALLEL: usize = 4;
const SINGLES_PARALLEL: usize = 16;

/// What is known of a service's batches.
#[derive(Debug, Default)]
pub(super) struct Batches {
    are_missing: AtomicBool,
}

impl Batches {
    /// How many objects one request deletes, as far as is known.
    pub(super) fn max(&self, of_service: usize) -> usize {
        if self.are_missing.load(Ordering::Relaxed) {
            1
        } else {
            of_service
        }
    }
}

/// A service that deletes.
#[async_trait]
pub(super) trait Deletes: Sync {
    /// How many objects one of its batches may name.
    const BATCH_MAX: usize;

    /// What is known of its batches.
    fn batches(&self) -> &Batches;

    /// Deletes several in one request, and answers for each in their order; [`Meaning::Unsupported`] if it has no batches.
    async fn batch(&self, keys: &[Key]) -> Result<Vec<Deleted>>;

    /// Deletes one.
    async fn single(&self, key: &Key) -> Result<()>;
}

/// Deletes any number, and answers in their order. What is not there is deleted.
pub(super) async fn delete<S: Deletes>(service: &S, keys: &[Key]) -> Vec<Deleted> {
    let batches = keys.chunks(S::BATCH_MAX);
    let batches: Vec<_> = batches
        .map(|keys| batch_or_singles(service, keys))
        .collect();
    let outcomes = stream::iter(batches).buffered(BATCHES_PARALLEL);
    outcomes.collect::<Vec<_>>().await.concat()
}

async fn batch_or_singles<S: Deletes>(service: &S, keys: &[Key]) -> Vec<Deleted> {
    let batches = service.batches();
    // One is one request either way, and the plainer one.
    if keys.len() == 1 || batches.max(S::BATCH_MAX) == 1 {
        return singles(service, keys).await;
    }
    match service.batch(keys).await {
        Ok(deleted) => deleted,
        Err(error) if error.meaning == Meaning::Unsupported => {
            batches.are_missing.store(true, Ordering::Relaxed);
            singles(service, keys).await
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

async fn singles<S: Deletes>(service: &S, keys: &[Key]) -> Vec<Deleted> {
    let requests: Vec<_> = keys.iter().map(|key| alone(service, key)).collect();
    let outcomes = stream::iter(requests).buffered(SINGLES_PARALLEL);
    outcomes.collect().await
}

/// Deletes one with a request of its own.
pub(super) async fn alone<S: Deletes>(service: &S, key: &Key) -> Deleted {
    Deleted::of(key, service.single(key).await)
}
