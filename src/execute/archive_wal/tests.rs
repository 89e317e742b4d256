use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future;

use super::*;
use crate::{
    format::records,
    model::{
        compression::{Compression, Level},
        record::Identity,
        wal::{SegmentName, SegmentSize, SystemId},
    },
    pipeline::compress::{Decoder, Encoder},
    store::{Archive, Key, PutOptions, SharedStore, Store as _, Tags, memory::Memory},
};

mod ahead;
mod faults;
mod laws;
mod resolve;

const FIRST: &str = "000000010000000000000001";
const SECOND: &str = "000000010000000000000002";
const OURS: u64 = 7_710_422_260_807_943_795;
const DIRECTORY: &str = "srv/wals/0000000100000000";

/// A segment of 1 MiB as PostgreSQL 17 begins one.
fn segment(name: &str, system_id: u64, fill: u8) -> Vec<u8> {
    let size = SegmentSize::new(1 << 20).expect("a valid size");
    let name: SegmentName = name.parse().expect("a segment's name");
    let mut bytes = vec![fill; 1 << 20];
    bytes[..2].copy_from_slice(&0xD116_u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&name.timeline.number().to_le_bytes());
    bytes[8..16].copy_from_slice(&name.number(size).start(size).0.to_le_bytes());
    bytes[24..32].copy_from_slice(&system_id.to_le_bytes());
    bytes[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
    bytes
}

fn compressed(content: &[u8], compression: Compression) -> Vec<u8> {
    use std::io::Write as _;
    let codec = Codec::for_wal(compression, None).expect("no level");
    let mut encoder = Encoder::new(codec, None, Vec::new()).expect("an encoder");
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

struct Scene {
    root: tempfile::TempDir,
    stores: Vec<Memory>,
    targets: Vec<ArchiveTarget>,
    options: ArchiveOptions,
}

fn target(name: &str, store: SharedStore) -> ArchiveTarget {
    ArchiveTarget {
        destination: DestinationName::parse(name).expect("a name"),
        archive: Archive::new(store, &"srv".parse().expect("a name")),
        requirement: Requirement::Required,
        history_tags: Tags::Configured,
    }
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000).expect("an instant")
}

fn scene(compression: Compression) -> Scene {
    scene_of(compression, 1)
}

fn scene_of(compression: Compression, destinations: usize) -> Scene {
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(root.path().join("pg_wal/archive_status")).expect("a directory");
    let level = compression.levels().map(|_| Level::Low);
    let codec = Codec::for_wal(compression, level).expect("a word is in range");
    let stores: Vec<Memory> = (0..destinations).map(|_| Memory::new(now())).collect();
    let shared =
        |(index, store): (usize, &Memory)| target(&format!("d{index}"), Arc::new(store.clone()));
    Scene {
        targets: stores.iter().enumerate().map(shared).collect(),
        options: ArchiveOptions {
            spool: Some(Spool::new(root.path().join("spool"))),
            ..ArchiveOptions::new(codec, now())
        },
        stores,
        root,
    }
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("pg_wal").join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("a writable directory");
    }

    /// A segment that waits to be archived.
    fn ready(&self, name: &str) {
        self.write(name, &segment(name, OURS, 1));
        let status = self.path("archive_status").join(format!("{name}.ready"));
        fs::write(status, "").expect("a writable directory");
    }

    async fn put(&self, key: &str, content: Vec<u8>) {
        let key = Key::verbatim(key);
        let put = self.stores[0].put(&key, content.into(), PutOptions::default());
        put.await.expect("memory");
    }

    async fn archive(&self, name: &str) -> Result<Archived, Error> {
        archive_wal(&self.path(name), &self.targets, &self.options).await
    }

    async fn acknowledges(&self, name: &str) -> Result<bool, Warning> {
        let each = self.targets.iter().zip(&self.stores);
        let each = each.map(|(target, store)| (&target.destination, store.location()));
        match &self.options.spool {
            Some(spool) => acknowledges(&self.path(name), &Places::new("srv", each), spool).await,
            None => Ok(false),
        }
    }

    /// How it went in a word or two.
    async fn outcome(&self, name: &str) -> String {
        if self.acknowledges(name).await.is_ok_and(|is_there| is_there) {
            return "Acknowledged".to_owned();
        }
        match self.archive(name).await {
            Ok(Archived { how, ahead: 0, .. }) => format!("{how:?}"),
            Ok(Archived { how, ahead, .. }) => format!("{how:?} and {ahead} ahead"),
            Err(error) => format!("{:?}: {}", error.kind(), crate::failure::chain(&error)),
        }
    }

    fn keys(&self) -> Vec<String> {
        self.keys_of(0)
    }

    fn keys_of(&self, store: usize) -> Vec<String> {
        let keys = self.contents(store).into_keys();
        keys.filter(|key| key != "srv/barkeep/identity").collect()
    }

    fn contents(&self, store: usize) -> BTreeMap<String, Bytes> {
        let contents = self.stores[store].contents();
        contents
            .into_iter()
            .map(|(key, bytes)| (key.to_string(), bytes))
            .collect()
    }

    fn pinned(&self) -> Option<u64> {
        let content = self.contents(0).remove("srv/barkeep/identity")?;
        let identity: Identity = records::parse(&content).expect("a record");
        Some(identity.system_id.0)
    }
}

