use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use proptest::prelude::*;

use super::*;
use crate::pipeline::tar::{self, Writer};

const OPTIONS: Options = Options {
    ownership: Ownership::Process,
    symlinks: Symlinks::Any,
};

/// A directory to extract into, beside something that must stay as it is.
struct Bed {
    _directory: tempfile::TempDir,
    inside: PathBuf,
    outside: PathBuf,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).expect("an empty directory takes it");
        fs::write(outside.join("precious"), "precious").expect("a new file");
        Self {
            inside: directory.path().join("inside"),
            outside,
            _directory: directory,
        }
    }

    fn extract(&self, archive: &[u8], options: Options) -> Result<Extracted, Error> {
        let destination = Destination::open(&self.inside, options)?;
        let extracted = destination.extract(archive);
        destination.finish(Durability::Leave)?;
        extracted
    }

    fn assert_outside_is_untouched(&self, what: &str) {
        let names: Vec<_> = fs::read_dir(&self.outside)
            .expect("it still exists")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        assert_eq!(names, ["precious"], "{what}");
        let precious = self.outside.join("precious");
        let content = fs::read(&precious).expect("it still exists");
        assert_eq!(content, b"precious", "{what}");
        let links = fs::metadata(&precious).expect("it still exists").nlink();
        assert_eq!(links, 1, "{what}");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.inside.join(name)).expect("it was extracted")
    }
}

#[derive(Clone, Copy)]
enum Item<'a> {
    Directory(&'a str),
    File(&'a str, &'a str),
    Symlink(&'a str, &'a str),
    HardLink(&'a str, &'a str),
    Fifo(&'a str),
}

fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for &item in items {
        let (name, kind, content) = match item {
            Item::Directory(name) => (name, tar::EntryKind::Directory, ""),
            Item::File(name, content) => {
                let size = content.len() as u64;
                (name, tar::EntryKind::File { size }, content)
            }
            Item::Symlink(name, target) => {
                let target = target.as_bytes();
                (name, tar::EntryKind::Symlink { target }, "")
            }
            Item::HardLink(name, target) => {
                let target = target.as_bytes();
                (name, tar::EntryKind::HardLink { target }, "")
            }
            Item::Fifo(name) => (name, tar::EntryKind::Fifo, ""),
        };
        let entry = tar::Entry {
            name: name.as_bytes(),
            kind,
            mode: if kind == tar::EntryKind::Directory {
                0o750
            } else {
                0o640
            },
            uid: 26,
            gid: 26,
            owner: "postgres",
            group: "postgres",
            modified: FileTime {
                seconds: 1_700_000_000,
                nanoseconds: 987_654_321,
            },
        };
        writer
            .append_file(&entry, &mut content.as_bytes())
            .expect("memory takes it");
    }
    writer.finish().expect("memory takes it")
}

#[test]
fn everything_comes_back_as_it_was() {
    let bed = Bed::new();
    let long = format!("base/{}/1259", "5".repeat(120));
    let bytes = archive(&[
        Item::Directory("./"),
        Item::File("./PG_VERSION", "17\n"),
        Item::Directory("base/"),
        Item::File(&long, "long"),
        Item::File("base/größe", ""),
        Item::Symlink(
            "./postgresql.conf",
            "/etc/postgresql/17/main/postgresql.conf",
        ),
        Item::HardLink("base/PG_VERSION", "./PG_VERSION"),
        Item::Fifo("./pipe"),
    ]);
    let extracted = bed.extract(&bytes, OPTIONS).expect("extractable");
    assert_eq!(
        (extracted.entries, extracted.files, extracted.bytes),
        (8, 3, 7)
    );
    let special: Vec<_> = extracted
        .special
        .iter()
        .map(|special| &special.name[..])
        .collect();
    assert_eq!(
        special,
        [&b"./postgresql.conf"[..], b"base/PG_VERSION", b"./pipe"]
    );

    let stat = |name: &str| fs::symlink_metadata(bed.inside.join(name)).expect("extracted");
    assert_eq!(bed.read("PG_VERSION"), "17\n");
    assert_eq!(bed.read(&long), "long");
    assert_eq!(stat("PG_VERSION").ino(), stat("base/PG_VERSION").ino());
    assert_eq!(stat("base/größe").len(), 0);
    assert!(stat("postgresql.conf").file_type().is_symlink());
    for name in ["", "base", "PG_VERSION", "pipe", "postgresql.conf"] {
        let (seconds, nanoseconds) = (stat(name).mtime(), stat(name).mtime_nsec());
        assert_eq!(
            (seconds, nanoseconds),
            (1_700_000_000, 987_654_321),
            "{name}"
        );
    }
    for (name, mode) in [
        ("", 0o40_750),
        ("base", 0o40_750),
        ("PG_VERSION", 0o100_640),
    ] {
        assert_eq!(stat(name).permissions().mode(), mode, "{name}");
    }
}

