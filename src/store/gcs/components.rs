//! Objects in parts, each part an object of its own until the service composes them.
//!
//! This is the way of uploads that have a condition, which the service's multipart uploads cannot have, and of emulators that know no
//! multipart uploads. Parts lie below `.barkeep-uploads/` at the root of the destination, outside of every
//! server's catalog, by the key that they are for: what a crash leaves is found as an unfinished upload. Listings do not show them.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::json;

use super::{
    super::{
        Error, Head, Key, ListRequest, Meaning, ObjectMeta, Operation, Part, PendingUpload, Result,
        Stored, Upload, UploadId, UploadOptions, batches::delete,
    },
    bucket::{self, Bucket, MEDIA_TYPE, unlikely},
    client::{Answer, Request},
    failure::conditional,
    resource::Resource,
    whole,
};

/// Where parts lie.
const PARTS: &str = ".barkeep-uploads/";
/// What tells such an upload from the service's own.
const MARK: &str = "components-";
/// How many objects the service composes in one request.
const COMPOSED_MAX: usize = 32;
const COMPOSITIONS_PARALLEL: usize = 4;

/// One object in parts.
#[derive(Debug)]
pub(super) struct Components {
    bucket: Arc<Bucket>,
    key: Key,
    id: UploadId,
    options: UploadOptions,
}

/// Whether a listing must not show this: it is a part, and parts were not asked for.
pub(super) fn is_part(key: &str, prefix: &str) -> bool {
    key.starts_with(PARTS) && !prefix.starts_with(PARTS)
}

/// Whether an upload is of this kind.
pub(super) fn is_ours(id: &UploadId) -> bool {
    id.0.starts_with(MARK)
}

impl Components {
    /// Begins one; the service learns of it with its first part.
    pub(super) fn begin(bucket: Arc<Bucket>, key: &Key, options: UploadOptions) -> Self {
        Self {
            bucket,
            key: key.clone(),
            id: UploadId(format!("{MARK}{}", unlikely())),
            options,
        }
    }

    fn directory(&self) -> String {
        directory(&self.key, &self.id)
    }

    /// Makes one object of several, under its full name.
    async fn compose(
        &self,
        sources: &[String],
        name: &str,
        condition: Option<&str>,
    ) -> Result<(Resource, Answer)> {
        let operation = Operation::CompleteUpload;
        let source = |name: &String| json!({ "name": name });
        let description = json!({
            "sourceObjects": sources.iter().map(source).collect::<Vec<_>>(),
            "destination": {
                "contentType": MEDIA_TYPE,
                "metadata": self.bucket.metadata(&self.options.tags),
            },
        });
        let url = self.bucket.client.endpoint.composition(name);
        let request = Request::new(operation, Method::POST, self.bucket.writing(url, condition))
            .about(&self.key)
            .with_content("application/json", vec![description.to_string().into()]);
        let answer = self.bucket.client.ask(&request).await?;
        Ok((self.bucket.understood(operation, &answer)?, answer))
    }

    /// A repeated composition is refused where an earlier try, whose answer was lost, has made the object; a moment ago there was none.
    async fn composed_before(&self, parts: &[Part], mut error: Error) -> Result<Head> {
        if error.meaning == Meaning::Precondition
            && let Ok(head) = self.bucket.head(&self.key).await
            && whole::is_made_of(&head.meta, parts)
        {
            return Ok(head);
        }
        // A part is missing, not the object.
        if error.is_not_found() {
            error.meaning = Meaning::Other;
        }
        Err(conditional(error, &self.options.mode))
    }

    /// Composes until few enough are left for the last composition.
    async fn narrowed(&self, mut names: Vec<String>) -> Result<Vec<String>> {
        let mut round = 0;
        while names.len() > COMPOSED_MAX {
            round += 1;
            let groups = names.chunks(COMPOSED_MAX).enumerate();
            let composed = groups.map(async |(index, group)| {
                let key = format!("{}{round}-{index:08}", self.directory());
                let name = self.bucket.full(&Key::verbatim(key));
                self.compose(group, &name, None).await.map(|_| name)
            });
            let composed: Vec<_> = composed.collect();
            let composed = stream::iter(composed).buffered(COMPOSITIONS_PARALLEL);
            names = composed.try_collect().await?;
        }
        Ok(names)
    }
}

#[async_trait]
impl Upload for Components {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn put_part(&self, number: u32, content: Bytes) -> Result<Part> {
        let size = content.len() as u64;
        let name = format!("{}0-{number:08}", self.directory());
        let request = bucket::Upload {
            operation: Operation::PutPart,
            key: &self.key,
            name: &self.bucket.full(&Key::verbatim(name.as_str())),
            content,
            condition: None,
            metadata: &BTreeMap::new(),
        };
        let (stored, _) = self.bucket.send(request).await?;
        Ok(Part {
            number,
            size,
            tag: name,
            checksum: stored.checksum(),
        })
    }

