//! Objects in blocks.
//!
//! A blob has one set of blocks that were sent and not committed, whoever has sent them. A block's name is that of its upload and its
//! number, all of one length, so that two uploads of one blob never mix. What is committed is a list of names: it is the same blob
//! however often it is committed.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::{Bytes, Uuid};
use azure_storage_blob::models::{
    BlockBlobClientCommitBlockListOptions, BlockBlobClientStageBlockOptions, BlockLookupList,
};

use super::{
    super::{
        Error, Key, Meaning, Operation, Part, Result, Stored, Upload, UploadId, UploadOptions,
    },
    answer,
    container::{Container, conditions},
    failure::conditional,
    pending::{Committed, ID_LENGTH, abort, blocks},
};

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
