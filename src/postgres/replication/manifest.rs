//! Giving the server the manifest of an earlier backup, to build an incremental one on.

use std::{io, pin::Pin};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use postgres_protocol::message::{
    backend::Message,
    frontend::{self, CopyData},
};

use super::{Replication, unexpected, within};
use crate::postgres::{Cause, Error};

/// A backup manifest as it comes from wherever it is stored.
pub type ManifestText = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl Replication {
    /// Uploads the manifest of the backup that the next one, an incremental, builds on. PostgreSQL 17 and later.
    pub async fn upload_manifest(&mut self, mut manifest: ManifestText) -> Result<(), Error> {
        const DOING: &str = "take the manifest of the earlier backup";
        let limit = self.deadlines.answer;
        let begin = async {
            self.command(DOING, "UPLOAD_MANIFEST").await?;
            match self.message(DOING).await? {
                Message::CopyInResponse(_) => Ok(()),
                other => Err(unexpected(DOING, &other)),
            }
        };
        within(limit, DOING, begin).await?;
        while let Some(chunk) = manifest.next().await {
            let chunk = chunk.map_err(|error| self.broken(DOING, error))?;
            let sent = self.wire.send(|buffer| {
                CopyData::new(chunk)?.write(buffer);
                Ok(())
            });
            // The server may refuse it half way through; then it has said why.
            if let Err(error) = sent.await {
                let told = within(limit, DOING, self.message(DOING)).await;
                return Err(told
                    .err()
                    .unwrap_or(self.failed(DOING, Cause::Broken(error))));
            }
        }
        let end = async {
            let done = self.wire.send(|buffer| {
                frontend::copy_done(buffer);
                Ok(())
            });
            done.await.map_err(|error| self.broken(DOING, error))?;
            self.until_ready(DOING).await
        };
        // It is parsed as a whole at the end, which takes a while for many files.
        within(10 * limit, DOING, end).await
    }
}
