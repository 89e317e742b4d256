//! Whole backups of made-up clusters into a store in memory, with a server that only pretends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufReader, Read},
    num::NonZeroUsize,
    os::unix::fs::symlink,
    path::Path,
    sync::Mutex,
};

use async_trait::async_trait;

use self::fake::{At, Fake};
use super::*;
use crate::{
    format::keys::{ArchiveName, BaseObject, ObjectKey},
    model::{
        backup::{ArchiveRoot, Tablespace},
        compression::Compression,
        desired::Overwriting,
        progress::Unwatched,
        timeline::TimelineId,
        wal::Lsn,
        wal::SegmentSize,
    },
    pipeline::{compress::Decoder, untar},
    postgres::{
        self, Archiver, ArchiverWait, Archiving, WalSwitch, locality,
        replication::{Farewell, ManifestText, Piece, Position, StreamRequest},
    },
    store::{
        self, Meaning, Operation, Store as _, StoreExt as _, Tags, UploadOptions,
        control::Controlled,
        fault::{Effect, Faults, Faulty, Rule},
        memory::Memory,
    },
};

mod as_barman;
mod fake;
mod stream;
mod verified;

const CONTROL: &str = include_str!("../../postgres/control_file_18.hex");
const ID: &str = "20261120T030000";

