//! WAL that is received as it is written, by the watch mode: everything is in the destination without an archiver, down to the newest bytes.

use crate::{
    harness::{Kind, Place, ROLE, Running, create_role, recovered},
    support::{
        cluster::{Cluster, Stop},
        wait::until,
    },
};
use barkeep::postgres::grants;

/// A server that archives nothing by itself, its place, and a connection string for the place.
pub(crate) fn server(major: u32, kind: Kind) -> Option<(Cluster, Place)> {
    let mut cluster = Cluster::create(major)?;
    let place = Place::new(kind)?;
    cluster.configure(&[("archive_mode", "off"), ("wal_keep_size", "64MB")]);
    cluster.start();
    create_role(&cluster);
    cluster.sql(&grants::replication(ROLE));
    Some((cluster, place))
}

pub(crate) fn configure(place: &Place, connection: &str, receive: &str) {
    let spool = place.path("spool").display().to_string();
    let receive = receive.replace("SPOOL", &format!("{spool}/durable"));
    place.configure(&format!(
        "[servers.main]\nconnection = \"{connection}\"\nmethod = \"stream\"\nschedule = \"none\"\n\
         retention = \"none\"\nwal = {{ receive = {receive} }}\n[service]\ncheck_every = \"10s\""
    ));
}

pub(crate) fn watch(place: &Place) -> Running {
    place.start(&["reconcile"])
}

/// Waits until somebody streams through the slot.
pub(crate) async fn streaming(cluster: &Cluster) {
    let sql =
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'barkeep_main' AND active";
    until("the receiver", async || {
        (cluster.sql(sql) == "1").then_some(())
    })
    .await;
}

/// Waits until the server was told that everything up to now is safe.
pub(crate) async fn confirmed(cluster: &Cluster) {
    confirmed_through(cluster, cluster).await;
}

/// Waits until another server, which holds the slot, was told that everything is safe that this one has written.
pub(crate) async fn confirmed_through(holder: &Cluster, writer: &Cluster) {
    let end = writer.sql("SELECT pg_current_wal_flush_lsn()");
    let sql = format!("SELECT restart_lsn >= '{end}' FROM pg_replication_slots");
    until("the confirmation", async || {
        (holder.sql(&sql) == "t").then_some(())
    })
    .await;
}

/// Restores into a new cluster that recovers to the end of what there is.
pub(crate) async fn restore(place: &Place, major: u32, backup: &str) -> Cluster {
    restore_with(place, major, backup, &[]).await
}

/// The same with more arguments.
pub(crate) async fn restore_with(
    place: &Place,
    major: u32,
    backup: &str,
    more: &[&str],
) -> Cluster {
    let mut copy = Cluster::empty(major).expect("this version is here");
    let directory = copy.pgdata().display().to_string();
    let arguments = [&["restore", "main", backup, &directory], more].concat();
    place.run(&arguments).exits(0);
    copy.surround(&place.environment());
    copy.start();
    recovered(&copy).await;
    copy
}

#[tokio::test]
async fn all_that_was_confirmed_is_restored_though_the_server_is_lost() {
    for (major, receive) in [
        (13, "{ tail = \"1s\" }"),
        (17, "{ tail = \"1s\", spool = \"SPOOL\" }"),
    ] {
        let Some((mut cluster, place)) = server(major, Kind::Strict) else {
            return;
        };
        configure(&place, &cluster.conninfo(ROLE), receive);
        let service = watch(&place);
        streaming(&cluster).await;
        cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
        place.run(&["backup", "main"]).exits(0);
        cluster.sql("INSERT INTO t SELECT generate_series(1001, 300000); SELECT pg_switch_wal()");
        cluster.sql("INSERT INTO t VALUES (300001)");
        confirmed(&cluster).await;
        let segment = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
        cluster.stop(Stop::Immediate);
        let tail = format!("main/barkeep/tail/{segment}/");
        until("the tail", async || {
            (!place.keys(&tail).is_empty()).then_some(())
        })
        .await;
        assert!(
            !place
                .keys("main/wals/")
                .iter()
                .any(|key| key.contains(&segment)),
            "an open segment is not archived"
        );
        drop(service);
        place.barman_list("main");
        let copy = restore(&place, major, "latest").await;
        assert_eq!(copy.sql("SELECT count(*) FROM t"), "300001", "{major}");
    }
}

#[tokio::test]
async fn a_full_spool_holds_the_wal_at_the_server_and_says_so() {
    let Some((cluster, mut place)) = server(17, Kind::Strict) else {
        return;
    };
    configure(
        &place,
        &cluster.conninfo(ROLE),
        "{ spool = \"SPOOL\", spool_limit = \"64MiB\", max_slot_lag = \"16MiB\" }",
    );
    let service = watch(&place);
    streaming(&cluster).await;
    cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    place.run(&["backup", "main"]).exits(0);
    place.s3().kill();
    let end = || cluster.sql("SELECT pg_current_wal_flush_lsn()");
    for _ in 0..8 {
        cluster.sql("INSERT INTO t SELECT generate_series(1, 1000); SELECT pg_switch_wal()");
    }
    let held = format!(
        "SELECT active AND '{}' - restart_lsn > 16777216 FROM pg_replication_slots",
        end()
    );
    until("the spool to be full", async || {
        (cluster.sql(&held) == "t").then_some(())
    })
    .await;
    place.s3().revive();
    cluster.sql("INSERT INTO t VALUES (1); SELECT pg_switch_wal()");
    confirmed(&cluster).await;
    let last = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn() - 1)");
    let key = format!("main/wals/{}/{last}.zst", &last[..16]);
    until("the archive", async || {
        (!place.keys(&key).is_empty()).then_some(())
    })
    .await;
    drop(service);
    let copy = restore(&place, 17, "latest").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "9001");
}

#[tokio::test]
async fn a_slot_that_was_given_up_is_dropped_as_told_and_a_backup_follows() {
    let Some((cluster, place)) = server(17, Kind::Directory) else {
        return;
    };
    cluster.sql(
        "ALTER SYSTEM SET max_slot_wal_keep_size = '32MB'; ALTER SYSTEM SET wal_keep_size = 0; \
         SELECT pg_reload_conf()",
    );
    configure(&place, &cluster.conninfo(ROLE), "{ tail = \"1s\" }");
    let service = watch(&place);
    streaming(&cluster).await;
    cluster.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    place.run(&["backup", "main"]).exits(0);
    confirmed(&cluster).await;
    drop(service);
    for _ in 0..6 {
        cluster.sql("INSERT INTO t SELECT generate_series(1, 1000); SELECT pg_switch_wal()");
    }
    until("the slot to be given up", async || {
        let sql = "CHECKPOINT; SELECT wal_status FROM pg_replication_slots";
        (cluster.sql(sql) == "lost").then_some(())
    })
    .await;
    let drop_it = ["slot", "main", "--drop"];
    place
        .run(&["check"])
        .exits(1)
        .says("PostgreSQL has given it up")
        .says(&format!("barkeep {}", drop_it.join(" ")));
    let service = watch(&place);
    place.run(&drop_it).exits(0).says("is dropped");
    streaming(&cluster).await;
    cluster.sql("INSERT INTO t VALUES (1); SELECT pg_switch_wal()");
    confirmed(&cluster).await;
    place.run(&["plan"]).exits(0).says("WAL gap");
    place.run(&["backup", "main"]).exits(0);
    cluster.sql("INSERT INTO t VALUES (2)");
    confirmed(&cluster).await;
    drop(service);
    let copy = restore(&place, 17, "latest").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "7002");
}
