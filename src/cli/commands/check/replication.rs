//! Whether a server sends its files and its WAL, and goes on doing so: who is let in, places, the slot and what may become of it.
//!
//! Only servers are looked at that are meant to send. Where `connection` names several hosts, each of the others may have to take over: it
//! is asked as well, and told of by its place.

mod rows;

use std::time::Duration;

use super::Found;
use crate::{
    model::{
        desired::{Entry, Method, Receive, Server},
        schedule::Schedule,
        slot::SlotFacts,
    },
    postgres::{self, Connector, Sending},
    reconcile::Ports,
};

/// What was looked at, and what was found.
type Row = (String, Found);

/// What a server is meant to send.
struct Wanted<'a> {
    server: &'a str,
    /// Its files.
    files: bool,
    /// Its WAL, as it is written.
    receive: Option<&'a Receive>,
    /// What has changed since an earlier backup, which is so long ago at least.
    changes: Option<Duration>,
    /// What its sessions are called.
    application: String,
}

/// What a server says.
struct Said {
    /// Where it is.
    endpoint: String,
    sending: Sending,
    slot: Option<SlotFacts>,
    let_in: Result<(), postgres::Error>,
}

/// One row for everything that must be so for a server to send; none for a server that need not.
pub(super) async fn check(ports: &Ports, server: &Server) -> Vec<Row> {
    let is_sent = |entry: &&Entry| entry.method == Method::Stream && entry.copy_of.is_none();
    let sent: Vec<&Entry> = server.entries.iter().filter(is_sent).collect();
    if sent.is_empty() && server.receive.is_none() {
        return Vec::new();
    }
    // That it cannot be reached at all is told in the row of the server.
    let Some(Ok(connector)) = ports.connector(server) else {
        return Vec::new();
    };
    let pause = |entry: &&Entry| {
        entry.incremental.as_ref()?;
        let schedule = entry.schedule.as_ref();
        Some(schedule.map_or(Duration::ZERO, Schedule::period))
    };
    let wanted = Wanted {
        server: server.name.as_str(),
        files: !sent.is_empty(),
        receive: server.receive.as_ref(),
        changes: sent.iter().filter_map(pause).max(),
        application: connector.target().application_name.clone(),
    };
    let Ok(said) = ask(connector.clone(), &wanted).await else {
        return Vec::new();
    };
    let mut rows = rows::rows(&said, &wanted);
    for other in connector.each() {
        let place = other.target().endpoints[0].to_string();
        if place == said.endpoint {
            continue;
        }
        let found = match ask(other, &wanted).await {
            Ok(said) => rows::rows_of_another(&said, &wanted),
            Err(error) => vec![rows::unasked(&error)],
        };
        let at = |(what, found)| (format!("{what} at {place}"), found);
        rows.extend(found.into_iter().map(at));
    }
    rows
}

/// Asks by SQL, then tries to be let in by the same server.
async fn ask(connector: Connector, wanted: &Wanted<'_>) -> Result<Said, postgres::Error> {
    let session = connector.connect().await?;
    let slot = wanted.receive.map(|receive| receive.slot.as_str());
    let asked = ask_session(&session, slot).await;
    let connector = connector.beside(&session);
    let endpoint = session.endpoint().to_owned();
    session.close().await;
    let (sending, slot) = asked?;
    let let_in = match connector.replicate().await {
        Ok(session) => {
            session.close().await;
            Ok(())
        }
        Err(error) => Err(error),
    };
    Ok(Said {
        endpoint,
        sending,
        slot,
        let_in,
    })
}

async fn ask_session(
    session: &postgres::Session,
    slot: Option<&str>,
) -> Result<(Sending, Option<SlotFacts>), postgres::Error> {
    let facts = match slot {
        Some(slot) => session.slot(slot).await?,
        None => None,
    };
    Ok((session.sending(slot).await?, facts))
}