#[tokio::test]
async fn every_codec_stores_under_its_extension_what_decompresses_to_the_segment() {
    for compression in Compression::ALL {
        let scene = scene(compression);
        let content = segment(FIRST, OURS, 1);
        scene.write(FIRST, &content);
        assert_eq!(scene.outcome(FIRST).await, "Stored");
        let key = format!("{DIRECTORY}/{FIRST}{}", compression.extension());
        assert_eq!(scene.keys(), std::slice::from_ref(&key));
        assert!(decompressed(&scene.contents(0)[&key], compression) == content);
        assert_eq!(scene.outcome(FIRST).await, "AlreadyThere");
        assert_eq!(scene.pinned(), Some(OURS));
    }
}

fn decompressed(stored: &[u8], compression: Compression) -> Vec<u8> {
    use std::io::Read as _;
    let mut content = Vec::new();
    let decoder = Decoder::new(compression, stored);
    let read = decoder.expect("a decoder").read_to_end(&mut content);
    read.expect("what was compressed");
    content
}

#[tokio::test]
async fn the_same_content_under_another_extension_is_enough() {
    for there in Compression::ALL {
        let scene = scene(Compression::Gzip);
        let content = segment(FIRST, OURS, 1);
        scene.write(FIRST, &content);
        let key = format!("{DIRECTORY}/{FIRST}{}", there.extension());
        scene.put(&key, compressed(&content, there)).await;
        assert_eq!(scene.outcome(FIRST).await, "AlreadyThere");
        assert_eq!(scene.keys(), [key]);
    }
}

#[tokio::test]
async fn other_content_stops_and_ours_is_put_aside_once() {
    for there in [Compression::None, Compression::Zstd] {
        let scene = scene(Compression::None);
        scene.write(FIRST, &segment(FIRST, OURS, 1));
        let key = format!("{DIRECTORY}/{FIRST}{}", there.extension());
        scene
            .put(&key, compressed(&segment(FIRST, OURS, 2), there))
            .await;
        let told = scene.outcome(FIRST).await;
        assert!(told.starts_with("Refused: "), "{told}");
        assert!(told.contains("holds other content"), "{told}");
        assert!(scene.outcome(FIRST).await.starts_with("Refused: "));
        let keys = scene.keys();
        assert_eq!(keys.len(), 2, "{keys:?}");
        assert!(
            keys[0].starts_with(&format!("srv/barkeep/conflicts/{FIRST}/")),
            "{keys:?}"
        );
        assert!(scene.contents(0)[&keys[0]] == segment(FIRST, OURS, 1));
        assert_eq!(keys[1], key);
    }
}

#[tokio::test]
async fn content_that_is_longer_shorter_or_damaged_is_other_content() {
    let content = segment(FIRST, OURS, 1);
    let mut longer = content.clone();
    longer.push(1);
    let damaged = compressed(&content, Compression::Zstd)[..40].to_vec();
    let cases = [
        ("", longer.clone()),
        ("", content[..content.len() - 1].to_vec()),
        (".gz", compressed(&longer, Compression::Gzip)),
        (".gz", compressed(&content[1..], Compression::Gzip)),
        (".zst", damaged),
        (".lz4", Vec::new()),
        ("", Vec::new()),
    ];
    for (extension, there) in cases {
        let scene = scene(Compression::None);
        scene.write(FIRST, &content);
        scene
            .put(&format!("{DIRECTORY}/{FIRST}{extension}"), there)
            .await;
        assert!(
            scene.outcome(FIRST).await.starts_with("Refused: "),
            "{extension}"
        );
    }
}

