use super::*;
use crate::{
    failure::Kind,
    model::{
        backup::KeepTarget,
        catalog::Run,
        lock::{Lock, LockMode},
        scene,
        semantics::LockRule,
        snapshot::Access,
        wal::SegmentNumber,
    },
    snapshot::AllClouds,
    store::{
        Operation,
        fault::{Effect, Faults, Faulty, Rule},
        meter::{Counts, Meter},
        scene::{Bed, paths, put, write_backup},
    },
};

async fn doomed(bed: &Bed, labels: &[&str]) -> Vec<Doomed> {
    let mut doomed = Vec::new();
    for label in labels {
        let id = bed.id(label);
        let epitaph = Epitaph {
            version: bed.version(&id).await,
            reason: "old".to_owned(),
        };
        let scope = Scope::Directory;
        doomed.push(Doomed {
            id,
            epitaph,
            scope,
            has_snapshots: false,
        });
    }
    doomed
}

fn occasion() -> Occasion {
    Occasion {
        at: scene::now(),
        plan: "7c1e94ab".to_owned(),
        records: Records::Written,
        gone: BTreeMap::new(),
        locks: LockCheck::Heeded,
    }
}

/// No cloud: nothing here has snapshots.
fn snapshots() -> Snapshots<'static> {
    Snapshots {
        clouds: &AllClouds,
        access: const {
            &Access {
                aws_profile: None,
                azure_credential: None,
            }
        },
        rule: LockRule::Asked,
    }
}

async fn delete(bed: &Bed, doomed: &[Doomed]) -> Vec<String> {
    delete_in(&bed.archive, doomed).await
}

async fn delete_in(archive: &Archive, doomed: &[Doomed]) -> Vec<String> {
    let outcomes = backups(archive, doomed, &occasion(), snapshots()).await;
    let told =
        |outcome: Result<(), Error>| outcome.map_or_else(|e| e.to_string(), |()| String::new());
    outcomes.into_iter().map(told).collect()
}

/// The bed's archive, in which something fails.
fn failing(bed: &Bed, rule: Rule) -> Archive {
    let faults = Faults::default();
    faults.add(rule);
    let faulty = Faulty::new(Arc::new(bed.memory.clone()), faults);
    Archive::new(Arc::new(faulty), &"orders".parse().expect("a name"))
}

/// What is left below `base/`, each backup by its name in the scene.
async fn base(bed: &Bed) -> Vec<String> {
    let all = paths(&bed.archive).await.into_iter();
    let base = all.filter_map(|path| path.strip_prefix("base/").map(str::to_owned));
    let told = |path: String| {
        let (id, rest) = path.split_once('/').expect("a directory");
        format!("{}/{rest}", bed.scene.label(&BackupId::new(id)))
    };
    base.map(told).collect()
}

#[tokio::test]
async fn of_a_backup_may_go_only_what_it_is_made_of() {
    let bed = Bed::new("done 1d | done 9d").await;
    let id = bed.id("9d");
    for stray in [
        "16384.tar",
        "16385.tar.gz",
        "data_0001.tar",
        "database.tar",
        "annotations/x",
    ] {
        put(&bed.archive, &format!("base/{id}/{stray}"), "x").await;
    }
    put(&bed.archive, &format!("barkeep/keeps/{id}"), "x").await;
    let mut gone = doomed(&bed, &["9d"]).await;
    let roots = [ArchiveRoot::Data, ArchiveRoot::Tablespace(16384)];
    gone[0].scope = Scope::Archives(roots.into());
    let occasion = Occasion {
        records: Records::None,
        ..occasion()
    };
    let outcomes = backups(&bed.archive, &gone, &occasion, snapshots()).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let left: Vec<_> = base(&bed)
        .await
        .into_iter()
        .filter(|path| path.starts_with("9d/"))
        .collect();
    assert_eq!(
        left,
        ["9d/16385.tar.gz", "9d/annotations/x", "9d/database.tar"]
    );
    let own: Vec<_> = paths(&bed.archive)
        .await
        .into_iter()
        .filter(|path| path.starts_with("barkeep/"))
        .collect();
    assert_eq!(own, [format!("barkeep/keeps/{id}")]);
}

