use proptest::prelude::*;

use super::*;

fn file(name: &[u8], size: u64) -> Entry<'_> {
    Entry {
        name,
        kind: EntryKind::File { size },
        mode: 0o600,
        uid: 26,
        gid: 26,
        owner: "postgres",
        group: "postgres",
        modified: FileTime {
            seconds: 1_700_000_000,
            nanoseconds: 123_456_700,
        },
    }
}

fn archive(fill: impl FnOnce(&mut Writer<Vec<u8>>)) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    fill(&mut writer);
    let archive = writer.finish().expect("memory takes it");
    assert_eq!(archive.len() % 10_240, 0);
    archive
}

/// One line per entry, as an independent reader sees it.
fn listing(archive: &[u8]) -> Vec<String> {
    let mut reader = tar::Archive::new(archive);
    let entries = reader.entries().expect("an archive");
    entries
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let link = entry.link_name_bytes().map_or(String::new(), |target| {
                format!(" -> {}", String::from_utf8_lossy(&target))
            });
            let mtime = entry
                .pax_extensions()
                .expect("readable")
                .and_then(|records| {
                    records
                        .map(|record| record.expect("a record"))
                        .find(|record| record.key() == Ok("mtime"))
                        .map(|record| record.value().expect("text").to_owned())
                });
            let header = entry.header();
            let size = entry.size();
            format!(
                "{:?} {} {size} {:o} {}:{} {}:{} {}{link}",
                header.entry_type(),
                String::from_utf8_lossy(&entry.path_bytes()),
                header.mode().expect("a mode"),
                header.uid().expect("an id"),
                header.gid().expect("an id"),
                header.username().expect("text").unwrap_or(""),
                header.groupname().expect("text").unwrap_or(""),
                mtime.unwrap_or_else(|| header.mtime().expect("a time").to_string()),
            )
        })
        .collect()
}

#[test]
fn every_kind_of_entry_is_read_by_another_reader() {
    let archive = archive(|writer| {
        let with = |name, kind| Entry {
            kind,
            ..file(name, 0)
        };
        writer
            .append(&with(b"./", EntryKind::Directory))
            .expect("fits");
        writer
            .append_file(&file(b"./PG_VERSION", 3), &mut &b"17\n"[..])
            .expect("fits");
        let target = b"/etc/postgresql/postgresql.conf";
        writer
            .append(&with(b"./postgresql.conf", EntryKind::Symlink { target }))
            .expect("fits");
        let target = b"./PG_VERSION";
        writer
            .append(&with(b"base/5/PG_VERSION", EntryKind::HardLink { target }))
            .expect("fits");
        writer
            .append(&with(b"./pipe", EntryKind::Fifo))
            .expect("fits");
        let plain = FileTime {
            seconds: 7,
            nanoseconds: 0,
        };
        let entry = Entry {
            modified: plain,
            owner: "",
            ..file(b"backup_label", 0)
        };
        writer.append(&entry).expect("fits");
    });
    let common = "600 26:26 postgres:postgres 1700000000.1234567";
    assert_eq!(
        listing(&archive),
        [
            format!("Directory ./ 0 {common}"),
            format!("Regular ./PG_VERSION 3 {common}"),
            format!("Symlink ./postgresql.conf 0 {common} -> /etc/postgresql/postgresql.conf"),
            format!("Link base/5/PG_VERSION 0 {common} -> ./PG_VERSION"),
            format!("Fifo ./pipe 0 {common}"),
            "Regular backup_label 0 600 26:26 :postgres 7".to_owned(),
        ]
    );
}

