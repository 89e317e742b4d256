//! Backups through the plugin: what it reads of them, recovery, its maintenance, and being told to stop.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    place::{Place, Whose},
    plugin::{ObjectStore, Plugin},
    support::{
        bed::{bed, run},
        cluster::Cluster,
        wait::until,
    },
};

fn object_store() -> ObjectStore {
    ObjectStore {
        wal_compression: Some("gzip"),
        data_compression: Some("lz4"),
        encryption: Some("AES256"),
        tags: &["team,db"],
        jobs: Some(2),
        immediate_checkpoint: true,
        max_parallel: 4,
        ..ObjectStore::default()
    }
}

/// A Pod whose PostgreSQL archives by itself, as it does through the plugin's socket.
fn pod(whose: Whose) -> Option<Place> {
    pod_of(whose, 17)
}

/// The same with another version of PostgreSQL.
fn pod_of(whose: Whose, major: u32) -> Option<Place> {
    let place = Place::new(whose, major)?;
    let plugin = Plugin::new(&place, object_store());
    let mut arguments = vec!["--gzip".to_owned()];
    let mut words = plugin.restore_words("%p", "");
    words.pop();
    arguments.append(&mut words);
    let environment = plugin.environment();
    let command = place.shell_command("barman-cloud-wal-archive", &arguments, &environment);
    let command = command.replace('\'', "''");
    place
        .cluster
        .sql(&format!("ALTER SYSTEM SET archive_command = '{command}'"));
    place.cluster.sql("SELECT pg_reload_conf()");
    Some(place)
}

/// What the plugin's types demand of a backup: the kinds of its fields, and instants with an offset.
fn check_contract(backup: &Value) {
    for field in [
        "backup_id",
        "systemid",
        "begin_wal",
        "begin_xlog",
        "begin_time",
    ] {
        assert!(backup[field].is_string(), "{field} of {backup}");
    }
    assert!(backup["timeline"].is_u64(), "{backup}");
    for field in ["begin_time_iso", "end_time_iso"] {
        let Some(text) = backup.get(field).filter(|value| !value.is_null()) else {
            continue;
        };
        let text = text.as_str().expect("a text");
        let instant = chrono::DateTime::parse_from_rfc3339(text);
        assert!(instant.is_ok(), "{text}");
    }
}

macro_rules! of_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use crate::place::Whose;

            #[tokio::test(flavor = "multi_thread")]
            async fn barkeep() {
                super::$name(Whose::Barkeep).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn barman() {
                super::$name(Whose::Barman).await;
            }
        }
    )*};
}

of_both! {
    a_cluster_comes_back_to_an_instant,
    what_cannot_be_taken_is_told,
    maintenance_can_run_at_any_time,
}

async fn a_cluster_comes_back_to_an_instant(whose: Whose) {
    if let Some(place) = pod(whose) {
        comes_back_to_an_instant(place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_another_version_comes_back_to_an_instant() {
    if let Some(place) = pod_of(Whose::Barkeep, 18) {
        comes_back_to_an_instant(place).await;
    }
}

async fn comes_back_to_an_instant(place: Place) {
    let plugin = Plugin::new(&place, object_store());
    place
        .cluster
        .sql("CREATE TABLE t AS SELECT generate_series(1, 1000) i");
    let backup = plugin.backup("backup-20261121040000").expect("a backup");
    check_contract(&backup);
    assert_eq!(backup["backup_name"], "backup-20261121040000");
    assert_eq!(backup["status"], "DONE");
    let listed = plugin.list();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["backup_id"], backup["backup_id"]);
    let target = place.cluster.sql("SELECT clock_timestamp()");
    place.cluster.sql("DROP TABLE t");
    let last = place.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())");
    until("the last segment to be archived", async || {
        let archived = place
            .cluster
            .sql("SELECT last_archived_wal FROM pg_stat_archiver");
        (archived >= last).then_some(())
    })
    .await;
    let directory = place.controller().join("recovery/pgdata");
    plugin.restore_job(&backup, &directory).expect("a restore");
    let words = plugin.restore_words("%f", "%p");
    let environment = plugin.environment();
    let command = place.shell_command("barman-cloud-wal-restore", &words, &environment);
    let settings = [
        ("restore_command", command.as_str()),
        ("recovery_target_time", &target),
        ("recovery_target_action", "promote"),
        ("archive_mode", "off"),
    ];
    let copy = start_copy(place.cluster.major(), &directory, &settings);
    until("the end of recovery", async || {
        (copy.sql("SELECT pg_is_in_recovery()") == "f").then_some(())
    })
    .await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "1000");
}

