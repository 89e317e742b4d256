//! A running server, asked; and the proof that its files are here.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tokio::task;

use super::pg_wal;
use crate::{
    clock::Clock,
    failure::Failure,
    model::{
        action::WalSpan,
        desired::Server,
        observed::{ArchiveMode, Archiver, Knowledge, Locality, Role, ServerFacts, ServerFiles},
        time::Timestamp,
        wal::{SegmentName, WalFile},
    },
    postgres::{self, Connector, Session, locality},
};

/// Asks a server what it is, and looks whether its files are on this host.
pub(super) async fn observe(
    connector: &Connector,
    server: &Server,
    clock: Clock,
) -> (Knowledge<ServerFacts>, Locality) {
    match ask(connector, server, clock).await {
        Ok((facts, locality)) => (Knowledge::Known(facts), locality),
        Err(error) => {
            let failure = Failure::of(error.kind(), &error).hinted(error.hint());
            let why = failure.to_string();
            (Knowledge::Unknown(failure), Locality::NotLocal { why })
        }
    }
}

async fn ask(
    connector: &Connector,
    server: &Server,
    clock: Clock,
) -> Result<(ServerFacts, Locality), postgres::Error> {
    let session = connector.connect().await?;
    let asked = ask_session(&session, server, clock).await;
    session.close().await;
    asked
}

async fn ask_session(
    session: &Session,
    server: &Server,
    clock: Clock,
) -> Result<(ServerFacts, Locality), postgres::Error> {
    let facts = session.facts().await?;
    let configured = server.pgdata.as_deref();
    let pgdata = configured.unwrap_or(&facts.data_directory).to_owned();
    let locality = match locality::prove(&pgdata, &locality::Identity::from(&facts)) {
        Ok(_) => Locality::Local,
        Err(error) => Locality::NotLocal {
            why: crate::failure::chain(&error),
        },
    };
    // A role that may not ask can still read what is on this host.
    let ready = facts.archiving.oldest_ready.or_else(|| match locality {
        Locality::Local => oldest_ready(&pgdata),
        Locality::NotLocal { .. } => None,
    });
    let at_hand = match locality {
        Locality::Local => at_hand(pgdata, &facts).await,
        Locality::NotLocal { .. } => Vec::new(),
    };
    let slot = match &server.receive {
        Some(receive) => session.slot(&receive.slot).await?,
        None => None,
    };
    let facts = ServerFacts {
        slot,
        at_hand,
        ..summary(&facts, ready, clock)
    };
    Ok((facts, locality))
}

/// What a gap could be closed from.
async fn at_hand(pgdata: PathBuf, facts: &postgres::ServerFacts) -> Vec<WalSpan> {
    let writer = pg_wal::Writer {
        system_id: facts.system_id,
        segment_size: facts.segment_size,
        position: facts.position,
    };
    let looked = task::spawn_blocking(move || pg_wal::at_hand(&pgdata, writer));
    looked.await.unwrap_or_default()
}

fn summary(
    facts: &postgres::ServerFacts,
    ready: Option<(SegmentName, Timestamp)>,
    clock: Clock,
) -> ServerFacts {
    let archiving = &facts.archiving;
    let last_archived = archiving.archiver.last_archived.and_then(WalFile::segment);
    ServerFacts {
        system_id: facts.system_id,
        version: facts.version,
        segment_size: facts.segment_size,
        role: match facts.role {
            postgres::Role::Primary => Role::Primary,
            postgres::Role::Standby => Role::Standby,
        },
        timeline: facts.timeline,
        history: None,
        data_directory: facts.data_directory.clone(),
        files: ServerFiles {
            places: facts.places(),
            outside: {
                let files = facts.outside_files().chain(facts.outside_settings());
                files.map(Path::to_owned).collect()
            },
        },
        position: facts.position,
        summarized_from: facts.summarized_from,
        slot: None,
        at_hand: Vec::new(),
        archiver: Archiver {
            mode: match archiving.mode.as_str() {
                "on" => ArchiveMode::On,
                "always" => ArchiveMode::Always,
                _ => ArchiveMode::Off,
            },
            last_archived,
            last_archived_at: archiving.archiver.last_archived_at,
            last_failed: archiving.archiver.last_failed.map(|file| file.to_string()),
            last_failed_at: archiving.archiver.last_failed_at,
            oldest_ready: ready.map(|(segment, _)| segment),
            oldest_ready_at: ready.map(|(_, since)| since),
        },
        clock: match clock {
            fixed @ Clock::Fixed(_) => fixed.now(),
            _ => facts.now,
        },
    }
}

/// The first whole segment that waits to be archived, and since when.
///
/// The file that marks it is PostgreSQL's: `archive_status/<segment>.ready`, made when the segment was complete.
fn oldest_ready(pgdata: &Path) -> Option<(SegmentName, Timestamp)> {
    let entries = fs::read_dir(pgdata.join("pg_wal/archive_status")).ok()?;
    let ready = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let segment: SegmentName = name.to_str()?.strip_suffix(".ready")?.parse().ok()?;
        Some((segment, since(entry.metadata().ok()?.modified().ok()?)?))
    });
    ready.min_by_key(|(segment, _)| *segment)
}

fn since(time: SystemTime) -> Option<Timestamp> {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Timestamp::from_unix_seconds(i64::try_from(seconds).ok()?)
}
