//! Each restores what the other wrote, over each cloud's protocol, and the restored cluster starts.

use std::{path::Path, process::Command};

use barkeep::{
    execute::base_backup::TakenState,
    model::{
        backup::{BackupId, BackupStatus},
        compression::Compression,
        desired::Method,
        recovery::RecoveryTarget,
    },
};
use serde_json::Value;

use crate::{
    place::Place,
    support::{
        backup::{
            DIGEST, EVERY, archives, fill, fill_tablespace, read, request, start_restored, take_of,
        },
        bed::{bed, run},
        cluster::Cluster,
    },
};

/// A cluster with a tablespace and a few megabytes.
fn cluster(major: u32) -> Option<Cluster> {
    let mut cluster = Cluster::create(major)?;
    cluster.start();
    fill_tablespace(&cluster);
    fill(&cluster);
    Some(cluster)
}

macro_rules! over {
    ($($(#[$condition:meta])? $name:ident: $place:ident, $major:literal;)*) => {$(
        $(#[$condition])?
        mod $name {
            use crate::{place::Place, support::cloud::Cloud};

            #[tokio::test(flavor = "multi_thread")]
            async fn barman_restores_what_barkeep_wrote() {
                super::barman_restores_what_barkeep_wrote(Place::new(Cloud::$place()), $major).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn barkeep_restores_what_barman_wrote() {
                super::barkeep_restores_what_barman_wrote(Place::new(Cloud::$place()), $major).await;
            }
        }
    )*};
}

over! {
    #[cfg(feature = "aws")]
    s3_v15: s3s, 15;
    #[cfg(feature = "aws")]
    s3_v17: s3s, 17;
    #[cfg(feature = "aws")]
    s3_v18: s3s, 18;
    #[cfg(feature = "azure")]
    azure_v17: azurite, 17;
    #[cfg(feature = "gcp")]
    gcs_v17: gcs, 17;
    #[cfg(feature = "gcp")]
    gcs_emulator_v18: gcs_emulator, 18;
}

async fn barman_restores_what_barkeep_wrote(place: Option<Place>, major: u32) {
    let (Some(place), Some(cluster)) = (place, cluster(major)) else {
        return;
    };
    for compression in EVERY {
        barman_restores(&place, &cluster, Method::Files, compression).await;
    }
    for compression in [Compression::None, Compression::Lz4] {
        barman_restores(&place, &cluster, Method::Stream, compression).await;
    }
}

async fn barman_restores(
    place: &Place,
    cluster: &Cluster,
    method: Method,
    compression: Compression,
) {
    let catalog = place.catalog().await;
    let mut request = request(compression);
    request.method = method;
    request.files.max_archive_bytes = 12 << 20;
    // S3 takes no smaller parts.
    request.files.part_bytes = 5 << 20;
    let name = format!("{method}-with-{compression}");
    request.name = Some(name.clone());
    let newest = place.listed().pop();
    let newest = newest.and_then(|backup| Some(BackupId::new(backup["backup_id"].as_str()?)));
    request.above = newest;
    let taken = take_of(cluster, None, &catalog, &request).await;
    let taken = taken.expect("a backup");
    assert_eq!(taken.state, TakenState::Done);
    let names = archives(&catalog, &taken.backup).await;
    let is_split = names.iter().any(|name| name.starts_with("data_0001"));
    assert!(is_split || compression != Compression::None, "{names:?}");
    let listed = place.listed().pop().expect("a backup");
    assert_eq!(listed["backup_id"], taken.backup.as_str());
    assert_eq!(listed["status"], "DONE");
    let show = ["--format", "json"];
    let shown = place.barman("barman-cloud-backup-show", &show, &[&name]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["cloud"]["status"], "DONE");
    let copy = restored_by_barman(place, cluster, &name, "immediate");
    assert_eq!(copy.sql(DIGEST), cluster.sql(DIGEST), "{name}");
    assert_eq!(copy.sql("SELECT sum(id) FROM in_space"), "500500");
}

/// As a user of Barman restores: files, then the settings by hand. Without a target recovery goes to the end of WAL.
pub(crate) fn restored_by_barman(
    place: &Place,
    from: &Cluster,
    backup: &str,
    target: &str,
) -> Cluster {
    let mut copy = Cluster::empty(from.major()).expect("this version is here");
    let home = copy.archive().parent().expect("a parent").to_owned();
    let rule = format!("space:{}", home.join("space").display());
    let directory = copy.pgdata();
    let directory = directory.to_str().expect("a path");
    let more = [backup, directory];
    place.barman("barman-cloud-restore", &["--tablespace", &rule], &more);
    std::fs::write(copy.pgdata().join("recovery.signal"), "").expect("written");
    copy.configure(&[
        (
            "restore_command",
            &format!("cp {}/%f %p", from.archive().display()),
        ),
        ("archive_mode", "off"),
        ("recovery_target", target),
        ("recovery_target_action", "promote"),
    ]);
    give(&home);
    copy.start();
    copy
}

fn give(home: &Path) {
    bed().give(home);
    // Barman makes the directories that a backup does not name by the mask of whoever runs it.
    run(Command::new("chmod").arg("700").arg(home.join("data")));
}

async fn barkeep_restores_what_barman_wrote(place: Option<Place>, major: u32) {
    let (Some(place), Some(cluster)) = (place, cluster(major)) else {
        return;
    };
    let catalog = place.catalog().await;
    let socket = cluster.socket_directory().to_str().expect("a path");
    let port = cluster.port().to_string();
    for option in ["", "--gzip", "--bzip2", "--snappy", "--lz4"] {
        let mut options = vec!["-h", socket, "-p", &port, "-U", "postgres"];
        // Small enough for every codec to make it several archives.
        options.extend(["--immediate-checkpoint", "-S", "1MB"]);
        options.extend(Some(option).filter(|option| !option.is_empty()));
        place.barman("barman-cloud-backup", &options, &[]);
        let listed = place.listed().pop().expect("a backup");
        let id = BackupId::new(listed["backup_id"].as_str().expect("an id"));
        let backup = read(&catalog, &id).await;
        assert_eq!(backup.status, BackupStatus::Done);
        assert!(backup.archives.len() > 2, "{option}: {:?}", backup.archives);
        let latest = RecoveryTarget::Immediate;
        let (copy, _) = start_restored(&cluster, &catalog, &id, latest).await;
        assert_eq!(copy.sql(DIGEST), cluster.sql(DIGEST), "{option}");
        assert_eq!(copy.sql("SELECT sum(id) FROM in_space"), "500500");
    }
}