    async fn complete(&self, parts: Vec<Part>) -> Result<Stored> {
        let mode = &self.options.mode;
        let condition = self
            .bucket
            .condition(Operation::CompleteUpload, &self.key, mode)?;
        // Where the condition is not heeded, at least most of what it forbids is refused.
        whole::look_before(&self.bucket, &self.key, mode).await?;
        let names = parts.iter().map(|part| Key::verbatim(part.tag.as_str()));
        let names = names.map(|key| self.bucket.full(&key)).collect();
        let names = self.narrowed(names).await?;
        let full = self.bucket.full(&self.key);
        let composed = self.compose(&names, &full, condition.as_deref()).await;
        let Head { meta, date } = match composed {
            Ok((stored, answer)) => Head {
                meta: stored.headed(&self.key, answer.date()),
                date: answer.date(),
            },
            Err(error) => self.composed_before(&parts, error).await?,
        };
        whole::check(&self.bucket, &meta, &parts)?;
        // The object is whole; parts that stay are found as an unfinished upload.
        if let Err(error) = self.abort().await {
            tracing::warn!(key = %self.key, %error, "parts of a complete upload were left");
        }
        Ok(Stored {
            version: meta.version,
            checksum: meta.checksum,
            date,
        })
    }

    async fn abort(&self) -> Result<()> {
        abort(&self.bucket, &self.key, &self.id).await
    }
}

fn directory(key: &Key, id: &UploadId) -> String {
    format!("{PARTS}{key}/{}/", id.0)
}

/// Ends an upload; one that is not there is ended.
pub(super) async fn abort(bucket: &Bucket, key: &Key, id: &UploadId) -> Result<()> {
    let parts = listed(bucket, &directory(key, id)).await;
    let parts = parts.map_err(|error| error.during(Operation::AbortUpload).about(key))?;
    let keys: Vec<Key> = parts.into_iter().map(|part| part.key).collect();
    let mut outcomes = delete(bucket, &keys).await.into_iter();
    let outcome = outcomes.try_for_each(|deleted| deleted.outcome);
    outcome.map_err(|error| error.during(Operation::AbortUpload).about(key))
}

/// All unfinished uploads below a prefix, by the last part that each was sent.
pub(super) async fn pending(bucket: &Bucket, prefix: &str) -> Result<Vec<PendingUpload>> {
    let parts = listed(bucket, &format!("{PARTS}{prefix}")).await;
    let parts = parts.map_err(|error| error.during(Operation::ListUploads))?;
    let mut found: BTreeMap<(Key, UploadId), PendingUpload> = BTreeMap::new();
    for part in parts {
        let Some((key, id)) = upload_of(part.key.as_str()) else {
            continue;
        };
        let upload = found.entry((key.clone(), id.clone()));
        let upload = upload.or_insert(PendingUpload {
            key,
            id,
            started: part.last_modified,
        });
        upload.started = upload.started.max(part.last_modified);
    }
    Ok(found.into_values().collect())
}

async fn listed(bucket: &Bucket, prefix: &str) -> Result<Vec<ObjectMeta>> {
    let mut request = ListRequest::below(prefix);
    let mut found = Vec::new();
    loop {
        let page = bucket.list(&request).await?;
        found.extend(page.objects);
        match page.next {
            Some(token) => request.token = Some(token),
            None => return Ok(found),
        }
    }
}

/// Which upload a part belongs to: `.barkeep-uploads/KEY/ID/PART`.
fn upload_of(part: &str) -> Option<(Key, UploadId)> {
    let (directory, _) = part.strip_prefix(PARTS)?.rsplit_once('/')?;
    let (key, id) = directory.rsplit_once('/')?;
    let id = UploadId(id.to_owned());
    is_ours(&id).then(|| (Key::verbatim(key), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_tells_its_upload_and_is_no_object() {
        let (key, id) = (
            Key::verbatim("srv/a b"),
            UploadId("components-1".to_owned()),
        );
        let part = format!("{}0-00000001", directory(&key, &id));
        assert_eq!(upload_of(&part), Some((key, id)));
        assert_eq!(upload_of(".barkeep-uploads/srv/a/x/1"), None);
        assert!(is_part(&part, "") && is_part(&part, ".bark"));
        assert!(!is_part(&part, ".barkeep-uploads/srv/"));
        assert!(!is_part("srv/base/x", ""));
    }
}
