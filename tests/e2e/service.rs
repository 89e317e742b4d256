//! Several processes on one configuration: two services that are killed now and then, and a cron job.
//!
//! `BARKEEP_SOAK` is how many seconds they live together; `make soak` lets it be ten minutes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use barkeep::clock::pause;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    harness::{Kind, Place, Running, Scene},
    interruption::Random,
};

const SETTINGS: &str = "schedule = { every = \"1m\" }\nretention = { redundancy = 2 }\n\
    deletes = { max_backups = 1000, max_percent = 100 }\n[service]\ncheck_every = \"10s\"";

#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says for how long"
)]
fn lifetime() -> Duration {
    let seconds = std::env::var("BARKEEP_SOAK").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(100))
}

/// Begin and end of every complete backup, as the catalog tells them.
fn spans(place: &Place) -> Vec<(String, String)> {
    let backups = place.backups("main").into_iter();
    let done = backups.filter(|backup| backup["status"] == "DONE");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    done.map(|backup| (text(&backup["begin_time"]), text(&backup["end_time"])))
        .collect()
}

/// The backups that were set out to be deleted, once for each time.
fn deleted(place: &Place) -> Vec<String> {
    let mut all = Vec::new();
    for key in place.keys("main/barkeep/deleted/") {
        let text = std::fs::read_to_string(place.file(&key)).unwrap_or_default();
        let record: Value = serde_json::from_str(&text).unwrap_or_default();
        let backups = record["backups"].as_object().cloned().unwrap_or_default();
        all.extend(backups.into_iter().map(|(id, _)| id));
    }
    all
}

fn service(place: &Place) -> Running {
    place.start(&["reconcile"])
}

#[tokio::test]
async fn services_and_a_cron_job_on_one_configuration_never_act_twice() {
    let Some(scene) = Scene::new(17, Kind::Directory, SETTINGS) else {
        return;
    };
    scene
        .cluster
        .sql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 2000) i");
    let mut random = Random::new();
    let mut services = [service(&scene.place), service(&scene.place)];
    let began = Instant::now();
    let (mut runs, mut seen, mut kills) = (0, BTreeSet::new(), 0);
    while began.elapsed() < lifetime() {
        let ran = scene.run(&["reconcile", "--once"]);
        // Nothing is refused and nothing fails because others are there.
        assert!(matches!(ran.code, Some(0 | 6)), "{ran}");
        runs += 1;
        let mut spans = spans(&scene.place);
        spans.sort();
        for pair in spans.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "two backups at once: {spans:?}");
        }
        seen.extend(spans);
        // A kill every half minute or so.
        if random.fraction() < 0.04 {
            let victim = usize::from(random.fraction() < 0.5);
            services[victim].signal(Signal::KILL);
            services[victim] = service(&scene.place);
            kills += 1;
        }
        pause(Duration::from_secs(1)).await;
    }
    for mut service in services {
        assert!(service.has_ended().is_none(), "{}", service.end());
        service.signal(Signal::TERM);
        let ran = service.end();
        assert_eq!(ran.code, Some(0), "{ran}");
    }
    let minutes = usize::try_from(lifetime().as_secs() / 60).expect("few");
    let context = format!(
        "seed {}: {runs} runs, {kills} kills, {seen:?}",
        random.seed()
    );
    assert!(
        (minutes..=minutes + 2 + kills).contains(&seen.len()),
        "{context}"
    );
    let deleted = deleted(&scene.place);
    let distinct: BTreeSet<_> = deleted.iter().collect();
    assert!(
        deleted.len() - distinct.len() <= kills,
        "{context}: {deleted:?}"
    );

    scene.run(&["reconcile", "--once"]).exits(0);
    let last = scene.run(&["reconcile", "--once"]).exits(0);
    assert!(last.stdout.starts_with("0 done"), "converged: {last}");
    assert_eq!(scene.place.ids("main", "DONE").len(), 2, "{context}");
    let copy = scene.restore(&[], "latest").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "2000");
}

#[tokio::test]
async fn a_lease_that_is_held_elsewhere_is_told_waited_for_and_taken_away() {
    let settings = "schedule = { every = \"1m\" }\nretention = { redundancy = 1 }";
    let Some(scene) = Scene::new(17, Kind::Directory, settings) else {
        return;
    };
    scene.run(&["backup", "main"]).exits(0);
    let lease = r#"{"format": 1, "min_reader": 1, "holder": {"host": "elsewhere", "boot": "b", "pid": 7,
        "started": 1}, "number": 1, "generation": 3, "ttl_seconds": 600, "released": false}"#;
    for kind in ["attempt", "retention"] {
        let path = scene.place.file(&format!("main/barkeep/lease/{kind}"));
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        std::fs::write(&path, lease).expect("written");
    }
    crate::support::bed::bed().give(&scene.place.path("store"));
    let held = "process 7 on elsewhere holds the";
    scene
        .run(&["backup", "main"])
        .exits(7)
        .says(held)
        .says("barkeep unlock main");
    let id = scene.place.ids("main", "DONE").remove(0);
    // The one that is there is the minimum; a second one may go.
    scene.run(&["unlock", "main"]).exits(0).says(held);
    scene.run(&["backup", "main"]).exits(0);
    std::fs::write(scene.place.file("main/barkeep/lease/retention"), lease).expect("written");
    scene.run(&["delete", "main", &id]).exits(7).says(held);
    scene.run(&["reconcile", "--once"]).exits(0).says(held);
    assert!(scene.place.ids("main", "DONE").contains(&id));
    scene
        .run(&["unlock", "main", "--destination", "d"])
        .exits(0)
        .says("now it is free");
    scene
        .run(&["unlock", "main"])
        .exits(0)
        .says("nothing was taken away");
    scene.run(&["delete", "main", &id]).exits(0);
}
