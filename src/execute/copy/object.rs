//! One object from one store to another.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream::FuturesUnordered};

use super::{Copying, Error};
use crate::store::{
    self, Body, Error as StoreError, GetOptions, Head, Key, ObjectMeta, PutMode, PutOptions,
    SharedStore, Tags, Upload, UploadOptions,
};

/// Up to this size an object is sent whole: a segment with what its codec adds.
pub(super) const WHOLE_MAX: u64 = 17 << 20;

/// How many parts of one object are sent at once.
const PARTS_PARALLEL: usize = 4;

/// The two stores, as copying sees them.
pub(in crate::execute) struct Route<'a> {
    source: &'a SharedStore,
    target: &'a SharedStore,
    copying: &'a Copying<'a>,
}

impl<'a> Route<'a> {
    pub(in crate::execute) fn new(copying: &'a Copying<'a>) -> Self {
        Self {
            source: copying.source.store(),
            target: copying.target.store(),
            copying,
        }
    }

    /// Parts of which there are not too many.
    fn part_bytes(&self, size: u64) -> u64 {
        let limits = self.target.limits();
        let least = size.div_ceil(u64::from(limits.parts_max));
        let part = self.copying.part_bytes.max(least);
        part.clamp(limits.part_bytes_min, limits.part_bytes_max)
    }

    /// Whether the target has something else under the object's name.
    pub(super) async fn has_another(&self, meta: &ObjectMeta) -> store::Result<bool> {
        use store::StoreExt as _;
        let there = self.target.find(&meta.key).await?;
        Ok(there.is_some() && !is_there(self, meta).await?)
    }

    fn stop(&self) -> Result<(), Error> {
        if self.copying.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    async fn pace(&self, bytes: usize) {
        if let Some(throttle) = &self.copying.throttle {
            throttle.pace(bytes as u64).await;
        }
    }
}

/// Copies an object as it was listed. Returns its size, or `None` if it was there already.
pub(super) async fn copy(
    route: &Route<'_>,
    meta: &ObjectMeta,
    what: &str,
) -> Result<Option<u64>, Error> {
    route.stop()?;
    let failed = |source| Error::Copy {
        what: what.to_owned(),
        source,
    };
    if is_there(route, meta).await.map_err(failed)? {
        return Ok(None);
    }
    match send(route, meta, (&meta.key, PutMode::Create)).await {
        Ok(()) => Ok(Some(meta.size)),
        // Somebody else, or a try of ours whose answer was lost.
        Err(Stopped::Store(error)) if error.is_conflict() => {
            if is_there(route, meta).await.map_err(failed)? {
                return Ok(Some(meta.size));
            }
            Err(Error::Differs(meta.key.to_string()))
        }
        Err(Stopped::Store(error)) => Err(failed(error)),
        Err(Stopped::Cancelled) => Err(Error::Interrupted),
    }
}

/// Sends an object as it was listed, under a name of its own.
pub(in crate::execute) async fn send(
    route: &Route<'_>,
    meta: &ObjectMeta,
    to: (&Key, PutMode),
) -> Result<(), Stopped> {
    let options = GetOptions {
        version: Some(meta.version.clone()).filter(store::ObjectVersion::is_told),
        ..GetOptions::default()
    };
    let read = route.source.get(&meta.key, options).await?;
    if meta.size <= WHOLE_MAX {
        whole(route, to, read.body).await
    } else {
        in_parts(route, meta.size, to, read.body).await
    }
}

/// Why an object did not arrive.
pub(in crate::execute) enum Stopped {
    Store(StoreError),
    Cancelled,
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Whether the target has the object: its size and, where both stores keep the same kind, its checksum.
async fn is_there(route: &Route<'_>, meta: &ObjectMeta) -> store::Result<bool> {
    use store::StoreExt as _;
    let Some(there) = route.target.find(&meta.key).await? else {
        return Ok(false);
    };
    if there.meta.size != meta.size {
        return Ok(false);
    }
    let here = route.source.head(&meta.key).await?;
    Ok(!contradict(&here, &there))
}

/// Checksums of an object's parts depend on how it was cut, and say nothing about another one.
fn contradict(here: &Head, there: &Head) -> bool {
    let (Some(here), Some(there)) = (&here.meta.checksum, &there.meta.checksum) else {
        return false;
    };
    let of_parts = here.value.contains('-') || there.value.contains('-');
    here.algorithm == there.algorithm && !of_parts && here.value != there.value
}

async fn whole(route: &Route<'_>, to: (&Key, PutMode), body: Body) -> Result<(), Stopped> {
    let (key, mode) = to;
    let chunks: Vec<Bytes> = body.try_collect().await?;
    let content: Bytes = match <[Bytes; 1]>::try_from(chunks) {
        Ok([only]) => only,
        Err(chunks) => chunks.concat().into(),
    };
    route.pace(content.len()).await;
    let options = PutOptions::mode(mode);
    route.target.put(key, content, options).await?;
    Ok(())
}

async fn in_parts(
    route: &Route<'_>,
    size: u64,
    (key, mode): (&Key, PutMode),
    body: Body,
) -> Result<(), Stopped> {
    let part_bytes = route.part_bytes(size);
    let options = UploadOptions {
        part_bytes,
        mode,
        tags: Tags::Configured,
    };
    let upload = route.target.begin_upload(key, options).await?;
    let sent = upload_parts(route, upload.as_ref(), part_bytes, body).await;
    if sent.is_err() {
        // What is left of it is found and ended later.
        let _ = upload.abort().await;
    }
    sent
}

async fn upload_parts(
    route: &Route<'_>,
    upload: &dyn Upload,
    part_bytes: u64,
    mut body: Body,
) -> Result<(), Stopped> {
    let part_bytes = usize::try_from(part_bytes).unwrap_or(usize::MAX);
    let mut under_way = FuturesUnordered::new();
    let mut parts = Vec::new();
    let mut number = 0;
    let mut filling = BytesMut::new();
    loop {
        if route.copying.cancel.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        let chunk = body.next().await.transpose()?;
        let is_last = chunk.is_none();
        filling.extend_from_slice(&chunk.unwrap_or_default());
        while filling.len() >= part_bytes || (is_last && !filling.is_empty()) {
            if under_way.len() == PARTS_PARALLEL {
                parts.extend(under_way.next().await.transpose()?);
            }
            let length = filling.len().min(part_bytes);
            route.pace(length).await;
            number += 1;
            under_way.push(upload.put_part(number, filling.split_to(length).freeze()));
        }
        if is_last {
            break;
        }
    }
    while let Some(part) = under_way.next().await {
        parts.push(part?);
    }
    parts.sort_by_key(|part| part.number);
    upload.complete(parts).await?;
    Ok(())
}
