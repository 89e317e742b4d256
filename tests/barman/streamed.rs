//! Backups that a server sends while `pgbench` writes into two tablespaces: each tool restores them, up to the last commit.

use barkeep::{
    execute::base_backup::TakenState,
    model::{
        backup::BackupId, compression::Compression, desired::Method, recovery::RecoveryTarget,
    },
};

use crate::{
    place::Place,
    restore::restored_by_barman,
    support::{
        backup::{fill_tablespace, request, start_restored, take_of},
        cloud::Cloud,
        cluster::Cluster,
        pgbench::Pgbench,
        wait::until,
    },
};

/// What `pgbench` changes with every transaction; the tellers lie in a tablespace.
const BALANCES: &str = "SELECT (SELECT sum(hashtext(a::text)) FROM pgbench_accounts a), \
    (SELECT sum(hashtext(t::text)) FROM pgbench_tellers t), \
    (SELECT count(*) FROM pgbench_history)";

/// A cluster with a tablespace, which holds what is written most.
async fn cluster(major: u32) -> Option<Cluster> {
    let mut cluster = Cluster::create(major)?;
    cluster.start();
    fill_tablespace(&cluster);
    let fill = ["-i", "-q", "-s", "3"];
    Pgbench::start(&fill, cluster.socket_directory())
        .ended()
        .await;
    cluster.sql("ALTER TABLE pgbench_tellers SET TABLESPACE space");
    Some(cluster)
}

/// Takes a backup while two clients write.
async fn take_under_load(
    place: &Place,
    cluster: &Cluster,
    (compression, on_its_way): (Compression, Compression),
) -> BackupId {
    let catalog = place.catalog().await;
    let mut request = request(compression);
    request.method = Method::Stream;
    request.server_compression = on_its_way;
    request.files.part_bytes = 5 << 20;
    let newest = place.listed().pop();
    let newest = newest.and_then(|backup| Some(BackupId::new(backup["backup_id"].as_str()?)));
    request.above = newest;
    let written = || cluster.sql("SELECT count(*) FROM pgbench_history");
    let before = written();
    let load = ["-n", "-c", "2", "-T", "600"];
    let load = Pgbench::start(&load, cluster.socket_directory());
    until("the load", async || (written() != before).then_some(())).await;
    let taken = take_of(cluster, None, &catalog, &request).await;
    let taken = taken.expect("a backup");
    assert_eq!(taken.state, TakenState::Done);
    assert_eq!(taken.warnings, []);
    drop(load);
    taken.backup
}

/// Waits until the clients are gone and all that they have written is in the archive.
async fn at_rest(cluster: &Cluster) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'";
    until("the load to end", async || {
        (cluster.sql(sql) == "0").then_some(())
    })
    .await;
    let last = cluster.sql("SELECT pg_walfile_name(pg_switch_wal())");
    until("the archiver", async || {
        cluster.archive().join(&last).exists().then_some(())
    })
    .await;
}

async fn recovered(copy: &Cluster) {
    until("the end of recovery", async || {
        (copy.sql("SELECT pg_is_in_recovery()") == "f").then_some(())
    })
    .await;
}

async fn both_restore_what_was_sent_under_load(major: u32) {
    let (Some(place), Some(cluster)) = (Place::new(Cloud::s3s()), cluster(major).await) else {
        return;
    };
    for compression in [
        (Compression::Lz4, Compression::Lz4),
        (Compression::Gzip, Compression::Zstd),
    ] {
        let backup = take_under_load(&place, &cluster, compression).await;
        at_rest(&cluster).await;
        let expected = cluster.sql(BALANCES);
        let theirs = restored_by_barman(&place, &cluster, backup.as_str(), "");
        recovered(&theirs).await;
        let latest = RecoveryTarget::Latest;
        let catalog = place.catalog().await;
        let (ours, _) = start_restored(&cluster, &catalog, &backup, latest).await;
        for copy in [&theirs, &ours] {
            assert_eq!(copy.sql(BALANCES), expected, "{compression:?}");
            assert_eq!(copy.sql("SELECT sum(id) FROM in_space"), "500500");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_restore_what_version_15_sent_under_load() {
    both_restore_what_was_sent_under_load(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_restore_what_version_17_sent_under_load() {
    both_restore_what_was_sent_under_load(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_restore_what_version_18_sent_under_load() {
    both_restore_what_was_sent_under_load(18).await;
}
