//! WAL through the plugin: archive, spool, markers, the end of the archive.

use std::{fs, path::PathBuf};

use crate::{
    place::{Place, Whose},
    plugin::{ObjectStore, Plugin, SERVER, Status},
};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Each test with barkeep's commands and with Barman's.
macro_rules! of_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use crate::place::Whose;

            #[test]
            fn barkeep() {
                super::$name(Whose::Barkeep);
            }

            #[test]
            fn barman() {
                super::$name(Whose::Barman);
            }
        }
    )*};
}

of_both! {
    the_first_file_of_a_new_server_needs_an_empty_archive,
    what_waits_is_archived_in_parallel_and_acknowledged_by_markers,
    one_failure_fails_the_call_and_the_others_are_not_sent_again,
    every_compression_and_tag_arrives,
    segments_come_from_the_spool_before_the_store_is_asked,
    the_end_of_the_archive_is_told_once_and_then_as_absence,
    only_absence_is_absence,
    segments_are_fetched_in_any_order_with_arguments_in_between,
}

/// A server whose archiver stands still, with this many segments that wait.
fn behind(whose: Whose, segments: usize) -> Option<(Place, Vec<String>)> {
    let place = Place::new(whose, 17)?;
    place
        .cluster
        .sql("ALTER SYSTEM SET archive_command = '/bin/false'");
    place.cluster.sql("SELECT pg_reload_conf()");
    let names = (0..segments).map(|_| {
        place
            .cluster
            .sql("SELECT pg_logical_emit_message(true, 'x', repeat('x', 4000))");
        place.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())")
    });
    let names = names.collect();
    Some((place, names))
}

fn parallel(max_parallel: usize) -> ObjectStore {
    ObjectStore {
        max_parallel,
        ..ObjectStore::default()
    }
}

/// The keys below the server's WAL, without what they have in common.
fn keys(place: &Place) -> Vec<String> {
    let prefix = format!("some/path/{SERVER}/wals/");
    let listed = place.store.send(
        "GET",
        &format!("/backups?list-type=2&prefix={prefix}"),
        "",
        "",
    );
    let keys = listed.split("<Key>").skip(1);
    let key = |text: &str| text.split('<').next().unwrap_or_default().to_owned();
    keys.map(|text| key(text).trim_start_matches(&prefix).to_owned())
        .collect()
}

/// Where a file goes that PostgreSQL asks for.
fn target(place: &Place) -> PathBuf {
    place.controller().join("recovery/RECOVERYXLOG")
}

fn content(plugin: &Plugin<'_>, name: &str) -> Vec<u8> {
    fs::read(plugin.pgdata().join("pg_wal").join(name)).expect("a segment")
}

fn the_first_file_of_a_new_server_needs_an_empty_archive(whose: Whose) {
    let Some((place, names)) = behind(whose, 2) else {
        return;
    };
    let plugin = Plugin::new(&place, parallel(1));
    let flag = plugin.pgdata().join(".check-empty-wal-archive");
    fs::write(&flag, "").expect("a flag");
    assert_eq!(plugin.archive(&names[0]), Ok(()));
    assert!(!flag.exists(), "it is asked once");
    assert_eq!(plugin.archive(&names[1]), Ok(()));
    fs::write(&flag, "").expect("a flag");
    let refused = plugin
        .archive(&names[1])
        .expect_err("somebody's WAL is there");
    assert!(refused.contains("code: 1"), "{refused}");
    assert!(refused.contains("Expected empty archive"), "{refused}");
    let unreachable = Plugin {
        endpoint: NOWHERE.to_owned(),
        ..Plugin::new(&place, parallel(1))
    };
    let refused = unreachable.archive(&names[1]).expect_err("nobody answers");
    assert!(refused.contains("code: 2"), "{refused}");
}

fn what_waits_is_archived_in_parallel_and_acknowledged_by_markers(whose: Whose) {
    let Some((place, names)) = behind(whose, 5) else {
        return;
    };
    let mut plugin = Plugin::new(&place, parallel(3));
    assert_eq!(plugin.archive(&names[0]), Ok(()));
    for (name, is_marked) in names.iter().zip([false, true, true, false, false]) {
        assert_eq!(plugin.spool(name).exists(), is_marked, "{name}");
    }
    let directory = &names[0][..16];
    let stored: Vec<_> = names[..3]
        .iter()
        .map(|name| format!("{directory}/{name}"))
        .collect();
    assert_eq!(keys(&place), stored);
    // What a marker answers for needs no store.
    NOWHERE.clone_into(&mut plugin.endpoint);
    assert_eq!(plugin.archive(&names[1]), Ok(()));
    assert!(!plugin.spool(&names[1]).exists(), "a marker answers once");
    assert!(plugin.archive(&names[1]).is_err());
}