#[test]
fn nothing_leaves_the_directory() {
    let bed = Bed::new();
    let outside = bed.outside.to_str().expect("text").to_owned();
    let absolute = format!("{outside}/new");
    let precious = format!("{outside}/precious");
    for items in [
        &[Item::File(&absolute, "x")][..],
        &[Item::Directory(&outside)],
        &[Item::File("../outside/new", "x")],
        &[Item::File("a/../../outside/new", "x")],
        &[Item::File("..", "x")],
        &[Item::Symlink("../outside/new", "x")],
        &[Item::Fifo("../outside/new")],
        &[Item::Symlink("link", &outside), Item::File("link/new", "x")],
        &[
            Item::Symlink("link", "../outside"),
            Item::File("link/new", "x"),
        ],
        &[
            Item::Symlink("link", "../outside"),
            Item::Directory("link/new/"),
        ],
        &[
            Item::Symlink("link", "../outside"),
            Item::Directory("link/"),
        ],
        &[
            Item::Symlink("link", &outside),
            Item::Symlink("link/new", "x"),
        ],
        &[
            Item::Symlink("link", &outside),
            Item::HardLink("new", "link/precious"),
        ],
        &[
            Item::Directory("a/"),
            Item::Symlink("a/b", ".."),
            Item::File("a/b/c/../x", "x"),
        ],
        &[
            Item::Symlink("file", &precious),
            Item::HardLink("new", "file"),
            Item::File("new", "x"),
        ],
        &[Item::HardLink("new", &precious), Item::File("new", "x")],
        &[Item::HardLink("new", "../outside/precious")],
        &[Item::File("./", "x")],
        &[Item::Directory("a/"), Item::File("a", "x")],
        &[Item::Directory("a/"), Item::Symlink("a", &outside)],
        &[Item::File("a", "x"), Item::File("a/b", "x")],
    ] {
        let _earlier = fs::remove_dir_all(&bed.inside);
        let names = format!("{:?}", archive_names(&archive(items)));
        bed.extract(&archive(items), OPTIONS).expect_err(&names);
        bed.assert_outside_is_untouched(&names);
    }
}

fn archive_names(archive: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(archive);
    std::iter::from_fn(|| {
        reader
            .next_entry()
            .expect("whole")
            .map(|entry| display(&entry.name))
    })
    .collect()
}

#[test]
fn a_link_that_was_there_before_is_not_followed() {
    let bed = Bed::new();
    fs::create_dir(&bed.inside).expect("new");
    std::os::unix::fs::symlink(&bed.outside, bed.inside.join("pg_wal")).expect("new");
    let error = bed.extract(&archive(&[Item::File("pg_wal/new", "x")]), OPTIONS);
    assert!(matches!(error, Err(Error::Create { .. })));
    bed.assert_outside_is_untouched("an existing link");
}

#[test]
fn the_last_entry_of_a_name_wins_and_writes_through_nothing() {
    let bed = Bed::new();
    let precious = bed.outside.join("precious");
    let bytes = archive(&[
        Item::File("a", "first"),
        Item::File("./a", "last"),
        Item::Symlink("b", precious.to_str().expect("text")),
        Item::File("b", "mine"),
        Item::File("c", "a file"),
        Item::Symlink("c", "a"),
        Item::File("d", "one"),
        Item::HardLink("e", "d"),
        Item::HardLink("e", "d"),
        Item::HardLink("d", "d"),
        Item::File("e", "two"),
    ]);
    bed.extract(&bytes, OPTIONS).expect("extractable");
    assert_eq!(bed.read("a"), "last");
    assert_eq!(bed.read("b"), "mine");
    assert_eq!(bed.read("c"), "last");
    assert_eq!(
        (bed.read("d"), bed.read("e")),
        ("one".to_owned(), "two".to_owned())
    );
    bed.assert_outside_is_untouched("the last wins");
}

#[test]
fn symbolic_links_are_made_as_far_as_allowed() {
    for (target, refuse, inside, any) in [
        ("/etc/passwd", false, false, true),
        ("../../x", false, false, true),
        ("..", false, true, true),
        ("x", false, true, true),
        ("../b/../../x", false, false, true),
    ] {
        for (symlinks, is_made) in [
            (Symlinks::Refuse, refuse),
            (Symlinks::Inside, inside),
            (Symlinks::Any, any),
        ] {
            let options = Options {
                symlinks,
                ..OPTIONS
            };
            let extracted = Bed::new().extract(&archive(&[Item::Symlink("a/l", target)]), options);
            assert_eq!(extracted.is_ok(), is_made, "{target} {symlinks:?}");
        }
    }
}

