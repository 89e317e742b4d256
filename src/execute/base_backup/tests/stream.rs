//! Backups that a made-up server sends.

use std::collections::VecDeque;

use bytes::Bytes;

use super::*;
use crate::{
    pipeline::{
        checksum::{Algorithm, Checksum},
        tar::{Entry, EntryKind, FileTime, Writer},
    },
    postgres::replication::Location,
};

/// What happens when the server is asked for the next piece.
#[derive(Clone, Debug)]
pub(super) enum Sends {
    Piece(Piece),
    /// Nothing, for ever.
    Silence,
    Failure,
}

/// What the server has to send.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending {
    pub(super) pieces: VecDeque<Sends>,
    pub(super) has_end_marks: bool,
}

/// An entry of one of the server's archives: a directory has no content.
type Sent = (&'static str, Option<Vec<u8>>);

fn data() -> Vec<Sent> {
    vec![
        (
            "backup_label",
            Some(b"START WAL LOCATION: 0/3000028\n".to_vec()),
        ),
        ("tablespace_map", Some(b"16399 /ts\n".to_vec())),
        ("standby.signal", Some(Vec::new())),
        ("base/", None),
        ("base/5/", None),
        ("base/5/1259", Some(vec![7; 20_000])),
        ("pg_tblspc/", None),
        ("PG_VERSION", Some(b"18\n".to_vec())),
        ("global/pg_control", Some(vec![1; 8192])),
    ]
}

fn space() -> Vec<Sent> {
    vec![
        ("PG_18_202506291/", None),
        ("PG_18_202506291/5/", None),
        ("PG_18_202506291/5/16400", Some(vec![1; 9000])),
    ]
}

/// An archive as a server builds it, with the mark at its end or without.
fn tar(entries: &[Sent], has_end_mark: bool) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in entries {
        let kind = match content {
            Some(content) => EntryKind::File {
                size: content.len() as u64,
            },
            None => EntryKind::Directory,
        };
        let entry = Entry {
            name: name.as_bytes(),
            kind,
            mode: 0o700,
            uid: 70,
            gid: 70,
            owner: "postgres",
            group: "postgres",
            modified: FileTime::default(),
        };
        match content {
            Some(content) => writer
                .append_file(&entry, &mut content.as_slice())
                .map(|_| ()),
            None => writer.append(&entry),
        }
        .expect("memory takes it");
    }
    let length = usize::try_from(writer.written()).expect("a small archive");
    let mut archive = writer.finish().expect("memory takes it");
    archive.truncate(if has_end_mark { length + 1024 } else { length });
    archive
}

/// The manifest that a server sends of archives.
fn manifest(archives: &[(&str, &[Sent])]) -> String {
    let mut lines = Vec::new();
    for (prefix, entries) in archives {
        let files = entries
            .iter()
            .filter_map(|(name, content)| Some((name, content.as_ref()?)));
        for (name, content) in files {
            let crc = crc32c::crc32c(content).to_le_bytes();
            let crc = u32::from_be_bytes(crc);
            let size = content.len();
            lines.push(format!(
                "{{ \"Path\": \"{prefix}{name}\", \"Size\": {size}, \
                 \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{crc:08x}\" }}"
            ));
        }
    }
    let text = format!("{{ \"Files\": [\n{}\n],\n", lines.join(",\n"));
    let digest = Checksum::of(Algorithm::Sha256, text.as_bytes()).to_hex();
    format!("{text}\"Manifest-Checksum\": \"{digest}\"}}\n")
}

/// A server that sends these archives, and the manifest of what it should have sent.
fn sending(archives: &[(Location, Vec<u8>)], manifest: &str) -> VecDeque<Sends> {
    let mut pieces = VecDeque::new();
    let mut push = |piece| pieces.push_back(Sends::Piece(piece));
    for (location, archive) in archives {
        push(Piece::Archive(location.clone()));
        for chunk in archive.chunks(3000) {
            push(Piece::Data(Bytes::copy_from_slice(chunk)));
        }
    }
    push(Piece::Manifest);
    for chunk in manifest.as_bytes().chunks(100) {
        push(Piece::Data(Bytes::copy_from_slice(chunk)));
    }
    pieces
}

impl Bed {
    /// A bed whose server sends its data directory and a tablespace.
    fn sent() -> Self {
        Self::sent_as(&Location::Tablespace(16399), true)
    }

    fn sent_as(location: &Location, has_end_marks: bool) -> Self {
        let mut bed = Self::new();
        bed.request.method = Method::Stream;
        let whole = manifest(&[("pg_tblspc/16399/", &space()), ("", &data())]);
        let archives = [
            (location.clone(), tar(&space(), has_end_marks)),
            (Location::Data, tar(&data(), has_end_marks)),
        ];
        bed.postgres.sends = Sending {
            pieces: sending(&archives, &whole),
            has_end_marks,
        };
        bed
    }

    /// The same, with something else in place of a piece in the middle of the second archive.
    fn sent_until(then: Sends) -> Self {
        let mut bed = Self::sent();
        let pieces = &mut bed.postgres.sends.pieces;
        pieces.truncate(8);
        pieces.push_back(then);
        bed
    }
}