#[tokio::test]
async fn a_backup_goes_with_all_that_was_noted_of_it_and_one_record_is_left() {
    let bed = Bed::new("done 1d | done 8d | done 9d").await;
    let id = bed.id("8d");
    for note in ["keeps", "marks", "manifest"] {
        put(&bed.archive, &format!("barkeep/{note}/{id}"), "x").await;
    }
    put(&bed.archive, &format!("barkeep/evidence/{id}/pages"), "x").await;
    put(&bed.archive, &format!("base/{id}/stray"), "x").await;
    let gone = doomed(&bed, &["9d", "8d"]).await;
    assert_eq!(delete(&bed, &gone).await, ["", ""]);
    assert_eq!(base(&bed).await, ["1d/backup.info", "1d/data.tar"]);
    let own: Vec<_> = paths(&bed.archive).await;
    let own: Vec<_> = own
        .iter()
        .filter(|path| path.starts_with("barkeep/"))
        .collect();
    assert_eq!(own, ["barkeep/deleted/20261120T120000.000000-7c1e94ab"]);
    let record = OwnObject::Deleted("20261120T120000.000000-7c1e94ab".to_owned());
    let record = bed
        .archive
        .read_record::<Deletion>(record)
        .await
        .expect("memory");
    let record = record.expect("it was written").0;
    assert_eq!(record.tombstones().count(), 2);
    assert_eq!(
        delete(&bed, &gone).await,
        ["", ""],
        "what is gone is deleted"
    );
}

#[tokio::test]
async fn one_record_names_all_that_goes_in_a_run_however_many_groups_it_goes_in() {
    let bed = Bed::new("done 1d | done 8d | done 9d").await;
    let mut occasion = occasion();
    for label in ["9d", "8d"] {
        let doomed = doomed(&bed, &[label]).await;
        let outcomes = backups(&bed.archive, &doomed, &occasion, snapshots()).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        let gone = doomed.into_iter().map(|one| (one.id, one.epitaph));
        occasion.gone.extend(gone);
    }
    let record = OwnObject::Deleted("20261120T120000.000000-7c1e94ab".to_owned());
    let record = bed.archive.read_record::<Deletion>(record).await;
    let record = record.expect("memory").expect("it was written").0;
    assert_eq!(record.tombstones().count(), 2);
}

#[tokio::test]
async fn what_was_kept_or_rewritten_since_stays() {
    let bed = Bed::new("done 1d | done 7d | done 8d | done 9d").await;
    let gone = doomed(&bed, &["9d", "8d", "7d"]).await;
    bed.archive
        .write_keep(&gone[0].id, KeepTarget::Full)
        .await
        .expect("memory");
    let rewritten = bed.scene.catalog.backup(&gone[1].id).expect("it is there");
    write_backup(&bed.archive, rewritten).await;
    let told = delete(&bed, &gone).await;
    assert!(told[0].contains("is kept since"), "{}", told[0]);
    assert!(told[1].contains("has changed since"), "{}", told[1]);
    assert_eq!(told[2], "");
    let left = base(&bed).await;
    assert_eq!(left.len(), 7);
    assert!(!left.iter().any(|path| path.starts_with("7d/")));
}

#[tokio::test]
async fn one_listing_looks_at_all_that_is_to_go() {
    let bed = Bed::new("done 1d | done 7d | done 8d | done 9d | done 10d").await;
    let gone = doomed(&bed, &["9d", "7d"]).await;
    let counts = Counts::default();
    let store = Meter::new(Arc::new(bed.memory.clone()), counts.clone());
    let archive = Archive::new(Arc::new(store), &"orders".parse().expect("a name"));
    for outcome in backups(&archive, &gone, &occasion(), snapshots()).await {
        outcome.expect("nothing has changed");
    }
    assert_eq!(counts.snapshot()[&Operation::List].requests, 1);
    let left = base(&bed).await;
    let left = left.iter().filter(|path| path.ends_with("backup.info"));
    let left: Vec<_> = left.collect();
    assert_eq!(
        left,
        ["10d/backup.info", "8d/backup.info", "1d/backup.info"]
    );
}

#[tokio::test]
async fn a_backup_that_lost_its_record_since_stays() {
    let bed = Bed::new("done 1d | done 9d").await;
    let gone = doomed(&bed, &["9d"]).await;
    bed.archive
        .remove(&ObjectKey::info(&gone[0].id))
        .await
        .expect("memory");
    assert!(delete(&bed, &gone).await[0].contains("has changed since"));
    assert!(base(&bed).await.contains(&"9d/data.tar".to_owned()));
}

