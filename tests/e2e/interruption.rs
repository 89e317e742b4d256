//! Backups that end before they are complete: killed, interrupted, out of WAL. The next activation leaves a good backup and no traces.

use std::{
    process,
    time::{Duration, Instant},
};

use barkeep::clock::Clock;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    harness::{Kind, Place, Running, Scene, text},
    support::{bed::bed, wait::until},
};

const INTERRUPTED: i32 = 130;

/// Archives of several parts, so that uploads can be left behind.
const SETTINGS: &str = "schedule = \"0 2 * * *\"\nretention = { redundancy = 2 }\n\
    compression = \"none\"\npart_size = \"5MiB\"\nmax_archive_size = \"1GiB\"\nfailed_backups = { delete_after = \"7d\" }";

/// How many backups are killed.
const KILLS: u32 = 20;

#[tokio::test]
async fn killed_at_any_instant_a_backup_to_s3_is_made_good_by_the_next_run() {
    killed_at_any_instant(Kind::Moto).await;
}

#[tokio::test]
async fn killed_at_any_instant_a_backup_to_a_directory_is_made_good_by_the_next_run() {
    killed_at_any_instant(Kind::Directory).await;
}

async fn killed_at_any_instant(kind: Kind) {
    let Some(scene) = Scene::new(17, kind, SETTINGS) else {
        return;
    };
    scene
        .cluster
        .sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    let began = Instant::now();
    scene.run(&["reconcile", "--once"]).exits(0);
    let whole = began.elapsed();
    let mut random = Random::new();
    let mut met = Met::default();
    for kill in 0..KILLS {
        scene.place.remove("main/base/");
        scene.place.remove("main/barkeep/");
        // A random instant of each twentieth.
        let after = whole.mul_f64((f64::from(kill) + random.fraction()) / f64::from(KILLS));
        let context = format!(
            "kill {kill} of seed {}, after {after:?} of {whole:?}",
            random.seed
        );
        let mut running = scene.place.start(&["reconcile", "--once"]);
        wait(&mut running, after).await;
        running.signal(Signal::KILL);
        running.end();
        met.look(&scene.place);

        let ran = scene.run(&["reconcile", "--once"]);
        assert_eq!(ran.code, Some(0), "{context}: {ran}");
        nothing_is_left(&scene.place, &context);
        assert_eq!(scene.place.ids("main", "DONE").len(), 1, "{context}");
        let next = scene.run(&["plan", "--detailed-exitcode"]);
        assert_eq!(next.code, Some(0), "{context}: {next}");
        barman_reads(&scene.place, &context);
    }
    // Instants that meet nothing would prove nothing.
    assert!(
        met.attempts > 2 && met.uploads > 0,
        "seed {}: {met:?}",
        random.seed
    );
    let copy = scene.restore(&[], "latest").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "1000");
}

/// What kills left.
#[derive(Debug, Default)]
struct Met {
    attempts: usize,
    uploads: usize,
}

impl Met {
    fn look(&mut self, place: &Place) {
        self.attempts += place.keys("main/barkeep/attempts/").len();
        self.uploads += place.uploads().len();
    }
}

/// Waits for so long, or until the program ends.
async fn wait(running: &mut Running, limit: Duration) {
    let ended = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        while running.has_ended().is_none() {
            ticks.tick().await;
        }
    };
    let _ = tokio::time::timeout(limit, ended).await;
}

/// Attempts, uploads, objects without a `backup.info`, and backups in an unfinished state. The lease of what was killed ends by itself, or
/// with whoever needs it next.
#[track_caller]
fn nothing_is_left(place: &Place, context: &str) {
    assert_eq!(place.keys("main/barkeep/attempts/"), [""; 0], "{context}");
    assert_eq!(place.uploads(), [""; 0], "{context}");
    let keys = place.keys("main/base/");
    for key in &keys {
        let (directory, _) = key.rsplit_once('/').expect("a directory");
        let info = format!("{directory}/backup.info");
        assert!(keys.contains(&info), "{context}: {key} is an orphan");
    }
    for backup in place.backups("main") {
        let status = &backup["status"];
        assert!(
            status == "DONE" || status == "FAILED",
            "{context}: {backup}"
        );
    }
}

