//! Receiving WAL: through which slot, where it is safe meanwhile, how much may wait.

use std::time::Duration;

use super::Context;
use crate::{
    config::{
        diagnostic::Diagnostic,
        document::{
            EntryTable, Written,
            settings::{ReceiveTable, WalTable},
        },
        quantity::{Bytes, Text, TextOr},
    },
    model::{
        desired::{Mode, Receive},
        names::ServerName,
    },
};

/// As long as PostgreSQL lets a slot's name be.
const SLOT_LENGTH_MAX: usize = 63;

/// What may wait in a spool unless the configuration says so.
const SPOOL_LIMIT: u64 = 16 << 30;

/// A spool that holds less has no room for what is being received.
const SPOOL_LIMIT_LEAST: u64 = 64 << 20;

/// What a slot may hold unless the configuration says so.
const MAX_SLOT_LAG: u64 = 10 << 30;

/// The hot tail is stored neither more often nor more seldom.
const TAIL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));

/// How WAL of a server is received. What is wrong is reported, and has some value in what is returned.
pub(super) fn receive(
    table: &EntryTable,
    (server, mode): (&ServerName, Mode),
    context: &mut Context<'_>,
) -> Option<Receive> {
    let wal = match table.wal.as_ref()?.get() {
        TextOr::Table(wal) => wal,
        TextOr::Text(_) => return None,
    };
    let WalTable { receive, .. } = wal;
    let TextOr::Table(receive) = receive.as_ref()?.get() else {
        return None;
    };
    let spool = receive.spool.as_ref();
    if let Some(spool) = spool.filter(|spool| !spool.get().is_absolute()) {
        let error = Diagnostic::error("the spool must be an absolute path");
        context.report(error.label(&spool.span(), "should begin with `/`"));
    }
    let bytes = |written: &Option<Written<Text<Bytes>>>, otherwise| {
        written.as_ref().map_or(otherwise, |size| size.get().0.0)
    };
    if let (Some(limit), None) = (&receive.spool_limit, spool) {
        let error = Diagnostic::error("`spool_limit` needs a `spool`");
        context.report(error.label(&limit.span(), "the limit of which directory?"));
    }
    let spool_bytes_max = bytes(&receive.spool_limit, SPOOL_LIMIT);
    if let Some(limit) = receive.spool_limit.as_ref()
        && spool_bytes_max < SPOOL_LIMIT_LEAST
    {
        let error = Diagnostic::error("a spool of this size has no room for a few segments");
        context.report(error.label(&limit.span(), "should be 64MiB or more"));
    }
    Some(Receive {
        slot: slot(receive, server, context),
        spool: spool.map(|spool| spool.get().clone()),
        spool_bytes_max,
        tail_every: tail(receive, mode, context),
        max_slot_lag: bytes(&receive.max_slot_lag, MAX_SLOT_LAG),
    })
}

fn slot(receive: &ReceiveTable, server: &ServerName, context: &mut Context<'_>) -> String {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let Some(written) = &receive.slot else {
        let name = server.as_str().to_lowercase();
        let name: String = name
            .chars()
            .map(|c| if is_allowed(c) { c } else { '_' })
            .collect();
        let mut slot = format!("barkeep_{name}");
        slot.truncate(SLOT_LENGTH_MAX);
        return slot;
    };
    let name = written.get();
    if name.is_empty() || name.len() > SLOT_LENGTH_MAX || !name.chars().all(is_allowed) {
        context.report(
            Diagnostic::error(format!("`{name}` cannot be the name of a slot")).label(
                &written.span(),
                "lower-case letters, digits and `_`, at most 63",
            ),
        );
    }
    name.clone()
}

fn tail(receive: &ReceiveTable, mode: Mode, context: &mut Context<'_>) -> Option<Duration> {
    let written = receive.tail.as_ref()?;
    let every = written.get().0.0?;
    if every < TAIL.0 || every > TAIL.1 {
        let error = Diagnostic::error("the hot tail cannot be stored as often as that");
        context.report(error.label(&written.span(), "should be 1s to 1h"));
    }
    if mode == Mode::Additive {
        context.report(
            Diagnostic::error("the hot tail needs `mode = \"full\"`")
                .label(&written.span(), "what is archived is deleted from the tail"),
        );
    }
    Some(every)
}
