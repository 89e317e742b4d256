//! WAL that is received into two destinations, of which one is away, or holds something else under the same name.

use std::{fs, path::PathBuf};

use crate::{
    harness::{Kind, Place, ROLE},
    receive::{self, confirmed, restore, server, streaming, watch},
    support::{bed::bed, cluster::Cluster, wait::until},
};

/// Receives into `d`, which is S3, and into `e`, a directory. Both are waited for.
fn configure(place: &Place, cluster: &Cluster, receive: &str) {
    let copy = place.path("copy");
    if !copy.exists() {
        fs::create_dir(&copy).expect("mkdir");
        bed().give(&copy);
    }
    let spool = place.path("spool/durable").display().to_string();
    place.configure(&format!(
        "[servers.main]\nconnection = \"{}\"\nmethod = \"stream\"\nschedule = \"none\"\n\
         retention = \"none\"\nwal = {{ receive = {} }}\n\
         [[servers.main.backups]]\ndestination = \"d\"\n\
         [[servers.main.backups]]\ndestination = \"e\"\ncopy_of = \"d\"\nwal = \"required\"\n\
         [destinations.e]\nurl = \"file://{}\"\n[service]\ncheck_every = \"10s\"",
        cluster.conninfo(ROLE),
        receive.replace("SPOOL", &spool),
        copy.display()
    ));
}

/// Ends the segment that is being written, and names it.
fn end_segment(cluster: &Cluster) -> String {
    cluster.sql("INSERT INTO t VALUES (0); SELECT pg_walfile_name(pg_switch_wal())")
}

fn key(segment: &str) -> String {
    format!("main/wals/{}/{segment}.zst", &segment[..16])
}

/// Where the second destination has a segment.
fn in_e(place: &Place, segment: &str) -> PathBuf {
    place.path("copy").join(key(segment))
}

fn is_in_d(place: &Place, segment: &str) -> bool {
    !place.keys(&key(segment)).is_empty()
}

async fn arrives_in_e(place: &Place, segment: &str) {
    let path = in_e(place, segment);
    until("it to arrive in the directory", async || {
        path.exists().then_some(())
    })
    .await;
}

async fn arrives_in_d(place: &Place, segment: &str) {
    until("it to arrive in S3", async || {
        is_in_d(place, segment).then_some(())
    })
    .await;
}

/// Whether the server keeps a segment for us.
fn is_held(cluster: &Cluster, segment: &str) -> bool {
    let sql =
        format!("SELECT pg_walfile_name(restart_lsn) <= '{segment}' FROM pg_replication_slots");
    cluster.sql(&sql) == "t"
}

#[tokio::test]
async fn a_destination_that_is_away_holds_up_neither_the_other_one_nor_a_spool() {
    let Some((cluster, mut place)) = server(17, Kind::Strict) else {
        return;
    };
    configure(&place, &cluster, "{ tail = \"1s\", spool = \"SPOOL\" }");
    let service = watch(&place);
    streaming(&cluster).await;
    cluster.sql("CREATE TABLE t (id int)");
    place
        .run(&["backup", "main", "--destination", "d"])
        .exits(0);
    place.s3().kill();
    let first = end_segment(&cluster);
    arrives_in_e(&place, &first).await;
    // The spool has it, and so has the other destination.
    confirmed(&cluster).await;
    place.s3().revive();
    assert!(!is_in_d(&place, &first));
    arrives_in_d(&place, &first).await;
    drop(service);

    // Without a spool nothing is safe that one of them lacks.
    configure(&place, &cluster, "{ tail = \"1s\" }");
    let service = watch(&place);
    streaming(&cluster).await;
    confirmed(&cluster).await;
    place.s3().kill();
    let second = end_segment(&cluster);
    arrives_in_e(&place, &second).await;
    assert!(is_held(&cluster, &second), "one destination lacks it");
    place.s3().revive();
    arrives_in_d(&place, &second).await;
    confirmed(&cluster).await;
    assert!(!is_held(&cluster, &second));
    drop(service);
    receive::configure(&place, &cluster.conninfo(ROLE), "\"none\"");
    let copy = restore(&place, 17, "latest").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "2");
}

#[tokio::test]
async fn a_conflict_stops_the_delivery_there_and_only_there_until_somebody_mends_it() {
    let Some((cluster, place)) = server(17, Kind::Strict) else {
        return;
    };
    configure(&place, &cluster, "{}");
    let service = watch(&place);
    streaming(&cluster).await;
    cluster.sql("CREATE TABLE t (id int)");
    place
        .run(&["backup", "main", "--destination", "d"])
        .exits(0);
    let segment = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    // Somebody else was faster, with other bytes.
    let foreign = in_e(&place, &segment).with_extension("");
    fs::create_dir_all(foreign.parent().expect("a directory")).expect("mkdir");
    fs::write(&foreign, vec![7; 16 << 20]).expect("written");
    bed().give(&place.path("copy"));
    assert_eq!(end_segment(&cluster), segment);
    let next = end_segment(&cluster);
    arrives_in_d(&place, &segment).await;
    arrives_in_d(&place, &next).await;
    let conflicts = place.path("copy/main/barkeep/conflicts");
    until("the conflict to be recorded", async || {
        conflicts.exists().then_some(())
    })
    .await;
    assert!(!in_e(&place, &next).exists(), "order is kept");
    assert!(is_held(&cluster, &segment), "one destination lacks it");
    assert_eq!(fs::read(&foreign).expect("it stays"), vec![7; 16 << 20]);

    fs::remove_file(&foreign).expect("removed");
    for segment in [&segment, &next] {
        arrives_in_e(&place, segment).await;
    }
    until("the server to hear of it", async || {
        (!is_held(&cluster, &next)).then_some(())
    })
    .await;
    service.signal(rustix::process::Signal::TERM);
    service
        .end()
        .exits(0)
        .says("received WAL does not get there");
}
