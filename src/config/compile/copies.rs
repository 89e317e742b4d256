//! Copies: which destination they are made of, and what they cannot have because no server is read.

use super::{Context, server::Written};
use crate::{
    config::{
        diagnostic::Diagnostic,
        document::{EntryTable, Written as Text},
        source::Span,
        tree::{Node, Value},
    },
    model::desired::{Delivery, Entry},
};

/// What says how a server is read.
const OF_THE_SERVER: [&str; 9] = [
    "schedule",
    "window",
    "splay",
    "catch_up",
    "method",
    "compression",
    "jobs",
    "immediate_checkpoint",
    "name",
];

/// Checks the copies among the entries of one server.
pub(super) fn check(
    server: &Written<'_>,
    entries: &[(EntryTable, Entry)],
    context: &mut Context<'_>,
) {
    for (table, entry) in entries {
        match &table.copy_of {
            Some(source) => source_of(server.name, source, entry, entries, context),
            None => read_from_server(table, entry, context),
        }
    }
    let Some(Value::Array(raw)) = server.raw.get("backups").map(|item| &item.node.value) else {
        return;
    };
    for node in raw.iter().filter(|node| node.get("copy_of").is_some()) {
        of_the_server(node, context);
    }
}

/// A copy is made of what is read from the server, so that there is one truth and no circle.
fn source_of(
    server: &str,
    source: &Text<String>,
    entry: &Entry,
    entries: &[(EntryTable, Entry)],
    context: &mut Context<'_>,
) {
    let name = source.get();
    let is_source = |(_, other): &&(EntryTable, Entry)| other.destination.as_str() == name;
    let wrong = if name == entry.destination.as_str() {
        "a copy of itself".to_owned()
    } else {
        match entries.iter().find(is_source) {
            None => format!("`{server}` has no backups in `{name}`"),
            Some((_, other)) if other.copy_of.is_some() => {
                format!("`{name}` is a copy itself")
            }
            Some(_) => return,
        }
    };
    context.report(
        Diagnostic::error(format!("nothing can be copied to `{}`", entry.destination))
            .label(&source.span(), wrong)
            .help("name the destination of this server that has no `copy_of`"),
    );
}

/// What is read from the server has its WAL from the server.
fn read_from_server(table: &EntryTable, entry: &Entry, context: &mut Context<'_>) {
    let Some(written) = table
        .wal
        .as_ref()
        .filter(|_| entry.delivery != Delivery::Required)
    else {
        return;
    };
    context.report(
        Diagnostic::error("archiving must wait for this destination")
            .label(&written.span(), "only a copy gets its WAL later, or none")
            .help("its backups need WAL that nobody would bring"),
    );
}

fn of_the_server(node: &Node, context: &mut Context<'_>) {
    let span = |key: &str| node.get(key).map(|item| -> Span { item.key.clone() });
    for key in OF_THE_SERVER {
        let Some(found) = span(key) else { continue };
        let mut error = Diagnostic::error(format!("`{key}` says nothing about a copy"))
            .label(&found, "how the server is read");
        if let Some(copy) = span("copy_of") {
            error = error.label(&copy, "which this is not");
        }
        context.report(error.help("a copy is made as soon as there is something to copy"));
    }
}
