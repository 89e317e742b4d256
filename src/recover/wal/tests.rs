use std::{fs, sync::Arc};

use super::*;
use crate::{
    failure::Kind,
    model::{compression::Codec, time::Timestamp, wal::SegmentSize},
    pipeline::compress::Encoder,
    store::{
        Key, Meaning, Operation, PutOptions, Store as _,
        fault::{Chance, Effect, Faults, Faulty, Rule},
        memory::Memory,
    },
};

const FIRST: &str = "000000010000000000000001";
const OURS: u64 = 7_710_422_260_807_943_795;
const DIRECTORY: &str = "srv/wals/0000000100000000";

fn name(last: u8) -> String {
    format!("0000000100000000000000{last:02X}")
}

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

/// A data directory that recovers, and destinations.
struct Scene {
    root: tempfile::TempDir,
    stores: Vec<Memory>,
    faults: Vec<Faults>,
    options: RestoreOptions,
}

fn scene() -> Scene {
    scene_of(1)
}

fn scene_of(destinations: usize) -> Scene {
    let root = tempfile::tempdir().expect("a directory");
    for directory in ["data/global", "data/pg_wal"] {
        fs::create_dir_all(root.path().join(directory)).expect("a directory");
    }
    let control = root.path().join("data/global/pg_control");
    fs::write(control, OURS.to_le_bytes()).expect("a writable directory");
    let now = Timestamp::from_unix_seconds(1_800_000_000).expect("an instant");
    Scene {
        stores: (0..destinations).map(|_| Memory::new(now)).collect(),
        faults: (0..destinations).map(|_| Faults::default()).collect(),
        options: RestoreOptions {
            spool: Some(Spool::new(root.path().join("spool"))),
            ..RestoreOptions::new(Compression::None)
        },
        root,
    }
}

impl Scene {
    fn target(&self) -> PathBuf {
        self.root.path().join("data/pg_wal/RECOVERYXLOG")
    }

    async fn put(&self, store: usize, key: &str, content: Vec<u8>) {
        let key = Key::verbatim(key);
        let put = self.stores[store].put(&key, content.into(), PutOptions::default());
        put.await.expect("memory");
    }

    /// Stores a good segment under an extension.
    async fn has(&self, store: usize, name: &str, compression: Compression) {
        let key = format!("{DIRECTORY}/{name}{}", compression.extension());
        let content = compressed(&segment(name, OURS, 1), compression);
        self.put(store, &key, content).await;
    }

    async fn restore(&self, name: &str) -> Result<Restored, Error> {
        let request = RestoreRequest {
            file: name.parse().expect("a WAL file's name"),
            to: self.target(),
            data_directory: Some(self.root.path().join("data")),
        };
        let source = |(index, (memory, faults)): (usize, (&Memory, &Faults))| {
            let store = Faulty::new(Arc::new(memory.clone()), faults.clone());
            RestoreSource {
                destination: format!("d{index}").parse().expect("a name"),
                archive: Archive::new(Arc::new(store), &"srv".parse().expect("a name")),
            }
        };
        let stores = self.stores.iter().zip(&self.faults).enumerate();
        let sources: Vec<RestoreSource> = stores.map(source).collect();
        restore_wal(&request, &sources, &self.options).await
    }

    /// How it went in a few words. What is delivered must be the whole segment, and nothing else may lie beside it.
    async fn outcome(&self, name: &str) -> String {
        let _removed = fs::remove_file(self.target());
        let outcome = self.restore(name).await;
        let delivered = self.target().exists();
        assert_eq!(delivered, matches!(outcome, Ok(Restored::Delivered(_))));
        let files = fs::read_dir(self.root.path().join("data/pg_wal")).expect("a directory");
        assert_eq!(
            files.count(),
            usize::from(delivered),
            "nothing is left behind"
        );
        match outcome {
            Ok(Restored::Absent) => "absent".to_owned(),
            Ok(Restored::Delivered(delivered)) => {
                let from = match delivered.from {
                    From::Cache => "cache".to_owned(),
                    From::Received => "spool".to_owned(),
                    From::Destination(destination) => destination.to_string(),
                };
                let WalFile::Segment(_) = delivered.file else {
                    return format!("{} from {from}", delivered.file);
                };
                assert!(fs::read(self.target()).expect("a file") == segment(name, OURS, 1));
                format!("{from}, {} ahead", delivered.ahead)
            }
            Err(error) => format!("{:?}: {}", error.kind(), crate::failure::chain(&error)),
        }
    }

