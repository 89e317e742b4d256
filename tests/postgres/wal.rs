//! WAL that real servers wrote, of every major version: archived, listed, delivered, compared byte for byte.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use barkeep::{
    clock::Clock,
    execute::archive_wal::{
        ArchiveOptions, ArchiveTarget, How, Places, Requirement, WalArchiveCheck, acknowledges,
        archive_wal, check_wal_archive,
    },
    failure::Kind,
    model::{
        compression::{Codec, Compression},
        timeline::TimelineId,
        wal::{Lsn, SegmentSize, WalFile},
    },
    observe,
    postgres::control_file,
    recover::wal::{RestoreOptions, RestoreRequest, RestoreSource, Restored, restore_wal},
    spool::Spool,
    store::{Archive, Tags, directory::Directory},
};

use crate::support::cluster::{Cluster, Stop};

struct Scene {
    cluster: Cluster,
    root: tempfile::TempDir,
    target: ArchiveTarget,
    options: ArchiveOptions,
}

fn scene(major: u32, compression: Compression, initdb: &[&str]) -> Option<Scene> {
    let mut cluster = Cluster::create_with(major, initdb)?;
    // Whatever is complete waits.
    cluster.configure(&[("archive_command", "false")]);
    cluster.start();
    let root = tempfile::tempdir().expect("a directory");
    let store = root.path().join("store");
    fs::create_dir(&store).expect("mkdir");
    let store = Directory::new(store, Clock::System);
    let codec = Codec::for_wal(compression, None).expect("no level");
    let options = ArchiveOptions {
        spool: Some(Spool::new(root.path().join("spool"))),
        ..ArchiveOptions::new(codec, Clock::System.now())
    };
    let target = ArchiveTarget {
        destination: "d".parse().expect("a name"),
        archive: Archive::new(Arc::new(store), &"srv".parse().expect("a name")),
        requirement: Requirement::Required,
        history_tags: Tags::Configured,
    };
    Some(Scene {
        cluster,
        root,
        target,
        options,
    })
}

impl Scene {
    fn wal(&self) -> PathBuf {
        self.cluster.pgdata().join("pg_wal")
    }

    /// What waits to be archived, by name.
    fn ready(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.wal().join("archive_status")).expect("a directory");
        let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
        let names = entries.filter_map(|entry| name(entry.expect("an entry")));
        let ready = names.filter_map(|name| Some(name.strip_suffix(".ready")?.to_owned()));
        ready.collect()
    }

    /// Fills segments.
    fn write(&self, segments: usize) {
        for number in 0..segments {
            self.cluster.sql(&format!(
                "CREATE TABLE t{number}_{} AS SELECT generate_series(1, 1000) AS x; \
                 SELECT pg_switch_wal()",
                self.ready().len()
            ));
        }
    }

    /// How the file came to be archived; nothing where an earlier call had done so.
    async fn archive(&self, name: &str) -> Option<(How, usize)> {
        let path = self.wal().join(name);
        let location = self.target.archive.store().location();
        let places = Places::new("srv", [(&self.target.destination, location)]);
        let spool = self.options.spool.as_ref().expect("a spool");
        let acknowledged = acknowledges(&path, &places, spool).await;
        if acknowledged.expect("a readable spool") {
            return None;
        }
        let targets = std::slice::from_ref(&self.target);
        let archived = archive_wal(&path, targets, &self.options).await;
        let archived = archived.expect("a file of a running server");
        assert_eq!(archived.warnings, [], "every major is known");
        Some((archived.how, archived.ahead))
    }

    async fn restore(&self, name: &str, to: &Path) -> Restored {
        let request = RestoreRequest {
            file: name.parse().expect("a WAL file's name"),
            to: to.to_owned(),
            data_directory: Some(self.cluster.pgdata()),
        };
        let source = RestoreSource {
            destination: self.target.destination.clone(),
            archive: self.target.archive.clone(),
        };
        let options = RestoreOptions {
            spool: self.options.spool.clone(),
            read_ahead: 2,
            ..RestoreOptions::new(Compression::None)
        };
        let restored = restore_wal(&request, &[source], &options).await;
        restored.expect("a directory that answers")
    }

    /// Delivers every file and compares it with the server's own.
    async fn compare(&self, names: &BTreeSet<String>) {
        let to = self.root.path().join("RECOVERYXLOG");
        for name in names {
            let restored = self.restore(name, &to).await;
            assert!(
                matches!(restored, Restored::Delivered(_)),
                "{name}: {restored:?}"
            );
            let same =
                fs::read(&to).expect("a file") == fs::read(self.wal().join(name)).expect("one");
            assert!(same, "{name}");
        }
    }
}

