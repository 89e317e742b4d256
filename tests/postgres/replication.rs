//! The replication protocol, against servers of every supported major version.

use std::{collections::BTreeMap, io, time::Duration};

use barkeep::{
    failure::chain,
    model::{compression::Compression, wal::Lsn},
    postgres::{
        self, Checkpoint, Connector, Environment, Error,
        replication::{
            Farewell, Location, ManifestText, Piece, Position, Replication, Reply, Reserve, Slot,
            SlotKind, StreamRequest, Variant, WalMessage, WalProgress, WalStart, WalStream,
        },
    },
};
use bytes::Bytes;
use futures_util::stream;

use crate::support::{
    backup::{damage, fill, fill_tablespace},
    cluster::Cluster,
};

fn connector(conninfo: &str) -> Connector {
    Connector::new(conninfo, None, &Environment::default()).expect("a connection string")
}

async fn replicate(cluster: &Cluster) -> Replication {
    let session = connector(&cluster.conninfo("postgres")).replicate().await;
    session.expect("a session")
}

/// What came of a backup: archives by what they hold, and the manifest.
struct Received {
    archives: BTreeMap<String, Vec<u8>>,
    manifest: String,
    start: Position,
    end: Position,
    finished: Farewell,
}

async fn receive(cluster: &Cluster, manifest: Option<&str>) -> Result<Received, Error> {
    let mut session = replicate(cluster).await;
    let variant = match manifest {
        Some(text) => {
            let chunks: Vec<_> = text.as_bytes().chunks(1000).collect();
            let chunks = chunks.into_iter().map(Bytes::copy_from_slice);
            let chunks: Vec<io::Result<Bytes>> = chunks.map(Ok).collect();
            let text: ManifestText = Box::pin(stream::iter(chunks));
            session.upload_manifest(text).await?;
            Variant::Incremental
        }
        None => Variant::Full,
    };
    let request = StreamRequest {
        label: "it's a label".to_owned(),
        checkpoint: Checkpoint::Fast,
        variant,
        compression: Compression::None,
    };
    let mut backup = session.base_backup(&request, Duration::ZERO).await?;
    let start = backup.start();
    let announced = backup.tablespaces().to_vec();
    let mut archives: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut name = String::new();
    while let Some(piece) = backup.next().await? {
        match piece {
            Piece::Archive(location) => {
                assert!(announced.iter().any(|archive| archive.location == location));
                name = match location {
                    Location::Data => "data".to_owned(),
                    Location::Tablespace(oid) => oid.to_string(),
                    Location::InPlace(oid) => format!("in place {oid}"),
                };
                archives.insert(name.clone(), Vec::new());
            }
            Piece::Manifest => "manifest".clone_into(&mut name),
            Piece::Data(bytes) => archives.entry(name.clone()).or_default().extend(bytes),
        }
    }
    let manifest = archives.remove("manifest").expect("a manifest");
    let (end, finished) = backup.finish().await?;
    Ok(Received {
        archives,
        manifest: String::from_utf8(manifest).expect("UTF-8"),
        start,
        end,
        finished,
    })
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive");
    let path = |entry: tar::Entry<'_, &[u8]>| entry.path().expect("a name").display().to_string();
    entries
        .map(|entry| path(entry.expect("an entry")))
        .collect()
}

macro_rules! on_majors {
    ($($name:ident: $major:literal),* $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            a_server_sends_all_its_files_and_a_manifest($major).await;
        }
    )*};
}

on_majors! {
    version_13_sends_its_files: 13,
    version_14_sends_its_files: 14,
    version_15_sends_its_files: 15,
    version_16_sends_its_files: 16,
    version_17_sends_its_files: 17,
    version_18_sends_its_files: 18,
}

async fn a_server_sends_all_its_files_and_a_manifest(major: u32) {
    let Some(mut cluster) = Cluster::create(major) else {
        return;
    };
    cluster.start();
    fill(&cluster);
    fill_tablespace(&cluster);
    let oid = cluster.sql("SELECT oid FROM pg_tablespace WHERE spcname = 'space'");
    let received = receive(&cluster, None).await.expect("a backup");
    assert!(received.start.lsn < received.end.lsn);
    assert_eq!(received.finished, Farewell::default());
    let archives: Vec<_> = received.archives.keys().collect();
    assert_eq!(archives, [&oid, "data"]);
    let data = names(&received.archives["data"]);
    assert_eq!(data.first().map(String::as_str), Some("backup_label"));
    assert_eq!(data.last().map(String::as_str), Some("global/pg_control"));
    let space = names(&received.archives[&oid]);
    assert!(space[0].starts_with(&format!("PG_{major}_")), "{space:?}");
    assert!(received.manifest.ends_with("\"}\n"), "the whole manifest");
    assert!(received.manifest.contains("global/pg_control"));
}

