//! `slot`: the replication slot through which a server's WAL is received.

use std::fmt;

use serde::Serialize;

use crate::{
    cli::{Session, args, error::Error, exit::Exit, selection},
    failure::{Failure, Kind},
    model::{
        desired::Receive,
        names::ServerName,
        slot::{SlotFacts, WalStatus},
    },
    postgres::{self, Connector},
};

pub(in crate::cli) async fn run(arguments: args::Slot, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports_of(&arguments.server).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let (Some(receive), Some(connector)) = (&server.receive, ports.connector(server)) else {
        let why = format!("no WAL is received from `{}`", server.name);
        return Err(Error::Usage(why));
    };
    let failed = |failure| Error::failed(format!("cannot ask `{}`", server.name), failure);
    let connector = connector.map_err(failed)?;
    let found = look(&connector, receive).await;
    let found = found.map_err(|error| failed(of(&error)))?;
    if arguments.drop && found.is_some() {
        let dropped = drop_it(&connector, receive).await;
        dropped.map_err(|error| {
            let doing = format!("cannot drop the slot `{}`", receive.slot);
            let failed = Error::failed(doing, of(&error));
            if error.is_in_use() {
                return failed.hinted("end whoever receives through it first");
            }
            failed
        })?;
    }
    let told = Told {
        format: 1,
        server: &server.name,
        slot: &receive.slot,
        held_bytes: found.as_ref().map(SlotFacts::held_bytes),
        found: found.as_ref(),
        dropped: arguments.drop && found.is_some(),
    };
    session.output.result(&told, &told)?;
    Ok(Exit::Done)
}

async fn look(
    connector: &Connector,
    receive: &Receive,
) -> Result<Option<SlotFacts>, postgres::Error> {
    let session = connector.connect().await?;
    let found = session.slot(&receive.slot).await;
    session.close().await;
    found
}

async fn drop_it(connector: &Connector, receive: &Receive) -> Result<(), postgres::Error> {
    let mut session = connector.replicate().await?;
    let dropped = session.drop_slot(&receive.slot).await;
    session.close().await;
    dropped
}

fn of(error: &postgres::Error) -> Failure {
    let kind = if error.is_in_use() {
        Kind::Refused
    } else {
        error.kind()
    };
    Failure::of(kind, error).hinted(error.hint())
}

#[derive(Serialize)]
struct Told<'a> {
    format: u32,
    server: &'a ServerName,
    slot: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<&'a SlotFacts>,
    dropped: bool,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, slot, .. } = self;
        let Some(found) = self.found else {
            return writeln!(formatter, "{server}: there is no slot `{slot}`");
        };
        if self.dropped {
            return writeln!(formatter, "{server}: the slot `{slot}` is dropped");
        }
        let used = match (found.status, found.active) {
            (WalStatus::Lost, _) => "given up by PostgreSQL",
            (_, true) => "in use",
            (_, false) => "used by nobody",
        };
        let held = found.held_bytes() >> 20;
        write!(
            formatter,
            "{server}: the slot `{slot}` is {used} and holds {held} MiB of WAL"
        )?;
        if let Some(restart) = found.restart {
            write!(formatter, " from {restart} on")?;
        }
        writeln!(formatter)
    }
}
