//! Deleting in batches, and one by one where a service has no batches.
//!
//! A batch is one request that carries up to a hundred; each of them has its own answer. What a batch refuses for the moment is asked
//! for again alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Method;

use super::{
    super::{Deleted, Error, Key, Meaning, Operation, Result},
    DELETE_BATCH_MAX,
    bucket::{Bucket, Lacks, unlikely},
    client::{Answer, Request, text},
    failure::{Answered, Asked, refused},
};

/// How many batches are under way at once.
const BATCHES_PARALLEL: usize = 4;
const SINGLES_PARALLEL: usize = 16;

/// Deletes any number, and answers in their order.
pub(super) async fn delete(bucket: &Bucket, keys: &[Key]) -> Vec<Deleted> {
    let batches = keys.chunks(DELETE_BATCH_MAX);
    let batches: Vec<_> = batches.map(|keys| some(bucket, keys)).collect();
    let outcomes = stream::iter(batches).buffered(BATCHES_PARALLEL);
    outcomes.collect::<Vec<_>>().await.concat()
}

async fn some(bucket: &Bucket, keys: &[Key]) -> Vec<Deleted> {
    let lacks = &bucket.lacks.batches;
    if keys.len() == 1 || Lacks::is_noted(lacks) {
        return singles(bucket, keys).await;
    }
    match batch(bucket, keys).await {
        Ok(deleted) => deleted,
        Err(error) if matches!(error.meaning, Meaning::Unsupported | Meaning::NotFound) => {
            Lacks::note(lacks);
            singles(bucket, keys).await
        }
        // One answer for all of them.
        Err(error) => {
            let refused = |key: &Key| Deleted {
                key: key.clone(),
                outcome: Err(error.clone().about(key)),
            };
            keys.iter().map(refused).collect()
        }
    }
}

async fn batch(bucket: &Bucket, keys: &[Key]) -> Result<Vec<Deleted>> {
    let boundary = unlikely();
    let mut body = String::new();
    for (index, key) in keys.iter().enumerate() {
        let path = bucket.client.endpoint.object_path(&bucket.full(key));
        body.push_str(&format!(
            "--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <b+{index}>\r\n\r\n\
             DELETE {path} HTTP/1.1\r\n\r\n\r\n"
        ));
    }
    body.push_str(&format!("--{boundary}--\r\n"));
    let request = Request::new(
        Operation::Delete,
        Method::POST,
        bucket.client.endpoint.batch(),
    )
    .with_content(
        &format!("multipart/mixed; boundary={boundary}"),
        vec![body.into()],
    );
    let answer = bucket.client.ask(&request).await?;
    let answers = parts(&answer);
    let answered = keys.iter().enumerate().map(async |(index, key)| {
        let alone = Request::new(
            Operation::Delete,
            Method::DELETE,
            bucket.client.endpoint.object(&bucket.full(key)),
        )
        .about(key);
        let outcome = match answers.get(&index) {
            Some((200..=299, _)) => Ok(()),
            Some((status, body)) => Err(refused(
                &Asked {
                    location: &bucket.client.location,
                    principal: bucket.client.credentials.principal(),
                    request: &alone,
                },
                &Answered {
                    status: *status,
                    body,
                },
            )),
            // Not answered is not done.
            None => Err(bucket
                .error(Meaning::Unreachable, Operation::Delete)
                .about(key)),
        };
        match outcome {
            Err(error) if matches!(error.meaning, Meaning::Throttled | Meaning::Unreachable) => {
                single(bucket, key).await
            }
            outcome => deleted(key, outcome),
        }
    });
    let answered: Vec<_> = answered.collect();
    Ok(stream::iter(answered)
        .buffered(SINGLES_PARALLEL)
        .collect()
        .await)
}

/// The statuses and bodies of a batch's answers, by the number of what they answer.
fn parts(answer: &Answer) -> BTreeMap<usize, (u16, Bytes)> {
    let kind = text(&answer.headers, "content-type").unwrap_or_default();
    let Some((_, boundary)) = kind.split_once("boundary=") else {
        return BTreeMap::new();
    };
    let boundary = boundary.split(';').next().unwrap_or(boundary);
    let delimiter = format!("--{}", boundary.trim_matches('"'));
    let body = String::from_utf8_lossy(&answer.body);
    let parts = body.split(delimiter.as_str()).skip(1);
    let parts = parts.filter(|part| !part.starts_with("--"));
    let parts = parts.enumerate().filter_map(|(place, part)| {
        let (headers, inner) = part.split_once("HTTP/1.1 ")?;
        let status = inner.get(..3)?.parse().ok()?;
        // A service that gives no name answers in order.
        let named = headers.rsplit_once('+').and_then(|(_, rest)| {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        });
        let (_, content) = inner.split_once("\r\n\r\n").unwrap_or((inner, ""));
        let content = Bytes::copy_from_slice(content.trim().as_bytes());
        Some((named.unwrap_or(place), (status, content)))
    });
    parts.collect()
}

async fn singles(bucket: &Bucket, keys: &[Key]) -> Vec<Deleted> {
    let requests: Vec<_> = keys.iter().map(|key| single(bucket, key)).collect();
    let outcomes = stream::iter(requests).buffered(SINGLES_PARALLEL);
    outcomes.collect().await
}

async fn single(bucket: &Bucket, key: &Key) -> Deleted {
    let url = bucket.client.endpoint.object(&bucket.full(key));
    let request = Request::new(Operation::Delete, Method::DELETE, url).about(key);
    deleted(key, bucket.client.ask(&request).await.map(drop))
}

/// What is not there is deleted.
fn deleted(key: &Key, outcome: Result<(), Error>) -> Deleted {
    let outcome = match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        outcome => outcome,
    };
    Deleted {
        key: key.clone(),
        outcome,
    }
}
