//! `backup.info` in both directions: what Barman writes of random values is what we write of them,
//! and what it reads from a text is what we read.

use std::fmt;

use barkeep::{
    format::{
        backup_info::{BackupInfo, Settings, Started, Stopped, render_time},
        python::Value as Literal,
    },
    model::{
        backup::{Backup, BackupId, BackupStatus, Tablespace},
        time::Timestamp,
        timeline::TimelineId,
        wal::{Lsn, SegmentSize, SystemId},
    },
};
use serde_json::{Map, Value, json};

use crate::{
    support::{dice::Dice, peer::Peer},
    world::zone,
};

const RECORDS: u64 = 400;

/// Characters that Python escapes, quotes or leaves alone.
const CHARACTERS: [char; 20] = [
    'a',
    'Z',
    '0',
    ' ',
    '=',
    '#',
    '\'',
    '"',
    '\\',
    'é',
    '語',
    '🐘',
    '\u{301}',
    '\u{a0}',
    '\u{ad}',
    '\u{200b}',
    '\u{2028}',
    '\u{e000}',
    '\u{7f}',
    '\u{10ffff}',
];

fn text(dice: &mut Dice, more: &[char]) -> String {
    let all: Vec<char> = CHARACTERS.iter().chain(more).copied().collect();
    let length = dice.roll(12);
    // Barman trims values, so a text that is not quoted begins and ends with a letter.
    let inner: String = (0..length).map(|_| dice.pick(&all)).collect();
    format!("x{inner}x")
}

fn instant(dice: &mut Dice) -> Timestamp {
    let seconds = i64::try_from(1_700_000_000 + dice.roll(100_000_000)).expect("small");
    let whole = Timestamp::from_unix_seconds(seconds).expect("within the calendar");
    let micros = dice.pick(&[0, 0, 1, 130_666, 500_000, 999_999]);
    whole + std::time::Duration::from_micros(micros)
}

fn lsn(dice: &mut Dice) -> Lsn {
    Lsn((dice.roll(3) << 32) + dice.roll(1 << 32))
}

fn float(dice: &mut Dice) -> Literal {
    let digits = f64::from(u32::try_from(dice.roll(1 << 32)).expect("32 bits"));
    let exponent = i32::try_from(dice.roll(60)).expect("small") - 30;
    Literal::Float(digits / 1e6 * 10_f64.powi(exponent))
}

/// A record of random values, and the same as Python literals by field.
fn record(dice: &mut Dice) -> (BackupInfo, Map<String, Value>) {
    let breaks = ['\n', '\r', '\t', '\0', '\x1b'];
    let tablespaces = (0..dice.roll(3)).map(|_| Tablespace {
        name: text(dice, &breaks),
        oid: u32::try_from(dice.roll(1 << 32)).expect("32 bits"),
        location: text(dice, &breaks).into(),
    });
    let tablespaces: Vec<_> = tablespaces.collect();
    let path = |dice: &mut Dice| Some(text(dice, &[]).into());
    let start = Started {
        server_name: dice.percent(50).then(|| text(dice, &[])),
        version: 180_001,
        system_id: dice.percent(80).then(|| SystemId(dice.roll(u64::MAX))),
        segment_size: SegmentSize::new(dice.pick(&[1 << 20, 16 << 20, 1 << 30])).expect("a size"),
        pgdata: text(dice, &[]).into(),
        tablespaces,
        time: instant(dice),
        lsn: lsn(dice),
        timeline: TimelineId::new(u32::try_from(1 + dice.roll(20)).expect("small")).expect("not 0"),
        settings: Settings {
            config_file: path(dice),
            hba_file: None,
            ident_file: path(dice),
            included_files: (0..dice.roll(3))
                .map(|_| text(dice, &breaks).into())
                .collect(),
            data_checksums: Some(dice.pick(&["on", "off"]).to_owned()),
            summarize_wal: None,
            cluster_size: dice.percent(50).then(|| dice.roll(1 << 50)),
        },
    };
    let mut info = BackupInfo::started(&start);
    let mut fields = Map::new();
    put_start(&mut fields, &start);
    match dice.roll(3) {
        0 => {
            let error = text(dice, &[]);
            info.set_failed(&error);
            put(&mut fields, "status", Literal::from("FAILED"));
            put(&mut fields, "error", Literal::Str(error));
        }
        1 => {
            let stop = stop(dice, &start);
            info.set_stopped(&stop, start.segment_size);
            info.set_status(BackupStatus::Done);
            put(&mut fields, "status", Literal::from("DONE"));
            put_stop(&mut fields, &stop, start.segment_size);
            if dice.percent(50) {
                let name = text(dice, &[]);
                info.set_name(Some(&name));
                put(&mut fields, "backup_name", Literal::Str(name));
            }
        }
        _ => put(&mut fields, "status", Literal::from("STARTED")),
    }
    (info, fields)
}