const MANIFEST: &str = "barkeep/manifest/20261120T030000";

#[tokio::test]
async fn what_is_sent_becomes_the_archives_that_barman_expects() {
    for has_end_marks in [true, false] {
        let bed = Bed::sent_as(&Location::Tablespace(16399), has_end_marks);
        let taken = bed.take().await.expect("a backup");
        assert_eq!((taken.state, taken.files), (TakenState::Done, 5));
        assert_eq!(
            bed.keys(),
            [
                "barkeep/evidence/20261120T030000/archives",
                MANIFEST,
                "base/20261120T030000/16399.tar",
                "base/20261120T030000/backup.info",
                "base/20261120T030000/data.tar",
            ]
        );
        let archives = bed.archives().await;
        assert_eq!(
            archives["data.tar"],
            [
                "./backup_label",
                "./",
                "base/",
                "base/5/",
                "base/5/1259",
                "pg_tblspc/",
                "./PG_VERSION",
                "global/pg_control",
            ],
            "without the map of tablespaces and the signal, and with an entry of its own"
        );
        let space: Vec<_> = space().iter().map(|(name, _)| *name).collect();
        assert_eq!(archives["16399.tar"], space);
        let info = bed.catalog().read_info(&BackupId::new(ID)).await;
        let info = info.expect("readable").expect("a record").info;
        let label = info.get("backup_label").expect("a label");
        assert!(label.contains("START WAL LOCATION: 0/3000028"), "{label}");
    }
}

#[tokio::test]
async fn a_tablespace_in_place_is_a_part_of_the_data_directory() {
    let bed = Bed::sent_as(&Location::InPlace(16399), true);
    bed.take().await.expect("a backup");
    let archives = bed.archives().await;
    let data = &archives["data.tar"];
    let inside = "pg_tblspc/16399/PG_18_202506291/5/16400".to_owned();
    assert!(data.contains(&inside), "{data:?}");
}

#[tokio::test]
async fn what_is_sent_is_split_like_any_other_backup() {
    let mut bed = Bed::sent();
    bed.request.files.max_archive_bytes = 90_000;
    bed.take().await.expect("a backup");
    let archives = bed.archives().await;
    let names: Vec<_> = archives.keys().map(String::as_str).collect();
    assert_eq!(names, ["16399.tar", "data.tar", "data_0001.tar"]);
    assert!(archives["data.tar"].contains(&"./backup_label".to_owned()));
}

/// Why a backup failed, which leaves no upload and no manifest.
async fn failed(bed: &Bed) -> String {
    let error = bed.take().await.expect_err("no backup");
    assert!(!bed.keys().contains(&MANIFEST.to_owned()));
    let uploads = bed.catalog().store().list_uploads("orders/").await;
    assert_eq!(uploads.expect("a list").len(), 0);
    let status = bed.status().await;
    assert!(
        status.starts_with("FAILED: failure uploading data ("),
        "{status}"
    );
    crate::failure::chain(&error)
}

#[tokio::test]
async fn a_byte_that_differs_fails_the_backup() {
    let mut bed = Bed::sent();
    let changed = bed.postgres.sends.pieces.iter_mut().rev();
    let mut data = changed.filter_map(|sends| match sends {
        Sends::Piece(Piece::Data(bytes)) if bytes.len() == 3000 => Some(bytes),
        _ => None,
    });
    let bytes = data.next().expect("a piece of an archive");
    let mut changed = bytes.to_vec();
    changed[0] ^= 1;
    *bytes = changed.into();
    let error = failed(&bed).await;
    assert!(error.contains("its checksum differs"), "{error}");
}

#[tokio::test]
async fn a_session_that_ends_half_way_fails_the_backup() {
    let error = failed(&Bed::sent_until(Sends::Failure)).await;
    assert!(error.starts_with("cannot receive the backup: "), "{error}");
}

#[tokio::test]
async fn an_interruption_ends_the_wait_for_the_server() {
    let bed = Bed::sent_until(Sends::Silence);
    let cancel = bed.cancel.clone();
    let stopping = async {
        tokio::task::yield_now().await;
        cancel.cancel();
    };
    let (error, ()) = futures_util::join!(failed(&bed), stopping);
    assert_eq!(error, "interrupted");
}

#[tokio::test]
async fn what_a_backup_was_to_build_on_forgets_it_if_it_never_came_to_be() {
    let mut bed = Bed::sent();
    let parent = BackupId::new("20261101T020000");
    let catalog = bed.catalog();
    let info = "status=DONE\nserver_name=cloud\n".to_owned();
    let object = ObjectKey::info(&parent);
    let written = catalog.write(&object, info, PutMode::Create).await;
    written.expect("memory");
    bed.request.parent = Some(parent.clone());
    let error = bed.take().await.expect_err("the parent has no manifest");
    let error = crate::failure::chain(&error);
    assert!(error.starts_with("cannot read the manifest"), "{error}");
    let parent = catalog.read_info(&parent).await.expect("memory");
    assert!(parent.expect("it is there").info.children().is_empty());
    assert!(!bed.keys().iter().any(|key| key.starts_with("barkeep/")));
}