    fn calls(&self, store: usize) -> Vec<Operation> {
        let calls = self.faults[store].calls();
        calls.into_iter().map(|(operation, _)| operation).collect()
    }
}

#[tokio::test]
async fn a_segment_is_delivered_from_under_any_extension() {
    for compression in Compression::ALL {
        let scene = scene();
        scene.has(0, FIRST, compression).await;
        assert_eq!(scene.outcome(FIRST).await, "d0, 0 ahead", "{compression}");
    }
}

#[tokio::test]
async fn the_expected_key_takes_one_request_and_the_last_extension_is_remembered() {
    let scene = scene();
    for last in 1..3 {
        scene.has(0, &name(last), Compression::Zstd).await;
    }
    assert_eq!(scene.outcome(&name(1)).await, "d0, 0 ahead");
    assert_eq!(
        scene.calls(0),
        [Operation::Get, Operation::List, Operation::Get]
    );
    assert_eq!(scene.outcome(&name(2)).await, "d0, 0 ahead");
    assert_eq!(scene.calls(0)[3..], [Operation::Get]);
}

#[tokio::test]
async fn where_nobody_knows_the_extension_the_destination_is_asked_first() {
    let mut scene = scene();
    scene.options.compression = None;
    scene.options.spool = None;
    scene.has(0, FIRST, Compression::Snappy).await;
    assert_eq!(scene.outcome(FIRST).await, "d0, 0 ahead");
    assert_eq!(scene.calls(0), [Operation::List, Operation::Get]);
}

#[tokio::test]
async fn segments_are_fetched_ahead_unchecked_too_and_checked_when_they_are_used() {
    let mut scene = scene();
    scene.options.check = ContentCheck::Off;
    scene.options.read_ahead = 2;
    scene.has(0, &name(1), Compression::None).await;
    let key = format!("{DIRECTORY}/{}", name(2));
    scene.put(0, &key, b"junk".to_vec()).await;
    scene.has(0, &name(3), Compression::None).await;
    assert_eq!(scene.outcome(&name(1)).await, "d0, 2 ahead");
    scene.has(0, &name(2), Compression::None).await;
    assert_eq!(scene.outcome(&name(2)).await, "d0, 0 ahead");
    assert_eq!(scene.outcome(&name(3)).await, "cache, 0 ahead");
}

#[tokio::test]
async fn a_partial_that_is_refused_is_refused_under_its_own_name_too() {
    let mut scene = scene();
    let partial = format!("{FIRST}.partial");
    let key = format!("{DIRECTORY}/{partial}");
    scene.put(0, &key, segment(FIRST, OURS, 1)).await;
    assert_eq!(scene.outcome(&partial).await, format!("{partial} from d0"));
    scene.options.partial = Partial::Refuse;
    assert_eq!(scene.outcome(&partial).await, "absent");
}

#[tokio::test]
async fn what_is_no_file_is_written_to_and_never_replaced() {
    let scene = scene();
    scene.has(0, FIRST, Compression::Gzip).await;
    let elsewhere = scene.root.path().join("elsewhere");
    fs::write(&elsewhere, "longer than nothing").expect("a file");
    std::os::unix::fs::symlink(&elsewhere, scene.target()).expect("a link");
    let restored = scene.restore(FIRST).await.expect("delivered");
    assert!(matches!(restored, Restored::Delivered(_)));
    assert!(scene.target().is_symlink());
    assert!(fs::read(elsewhere).expect("a file") == segment(FIRST, OURS, 1));
}

