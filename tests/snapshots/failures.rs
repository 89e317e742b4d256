//! What goes wrong, and what it leaves behind.

use crate::{
    fake::{Fault, Kind},
    place::{Place, Ran, Whose},
};

fn back_up(place: &Place) -> Ran {
    place.back_up(Whose::Ours, &place.disks())
}

/// The status of the last backup, and how many snapshots there are.
async fn left(place: &Place) -> (String, usize) {
    let stored = place.stored(Whose::Ours).await;
    let status = stored.last().and_then(|stored| stored.info.get("status"));
    let count = place.cloud.state().snapshots.len();
    (status.unwrap_or("none").to_owned(), count)
}

#[test]
fn what_is_not_there_is_told_before_anything_is_written() {
    Kind::each(async |kind| {
        let Some(place) = Place::start(kind).await else {
            return;
        };
        let cases = [
            (
                "--snapshot-instance=pg-2",
                "Cannot find compute instance pg-2",
            ),
            (
                "--snapshot-disk=other",
                "Cannot find disks attached to compute instance pg-1: other",
            ),
            ("--snapshot-disk=root", "the disk `root` is the "),
        ];
        for (word, told) in cases {
            let words = [place.disks(), vec![word.to_owned()]].concat();
            let ran = place.back_up(Whose::Ours, &words);
            assert_eq!(ran.code, 4, "{kind:?} {word}: {}", ran.stderr);
            let told = format!("Barman cloud backup exception: {told}");
            assert!(
                ran.stderr.contains(&told),
                "{kind:?} {word}: {}",
                ran.stderr
            );
        }
        place.cloud.state().disks[2].device = match kind {
            Kind::Aws => "/dev/sdz".to_owned(),
            Kind::Azure => "20".to_owned(),
            Kind::Google => "device-20".to_owned(),
        };
        let ran = back_up(&place);
        let told = "Cannot find disks mounted on compute instance pg-1: pgwal";
        assert!(
            ran.code == 4 && ran.stderr.contains(told),
            "{kind:?}: {}",
            ran.stderr
        );
        assert_eq!(left(&place).await, ("none".to_owned(), 0), "{kind:?}");
    });
}

#[test]
fn of_a_backup_that_fails_no_snapshot_is_left() {
    let (now, later) = ("QuotaExceeded", "RESOURCE_OPERATION_RATE_EXCEEDED");
    let faults = [
        (Fault::Refused(400, now), now),
        (Fault::Later(later), later),
    ];
    Kind::each(async |kind| {
        let Some(place) = Place::start(kind).await else {
            return;
        };
        for (fault, name) in faults.clone() {
            place
                .cloud
                .state()
                .faults
                .extend([Fault::None, fault.clone()]);
            let ran = back_up(&place);
            assert_eq!(ran.code, 1, "{kind:?} {fault:?}: {}", ran.stderr);
            for told in ["Backup failed uploading data (", name] {
                assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
            }
            let left = left(&place).await;
            assert_eq!(
                left,
                ("FAILED".to_owned(), 0),
                "{kind:?} {fault:?}: {}",
                ran.stderr
            );
        }
        // What cannot be removed is recorded, and goes with the backup.
        let refused = Fault::Refused(400, "NotNow");
        let faults = [Fault::None, refused.clone(), refused];
        place.cloud.state().faults.extend(faults);
        assert_eq!(back_up(&place).code, 1, "{kind:?}");
        assert_eq!(left(&place).await, ("FAILED".to_owned(), 1), "{kind:?}");
        let stored = place.stored(Whose::Ours).await.pop().expect("a backup");
        let set = stored
            .info
            .snapshots()
            .expect("a record")
            .expect("snapshots");
        assert_eq!(set.disks.len(), 1, "{kind:?}");
        let options = [format!("--backup-id={}", stored.id)];
        let ran = place.run(
            Whose::Ours,
            "barman-cloud-backup-delete",
            (&options, Whose::Ours),
            &[],
        );
        assert_eq!(ran.code, 0, "{kind:?}: {}", ran.stderr);
        assert_eq!(place.cloud.state().snapshots.len(), 0, "{kind:?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_snapshot_keeps_its_whole_backup() {
    let Some(place) = Place::start(Kind::Aws).await else {
        return;
    };
    let lock = [
        "--aws-snapshot-lock-mode=compliance",
        "--aws-snapshot-lock-duration=7",
    ];
    let words = [place.disks(), lock.map(str::to_owned).to_vec()].concat();
    let ran = place.back_up(Whose::Ours, &words);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let asked = place.cloud.asked();
    let locks = asked.iter().filter(|words| words.starts_with("lock snap-"));
    let ends = locks
        .map(|words| words.split_once(": ").expect("words").1)
        .collect::<Vec<_>>();
    assert_eq!(ends, ["compliance, 7 days, until ,  hours"; 2]);
    // Only the second one is locked any more: the first must not go either.
    let first = place
        .cloud
        .state()
        .snapshots
        .keys()
        .next()
        .cloned()
        .expect("one");
    place
        .cloud
        .state()
        .snapshots
        .get_mut(&first)
        .expect("one")
        .lock = None;
    let stored = place.stored(Whose::Ours).await.pop().expect("a backup");
    let recorded = stored.info.get("snapshots_info").expect("snapshots");
    assert!(
        recorded.contains("'snapshot_lock_mode': 'compliance'"),
        "{recorded}"
    );
    let options = [format!("--backup-id={}", stored.id)];
    let delete = || {
        place.run(
            Whose::Ours,
            "barman-cloud-backup-delete",
            (&options, Whose::Ours),
            &[],
        )
    };
    let ran = delete();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("Locked snapshot: snap-"),
        "{}",
        ran.stderr
    );
    assert_eq!(left(&place).await, ("DONE".to_owned(), 2));
    for snapshot in place.cloud.state().snapshots.values_mut() {
        snapshot.lock = None;
        snapshot
            .tags
            .insert("Name".to_owned(), "another".to_owned());
    }
    let ran = delete();
    assert!(
        ran.code == 1 && ran.stderr.contains("is called `another`"),
        "{}",
        ran.stderr
    );
    assert_eq!(left(&place).await, ("DONE".to_owned(), 2));
}