/// Barman sees the same backups with the same statuses.
#[track_caller]
fn barman_reads(place: &Place, context: &str) {
    // It knows no directories.
    if place.kind() == Kind::Directory {
        return;
    }
    let Some(listed) = place.barman_list("main") else {
        return;
    };
    let status = |backup: &Value, id: &str| (backup[id].clone(), backup["status"].clone());
    let list = listed["backups_list"].as_array().expect("a list");
    let mut theirs: Vec<_> = list
        .iter()
        .map(|backup| status(backup, "backup_id"))
        .collect();
    let backups = place.backups("main");
    let ours: Vec<_> = backups.iter().map(|backup| status(backup, "id")).collect();
    theirs.sort_by_key(|(id, _)| id.to_string());
    assert_eq!(theirs, ours, "{context}");
}

/// Numbers that look random; the same ones for the same seed.
pub(crate) struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    pub(crate) fn new() -> Self {
        let now = Clock::System.now().to_string();
        let time = now.bytes().fold(u64::from(process::id()), |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let seed = time % 1_000_000;
        Self { seed, state: seed }
    }

    /// What began it, to be told when a test fails.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// From 0 to 1. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let top = u32::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits");
        f64::from(top) / f64::from(u32::MAX)
    }
}

#[tokio::test]
async fn told_to_stop_while_it_copies_a_backup_fails_and_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM] {
        let Some(mut scene) = Scene::new(17, Kind::Moto, SETTINGS) else {
            return;
        };
        scene.place.limit("max_bandwidth = \"2MiB/s\"");
        scene.configure(SETTINGS);
        let running = scene.place.start(&["reconcile", "--once"]);
        until("an upload", async || {
            (!scene.place.uploads().is_empty()).then_some(())
        })
        .await;
        running.signal(signal);
        running.end().exits(INTERRUPTED);
        let what = format!("{signal:?}");
        nothing_is_left(&scene.place, &what);
        let backups = scene.place.backups("main");
        assert_eq!(backups.len(), 1);
        assert_eq!(backups[0]["status"], "FAILED");
        assert!(
            backups[0]["error"]
                .as_str()
                .is_some_and(|error| error.contains("interrupted"))
        );
        is_out_of_backup_mode(&scene).await;

        scene.place.limit("");
        scene.configure(SETTINGS);
        scene.run(&["reconcile", "--once"]).exits(0);
        assert_eq!(scene.place.ids("main", "DONE").len(), 1);
        let what = format!("{signal:?}");
        nothing_is_left(&scene.place, &what);
        barman_reads(&scene.place, &what);
    }
}

