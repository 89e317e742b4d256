use super::*;
use crate::{
    model::{
        backup::KeepTarget,
        lock::LockMode,
        scene,
        snapshot::{Account, DiskSnapshot, Recorded, SnapshotSet},
    },
    snapshot::fake::Cloud,
    store::{
        PutMode,
        fenced::{Closed, Open},
        scene::{Bed, put},
    },
};

const SNAPSHOT: &str = "snap-data";

/// A snapshot with the tags of a backup, of which this is in the catalog.
struct Place {
    bed: Bed,
    cloud: Cloud,
    backup: BackupId,
}

impl Place {
    async fn new(catalog: &str) -> Self {
        let bed = Bed::new(catalog).await;
        let (cloud, backup) = (Cloud::default(), bed.id("8d"));
        cloud.make(SNAPSHOT, "data");
        let place = Self { bed, cloud, backup };
        place
            .cloud
            .set_tags(SNAPSHOT, place.owner().tags(&place.backup));
        place
    }

    fn owner(&self) -> Owner {
        Owner {
            server: self.bed.archive.server().to_owned(),
            catalog: self.bed.archive.store().location().to_owned(),
        }
    }

    /// Writes that the backup consists of a snapshot.
    async fn record(&self, id: &str) {
        let stored = self
            .bed
            .archive
            .read_info(&self.backup)
            .await
            .expect("memory");
        let mut info = stored.expect("it is there").info;
        let recorded = Recorded::Aws {
            device: None,
            id: id.to_owned(),
            name: None,
            lock: None,
        };
        let account = Account::Aws {
            account_id: None,
            region: None,
        };
        let disk = DiskSnapshot {
            mount: None,
            recorded,
        };
        info.set_snapshots(&SnapshotSet {
            account,
            disks: vec![disk],
        });
        let archive = &self.bed.archive;
        let written = archive.write_info(&self.backup, &info, PutMode::Overwrite);
        written.await.expect("memory");
    }

    /// Deletes it; says why not, or that it is gone.
    async fn delete(&self, fence: &dyn Fence) -> String {
        let doomed = Alone {
            backup: &self.backup,
            snapshot: SNAPSHOT,
        };
        let deleted = alone(&self.bed.archive, &doomed, &self.cloud, fence).await;
        match (deleted, self.cloud.ids().is_empty()) {
            (Ok(()), true) => "gone".to_owned(),
            (Err(error), false) => crate::failure::chain(&error),
            odd => panic!("{odd:?}"),
        }
    }
}

#[tokio::test]
async fn what_no_backup_records_goes_and_may_be_gone_already() {
    let place = Place::new("done 1d").await;
    assert_eq!(place.delete(&Open).await, "gone");
    assert_eq!(place.delete(&Open).await, "gone");
}

#[tokio::test]
async fn what_a_backup_may_still_record_stays() {
    let changed = "has changed since the plan was made";
    let place = Place::new("done 1d | started 8d").await;
    assert!(place.delete(&Open).await.contains(changed));

    let place = Place::new("done 1d | done 8d").await;
    place.record(SNAPSHOT).await;
    assert!(place.delete(&Open).await.contains(changed));
    place.record("snap-other").await;
    assert_eq!(place.delete(&Open).await, "gone");

    let place = Place::new("done 1d").await;
    let attempt = format!("barkeep/attempts/{}", place.backup);
    put(&place.bed.archive, &attempt, "{}").await;
    assert!(place.delete(&Open).await.contains(changed));

    let place = Place::new("done 1d").await;
    let kept = place
        .bed
        .archive
        .write_keep(&place.backup, KeepTarget::Full);
    kept.await.expect("memory");
    assert!(place.delete(&Open).await.contains(changed));
}

#[tokio::test]
async fn what_cannot_be_read_may_record_it() {
    let place = Place::new("done 1d | done 8d").await;
    let info = format!("base/{}/backup.info", place.backup);
    for content in ["no lines of fields", "status=DONE\nsnapshots_info={\n"] {
        put(&place.bed.archive, &info, content).await;
        let told = place.delete(&Open).await;
        let read = format!(
            "cannot read which snapshots backup {} consists of",
            place.backup
        );
        assert!(told.contains(&read), "{content}: {told}");
    }
}

#[tokio::test]
async fn what_is_not_ours_any_more_or_locked_stays() {
    let place = Place::new("done 1d").await;
    place.cloud.set_tags(SNAPSHOT, place.owner().of_catalog());
    let told = place.delete(&Open).await;
    assert!(told.contains("does not carry the tags"), "{told}");

    for lock in [
        Lock::Held,
        Lock::Unknown("denied".to_owned()),
        Lock::LockedUntil {
            until: Some(scene::now() + std::time::Duration::from_hours(1)),
            mode: LockMode::Compliance,
        },
    ] {
        let place = Place::new("done 1d").await;
        place.cloud.set_lock(SNAPSHOT, lock.clone());
        let told = place.delete(&Open).await;
        assert!(told.contains(SNAPSHOT), "{lock:?}: {told}");
    }
}

#[tokio::test]
async fn nothing_goes_without_the_right_or_an_answer() {
    let place = Place::new("done 1d").await;
    assert!(
        place
            .delete(&Closed)
            .await
            .contains("the right to delete was lost")
    );
    for doing in ["describe snap-data", "locks", "delete snap-data"] {
        place.cloud.refuse(doing);
        let told = place.delete(&Open).await;
        assert!(told.contains("no answer"), "{doing}: {told}");
        place.cloud.relent();
    }
}