#[tokio::test]
async fn nothing_goes_that_could_not_be_written_down() {
    let bed = Bed::new("done 1d | done 8d | done 9d").await;
    let gone = doomed(&bed, &["9d", "8d"]).await;
    let refused = Effect::Before(Meaning::PermissionDenied);
    let archive = failing(&bed, Rule::next(Operation::Put, "barkeep/deleted", refused));
    let before = base(&bed).await;
    for outcome in backups(&archive, &gone, &occasion(), snapshots()).await {
        let error = outcome.expect_err("nothing was written down");
        assert!(error.to_string().contains("cannot record"));
    }
    assert_eq!(base(&bed).await, before);
}

#[tokio::test]
async fn the_record_of_a_backup_goes_only_after_all_of_its_data() {
    let bed = Bed::new("done 1d | done 8d | done 9d").await;
    let gone = doomed(&bed, &["9d", "8d"]).await;
    let key = bed.archive.join(&format!("base/{}/data.tar", gone[0].id));
    // The store refuses what nobody could see.
    let refused = Rule::next(
        Operation::Delete,
        key.as_str(),
        Effect::Before(Meaning::Locked),
    );
    let archive = failing(&bed, refused);
    let told = delete_in(&archive, &gone).await;
    assert_eq!(told[0], "cannot delete 20261111T110000");
    assert_eq!(told[1], "", "the other one goes all the same");
    let left = [
        "9d/backup.info",
        "9d/data.tar",
        "1d/backup.info",
        "1d/data.tar",
    ];
    assert_eq!(base(&bed).await, left);
    assert_eq!(delete(&bed, &gone[..1]).await, [""]);
    assert_eq!(base(&bed).await, left[2..]);
}

#[tokio::test]
async fn what_cannot_be_looked_at_again_stays() {
    let bed = Bed::new("done 1d | done 8d | done 9d").await;
    let gone = doomed(&bed, &["9d", "8d"]).await;
    let before = base(&bed).await;
    let silent = Effect::Before(Meaning::Unreachable);
    let archive = failing(&bed, Rule::next(Operation::List, "base/", silent));
    let told = delete_in(&archive, &gone).await;
    let expected = ["20261111T110000", "20261112T110000"];
    assert_eq!(
        told,
        expected.map(|id| format!("cannot look at {id} again, so it stays"))
    );
    assert_eq!(base(&bed).await, before);
}

#[tokio::test]
async fn where_listings_tell_no_versions_they_are_asked_for() {
    let mut bed = Bed::new("done 1d | done 8d | done 9d").await;
    bed.memory = bed.memory.listing_no_versions();
    let gone = doomed(&bed, &["9d", "8d"]).await;
    let path = format!("base/{}/backup.info", gone[0].id);
    let silent = Effect::Before(Meaning::Unreachable);
    let archive = failing(&bed, Rule::next(Operation::Head, &path, silent));
    let told = delete_in(&archive, &gone).await;
    assert_eq!(told, ["cannot delete 20261111T110000", ""]);
    let rewritten = bed.scene.catalog.backup(&gone[0].id).expect("it is there");
    write_backup(&bed.archive, rewritten).await;
    let told = delete(&bed, &gone[..1]).await;
    assert!(told[0].contains("has changed since"), "{}", told[0]);
}

#[tokio::test]
async fn what_was_locked_since_it_was_judged_stays_whole() {
    let bed = Bed::new("done 1d | done 8d | done 9d").await;
    let gone = doomed(&bed, &["9d", "8d"]).await;
    let key = bed
        .archive
        .join(&format!("base/{}/backup.info", gone[0].id));
    let until = scene::now() + std::time::Duration::from_hours(1);
    let locks = [
        (
            Lock::until(until, LockMode::Governance),
            "object lock until 2026-11-20T13:00:00Z",
        ),
        (Lock::Held, "legal hold"),
        (
            Lock::Unknown("no answer".to_owned()),
            "whether it is locked is unknown: no answer",
        ),
    ];
    let before = base(&bed).await;
    for (lock, said) in locks {
        bed.memory.set_lock(&key, lock);
        let told = delete(&bed, &gone[..1]).await;
        assert_eq!(told, [format!("20261111T110000 cannot be deleted: {said}")]);
        assert_eq!(base(&bed).await, before);
    }
    assert_eq!(delete(&bed, &gone[1..]).await, [""], "it locks no other");
}