#[test]
fn an_archive_cut_off_anywhere_is_an_error() {
    let whole = archive(&[
        Item::Directory("./"),
        Item::File("a", &"x".repeat(1000)),
        Item::File("b", ""),
    ]);
    // 11 blocks of headers, records and content, and the end mark.
    let end = 13 * 512;
    for length in (0..end).step_by(100).chain((0..end).step_by(512)) {
        let error = Bed::new()
            .extract(&whole[..length], OPTIONS)
            .expect_err("cut");
        assert!(matches!(error, Error::Truncated), "{length}: {error}");
    }
    Bed::new()
        .extract(&whole[..end], OPTIONS)
        .expect("padding is not needed");
}

#[test]
fn a_damaged_header_is_an_error() {
    let mut bytes = archive(&[Item::File("a", "x"), Item::File("b", "y")]);
    // The name in the second file's header: two pax blocks, header and content come before.
    bytes[4 * 512 + 2 * 512] ^= 1;
    let error = Bed::new().extract(&bytes, OPTIONS).expect_err("damaged");
    assert_eq!(
        error.to_string(),
        "the archive is damaged: a header with a wrong checksum before byte 3584"
    );
    assert_eq!(error.kind(), Kind::Verification);
}

#[test]
fn a_device_is_refused() {
    let mut header = ::tar::Header::new_ustar();
    header.set_entry_type(::tar::EntryType::Char);
    header.set_size(0);
    header.set_path("null").expect("short");
    header.set_cksum();
    let mut builder = ::tar::Builder::new(Vec::new());
    builder
        .append(&header, io::empty())
        .expect("memory takes it");
    let bytes = builder.into_inner().expect("memory takes it");
    let error = Bed::new().extract(&bytes, OPTIONS).expect_err("a device");
    assert!(matches!(error, Error::Unsupported { name } if name == "null"));
}

#[test]
fn long_names_and_large_numbers_of_gnu_tar_are_understood() {
    let name = "d/".repeat(80) + "file";
    let mut header = ::tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o600);
    header.set_uid(3_000_000_000);
    header.set_mtime(1 << 34);
    let mut builder = ::tar::Builder::new(Vec::new());
    builder
        .append_data(&mut header, &name, &b"abc"[..])
        .expect("memory takes it");
    let bytes = builder.into_inner().expect("memory takes it");
    let mut reader = Reader::new(&bytes[..]);
    let entry = reader.next_entry().expect("readable").expect("one entry");
    assert_eq!(entry.name, name.as_bytes());
    assert_eq!((entry.size, entry.uid), (3, 3_000_000_000));
    assert_eq!(entry.modified.seconds, 1 << 34);
    assert_eq!(reader.next_entry().expect("readable"), None);
}

#[test]
fn archives_are_extracted_side_by_side() {
    let bed = Bed::new();
    let destination = Destination::open(&bed.inside, OPTIONS).expect("new");
    std::thread::scope(|scope| {
        for part in 0..4 {
            let destination = &destination;
            scope.spawn(move || {
                for file in 0..20 {
                    let name = format!("base/{}/{part}_{file}", file % 5);
                    let bytes = archive(&[Item::Directory("base/"), Item::File(&name, &name)]);
                    destination.extract(&bytes[..]).expect("extractable");
                }
            });
        }
    });
    destination
        .finish(Durability::SyncFileSystem)
        .expect("the disk takes it");
    assert_eq!(bed.read("base/4/3_19"), "base/4/3_19");
}

#[test]
fn a_directory_that_nobody_may_write_still_gets_its_content() {
    let bed = Bed::new();
    let mut bytes = archive(&[Item::Directory("closed/"), Item::File("closed/a", "x")]);
    // The directory's header comes after two blocks of pax; its mode is at 100.
    let header = &mut bytes[1024..1536];
    header[100..107].copy_from_slice(b"0000500");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    bed.extract(&bytes, OPTIONS).expect("extractable");
    assert_eq!(bed.read("closed/a"), "x");
    let closed = bed.inside.join("closed");
    let mode = fs::metadata(&closed)
        .expect("extracted")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o500);
    // So that the directory can be removed.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("ours");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_broken_archive_breaks_nothing(
        flips in prop::collection::vec((0_usize..6000, any::<u8>()), 1..8),
        with_checksum in any::<bool>(),
    ) {
        let bed = Bed::new();
        let outside = bed.outside.to_str().expect("text").to_owned();
        let mut bytes = archive(&[
            Item::Symlink("link", &outside),
            Item::File("link2", "content"),
            Item::HardLink("other", "link2"),
            Item::Directory("dir/"),
        ]);
        for (at, byte) in flips {
            bytes[at] = byte;
            let header = &mut bytes[at / 512 * 512..][..512];
            if with_checksum && &header[257..262] == b"ustar" {
                header[148..156].fill(b' ');
                let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
                header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            }
        }
        let _either = bed.extract(&bytes, OPTIONS);
        bed.assert_outside_is_untouched("a broken archive");
    }
}