#[tokio::test]
async fn absence_takes_every_destinations_word() {
    let scene = scene_of(2);
    assert_eq!(scene.outcome(FIRST).await, "absent");
    assert_eq!(scene.calls(1), [Operation::Get, Operation::List]);
    scene.has(1, FIRST, Compression::Lz4).await;
    assert_eq!(scene.outcome(FIRST).await, "d1, 0 ahead");
}

#[tokio::test]
async fn what_is_no_absence_is_an_error() {
    for meaning in [
        Meaning::PermissionDenied,
        Meaning::BucketMissing,
        Meaning::Unreachable,
        Meaning::Throttled,
        Meaning::Other,
    ] {
        for operation in [Operation::Get, Operation::List] {
            let scene = scene_of(2);
            scene.faults[1].add(Rule::next(operation, "", Effect::Before(meaning)));
            let told = scene.outcome(FIRST).await;
            assert!(
                told.contains("cannot read `000000010000000000000001` from `d1`"),
                "{told}"
            );
        }
    }
}

#[tokio::test]
async fn a_destination_that_is_down_does_not_matter_while_another_has_the_segment() {
    let scene = scene_of(2);
    scene.faults[0].add(Rule::nth(0, Effect::Before(Meaning::Unreachable)).for_ever());
    assert!(scene.outcome(FIRST).await.starts_with("Unreachable: "));
    scene.has(1, FIRST, Compression::None).await;
    let Ok(Restored::Delivered(delivered)) = scene.restore(FIRST).await else {
        panic!("it is there");
    };
    assert_eq!(delivered.warnings.len(), 1, "the outage is told");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_for_and_a_refusal_is_not() {
    let cases = [
        (Meaning::Unreachable, 5, 60, "d0, 0 ahead"),
        (Meaning::Throttled, 5, 60, "d0, 0 ahead"),
        (Meaning::Unreachable, 1000, 60, "Unreachable"),
        (Meaning::PermissionDenied, 5, 60, "Failed"),
        (Meaning::Unreachable, 1, 0, "Unreachable"),
    ];
    for (meaning, times, seconds, expected) in cases {
        let mut scene = scene();
        scene.faults[0].add(Rule {
            times,
            ..Rule::nth(0, Effect::Before(meaning))
        });
        scene.options.retry_time = Duration::from_secs(seconds);
        scene.has(0, FIRST, Compression::None).await;
        let start = Instant::now();
        let told = scene.outcome(FIRST).await;
        assert!(told.starts_with(expected), "{meaning:?} {times}: {told}");
        assert!(start.elapsed() <= Duration::from_secs(seconds));
    }
}

#[tokio::test]
async fn a_download_that_breaks_off_delivers_nothing() {
    for compression in [Compression::None, Compression::Snappy, Compression::Zstd] {
        let mut scene = scene();
        scene.options.compression = Some(compression);
        scene.has(0, FIRST, compression).await;
        let broken = Effect::After(Meaning::Unreachable);
        scene.faults[0].add(Rule::next(Operation::Get, FIRST, broken));
        assert!(scene.outcome(FIRST).await.starts_with("Unreachable: "));
        assert_eq!(scene.outcome(FIRST).await, "d0, 0 ahead");
    }
}

#[tokio::test]
async fn what_is_damaged_or_foreign_is_never_delivered() {
    let good = segment(FIRST, OURS, 1);
    let cases = [
        ("", good[..good.len() - 1].to_vec(), "Verification"),
        ("", Vec::new(), "Verification"),
        ("", vec![0; 1 << 20], "Verification"),
        ("", segment(&name(2), OURS, 1), "Verification"),
        (
            ".gz",
            compressed(&good, Compression::Gzip)[..500].to_vec(),
            "Verification",
        ),
        (".lz4", b"junk".to_vec(), "Verification"),
        (".zst", Vec::new(), "Verification"),
        ("", segment(FIRST, 5, 1), "Refused"),
    ];
    for (extension, content, expected) in cases {
        let scene = scene();
        scene
            .put(0, &format!("{DIRECTORY}/{FIRST}{extension}"), content)
            .await;
        let told = scene.outcome(FIRST).await;
        assert!(told.starts_with(expected), "{extension} {told}");
    }
}

#[tokio::test]
async fn a_good_object_is_found_beside_or_behind_a_damaged_one() {
    let scene = scene_of(2);
    scene
        .put(0, &format!("{DIRECTORY}/{FIRST}"), b"junk".to_vec())
        .await;
    scene.has(1, FIRST, Compression::None).await;
    assert_eq!(scene.outcome(FIRST).await, "d1, 0 ahead");
    scene.has(0, FIRST, Compression::Zstd).await;
    assert_eq!(scene.outcome(FIRST).await, "d0, 0 ahead");
}

#[tokio::test]
async fn a_partial_segment_stands_in_for_one_that_is_nowhere() {
    let mut scene = scene();
    let key = format!("{DIRECTORY}/{FIRST}.partial.gz");
    let content = compressed(&segment(FIRST, OURS, 1), Compression::Gzip);
    scene.put(0, &key, content).await;
    scene
        .put(
            0,
            &format!("{DIRECTORY}/{FIRST}.00000028.backup"),
            b"x".to_vec(),
        )
        .await;
    assert_eq!(
        scene.outcome(FIRST).await,
        format!("{FIRST}.partial from d0")
    );
    scene.options.partial = Partial::Refuse;
    assert_eq!(scene.outcome(FIRST).await, "absent");
    scene.options.partial = Partial::Deliver;
    scene.has(0, FIRST, Compression::Xz).await;
    assert_eq!(scene.outcome(FIRST).await, "d0, 0 ahead");
}

#[tokio::test]
async fn histories_are_delivered_too() {
    let scene = scene();
    scene
        .put(
            0,
            "srv/wals/00000002.history",
            b"1\t0/5000100\tx\n".to_vec(),
        )
        .await;
    let backup = format!("{FIRST}.00000028.backup");
    let content = format!(
        "START WAL LOCATION: 0/100028 (file {FIRST})\nSTOP WAL LOCATION: 0/100130 (file {FIRST})\n"
    );
    let content = compressed(content.as_bytes(), Compression::Gzip);
    scene
        .put(0, &format!("{DIRECTORY}/{backup}.gz"), content)
        .await;
    assert_eq!(
        scene.outcome("00000002.history").await,
        "00000002.history from d0"
    );
    assert_eq!(scene.outcome(&backup).await, format!("{backup} from d0"));
    assert_eq!(scene.outcome("00000003.history").await, "absent");
    scene
        .put(0, "srv/wals/00000003.history", b"junk".to_vec())
        .await;
    assert!(
        scene
            .outcome("00000003.history")
            .await
            .starts_with("Verification: ")
    );
}

#[tokio::test]
async fn what_follows_is_fetched_ahead_and_delivered_without_a_request() {
    let mut scene = scene();
    scene.options.read_ahead = 3;
    for last in [1, 2, 3, 5] {
        scene.has(0, &name(last), Compression::Lz4).await;
    }
    assert_eq!(scene.outcome(&name(1)).await, "d0, 2 ahead");
    let before = scene.calls(0).len();
    assert_eq!(scene.outcome(&name(2)).await, "cache, 0 ahead");
    assert_eq!(scene.outcome(&name(3)).await, "cache, 0 ahead");
    assert_eq!(scene.calls(0).len(), before);
    // Absence is not remembered: what was missing is asked for again.
    assert_eq!(scene.outcome(&name(4)).await, "absent");
    scene.has(0, &name(4), Compression::Lz4).await;
    assert_eq!(scene.outcome(&name(4)).await, "d0, 1 ahead");
}

#[tokio::test]
async fn the_cache_is_checked_like_anything_else() {
    let good = segment(FIRST, OURS, 1);
    let cases = [
        good[..good.len() / 2].to_vec(),
        Vec::new(),
        segment(FIRST, 5, 1),
        segment(&name(2), OURS, 1),
        b"poison".to_vec(),
    ];
    for content in cases {
        let scene = scene();
        scene.has(0, FIRST, Compression::None).await;
        let spool = scene.options.spool.as_ref().expect("a spool");
        let data = scene.root.path().join("data");
        let cache = spool.fetched(&[scene.stores[0].location()], "srv", &data);
        let lie = cache.directory().expect("a spool").join(FIRST);
        fs::write(&lie, content).expect("a writable directory");
        assert_eq!(scene.outcome(FIRST).await, "d0, 0 ahead");
        assert!(!lie.exists());
    }
}

#[tokio::test]
async fn a_segment_in_the_cache_is_moved_to_another_file_system_too() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let mut scene = scene();
    scene.options.spool = Some(Spool::new(elsewhere.path()));
    scene.options.read_ahead = 1;
    for last in 1..3 {
        scene.has(0, &name(last), Compression::None).await;
    }
    assert_eq!(scene.outcome(&name(1)).await, "d0, 1 ahead");
    assert_eq!(scene.outcome(&name(2)).await, "cache, 0 ahead");
    assert_eq!(scene.outcome(&name(2)).await, "d0, 0 ahead");
}