#[tokio::test]
async fn a_backup_of_more_objects_than_a_page_goes_whatever_the_page_size() {
    for page_size in [7, 1000] {
        let mut bed = Bed::new("done 1d | done 9d").await;
        let id = bed.id("9d");
        for part in 1..1500 {
            put(&bed.archive, &format!("base/{id}/data_{part:04}.tar"), "x").await;
        }
        let small = Arc::new(bed.memory.clone().with_page_size(page_size));
        bed.archive = Archive::new(small, &"orders".parse().expect("a name"));
        let gone = doomed(&bed, &["9d"]).await;
        assert_eq!(delete(&bed, &gone).await, [""]);
        assert_eq!(base(&bed).await, ["1d/backup.info", "1d/data.tar"]);
    }
}

#[tokio::test]
async fn an_orphan_goes_only_if_nothing_has_happened_to_it() {
    let id = BackupId::new("20261101T020000");
    let path = |name: &str| format!("base/{id}/{name}");
    let young = scene::now() + std::time::Duration::from_secs(1);
    for (late, kind) in [
        ("backup.info", Some(Kind::Refused)),
        ("annotations/keep", Some(Kind::Refused)),
        ("data_0001.tar", Some(Kind::Refused)),
        ("", None),
    ] {
        let bed = Bed::new("done 1d").await;
        put(&bed.archive, &path("data.tar"), "x").await;
        bed.memory.set_time(young);
        if !late.is_empty() {
            put(&bed.archive, &path(late), "x").await;
        }
        let outcome = orphan(&bed.archive, &id, scene::now(), LockCheck::Heeded).await;
        assert_eq!(outcome.err().map(|error| error.kind()), kind, "{late}");
        let left = base(&bed).await.len();
        assert_eq!(left, if kind.is_some() { 4 } else { 2 }, "{late}");
    }
}

#[tokio::test]
async fn an_orphan_that_is_being_sent_stays() {
    let bed = Bed::new("done 1d").await;
    let id = BackupId::new("20261101T020000");
    put(&bed.archive, &format!("base/{id}/data.tar"), "x").await;
    bed.memory
        .set_time(scene::now() + std::time::Duration::from_secs(1));
    let key = bed.archive.join(&format!("base/{id}/data_0001.tar"));
    let options = crate::store::UploadOptions {
        part_bytes: 1,
        mode: PutMode::Overwrite,
        tags: crate::store::Tags::default(),
    };
    let upload = bed.archive.store().begin_upload(&key, options).await;
    upload.expect("memory");
    let outcome = orphan(&bed.archive, &id, scene::now(), LockCheck::Heeded).await;
    assert!(matches!(outcome, Err(Error::Changed(_))), "{outcome:?}");
}

#[tokio::test]
async fn an_orphan_that_is_locked_or_cannot_be_looked_at_stays() {
    let id = BackupId::new("20261101T020000");
    let silent = Effect::Before(Meaning::Unreachable);
    let never = Effect::Before(Meaning::Unsupported);
    for (operation, effect, stays) in [
        (Operation::List, silent, true),
        (Operation::ListUploads, silent, true),
        (Operation::Locks, silent, true),
        (Operation::Delete, silent, true),
        // A destination without uploads has none that goes on.
        (Operation::ListUploads, never, false),
    ] {
        let bed = Bed::new("done 1d").await;
        put(&bed.archive, &format!("base/{id}/data.tar"), "x").await;
        let archive = failing(&bed, Rule::next(operation, "", effect));
        let outcome = orphan(&archive, &id, scene::now(), LockCheck::Heeded).await;
        assert_eq!(outcome.is_err(), stays, "{operation:?} {effect:?}");
        assert_eq!(
            base(&bed).await.len() == 3,
            stays,
            "{operation:?} {effect:?}"
        );
    }
}