#[tokio::test]
async fn a_server_tells_who_it_is_and_where_its_timeline_comes_from() {
    let Some(mut primary) = Cluster::create(17) else {
        return;
    };
    primary.start();
    let mut session = replicate(&primary).await;
    let identity = session.identify().await.expect("an identity");
    let sql = "SELECT system_identifier FROM pg_control_system()";
    assert_eq!(identity.system_id.to_string(), primary.sql(sql));
    let first = session.timeline_history(identity.timeline).await;
    assert_eq!(first.expect("an answer"), None);
    session.close().await;
    let mut standby = primary.standby();
    standby.start();
    standby.promote();
    let mut session = replicate(&standby).await;
    let identity = session.identify().await.expect("an identity");
    assert_eq!(identity.timeline.number(), 2);
    let history = session.timeline_history(identity.timeline).await;
    let history = history.expect("an answer").expect("a history");
    assert!(history.starts_with("1\t"), "{history}");
    session.close().await;
}

#[tokio::test]
async fn slots_are_made_read_and_dropped() {
    for major in [13, 15, 18] {
        let Some(mut cluster) = Cluster::create(major) else {
            continue;
        };
        cluster.start();
        let mut session = replicate(&cluster).await;
        let (kind, name) = (SlotKind::Permanent, "a_slot");
        session
            .create_slot(name, kind, Reserve::Now)
            .await
            .expect("made");
        assert_eq!(
            cluster.sql("SELECT restart_lsn IS NOT NULL FROM pg_replication_slots"),
            "t"
        );
        if major >= 15 {
            let slot = session.read_slot(name).await.expect("an answer");
            assert!(slot.is_some_and(|slot| slot.restart.is_some()));
            session
                .create_slot("later", SlotKind::Temporary, Reserve::WhenUsed)
                .await
                .expect("made");
            let slot = session.read_slot("later").await.expect("an answer");
            assert_eq!(slot, Some(Slot { restart: None }));
            assert_eq!(session.read_slot("none").await.expect("an answer"), None);
        }
        session.drop_slot(name).await.expect("dropped");
        let refused = session.drop_slot(name).await.expect_err("there is none");
        assert!(chain(&refused).contains("SQLSTATE 42704"), "{refused:?}");
        session.close().await;
        crate::support::wait::until("the temporary slot to go with its session", async || {
            let left = cluster.sql("SELECT count(*) FROM pg_replication_slots");
            (left == "0").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_tells_anybody_what_it_can_send() {
    for major in [13, 17, 18] {
        let Some(mut cluster) = Cluster::create(major) else {
            continue;
        };
        cluster.configure(&[
            ("wal_level", "logical"),
            ("max_slot_wal_keep_size", "1GB"),
            ("max_wal_senders", "7"),
        ]);
        if major >= 18 {
            cluster.configure(&[("idle_replication_slot_timeout", "2d")]);
        }
        cluster.start();
        cluster.sql("CREATE ROLE nobody LOGIN");
        let asking = connector(&cluster.conninfo("nobody")).connect().await;
        let asking = asking.expect("a session");
        let mut replicating = replicate(&cluster).await;
        for (name, kind) in [
            ("lasting", SlotKind::Permanent),
            ("passing", SlotKind::Temporary),
        ] {
            let made = replicating.create_slot(name, kind, Reserve::Now).await;
            made.expect("made");
        }
        cluster.sql("SELECT pg_create_logical_replication_slot('rows', 'test_decoding')");
        let said = asking.sending(None).await.expect("an answer");
        assert_eq!((said.user.as_str(), said.may_replicate), ("nobody", false));
        assert_eq!(said.wal_level, "logical");
        assert_eq!((said.senders.all, said.slots.taken), (7, 3));
        assert_eq!(said.slot_keeps, Some(1 << 30));
        let days = (major >= 18).then(|| Duration::from_hours(48));
        assert_eq!(said.slot_idles, days);
        assert_eq!(said.summarizes, (major >= 17).then_some(false));
        let ten_days = (major >= 17).then(|| Duration::from_hours(240));
        assert_eq!(said.summaries_keep, ten_days);
        for (name, expected) in [
            ("lasting", Some(postgres::SlotKind::Physical)),
            ("passing", Some(postgres::SlotKind::Temporary)),
            ("rows", Some(postgres::SlotKind::Logical)),
            ("none", None),
        ] {
            let said = asking.sending(Some(name)).await.expect("an answer");
            assert_eq!(said.slot_kind, expected, "{name}");
        }
        replicating.close().await;
        asking.close().await;
    }
}

#[tokio::test]
async fn an_incremental_backup_builds_on_a_manifest() {
    for major in [17, 18] {
        let Some(mut cluster) = Cluster::create(major) else {
            continue;
        };
        cluster.configure(&[("summarize_wal", "on")]);
        cluster.start();
        fill(&cluster);
        let full = receive(&cluster, None).await.expect("a full backup");
        cluster.sql("UPDATE t SET id = -id WHERE id = 7");
        let manifest = Some(full.manifest.as_str());
        let child = receive(&cluster, manifest).await.expect("an incremental");
        let size = |received: &Received| received.archives["data"].len();
        assert!(size(&child) < size(&full) / 2, "{}", size(&child));
        assert!(child.manifest.contains("INCREMENTAL."));
        let nonsense = receive(&cluster, Some("no manifest")).await;
        let nonsense = chain(&nonsense.err().expect("refused"));
        assert!(nonsense.contains("manifest"), "{nonsense}");
    }
}

#[tokio::test]
async fn damaged_pages_are_told_of_at_the_end() {
    let Some(mut cluster) = Cluster::create_with(17, &["-k"]) else {
        return;
    };
    cluster.start();
    fill(&cluster);
    damage(&mut cluster);
    let received = receive(&cluster, None).await.expect("a backup");
    assert!(received.finished.damaged);
    let warnings = received.finished.warnings.join("; ");
    assert!(warnings.contains("block 3"), "{warnings}");
}

#[tokio::test]
async fn sessions_go_to_the_kind_of_server_that_is_wanted() {
    for major in [13, 17] {
        let Some(mut primary) = Cluster::create(major) else {
            continue;
        };
        primary.start();
        let mut standby = primary.standby();
        standby.start();
        let (one, two) = (standby.socket_directory(), primary.socket_directory());
        let both = format!(
            "host={},{} port={},{} user=postgres dbname=postgres",
            one.display(),
            two.display(),
            standby.port(),
            primary.port()
        );
        for (wanted, expected) in [
            ("any", one),
            ("primary", two),
            ("read-write", two),
            ("standby", one),
        ] {
            let conninfo = format!("{both} target_session_attrs={wanted}");
            let session = connector(&conninfo).replicate().await.expect("a session");
            let endpoint = session.endpoint().to_owned();
            assert!(
                endpoint.starts_with(&expected.display().to_string()),
                "{wanted}"
            );
            let sql = connector(&conninfo).connect().await.expect("a session");
            let beside = connector(&both).beside(&sql);
            let beside = beside.replicate().await.expect("a session");
            assert_eq!(beside.endpoint(), sql.endpoint(), "{wanted}");
        }
    }
}

fn streaming(start: Result<WalStart, Error>) -> WalStream {
    match start.expect("an answer") {
        WalStart::Streaming(stream) => stream,
        WalStart::Ended(..) => panic!("the timeline goes on"),
    }
}

/// The bytes up to a position.
async fn wal_up_to(stream: &mut WalStream, from: Lsn, end: Lsn) -> Vec<u8> {
    let mut wal = Vec::new();
    while from.0 + (wal.len() as u64) < end.0 {
        match stream.next().await.expect("a message") {
            WalMessage::Data { at, bytes } => {
                assert_eq!(at.0, from.0 + wal.len() as u64, "nothing is left out");
                wal.extend(bytes);
            }
            WalMessage::Alive { .. } => {}
            WalMessage::Ended => panic!("the timeline goes on"),
        }
    }
    wal
}

#[tokio::test]
async fn wal_is_streamed_as_it_is_on_disk_and_over_a_change_of_timeline() {
    let Some(mut primary) = Cluster::create(17) else {
        return;
    };
    primary.start();
    let mut standby = primary.standby();
    standby.start();
    let mut session = replicate(&standby).await;
    let identity = session.identify().await.expect("an identity");
    let size = 16 << 20;
    let from = Position {
        lsn: Lsn(identity.position.0 / size * size),
        timeline: identity.timeline,
    };
    session
        .create_slot("receiver", SlotKind::Permanent, Reserve::Now)
        .await
        .expect("a slot");
    let mut stream = streaming(session.stream_wal(Some("receiver"), from).await);
    primary.sql("CREATE TABLE t AS SELECT 1; SELECT pg_switch_wal()");
    let wal = wal_up_to(&mut stream, from.lsn, Lsn(from.lsn.0 + size)).await;
    let name = from
        .lsn
        .segment(from.timeline, size.try_into().expect("a size"));
    let path = primary.archive().join(name.to_string());
    let archived = crate::support::wait::until("the archiver", async || {
        std::fs::read(&path)
            .ok()
            .filter(|content| content.len() == wal.len())
    })
    .await;
    assert!(archived == wal, "the same bytes");
    let flushed = Lsn(from.lsn.0 + size);
    let progress = WalProgress {
        written: flushed,
        flushed,
    };
    stream.report(progress, Reply::Wanted).await.expect("heard");
    crate::support::wait::until("the slot to move", async || {
        let sql = format!("SELECT restart_lsn >= '{flushed}' FROM pg_replication_slots");
        (standby.sql(&sql) == "t").then_some(())
    })
    .await;
    standby.promote();
    while stream.next().await.expect("a message") != WalMessage::Ended {}
    let (session, next) = stream.follow().await.expect("an answer");
    let next = next.expect("the next timeline");
    assert_eq!(next.timeline.number(), 2);
    let end = Position {
        timeline: from.timeline,
        ..next
    };
    let again = session.stream_wal(Some("receiver"), end).await;
    let WalStart::Ended(session, again) = again.expect("an answer") else {
        panic!("nothing comes after the end of a timeline");
    };
    assert_eq!(again, Some(next), "asked for at its exact end");
    let stream = streaming(session.stream_wal(Some("receiver"), next).await);
    stream.stop().await.expect("a session again").close().await;
}
