//! Whatever barkeep adds to a catalog may be lost: less speed or more caution follows, never a wrong delete.

use super::*;
use crate::{
    model::{
        record::{KeepRecord, SetBy},
        wal::SystemId,
    },
    plan::render::Text,
};

/// Loses all objects below `barkeep/` whose path begins so; there must be some.
async fn lose(bed: &Bed, part: &str) {
    let prefix = format!("barkeep/{part}");
    let paths = scene::paths(&bed.archive).await.into_iter();
    let lost: Vec<_> = paths.filter(|path| path.starts_with(&prefix)).collect();
    assert!(!lost.is_empty(), "{part} is not there");
    let keys: Vec<_> = lost.iter().map(|path| bed.archive.join(path)).collect();
    for deleted in bed.archive.store().delete(&keys).await {
        deleted.outcome.expect("memory");
    }
}

/// What the next run does, and how the server stands after it.
async fn next(bed: &Bed) -> (Vec<String>, String) {
    let report = bed.once(Arc::new(bed.memory.clone())).await;
    let done = report.outcomes.iter().map(|outcome| {
        assert!(outcome.result.is_ok(), "{outcome:?}");
        bed.world.told(outcome.step.describe())
    });
    let done = done.collect();
    (done, bed.world.told(Text(&report.last.plan).to_string()))
}

/// The same at another time of all clocks.
async fn at(bed: &Bed, age: &str) -> Vec<String> {
    bed.memory.set_time(instant(age));
    let mut ports = bed.ports(Arc::new(bed.memory.clone()));
    ports.clock = Clock::Fixed(instant(age));
    let report = once(&ports, &[bed.server()]).await.remove(0);
    let steps = report.outcomes.iter();
    steps
        .map(|outcome| bed.world.told(outcome.step.describe()))
        .collect()
}

const OLD: &str = "retention=1x | done 1d | done 8d | done 9d | wal 1:910-1010";

#[tokio::test]
async fn without_the_identity_the_prefix_is_that_of_its_newest_backup() {
    let bed = Bed::new(OLD).await;
    let pinned = crate::model::record::Identity {
        system_id: SystemId(1),
        pinned_at: now(),
    };
    let written = bed
        .archive
        .write_record(OwnObject::Identity, &pinned, PutMode::Create);
    written.await.expect("memory");
    lose(&bed, "identity").await;
    let ports = bed.ports(Arc::new(bed.memory.clone()));
    let observed = ports.observe(bed.server(), Depth::Everything).await;
    let stored = observed.destinations.values().next().expect("one");
    let identity = stored.identity.known().map(|identity| identity.system_id);
    assert_eq!(identity, Some(SystemId(1)));
}

#[tokio::test]
async fn without_its_record_an_attempt_is_somebody_elses() {
    let bed = Bed::new("| done 1d | started 0d").await;
    let id = bed.world.id("0d");
    let attempt = Attempt {
        backup: id.clone(),
        started_at: now(),
        by: killed(),
        due: None,
        alive_at: instant("20m"),
        stopped: None,
    };
    let written = bed
        .archive
        .write_record(OwnObject::Attempt(id), &attempt, PutMode::Create);
    written.await.expect("memory");
    lose(&bed, "attempts/").await;
    assert_eq!(next(&bed).await.0, Vec::<String>::new());
    assert_eq!(bed.backups().await, "1d DONE | 0d STARTED");
}

#[tokio::test]
async fn without_a_lease_nobody_holds_one() {
    let bed = Bed::new(OLD).await;
    let ports = bed.ports(Arc::new(bed.memory.clone()));
    let seen = ports.plan(bed.server()).await;
    let wanted = exclusion::wanted(&seen.plan.steps);
    let rights = exclusion::Rights::insist(&ports, bed.server(), wanted).await;
    let rights = rights.expect("nobody else wants them");
    lose(&bed, "lease/").await;
    assert_eq!(next(&bed).await.0, ["delete 9d", "delete 8d", "delete WAL"]);
    rights.release().await;
}

#[tokio::test]
async fn without_marks_the_grace_begins_anew() {
    let bed = Bed::new(&format!("grace=24h {OLD}")).await;
    assert_eq!(at(&bed, "0h").await, ["mark 9d", "mark 8d"]);
    assert_eq!(at(&bed, "-23h").await, Vec::<String>::new());
    lose(&bed, "marks/").await;
    assert_eq!(at(&bed, "-25h").await, ["mark 9d", "mark 8d"]);
    assert_eq!(at(&bed, "-48h").await, Vec::<String>::new());
    let gone = at(&bed, "-49h").await;
    assert_eq!(gone, ["delete 9d", "delete 8d", "delete WAL"]);
}

#[tokio::test]
async fn without_the_record_of_deletes_nothing_more_is_deleted_for_a_day() {
    let bed = Bed::new(&format!("budget=1/100 {OLD}")).await;
    assert_eq!(next(&bed).await.0, ["delete 9d", "delete WAL"]);
    lose(&bed, "deleted/").await;
    let (done, told) = next(&bed).await;
    assert_eq!(done, Vec::<String>::new());
    assert!(told.contains("the record of deletes is unknown: that 9d was deleted"));
    assert_eq!(at(&bed, "-25h").await, ["delete 8d", "delete WAL"]);
}

#[tokio::test]
async fn without_the_baseline_it_is_a_first_contact() {
    let bed = Bed::new(OLD).await;
    lose(&bed, "baseline").await;
    let (done, told) = next(&bed).await;
    assert_eq!(done, Vec::<String>::new());
    assert!(
        told.contains("! blocked  first contact: 3 backups are there"),
        "{told}"
    );
    assert_eq!(bed.backups().await, "9d DONE | 8d DONE | 1d DONE");
}

#[tokio::test]
async fn without_its_record_a_keep_is_a_persons() {
    for lost in [false, true] {
        let bed = Bed::new("retention=1x | done 1d | done 8d keep:full").await;
        let record = KeepRecord {
            backup: bed.world.id("8d"),
            target: KeepTarget::Full,
            reason: String::new(),
            until: Some(instant("1h")),
            set_at: instant("3d"),
            by: SetBy::Policy,
        };
        let object = OwnObject::Keep(record.backup.clone());
        let written = bed.archive.write_record(object, &record, PutMode::Create);
        written.await.expect("memory");
        if lost {
            lose(&bed, "keeps/").await;
        }
        let stays = bed.backups().await == "8d DONE | 1d DONE";
        next(&bed).await;
        assert!(stays);
        let left = bed.backups().await;
        assert_eq!(left == "8d DONE | 1d DONE", lost, "{left}");
    }
}

#[tokio::test]
async fn without_what_is_only_for_people_nothing_changes() {
    let bed = Bed::new(OLD).await;
    for path in ["conflicts/x/y", "evidence/x/pages", "manifest/x"] {
        scene::put(&bed.archive, &format!("barkeep/{path}"), "{}").await;
    }
    let told = |text: String| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let ports = bed.ports(Arc::new(bed.memory.clone()));
    let before = Text(&ports.plan(bed.server()).await.plan).to_string();
    for part in ["conflicts/", "evidence/", "manifest/"] {
        lose(&bed, part).await;
        let after = Text(&ports.plan(bed.server()).await.plan).to_string();
        assert_eq!(told(after), told(before.clone()), "{part}");
    }
}
