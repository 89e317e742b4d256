//! Chains of backups, as the catalog records them: each incremental names its parent, and each parent its children.
//!
//! Barman's field is the one that is read: `children_backup_ids`. It is written before the child exists, on condition that nobody has
//! changed the parent's record meanwhile, so there is no instant at which a parent looks as if nothing needed it. A child that is gone is
//! taken out again; until then the parent only looks needed more than it is.

use futures_util::StreamExt as _;

use super::{Error, attempt::replace};
use crate::{
    format::{
        backup_info::BackupInfo,
        keys::{ObjectKey, OwnObject},
    },
    model::backup::{BackupId, BackupStatus},
    postgres::replication::ManifestText,
    store::{Archive, GetOptions},
};

/// How often a record is read again that somebody else has changed meanwhile.
const ATTEMPTS: u32 = 5;

/// The manifest of a backup, as it is stored.
pub(super) async fn manifest(catalog: &Archive, id: &BackupId) -> Result<ManifestText, Error> {
    let object = ObjectKey::Own(OwnObject::Manifest(id.clone()));
    let key = catalog.key(&object);
    let read = catalog.store().get(&key, GetOptions::default()).await;
    let read = read.map_err(Error::catalog(
        "read the manifest of the backup to build on",
    ))?;
    Ok(Box::pin(
        read.body.map(|chunk| chunk.map_err(std::io::Error::other)),
    ))
}

/// Records that a child builds on a parent, which must be complete. Running it twice is harmless.
pub(in crate::execute) async fn link(
    catalog: &Archive,
    parent: &BackupId,
    child: &BackupId,
) -> Result<(), Error> {
    change(catalog, parent, |info| {
        if !matches!(info.status(), Ok(BackupStatus::Done)) {
            return Err(Error::NoParent(parent.clone()));
        }
        let mut children = info.children();
        if children.contains(child) {
            return Ok(None);
        }
        children.push(child.clone());
        Ok(Some(children))
    })
    .await
}

/// Records that a child is gone. Running it twice is harmless.
pub(in crate::execute) async fn unlink(
    catalog: &Archive,
    parent: &BackupId,
    child: &BackupId,
) -> Result<(), Error> {
    let unlinked = change(catalog, parent, |info| {
        let mut children = info.children();
        let before = children.len();
        children.retain(|other| other != child);
        Ok((children.len() < before).then_some(children))
    })
    .await;
    match unlinked {
        // A parent that is gone needs no children.
        Err(Error::NoParent(_)) => Ok(()),
        unlinked => unlinked,
    }
}

/// Changes a backup's children, on the record as it is now.
async fn change(
    catalog: &Archive,
    parent: &BackupId,
    children: impl Fn(&BackupInfo) -> Result<Option<Vec<BackupId>>, Error>,
) -> Result<(), Error> {
    for _ in 0..ATTEMPTS {
        let read = catalog.read_info(parent).await;
        let read = read.map_err(Error::catalog("read the record of the backup to build on"))?;
        let mut stored = read.ok_or_else(|| Error::NoParent(parent.clone()))?;
        let Some(children) = children(&stored.info)? else {
            return Ok(());
        };
        stored.info.set_children(&children);
        match replace(catalog, parent, &stored.info, stored.version).await {
            Err(Error::Changed(_)) => {}
            written => return written.map(|_| ()),
        }
    }
    Err(Error::Changed(parent.clone()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::names::ServerName,
        store::{PutMode, memory::Memory},
    };

    async fn catalog(status: &str) -> (Archive, BackupId) {
        let now = "2026-11-20T03:00:00Z".parse().expect("an instant");
        let server = ServerName::parse("orders").expect("a name");
        let catalog = Archive::new(Arc::new(Memory::new(now)), &server);
        let parent = BackupId::new("20261120T020000");
        let text = format!("status={status}\nserver_name=cloud\n");
        let object = ObjectKey::info(&parent);
        let written = catalog.write(&object, text, PutMode::Create).await;
        written.expect("written");
        (catalog, parent)
    }

    async fn children(catalog: &Archive, parent: &BackupId) -> Vec<String> {
        let info = catalog.read_info(parent).await.expect("readable");
        let children = info.expect("a record").info.children();
        children.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn children_come_and_go() {
        let (catalog, parent) = catalog("DONE").await;
        let (one, two) = (BackupId::new("1"), BackupId::new("2"));
        for child in [&one, &two, &one] {
            link(&catalog, &parent, child).await.expect("linked");
        }
        assert_eq!(children(&catalog, &parent).await, ["1", "2"]);
        for _ in 0..2 {
            unlink(&catalog, &parent, &one).await.expect("unlinked");
        }
        assert_eq!(children(&catalog, &parent).await, ["2"]);
        unlink(&catalog, &two, &one).await.expect("nothing to do");
    }

    #[tokio::test]
    async fn nothing_builds_on_what_is_not_complete() {
        let (catalog, parent) = catalog("FAILED").await;
        let child = BackupId::new("1");
        let refused = link(&catalog, &parent, &child).await;
        assert!(matches!(refused, Err(Error::NoParent(_))));
        let gone = link(&catalog, &child, &parent).await;
        assert!(matches!(gone, Err(Error::NoParent(_))));
    }
}
