//! The SQL side of backup on every major version: a role that is no superuser, on a primary, on a standby, across a promotion.

use std::path::Path;

use barkeep::{
    model::timeline::TimelineId,
    postgres::{
        Archiver, ArchiverWait, BackupRequest, BackupSession, Checkpoint, Connector, Environment,
        Error, HeldLock, LockKey, Role, ServerFacts, Session, WalSwitch, grants,
        locality::{self, Identity},
    },
};

use crate::support::{cluster::Cluster, wait::until};

const ROLE: &str = "barkeep";

fn connector(cluster: &Cluster) -> Connector {
    Connector::new(&cluster.conninfo(ROLE), None, &Environment::default())
        .expect("a valid connection string")
}

async fn connect(cluster: &Cluster) -> Session {
    connector(cluster).connect().await.expect("a session")
}

fn request(label: &str) -> BackupRequest {
    BackupRequest {
        label: label.to_owned(),
        checkpoint: Checkpoint::Fast,
    }
}

/// A started primary with the backup role; `None` if this version is missing here.
fn primary(major: u32) -> Option<Cluster> {
    let mut cluster = Cluster::create(major)?;
    cluster.start();
    cluster.sql(&format!("CREATE ROLE {ROLE} LOGIN"));
    cluster.sql(&grants::statements(major, ROLE).join(";"));
    Some(cluster)
}

macro_rules! on_every_major {
    ($($name:ident: $major:literal),* $(,)?) => {$(
        mod $name {
            const MAJOR: u32 = $major;

            #[tokio::test]
            async fn a_primary_describes_itself() {
                super::a_primary_describes_itself(MAJOR).await;
            }

            #[tokio::test]
            async fn a_backup_starts_and_stops_on_a_primary() {
                super::a_backup_starts_and_stops_on_a_primary(MAJOR).await;
            }

            #[tokio::test]
            async fn a_backup_starts_and_stops_on_a_standby() {
                super::a_backup_starts_and_stops_on_a_standby(MAJOR).await;
            }

            #[tokio::test]
            async fn a_missing_grant_is_named_in_the_hint() {
                super::a_missing_grant_is_named_in_the_hint(MAJOR).await;
            }
        }
    )*};
}
on_every_major!(v13: 13, v14: 14, v15: 15, v16: 16, v17: 17, v18: 18);

async fn a_primary_describes_itself(major: u32) {
    let Some(cluster) = primary(major) else {
        return;
    };
    let location = cluster.new_directory("space");
    cluster.sql(&format!(
        "CREATE TABLESPACE \"ts 'in\" LOCATION '{}'; ALTER SYSTEM SET work_mem = '5MB'; \
         SELECT pg_reload_conf()",
        location.display()
    ));
    let session = connect(&cluster).await;
    let auto = cluster.pgdata().join("postgresql.auto.conf");
    until("the new setting", async || {
        let facts = session.facts().await.expect("facts");
        (facts.included_files == [auto.clone()]).then_some(())
    })
    .await;
    let facts = session.facts().await.expect("facts");
    session.close().await;

    let system_id = cluster.sql("SELECT system_identifier FROM pg_control_system()");
    assert_eq!(facts.system_id.to_string(), system_id);
    assert_eq!((facts.major(), facts.role), (major, Role::Primary));
    assert_eq!(facts.timeline, TimelineId::FIRST);
    assert_eq!(facts.data_directory, cluster.pgdata());
    assert_eq!(facts.port, cluster.port());
    assert_eq!(
        facts.config_file,
        Some(cluster.pgdata().join("postgresql.conf"))
    );
    assert_eq!(facts.hba_file, Some(cluster.pgdata().join("pg_hba.conf")));
    assert_eq!(
        facts.ident_file,
        Some(cluster.pgdata().join("pg_ident.conf"))
    );
    assert_eq!(facts.tablespaces.len(), 1);
    assert_eq!(facts.tablespaces[0].name, "ts 'in");
    assert_eq!(facts.tablespaces[0].location, location);
    assert_eq!(
        facts.data_checksums,
        cluster.sql("SHOW data_checksums") == "on"
    );
    assert_eq!(facts.summarize_wal, (major >= 17).then_some(false));
    assert!(facts.cluster_size.is_some_and(|bytes| bytes > 1 << 20));
    assert_eq!(facts.archiving.mode, "on");
    assert!(
        facts
            .archiving
            .command
            .is_some_and(|command| command.starts_with("cp "))
    );
    assert_eq!(facts.archiving.library, None);
    assert!(facts.started_at < facts.now);
}