#[tokio::test]
async fn the_neighbours_of_a_segment_are_not_the_segment() {
    let scene = scene(Compression::None);
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    for neighbour in [".partial.gz", ".00000028.backup", ".partial", "0", ".tmp"] {
        scene
            .put(&format!("{DIRECTORY}/{FIRST}{neighbour}"), b"x".to_vec())
            .await;
    }
    assert_eq!(scene.outcome(FIRST).await, "Stored");
}

#[tokio::test]
async fn barmans_way_writes_over_anything_and_keeps_no_records() {
    let mut scene = scene(Compression::None);
    scene.options.conflict = WalConflict::Overwrite;
    scene.options.records = Records::None;
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    let key = format!("{DIRECTORY}/{FIRST}");
    scene.put(&key, segment(FIRST, 1, 2)).await;
    assert_eq!(scene.outcome(FIRST).await, "Stored");
    assert!(scene.contents(0) == BTreeMap::from([(key, segment(FIRST, OURS, 1).into())]));
}

#[tokio::test]
async fn the_first_partial_stays() {
    let mut scene = scene(Compression::None);
    let name = format!("{FIRST}.partial");
    scene.write(&name, &segment(FIRST, OURS, 1));
    assert_eq!(scene.outcome(&name).await, "Stored");
    assert_eq!(scene.outcome(&name).await, "AlreadyThere");
    scene.write(&name, &segment(FIRST, OURS, 2));
    let archived = scene.archive(&name).await.expect("success");
    assert_eq!(archived.how, How::FirstKept);
    let [Warning::PartialDiffers { first, aside, .. }] = &archived.warnings[..] else {
        panic!("{:?}", archived.warnings);
    };
    assert_eq!(first.as_str(), format!("{DIRECTORY}/{name}"));
    let aside = aside.as_ref().expect("records are kept").to_string();
    assert!(scene.contents(0)[&aside] == segment(FIRST, OURS, 2));
    assert!(scene.contents(0)[first.as_str()] == segment(FIRST, OURS, 1));
    scene.options.records = Records::None;
    assert_eq!(scene.outcome(&name).await, "FirstKept");
}

#[tokio::test]
async fn a_history_with_other_content_stops() {
    let scene = scene(Compression::Gzip);
    scene.write(
        "00000002.history",
        b"1\t0/5000100\tno recovery target specified\n",
    );
    assert_eq!(scene.outcome("00000002.history").await, "Stored");
    assert_eq!(scene.keys(), ["srv/wals/00000002.history.gz"]);
    assert_eq!(scene.outcome("00000002.history").await, "AlreadyThere");
    scene.write(
        "00000002.history",
        b"1\t0/6000100\tno recovery target specified\n",
    );
    assert!(
        scene
            .outcome("00000002.history")
            .await
            .starts_with("Refused: ")
    );
}

#[tokio::test]
async fn a_timeline_history_has_tags_of_its_own() {
    let mut scene = scene(Compression::None);
    let own = Tags::Exactly([("kind".to_owned(), "history".to_owned())].into());
    scene.targets[0].history_tags = own.clone();
    scene.write("00000002.history", b"1\t0/5000100\tpromoted\n");
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    for (name, key, tags) in [
        ("00000002.history", "srv/wals/00000002.history", own),
        (FIRST, &format!("{DIRECTORY}/{FIRST}"), Tags::Configured),
    ] {
        assert_eq!(scene.outcome(name).await, "Stored");
        let key = Key::verbatim(key);
        assert_eq!(scene.stores[0].tags(&key), Some(tags), "{name}");
    }
}

#[tokio::test]
async fn a_backup_history_lies_beside_its_segment() {
    let scene = scene(Compression::None);
    let name = format!("{FIRST}.00000028.backup");
    let content = format!(
        "START WAL LOCATION: 0/100028 (file {FIRST})\nSTOP WAL LOCATION: 0/100130 (file {FIRST})\n\
         LABEL: x\n"
    );
    scene.write(&name, content.as_bytes());
    assert_eq!(scene.outcome(&name).await, "Stored");
    assert_eq!(scene.keys(), [format!("{DIRECTORY}/{name}")]);
    scene.write(&name, b"nonsense");
    assert!(scene.outcome(&name).await.starts_with("Verification: "));
}

