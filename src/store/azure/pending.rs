//! Uploads that were begun and not ended: finding them, and freeing what was sent.
//!
//! The service has neither call. What it has is a list of blobs without content, a list of a blob's blocks, and the rule that whatever
//! is committed drops all others. Blocks that nobody commits go by themselves a week after the last was sent.

use std::collections::{BTreeSet, HashMap};

use azure_core::http::{Etag, headers::Headers};
use azure_storage_blob::models::{
    BlobClientDeleteOptions, BlockBlobClientCommitBlockListOptions, BlockListType, BlockLookupList,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    super::{
        Key, ListRequest, Meaning, ObjectVersion, Operation, PageToken, PendingUpload, PutMode,
        Result, UploadId,
    },
    answer,
    container::{Container, Telling, conditions},
    lock::Whole,
};
use crate::model::time::Timestamp;

/// Of an upload's name in the name of each block; the number has five digits more. Together they are as long as the names that
/// the SDK gives to blocks: those of one blob must be of one length.
pub(super) const ID_LENGTH: usize = 11;

/// How many blobs are asked for their blocks at once.
const ASKED_PARALLEL: usize = 8;

/// What marks an empty blob as one that is only there to be deleted.
const MARK: &str = "barkeep_aborts";

/// Which blocks of a blob.
pub(super) enum Committed {
    Yes,
    No,
}

/// The names of a blob's blocks, in order.
pub(super) async fn blocks(
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
    if !may_delete(container, key, &name).await? {
        return Ok(());
    }
    match emptied(container, key, &name, id).await? {
        Some(version) => delete(container, key, &name, &version).await,
        None => Ok(()),
    }
}

/// Asks for a delete that cannot happen, of a version that no blob has.
async fn may_delete(container: &Container, key: &Key, name: &str) -> Result<bool> {
    let nothing = ObjectVersion("0x0".to_owned());
    match delete(container, key, name, &nothing).await {
        Ok(()) => Ok(true),
        Err(error) if error.meaning == Meaning::PermissionDenied => Ok(false),
        Err(error) => Err(error),
    }
}

/// Commits an empty blob, marked with the upload that it ends; `None` where somebody has written the blob meanwhile.
async fn emptied(
    container: &Container,
    key: &Key,
    name: &str,
    id: &UploadId,
) -> Result<Option<ObjectVersion>> {
    let failed =
        |error: &azure_core::Error| container.error_about(Operation::AbortUpload, key, error);
    let (if_none_match, _) = conditions(&PutMode::Create);
    let options = BlockBlobClientCommitBlockListOptions {
        if_none_match,
        metadata: Some(HashMap::from([(MARK.to_owned(), id.0.clone())])),
        ..BlockBlobClientCommitBlockListOptions::default()
    };
    let blob = container.connection.blob(name);
    let client = blob.block_blob_client();
    let none = BlockLookupList::default().try_into();
    let none = none.map_err(|error| failed(&error))?;
    let sent = client.commit_block_list(none, Some(options));
    let error = match container.connection.within(0, sent).await {
        Ok(answer) => return Ok(Some(answer::version(answer.headers()))),
        Err(error) => failed(&error),
    };
    if !error.is_conflict() {
        return Err(error);
    }
    // It may be in the way of itself, after an answer that was lost.
    let found = container
        .connection
        .within(0, blob.get_properties(None))
        .await;
    match found.map_err(|error| failed(&error)) {
        Ok(answer) => {
            Ok(is_marked(answer.headers(), id).then(|| answer::version(answer.headers())))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_marked(headers: &Headers, id: &UploadId) -> bool {
    answer::header(headers, &format!("x-ms-meta-{MARK}")) == Some(&id.0)
}

/// Deletes this version of a blob, and no other.
async fn delete(
    container: &Container,
    key: &Key,
    name: &str,
    version: &ObjectVersion,
) -> Result<()> {
    let options = BlobClientDeleteOptions {
        if_match: Some(Etag::from(version.entity_tag())),
        ..BlobClientDeleteOptions::default()
    };
    let client = container.connection.blob(name);
    let deleted = container
        .connection
        .within(0, client.delete(Some(options)))
        .await;
    match deleted {
        Ok(_) => Ok(()),
        Err(error) => match container.error_about(Operation::AbortUpload, key, &error) {
            error if error.is_not_found() || error.is_conflict() => Ok(()),
            error => Err(error),
        },
    }
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
