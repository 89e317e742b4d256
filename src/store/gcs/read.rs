//! Reading an object, and going on with it.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use reqwest::Response;

use super::{
    super::{
        Body, GetOptions, Key, ObjectMeta, Result,
        reading::{self, Chunks, Source},
    },
    bucket::Bucket,
};
use crate::failure::chain;

/// The bytes of a range, resumed where they break off, and checked if they are all.
pub(super) fn body(
    bucket: Arc<Bucket>,
    meta: &ObjectMeta,
    range: Range<u64>,
    response: Response,
) -> Body {
    let chunks = chunks(response, bucket.client.read_timeout);
    reading::body(bucket, meta, range, chunks)
}

#[async_trait]
impl Source for Arc<Bucket> {
    fn location(&self) -> &str {
        &self.client.location
    }

    async fn reopen(&self, key: &Key, options: &GetOptions) -> Result<Chunks> {
        let (_, response) = self.get(key, options).await?;
        Ok(chunks(response, self.client.read_timeout))
    }
}

fn chunks(response: Response, timeout: Duration) -> Chunks {
    stream::unfold(response, move |mut response| async move {
        let chunk = tokio::time::timeout(timeout, response.chunk()).await;
        let chunk = match chunk {
            Ok(Ok(chunk)) => Ok(chunk?),
            Ok(Err(error)) => Err(chain(&error.without_url())),
            Err(_) => Err("the next bytes took too long".to_owned()),
        };
        Some((chunk, response))
    })
    .boxed()
}
