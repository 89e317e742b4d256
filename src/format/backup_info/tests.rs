use proptest::prelude::*;

use super::*;
use crate::model::{
    compression::Compression,
    wal::{Lsn, SystemId},
};

/// A record that Barman 3.19.1 wrote.
const DONE: &str = include_str!("done.info");

const SNAPSHOTS: &str = "{'provider': 'aws', 'provider_info': {'account_id': '123456789012', 'region': \
    'us-east-1'}, 'snapshots': [{'mount': {'mount_options': 'rw,noatime', \
    'mount_point': '/mnt/pgdata'}, 'provider': {'device_name': '/dev/sdf', \
    'snapshot_id': 'snap-557fa36ba8d24cf79', 'snapshot_name': \
    'pgdata-20261120t235109', 'snapshot_lock_mode': None}}]}";

fn utc() -> Zone {
    Zone::utc()
}

fn info(text: &str) -> BackupInfo {
    BackupInfo::parse(text.as_bytes()).expect("a record")
}

fn backup(text: &str) -> Result<Backup, String> {
    let backup = info(text).to_backup(BackupId::new("x"), Vec::new(), None, &utc());
    backup.map_err(|error| error.to_string())
}

fn start() -> Started {
    Started {
        server_name: None,
        version: 150_018,
        system_id: Some(SystemId(7_710_387_505_871_624_418)),
        segment_size: SegmentSize::DEFAULT,
        pgdata: "/srv/barman-ref/pg/data".into(),
        tablespaces: vec![Tablespace {
            name: "ts_one".to_owned(),
            oid: 16_384,
            location: "/srv/barman-ref/ts1".into(),
        }],
        time: "2026-11-20T22:43:33.130666Z".parse().expect("an instant"),
        lsn: Lsn(0x0300_0028),
        timeline: TimelineId::FIRST,
        settings: Settings {
            config_file: Some("/srv/barman-ref/pg/data/postgresql.conf".into()),
            hba_file: Some("/srv/barman-ref/pg/data/pg_hba.conf".into()),
            ident_file: Some("/srv/barman-ref/pg/data/pg_ident.conf".into()),
            included_files: Vec::new(),
            data_checksums: Some("on".to_owned()),
            summarize_wal: None,
            cluster_size: Some(23_281_357),
        },
    }
}

/// As Barman 3.19.1 writes them for the other two clouds.
const OF_AZURE: &str = "{'provider': 'azure', 'provider_info': {'subscription_id': 's-1', 'resource_group': 'group'}, \
    'snapshots': [{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/mnt/pgdata'}, 'provider': \
    {'location': 'uksouth', 'lun': 10, 'snapshot_name': 'pgdata-20261120t235109'}}]}";
const OF_GOOGLE: &str = "{'provider': 'gcp', 'provider_info': {'project': 'p'}, 'snapshots': [{'mount': \
    {'mount_options': 'rw,noatime', 'mount_point': '/mnt/pgdata'}, 'provider': {'device_name': 'dev0', \
    'snapshot_name': 'pgdata-20261120t235109', 'snapshot_project': 'p'}}]}";

#[test]
fn snapshots_are_written_as_barman_writes_them_for_each_cloud() {
    for text in [SNAPSHOTS, OF_AZURE, OF_GOOGLE] {
        let read = info(&format!("snapshots_info={text}\n")).snapshots();
        let set = read.expect("a record").expect("snapshots");
        let mut written = BackupInfo::default();
        written.set_snapshots(&set);
        assert_eq!(written.get("snapshots_info"), Some(text));
    }
}

#[test]
fn a_record_of_barmans_is_written_again_byte_for_byte() {
    let snapshot = DONE.replace("status=", &format!("snapshots_info={SNAPSHOTS}\nstatus="));
    let unknown = DONE.replace("mode=", "later=x = 'y'\nmode=");
    let failed =
        "error=failure uploading data ([Errno 13] Permission denied: '/ü')\nstatus=FAILED\n";
    for text in [DONE, &snapshot, &unknown, failed] {
        assert_eq!(info(text).render(), text);
    }
    assert_eq!(
        info(&unknown).unknown_fields().collect::<Vec<_>>(),
        ["later"]
    );
    assert_eq!(info(DONE).unknown_fields().count(), 0);
}

