//! Deleting in batches, and one by one where a service has no batches.
//!
//! A batch is one request that carries up to a hundred; each of them has its own answer. What a batch refuses for the moment is asked
//! for again alone.

use std::{collections::BTreeMap, fmt::Write};

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
    let (media_type, body) = carrying(bucket, keys);
    let url = bucket.client.endpoint.batch();
    let request = Request::new(Operation::Delete, Method::POST, url);
    let request = request.with_content(&media_type, vec![body.into()]);
    let answers = parts(&bucket.client.ask(&request).await?);
    let answered = keys.iter().enumerate().map(async |(index, key)| {
        match outcome(bucket, key, answers.get(&index)) {
            Err(error) if matches!(error.meaning, Meaning::Throttled | Meaning::Unreachable) => {
                single(bucket, key).await
            }
            outcome => deleted(key, outcome),
        }
    });
    let answered: Vec<_> = answered.collect();
    let answered = stream::iter(answered).buffered(SINGLES_PARALLEL);
    Ok(answered.collect().await)
}

/// One body with a request for each key, and its type.
fn carrying(bucket: &Bucket, keys: &[Key]) -> (String, String) {
    let boundary = unlikely();
    let mut body = String::new();
    for (index, key) in keys.iter().enumerate() {
        let path = bucket.client.endpoint.object_path(&bucket.full(key));
        write!(
            body,
            "--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <b+{index}>\r\n\r\n\
             DELETE {path} HTTP/1.1\r\n\r\n\r\n"
        )
        .expect("a string takes all");
    }
    write!(body, "--{boundary}--\r\n").expect("a string takes all");
    (format!("multipart/mixed; boundary={boundary}"), body)
}

/// What a batch's answer to one key means. Not answered is not done.
fn outcome(bucket: &Bucket, key: &Key, answer: Option<&(u16, Bytes)>) -> Result<()> {
    let client = &bucket.client;
    let error = || bucket.error(Meaning::Unreachable, Operation::Delete);
    let (status, body) = answer.ok_or_else(|| error().about(key))?;
    if (200..300).contains(status) {
        return Ok(());
    }
    let asked = Asked {
        location: &client.location,
        principal: client.credentials.principal(),
        request: &deletion(bucket, key),
    };
    let (status, body) = (*status, body.as_ref());
    Err(refused(&asked, &Answered { status, body }))
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
    let answer = bucket.client.ask(&deletion(bucket, key)).await;
    deleted(key, answer.map(drop))
}

fn deletion(bucket: &Bucket, key: &Key) -> Request {
    let url = bucket.client.endpoint.object(&bucket.full(key));
    Request::new(Operation::Delete, Method::DELETE, url).about(key)
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
