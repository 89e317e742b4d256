//! Deleting in batches, and one by one where there are none.

use std::sync::atomic::{AtomicBool, Ordering};

use azure_core::http::{Method, Request};
use futures_util::{StreamExt, stream};

use super::{
    super::{Deleted, Error, Key, Meaning, Operation, Result},
    DELETE_BATCH_MAX,
    batch::{self, Answer},
    container::Container,
    failure::meaning,
};

/// How many batches are under way at once.
const BATCHES_PARALLEL: usize = 4;
const SINGLES_PARALLEL: usize = 16;

/// Whether the service is known not to delete in batches.
#[derive(Debug, Default)]
pub(super) struct Batch {
    is_missing: AtomicBool,
}

/// Deletes any number, and answers in their order.
pub(super) async fn delete(container: &Container, keys: &[Key]) -> Vec<Deleted> {
    let batches = keys.chunks(DELETE_BATCH_MAX);
    let batches: Vec<_> = batches
        .map(|keys| batch_or_singles(container, keys))
        .collect();
    let outcomes = stream::iter(batches).buffered(BATCHES_PARALLEL);
    outcomes.collect::<Vec<_>>().await.concat()
}

async fn batch_or_singles(container: &Container, keys: &[Key]) -> Vec<Deleted> {
    // One is one request either way, and the plainer one.
    if keys.len() == 1 || container.batch.is_missing.load(Ordering::Relaxed) {
        return singles(container, keys).await;
    }
    match send(container, keys).await {
        Ok(deleted) => deleted,
        Err(error) if error.meaning == Meaning::Unsupported => {
            container.batch.is_missing.store(true, Ordering::Relaxed);
            singles(container, keys).await
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

async fn send(container: &Container, keys: &[Key]) -> Result<Vec<Deleted>> {
    let connection = &container.connection;
    let failed = |error: &azure_core::Error| container.error(Operation::Delete, error);
    let mut parts = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        let Ok(name) = container.full(Operation::Delete, key) else {
            continue;
        };
        let mut part = connection.request(Method::Delete, Some(&name));
        // The version of the whole is that of its parts.
        part.headers_mut().remove("x-ms-version");
        connection
            .authorization
            .sign(&mut part)
            .await
            .map_err(|error| failed(&error))?;
        parts.push((index, part));
    }
    let answer = connection.send(whole(container, &parts)).await;
    let answer = answer.map_err(|error| failed(&error))?;
    let answers = batch::answers(&String::from_utf8_lossy(answer.body()));
    let deleted = keys.iter().enumerate().map(|(index, key)| Deleted {
        key: key.clone(),
        outcome: container
            .full(Operation::Delete, key)
            .and_then(|_| outcome(container, answers.get(&index)))
            .map_err(|error| error.about(key)),
    });
    Ok(deleted.collect())
}

fn whole(container: &Container, parts: &[(usize, Request)]) -> Request {
    let mut whole = container.connection.request(Method::Post, None);
    let mut query = whole.url_mut().query_pairs_mut();
    query
        .append_pair("restype", "container")
        .append_pair("comp", "batch");
    drop(query);
    whole.insert_header("content-type", batch::content_type());
    whole.set_body(batch::body(parts));
    whole
}

/// A success for the batch is none for each of it, and silence is no success.
fn outcome(container: &Container, answer: Option<&Answer>) -> Result<()> {
    let error = |meaning, why: String| {
        let error = Error::new(meaning, Operation::Delete, container.location.clone());
        Err(error.because(why))
    };
    match answer {
        Some(answer) if (200..300).contains(&answer.status) => Ok(()),
        Some(Answer { status, code, text }) => match meaning(code, *status) {
            Meaning::NotFound => Ok(()),
            meaning => error(meaning, format!("{code}: {text} (status {status})")),
        },
        None => error(
            Meaning::Unreachable,
            "the service's answer leaves it out".to_owned(),
        ),
    }
}

async fn singles(container: &Container, keys: &[Key]) -> Vec<Deleted> {
    let requests: Vec<_> = keys.iter().map(|key| single(container, key)).collect();
    let outcomes = stream::iter(requests).buffered(SINGLES_PARALLEL);
    outcomes.collect().await
}

async fn single(container: &Container, key: &Key) -> Deleted {
    let outcome = match one(container, key).await {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome,
    };
    Deleted {
        key: key.clone(),
        outcome,
    }
}

async fn one(container: &Container, key: &Key) -> Result<()> {
    let connection = &container.connection;
    let client = connection.blob(&container.full(Operation::Delete, key)?);
    let deleted = connection.within(0, client.delete(None)).await;
    deleted
        .map(drop)
        .map_err(|error| container.error_about(Operation::Delete, key, &error))
}