#[test]
fn a_new_record_is_what_barman_would_have_written() {
    let mut record = BackupInfo::started(&start());
    let begun = record.render();
    assert_eq!(begun.lines().count(), FIELDS.len() - HIDDEN_IF_NULL.len());
    assert!(begun.contains("\nstatus=STARTED\n") && begun.starts_with("backup_label=None\n"));

    let old = info(DONE);
    let stop = Stopped {
        time: "2026-11-20T22:43:34.860194Z".parse().expect("an instant"),
        lsn: Lsn(0x0300_0100),
        timeline: TimelineId::FIRST,
        backup_label: old.backup_label().expect("a literal").expect("a label"),
        copy_stats: old.literal("copy_stats").expect("a literal"),
    };
    record.set_stopped(&stop, SegmentSize::DEFAULT);
    record.set_name(Some("mybackup"));
    record.set_status(BackupStatus::Done);
    assert_eq!(record.render(), DONE);
}

#[test]
fn a_backup_that_stops_at_a_boundary_ends_in_the_segment_before() {
    let mut record = BackupInfo::started(&start());
    let stop = Stopped {
        time: start().time,
        lsn: Lsn(0x0400_0000),
        timeline: TimelineId::FIRST,
        backup_label: String::new(),
        copy_stats: None,
    };
    record.set_stopped(&stop, SegmentSize::DEFAULT);
    assert_eq!(record.get("end_wal"), Some("000000010000000000000003"));
}

#[test]
fn a_failure_is_one_line() {
    let mut record = BackupInfo::started(&start());
    record.set_failed("no route\nto host");
    assert_eq!(record.get("error"), Some("no route"));
    assert_eq!(record.status().expect("a status"), BackupStatus::Failed);
    record.set("pgdata", Some("/a\nstatus=DONE".to_owned()));
    assert_eq!(info(&record.render()), record);
}

#[test]
fn a_record_becomes_a_backup() {
    let archive = StoredArchive {
        root: crate::model::backup::ArchiveRoot::Data,
        part: 0,
        compression: Compression::None,
        bytes: 1,
    };
    let backup = info(DONE)
        .to_backup(BackupId::new("x"), vec![archive], None, &utc())
        .expect("a backup");
    assert_eq!(backup.name.as_deref(), Some("mybackup"));
    assert_eq!(backup.status, BackupStatus::Done);
    assert_eq!(backup.end_lsn, Some(Lsn(0x0300_0100)));
    assert_eq!(backup.tablespaces, start().tablespaces);
    assert_eq!(backup.major(), Some(15));
    assert_eq!(backup.parent, None);
    let end = backup.end_time.map(render_time);
    assert_eq!(end.as_deref(), Some("2026-11-20 22:43:34.860194+00:00"));
}

#[test]
fn what_is_not_said_has_barmans_defaults() {
    let backup = backup("# a comment\n\n   \nbackup_name = None \r\n").expect("a backup");
    assert_eq!(backup.status, BackupStatus::Empty);
    assert_eq!(backup.segment_size, SegmentSize::DEFAULT);
    assert_eq!(backup.name, None);
}

#[test]
fn literals_of_every_kind_are_understood() {
    let text = format!(
        "tablespaces=[('ä b', 1, '/a'), (\"ts 'in\", 2, '/b')]\nchildren_backup_ids=a,b\n\
         parent_backup_id=p\nsnapshots_info={SNAPSHOTS}\nbegin_time=Fri Nov 20 22:43:33 2026\n"
    );
    let backup = backup(&text).expect("a backup");
    let names: Vec<_> = backup
        .tablespaces
        .iter()
        .map(|space| space.name.as_str())
        .collect();
    assert_eq!(names, ["ä b", "ts 'in"]);
    assert_eq!(backup.children, ["a", "b"].map(BackupId::new));
    assert_eq!(backup.parent, Some(BackupId::new("p")));
    assert_eq!(backup.snapshots, ["snap-557fa36ba8d24cf79"]);
    assert!(backup.begin_time.is_some());
}

