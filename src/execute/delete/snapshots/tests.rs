use super::*;
use crate::{
    execute::delete::{LockCheck, Occasion, Scope, backups},
    model::{
        lock::LockMode,
        record::Epitaph,
        scene,
        semantics::Records,
        snapshot::{Account, DiskSnapshot, SnapshotSet},
    },
    snapshot::fake::Cloud,
    store::{
        PutMode,
        scene::{Bed, paths},
    },
};

/// A backup whose two disks are `data` and `wal` in a cloud.
struct Place {
    bed: Bed,
    cloud: Cloud,
}

impl Place {
    async fn new() -> Self {
        let place = Self {
            bed: Bed::new("done 1d | done 8d empty:").await,
            cloud: Cloud::default(),
        };
        let mut disks = Vec::new();
        for disk in ["data", "wal"] {
            place.cloud.make(&format!("snap-{disk}"), disk);
            disks.push(recorded(Recorded::Aws {
                device: None,
                id: format!("snap-{disk}"),
                name: Some(disk.to_owned()),
                lock: None,
            }));
        }
        let account = Account::Aws {
            account_id: None,
            region: None,
        };
        place.record(Some(&SnapshotSet { account, disks })).await;
        place
    }

    /// Writes which snapshots the backup consists of, or nonsense.
    async fn record(&self, set: Option<&SnapshotSet>) {
        let id = self.bed.id("8d");
        let stored = self.bed.archive.read_info(&id).await.expect("memory");
        let mut info = stored.expect("it is there").info;
        match set {
            Some(set) => info.set_snapshots(set),
            None => info.set("snapshots_info", Some("7".to_owned())),
        }
        let archive = &self.bed.archive;
        let written = archive.write_info(&id, &info, PutMode::Overwrite).await;
        written.expect("memory");
    }

    async fn doomed(&self) -> Doomed {
        let id = self.bed.id("8d");
        Doomed {
            epitaph: Epitaph {
                version: self.bed.version(&id).await,
                reason: "old".to_owned(),
            },
            id,
            scope: Scope::Label,
            has_snapshots: true,
        }
    }

    /// Deletes it, and says what came of it with all that is left of it.
    async fn delete(&self, rule: LockRule) -> (Option<String>, Vec<String>) {
        self.delete_judged(&self.doomed().await, rule).await
    }

    async fn delete_judged(
        &self,
        doomed: &Doomed,
        rule: LockRule,
    ) -> (Option<String>, Vec<String>) {
        let occasion = Occasion {
            at: scene::now(),
            plan: "7c1e94ab".to_owned(),
            records: Records::None,
            gone: std::collections::BTreeMap::new(),
            locks: LockCheck::Needless,
        };
        let snapshots = Snapshots {
            clouds: &self.cloud,
            access: &Access::default(),
            rule,
        };
        let doomed = std::slice::from_ref(doomed);
        let mut outcomes = backups(&self.bed.archive, doomed, &occasion, snapshots).await;
        let outcome = outcomes.pop().expect("one for each backup");
        let told = outcome.err().map(|error| crate::failure::chain(&error));
        let mut left = self.cloud.ids();
        let paths = paths(&self.bed.archive).await;
        let own = paths
            .iter()
            .any(|path| path.contains(self.bed.id("8d").as_str()));
        left.extend(own.then(|| "backup.info".to_owned()));
        (told, left)
    }
}

fn recorded(recorded: Recorded) -> DiskSnapshot {
    DiskSnapshot {
        mount: None,
        recorded,
    }
}

const ALL: [&str; 3] = ["snap-data", "snap-wal", "backup.info"];

#[tokio::test]
async fn a_backup_goes_with_its_snapshots_and_what_is_absent_is_deleted() {
    let place = Place::new().await;
    place.cloud.make("snap-other", "other");
    assert_eq!(
        place.delete(LockRule::Configured).await,
        (None, vec!["snap-other".to_owned()])
    );
    let place = Place::new().await;
    place.cloud.delete("snap-data").await.expect("memory");
    assert_eq!(place.delete(LockRule::Configured).await, (None, vec![]));
}

