use std::sync::Arc;

use super::*;
use crate::{
    model::{
        record::{Actor, Epitaph},
        scene::{instant, now},
        zone::Zone,
    },
    store::{
        PutMode,
        fault::{Effect, Faults, Faulty, Rule},
        meter::{Counts, Meter},
        read_only::ReadOnly,
        scene::{Bed, put, write_backup},
    },
};

fn context() -> Context<'static> {
    Context {
        snapshots: None,
        earlier: None,
        zone: Zone::utc(),
        clock: Clock::Fixed(now()),
        object_lock: ObjectLock::Respect,
        depth: Depth::Everything,
        deletes: Deletes::Recent,
    }
}

async fn look(archive: &Archive) -> Stored {
    observe(archive, &context()).await
}

fn over(store: impl crate::store::Store + 'static) -> Archive {
    Archive::new(Arc::new(store), &"orders".parse().expect("a name"))
}

const MIXED: &str = "done 1d | done 8d keep:standalone name:v17 | started 2d | failed 3d \
                     | done 15d tl:2 sys:1 v:17 | waiting_for_wals 4d | unreadable 5d \
                     | wal 1:900-1005 1:1008-1010 2:1000-1010 | history 2:1@1004";

#[tokio::test]
async fn a_catalog_is_read_as_it_was_written_whatever_the_page_size() {
    let mut scene = Bed::new(MIXED).await;
    for page_size in [1, 2, 1000] {
        let archive = over(scene.memory.clone().with_page_size(page_size));
        let stored = look(&archive).await;
        let Knowledge::Known(mut found) = stored.catalog else {
            panic!("{:?}", stored.catalog);
        };
        let expected = &mut scene.scene.catalog;
        for (found, expected) in found.backups.iter_mut().zip(&mut expected.backups) {
            // What a scene does not speak of.
            expected.pgdata.clone_from(&found.pgdata);
            expected.error.clone_from(&found.error);
        }
        assert_eq!(found.backups, expected.backups);
        assert_eq!(found.wal.runs, expected.wal.runs);
        assert_eq!(
            found.wal.histories.keys().collect::<Vec<_>>(),
            expected.wal.histories.keys().collect::<Vec<_>>()
        );
        assert_eq!(found.unreadable.len(), 1);
        assert_eq!(found.versions.len(), found.backups.len());
        assert_eq!(stored.identity.known().map(|i| i.system_id.0), Some(1));
        assert_eq!(stored.read_at, now());
    }
}

#[tokio::test]
async fn what_others_spelled_oddly_is_told_apart() {
    let bed = Bed::new("done 1d").await;
    for path in [
        "base/20261101T020000/data.tar",
        "base/20261102T020000/annotations/keep",
        "base/lost+found/x",
        "base/stray",
        "wals/0000000100000000/000000010000000000000007.partial",
        "wals/0000000100000007/0000000100000007000000D0.partial",
    ] {
        put(&bed.archive, path, "full").await;
    }
    let stored = look(&bed.archive).await;
    let catalog = stored.catalog.known().expect("memory");
    let orphans: Vec<_> = catalog
        .orphans
        .iter()
        .map(|orphan| (orphan.id.as_str(), orphan.keep))
        .collect();
    let expected = [
        ("20261101T020000", None),
        ("20261102T020000", Some(KeepTarget::Full)),
        ("lost+found", None),
    ];
    assert_eq!(orphans, expected);
    assert_eq!(catalog.backups.len(), 1);
    let fragments = catalog.wal.fragments.iter().map(|(_, number)| number.0);
    assert_eq!(
        fragments.collect::<Vec<_>>(),
        [2000],
        "7 is there as a whole"
    );
}

#[tokio::test]
async fn nothing_written_yet_is_absent() {
    let memory = crate::store::memory::Memory::new(now());
    let stored = look(&over(memory)).await;
    assert_eq!(stored.catalog, Knowledge::Absent);
    assert_eq!(stored.identity, Knowledge::Absent);
    assert_eq!(stored.tombstones, Knowledge::Known(Vec::new()));
}

