//! Backups as Barman's commands take them: no records, PostgreSQL's archiver has the word, and what a Barman server has is relayed.

use super::*;
use crate::store::{
    Meaning, Operation,
    fault::{Effect, Faults, Faulty, Rule},
};

/// The bed of a command under Barman's name.
fn as_barman() -> Bed {
    let mut bed = Bed::new();
    bed.request.records = Records::None;
    bed.request.wal = WalProof::Archiver;
    bed
}

#[tokio::test]
async fn nothing_but_the_backup_is_stored_and_the_archiver_is_waited_for() {
    let mut bed = as_barman();
    bed.postgres.facts.data_checksums = true;
    let mut page = [1; 8192];
    page[..8].fill(0);
    bed.write("base/5/16384", &page);
    // It never arrives where the backup is: it may be archived elsewhere.
    let taken = bed.take_waiting_for(Arrives::Never).await;
    let taken = taken.expect("a backup");
    assert_eq!(taken.state, TakenState::Done);
    assert_eq!(taken.damaged_files, 1);
    assert_eq!(bed.status().await, "DONE");
    for key in bed.keys() {
        assert!(key.starts_with("base/20261120T030000/"), "{key}");
    }
    let asked = bed.postgres.asked.lock().expect("no panic").clone();
    assert_eq!(asked[..2], ["start", "stop, waiting"]);
}

#[tokio::test]
async fn two_backups_of_one_second_get_two_ids_without_a_record_too() {
    let bed = as_barman();
    let first = bed.take().await.expect("a backup").backup;
    let second = bed.take().await.expect("a backup").backup;
    assert_eq!(first.as_str(), ID);
    assert_eq!(second.as_str(), "20261120T030001");
}

#[tokio::test]
async fn a_failure_is_recorded_without_the_end_that_it_did_not_reach() {
    let mut bed = as_barman();
    bed.postgres.fails = Some(At::Stop);
    bed.take().await.expect_err("no backup");
    assert!(
        bed.status()
            .await
            .starts_with("FAILED: failure uploading data (")
    );
    let info = bed.catalog().read_info(&BackupId::new(ID)).await;
    let info = info.expect("a readable record").expect("a record").info;
    assert_eq!(info.get("end_time"), None);
    assert_eq!(info.get("backup_name"), Some("before"));
}

#[tokio::test]
async fn whoever_may_only_write_takes_backups() {
    let bed = as_barman();
    let faults = Faults::default();
    for operation in [Operation::List, Operation::Head, Operation::Get] {
        let denied = Effect::Before(Meaning::PermissionDenied);
        faults.add(Rule::next(operation, "", denied).for_ever());
    }
    let store = Faulty::new(Arc::new(bed.memory.clone()), faults);
    let mut ports = bed.ports(Arrives::Never);
    ports.catalog = Archive::new(Arc::new(store), &"orders".parse().expect("a name"));
    let taken = take_backup(&bed.request, &mut ports).await;
    assert_eq!(taken.expect("a backup").state, TakenState::Done);
    assert_eq!(bed.status().await, "DONE");
}

/// A backup as a Barman server keeps it, and the request to relay it.
async fn relay(bed: &Bed) -> Relay {
    bed.take().await.expect("a backup");
    let info = bed.memory.contents();
    let info = info
        .into_iter()
        .find(|(key, _)| key.as_str().ends_with("/backup.info"));
    for key in bed.memory.contents().into_keys() {
        bed.memory.delete(&[key]).await;
    }
    bed.write("backup_label", b"START WAL LOCATION: 0/3000028\n");
    let (from, to) = (bed.home.path().join("ts"), bed.home.path().join("16399"));
    fs::rename(from, to).expect("a directory");
    Relay {
        id: BackupId::new("20261119T010203"),
        directory: bed.home.path().to_owned(),
        info: info.expect("a record").1,
        files: bed.request.files.clone(),
    }
}

fn relay_ports(bed: &Bed) -> RelayPorts {
    RelayPorts {
        catalog: bed.catalog(),
        throttle: None,
        progress: Arc::new(Unwatched),
        cancel: bed.cancel.clone(),
    }
}

#[tokio::test]
async fn a_backup_on_disk_is_relayed_with_its_label_and_its_record_as_it_is() {
    let bed = as_barman();
    let relay = relay(&bed).await;
    let relayed = relay_backup(&relay, &relay_ports(&bed)).await;
    assert_eq!(relayed.expect("a backup").archives.len(), 2);
    let directory = "base/20261119T010203";
    assert_eq!(
        bed.keys(),
        [
            format!("{directory}/16399.tar"),
            format!("{directory}/backup.info"),
            format!("{directory}/data.tar"),
        ]
    );
    let archives = bed.archives().await;
    let data = &archives["data.tar"];
    assert!(data.contains(&"./backup_label".to_owned()), "{data:?}");
    assert_eq!(data.last().map(String::as_str), Some("global/pg_control"));
    assert!(archives["16399.tar"].contains(&"PG_18_202506291/5/16400".to_owned()));
    let key = format!("orders/{directory}/backup.info");
    let stored = bed.memory.contents();
    let stored = stored.iter().find(|(other, _)| other.as_str() == key);
    assert_eq!(stored.map(|(_, text)| text), Some(&relay.info));
}

#[tokio::test]
async fn what_cannot_be_relayed_whole_leaves_no_record() {
    let bed = as_barman();
    let relay = relay(&bed).await;
    fs::remove_file(bed.pgdata().join("global/pg_control")).expect("it was there");
    let failed = relay_backup(&relay, &relay_ports(&bed)).await;
    assert!(matches!(failed, Err(Error::Read { .. })), "{failed:?}");
    assert!(!bed.keys().iter().any(|key| key.ends_with("backup.info")));
    let uploads = bed.memory.list_uploads("").await.expect("a list");
    assert!(uploads.is_empty());
}