fn stop(dice: &mut Dice, start: &Started) -> Stopped {
    let mut item = |_| (Literal::Str(text(dice, &[])), float(dice));
    let items: Vec<_> = (0..3).map(&mut item).collect();
    let stats = vec![
        (Literal::from("total_time"), float(dice)),
        (Literal::from("workers"), Literal::Int(2)),
        (Literal::from("items"), Literal::Dict(items)),
    ];
    Stopped {
        time: instant(dice),
        lsn: Lsn(start.lsn.0 + dice.roll(1 << 30)),
        timeline: start.timeline,
        backup_label: text(dice, &['\n', '\t']),
        copy_stats: Some(Literal::Dict(stats)),
    }
}

fn put(fields: &mut Map<String, Value>, name: &str, value: impl fmt::Display) {
    fields.insert(name.to_owned(), Value::String(value.to_string()));
}

fn time(instant: Timestamp) -> Literal {
    Literal::Str(instant.utc().to_rfc3339())
}

fn put_start(fields: &mut Map<String, Value>, start: &Started) {
    let string = |path: &std::path::Path| Literal::Str(path.to_string_lossy().into_owned());
    let size = start.segment_size;
    let name = start.server_name.as_deref().unwrap_or("cloud");
    put(fields, "server_name", Literal::from(name));
    put(fields, "version", Literal::Int(start.version.into()));
    if let Some(id) = start.system_id {
        put(fields, "systemid", Literal::Str(id.to_string()));
    }
    put(
        fields,
        "xlog_segment_size",
        Literal::Int(size.bytes().into()),
    );
    put(fields, "pgdata", string(&start.pgdata));
    let spaces = start.tablespaces.iter().map(|space| {
        let (name, oid) = (
            Literal::Str(space.name.clone()),
            Literal::Int(space.oid.into()),
        );
        Literal::Tuple(vec![name, oid, string(&space.location)])
    });
    put(fields, "tablespaces", Literal::List(spaces.collect()));
    put(fields, "begin_time", time(start.time));
    put(fields, "begin_xlog", Literal::Str(start.lsn.to_string()));
    put(
        fields,
        "begin_offset",
        Literal::Int(start.lsn.offset(size).into()),
    );
    let segment = start.lsn.segment(start.timeline, size);
    put(fields, "begin_wal", Literal::Str(segment.to_string()));
    put(
        fields,
        "timeline",
        Literal::Int(start.timeline.number().into()),
    );
    for (name, path) in [
        ("config_file", &start.settings.config_file),
        ("ident_file", &start.settings.ident_file),
    ] {
        put(
            fields,
            name,
            string(path.as_deref().expect("always set here")),
        );
    }
    let files = start
        .settings
        .included_files
        .iter()
        .map(|path| string(path));
    put(fields, "included_files", Literal::List(files.collect()));
    let checksums = start.settings.data_checksums.as_deref().unwrap_or_default();
    put(fields, "data_checksums", Literal::from(checksums));
    if let Some(bytes) = start.settings.cluster_size {
        put(fields, "cluster_size", Literal::Int(bytes.into()));
    }
}

fn put_stop(fields: &mut Map<String, Value>, stop: &Stopped, size: SegmentSize) {
    put(fields, "end_time", time(stop.time));
    put(fields, "end_xlog", Literal::Str(stop.lsn.to_string()));
    put(
        fields,
        "end_offset",
        Literal::Int(stop.lsn.offset(size).into()),
    );
    let segment = stop.lsn.segment_before(stop.timeline, size);
    put(fields, "end_wal", Literal::Str(segment.to_string()));
    put(
        fields,
        "backup_label",
        Literal::Str(stop.backup_label.clone()),
    );
    put(
        fields,
        "copy_stats",
        stop.copy_stats.clone().expect("always set here"),
    );
}

#[test]
fn barman_writes_what_we_write_and_reads_what_we_read() {
    let Some(mut peer) = Peer::start("barman/peer.py") else {
        return;
    };
    let mut dice = Dice(1);
    for number in 0..RECORDS {
        let (info, fields) = record(&mut dice);
        let written = peer.ask(&json!({"ask": "write", "fields": fields}));
        let theirs = written["text"].as_str().expect("a text");
        assert_eq!(theirs, info.render(), "record {number}");

        let again = BackupInfo::parse(theirs.as_bytes()).expect("a record");
        assert_eq!(again, info, "record {number}");
        let read = peer.ask(&json!({"ask": "read", "text": theirs}));
        assert_same(&again, &read["fields"]);
    }
}