#[tokio::test]
async fn one_locked_snapshot_keeps_the_whole_backup() {
    let until = Lock::until(scene::now(), LockMode::Compliance);
    let unknown = || Lock::Unknown("no answer".to_owned());
    for (lock, rule, stays) in [
        (Lock::Held, LockRule::Asked, true),
        (until, LockRule::Asked, true),
        (unknown(), LockRule::Configured, true),
        // The cloud refuses then, and Barman relies on that.
        (unknown(), LockRule::Asked, false),
        (Lock::Free, LockRule::Configured, false),
    ] {
        let place = Place::new().await;
        place.cloud.set_lock("snap-wal", lock.clone());
        let (told, left) = place.delete(rule).await;
        let expected: &[&str] = if stays { &ALL } else { &[] };
        assert_eq!(left, expected, "{lock} {rule:?}");
        let is_told = told.is_some_and(|told| told.contains("Locked snapshot: snap-wal"));
        assert_eq!(is_told, stays, "{lock} {rule:?}");
    }
}

#[tokio::test]
async fn a_snapshot_that_is_another_than_was_recorded_keeps_the_whole_backup() {
    let place = Place::new().await;
    place.cloud.make("snap-wal", "audit");
    let (told, left) = place.delete(LockRule::Configured).await;
    let told = told.expect("it is another one");
    assert!(
        told.ends_with("it was called `wal` and is called `audit`"),
        "{told}"
    );
    assert_eq!(left, ALL);
}

#[tokio::test]
async fn a_snapshot_that_its_cloud_knows_by_its_name_is_the_one_that_was_recorded() {
    let place = Place::new().await;
    let disks = ["snap-data", "snap-wal"].map(|name| {
        recorded(Recorded::Gcp {
            device: None,
            name: name.to_owned(),
            project: None,
        })
    });
    let account = Account::Gcp { project: None };
    let disks = disks.into();
    place.record(Some(&SnapshotSet { account, disks })).await;
    assert_eq!(place.delete(LockRule::Configured).await, (None, vec![]));
}

#[tokio::test]
async fn a_cloud_that_does_not_answer_keeps_what_is_left_and_the_next_try_goes_on() {
    for (refused, left) in [
        ("open", &ALL[..]),
        ("locks", &ALL),
        ("describe snap-wal", &ALL),
        ("delete snap-data", &ALL),
        ("delete snap-wal", &ALL[1..]),
    ] {
        let place = Place::new().await;
        place.cloud.refuse(refused);
        let (told, there) = place.delete(LockRule::Configured).await;
        assert!(told.is_some_and(|told| told.contains(refused)), "{refused}");
        assert_eq!(there, left, "{refused}");
        place.cloud.relent();
        assert_eq!(place.delete(LockRule::Configured).await, (None, vec![]));
    }
}

#[tokio::test]
async fn a_backup_whose_record_names_no_snapshots_stays() {
    let place = Place::new().await;
    place.record(None).await;
    let (told, left) = place.delete(LockRule::Configured).await;
    assert!(told.is_some_and(|told| told.contains("cannot read which snapshots")));
    assert_eq!(left, ALL);
    let place = Place::new().await;
    let id = place.bed.id("8d");
    let stored = place.bed.archive.read_info(&id).await.expect("memory");
    let mut info = stored.expect("it is there").info;
    info.set("snapshots_info", None);
    let written = place.bed.archive.write_info(&id, &info, PutMode::Overwrite);
    written.await.expect("memory");
    let (told, left) = place.delete(LockRule::Configured).await;
    assert!(told.is_some_and(|told| told.contains("has changed since")));
    assert_eq!(left, ALL);
}

#[tokio::test]
async fn what_somebody_else_has_deleted_is_deleted() {
    let place = Place::new().await;
    let judged = place.doomed().await;
    assert_eq!(place.delete(LockRule::Configured).await, (None, vec![]));
    let again = place.delete_judged(&judged, LockRule::Configured).await;
    assert_eq!(again, (None, vec![]));
}
