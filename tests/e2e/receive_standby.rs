//! WAL and backups from a standby that stays one: the primary sends to nobody but it, and has no slot of ours.

use rustix::process::Signal;

use crate::{
    harness::{Kind, Place, ROLE},
    receive::{confirmed, confirmed_through, restore, server, streaming, watch},
    support::{
        cluster::{Cluster, Stop},
        wait::until,
    },
};

const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";

fn configure(place: &Place, standby: &Cluster, primary: &Cluster) {
    let (standby, primary) = (standby.conninfo(ROLE), primary.conninfo(ROLE));
    place.configure(&format!(
        "[servers.main]\nconnection = \"{standby}\"\nprimary_connection = \"{primary}\"\n\
         method = \"stream\"\nschedule = \"none\"\nretention = \"none\"\n\
         wal = {{ receive = {{ tail = \"1s\" }} }}\n[service]\ncheck_every = \"10s\""
    ));
}

/// Waits until the standby has replayed what the primary has written.
pub(crate) async fn caught_up(primary: &Cluster, standby: &Cluster) {
    let end = primary.sql("SELECT pg_current_wal_flush_lsn()");
    let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
    until("the standby", async || {
        (standby.sql(&sql) == "t").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_standby_sends_wal_and_backups_and_goes_on_when_it_is_promoted() {
    for major in [15, 18] {
        from_a_standby(major).await;
    }
}

async fn from_a_standby(major: u32) {
    let Some((mut primary, place)) = server(major, Kind::Strict) else {
        return;
    };
    let mut standby = primary.standby();
    standby.start();
    configure(&place, &standby, &primary);
    let service = watch(&place);
    streaming(&standby).await;
    primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    caught_up(&primary, &standby).await;
    place
        .run(&["check"])
        .exits(0)
        .says("the standby lets us in")
        .says("in use, holds");
    place.run(&["backup", "main"]).exits(0);
    let backups = place.backups("main");
    assert_eq!(backups[0]["pgdata"], standby.pgdata().display().to_string());
    assert_eq!(primary.sql(SLOTS), "0", "the primary knows nothing of us");

    // What only the primary has written comes by way of the standby, down to the newest bytes.
    primary.sql("INSERT INTO t SELECT generate_series(1001, 2000)");
    confirmed_through(&standby, &primary).await;
    let segment = primary.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    primary.stop(Stop::Immediate);
    let copy = restore(&place, major, "latest").await;
    assert_eq!(copy.sql("SELECT count(*) FROM t"), "2000", "{major}");
    drop(copy);

    standby.promote();
    standby.sql("INSERT INTO t SELECT generate_series(2001, 3000)");
    confirmed(&standby).await;
    let partial = format!("main/wals/{}/{segment}.partial.zst", &segment[..16]);
    for key in [partial.as_str(), "main/wals/00000002.history.zst"] {
        until(key, async || (!place.keys(key).is_empty()).then_some(())).await;
    }
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
        let copy = restore(&place, major, &backup).await;
        assert_eq!(copy.sql("SELECT count(*) FROM t"), "3001", "{backup}");
    }
}
