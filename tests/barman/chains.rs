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

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_listed_shown_and_never_broken_by_a_policy() {
    let place = Place::new(Cloud::s3s());
    let (Some(place), Some(mut cluster)) = (place, Cluster::create(17)) else {
        return;
    };
    cluster.configure(&[("summarize_wal", "on")]);
    cluster.start();
    fill_tablespace(&cluster);
    fill(&cluster);
    let chain = chain(&place, &cluster).await;
    let ids = || -> Vec<String> {
        let listed = place.listed().into_iter();
        let id = |backup: serde_json::Value| backup["backup_id"].as_str().map(str::to_owned);
        listed.filter_map(id).collect()
    };
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