fn one_failure_fails_the_call_and_the_others_are_not_sent_again(whose: Whose) {
    let Some((place, names)) = behind(whose, 3) else {
        return;
    };
    let mut plugin = Plugin::new(&place, parallel(8));
    let lost = "0000000100000000000000F0";
    let ready = plugin
        .pgdata()
        .join(format!("pg_wal/archive_status/{lost}.ready"));
    fs::write(&ready, "").expect("a mark");
    let failed = plugin
        .archive(&names[0])
        .expect_err("one file is not there");
    assert!(
        failed.contains(lost) && failed.contains("code: 4"),
        "{failed}"
    );
    assert_eq!(keys(&place).len(), 3);
    assert!(plugin.spool(&names[1]).exists() && plugin.spool(&names[2]).exists());
    assert!(!plugin.spool(lost).exists());
    fs::remove_file(ready).expect("our own mark");
    plugin.object_store = parallel(1);
    // The one that was asked for has no marker and goes once more: it is there already, which is a success.
    assert_eq!(plugin.archive(&names[0]), Ok(()));
}

fn every_compression_and_tag_arrives(whose: Whose) {
    let Some((place, names)) = behind(whose, 6) else {
        return;
    };
    let codecs = [
        ("gzip", ".gz"),
        ("bzip2", ".bz2"),
        ("xz", ".xz"),
        ("snappy", ".snappy"),
        ("zstd", ".zst"),
        ("lz4", ".lz4"),
    ];
    let mut expected = Vec::new();
    for ((codec, extension), name) in codecs.into_iter().zip(&names) {
        let plugin = Plugin::new(
            &place,
            ObjectStore {
                wal_compression: Some(codec),
                encryption: Some("AES256"),
                tags: &["team,db", "app,orders"],
                history_tags: &["kind,history"],
                max_parallel: 1,
                ..ObjectStore::default()
            },
        );
        assert_eq!(plugin.archive(name), Ok(()));
        expected.push(format!("{}/{name}{extension}", &name[..16]));
        assert_eq!(plugin.restore(name, &target(&place)), Status::Ok);
        let restored = fs::read(target(&place)).expect("a file");
        assert!(restored == content(&plugin, name), "{codec}");
    }
    let plugin = Plugin::new(
        &place,
        ObjectStore {
            tags: &["team,db"],
            history_tags: &["kind,history"],
            ..ObjectStore::default()
        },
    );
    let history = "00000002.history";
    let text = "1\t0/5000000\tno recovery target specified\n";
    fs::write(plugin.pgdata().join("pg_wal").join(history), text).expect("a history");
    assert_eq!(plugin.archive(history), Ok(()));
    expected.push(history.to_owned());
    assert_eq!(keys(&place), expected);
    let tags = |key: &str| {
        let path = format!("/backups/some/path/{SERVER}/wals/{key}?tagging");
        place.store.send("GET", &path, "", "")
    };
    let told = tags(&expected[0]);
    for word in ["team", "db", "app", "orders"] {
        assert!(told.contains(&format!(">{word}<")), "{told}");
    }
    let told = tags(history);
    assert!(
        told.contains(">history<") && !told.contains(">team<"),
        "{told}"
    );
    assert_eq!(plugin.restore(history, &target(&place)), Status::Ok);
    assert_eq!(fs::read_to_string(target(&place)).expect("a file"), text);
}