#[test]
fn what_cannot_be_understood_names_the_field() {
    let cases = [
        (
            "version=x",
            "cannot read `version=x` of `backup.info`: expected a version number",
        ),
        (
            "size=x",
            "cannot read `size=x` of `backup.info`: expected a number",
        ),
        (
            "status=DONE?",
            "cannot read `status=DONE?` of `backup.info`: expected a status of a backup",
        ),
        (
            "end_time=?",
            "cannot read `end_time=?` of `backup.info`: expected a date and a time",
        ),
        (
            "copy_stats={",
            "cannot read the literal `copy_stats` of `backup.info`",
        ),
        (
            "tablespaces=[1]",
            "cannot read `tablespaces=[1]` of `backup.info`: expected a list of (name, oid, location)",
        ),
        (
            "snapshots_info={'provider': 'x'}",
            "cannot read `snapshots_info={'provider': 'x'}` of `backup.info`: expected snapshots of aws, azure or gcp",
        ),
        (
            "xlog_segment_size=5",
            "cannot read `xlog_segment_size=5` of `backup.info`: expected a size of WAL segments",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(backup(text).err().unwrap_or_default(), message, "{text}");
    }
    let line = BackupInfo::parse(b"status=DONE\nnonsense\n").map_err(|error| error.to_string());
    assert_eq!(
        line,
        Err("cannot read line 2 of `backup.info`: `nonsense`".to_owned())
    );
    assert!(BackupInfo::parse(b"\xff=1").is_err());
}

proptest! {
    #[test]
    fn whatever_is_set_is_read_back(
        fields in prop::collection::btree_map("[a-z_]{1,12}", "\\PC{0,20}", 0..8),
    ) {
        let mut record = BackupInfo::default();
        for (name, value) in &fields {
            record.set(name, Some(value.clone()));
        }
        let again = info(&record.render());
        prop_assert_eq!(&again, &record);
    }

    #[test]
    fn no_content_makes_the_reader_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(record) = BackupInfo::parse(&content) {
            drop(record.to_backup(BackupId::new("x"), Vec::new(), None, &utc()));
        }
    }
}

#[test]
fn what_a_record_lacks_is_absent_and_what_is_not_of_its_kind_is_refused() {
    assert_eq!(
        info("status=DONE\n").backup_label().expect("no label"),
        None
    );
    for (text, said) in [
        ("backup_label=7\n", "a string literal"),
        (
            "tablespaces=[('one', 'two', '/srv')]\n",
            "(name, oid, location)",
        ),
        ("tablespaces=7\n", "(name, oid, location)"),
        (
            "snapshots_info={'provider': 'other'}\n",
            "snapshots of aws, azure or gcp",
        ),
    ] {
        let record = info(text);
        let label = record.backup_label().err();
        let error = label.or(record.tablespaces().err());
        let error = error.or(record.snapshots().err()).expect("a wrong kind");
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(error.kind(), crate::failure::Kind::Failed);
    }
}

#[test]
fn a_disk_of_azure_without_its_number_is_read_all_the_same() {
    let text = OF_AZURE.replace("'lun': 10", "'lun': None");
    let read = info(&format!("snapshots_info={text}\n")).snapshots();
    let set = read.expect("a record").expect("snapshots");
    assert_eq!(set.ids().collect::<Vec<_>>(), ["pgdata-20261120t235109"]);
    let mut written = BackupInfo::default();
    written.set_snapshots(&set);
    assert_eq!(written.get("snapshots_info"), Some(text.as_str()));
}

#[test]
fn an_incremental_names_its_parent() {
    let mut record = BackupInfo::started(&start());
    record.set_parent(&BackupId::new("20261119T020003"));
    assert!(
        record
            .render()
            .contains("\nparent_backup_id=20261119T020003\n")
    );
}