#[test]
fn a_file_keeps_the_size_of_its_header() {
    for (size, content, copied) in [
        (0, 0, Copied::Whole),
        (511, 511, Copied::Whole),
        (512, 512, Copied::Whole),
        (513, 513, Copied::Whole),
        (300_000, 300_000, Copied::Whole),
        (300_000, 299_488, Copied::Padded(512)),
        (8192, 0, Copied::Padded(8192)),
        (8192, 8193, Copied::Cut),
        (0, 1, Copied::Cut),
    ] {
        let bytes = vec![b'x'; content];
        let archive = archive(|writer| {
            let result = writer.append_file(&file(b"base/1", size), &mut &bytes[..]);
            assert_eq!(result.expect("fits"), copied, "{size} of {content}");
        });
        let mut reader = tar::Archive::new(&archive[..]);
        let mut read = Vec::new();
        let mut entries = reader.entries().expect("an archive");
        let mut entry = entries.next().expect("one entry").expect("a header");
        entry.read_to_end(&mut read).expect("memory takes it");
        let mut expected = bytes;
        expected.resize(size.try_into().expect("small"), 0);
        assert!(read == expected, "{size} of {content}");
    }
}

#[test]
fn eight_gibibytes_and_large_ids_are_told_by_records() {
    let mut writer = Writer::new(Vec::new());
    let entry = Entry {
        uid: 4_000_000_000,
        ..file(b"base/5/16384", 8 << 30)
    };
    writer.header(&entry).expect("memory takes it");
    let archive = writer.sink;
    let records = String::from_utf8_lossy(&archive[512..1024]);
    assert!(records.contains("19 size=8589934592\n"), "{records}");
    assert!(records.contains("18 uid=4000000000\n"), "{records}");
    let mut reader = tar::Archive::new(&archive[..]);
    let mut entries = reader.entries().expect("an archive");
    assert_eq!(
        entries.next().expect("one").expect("a header").size(),
        8 << 30
    );
}

#[test]
fn a_time_is_written_without_loss() {
    let text = |seconds, nanoseconds| {
        decimal(FileTime {
            seconds,
            nanoseconds,
        })
    };
    assert_eq!(text(1_700_000_000, 999_999_999), "1700000000.999999999");
    assert_eq!(text(10, 500_000_000), "10.5");
    assert_eq!(text(-2, 500_000_000), "-1.5");
    assert_eq!(text(-100, 0), "-100");
}

#[test]
fn names_are_barmans() {
    let name = |path: &str, kind| {
        String::from_utf8(data_directory_name(Path::new(path), kind)).expect("text")
    };
    let file = EntryKind::File { size: 1 };
    assert_eq!(name("", EntryKind::Directory), "./");
    assert_eq!(name("base", EntryKind::Directory), "base/");
    assert_eq!(name("PG_VERSION", file), "./PG_VERSION");
    assert_eq!(name("link", EntryKind::Symlink { target: b"x" }), "./link");
    assert_eq!(name("base/5/1259", file), "base/5/1259");
    let path = Path::new("PG_17_202406281");
    assert_eq!(
        tablespace_name(path, EntryKind::Directory),
        b"PG_17_202406281/"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told_apart_from_a_full_sink() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    let mut writer = Writer::new(Vec::new());
    let error = writer.append_file(&file(b"base/1", 9), &mut Broken);
    assert!(matches!(error, Err(Error::Read { path, .. }) if path == "base/1"));
    let mut room = [0_u8; 600];
    let mut writer = Writer::new(&mut room[..]);
    let error = writer.append_file(&file(b"base/1", 9), &mut &b"123456789"[..]);
    assert!(matches!(error, Err(Error::Write { .. })));
}

proptest! {
    #[test]
    fn any_name_and_link_is_read_as_it_was_written(
        name in "[a-zäß€ /.]{1,300}",
        target in "[a-zäß€ /.]{1,300}",
        modified in (-1_000_000_000_000_i64..1_000_000_000_000, 0_u32..1_000_000_000),
    ) {
        let entry = Entry {
            kind: EntryKind::Symlink { target: target.as_bytes() },
            modified: FileTime { seconds: modified.0, nanoseconds: modified.1 },
            ..file(name.as_bytes(), 0)
        };
        let archive = archive(|writer| writer.append(&entry).expect("fits"));
        let mut reader = tar::Archive::new(&archive[..]);
        let mut entries = reader.entries().expect("an archive");
        let read = entries.next().expect("one").expect("a header");
        let path = read.path_bytes();
        prop_assert_eq!(path.as_ref(), name.as_bytes());
        let link = read.link_name_bytes().expect("a link");
        prop_assert_eq!(link.as_ref(), target.as_bytes());
    }
}
