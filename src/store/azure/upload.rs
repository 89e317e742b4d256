//! Objects in blocks.
//!
//! A blob has one set of blocks that were sent and not committed, whoever has sent them. A block's name is that of its upload and its
//! number, all of one length, so that two uploads of one blob never mix. What is committed is a list of names: it is the same blob
//! however often it is committed.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use azure_core::{Bytes, Uuid, http::Etag};
use azure_storage_blob::models::{
    BlobClientDeleteOptions, BlockBlobClientCommitBlockListOptions,
    BlockBlobClientStageBlockOptions, BlockListType, BlockLookupList,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    super::{
        Error, Key, ListRequest, Meaning, Operation, PageToken, Part, PendingUpload, PutMode,
        Result, Stored, Upload, UploadId, UploadOptions,
    },
    answer,
    container::{Container, Telling, conditions},
    failure::conditional,
    lock::Whole,
};
use crate::model::time::Timestamp;

/// Of an upload's name in the name of each block; the number has five digits more. Together they are as long as the names that
/// the SDK gives to blocks: those of one blob must be of one length.
const ID_LENGTH: usize = 11;

/// How many blobs are asked for their blocks at once.
const ASKED_PARALLEL: usize = 8;

/// One object in blocks.
#[derive(Debug)]
pub(super) struct AzureUpload {
    container: Arc<Container>,
    key: Key,
    /// The blob's.
    name: String,
    id: UploadId,
    options: UploadOptions,
}

impl AzureUpload {
    /// Begins one. Nothing is sent: the first block makes it.
    pub(super) fn begin(
        container: Arc<Container>,
        key: &Key,
        options: UploadOptions,
    ) -> Result<Self> {
        let id = Uuid::new_v4().simple().to_string();
        Ok(Self {
            name: container.full(Operation::BeginUpload, key)?,
            container,
            key: key.clone(),
            id: UploadId(id.chars().take(ID_LENGTH).collect()),
            options,
        })
    }

    fn block(&self, number: u32) -> Vec<u8> {
        format!("{}{number:05}", self.id.0).into_bytes()
    }

    async fn commit(&self, parts: &[Part]) -> Result<Stored> {
        let container = &self.container;
        let failed = |error: &azure_core::Error| {
            let error = container.error_about(Operation::CompleteUpload, &self.key, error);
            conditional(error, &self.options.mode)
        };
        let blocks = parts.iter().map(|part| self.block(part.number)).collect();
        let list = BlockLookupList {
            // Also those that an earlier try, whose answer was lost, has committed.
            latest: Some(blocks),
            ..BlockLookupList::default()
        };
        let (if_none_match, if_match) = conditions(&self.options.mode);
        let options = BlockBlobClientCommitBlockListOptions {
            blob_tags_string: container.tagging(&self.options.tags),
            encryption_scope: container.options.encryption_scope.clone(),
            if_match,
            if_none_match,
            ..BlockBlobClientCommitBlockListOptions::default()
        };
        let client = container.connection.block_blob(&self.name);
        let list = list.try_into().map_err(|error| failed(&error))?;
        let sent = client.commit_block_list(list, Some(options));
        let answer = container
            .connection
            .within(0, sent)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Stored {
            version: answer::version(answer.headers()),
            checksum: None,
            date: answer::date(answer.headers()),
        })
    }

    /// What a repeated commit is refused for may be what an earlier try, whose answer was lost, has made.
    async fn committed_before(&self, parts: &[Part], error: Error) -> Result<Stored> {
        let Ok(found) = blocks(&self.container, &self.name, Committed::Yes).await else {
            return Err(error);
        };
        if !found
            .into_iter()
            .eq(parts.iter().map(|part| self.block(part.number)))
        {
            return Err(error);
        }
        let head = self.container.head(&self.key).await.map_err(|_| error)?;
        Ok(Stored {
            version: head.meta.version,
            checksum: None,
            date: head.date,
        })
    }
}

#[async_trait]
impl Upload for AzureUpload {
    fn id(&self) -> &UploadId {
        &self.id
    }

