//! What was taken is read back; whatever is wrong with it is found.

use std::io::Write as _;

use super::*;
use crate::{
    execute::verify::{self, Verifier, verify},
    model::{
        backup::BackupStatus,
        catalog::Catalog,
        compression::Codec,
        record::{ArchiveEvidence, Verification},
        wal::SystemId,
    },
    pipeline::compress::Encoder,
    postgres::control_file::ControlFile,
    store::{Key, PutMode, PutOptions},
};

/// The first page's header of a segment of PostgreSQL 18, from `initdb`.
const HEADER: &str =
    "18d1020001000000000000010000000000000000000000008ae66f3b32ec006b0000000100200000";

/// A backup that was taken, with its WAL.
async fn taken(mut bed: Bed, compression: Compression) -> Bed {
    bed.postgres.facts.system_id = system_id();
    bed.request.files.compression = compression;
    bed.take().await.expect("a backup");
    let segment = segment(system_id(), 3);
    put(&bed, SEGMENT, &gzipped(&segment)).await;
    bed
}

const SEGMENT: &str = "wals/0000000100000000/000000010000000000000003.gz";

fn system_id() -> SystemId {
    let control = ControlFile::parse(&control_file());
    control.expect("a control file").system_id
}

/// A segment of a cluster that goes by a number and holds nothing.
fn segment(system: SystemId, number: u64) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&HEADER[at..at + 2], 16).expect("two digits");
    let mut bytes: Vec<u8> = (0..HEADER.len()).step_by(2).map(digit).collect();
    bytes[8..16].copy_from_slice(&(number << 24).to_le_bytes());
    bytes[24..32].copy_from_slice(&system.0.to_le_bytes());
    bytes.resize(16 << 20, 0);
    bytes
}

fn gzipped(content: &[u8]) -> Vec<u8> {
    let codec = Codec::for_wal(Compression::Gzip, None).expect("a codec");
    let mut encoder = Encoder::new(codec, None, Vec::new()).expect("an encoder");
    encoder.write_all(content).expect("compressed");
    encoder.finish().expect("compressed")
}

fn key(path: &str) -> Key {
    Key::verbatim(format!("orders/{path}"))
}

async fn put(bed: &Bed, path: &str, content: &[u8]) {
    let content = bytes::Bytes::copy_from_slice(content);
    let options = PutOptions::mode(PutMode::Overwrite);
    bed.memory
        .put(&key(path), content, options)
        .await
        .expect("written");
}

fn content(bed: &Bed, path: &str) -> Vec<u8> {
    bed.memory.contents()[&key(path)].to_vec()
}

async fn read_back(bed: &Bed) -> Result<Verification, verify::Error> {
    let archive = bed.catalog();
    let verifier = Verifier {
        archive: &archive,
        catalog: &Catalog::default(),
        zone: &Zone::utc(),
        clock: Clock::Fixed(instant("2026-11-21T03:00:00Z")),
        progress: Arc::new(Unwatched),
        cancel: &bed.cancel,
    };
    verify(&verifier, &BackupId::new(ID)).await
}

/// What is found, in one line.
async fn found(bed: &Bed) -> String {
    let verification = read_back(bed).await.expect("it was read");
    let faults = verification.faults.iter().map(ToString::to_string);
    faults.collect::<Vec<_>>().join("; ")
}

fn is_recorded(bed: &Bed, name: &str) -> bool {
    let path = format!("barkeep/evidence/{ID}/{name}");
    bed.memory.contents().contains_key(&key(&path))
}

#[tokio::test]
async fn what_is_sound_is_said_to_be_and_written_down() {
    for compression in [Compression::None, Compression::Gzip, Compression::Lz4] {
        let bed = taken(Bed::new(), compression).await;
        let verification = read_back(&bed).await.expect("it was read");
        assert_eq!(verification.faults, [], "{compression:?}");
        assert_eq!((verification.archives, verification.segments), (2, 1));
        assert!(verification.files >= 5, "{verification:?}");
        assert!(is_recorded(&bed, "verified") && !is_recorded(&bed, "faults"));
    }
}

/// Something that is done to a stored object.
type Injury = fn(&mut Vec<u8>);

fn flip(content: &mut [u8]) {
    let middle = content.len() / 2;
    content[middle] ^= 1;
}

fn cut(content: &mut Vec<u8>) {
    content.truncate(content.len() / 2);
}

#[tokio::test]
async fn every_injury_to_an_archive_is_found_in_every_compression() {
    let injuries: [(&str, Injury); 5] = [
        ("a bit is flipped", |content| flip(content)),
        ("it is cut off", cut),
        ("it is emptied", Vec::clear),
        ("its end is cut off", |content| {
            content.truncate(content.len() - 1);
        }),
        ("something is behind it", |content| content.extend([0; 512])),
    ];
    for compression in crate::model::compression::Compression::ALL {
        if !compression.is_supported_for_base() {
            continue;
        }
        for name in ["data", "16399"] {
            let path = format!("base/{ID}/{name}.tar{}", compression.extension());
            for (injury, injure) in injuries {
                let bed = taken(Bed::new(), compression).await;
                let mut bytes = content(&bed, &path);
                injure(&mut bytes);
                put(&bed, &path, &bytes).await;
                let found = found(&bed).await;
                assert!(found.contains(name), "{path}, {injury}: `{found}`");
                assert!(is_recorded(&bed, "faults") && !is_recorded(&bed, "verified"));
            }
        }
    }
}