#[tokio::test(start_paused = true)]
async fn fetching_ahead_ends_with_its_second() {
    let mut scene = scene();
    scene.faults[0].add(Rule::next(Operation::Get, &name(3), Effect::Hang));
    scene.options.read_ahead = 8;
    for last in 1..6 {
        scene.has(0, &name(last), Compression::None).await;
    }
    let start = Instant::now();
    let told = scene.outcome(&name(1)).await;
    assert!(told.starts_with("d0, "), "{told}");
    assert!(start.elapsed() <= Duration::from_millis(1010));
}

#[tokio::test]
async fn a_cache_that_cannot_be_used_costs_nothing_but_requests() {
    let mut scene = scene();
    let file = scene.root.path().join("file");
    fs::write(&file, "").expect("a writable directory");
    scene.options.spool = Some(Spool::new(file));
    scene.options.read_ahead = 2;
    scene.has(0, FIRST, Compression::None).await;
    assert_eq!(scene.outcome(FIRST).await, "d0, 0 ahead");
}

#[tokio::test]
async fn a_target_that_cannot_be_written_is_told() {
    let scene = scene();
    scene.has(0, FIRST, Compression::None).await;
    fs::remove_dir(scene.root.path().join("data/pg_wal")).expect("an empty directory");
    let told = scene.restore(FIRST).await.map_err(|error| error.kind());
    assert_eq!(told, Err(Kind::Failed));
}