/// What a look that fails somewhere leaves unknown.
async fn lost(rule: Rule) -> String {
    let bed = Bed::new(MIXED).await;
    put(&bed.archive, "barkeep/keeps/20261101T020000", "{}").await;
    let faults = Faults::default();
    faults.add(rule);
    let stored = look(&over(Faulty::new(Arc::new(bed.memory.clone()), faults))).await;
    let all = [
        ("catalog", stored.catalog.unknown().is_some()),
        ("identity", stored.identity.unknown().is_some()),
        ("attempts", stored.attempts.unknown().is_some()),
        ("tombstones", stored.tombstones.unknown().is_some()),
        ("keeps", stored.keep_records.unknown().is_some()),
        ("uploads", stored.uploads.unknown().is_some()),
    ];
    let unknown = all.iter().filter(|(_, unknown)| *unknown);
    unknown.map(|(what, _)| *what).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn what_could_not_be_read_is_unknown_never_absent() {
    let bed = Bed::new(MIXED).await;
    let first = bed.id("15d");
    let silent = Effect::Before(Meaning::Unreachable);
    let own = "identity attempts tombstones keeps";
    let cases = [
        (Operation::List, "orders/base", silent, "catalog keeps"),
        (Operation::List, "orders/wals", silent, "catalog keeps"),
        (Operation::List, "orders/barkeep", silent, own),
        (Operation::ListUploads, "", silent, "keeps uploads"),
        (Operation::Get, first.as_str(), silent, "catalog keeps"),
        (
            Operation::Get,
            first.as_str(),
            Effect::After(Meaning::Unreachable),
            "catalog keeps",
        ),
        (Operation::Get, "annotations/keep", silent, "catalog keeps"),
        (Operation::Get, ".history", silent, "catalog keeps"),
        // Gone between the listing and the reading.
        (
            Operation::Get,
            ".history",
            Effect::Before(Meaning::NotFound),
            "catalog keeps",
        ),
        (Operation::Get, "nothing", silent, "keeps"),
    ];
    for (operation, key, effect, unknown) in cases {
        let rule = Rule::next(operation, key, effect);
        assert_eq!(lost(rule).await, unknown, "{operation:?} {key}");
    }
}

#[tokio::test]
async fn every_request_that_fails_makes_something_unknown() {
    let bed = Bed::new(MIXED).await;
    let faults = Faults::default();
    look(&over(Faulty::new(
        Arc::new(bed.memory.clone()),
        faults.clone(),
    )))
    .await;
    let calls = faults.calls().len() as u64;
    assert!(calls > 12, "{calls}");
    for nth in 0..calls {
        let lost = lost(Rule::nth(nth, Effect::Before(Meaning::Unreachable))).await;
        assert!(
            lost.len() > "keeps".len() || lost.contains("catalog"),
            "{nth}: {lost}"
        );
    }
}

#[tokio::test]
async fn a_record_that_is_gone_by_now_is_not_unknown() {
    let bed = Bed::new("done 1d").await;
    put(&bed.archive, "barkeep/keeps/20261101T020000", "{}").await;
    let faults = Faults::default();
    faults.add(Rule::next(
        Operation::Get,
        "barkeep/keeps",
        Effect::Before(Meaning::NotFound),
    ));
    let stored = look(&over(Faulty::new(Arc::new(bed.memory.clone()), faults))).await;
    assert_eq!(stored.keep_records, Knowledge::Known(BTreeMap::new()));
}

#[tokio::test]
async fn a_store_without_a_listing_of_uploads_has_none_to_show() {
    let bed = Bed::new("done 1d").await;
    let faults = Faults::default();
    let effect = Effect::Before(Meaning::Unsupported);
    faults.add(Rule::next(Operation::ListUploads, "", effect));
    let stored = look(&over(Faulty::new(Arc::new(bed.memory.clone()), faults))).await;
    assert_eq!(stored.uploads, Knowledge::Absent);
}

#[tokio::test]
async fn records_are_read_with_what_is_known_of_their_process() {
    let bed = Bed::new("started 1d").await;
    let id = bed.id("1d");
    let attempt = Attempt {
        backup: id.clone(),
        started_at: now(),
        by: Actor {
            host: "elsewhere".to_owned(),
            boot: "another".to_owned(),
            pid: 1,
            started: 1,
        },
        due: None,
        alive_at: now(),
        stopped: None,
    };
    let own = OwnObject::Attempt(id.clone());
    bed.archive
        .write_record(own, &attempt, PutMode::Create)
        .await
        .expect("memory");
    let stored = look(&bed.archive).await;
    let attempts = stored.attempts.known().expect("memory");
    assert_eq!(attempts.get(&id), Some(&(attempt, Life::Elsewhere)));
}

#[tokio::test]
async fn old_records_of_deletes_are_read_only_when_they_may_explain_something() {
    let deletion = |label: &str, backup: &BackupId| Deletion {
        at: instant(label),
        plan: "p".to_owned(),
        backups: BTreeMap::from([(
            backup.clone(),
            Epitaph {
                version: "v".to_owned(),
                reason: String::new(),
            },
        )]),
    };
    for (text, deletes, found) in [
        ("done 1d", Deletes::Recent, 1),
        ("done 1d | done 9d empty:", Deletes::Recent, 2),
        ("done 1d", Deletes::All, 2),
    ] {
        let bed = Bed::new(text).await;
        for age in ["3d", "2h"] {
            bed.memory.set_time(instant(age));
            let object = OwnObject::Deleted(format!("{age}-p"));
            let record = deletion(age, &BackupId::new(age));
            let written = bed.archive.write_record(object, &record, PutMode::Create);
            written.await.expect("memory");
        }
        bed.memory.set_time(now());
        let context = Context {
            deletes,
            ..context()
        };
        let stored = observe(&bed.archive, &context).await;
        assert_eq!(
            stored.tombstones.known().map(Vec::len),
            Some(found),
            "{text}, {deletes:?}"
        );
    }
}

#[tokio::test]
async fn looking_writes_nothing_and_asks_little() {
    let bed = Bed::new(MIXED).await;
    let counts = Counts::default();
    let store = Meter::new(Arc::new(bed.memory.clone()), counts.clone());
    let stored = look(&over(ReadOnly::new(Arc::new(store)))).await;
    assert!(stored.catalog.known().is_some());
    let made: Vec<_> = counts
        .snapshot()
        .into_iter()
        .map(|(operation, count)| (operation, count.requests))
        .collect();
    // Seven records of backups, a keep and a history; base, barkeep, the directories of WAL and the WAL.
    let expected = [
        (Operation::Get, 9),
        (Operation::List, 4),
        (Operation::ListUploads, 1),
    ];
    assert_eq!(made, expected);
}

#[tokio::test]
async fn what_was_read_before_is_read_again_only_when_it_is_another_version() {
    let bed = Bed::new("done 1d | done 8d | done 9d keep:full | wal 1:900-1005").await;
    let before = look(&bed.archive).await;
    let rewritten = bed
        .scene
        .catalog
        .backup(&bed.id("8d"))
        .expect("it is there");
    let rewritten = Backup {
        name: Some("before-v17".to_owned()),
        ..rewritten.clone()
    };
    write_backup(&bed.archive, &rewritten).await;
    bed.archive
        .write_keep(&bed.id("1d"), KeepTarget::Standalone)
        .await
        .expect("memory");
    let counts = Counts::default();
    let metered = over(Meter::new(Arc::new(bed.memory.clone()), counts.clone()));
    let context = Context {
        snapshots: None,
        earlier: before.catalog.known(),
        ..context()
    };
    let again = observe(&metered, &context).await;
    assert_eq!(again, look(&bed.archive).await);
    let reads = counts.snapshot()[&Operation::Get].requests;
    assert_eq!(reads, 3, "one record and two keeps");
}
