//! Records of deletes are read again and again; what they name is gone one day.

use super::*;
use crate::model::{
    backup::BackupId,
    record::{Deletion, Epitaph},
};

const OLD: &str = "retention=1x | done 1d | done 8d";

/// Writes a record that is a month old.
async fn record(bed: &Bed, name: &str, backup: &BackupId) {
    let epitaph = Epitaph {
        version: "other".to_owned(),
        reason: String::new(),
    };
    let deletion = Deletion {
        at: instant("30d"),
        plan: name.to_owned(),
        backups: BTreeMap::from([(backup.clone(), epitaph)]),
    };
    bed.memory.set_time(deletion.at);
    let object = OwnObject::Deleted(name.to_owned());
    let written = bed.archive.write_record(object, &deletion, PutMode::Create);
    written.await.expect("memory");
    bed.memory.set_time(now());
}

/// The records of old that are left.
async fn left(bed: &Bed) -> Vec<String> {
    let paths = scene::paths(&bed.archive).await.into_iter();
    let names = paths.filter_map(|path| path.strip_prefix("barkeep/deleted/").map(str::to_owned));
    names.filter(|name| !name.starts_with("20")).collect()
}

#[tokio::test]
async fn whoever_deletes_forgets_what_was_deleted_long_ago() {
    let bed = Bed::new(OLD).await;
    record(&bed, "over", &BackupId::new("20261001T020000")).await;
    record(&bed, "there", &bed.world.id("1d")).await;
    bed.once(Arc::new(bed.memory.clone())).await;
    assert_eq!(bed.backups().await, "1d DONE");
    assert_eq!(left(&bed).await, ["there"]);
}

#[tokio::test]
async fn whoever_deletes_nothing_forgets_nothing() {
    let bed = Bed::new("retention=2x | done 1d | done 8d").await;
    record(&bed, "over", &BackupId::new("20261001T020000")).await;
    bed.once(Arc::new(bed.memory.clone())).await;
    assert_eq!(left(&bed).await, ["over"]);
}

#[tokio::test]
async fn a_delete_is_none_the_worse_for_records_that_cannot_be_forgotten() {
    let bed = Bed::new(OLD).await;
    record(&bed, "over", &BackupId::new("20261001T020000")).await;
    let faults = Faults::default();
    let refused = Effect::Before(Meaning::PermissionDenied);
    faults.add(Rule::next(Operation::List, "barkeep/deleted", refused).for_ever());
    let faulty = Faulty::new(Arc::new(bed.memory.clone()), faults);
    let report = bed.once(Arc::new(faulty)).await;
    assert!(report.outcomes.iter().all(|outcome| outcome.result.is_ok()));
    assert_eq!(bed.backups().await, "1d DONE");
    assert_eq!(left(&bed).await, ["over"]);
}
