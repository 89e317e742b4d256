//! Scenes as stored: a catalog written into a store, object by object, so that observing it gives the catalog again.

use bytes::Bytes;

use super::{Archive, PutMode, PutOptions};
use crate::{
    format::{
        backup_info::{BackupInfo, Started, Stopped},
        keys::{ArchiveName, BaseObject, ObjectKey, WalObject},
    },
    model::{
        backup::{Backup, BackupId, BackupStatus},
        catalog::Catalog,
        compression::Compression,
        time::Timestamp,
        timeline::TimelineHistory,
        wal::{SegmentNumber, WalFile},
    },
};

/// Writes all of a catalog; orphans are as old as the store's clock says.
pub(crate) async fn write(archive: &Archive, catalog: &Catalog) {
    for backup in &catalog.backups {
        write_backup(archive, backup).await;
    }
    for id in catalog.unreadable.keys() {
        put(archive, &ObjectKey::info(id).to_string(), "nonsense").await;
    }
    for orphan in &catalog.orphans {
        put(archive, &format!("base/{}/data.tar", orphan.id), "x").await;
    }
    for history in catalog.wal.histories.values() {
        let file = WalFile::History(history.timeline);
        let object = WalObject {
            file,
            compression: Compression::None,
        };
        put(archive, &object.to_string(), &lines(history)).await;
    }
    let size = catalog.segment_size();
    for (timeline, runs) in &catalog.wal.runs {
        for number in runs.iter().flat_map(|run| run.first.0..=run.last.0) {
            let object = WalObject {
                file: WalFile::Segment(SegmentNumber(number).name(*timeline, size)),
                compression: Compression::Gzip,
            };
            put(archive, &object.to_string(), "x").await;
        }
    }
}

fn lines(history: &TimelineHistory) -> String {
    let branches = history.branches.iter();
    let line = |branch: &crate::model::timeline::Branch| {
        format!(
            "{}\t{}\tpromoted\n",
            branch.timeline.number(),
            branch.switch
        )
    };
    branches.map(line).collect()
}

/// Writes a backup with its archives and its keep.
pub(crate) async fn write_backup(archive: &Archive, backup: &Backup) {
    for stored in &backup.archives {
        let object = BaseObject::Archive(ArchiveName::from(stored));
        let key = ObjectKey::Base(backup.id.clone(), object);
        let content = "x".repeat(usize::try_from(stored.bytes).expect("a few bytes"));
        put(archive, &key.to_string(), &content).await;
    }
    let info = info(backup).render();
    put(archive, &ObjectKey::info(&backup.id).to_string(), &info).await;
    if let Some(target) = backup.keep {
        let kept = archive.write_keep(&backup.id, target).await;
        kept.expect("memory");
    }
}

/// The record of a backup of a scene.
pub(crate) fn info(backup: &Backup) -> BackupInfo {
    let timeline = backup.timeline.expect("a timeline");
    let mut info = BackupInfo::started(&Started {
        server_name: None,
        version: backup.version.expect("a version"),
        system_id: backup.system_id,
        segment_size: backup.segment_size,
        pgdata: "pgdata".into(),
        tablespaces: backup.tablespaces.clone(),
        time: backup.begin_time.expect("a beginning"),
        lsn: backup.begin_lsn.expect("a position"),
        timeline,
        settings: crate::format::backup_info::Settings::default(),
    });
    if let (Some(time), Some(lsn)) = (backup.end_time, backup.end_lsn) {
        let stop = Stopped {
            time,
            lsn,
            timeline,
            backup_label: String::new(),
            copy_stats: None,
        };
        info.set_stopped(&stop, backup.segment_size);
    }
    match backup.status {
        BackupStatus::Failed => info.set_failed("no luck"),
        status => info.set_status(status),
    }
    info.set_name(backup.name.as_deref());
    info
}

/// Writes an object below the server's directory.
pub(crate) async fn put(archive: &Archive, path: &str, content: &str) {
    let content = Bytes::copy_from_slice(content.as_bytes());
    let key = archive.join(path);
    let put = archive
        .store()
        .put(&key, content, PutOptions::mode(PutMode::Overwrite));
    put.await.expect("memory");
}

/// What lies below the server's directory.
pub(crate) async fn paths(archive: &Archive) -> Vec<String> {
    let objects = archive.objects("").await.expect("memory");
    let path = |meta: &super::ObjectMeta| {
        let path = meta.key.as_str().split_once('/').expect("a server");
        path.1.to_owned()
    };
    objects.iter().map(path).collect()
}

/// A catalog of a scene in a store in memory whose clock stands at its present.
pub(crate) struct Bed {
    pub(crate) memory: super::memory::Memory,
    pub(crate) archive: Archive,
    pub(crate) scene: crate::model::scene::Scene,
}

impl Bed {
    pub(crate) async fn new(text: &str) -> Self {
        let memory = super::memory::Memory::new(now());
        let server = "orders".parse().expect("a name");
        let archive = Archive::new(std::sync::Arc::new(memory.clone()), &server);
        let scene = crate::model::scene::Scene::parse(&format!("none | {text}"));
        write(&archive, &scene.catalog).await;
        Self {
            memory,
            archive,
            scene,
        }
    }

    /// The backup that ended so long ago.
    pub(crate) fn id(&self, label: &str) -> BackupId {
        self.scene.id(label)
    }

    /// The version that the store gave to a backup's record.
    pub(crate) async fn version(&self, id: &BackupId) -> String {
        let info = self.archive.read_info(id).await.expect("memory");
        info.expect("it is there").version.0
    }
}

fn now() -> Timestamp {
    crate::model::scene::now()
}