fn segments_come_from_the_spool_before_the_store_is_asked(whose: Whose) {
    let Some((place, names)) = behind(whose, 5) else {
        return;
    };
    let mut plugin = Plugin::new(&place, parallel(8));
    assert_eq!(plugin.archive(&names[0]), Ok(()));
    for name in &names[1..] {
        fs::remove_file(plugin.spool(name)).expect("a marker");
    }
    plugin.object_store = parallel(4);
    assert_eq!(plugin.restore(&names[0], &target(&place)), Status::Ok);
    assert!(fs::read(target(&place)).expect("a file") == content(&plugin, &names[0]));
    for (name, is_spooled) in names.iter().zip([false, true, true, true, false]) {
        assert_eq!(plugin.spool(name).exists(), is_spooled, "{name}");
        assert!(!plugin.spool(&format!("{name}.tmp")).exists());
    }
    NOWHERE.clone_into(&mut plugin.endpoint);
    for name in &names[1..4] {
        assert_eq!(plugin.restore(name, &target(&place)), Status::Ok);
        assert!(fs::read(target(&place)).expect("a file") == content(&plugin, name));
    }
    assert_eq!(
        plugin.restore(&names[4], &target(&place)),
        Status::Unavailable
    );
    let spooled = fs::read_dir(plugin.spool("")).expect("a directory");
    assert_eq!(
        spooled.count(),
        0,
        "nothing else is left in the plugin's directory"
    );
}

fn the_end_of_the_archive_is_told_once_and_then_as_absence(whose: Whose) {
    let Some((place, names)) = behind(whose, 2) else {
        return;
    };
    let mut plugin = Plugin::new(&place, parallel(3));
    plugin.can_stream = true;
    assert_eq!(plugin.archive(&names[0]), Ok(()));
    fs::remove_file(plugin.spool(&names[1])).expect("a marker");
    assert_eq!(plugin.restore(&names[0], &target(&place)), Status::Ok);
    let flag = plugin.spool("end-of-wal-stream");
    assert!(flag.exists(), "the third segment is not there");
    assert_eq!(
        plugin.restore(&names[1], &target(&place)),
        Status::Ok,
        "from the spool"
    );
    let next = "000000010000000000000099";
    assert_eq!(plugin.restore(next, &target(&place)), Status::OutOfRange);
    assert!(!flag.exists());
    assert_eq!(plugin.restore(next, &target(&place)), Status::NotFound);
}

fn only_absence_is_absence(whose: Whose) {
    let Some((place, names)) = behind(whose, 1) else {
        return;
    };
    let plugin = Plugin::new(&place, parallel(1));
    assert_eq!(plugin.archive(&names[0]), Ok(()));
    let absent = ["000000010000000000000099", "00000009.history"];
    for name in absent {
        assert_eq!(
            plugin.restore(name, &target(&place)),
            Status::NotFound,
            "{name}"
        );
    }
    let cases = [
        (NOWHERE, "backups", names[0].as_str(), Status::Unavailable),
        (
            &plugin.endpoint,
            "no-such-bucket",
            &names[0],
            Status::Unavailable,
        ),
        (
            &plugin.endpoint,
            "backups",
            "RECOVERYXLOG",
            Status::InvalidArgument,
        ),
    ];
    for (endpoint, bucket, name, expected) in cases {
        let plugin = Plugin {
            endpoint: endpoint.to_owned(),
            bucket,
            ..Plugin::new(&place, parallel(1))
        };
        assert_eq!(
            plugin.restore(name, &target(&place)),
            expected,
            "{endpoint} {bucket} {name}"
        );
        assert!(!target(&place).exists());
    }
    let nowhere = place.controller().join("missing/RECOVERYXLOG");
    assert_eq!(plugin.restore(&names[0], &nowhere), Status::Unavailable);
}

fn segments_are_fetched_in_any_order_with_arguments_in_between(whose: Whose) {
    let Some((place, names)) = behind(whose, 3) else {
        return;
    };
    let plugin = Plugin::new(
        &place,
        ObjectStore {
            wal_compression: Some("lz4"),
            restore_arguments: &["--read-timeout=60", "--addressing-style", "path"],
            max_parallel: 3,
            ..ObjectStore::default()
        },
    );
    assert_eq!(plugin.archive(&names[0]), Ok(()));
    for name in &names[1..] {
        fs::remove_file(plugin.spool(name)).expect("a marker");
    }
    // As pg_rewind asks: backwards, and with nothing fetched ahead.
    let rewinding = Plugin {
        object_store: ObjectStore {
            max_parallel: 1,
            ..plugin.object_store.clone()
        },
        ..Plugin::new(&place, ObjectStore::default())
    };
    for name in names.iter().rev() {
        assert_eq!(rewinding.restore(name, &target(&place)), Status::Ok);
        assert!(fs::read(target(&place)).expect("a file") == content(&plugin, name));
    }
}
