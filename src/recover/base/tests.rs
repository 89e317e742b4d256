//! Restores of made-up archives from a store in memory.

use std::{fs, io::Write as _};

use super::*;
use crate::{
    format::{
        backup_info::{self, BackupInfo, Settings},
        keys::{ArchiveName, ObjectKey},
    },
    model::{
        backup::{ArchiveRoot, BackupId},
        compression::{Codec, Compression},
        progress::Unwatched,
        recovery::{RecoveryTarget, TargetTimeline},
        schedule::Zone,
        time::Timestamp,
        timeline::TimelineId,
        wal::{Lsn, SegmentSize},
    },
    pipeline::{
        compress::Encoder,
        tar::{self, EntryKind as Kind},
    },
    store::{PutMode, StoreExt as _, memory::Memory},
};

const DATA: ArchiveRoot = ArchiveRoot::Data;
const SPACE: ArchiveRoot = ArchiveRoot::Tablespace(16384);

/// A backup with one tablespace, and a place for what is restored.
struct Bed {
    home: tempfile::TempDir,
    catalog: Archive,
    archives: Vec<crate::model::backup::StoredArchive>,
}

impl Bed {
    fn empty() -> Self {
        let now: Timestamp = "2026-11-20T03:00:00Z".parse().expect("an instant");
        let server = "orders".parse().expect("a name");
        Self {
            home: tempfile::tempdir().expect("a directory"),
            catalog: Archive::new(Arc::new(Memory::new(now)), &server),
            archives: Vec::new(),
        }
    }

    /// A whole backup in three archives.
    async fn whole() -> Self {
        let mut bed = Self::empty();
        let first = [
            ("./", None),
            ("global/", None),
            ("pg_wal/", None),
            ("./PG_VERSION", Some("17\n")),
            ("./postgresql.conf", Some("port = 5432\n")),
            ("./standby.signal", Some("")),
            ("global/pg_control", Some("control")),
            ("backup_label", Some("label")),
        ];
        bed.store(DATA, 0, Compression::Lz4, &tar(&first)).await;
        let second = tar(&[("base/5/1259", Some("a table"))]);
        bed.store(DATA, 1, Compression::Lz4, &second).await;
        let space = tar(&[("PG_17_1/", None), ("PG_17_1/5/1", Some("a row"))]);
        bed.store(SPACE, 0, Compression::Gzip, &space).await;
        bed
    }

    async fn store(&mut self, root: ArchiveRoot, part: u32, codec: Compression, tar: &[u8]) {
        let name = ArchiveName {
            root,
            part,
            compression: codec,
        };
        let codec = Codec::for_base(codec, None).expect("a codec");
        let mut encoder = Encoder::new(codec, None, Vec::new()).expect("a stream");
        encoder.write_all(tar).expect("memory takes it");
        let content = encoder.finish().expect("memory takes it");
        self.archives.push(name.stored(content.len() as u64));
        self.overwrite(name, content).await;
    }

    async fn overwrite(&self, name: ArchiveName, content: Vec<u8>) {
        let object = ObjectKey::archive(&BackupId::new("20261120T030000"), name);
        let written = self.catalog.write(&object, content, PutMode::Overwrite);
        written.await.expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn request(&self) -> RestoreRequest {
        let start = backup_info::Started {
            server_name: None,
            version: 170_000,
            system_id: None,
            segment_size: SegmentSize::DEFAULT,
            pgdata: PathBuf::from("/old/data"),
            tablespaces: vec![Tablespace {
                name: "space".to_owned(),
                oid: 16384,
                location: self.path("space"),
            }],
            time: "2026-11-20T03:00:00Z".parse().expect("an instant"),
            lsn: Lsn(0x0300_0028),
            timeline: TimelineId::FIRST,
            settings: Settings::default(),
        };
        let id = BackupId::new("20261120T030000");
        let info = BackupInfo::started(&start);
        let backup = info.to_backup(id, self.archives.clone(), None, &Zone::utc());
        RestoreRequest {
            destination: DestinationName::parse("primary").expect("a name"),
            backup: backup.expect("a backup"),
            chain: Vec::new(),
            programs: Vec::new(),
            directory: self.path("data"),
            tablespaces: Vec::new(),
            recovery: Some(Recovery {
                target: RecoveryTarget::Immediate,
                inclusive: Inclusive::Yes,
                timeline: TargetTimeline::Current,
                action: TargetAction::Promote,
                restore_command: "false".to_owned(),
                becomes: Becomes::Primary,
                archive_mode: ArchiveMode::Off,
            }),
            durability: Durability::Leave,
        }
    }

    async fn restore(&self, request: &RestoreRequest) -> Result<RestoredCluster, Error> {
        let ports = RestorePorts {
            catalog: self.catalog.clone(),
            progress: Arc::new(Unwatched),
            cancel: CancellationToken::new(),
        };
        restore(request, &ports).await
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a text")
    }
}

/// An archive of directories, which have no content, and files.
fn tar(entries: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut writer = tar::Writer::new(Vec::new());
    for (name, content) in entries {
        let entry = |kind| tar::Entry {
            name: name.as_bytes(),
            kind,
            mode: 0o700,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            owner: "",
            group: "",
            modified: tar::FileTime::default(),
        };
        match content {
            None => writer.append(&entry(Kind::Directory)).expect("written"),
            Some(text) => {
                let size = text.len() as u64;
                let kind = Kind::File { size };
                let copied = writer.append_file(&entry(kind), &mut text.as_bytes());
                copied.expect("written");
            }
        }
    }
    writer.finish().expect("written")
}

#[tokio::test]
async fn a_backup_becomes_a_cluster_that_recovers() {
    let bed = Bed::whole().await;
    let cluster = bed.restore(&bed.request()).await.expect("restored");
    assert_eq!(bed.read("data/base/5/1259"), "a table");
    assert_eq!(bed.read("space/PG_17_1/5/1"), "a row");
    assert_eq!(bed.read("data/pg_tblspc/16384/PG_17_1/5/1"), "a row");
    assert_eq!(bed.read("data/global/pg_control"), "control");
    assert_eq!(bed.read("data/backup_label"), "label");
    assert!(
        bed.read("data/postgresql.auto.conf")
            .contains("recovery_target = 'immediate'")
    );
    assert!(bed.path("data/recovery.signal").exists());
    assert!(bed.path("data/pg_wal/archive_status").is_dir());
    assert!(!bed.path("data/standby.signal").exists());
    assert!(!bed.path("data").join(MARKER).exists());
    assert_eq!(cluster.removed, [PathBuf::from("standby.signal")]);
    assert_eq!((cluster.files, cluster.bytes), (7, 39));
    let mode = fs::metadata(bed.path("data"))
        .expect("it is there")
        .permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o700
    );
}