/// Starts what was restored, with settings as CloudNativePG writes them.
fn start_copy(major: u32, directory: &Path, settings: &[(&str, &str)]) -> Cluster {
    let mut copy = Cluster::empty(major).expect("this version is here");
    run(Command::new("cp")
        .arg("-a")
        .arg(directory)
        .arg(copy.pgdata()));
    fs::write(copy.pgdata().join("recovery.signal"), "").expect("a signal");
    fs::remove_file(copy.pgdata().join("postgresql.auto.conf")).expect("the original's settings");
    copy.configure(settings);
    bed().give(&copy.pgdata());
    run(Command::new("chmod").arg("700").arg(copy.pgdata()));
    copy.start();
    copy
}

async fn what_cannot_be_taken_is_told(whose: Whose) {
    let Some(place) = pod(whose) else {
        return;
    };
    let cases = [
        (place.store.url(), "no-such-bucket"),
        ("http://127.0.0.1:9".to_owned(), "backups"),
    ];
    for (endpoint, bucket) in cases {
        let plugin = Plugin {
            endpoint,
            bucket,
            ..Plugin::new(&place, object_store())
        };
        let failed = plugin
            .backup("backup-20261121040000")
            .expect_err("no backup");
        assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{failed:?}");
    }
    let plugin = Plugin::new(&place, object_store());
    assert!(plugin.list().is_empty());
}

async fn maintenance_can_run_at_any_time(whose: Whose) {
    let Some(place) = pod(whose) else {
        return;
    };
    let plugin = Plugin::new(&place, object_store());
    assert!(plugin.maintain("RECOVERY WINDOW OF 7 DAYS").is_empty());
    for name in ["backup-20261121040000", "backup-20261121050000"] {
        plugin.backup(name).expect("a backup");
    }
    for _ in 0..2 {
        let left = plugin.maintain("RECOVERY WINDOW OF 7 DAYS");
        left.iter().for_each(check_contract);
        assert_eq!(left.len(), 2);
    }
    let left = plugin.maintain("REDUNDANCY 1");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["backup_name"], "backup-20261121050000");
    // What is left can still be restored, its WAL included.
    let directory = place.controller().join("recovery/pgdata");
    plugin.restore_job(&left[0], &directory).expect("a restore");
}

/// Barman leaves a backup that says STARTED for ever, its workers and its uploads.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_told_to_stop_is_declared_failed_and_leaves_nothing() {
    let Some(place) = pod(Whose::Barkeep) else {
        return;
    };
    let plugin = Plugin::new(
        &place,
        ObjectStore {
            data_compression: None,
            backup_arguments: &["--max-bandwidth=512KB"],
            ..object_store()
        },
    );
    let mut command = plugin.backup_command("backup-20261121040000");
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.expect("the command can be started");
    until("the backup to begin", async || {
        plugin
            .list()
            .first()
            .map(|backup| assert_eq!(backup["status"], "STARTED"))
    })
    .await;
    run(Command::new("kill").args(["-s", "TERM", &child.id().to_string()]));
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let listed = plugin.list();
    assert_eq!(listed[0]["status"], "FAILED", "{listed:?}");
    assert!(listed[0]["end_time"].is_null(), "{listed:?}");
    let uploads = place.store.send("GET", "/backups?uploads", "", "");
    assert!(!uploads.contains("<UploadId>"), "{uploads}");
    let sessions = "SELECT count(*) FROM pg_stat_activity \
        WHERE application_name = 'barman_cloud_backup'";
    until("the session to end", async || {
        (place.cluster.sql(sessions) == "0").then_some(())
    })
    .await;
}