async fn a_backup_starts_and_stops_on_a_primary(major: u32) {
    let Some(cluster) = primary(major) else {
        return;
    };
    let location = cluster.new_directory("space");
    cluster.sql(&format!(
        "CREATE TABLESPACE space LOCATION '{}'",
        location.display()
    ));
    let session = connect(&cluster).await;
    let facts = session.facts().await.expect("facts");
    proves_locality(&cluster.pgdata(), &facts);

    // An aborted backup leaves nothing behind that the next one could trip over.
    let aborted = BackupSession::begin(session, &request("first"))
        .await
        .expect("started");
    aborted.abort().await;
    let session = connect(&cluster).await;
    let backup = BackupSession::begin(session, &request("second"))
        .await
        .expect("started");
    let started = *backup.started();
    assert!(started.lsn >= facts.position);
    assert_eq!(started.timeline, TimelineId::FIRST);
    backup.check().await.expect("still there");
    let stopped = backup.stop(ArchiverWait::No).await.expect("stopped");
    let stop = &stopped.stop;
    assert!(stop.lsn > started.lsn && stop.time >= started.time);
    assert_eq!(stop.timeline, TimelineId::FIRST);
    assert!(
        stop.backup_label.contains("\nLABEL: second\n"),
        "{}",
        stop.backup_label
    );
    let oid = facts.tablespaces[0].oid;
    let map = format!("{oid} {}\n", location.display());
    assert_eq!(stop.tablespace_map.as_deref(), Some(map.as_str()));

    let point = stopped
        .session
        .create_restore_point("here")
        .await
        .expect("a point");
    assert!(point.is_some_and(|point| point >= stop.lsn));
    let switched = stopped.switch_wal(None).await.expect("a switch");
    assert!(matches!(switched, WalSwitch::Switched(lsn) if lsn >= stop.lsn));
    let last = stop.lsn.segment_before(stop.timeline, facts.segment_size);
    let archiver = archived(&stopped.session, &last.to_string()).await;
    assert!(archiver.archived_count > 0 && archiver.last_archived_at.is_some());
    assert!(cluster.archive().join(last.to_string()).exists());
}

/// Waits until the archiver's last file is this one or a later one.
async fn archived(session: &Session, name: &str) -> Archiver {
    until("the archiver", async || {
        let archiver = session.archiving().await.expect("an answer").archiver;
        let last = archiver.last_archived.map(|file| file.to_string());
        last.is_some_and(|last| last.as_str() >= name)
            .then_some(archiver)
    })
    .await
}

fn proves_locality(pgdata: &Path, facts: &ServerFacts) {
    let control = locality::prove(pgdata, &Identity::from(facts)).expect("it is local");
    assert_eq!(control.system_id, facts.system_id);
    assert_eq!(control.segment_size, facts.segment_size);
    assert_eq!(control.timeline, facts.timeline);
    assert_eq!(control.major(), Some(facts.major()));
    assert_eq!(control.data_checksums, facts.data_checksums);
}

async fn a_backup_starts_and_stops_on_a_standby(major: u32) {
    let Some(mut primary) = primary(major) else {
        return;
    };
    let mut standby = primary.standby();
    standby.start();
    let session = connect(&standby).await;
    until("the standby to stream", async || {
        let behind = primary
            .sql("SELECT pg_current_wal_lsn()")
            .parse()
            .expect("a position");
        (session.facts().await.expect("facts").position >= behind).then_some(())
    })
    .await;
    let facts = session.facts().await.expect("facts");
    assert_eq!(
        (facts.role, facts.timeline),
        (Role::Standby, TimelineId::FIRST)
    );
    proves_locality(&standby.pgdata(), &facts);
    // The same cluster, but not the same postmaster.
    let elsewhere = locality::prove(&primary.pgdata(), &Identity::from(&facts));
    assert!(elsewhere.expect_err("another directory").is_elsewhere());
    assert_eq!(session.switch_wal().await.expect("an answer"), None);
    assert_eq!(
        session.create_restore_point("x").await.expect("an answer"),
        None
    );

    let backup = BackupSession::begin(session, &request("on standby"))
        .await
        .expect("started");
    let started = *backup.started();
    let stopped = backup.stop(ArchiverWait::No).await.expect("stopped");
    let stop = &stopped.stop;
    assert!(stop.lsn >= started.lsn);
    assert_eq!(
        (started.timeline, stop.timeline),
        (TimelineId::FIRST, TimelineId::FIRST)
    );
    assert!(
        stop.backup_label.contains("BACKUP FROM: standby"),
        "{}",
        stop.backup_label
    );
    assert_eq!(stop.tablespace_map, None);
    let switched = stopped.switch_wal(None).await.expect("an answer");
    assert_eq!(switched, WalSwitch::NoPrimary);
    let switched = stopped
        .switch_wal(Some(&connector(&primary)))
        .await
        .expect("a switch");
    assert!(matches!(switched, WalSwitch::Switched(lsn) if lsn >= stop.lsn));

    a_promotion_ends_a_backup_and_starts_a_timeline(&standby, stopped.session).await;
}