#[tokio::test]
async fn without_recovery_nothing_is_written_or_removed() {
    let bed = Bed::whole().await;
    let request = RestoreRequest {
        recovery: None,
        ..bed.request()
    };
    bed.restore(&request).await.expect("restored");
    assert!(bed.path("data/standby.signal").exists());
    assert!(!bed.path("data/postgresql.auto.conf").exists());
}

#[tokio::test]
async fn a_tablespace_goes_where_it_is_told_to() {
    let bed = Bed::whole().await;
    let rule = |name: &str| TablespaceRule {
        name: name.to_owned(),
        location: bed.path("elsewhere"),
    };
    let mut request = bed.request();
    request.tablespaces = vec![rule("unknown")];
    let error = bed.restore(&request).await.expect_err("no such tablespace");
    assert!(matches!(error, Error::UnknownTablespace(_)));
    request.tablespaces = vec![rule("space")];
    bed.restore(&request).await.expect("restored");
    assert_eq!(bed.read("elsewhere/PG_17_1/5/1"), "a row");
    assert!(!bed.path("space").exists());
}

#[tokio::test]
async fn a_directory_that_holds_something_is_refused() {
    let bed = Bed::whole().await;
    for directory in ["data", "space"] {
        let file = bed.path(directory).join("precious");
        fs::create_dir(bed.path(directory)).expect("a directory");
        fs::write(&file, "").expect("a file");
        let error = bed.restore(&bed.request()).await.expect_err("refused");
        assert!(matches!(error, Error::NotEmpty(_)), "{error}");
        assert!(file.exists());
        fs::remove_file(file).expect("it was there");
    }
}

#[tokio::test]
async fn directories_in_each_other_are_refused() {
    let bed = Bed::whole().await;
    let mut request = bed.request();
    request.directory = bed.path("space/data");
    let error = bed.restore(&request).await.expect_err("refused");
    assert!(matches!(error, Error::Overlap { .. }), "{error}");
}

#[tokio::test]
async fn half_a_restore_cannot_start_and_is_never_taken_for_a_whole() {
    let bed = Bed::whole().await;
    let name = ArchiveName::from(&bed.archives[1]);
    bed.overwrite(name, tar(&[("x", Some("not compressed"))]))
        .await;
    let error = bed.restore(&bed.request()).await.expect_err("damaged");
    assert!(matches!(error, Error::Extract { .. }), "{error}");
    assert!(!bed.path("data/global/pg_control").exists());
    assert!(!bed.path("data/backup_label").exists());
    let again = bed.restore(&bed.request()).await.expect_err("refused");
    assert!(matches!(again, Error::Unfinished(_)), "{again}");
}

#[tokio::test]
async fn a_missing_archive_is_noticed_before_anything_is_written() {
    let mut bed = Bed::whole().await;
    let key = bed.catalog.key(&ObjectKey::archive(
        &BackupId::new("20261120T030000"),
        ArchiveName::from(&bed.archives[2]),
    ));
    let deleted = bed.catalog.store().delete(std::slice::from_ref(&key)).await;
    assert!(deleted.iter().all(|deleted| deleted.outcome.is_ok()));
    let error = bed.restore(&bed.request()).await.expect_err("missing");
    assert!(matches!(error, Error::MissingArchive { .. }));
    bed.archives.remove(0);
    let error = bed.restore(&bed.request()).await.expect_err("missing");
    assert!(matches!(error, Error::MissingArchive { .. }));
    assert!(!bed.path("data").exists());
    assert!(!bed.catalog.store().exists(&key).await.expect("an answer"));
}

#[tokio::test]
async fn a_backup_without_its_label_is_no_backup() {
    let mut bed = Bed::empty();
    let data = tar(&[
        ("./", None),
        ("global/pg_control", Some("control")),
        ("./PG_VERSION", Some("17")),
    ]);
    bed.store(DATA, 0, Compression::None, &data).await;
    bed.store(SPACE, 0, Compression::None, &tar(&[("PG_17_1/", None)]))
        .await;
    let error = bed.restore(&bed.request()).await.expect_err("no label");
    assert!(matches!(
        error,
        Error::MissingFile {
            name: "backup_label",
            ..
        }
    ));
    assert!(!bed.path("data/global/pg_control").exists());
}

#[tokio::test]
async fn an_archive_that_leads_outside_is_refused() {
    let mut bed = Bed::whole().await;
    let evil = tar(&[("../evil", Some("x"))]);
    bed.store(DATA, 2, Compression::None, &evil).await;
    let error = bed.restore(&bed.request()).await.expect_err("refused");
    assert_eq!(error.kind(), crate::failure::Kind::Refused);
    assert!(!bed.path("evil").exists());
}