/// Compares what judgements look at with what Barman read.
fn assert_same(info: &BackupInfo, theirs: &Value) {
    let backup: Backup = info
        .to_backup(BackupId::new("x"), Vec::new(), None, &zone())
        .expect("a backup");
    let spaces: Vec<_> = backup
        .tablespaces
        .iter()
        .map(|space| json!([space.name, space.oid, space.location]))
        .collect();
    let text = |value: Option<String>| value.map_or(Value::Null, Value::String);
    let lists = |list: Vec<Value>| {
        Some(list)
            .filter(|list| !list.is_empty())
            .map_or(Value::Null, Value::Array)
    };
    let time = |instant: Option<Timestamp>| {
        text(instant.map(|instant| render_time(instant).replace(' ', "T")))
    };
    let ours = [
        ("status", text(Some(backup.status.to_string()))),
        ("begin_time", time(backup.begin_time)),
        ("end_time", time(backup.end_time)),
        (
            "begin_wal",
            text(backup.begin_wal.map(|name| name.to_string())),
        ),
        ("end_wal", text(backup.end_wal.map(|name| name.to_string()))),
        (
            "begin_xlog",
            text(backup.begin_lsn.map(|lsn| lsn.to_string())),
        ),
        ("end_xlog", text(backup.end_lsn.map(|lsn| lsn.to_string()))),
        ("timeline", json!(backup.timeline.map(TimelineId::number))),
        ("version", json!(backup.version)),
        ("systemid", text(backup.system_id.map(|id| id.to_string()))),
        ("xlog_segment_size", json!(backup.segment_size.bytes())),
        (
            "pgdata",
            text(
                backup
                    .pgdata
                    .map(|path| path.to_string_lossy().into_owned()),
            ),
        ),
        ("tablespaces", lists(spaces)),
        ("error", text(backup.error)),
        (
            "parent_backup_id",
            text(backup.parent.map(|id| id.to_string())),
        ),
        ("backup_label", text(info.backup_label().expect("a label"))),
        (
            "children_backup_ids",
            lists(backup.children.iter().map(|id| json!(id)).collect()),
        ),
    ];
    for (field, value) in ours {
        assert_eq!(value, theirs[field], "{field} of\n{info}");
    }
    assert_eq!(
        text(backup.name),
        theirs.get("backup_name").cloned().unwrap_or_default()
    );
    let snapshots = lists(backup.snapshots.into_iter().map(Value::String).collect());
    assert_eq!(
        snapshots,
        theirs.get("snapshots_info").cloned().unwrap_or_default()
    );
}

#[test]
fn odd_records_mean_the_same_to_both() {
    let Some(mut peer) = Peer::start("barman/peer.py") else {
        return;
    };
    let snapshots = "snapshots_info={'provider': 'aws', 'provider_info': {}, 'snapshots': \
                     [{'mount': {}, 'provider': {'snapshot_id': 'i', 'snapshot_name': 'n'}}]}";
    for text in [
        "",
        "# nothing\n\n   \n\t\n",
        "status=DONE",
        "status = DONE \r\n",
        "status=STARTED\nstatus=DONE\n",
        "  status=DONE\n",
        "backup_name=None\nstatus=None\n",
        "backup_name=a=b # c\n",
        "timeline= 7\nversion=+9\n",
        "begin_time=Fri Nov 20 22:43:33 2026\n",
        "begin_time=Fri Nov  6 02:43:33 2026\n",
        "begin_time=2026-11-20 22:43:33\nend_time=2026-07-20 22:43:33.5\n",
        "begin_time=2026-11-20T22:43:33+05:30\nend_time=2026-11-20 22:43:33.000001-0100\n",
        "begin_time=2026-10-25 02:30:00\n",
        "tablespaces=[ ('a', 1, '/a'), (\"it's\", 2, '/b',), ]\n",
        "tablespaces=[]\n",
        "tablespaces=[['a', 1, '/a']]\n",
        r#"backup_label="a\x41\u00e9\U0001f418\101\q\'""#,
        "children_backup_ids=a,b\nparent_backup_id=c\n",
        "children_backup_ids=\n",
        snapshots,
    ] {
        let read = peer.ask(&json!({"ask": "read", "text": text}));
        let info = BackupInfo::parse(text.as_bytes()).expect("a record");
        let theirs = &read["fields"];
        assert!(theirs.is_object(), "{text}: {read}");
        // Barman leaves an explicit `None` unset where its default would say more.
        if text.contains("status=None") {
            continue;
        }
        assert_same(&info, theirs);
    }
}

#[test]
fn what_barman_cannot_read_we_do_not_believe() {
    let Some(mut peer) = Peer::start("barman/peer.py") else {
        return;
    };
    for text in [
        "nonsense\n",
        " # not at the beginning\n",
        "version=x\n",
        "timeline=1.5\n",
        "size=\n",
        "deduplicated_size=1e3\n",
        "begin_offset=0x10\n",
        "end_time=never\n",
        "begin_time=2026-13-20 22:43:33\n",
        "tablespaces=[(1\n",
        "tablespaces=[('a', 1)]\n",
        "tablespaces=open('x')\n",
        "included_files=[\n",
        "copy_stats={'a': }\n",
        "backup_label='a\n",
        "snapshots_info={'provider': 'other'}\n",
        "later=1\n",
    ] {
        let read = peer.ask(&json!({"ask": "read", "text": text}));
        assert!(read.get("error").is_some(), "Barman reads `{text}`: {read}");
        let backup = BackupInfo::parse(text.as_bytes())
            .and_then(|info| info.to_backup(BackupId::new("x"), Vec::new(), None, &zone()));
        let doubtful = backup.map_or(true, |backup| !backup.unknown_fields.is_empty());
        assert!(doubtful, "{text}");
    }
}
