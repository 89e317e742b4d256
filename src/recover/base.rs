//! Restoring a base backup into directories of this host.
//!
//! [`restore`] fetches the archives side by side, decompresses and extracts them as they come, links the tablespaces, adapts the
//! configuration, and makes everything durable. It writes into empty directories only. Until the very end the control file and the
//! backup label have other names, and a marker says that the restore is not complete: PostgreSQL cannot start on half a cluster, and
//! nobody can take one for a whole. Reads what barkeep and what Barman wrote, alike. An incremental backup is restored with all that it
//! builds on.

mod chain;
mod error;
mod extract;
mod finish;
mod layout;
mod settings;

use std::{panic, path::PathBuf, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub(super) use self::finish::settle;
use self::layout::Layout;
pub use self::{
    chain::chain,
    error::Error,
    layout::TablespaceRule,
    settings::{ArchiveMode, Becomes, Inclusive, Override, Recovery, TargetAction},
};
use crate::{
    model::{
        backup::{Backup, Tablespace},
        names::DestinationName,
        progress::{Event, Progress},
    },
    pipeline::untar::Durability,
    store::Archive,
};

/// Says in the data directory that it is not complete.
pub const MARKER: &str = "barkeep-restore-incomplete";

/// What is to be restored, and where.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// The destination that it is restored from, for messages.
    pub destination: DestinationName,
    /// The backup.
    pub backup: Backup,
    /// What it builds on, the full one first; empty for a full one. [`chain()`] tells.
    pub chain: Vec<Backup>,
    /// Where PostgreSQL's own programs of its version may be, which combine a chain.
    pub programs: Vec<PathBuf>,
    /// The data directory: missing or empty.
    pub directory: PathBuf,
    /// Where tablespaces go that do not go where they were.
    pub tablespaces: Vec<TablespaceRule>,
    /// How the cluster recovers; `None` writes no settings and removes nothing, as Barman.
    pub recovery: Option<Recovery>,
    /// Whether what was restored survives a crash of this host.
    pub durability: Durability,
}

/// What a restore works with.
pub struct RestorePorts {
    /// The server's catalog.
    pub catalog: Archive,
    /// Whoever watches.
    pub progress: Arc<dyn Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// A cluster that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredCluster {
    /// Its data directory.
    pub directory: PathBuf,
    /// Its tablespaces, where they are now.
    pub tablespaces: Vec<Tablespace>,
    /// How many files it has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of the original that were removed.
    pub removed: Vec<PathBuf>,
    /// Settings of the original that were changed.
    pub overrides: Vec<Override>,
    /// Links that lead out of the data directory, as they were in the backup; some may lead nowhere.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// What was held in memory at most, in bytes.
    pub memory: u64,
}

/// Restores a backup.
pub async fn restore(
    request: &RestoreRequest,
    ports: &RestorePorts,
) -> Result<RestoredCluster, Error> {
    let (server, destination) = (ports.catalog.server(), &request.destination);
    let backup = &request.backup.id;
    let span = tracing::info_span!("restore", %server, %destination, %backup);
    restore_in_span(request, ports).instrument(span).await
}

async fn restore_in_span(
    request: &RestoreRequest,
    ports: &RestorePorts,
) -> Result<RestoredCluster, Error> {
    if let Some(root) = request.backup.missing_archive() {
        return Err(Error::MissingArchive {
            backup: request.backup.id.clone(),
            root,
        });
    }
    let layout = Layout::plan(request)?;
    let extraction = if request.backup.parent.is_none() {
        let sources = extract::sources(&request.backup, ports).await?;
        layout.prepare(&request.backup.id)?;
        extract::extract(sources, &layout, ports).await?
    } else {
        Box::pin(chain::restore(request, &layout, ports)).await?
    };
    ports.progress.report(Event::Checking);
    let request = request.clone();
    let mut finishing = JoinSet::new();
    finishing.spawn_blocking(move || finish::finish(&request, &layout, &extraction));
    let finished = finishing.join_next().await.expect("one was started");
    finished.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests;
