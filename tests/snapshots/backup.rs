//! What both programs make of the same backup: equal records, equivalent requests, and each takes what the other made.

use std::collections::{BTreeMap, BTreeSet};

use barkeep::format::backup_info::FIELDS;

use crate::{
    fake::{Cloud, INSTANCE, Kind},
    place::{Place, Stored, Whose},
};

/// What no two backups have in common.
const OF_ITS_OWN: [&str; 10] = [
    "backup_label",
    "begin_offset",
    "begin_time",
    "begin_wal",
    "begin_xlog",
    "cluster_size",
    "end_offset",
    "end_time",
    "end_wal",
    "end_xlog",
];

/// A record, with what is this backup's alone left out or named.
fn comparable(stored: &Stored, ids: &[String]) -> BTreeMap<&'static str, Option<String>> {
    let fields = FIELDS
        .into_iter()
        .filter(|field| !OF_ITS_OWN.contains(field));
    let told = |field: &'static str| {
        let text = stored.info.get(field)?.to_owned();
        let text = text.replace(&stored.id.to_lowercase(), "ID");
        let text = ids
            .iter()
            .fold(text, |text, id| text.replace(id, "SNAPSHOT"));
        // How long it took is told by both, in the same words.
        if field != "copy_stats" {
            return Some(text);
        }
        let words = text.chars();
        Some(words.filter(|c| !c.is_ascii_digit() && *c != '.').collect())
    };
    fields.map(|field| (field, told(field))).collect()
}

fn ids(cloud: &Cloud) -> Vec<String> {
    cloud.state().snapshots.keys().cloned().collect()
}

/// The requests, without how often somebody asked how far it is.
fn requests(cloud: &Cloud, stored: &Stored, ids: &[String]) -> BTreeSet<String> {
    let asked = cloud.asked().into_iter();
    let asked = asked.filter(|words| !words.starts_with("get "));
    let named = asked.map(|words| words.replace(&stored.id.to_lowercase(), "ID"));
    named
        .map(|words| {
            ids.iter()
                .fold(words, |words, id| words.replace(id, "SNAPSHOT"))
        })
        .collect()
}

async fn compare(kind: Kind) {
    let Some(place) = Place::start(kind).await else {
        return;
    };
    let mut compared = Vec::new();
    for whose in Whose::BOTH {
        let before = ids(&place.cloud);
        let ran = place.back_up(whose, &place.disks());
        assert_eq!(ran.code, 0, "{kind:?} {whose:?}: {}", ran.stderr);
        let ids: Vec<String> = ids(&place.cloud)
            .into_iter()
            .filter(|id| !before.contains(id))
            .collect();
        let stored = place.stored(whose).await.pop().expect("a backup");
        assert_eq!(stored.objects, ["backup_label"], "{whose:?}");
        let label = stored
            .info
            .backup_label()
            .expect("a label")
            .expect("a label");
        assert!(
            label.contains(&format!("LABEL: Barman backup srv {}", stored.id)),
            "{label}"
        );
        let requests = requests(&place.cloud, &stored, &ids);
        compared.push((comparable(&stored, &ids), requests));
    }
    let [theirs, ours] = &compared[..] else {
        panic!("there are two");
    };
    assert_eq!(ours, theirs, "{kind:?}");
    each_takes_what_the_other_made(&place).await;
}

