//! Deleting objects: many in one request, or one.
//!
//! A batch is one request that carries up to a hundred; each of them has its own answer. What a batch refuses for the moment is asked
//! for again alone.

use std::{collections::BTreeMap, fmt::Write};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Method;

use super::{
    super::{
        Deleted, Key, Meaning, Operation, Result,
        batches::{self, Batches, Deletes},
    },
    DELETE_BATCH_MAX,
    bucket::{Bucket, unlikely},
    client::{Answer, Request, text},
    failure::{Answered, Asked, refused},
};

const AGAIN_PARALLEL: usize = 16;

#[async_trait]
impl Deletes for Bucket {
    const BATCH_MAX: usize = DELETE_BATCH_MAX;

    fn batches(&self) -> &Batches {
        &self.batches
    }

    async fn batch(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let (media_type, body) = carrying(self, keys);
        let url = self.client.endpoint.batch();
        let request = Request::new(Operation::Delete, Method::POST, url);
        let request = request.with_content(&media_type, vec![body.into()]);
        let answer = self.client.ask(&request).await.map_err(|mut error| {
            // No such place is no batches.
            if error.is_not_found() {
                error.meaning = Meaning::Unsupported;
            }
            error
        })?;
        let answers = parts(&answer);
        let answered = keys.iter().enumerate().map(async |(index, key)| {
            match outcome(self, key, answers.get(&index)) {
                Err(error)
                    if matches!(error.meaning, Meaning::Throttled | Meaning::Unreachable) =>
                {
                    batches::alone(self, key).await
                }
                outcome => Deleted::of(key, outcome),
            }
        });
        let answered: Vec<_> = answered.collect();
        let answered = stream::iter(answered).buffered(AGAIN_PARALLEL);
        Ok(answered.collect().await)
    }

    async fn single(&self, key: &Key) -> Result<()> {
        self.client.ask(&deletion(self, key)).await.map(drop)
    }
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

fn deletion(bucket: &Bucket, key: &Key) -> Request {
    let url = bucket.client.endpoint.object(&bucket.full(key));
    Request::new(Operation::Delete, Method::DELETE, url).about(key)
}