/// Backup mode ends with the session that entered it.
async fn is_out_of_backup_mode(scene: &Scene) {
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'barkeep'";
    until("the end of the session", async || {
        (scene.cluster.sql(sessions) == "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn told_twice_to_stop_it_leaves_at_once_and_the_next_run_cleans() {
    let Some(mut scene) = Scene::new(17, Kind::Moto, SETTINGS) else {
        return;
    };
    scene.place.limit("max_bandwidth = \"1MiB/s\"");
    scene.configure(SETTINGS);
    let running = scene.place.start(&["backup", "main"]);
    until("an upload", async || {
        (!scene.place.uploads().is_empty()).then_some(())
    })
    .await;
    running.signal(Signal::INT);
    running.signal(Signal::TERM);
    running.end().exits(INTERRUPTED);
    is_out_of_backup_mode(&scene).await;
    scene.place.limit("");
    scene.configure(SETTINGS);
    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.ids("main", "DONE").len(), 1);
    nothing_is_left(&scene.place, "twice");
}

#[tokio::test]
async fn a_backup_that_waits_for_wal_is_finished_by_a_later_run() {
    let Some(scene) = Scene::new(17, Kind::Directory, SETTINGS) else {
        return;
    };
    let archive = |command: &str| {
        scene.cluster.sql(&format!(
            "ALTER SYSTEM SET archive_command = '{command}'; SELECT pg_reload_conf()"
        ));
    };
    archive("false");
    let running = scene.place.start(&["reconcile", "--once"]);
    until("the end of the copy", async || {
        let attempts = scene.place.keys("main/barkeep/attempts/");
        let record = std::fs::read_to_string(scene.place.file(attempts.first()?)).ok()?;
        (!serde_json::from_str::<Value>(&record).ok()?["stopped"].is_null()).then_some(())
    })
    .await;
    running.signal(Signal::INT);
    running.end().exits(INTERRUPTED);
    let waiting = scene.place.ids("main", "WAITING_FOR_WALS");
    assert_eq!(waiting.len(), 1);
    // Nothing is taken beside it, and nothing is given up.
    let ran = scene.run(&["reconcile", "--once"]);
    assert_eq!(
        scene.place.ids("main", "WAITING_FOR_WALS"),
        waiting,
        "{ran}"
    );
    archive(&scene.place.archive_command("main"));
    scene.archive_all().await;
    scene.run(&["reconcile", "--once"]).exits(0);
    assert_eq!(scene.place.ids("main", "DONE"), waiting);
    assert_eq!(scene.place.keys("main/barkeep/attempts/"), [""; 0]);
    scene.restore(&[], "latest").await;
}

#[tokio::test]
async fn a_killed_restore_leaves_nothing_that_could_be_started() {
    let Some(scene) = Scene::new(17, Kind::Directory, SETTINGS) else {
        return;
    };
    scene.run(&["backup", "main"]).exits(0);
    let directory = scene.place.path("restored");
    let to = text(&directory);
    let restore = ["restore", "main", "latest", to.as_str()];
    let began = Instant::now();
    scene.run(&restore).exits(0);
    let whole = began.elapsed();
    let control = directory.join("global/pg_control");
    assert!(control.exists());
    let mut random = Random::new();
    let mut met = 0;
    for kill in 0..8 {
        std::fs::remove_dir_all(&directory).expect("removed");
        std::fs::create_dir(&directory).expect("made");
        bed().give(&directory);
        let after = whole.mul_f64((f64::from(kill) + random.fraction()) / 8.0);
        let mut running = scene.place.start(&restore);
        wait(&mut running, after).await;
        running.signal(if kill % 2 == 0 {
            Signal::KILL
        } else {
            Signal::INT
        });
        let ran = running.end();
        if ran.code == Some(0) {
            continue;
        }
        let context = format!("seed {}, after {after:?} of {whole:?}: {ran}", random.seed);
        assert!(!control.exists(), "{context}");
        if ran.code.is_some() {
            assert_eq!(ran.code, Some(INTERRUPTED), "{context}");
        }
        met += usize::from(directory.join("PG_VERSION").exists());
    }
    assert!(met > 0, "seed {}", random.seed);
}

#[tokio::test]
async fn killed_at_any_instant_archiving_succeeds_when_it_is_tried_again() {
    for kind in [Kind::Directory, Kind::Moto] {
        archiving_is_killed(kind).await;
    }
}

async fn archiving_is_killed(kind: Kind) {
    // Sending takes longest without compression.
    let settings = "schedule = \"none\"\nretention = \"none\"\nwal = { compression = \"none\" }";
    let Some(scene) = Scene::new(17, kind, settings) else {
        return;
    };
    scene
        .cluster
        .sql("ALTER SYSTEM SET archive_command = 'false'; SELECT pg_reload_conf()");
    let mut random = Random::new();
    let mut whole = Duration::ZERO;
    for kill in 0..KILLS {
        scene
            .cluster
            .sql("CREATE TEMP TABLE t AS SELECT repeat(md5(i::text), 100) FROM generate_series(1, 5000) i");
        let segment = scene.cluster.sql("SELECT pg_walfile_name(pg_switch_wal())");
        let path = scene.cluster.pgdata().join("pg_wal").join(&segment);
        let archive = ["wal-archive", "main", &text(&path)];
        if kill > 0 {
            let after = whole.mul_f64(random.fraction());
            let mut running = scene.place.start(&archive);
            wait(&mut running, after).await;
            running.signal(Signal::KILL);
            running.end();
        }
        let began = Instant::now();
        scene.run(&archive).exits(0);
        whole = whole.max(began.elapsed());
        let restored = scene.place.path("restored");
        scene
            .run(&["wal-restore", "main", &segment, &text(&restored)])
            .exits(0);
        let same = std::fs::read(&restored).expect("it") == std::fs::read(&path).expect("it");
        assert!(same, "kill {kill} of seed {}", random.seed);
    }
    assert_eq!(scene.place.uploads(), [""; 0], "seed {}", random.seed);
}