async fn each_takes_what_the_other_made(place: &Place) {
    for (whose, catalog) in [(Whose::Ours, Whose::Theirs), (Whose::Theirs, Whose::Ours)] {
        let stored = place.stored(catalog).await.pop().expect("a backup");
        let set = stored
            .info
            .snapshots()
            .expect("a record")
            .expect("snapshots");
        let snapshots: Vec<String> = set.ids().map(str::to_owned).collect();
        restore(place, (whose, catalog), &stored.id, &snapshots);
        let options = [format!("--backup-id={}", stored.id)];
        let ran = place.run(
            whose,
            "barman-cloud-backup-delete",
            (&options, catalog),
            &[],
        );
        if (whose, place.cloud.kind) == (Whose::Theirs, Kind::Google) {
            // Row 13 of docs/quirks.md.
            assert_eq!(ran.code, 4, "{}", ran.stderr);
            assert!(ran.stderr.contains("gcp_zone"), "{}", ran.stderr);
            continue;
        }
        assert_eq!(ran.code, 0, "{whose:?}: {}", ran.stderr);
        assert!(place.stored(catalog).await.is_empty(), "{whose:?}");
        let left = ids(&place.cloud);
        assert!(
            !snapshots.iter().any(|id| left.contains(id)),
            "{whose:?}: {left:?}"
        );
    }
}

/// The label is written once disks are made of the snapshots and mounted as before, and not sooner.
fn restore(place: &Place, (whose, catalog): (Whose, Whose), id: &str, snapshots: &[String]) {
    let options: Vec<String> = [format!("--snapshot-recovery-instance={INSTANCE}")]
        .into_iter()
        .chain(place.project().into_iter().filter(|word| {
            !word.starts_with("--azure-subscription-id") && !word.starts_with("--gcp-project")
        }))
        .collect();
    let directory = place.directory(&format!("restored-{whose:?}"));
    let arguments = [id, directory.to_str().expect("text")];
    let run = || {
        place.run(
            whose,
            "barman-cloud-restore",
            (&options, catalog),
            &arguments,
        )
    };
    for disk in &mut place.cloud.state().disks {
        disk.source = None;
    }
    let ran = run();
    assert_eq!(ran.code, 4, "{whose:?}: {}", ran.stderr);
    let told = "snapshots are not attached to recovery instance pg-1: ";
    assert!(ran.stderr.contains(told), "{whose:?}: {}", ran.stderr);
    for (disk, snapshot) in place.cloud.state().disks[1..].iter_mut().zip(snapshots) {
        disk.source = Some(snapshot.clone());
    }
    let ran = run();
    assert_eq!(ran.code, 0, "{whose:?}: {}", ran.stderr);
    let label = std::fs::read_to_string(directory.join("backup_label")).expect("a label");
    assert!(label.starts_with("START WAL LOCATION"), "{label}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_on_aws_is_the_same_by_both() {
    compare(Kind::Aws).await;
}

/// Another hand's EC2: what the stand-in says is not what we wish that EC2 says.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_on_moto_is_the_same_by_both() {
    let Some(mut place) = Place::start(Kind::Aws).await else {
        return;
    };
    place.go_to_moto();
    let mut compared = Vec::new();
    for whose in Whose::BOTH {
        let ran = place.back_up(whose, &place.disks());
        assert_eq!(ran.code, 0, "{whose:?}: {}", ran.stderr);
        let stored = place.stored(whose).await.pop().expect("a backup");
        let set = stored
            .info
            .snapshots()
            .expect("a record")
            .expect("snapshots");
        let ids: Vec<String> = set.ids().map(str::to_owned).collect();
        assert_eq!(ids.len(), 2, "{whose:?}");
        compared.push(comparable(&stored, &ids));
    }
    assert_eq!(compared[1], compared[0]);
    for (whose, catalog) in [(Whose::Ours, Whose::Theirs), (Whose::Theirs, Whose::Ours)] {
        let stored = place.stored(catalog).await.pop().expect("a backup");
        let options = [format!("--backup-id={}", stored.id)];
        let ran = place.run(
            whose,
            "barman-cloud-backup-delete",
            (&options, catalog),
            &[],
        );
        assert_eq!(ran.code, 0, "{whose:?}: {}", ran.stderr);
        assert!(place.stored(catalog).await.is_empty(), "{whose:?}");
    }
    assert!(place.cloud.asked().is_empty(), "the stand-in was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_on_azure_is_the_same_by_both() {
    compare(Kind::Azure).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_on_google_cloud_is_the_same_by_both() {
    compare(Kind::Google).await;
}