#[test]
fn an_outage_never_looks_like_the_end_of_the_archive() {
    let delivered = || {
        Ok(Restored::Delivered(Delivered {
            from: From::Cache,
            file: FIRST.parse().expect("a name"),
            ahead: 0,
            warnings: Vec::new(),
        }))
    };
    let outage = || {
        Err(Error::Store {
            file: FIRST.parse().expect("a name"),
            destination: "d0".parse().expect("a name"),
            source: store::Error::new(Meaning::Unreachable, Operation::Get, "memory:"),
        })
    };
    let codes = |standby| {
        [delivered(), Ok(Restored::Absent), outage()].map(|outcome| exit_code(&outcome, standby))
    };
    assert_eq!(codes(StandbySignal::Missing), [0, 1, 255]);
    assert_eq!(codes(StandbySignal::Present), [0, 1, 1]);
    let root = tempfile::tempdir().expect("a directory");
    assert_eq!(StandbySignal::of(root.path()), StandbySignal::Missing);
    fs::write(root.path().join("standby.signal"), "").expect("a writable directory");
    assert_eq!(StandbySignal::of(root.path()), StandbySignal::Present);
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_a_segment_that_is_there_is_never_called_absent() {
    for seed in 0..20 {
        let mut scene = scene_of(2);
        scene.options.read_ahead = 2;
        for last in 1..4 {
            scene.has(1, &name(last), Compression::Lz4).await;
        }
        for faults in &scene.faults {
            faults.set_chance(Some(Chance { seed, one_in: 3 }));
        }
        for last in 1..4 {
            let told = scene.outcome(&name(last)).await;
            assert_ne!(told, "absent", "seed {seed}");
        }
    }
}