#[tokio::test]
async fn what_is_not_what_its_name_says_goes_nowhere() {
    let mut scene = scene(Compression::None);
    let cases: [(&str, Vec<u8>); 6] = [
        (SECOND, segment(FIRST, OURS, 1)),
        (FIRST, segment(FIRST, OURS, 1)[..1 << 19].to_vec()),
        (FIRST, vec![0; 1 << 20]),
        (FIRST, Vec::new()),
        ("00000002.history", b"2\t0/5000100\tof itself\n".to_vec()),
        ("000000010000000000000002.partial", segment(FIRST, OURS, 1)),
    ];
    for (name, content) in cases {
        scene.write(name, &content);
        let told = scene.outcome(name).await;
        assert!(told.starts_with("Verification: "), "{name}: {told}");
    }
    assert!(scene.outcome("RECOVERYXLOG").await.starts_with("Usage: "));
    assert!(
        scene
            .outcome("000000010000000000000009")
            .await
            .starts_with("Failed: ")
    );
    assert!(scene.contents(0).is_empty());
    scene.options.check = ContentCheck::Off;
    scene.write(FIRST, b"anything");
    assert_eq!(scene.outcome(FIRST).await, "Stored");
}

#[tokio::test]
async fn a_segment_of_an_unknown_postgresql_is_archived_with_a_warning() {
    let scene = scene(Compression::None);
    let mut content = segment(FIRST, OURS, 1);
    content[0] = 0x99;
    scene.write(FIRST, &content);
    let archived = scene.archive(FIRST).await.expect("success");
    assert_eq!(archived.warnings, [Warning::UnknownMagic(0xD199)]);
}

#[tokio::test]
async fn wal_of_another_cluster_is_refused() {
    let scene = scene(Compression::None);
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    assert_eq!(scene.outcome(FIRST).await, "Stored");
    scene.write(SECOND, &segment(SECOND, 5, 1));
    // First the cache speaks, then, without one, the destination.
    let told = scene.outcome(SECOND).await;
    assert_eq!(
        told,
        format!("Refused: `srv` in `d0` belongs to the system identifier {OURS}, not to 5")
    );
    fs::remove_dir_all(scene.root.path().join("spool")).expect("our own directory");
    assert_eq!(scene.outcome(SECOND).await, told);
    assert_eq!(scene.keys().len(), 1);
}

#[tokio::test]
async fn a_new_server_refuses_an_archive_that_another_cluster_began() {
    for there in Compression::ALL {
        let scene = scene(Compression::None);
        let key = format!("{DIRECTORY}/{FIRST}{}", there.extension());
        scene
            .put(&key, compressed(&segment(FIRST, 5, 1), there))
            .await;
        scene.write(SECOND, &segment(SECOND, OURS, 1));
        let told = scene.outcome(SECOND).await;
        assert!(told.starts_with("Refused: "), "{told}");
        assert_eq!(scene.contents(0).len(), 1);
    }
}

#[tokio::test]
async fn an_archive_of_our_own_is_adopted() {
    let scene = scene(Compression::None);
    let there = compressed(&segment(FIRST, OURS, 1), Compression::Bzip2);
    scene.put(&format!("{DIRECTORY}/{FIRST}.bz2"), there).await;
    scene.write(SECOND, &segment(SECOND, OURS, 1));
    assert_eq!(scene.outcome(SECOND).await, "Stored");
    assert_eq!(scene.pinned(), Some(OURS));
}

#[tokio::test]
async fn a_stale_cache_gives_way_to_what_the_destination_says() {
    let scene = scene(Compression::None);
    let spool = scene.options.spool.as_ref().expect("a spool");
    let place = scene.targets[0].place();
    spool
        .set_identity(&place, "srv", SystemId(5))
        .expect("a spool");
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    assert_eq!(scene.outcome(FIRST).await, "Stored");
    assert_eq!(
        spool.identity(&place, "srv").expect("a spool"),
        Some(SystemId(OURS))
    );
}

#[tokio::test]
async fn an_identity_of_a_later_barkeep_stops() {
    let scene = scene(Compression::None);
    scene
        .put(
            "srv/barkeep/identity",
            b"{\"format\": 9, \"min_reader\": 9}".to_vec(),
        )
        .await;
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    let told = scene.outcome(FIRST).await;
    assert!(
        told.starts_with("Refused: cannot tell which cluster"),
        "{told}"
    );
}

