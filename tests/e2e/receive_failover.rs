//! Failovers: what is received follows the new primary, whatever the old one was doing, and whatever of it the new one never had.

use rustix::process::Signal;

use crate::{
    harness::{Kind, ROLE},
    receive::{configure, confirmed, restore, restore_with, server, streaming, watch},
    receive_standby::caught_up,
    support::{
        cluster::{Cluster, Stop},
        wait::until,
    },
};

/// With a hot tail and without a spool.
const RECEIVE: &str = "{ tail = \"1s\" }";

/// A connection string for whichever of two servers is the primary.
fn either(one: &Cluster, two: &Cluster) -> String {
    format!(
        "host={},{} port={},{} user={ROLE} dbname=postgres target_session_attrs=primary",
        one.socket_directory().display(),
        two.socket_directory().display(),
        one.port(),
        two.port()
    )
}

#[tokio::test]
async fn a_promotion_is_followed_in_the_middle_of_receiving_and_of_a_backup() {
    let Some((mut primary, mut place)) = server(17, Kind::Directory) else {
        return;
    };
    let mut standby = primary.standby();
    standby.start();
    let both = either(&primary, &standby);

    configure(&place, &both, RECEIVE);
    let mut service = watch(&place);
    streaming(&primary).await;
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    place.run(&["backup", "main"]).exits(0);
    primary.sql("INSERT INTO t SELECT generate_series(1001, 2000)");
    // The next backup is too slow, and more than memory takes in, so that it does not end before its server does.
    primary
        .sql("CREATE TABLE large AS SELECT md5(random()::text) FROM generate_series(1, 2000000) i");
    place.limit("max_bandwidth = \"1MiB/s\"");
    configure(&place, &both, RECEIVE);
    let mut slow = place.start(&["backup", "main"]);
    until("the backup", async || {
        let sql = "SELECT count(*) FROM pg_stat_progress_basebackup";
        (primary.sql(sql) == "1").then_some(())
    })
    .await;
    confirmed(&primary).await;
    caught_up(&primary, &standby).await;
    let segment = primary.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    primary.stop(Stop::Immediate);
    // The next one knows nothing of what this one had received.
    service.signal(Signal::KILL);
    service.end();
    standby.promote();
    until("the backup to give up", async || slow.has_ended()).await;
    let gave_up = slow.end();
    assert_ne!(gave_up.code, Some(0), "{gave_up}");
    place.limit("");
    configure(&place, &both, RECEIVE);
    service = watch(&place);
    standby.sql("INSERT INTO t SELECT generate_series(2001, 3000)");
    streaming(&standby).await;
    confirmed(&standby).await;
    standby.sql("SELECT pg_switch_wal()");
    let log = &segment[..16];
    let partial = format!("main/wals/{log}/{segment}.partial.zst");
    for key in [partial.as_str(), "main/wals/00000002.history.zst"] {
        until(key, async || (!place.keys(key).is_empty()).then_some(())).await;
    }
    let left = format!("main/barkeep/tail/{segment}/");
    until("the old tail to go", async || {
        place.keys(&left).is_empty().then_some(())
    })
    .await;
    place.run(&["backup", "main"]).exits(0);
    standby.sql("INSERT INTO t VALUES (3001)");
    confirmed(&standby).await;
    standby.stop(Stop::Immediate);
    service.signal(Signal::TERM);
    let ran = service.end();
    assert_eq!(ran.code, Some(0), "{ran}");
    let done = place.ids("main", "DONE");
    assert_eq!(done.len(), 2, "one on each timeline: {done:?}");
    for backup in done {
        let copy = restore(&place, 17, &backup).await;
        assert_eq!(copy.sql("SELECT count(*) FROM t"), "3001", "{backup}");
    }
}

#[tokio::test]
async fn what_the_new_primary_never_had_stays_on_the_old_timeline() {
    let Some((mut primary, place)) = server(17, Kind::Strict) else {
        return;
    };
    let mut standby = primary.standby();
    standby.start();
    configure(&place, &either(&primary, &standby), RECEIVE);
    let service = watch(&place);
    streaming(&primary).await;
    let other = standby.socket_directory().display();
    let other = format!("replication at {other}");
    place.run(&["check"]).exits(0).says(&other);
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    place.run(&["backup", "main"]).exits(0);
    caught_up(&primary, &standby).await;
    standby.stop(Stop::Fast);
    // Whole segments and a part of one that nobody receives but barkeep.
    primary.sql("INSERT INTO t SELECT generate_series(1001, 2000); SELECT pg_switch_wal()");
    primary.sql("INSERT INTO t SELECT generate_series(2001, 2500)");
    confirmed(&primary).await;
    primary.stop(Stop::Immediate);
    standby.start();
    standby.promote();
    standby.sql("INSERT INTO t SELECT generate_series(5001, 5500)");
    streaming(&standby).await;
    place
        .run(&["check"])
        .exits(0)
        .says("start it, or take it out of `connection`");
    confirmed(&standby).await;
    standby.stop(Stop::Immediate);
    service.signal(Signal::TERM);
    service.end().exits(0);
    let rows = "SELECT count(*), max(id) FROM t";
    for (timeline, expected) in [("latest", "1500|5500"), ("1", "2500|2500")] {
        let more = ["--target-timeline", timeline];
        let copy = restore_with(&place, 17, "latest", &more).await;
        assert_eq!(copy.sql(rows), expected, "{timeline}");
    }
}