    async fn put_part(&self, number: u32, content: Bytes) -> Result<Part> {
        let (container, size) = (&self.container, content.len() as u64);
        let options = BlockBlobClientStageBlockOptions {
            encryption_scope: container.options.encryption_scope.clone(),
            ..BlockBlobClientStageBlockOptions::default()
        };
        let client = container.connection.block_blob(&self.name);
        let block = self.block(number);
        let sent = client.stage_block(&block, size, content.clone().into(), Some(options));
        let answer = container.connection.within(size, sent).await;
        let answer =
            answer.map_err(|error| container.error_about(Operation::PutPart, &self.key, &error))?;
        if !answer::received(answer.headers(), &content) {
            let why = "the service received other bytes";
            let error = container.problem(Meaning::Checksum, Operation::PutPart, why);
            return Err(error.about(&self.key));
        }
        Ok(Part {
            number,
            size,
            tag: String::from_utf8_lossy(&block).into_owned(),
            checksum: None,
        })
    }

    async fn complete(&self, parts: Vec<Part>) -> Result<Stored> {
        match self.commit(&parts).await {
            Err(error) if error.is_conflict() => self.committed_before(&parts, error).await,
            result => result,
        }
    }

    async fn abort(&self) -> Result<()> {
        abort(&self.container, &self.key, &self.id).await
    }
}

enum Committed {
    Yes,
    No,
}

/// The names of a blob's blocks, in order.
async fn blocks(
    container: &Container,
    name: &str,
    committed: Committed,
) -> azure_core::Result<Vec<Vec<u8>>> {
    let client = container.connection.block_blob(name);
    let which = match committed {
        Committed::Yes => BlockListType::Committed,
        Committed::No => BlockListType::Uncommitted,
    };
    let answer = container
        .connection
        .within(0, client.get_block_list(which, None))
        .await?;
    let list = answer.into_model()?;
    let blocks = match committed {
        Committed::Yes => list.committed_blocks,
        Committed::No => list.uncommitted_blocks,
    };
    Ok(blocks
        .into_iter()
        .flatten()
        .filter_map(|block| block.name)
        .collect())
}

/// Frees the blocks of an upload to a blob that was never committed. One that exists keeps its content, and the blocks go with a week.
///
/// The service has no call for that: an empty blob is committed, which drops all blocks, and deleted. In a container that retains
/// whatever is committed, the empty blob would stay, so there the blocks are left to the service, which drops them after a week.
pub(super) async fn abort(container: &Container, key: &Key, id: &UploadId) -> Result<()> {
    let failed =
        |error: &azure_core::Error| container.error_about(Operation::AbortUpload, key, error);
    let name = container.full(Operation::AbortUpload, key)?;
    let refused = |meaning, why| {
        let error = container.problem(meaning, Operation::AbortUpload, why);
        Err(error.about(key))
    };
    match blocks(container, &name, Committed::No)
        .await
        .map_err(|error| failed(&error))
    {
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error),
        Ok(blocks) => {
            let uploads = ids(&blocks);
            if !uploads.contains(id) {
                return Ok(());
            }
            if uploads.len() > 1 {
                let why =
                    "another upload of the same blob is under way; its end drops these parts too";
                return refused(Meaning::Precondition, why);
            }
        }
    }
    // What may not be seen is taken for none: most containers have no policy.
    let whole = container
        .ask_whole(Operation::AbortUpload)
        .await
        .unwrap_or(Whole::Free);
    if whole != Whole::Free {
        let why =
            "the container retains what is committed; the service drops the parts after a week";
        return refused(Meaning::Locked, why);
    }
    // Whoever may not delete must not leave an empty blob behind.
    if !may_delete(container, key, &name).await {
        return Ok(());
    }
    empty_and_delete(container, &name)
        .await
        .or_else(|error| match failed(&error) {
            // Somebody has written it meanwhile, which has dropped the blocks.
            error if error.is_not_found() || error.is_conflict() => Ok(()),
            error => Err(error),
        })
}

