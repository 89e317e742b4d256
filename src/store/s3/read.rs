//! Reading an object, and going on with it.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use futures_util::{StreamExt, stream};

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
    stream: ByteStream,
) -> Body {
    reading::body(bucket, meta, range, chunks(stream))
}

#[async_trait]
impl Source for Arc<Bucket> {
    fn location(&self) -> &str {
        &self.location
    }

    async fn reopen(&self, key: &Key, options: &GetOptions) -> Result<Chunks> {
        let (output, _) = self.get(key, options).await?;
        Ok(chunks(output.body))
    }
}

fn chunks(stream: ByteStream) -> Chunks {
    stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((chunk.map_err(|error| chain(&error)), stream))
    })
    .boxed()
}