/// Deletes spans written `1:3-5` from an archive of odd and ordinary objects; returns what is left of it.
async fn wal_left(spans: &str, page_size: usize) -> Vec<String> {
    let mut bed = Bed::new("wal 1:1-12").await;
    for path in [
        "wals/0000000100000000/000000010000000000000004.partial",
        "wals/0000000100000000/000000010000000000000004.00000028.backup.gz",
        "wals/0000000100000000/000000010000000000000004.zst",
        "wals/0000000100000000/000000010000000000000004",
        "wals/0000000100000000/junk",
        "wals/00000001.history",
        "wals/00000002.history.gz",
        "wals/0000000200000000/000000020000000000000004",
        "wals/0000000100000001/000000010000000100000004",
    ] {
        put(&bed.archive, path, "x").await;
    }
    let small = Arc::new(bed.memory.clone().with_page_size(page_size));
    bed.archive = Archive::new(small, &"orders".parse().expect("a name"));
    let spans: Vec<WalSpan> = spans.split(' ').map(span).collect();
    let doomed = DoomedWal {
        locks: LockCheck::Heeded,
        spans: &spans,
        size: SegmentSize::DEFAULT,
        known: BTreeSet::new(),
    };
    wal(&bed.archive, &doomed).await.expect("memory");
    let left = paths(&bed.archive).await.into_iter();
    let name = |path: String| path.rsplit('/').next().expect("a name").to_owned();
    left.map(name).collect()
}

fn span(text: &str) -> WalSpan {
    let (timeline, run) = text.split_once(':').expect("a timeline");
    let (first, last) = run.split_once('-').expect("a run");
    WalSpan {
        timeline: scene::timeline(timeline),
        run: Run {
            first: SegmentNumber(scene::number(first)),
            last: SegmentNumber(scene::number(last)),
        },
    }
}

#[tokio::test]
async fn wal_goes_exactly_and_histories_never() {
    for page_size in [1, 3, 1000] {
        let left = wal_left("1:0-4 1:6-11", page_size).await;
        assert_eq!(
            left,
            [
                "00000001.history",
                "000000010000000000000005.gz",
                "00000001000000000000000C.gz",
                "junk",
                "000000010000000100000004",
                "00000002.history.gz",
                "000000020000000000000004",
            ]
        );
        let left = wal_left("1:4-4 2:0-9", page_size).await;
        assert_eq!(left.len(), 11 + 2 + 1 + 1);
        assert!(
            !left
                .iter()
                .any(|name| name.contains("00000004") && !name.contains("0100000004"))
        );
        let left = wal_left("1:10-300", page_size).await;
        assert_eq!(left.len(), 9 + 5 + 3, "a span may end in another directory");
    }
}

#[tokio::test]
async fn no_wal_goes_when_something_new_may_need_it() {
    let bed = Bed::new("done 1d | wal 1:900-1010").await;
    let spans = [span("1:900-980")];
    let mut doomed = DoomedWal {
        locks: LockCheck::Heeded,
        spans: &spans,
        size: SegmentSize::DEFAULT,
        known: BTreeSet::new(),
    };
    let before = paths(&bed.archive).await;
    let outcome = wal(&bed.archive, &doomed).await;
    assert!(matches!(outcome, Err(Error::Appeared(_))), "{outcome:?}");
    assert_eq!(paths(&bed.archive).await, before);
    doomed.known.insert(bed.id("1d"));
    assert_eq!(wal(&bed.archive, &doomed).await.expect("memory"), 81);
}

#[tokio::test]
async fn wal_that_is_locked_or_cannot_be_looked_at_stays() {
    let spans = [span("1:900-980")];
    let silent = Effect::Before(Meaning::Unreachable);
    for (operation, key) in [
        (Operation::List, "base/"),
        (Operation::List, "wals/"),
        (Operation::Locks, "wals/"),
        (Operation::Delete, "wals/"),
    ] {
        let bed = Bed::new("done 1d | wal 1:980-1010").await;
        let doomed = DoomedWal {
            locks: LockCheck::Heeded,
            spans: &spans,
            size: SegmentSize::DEFAULT,
            known: [bed.id("1d")].into(),
        };
        let before = paths(&bed.archive).await;
        let archive = failing(&bed, Rule::next(operation, key, silent));
        let outcome = wal(&archive, &doomed).await;
        outcome.expect_err("a fault");
        assert_eq!(paths(&bed.archive).await, before, "{operation:?} {key}");
    }
}