#[tokio::test]
async fn every_injury_to_wal_is_found() {
    let other = SystemId(7);
    let cases: [(&str, Vec<u8>, &str); 5] = [
        (
            "another cluster's",
            gzipped(&segment(other, 3)),
            "of the cluster 7",
        ),
        (
            "another segment",
            gzipped(&segment(system_id(), 4)),
            "begins at",
        ),
        (
            "cut off",
            gzipped(&segment(system_id(), 3))[..9000].to_vec(),
            "decompressed",
        ),
        (
            "too short",
            gzipped(&segment(system_id(), 3)[..1 << 20]),
            "bytes",
        ),
        (
            "no segment",
            gzipped(b"nothing"),
            "less than a WAL page header",
        ),
    ];
    for (name, bytes, expected) in cases {
        let bed = taken(Bed::new(), Compression::None).await;
        put(&bed, SEGMENT, &bytes).await;
        let found = found(&bed).await;
        assert!(found.contains(expected), "{name}: `{found}`");
    }
    let bed = taken(Bed::new(), Compression::None).await;
    bed.memory.delete(&[key(SEGMENT)]).await;
    let told = "`wals/000000010000000000000003`: it is missing";
    assert_eq!(found(&bed).await, told);
}

#[tokio::test]
async fn every_injury_to_the_record_is_found() {
    let info = format!("base/{ID}/backup.info");
    let cases = [
        (
            "end_wal=000000010000000000000003",
            "end_wal=000000010000000000000009",
            "does not end in",
        ),
        (
            "begin_xlog=0/3000028",
            "begin_xlog=0/4000028",
            "ends before it begins",
        ),
        (
            "begin_xlog=0/3000028",
            "begin_xlog=0/3000060",
            "starts recovery elsewhere",
        ),
        ("timeline=1", "timeline=2", "another timeline"),
        (
            "end_xlog=0/3000100",
            "end_xlog=None",
            "between which positions",
        ),
        (
            "version=180001",
            "version=170001",
            "`PG_VERSION` is 18, not 17",
        ),
        ("status=DONE", "status=NONSENSE", "status"),
        ("systemid=", "systemid=1", "of the cluster"),
    ];
    for (old, new, expected) in cases {
        let bed = taken(Bed::new(), Compression::None).await;
        let text = String::from_utf8(content(&bed, &info)).expect("a text");
        assert!(text.contains(old), "{old} is not in {text}");
        put(&bed, &info, text.replace(old, new).as_bytes()).await;
        let found = found(&bed).await;
        assert!(found.contains(expected), "{new}: `{found}`");
    }
}

#[tokio::test]
async fn what_lacks_an_object_is_not_sound() {
    for name in ["data.tar", "16399.tar"] {
        let bed = taken(Bed::new(), Compression::None).await;
        let path = format!("base/{ID}/{name}");
        bed.memory.delete(&[key(&path)]).await;
        let found = found(&bed).await;
        assert!(found.contains(&format!("`{path}`: it is gone")), "{found}");
        // Without what was noted when it was sent, `backup.info` tells all the same.
        let noted = format!("barkeep/evidence/{ID}/archives");
        bed.memory.delete(&[key(&noted)]).await;
        let missing = found_without_notes(&bed).await;
        assert!(missing.contains("missing or empty"), "{missing}");
    }
}

async fn found_without_notes(bed: &Bed) -> String {
    let noted = bed.catalog();
    let record = OwnObject::Evidence(format!("{ID}/archives"));
    let record = noted.read_record::<ArchiveEvidence>(record).await;
    assert!(record.expect("read").is_none());
    found(bed).await
}

#[tokio::test]
async fn an_archive_that_others_made_is_held_against_what_the_store_tells() {
    let bed = taken(Bed::new(), Compression::Lz4).await;
    let noted = format!("barkeep/evidence/{ID}/archives");
    bed.memory.delete(&[key(&noted)]).await;
    assert_eq!(found(&bed).await, "");
    let path = format!("base/{ID}/data.tar.lz4");
    let mut bytes = content(&bed, &path);
    cut(&mut bytes);
    put(&bed, &path, &bytes).await;
    assert!(found(&bed).await.contains("data.tar.lz4"));
}

#[tokio::test]
async fn what_is_not_complete_or_changes_meanwhile_is_not_judged() {
    let bed = taken(Bed::new(), Compression::None).await;
    let info = format!("base/{ID}/backup.info");
    let text = String::from_utf8(content(&bed, &info)).expect("a text");
    put(
        &bed,
        &info,
        text.replace("status=DONE", "status=STARTED").as_bytes(),
    )
    .await;
    let error = read_back(&bed).await;
    assert!(
        matches!(error, Err(verify::Error::NotDone(BackupStatus::Started))),
        "{error:?}"
    );
    bed.memory.delete(&[key(&info)]).await;
    let error = read_back(&bed).await;
    assert!(
        matches!(error, Err(verify::Error::NoSuchBackup)),
        "{error:?}"
    );
    let bed = taken(Bed::new(), Compression::None).await;
    bed.cancel.cancel();
    let error = read_back(&bed).await;
    assert!(
        matches!(error, Err(verify::Error::Interrupted)),
        "{error:?}"
    );
    assert!(!is_recorded(&bed, "faults") && !is_recorded(&bed, "verified"));
}

#[tokio::test]
async fn a_result_takes_the_place_of_the_one_before() {
    let bed = taken(Bed::new(), Compression::None).await;
    let path = format!("base/{ID}/data.tar");
    let whole = content(&bed, &path);
    let mut bytes = whole.clone();
    flip(&mut bytes);
    put(&bed, &path, &bytes).await;
    assert!(!read_back(&bed).await.expect("read").is_sound());
    put(&bed, &path, &whole).await;
    assert!(read_back(&bed).await.expect("read").is_sound());
    assert!(is_recorded(&bed, "verified") && !is_recorded(&bed, "faults"));
}