/// Asks for a delete that cannot happen, of a version that nothing has.
async fn may_delete(container: &Container, key: &Key, name: &str) -> bool {
    let options = BlobClientDeleteOptions {
        if_match: Some(Etag::from("\"0x0\"")),
        ..BlobClientDeleteOptions::default()
    };
    let client = container.connection.blob(name);
    match container
        .connection
        .within(0, client.delete(Some(options)))
        .await
    {
        Ok(_) => true,
        Err(error) => {
            let error = container.error_about(Operation::AbortUpload, key, &error);
            error.meaning != Meaning::PermissionDenied
        }
    }
}

async fn empty_and_delete(container: &Container, name: &str) -> azure_core::Result<()> {
    let (if_none_match, _) = conditions(&PutMode::Create);
    let options = BlockBlobClientCommitBlockListOptions {
        if_none_match,
        ..BlockBlobClientCommitBlockListOptions::default()
    };
    let blob = container.connection.blob(name);
    let client = blob.block_blob_client();
    let none = BlockLookupList::default().try_into()?;
    let emptied = client.commit_block_list(none, Some(options));
    let emptied = container.connection.within(0, emptied).await?;
    let options = BlobClientDeleteOptions {
        // Never what somebody has written meanwhile.
        if_match: Some(Etag::from(answer::version(emptied.headers()).entity_tag())),
        ..BlobClientDeleteOptions::default()
    };
    let deleted = container
        .connection
        .within(0, blob.delete(Some(options)))
        .await;
    deleted.map(drop)
}

/// All blobs below a prefix that have blocks and no content, with the names of the uploads that sent the blocks.
pub(super) async fn pending(container: &Container, prefix: &str) -> Result<Vec<PendingUpload>> {
    let mut request = ListRequest::below(prefix);
    let mut found = Vec::new();
    loop {
        let (page, date) = container.page(&request, Telling::Uploads).await?;
        let empty = page.blobs.iter().filter(|blob| blob.is_empty());
        let asked = empty.filter_map(|blob| {
            let key = container.relative(&blob.name)?;
            // What is not told may have been now: too late for anything to be given up.
            Some(of_blob(
                container,
                (key, &blob.name),
                blob.last_modified().unwrap_or(date),
            ))
        });
        let asked: Vec<_> = asked.collect();
        let uploads: Vec<Vec<_>> = stream::iter(asked)
            .buffered(ASKED_PARALLEL)
            .try_collect()
            .await?;
        found.extend(uploads.into_iter().flatten());
        if page.next.is_empty() {
            return Ok(found);
        }
        request.token = Some(PageToken(page.next));
    }
}

async fn of_blob(
    container: &Container,
    (key, name): (Key, &str),
    started: Timestamp,
) -> Result<Vec<PendingUpload>> {
    let blocks = match blocks(container, name, Committed::No).await {
        Ok(blocks) => blocks,
        Err(error) => match container.error_about(Operation::ListUploads, &key, &error) {
            error if error.is_not_found() => Vec::new(),
            error => return Err(error),
        },
    };
    let upload = |id| PendingUpload {
        key: key.clone(),
        id,
        started,
    };
    Ok(ids(&blocks).into_iter().map(upload).collect())
}

/// The uploads that blocks with these names belong to. What is not named as we name it is one, named by its first block.
fn ids(blocks: &[Vec<u8>]) -> BTreeSet<UploadId> {
    let (mut ours, mut foreign) = (BTreeSet::new(), BTreeSet::new());
    for name in blocks.iter().map(|name| String::from_utf8_lossy(name)) {
        match name.split_at_checked(ID_LENGTH) {
            Some((id, number)) if number.len() == 5 && number.parse::<u32>().is_ok() => {
                ours.insert(UploadId(id.to_owned()));
            }
            _ => {
                foreign.insert(UploadId(name.into_owned()));
            }
        }
    }
    ours.extend(foreign.pop_first());
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_tell_whose_they_are() {
        let names = [
            "aaaaaaaaaaa00001",
            "aaaaaaaaaaa00002",
            "bbbbbbbbbbb00001",
            "00002",
            "00001",
        ];
        let names = names.map(|name| name.as_bytes().to_vec());
        let ids: Vec<String> = ids(&names).into_iter().map(|id| id.0).collect();
        assert_eq!(ids, ["00001", "aaaaaaaaaaa", "bbbbbbbbbbb"]);
    }
}
