//! A backup that a Barman server keeps on its disk, relayed into a destination.
//!
//! Its files lie below one directory: PGDATA in `data`, each tablespace under its object id. They are stored in the same archives as
//! those of a running server; the record is stored as it is, byte for byte, and last. A failure leaves no record and no
//! unfinished upload, but the archives that had arrived: the next try writes over them.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    Error, codec,
    copy::{Copy, CopyPorts, Order},
    exclude::Rules,
    findings::Warning,
    last, leftover,
    walk::Tree,
};
use crate::{
    format::keys::ObjectKey,
    model::{
        backup::{ArchiveRoot, BackupId, Tablespace},
        desired::FilesOptions,
        progress::Progress,
        record::ArchiveRecord,
        schedule::Zone,
    },
    pipeline::throttle::Throttle,
    store::{Archive, PutMode},
};

/// What is to be relayed, and how.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The backup's id, which it keeps.
    pub id: BackupId,
    /// Where it lies: `data` and the tablespaces are below.
    pub directory: PathBuf,
    /// Its record, as text.
    pub info: Bytes,
    /// How its archives are made. The name is the record's.
    pub files: FilesOptions,
}

/// What a backup is relayed with.
pub struct RelayPorts {
    /// The server's catalog in the destination.
    pub catalog: Archive,
    /// The limit on bandwidth.
    pub throttle: Option<Throttle>,
    /// Whoever watches.
    pub progress: Arc<dyn Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// A backup that was relayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Relayed {
    /// Its archives.
    pub archives: Vec<ArchiveRecord>,
    /// What people should know.
    pub warnings: Vec<Warning>,
}

/// Stores a backup that lies on this host's disk.
pub async fn relay_backup(relay: &Relay, ports: &RelayPorts) -> Result<Relayed, Error> {
    let order = order(relay)?;
    let pgdata = order.trees[0].path.clone();
    let copying = CopyPorts {
        catalog: &ports.catalog,
        throttle: ports.throttle.as_ref(),
        progress: &*ports.progress,
        cancel: &ports.cancel.child_token(),
    };
    let stored = async {
        let copy = Copy::run(order, &copying).await?;
        let warnings = copy.findings.warnings.clone();
        let copy = match last::control_file(&pgdata) {
            Ok(control) => copy.append(vec![control]).await?,
            Err(error) => return Err(copy.give_up(error).await),
        };
        let (archives, _) = copy.finish().await?;
        let read_back = leftover::check_archives(&ports.catalog, &relay.id, &archives).await;
        leftover::where_permitted(read_back)?;
        let object = ObjectKey::info(&relay.id);
        let text = relay.info.clone();
        let written = ports.catalog.write(&object, text, PutMode::Overwrite).await;
        written.map_err(Error::catalog("write the backup's record"))?;
        Ok(Relayed { archives, warnings })
    };
    match stored.await {
        Err(_) if ports.cancel.is_cancelled() => Err(Error::Interrupted),
        stored => stored,
    }
}

fn order(relay: &Relay) -> Result<Order, Error> {
    let info = leftover::parse(&relay.id, &relay.info)?;
    let backup = info.to_backup(relay.id.clone(), Vec::new(), None, &Zone::utc());
    let backup = backup.map_err(|source| leftover::broken(&relay.id, source))?;
    let spaces = &backup.tablespaces;
    let locations: Vec<PathBuf> = spaces.iter().map(|space| space.location.clone()).collect();
    let pgdata = backup.pgdata.clone().unwrap_or_default();
    let data = Tree {
        root: ArchiveRoot::Data,
        path: relay.directory.join("data"),
        // Where tablespaces lie inside PGDATA is told by the paths of the server that was backed up.
        rules: Rules::data(&pgdata, &locations).of_backup(),
    };
    let major = backup.major().unwrap_or_default();
    let tablespace = |space: &Tablespace| Tree {
        root: ArchiveRoot::Tablespace(space.oid),
        path: relay.directory.join(space.oid.to_string()),
        rules: Rules::tablespace(space.oid, major),
    };
    let files = &relay.files;
    Ok(Order {
        backup: relay.id.clone(),
        trees: std::iter::once(data)
            .chain(spaces.iter().map(tablespace))
            .collect(),
        codec: codec(files)?,
        jobs: files.jobs.get(),
        max_archive_bytes: files.max_archive_bytes,
        part_bytes: files.part_bytes,
        verify_before: None,
        estimate: None,
    })
}
