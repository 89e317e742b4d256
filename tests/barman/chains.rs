//! What Barman's cloud commands make of a catalog with incremental backups, which they do not know.

use barkeep::model::{
    backup::BackupId, compression::Compression, desired::Method, recovery::RecoveryTarget,
};

use crate::{
    place::Place,
    restore::restored_by_barman,
    support::{
        backup::{DIGEST, fill, fill_tablespace, read, request, start_restored, take_of},
        cloud::Cloud,
        cluster::Cluster,
    },
};

/// A full backup and two incrementals, oldest first.
async fn chain(place: &Place, cluster: &Cluster) -> Vec<BackupId> {
    let catalog = place.catalog().await;
    let mut chain: Vec<BackupId> = Vec::new();
    while chain.len() < 3 {
        let mut request = request(Compression::Lz4);
        request.method = Method::Stream;
        request.files.part_bytes = 5 << 20;
        request.parent = chain.last().cloned();
        request.above.clone_from(&request.parent);
        let taken = take_of(cluster, None, &catalog, &request).await;
        chain.push(taken.expect("a backup").backup);
    }
    chain
}

fn listed(place: &Place) -> Vec<String> {
    let listed = place.listed().into_iter();
    let id = |backup: serde_json::Value| backup["backup_id"].as_str().map(str::to_owned);
    listed.filter_map(id).collect()
}

/// A server that summarizes its WAL, with a tablespace.
fn cluster(place: Option<Place>) -> Option<(Place, Cluster)> {
    let (place, mut cluster) = (place?, Cluster::create(17)?);
    cluster.configure(&[("summarize_wal", "on")]);
    cluster.start();
    fill_tablespace(&cluster);
    fill(&cluster);
    Some((place, cluster))
}

/// Where the tablespace of an unused directory may go, and the directory for the rest.
fn elsewhere(directory: &tempfile::TempDir) -> (String, String) {
    let path = |name: &str| directory.path().join(name).display().to_string();
    (format!("space:{}", path("space")), path("data"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_listed_shown_and_never_broken_by_a_policy() {
    let Some((place, cluster)) = cluster(Place::new(Cloud::s3s())) else {
        return;
    };
    let chain = chain(&place, &cluster).await;
    let ids = || listed(&place);
    let expected: Vec<_> = chain.iter().map(ToString::to_string).collect();
    assert_eq!(ids(), expected);
    for id in &chain {
        let shown = place.barman("barman-cloud-backup-show", &[], &[id.as_str()]);
        assert!(shown.contains(id.as_str()), "{shown}");
    }
    // Whatever the policy says, nothing goes, not even what could.
    for policy in ["REDUNDANCY 1", "RECOVERY WINDOW OF 1 DAYS"] {
        let options = ["--retention-policy", policy];
        let refused = place
            .command("barman-cloud-backup-delete", &options, &[])
            .output();
        let refused = refused.expect("Barman starts");
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
        assert_eq!(ids(), expected);
    }
    let full = restored_by_barman(&place, &cluster, chain[0].as_str(), "immediate");
    assert_eq!(full.sql(DIGEST), cluster.sql(DIGEST));
    // An incremental one is fetched as it is: PostgreSQL says of such a directory that it is none.
    let somewhere = tempfile::tempdir().expect("a directory");
    let (rule, directory) = elsewhere(&somewhere);
    let more = [chain[1].as_str(), &directory];
    place.barman("barman-cloud-restore", &["--tablespace", &rule], &more);
    let label = std::fs::read_to_string(format!("{directory}/backup_label"));
    assert!(label.expect("a label").contains("INCREMENTAL FROM LSN"));
    let catalog = place.catalog().await;
    let newest = chain.last().expect("a backup");
    let (copy, _) = start_restored(&cluster, &catalog, newest, RecoveryTarget::Immediate).await;
    assert_eq!(copy.sql(DIGEST), cluster.sql(DIGEST));
    // By name it deletes whatever it is told to, with what builds on it or without: the rest is recognised as broken.
    place.barman(
        "barman-cloud-backup-delete",
        &["-b", chain[0].as_str()],
        &[],
    );
    assert_eq!(ids(), expected[1..]);
    let child = read(&catalog, &chain[1]).await;
    assert_eq!(child.parent.as_ref(), Some(&chain[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn under_barmans_names_a_chain_is_neither_broken_nor_restored_in_part() {
    let Some((place, cluster)) = cluster(Place::new(Cloud::s3s())) else {
        return;
    };
    let chain = chain(&place, &cluster).await;
    let expected: Vec<_> = chain.iter().map(ToString::to_string).collect();
    let refused = |command: &str, options: &[&str], more: &[&str], code, why: &str| {
        let ran = place.drop_in(command, options, more).output();
        let ran = ran.expect("barkeep starts");
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(code), "{told}");
        assert!(told.contains(why), "{told}");
        assert_eq!(listed(&place), expected);
    };
    let delete = "barman-cloud-backup-delete";
    refused(
        delete,
        &["-b", chain[0].as_str()],
        &[],
        1,
        "nothing is deleted",
    );
    for policy in ["REDUNDANCY 1", "RECOVERY WINDOW OF 1 DAYS"] {
        let options = ["--retention-policy", policy];
        refused(delete, &options, &[], 4, "cannot be judged");
    }
    let somewhere = tempfile::tempdir().expect("a directory");
    let (rule, directory) = elsewhere(&somewhere);
    let options = ["--tablespace", &rule];
    let more = [chain[2].as_str(), &directory];
    let why = chain[1].as_str();
    refused("barman-cloud-restore", &options, &more, 4, why);
    assert!(!std::path::Path::new(&directory).exists());
    // From its end it goes as it came.
    for gone in (0..chain.len()).rev() {
        let options = ["-b", chain[gone].as_str()];
        let ran = place.drop_in(delete, &options, &[]).output();
        assert!(ran.expect("barkeep starts").status.success());
        assert_eq!(listed(&place), expected[..gone]);
    }
}