async fn a_promotion_ends_a_backup_and_starts_a_timeline(standby: &Cluster, session: Session) {
    let backup = BackupSession::begin(session, &request("promoted"))
        .await
        .expect("started");
    standby.promote();
    let refused = backup
        .stop(ArchiverWait::No)
        .await
        .expect_err("the standby was promoted");
    assert!(matches!(refused, Error::Request { .. }), "{refused}");
    let session = connect(standby).await;
    // Before its first checkpoint on the new timeline, the control file still knows the old one only.
    let facts = session.facts().await.expect("facts");
    assert_eq!((facts.role, facts.timeline.number()), (Role::Primary, 2));
    let backup = BackupSession::begin(session, &request("after"))
        .await
        .expect("started");
    assert_eq!(backup.started().timeline.number(), 2);
    let stopped = backup.stop(ArchiverWait::No).await.expect("stopped");
    assert_eq!(stopped.stop.timeline.number(), 2);
}

async fn a_missing_grant_is_named_in_the_hint(major: u32) {
    let Some(mut cluster) = Cluster::create(major) else {
        return;
    };
    cluster.start();
    cluster.sql(&format!("CREATE ROLE {ROLE} LOGIN"));
    // Granting what each refusal's hint names must be enough, and be exactly the documented grants.
    let mut granted = Vec::new();
    until("the last grant", async || {
        let Err(error) = whole_backup(&cluster).await else {
            return Some(());
        };
        let hint = error
            .hint()
            .unwrap_or_else(|| panic!("no hint for {error:?}"));
        cluster.sql(&hint);
        granted.push(hint);
        None
    })
    .await;
    let mut documented = grants::statements(major, ROLE);
    // Those that are only nice to have: for the size of the cluster, and for the WAL that waits.
    let nice = ["pg_read_all_stats", "pg_ls_archive_statusdir"];
    documented.retain(|statement| !nice.iter().any(|word| statement.contains(word)));
    documented.sort();
    granted.sort();
    assert_eq!(granted, documented);
    let facts = connect(&cluster).await.facts().await.expect("facts");
    assert_eq!(facts.cluster_size, None);
    assert_eq!(facts.archiving.oldest_ready, None);
    cluster.sql(&format!(
        "GRANT EXECUTE ON FUNCTION pg_ls_archive_statusdir() TO {ROLE}"
    ));
    cluster.sql("ALTER SYSTEM SET archive_command = 'false'");
    cluster.sql("SELECT pg_reload_conf()");
    // The archiver may have one more way out before it hears.
    let facts = until("a segment that waits", async || {
        cluster.sql("SELECT pg_create_restore_point('waits'), pg_switch_wal()");
        let facts = connect(&cluster).await.facts().await.expect("facts");
        facts.archiving.oldest_ready.is_some().then_some(facts)
    })
    .await;
    let (_, since) = facts.archiving.oldest_ready.expect("one waits");
    assert!(facts.now.since(since).as_secs() < 3600, "{since}");
}

async fn whole_backup(cluster: &Cluster) -> Result<(), Error> {
    let session = connect(cluster).await;
    session.facts().await?;
    let backup = BackupSession::begin(session, &request("x")).await?;
    let stopped = match backup.stop(ArchiverWait::No).await {
        Ok(stopped) => stopped,
        Err(error) => return Err(error),
    };
    stopped.session.create_restore_point("x").await?;
    stopped.switch_wal(None).await?;
    stopped.session.close().await;
    Ok(())
}

#[tokio::test]
async fn a_lock_is_held_by_one_session_and_ends_with_it() {
    let Some(cluster) = primary(17) else { return };
    let key = LockKey::of("orders");
    let held = HeldLock::take(connect(&cluster).await, key)
        .await
        .expect("an answer");
    let held = held.expect("nobody else holds it");
    assert!(held.is_held().await.expect("an answer"));
    let second = HeldLock::take(connect(&cluster).await, key)
        .await
        .expect("an answer");
    assert!(second.is_none());
    let other = HeldLock::take(connect(&cluster).await, LockKey::of("billing")).await;
    assert!(other.expect("an answer").is_some());
    held.release().await;
    until("the lock to be free", async || {
        let taken = HeldLock::take(connect(&cluster).await, key).await;
        taken.expect("an answer")
    })
    .await;
}

#[tokio::test]
async fn a_backup_whose_session_is_gone_cannot_be_stopped() {
    let Some(mut cluster) = primary(17) else {
        return;
    };
    let session = connect(&cluster).await;
    let mut backup = BackupSession::begin(session, &request("lost"))
        .await
        .expect("started");
    cluster.stop(crate::support::cluster::Stop::Immediate);
    backup.lost().await;
    let error = backup
        .stop(ArchiverWait::No)
        .await
        .expect_err("its session is gone");
    assert!(matches!(error, Error::Request { .. }), "{error}");
}