#[tokio::test]
async fn two_clusters_that_meet_in_an_empty_archive_cannot_both_have_it() {
    let mut scene = scene(Compression::None);
    scene.options.spool = None;
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    scene.write(SECOND, &segment(SECOND, 5, 1));
    let (one, two) = future::join(scene.outcome(FIRST), scene.outcome(SECOND)).await;
    let stored = [&one, &two]
        .iter()
        .filter(|told| **told == "Stored")
        .count();
    assert_eq!(stored, 1, "{one} {two}");
}

#[tokio::test]
async fn a_segment_too_large_for_memory_is_sent_in_parts() {
    let mut scene = scene(Compression::None);
    scene.options.part_bytes = 5 << 20;
    let size = 128_u32 << 20;
    let name = "000000010000000000000001";
    let mut content = segment(name, OURS, 1);
    content.resize(size as usize, 3);
    content[8..16].copy_from_slice(&u64::from(size).to_le_bytes());
    content[32..36].copy_from_slice(&size.to_le_bytes());
    scene.write(name, &content);
    for compression in [Compression::None, Compression::Lz4] {
        scene.options.codec = Codec::for_wal(compression, None).expect("no level");
        assert_eq!(scene.outcome(name).await, "Stored");
        let key = format!("{DIRECTORY}/{name}{}", compression.extension());
        let stored = scene.contents(0).remove(&key).expect("an object");
        if compression == Compression::None {
            assert!(stored == content);
        }
        assert_eq!(scene.outcome(name).await, "AlreadyThere");
        scene.stores[0].delete(&[Key::verbatim(key)]).await;
    }
}

#[tokio::test]
async fn success_without_a_required_destination_would_mean_nothing() {
    let mut scene = scene(Compression::None);
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    scene.targets[0].requirement = Requirement::Optional(Duration::from_secs(1));
    assert!(scene.outcome(FIRST).await.starts_with("Usage: "));
}

#[tokio::test]
async fn every_required_destination_gets_the_segment() {
    let scene = scene_of(Compression::Lz4, 3);
    scene.write(FIRST, &segment(FIRST, OURS, 1));
    assert_eq!(scene.outcome(FIRST).await, "Stored");
    for store in 0..3 {
        assert_eq!(scene.keys_of(store), [format!("{DIRECTORY}/{FIRST}.lz4")]);
    }
}

#[tokio::test]
async fn the_check_for_a_new_server_tells_whose_wal_is_there() {
    let check = async |keys: &[(&str, u64)], timeline: u32| {
        let scene = scene(Compression::None);
        for (name, system_id) in keys {
            let key = format!("srv/wals/{}/{name}", &name[..16]);
            let content = match system_id {
                0 => b"junk".to_vec(),
                system_id => segment(name, *system_id, 1),
            };
            scene.put(&key, content).await;
        }
        let timeline = crate::model::timeline::TimelineId::new(timeline);
        let check = check_wal_archive(&scene.targets[0], SystemId(OURS), timeline);
        check.await.expect("memory")
    };
    let newest = |name: &str| name.parse::<SegmentName>().expect("a name");
    let second = "000000020000000000000002";
    assert_eq!(check(&[], 0).await, WalArchiveCheck::Empty);
    let ours = [(FIRST, OURS), (second, OURS)];
    let newest_of = newest(second);
    assert_eq!(
        check(&ours, 0).await,
        WalArchiveCheck::Ours { newest: newest_of }
    );
    assert_eq!(
        check(&ours, 3).await,
        WalArchiveCheck::Ours { newest: newest_of }
    );
    assert_eq!(
        check(&ours, 2).await,
        WalArchiveCheck::Ahead { newest: newest_of }
    );
    let foreign = WalArchiveCheck::Foreign {
        segment: newest(FIRST),
        system_id: SystemId(5),
    };
    assert_eq!(check(&[(FIRST, 5), (second, OURS)], 0).await, foreign);
    let junk = WalArchiveCheck::Unclear {
        newest: newest(FIRST),
    };
    assert_eq!(check(&[(FIRST, 0)], 0).await, junk);
}

#[test]
fn a_path_that_ends_in_no_name_is_no_wal_file() {
    assert!(matches!(file_of(Path::new("/")), Err(Error::Name { .. })));
}