async fn archives_and_delivers(major: u32, compression: Compression, initdb: &[&str]) {
    let Some(scene) = scene(major, compression, initdb) else {
        return;
    };
    scene.write(4);
    let ready = scene.ready();
    assert_eq!(ready.len(), 4, "{ready:?}");
    let mut how = Vec::new();
    for name in &ready {
        how.push(scene.archive(name).await);
    }
    assert_eq!(how, [Some((How::Stored, 3)), None, None, None]);
    scene.compare(&ready).await;
    let newest = ready.last().expect("four").parse().expect("a name");
    let system_id = control_file::system_id_of(&scene.cluster.pgdata()).expect("a cluster");
    let check = check_wal_archive(&scene.target, system_id, None)
        .await
        .expect("a directory");
    assert_eq!(check, WalArchiveCheck::Ours { newest });
    let asked = scene
        .cluster
        .sql("SELECT system_identifier FROM pg_control_system()");
    assert_eq!(asked.trim(), system_id.to_string());
}

#[tokio::test]
async fn segments_of_13_are_archived_and_delivered() {
    archives_and_delivers(13, Compression::Gzip, &[]).await;
}

#[tokio::test]
async fn segments_of_14_are_archived_and_delivered() {
    archives_and_delivers(14, Compression::Bzip2, &[]).await;
}

#[tokio::test]
async fn segments_of_15_are_archived_and_delivered() {
    archives_and_delivers(15, Compression::Snappy, &[]).await;
}

#[tokio::test]
async fn segments_of_16_are_archived_and_delivered() {
    archives_and_delivers(16, Compression::Xz, &["--wal-segsize=4"]).await;
}

#[tokio::test]
async fn segments_of_17_are_archived_and_delivered() {
    archives_and_delivers(17, Compression::Zstd, &["--wal-segsize=128"]).await;
}

#[tokio::test]
async fn segments_of_18_are_archived_and_delivered() {
    archives_and_delivers(18, Compression::Lz4, &[]).await;
}

#[tokio::test]
async fn a_promotion_leaves_files_that_are_archived_listed_and_delivered() {
    let Some(mut scene) = scene(17, Compression::None, &[]) else {
        return;
    };
    scene.write(2);
    scene
        .cluster
        .sql("CREATE TABLE unfinished AS SELECT 1 AS x");
    scene.cluster.stop(Stop::Immediate);
    fs::write(scene.cluster.pgdata().join("standby.signal"), "").expect("write");
    scene.cluster.start();
    scene.cluster.promote();
    scene.write(1);
    let ready = scene.ready();
    let kinds: Vec<&str> = ready
        .iter()
        .map(|name| match name.parse().expect("a WAL file's name") {
            WalFile::Segment(name) if name.timeline == TimelineId::FIRST => "old",
            // It begins with a page of the old timeline.
            WalFile::Segment(_) => "new",
            WalFile::Partial(_) => "partial",
            WalFile::History(_) => "history",
            WalFile::BackupHistory(..) => "backup",
        })
        .collect();
    assert_eq!(
        kinds,
        ["old", "old", "partial", "history", "new"],
        "{ready:?}"
    );
    for name in &ready {
        scene.archive(name).await;
    }
    scene.compare(&ready).await;
    let listed = observe::wal::observe(&scene.target.archive, SegmentSize::DEFAULT).await;
    let listed = listed.expect("a directory");
    let second = TimelineId::new(2).expect("not zero");
    let left = listed
        .history(second)
        .left_at(TimelineId::FIRST)
        .expect("an ancestor");
    assert!(left > Lsn(0x0300_0000), "{left}");
    assert_eq!(listed.objects, 3);
    // The whole segment of the old timeline was never archived: the partial one stands in.
    let partial = ready
        .iter()
        .find_map(|name| name.strip_suffix(".partial"))
        .expect("one");
    let restored = scene
        .restore(partial, &scene.root.path().join("RECOVERYXLOG"))
        .await;
    assert!(matches!(restored, Restored::Delivered(_)), "{restored:?}");
}

#[tokio::test]
async fn another_cluster_gets_neither_in_nor_anything_out() {
    let (Some(first), Some(mut second)) = (
        scene(15, Compression::None, &[]),
        scene(15, Compression::None, &[]),
    ) else {
        return;
    };
    first.write(1);
    second.write(2);
    let name = first.ready().first().expect("one").clone();
    first.archive(&name).await;
    second.target = first.target.clone();
    let path = second.wal().join(second.ready().last().expect("two"));
    let targets = std::slice::from_ref(&second.target);
    let refused = archive_wal(&path, targets, &second.options).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(Kind::Refused));
    let request = RestoreRequest {
        file: name.parse().expect("a name"),
        to: second.root.path().join("RECOVERYXLOG"),
        data_directory: Some(second.cluster.pgdata()),
    };
    let source = RestoreSource {
        destination: first.target.destination.clone(),
        archive: first.target.archive.clone(),
    };
    let options = RestoreOptions::new(Compression::None);
    let refused = restore_wal(&request, &[source], &options).await;
    assert_eq!(refused.map_err(|error| error.kind()), Err(Kind::Refused));
    assert!(!request.to.exists());
}