fn instant(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn control_file() -> Vec<u8> {
    let words = CONTROL.split_whitespace();
    let word = |text| u32::from_str_radix(text, 16).expect("a hexadecimal word");
    let mut bytes: Vec<u8> = words.flat_map(|text| word(text).to_le_bytes()).collect();
    bytes.resize(8192, 0);
    bytes
}

/// A made-up cluster with one tablespace, and the store that it is backed up into.
struct Bed {
    home: tempfile::TempDir,
    memory: Memory,
    /// Where barkeep's own objects go, if nothing is written twice where the backup goes.
    control: Option<Memory>,
    postgres: Fake,
    cancel: CancellationToken,
    request: BackupRequest,
}

impl Bed {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let now = instant("2026-11-20T03:00:00Z");
        let bed = Self {
            memory: Memory::new(now),
            control: None,
            cancel: CancellationToken::new(),
            postgres: Fake::new(home.path()),
            request: request(),
            home,
        };
        for directory in ["base/5", "global", "pg_wal", "pg_tblspc", "pg_subtrans"] {
            fs::create_dir_all(bed.pgdata().join(directory)).expect("a directory");
        }
        bed.write("PG_VERSION", b"18\n");
        bed.write("pg_wal/000000010000000000000001", b"wal");
        bed.write("global/pg_control", &control_file());
        bed.write("base/5/1259", &vec![7; 20_000]);
        let space = bed.home.path().join("ts/PG_18_202506291/5");
        fs::create_dir_all(&space).expect("a directory");
        fs::write(space.join("16400"), [1; 9000]).expect("a file");
        symlink(
            bed.home.path().join("ts"),
            bed.pgdata().join("pg_tblspc/16399"),
        )
        .expect("a link");
        bed
    }

    fn pgdata(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn write(&self, path: &str, content: &[u8]) {
        fs::write(self.pgdata().join(path), content).expect("a file");
    }

    fn catalog(&self) -> Archive {
        let server = "orders".parse().expect("a name");
        let data = Arc::new(self.memory.clone());
        let Some(control) = &self.control else {
            return Archive::new(data, &server);
        };
        let destination = &self.request.destination;
        let store = Controlled::new(data, Arc::new(control.clone()), destination);
        let archive = Archive::new(Arc::new(store), &server);
        archive.with_overwriting(Overwriting::Forbidden)
    }

    /// The same, into a store where nothing is written twice.
    fn into_write_once() -> Self {
        let bed = Self::new();
        let control = Memory::new(instant("2026-11-20T03:00:00Z"));
        Self {
            memory: bed.memory.clone().forbidding_overwriting(),
            control: Some(control),
            ..bed
        }
    }

    async fn take(&self) -> Result<Taken, Error> {
        self.take_waiting_for(Arrives::Always).await
    }

    async fn take_waiting_for(&self, wal: Arrives) -> Result<Taken, Error> {
        take_backup(&self.request, &mut self.ports(wal)).await
    }

    fn ports(&self, wal: Arrives) -> Ports {
        Ports {
            catalog: self.catalog(),
            postgres: Box::new(self.postgres.clone()),
            wal: Arc::new(wal),
            disks: None,
            throttle: None,
            progress: Arc::new(Unwatched),
            clock: Clock::Fixed(instant("2026-11-20T03:00:00Z")),
            cancel: self.cancel.clone(),
        }
    }

    /// What the catalog holds, without the server's name.
    fn keys(&self) -> Vec<String> {
        let contents = self.memory.contents();
        let keys = contents.keys();
        keys.map(|key| key.as_str().trim_start_matches("orders/").to_owned())
            .collect()
    }

    async fn status(&self) -> String {
        let info = self.catalog().read_info(&BackupId::new(ID)).await;
        let info = info.expect("a readable record").expect("a record").info;
        let status = info.status().expect("a status").to_string();
        match info.get("error") {
            Some(error) => format!("{status}: {error}"),
            None => status,
        }
    }

    /// The archives of the only backup, each with the names of its entries in order.
    async fn archives(&self) -> BTreeMap<String, Vec<String>> {
        let mut archives = BTreeMap::new();
        for key in self.memory.contents().keys() {
            let object = self.catalog().parse(key);
            let Some(ObjectKey::Base(_, BaseObject::Archive(name))) = object else {
                continue;
            };
            let content = self
                .catalog()
                .store()
                .get_bytes(key)
                .await
                .expect("an object");
            archives.insert(name.to_string(), entries(name, &content));
        }
        archives
    }
}

fn entries(name: ArchiveName, content: &[u8]) -> Vec<String> {
    let source = Decoder::new(name.compression, BufReader::new(content)).expect("a stream");
    let mut reader = untar::Reader::new(source);
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().expect("a whole archive") {
        names.push(String::from_utf8(entry.name).expect("a name"));
        let mut content = Vec::new();
        reader.read_to_end(&mut content).expect("the content");
    }
    names
}

fn request() -> BackupRequest {
    BackupRequest {
        destination: DestinationName::parse("primary").expect("a name"),
        above: None,
        due: None,
        name: Some("before".to_owned()),
        zone: Zone::utc(),
        method: Method::Files,
        server_compression: Compression::None,
        parent: None,
        files: FilesOptions {
            compression: Compression::None,
            level: None,
            jobs: NonZeroUsize::new(2).expect("not zero"),
            max_archive_bytes: 1 << 30,
            part_bytes: 10_000,
            checkpoint: desired::Checkpoint::Immediate,
            name: None,
        },
        pgdata: None,
        pinned: None,
        wal: WalProof::Destination(Duration::from_secs(1)),
        records: Records::Written,
        restore_point: RestorePoint::None,
        actor: crate::actor::current(),
    }
}

enum Arrives {
    Always,
    Never,
}

#[async_trait]
impl WalArrival for Arrives {
    async fn has_arrived(&self, _segment: SegmentName) -> store::Result<bool> {
        Ok(matches!(self, Self::Always))
    }
}

#[tokio::test]
async fn a_backup_is_what_barman_expects() {
    let bed = Bed::new();
    let taken = bed.take().await.expect("a backup");
    assert_eq!(taken.state, TakenState::Done);
    assert_eq!(
        bed.keys(),
        [
            "barkeep/evidence/20261120T030000/archives",
            "base/20261120T030000/16399.tar",
            "base/20261120T030000/backup.info",
            "base/20261120T030000/data.tar",
        ]
    );
    assert_eq!(bed.status().await, "DONE");
    let archives = bed.archives().await;
    let data = &archives["data.tar"];
    assert_eq!(data.first().map(String::as_str), Some("./"));
    let last = &data[data.len() - 2..];
    assert_eq!(last, ["global/pg_control", "backup_label"]);
    let all: BTreeSet<&str> = data.iter().map(String::as_str).collect();
    for name in [
        "./PG_VERSION",
        "base/5/",
        "base/5/1259",
        "pg_wal/",
        "pg_tblspc/",
    ] {
        assert!(all.contains(name), "{name} in {data:?}");
    }
    assert!(!data.iter().any(|name| name.starts_with("pg_wal/0")));
    assert_eq!(
        archives["16399.tar"],
        [
            "PG_18_202506291/",
            "PG_18_202506291/5/",
            "PG_18_202506291/5/16400"
        ]
    );
}

#[tokio::test]
async fn every_compression_that_barman_restores_makes_readable_archives() {
    for compression in Compression::ALL {
        let mut bed = Bed::new();
        bed.request.files.compression = compression;
        let taken = bed.take().await;
        if compression.is_supported_for_base() {
            taken.expect("a backup");
            let name = format!("data.tar{}", compression.extension());
            assert!(bed.archives().await[&name].len() > 5, "{name}");
        } else {
            assert!(matches!(taken, Err(Error::NotRestorable(_))));
            assert!(bed.keys().is_empty());
        }
    }
}

#[tokio::test]
async fn archives_are_split_and_the_label_stays_in_the_first() {
    let mut bed = Bed::new();
    bed.request.files.max_archive_bytes = 150_000;
    bed.request.files.jobs = NonZeroUsize::MIN;
    for number in 0..20 {
        bed.write(&format!("base/5/{}", 20_000 + number), &vec![3; 25_000]);
    }
    bed.write("base/5/99999", &vec![3; 300_000]);
    let taken = bed.take().await.expect("a backup");
    let archives = bed.archives().await;
    assert!(archives.len() > 4, "{:?}", archives.keys());
    assert_eq!(
        archives["data.tar"].last().map(String::as_str),
        Some("backup_label")
    );
    let files: usize = archives
        .values()
        .flatten()
        .filter(|name| name.starts_with("base/5/") && !name.ends_with('/'))
        .count();
    assert_eq!(files, 22);
    let of_large = |names: &&Vec<String>| names.contains(&"base/5/99999".to_owned());
    let alone = archives.values().find(of_large).expect("it is stored");
    assert_eq!(alone.len(), 1, "a large file has an archive of its own");
    let [Warning::LargeFile { bytes: 300_000, .. }] = taken.warnings[..] else {
        panic!("{:?}", taken.warnings);
    };
    for archive in &taken.archives {
        assert!(archive.bytes < 350_000);
    }
    let directories = archives["data.tar"]
        .iter()
        .filter(|name| name.ends_with('/'));
    assert_eq!(
        directories.count(),
        7,
        "all directories are in the first archive"
    );
}

#[tokio::test]
async fn an_unreadable_directory_fails_the_backup_and_is_named() {
    let bed = Bed::new();
    // A tablespace that is gone cannot be read, whoever runs this.
    fs::remove_dir_all(bed.home.path().join("ts")).expect("it was there");
    let error = bed.take().await.expect_err("no backup");
    let path = bed.home.path().join("ts");
    assert_eq!(
        error.to_string(),
        format!("cannot read `{}`", path.display())
    );
    assert!(
        bed.status()
            .await
            .starts_with("FAILED: failure uploading data (cannot read")
    );
    assert!(!bed.keys().iter().any(|key| key.starts_with("barkeep/")));
    assert!(
        bed.memory
            .list_uploads("")
            .await
            .expect("a list")
            .is_empty()
    );
}

#[tokio::test]
async fn a_failure_before_the_start_leaves_nothing() {
    let mut bed = Bed::new();
    bed.postgres.fails = Some(At::Start);
    bed.take().await.expect_err("no backup");
    assert!(bed.keys().is_empty(), "{:?}", bed.keys());
}

#[tokio::test]
async fn a_failure_leaves_a_record_that_says_so() {
    let mut bed = Bed::new();
    bed.postgres.fails = Some(At::Stop);
    bed.take().await.expect_err("no backup");
    assert!(bed.status().await.starts_with("FAILED: "));
    assert!(!bed.keys().iter().any(|key| key.starts_with("barkeep/")));
    let asked = bed.postgres.asked.lock().expect("no panic").clone();
    assert_eq!(asked[..3], ["start", "stop", "close"]);
}

#[tokio::test]
async fn an_interruption_leaves_a_failed_record_and_no_upload() {
    for at in [At::Start, At::Stop] {
        let mut bed = Bed::new();
        bed.write("base/5/20000", &vec![0; 500_000]);
        bed.postgres.cancels = Some((at, bed.cancel.clone()));
        let error = bed.take().await.expect_err("no backup");
        assert!(matches!(error, Error::Interrupted), "{error:?}");
        let uploads = bed.memory.list_uploads("").await.expect("a list");
        assert!(uploads.is_empty());
        assert!(!bed.keys().iter().any(|key| key.starts_with("barkeep/")));
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_could_not_be_given_up_is_found_by_the_record_of_its_attempt() {
    let mut bed = Bed::new();
    bed.postgres.fails = Some(At::Stop);
    let (catalog, id) = (bed.catalog(), BackupId::new(ID));
    let name = ArchiveName {
        root: ArchiveRoot::Data,
        part: 0,
        compression: Compression::None,
    };
    begin_upload(&bed, &ObjectKey::archive(&id, name)).await;
    let faults = Faults::default();
    let denied = Effect::Before(Meaning::PermissionDenied);
    faults.add(Rule::next(Operation::AbortUpload, "", denied).for_ever());
    let mut ports = bed.ports(Arrives::Always);
    ports.catalog = faulty(&bed, faults);
    let failed = take_backup(&bed.request, &mut ports).await;
    failed.expect_err("no backup");
    let abandoned = abandon_attempt(&catalog, &id, "it is over", None).await;
    abandoned.expect("its record is there");
    let uploads = bed.memory.list_uploads("").await.expect("a list");
    assert!(uploads.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_begins_after_it_was_given_up_is_found_by_the_record_of_its_attempt() {
    let bed = Bed::new();
    let (catalog, id) = (bed.catalog(), BackupId::new(ID));
    let faults = Faults::default();
    let silent = Effect::After(Meaning::Unreachable);
    faults.add(Rule::next(Operation::BeginUpload, "", silent).for_ever());
    let mut ports = bed.ports(Arrives::Always);
    ports.catalog = faulty(&bed, faults);
    let failed = take_backup(&bed.request, &mut ports).await;
    failed.expect_err("no backup");
    assert!(bed.status().await.starts_with("FAILED"));
    let abandoned = abandon_attempt(&catalog, &id, "it is over", None).await;
    abandoned.expect("its record is there");
    let uploads = bed.memory.list_uploads("").await.expect("a list");
    assert!(uploads.is_empty());
    assert!(!bed.keys().iter().any(|key| key.starts_with("barkeep/")));
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_became_visible_without_an_answer_is_found_by_the_record_of_its_attempt() {
    let bed = Bed::new();
    let (catalog, id) = (bed.catalog(), BackupId::new(ID));
    let faults = Faults::default();
    let silent = Effect::After(Meaning::Unreachable);
    faults.add(Rule::next(Operation::Put, "backup.info", silent));
    let mut ports = bed.ports(Arrives::Always);
    ports.catalog = faulty(&bed, faults);
    let failed = take_backup(&bed.request, &mut ports).await;
    failed.expect_err("no backup");
    assert_eq!(bed.status().await, "STARTED");
    let abandoned = abandon_attempt(&catalog, &id, "it is over", None).await;
    abandoned.expect("its record is there");
    assert_eq!(bed.status().await, "FAILED: it is over");
}

#[tokio::test]
async fn an_upload_of_which_nobody_was_told_is_given_up_with_the_backup_done() {
    let bed = Bed::new();
    let name = ArchiveName {
        root: ArchiveRoot::Data,
        part: 7,
        compression: Compression::None,
    };
    begin_upload(&bed, &ObjectKey::archive(&BackupId::new(ID), name)).await;
    bed.take().await.expect("a backup");
    let uploads = bed.memory.list_uploads("").await.expect("a list");
    assert!(uploads.is_empty());
}

/// The bed's catalog, in which something fails.
fn faulty(bed: &Bed, faults: Faults) -> Archive {
    let store = Faulty::new(Arc::new(bed.memory.clone()), faults);
    Archive::new(Arc::new(store), &"orders".parse().expect("a name"))
}

#[tokio::test]
async fn a_lost_session_is_a_lost_backup() {
    let mut bed = Bed::new();
    bed.postgres.lost = true;
    let error = bed.take().await.expect_err("no backup");
    assert!(matches!(error, Error::SessionLost));
    assert!(bed.status().await.starts_with("FAILED: "));
}

#[tokio::test]
async fn another_cluster_writes_nothing() {
    let mut bed = Bed::new();
    bed.request.pinned = Some(SystemId(8));
    let error = bed.take().await.expect_err("no backup");
    assert!(matches!(error, Error::ForeignSystem { .. }));
    assert!(bed.keys().is_empty());
}

#[tokio::test]
async fn a_taken_second_is_left_to_whoever_has_it() {
    let bed = Bed::new();
    let key = bed.catalog().key(&ObjectKey::info(&BackupId::new(ID)));
    let mode = PutMode::Create;
    bed.memory
        .put_text(&key, "status=STARTED\n", mode)
        .await
        .expect("written");
    let taken = bed.take().await.expect("a backup");
    assert_eq!(taken.backup.as_str(), "20261120T030001");
    assert_eq!(bed.status().await, "STARTED");
}

#[tokio::test(start_paused = true)]
async fn without_its_wal_a_backup_waits_and_is_finished_later() {
    let bed = Bed::new();
    let taken = bed
        .take_waiting_for(Arrives::Never)
        .await
        .expect("a backup");
    let TakenState::WaitingForWals(missing) = taken.state else {
        panic!("it is not complete");
    };
    assert_eq!(missing.to_string(), "000000010000000000000003");
    assert_eq!(bed.status().await, "WAITING_FOR_WALS");
    let (catalog, id) = (bed.catalog(), BackupId::new(ID));
    let still = finish_backup(&catalog, &id, &Arrives::Never).await;
    assert_eq!(still.expect("an answer"), Finished::Waiting(missing));
    // Whoever tried to finish it before died while it sent the record.
    begin_upload(&bed, &ObjectKey::info(&id)).await;
    let done = finish_backup(&catalog, &id, &Arrives::Always).await;
    assert_eq!(done.expect("an answer"), Finished::Done);
    assert_eq!(bed.status().await, "DONE");
    let left = bed.memory.list_uploads("").await.expect("memory");
    assert_eq!(left, []);
    assert!(!bed.keys().iter().any(|key| key.contains("/attempts/")));
}

async fn begin_upload(bed: &Bed, object: &ObjectKey) {
    let options = UploadOptions {
        part_bytes: 5 << 20,
        mode: PutMode::Overwrite,
        tags: Tags::Configured,
    };
    let key = bed.catalog().key(object);
    let begun = bed.memory.begin_upload(&key, options).await;
    drop(begun.expect("memory"));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_written_twice_the_record_is_written_once_at_the_end() {
    let bed = Bed::into_write_once();
    bed.take().await.expect("a backup");
    assert_eq!(bed.status().await, "DONE");
    assert!(!bed.keys().iter().any(|key| key.starts_with("barkeep/")));
    let control = bed.control.as_ref().expect("a control store");
    let left: Vec<_> = control.contents().into_keys().collect();
    let is_evidence = |key: &store::Key| key.as_str().ends_with("/archives");
    assert!(
        left.len() == 1 && is_evidence(&left[0]),
        "the attempt is forgotten: {left:?}"
    );

    let bed = Bed::into_write_once();
    bed.take_waiting_for(Arrives::Never)
        .await
        .expect("a backup");
    let (catalog, id) = (bed.catalog(), BackupId::new(ID));
    assert!(catalog.read_info(&id).await.expect("memory").is_none());
    let done = finish_backup(&catalog, &id, &Arrives::Always).await;
    assert_eq!(done.expect("an answer"), Finished::Done);
    assert_eq!(bed.status().await, "DONE");

    let mut bed = Bed::into_write_once();
    bed.postgres.fails = Some(At::Stop);
    bed.take().await.expect_err("it fails");
    assert!(bed.status().await.starts_with("FAILED"));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_archive_is_never_finished() {
    let bed = Bed::new();
    bed.take_waiting_for(Arrives::Never)
        .await
        .expect("a backup");
    let id = BackupId::new(ID);
    let name = ArchiveName {
        root: ArchiveRoot::Data,
        part: 0,
        compression: Compression::None,
    };
    let key = bed.catalog().key(&ObjectKey::archive(&id, name));
    bed.memory
        .put_text(&key, "cut", PutMode::Overwrite)
        .await
        .expect("written");
    let error = finish_backup(&bed.catalog(), &id, &Arrives::Always).await;
    assert!(matches!(error, Err(Error::ReadBack { .. })), "{error:?}");
    assert_eq!(bed.status().await, "WAITING_FOR_WALS");
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_attempt_is_failed_and_forgotten() {
    let bed = Bed::new();
    bed.take_waiting_for(Arrives::Never)
        .await
        .expect("a backup");
    let (catalog, id) = (bed.catalog(), BackupId::new(ID));
    abandon_attempt(&catalog, &id, "its process is gone", None)
        .await
        .expect("abandoned");
    assert_eq!(bed.status().await, "FAILED: its process is gone");
    let again = abandon_attempt(&catalog, &id, "its process is gone", None).await;
    assert!(
        matches!(again, Err(Error::NotOurs(_))),
        "what is not ours is not touched"
    );
}

#[tokio::test(start_paused = true)]
async fn what_another_program_began_is_failed_only_as_it_was_seen() {
    let bed = Bed::new();
    bed.take_waiting_for(Arrives::Never)
        .await
        .expect("a backup");
    let (catalog, id) = (bed.catalog(), BackupId::new(ID));
    let seen = catalog
        .read_info(&id)
        .await
        .expect("it")
        .expect("it is there");
    let version = seen.version.0;
    let ours = abandon_foreign(&catalog, &id, &version, "dead").await;
    assert!(matches!(ours, Err(Error::Changed(_))), "it has a record");
    let record = ObjectKey::Own(OwnObject::Attempt(id.clone()));
    catalog.remove(&record).await.expect("removed");
    let changed = abandon_foreign(&catalog, &id, "another version", "dead").await;
    assert!(
        matches!(changed, Err(Error::Changed(_))),
        "it was changed since"
    );
    assert_eq!(bed.status().await, "WAITING_FOR_WALS");
    abandon_foreign(&catalog, &id, &version, "dead")
        .await
        .expect("abandoned");
    assert_eq!(bed.status().await, "FAILED: dead");
}

#[tokio::test]
async fn a_damaged_page_is_recorded_and_does_not_stop_the_backup() {
    let mut bed = Bed::new();
    bed.postgres.facts.data_checksums = true;
    // Not empty, not new, older than the start, and with a checksum that cannot be right.
    let mut page = [1; 8192];
    page[..8].fill(0);
    bed.write("base/5/16384", &page);
    bed.write("base/5/1259", &[0; 8192]);
    fs::remove_file(bed.home.path().join("ts/PG_18_202506291/5/16400")).expect("it was there");
    let taken = bed.take().await.expect("a backup");
    assert_eq!(taken.damaged_files, 1);
    assert_eq!(taken.damaged[0].blocks, [0]);
    assert_eq!(taken.state, TakenState::Done);
    assert!(
        bed.keys()
            .contains(&"barkeep/evidence/20261120T030000/pages".to_owned())
    );
}

#[tokio::test]
async fn configuration_from_outside_is_stored_once_under_its_bare_name() {
    let mut bed = Bed::new();
    let outside = bed.home.path().join("pg_hba.conf");
    fs::write(&outside, "outside").expect("a file");
    bed.write("pg_hba.conf", b"left over");
    bed.postgres.facts.hba_file = Some(outside);
    bed.take().await.expect("a backup");
    let archives = bed.archives().await;
    let named = |name: &&String| name.ends_with("pg_hba.conf");
    let names: Vec<_> = archives["data.tar"].iter().filter(named).collect();
    assert_eq!(names, ["pg_hba.conf"]);
}
