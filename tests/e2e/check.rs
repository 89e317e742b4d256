//! What `check` finds of a server that is to send its files and its WAL, and that what it tells mends it.

use crate::{
    harness::{Kind, Place, ROLE, create_role},
    support::cluster::{Cluster, Stop},
};

/// What is told to mend one thing, of all that is looked at; none if nothing must be.
fn mend(place: &Place, what: &str) -> Option<String> {
    let told = place.run(&["check", "--format", "json"]).json();
    let checks = told["checks"].as_array().expect("a list").clone();
    let check = checks.iter().find(|check| check["what"] == what)?;
    check["mend"].as_str().map(str::to_owned)
}

/// Does what is told, and sees that it was that.
fn heal(place: &Place, cluster: &Cluster, what: &str) {
    let mend_it = mend(place, what).unwrap_or_else(|| panic!("{what} is in order"));
    cluster.sql(&mend_it);
    assert_eq!(mend(place, what), None, "{mend_it}");
}

#[tokio::test]
async fn what_keeps_a_server_from_sending_is_told_with_its_mend() {
    let Some(mut cluster) = Cluster::create(18) else {
        return;
    };
    let place = Place::new(Kind::Directory).expect("a directory");
    cluster.configure(&[
        ("archive_mode", "off"),
        ("idle_replication_slot_timeout", "1h"),
        ("max_slot_wal_keep_size", "64MB"),
        ("max_wal_senders", "1"),
    ]);
    cluster.start();
    create_role(&cluster);
    place.configure(&format!(
        "[servers.main]\nconnection = \"{}\"\nmethod = \"stream\"\nschedule = \"@daily\"\nretention = \"none\"\n\
         incremental = {{ full_every = \"7d\" }}\nwal = {{ receive = {{}} }}",
        cluster.conninfo(ROLE)
    ));
    place.run(&["check"]).exits(1).says("hint: ALTER ROLE");
    heal(&place, &cluster, "replication");
    place.run(&["check"]).exits(1);
    for what in ["summarize_wal", "idle_replication_slot_timeout"] {
        heal(&place, &cluster, what);
    }
    let keeps = mend(&place, "max_slot_wal_keep_size").expect("too little");
    let (keeps, _) = keeps.split_once("; or").expect("a choice");
    cluster.sql(keeps);
    assert_eq!(mend(&place, "max_slot_wal_keep_size"), None);
    let senders = mend(&place, "max_wal_senders").expect("too few");
    let (senders, _) = senders.split_once(", restart").expect("a restart");
    cluster.sql(senders);
    cluster.stop(Stop::Fast);
    cluster.start();
    assert_eq!(mend(&place, "max_wal_senders"), None);
    place
        .run(&["check"])
        .exits(0)
        .says("off, and WAL is received")
        .says("there is none, so nobody receives WAL");

    cluster.sql("SELECT pg_create_physical_replication_slot('barkeep_main', true)");
    place
        .run(&["check"])
        .exits(0)
        .says("nobody receives through it");

    // The superuser may come in for everything, barkeep for nothing but SQL.
    cluster.let_in(&format!("local postgres {ROLE} trust"));
    cluster.sql("SELECT pg_reload_conf()");
    place.run(&["check"]).exits(8).says("in pg_hba.conf");
}
