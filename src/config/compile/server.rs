//! Servers: what is backed up where, and how it is reached.

use std::collections::BTreeSet;

use super::{Context, checks, copies, entry, receive};
use crate::{
    config::{
        conninfo,
        diagnostic::Diagnostic,
        document::{EntryTable, ServerTable, Written as Text, settings::KeepTable},
        merge::Layers,
        quantity::Until,
        reader,
        source::Span,
        tree::{Node, Value},
    },
    model::{
        desired::{Connection, DeclaredKeep, Entry, Method, Mode, Server, ServerState},
        names::{DestinationName, ServerName},
        schedule::Zone,
        time::Timestamp,
    },
};

/// A server as it was written, its layers merged.
pub(super) struct Written<'a> {
    /// The table's name.
    pub(super) name: &'a str,
    /// Where that is written.
    pub(super) key: &'a Span,
    /// All layers.
    pub(super) layers: &'a Layers<'a>,
    /// The table as it stands in its file.
    pub(super) raw: &'a Node,
    /// Its own keys.
    pub(super) server: &'a Node,
    /// Its entries with all their settings.
    pub(super) entries: &'a [Node],
    /// The single backups that it keeps.
    pub(super) keeps: &'a [Node],
}

impl Written<'_> {
    /// Compiles it; what is wrong is reported.
    pub(super) fn compile(&self, context: &mut Context<'_>) -> Option<Server> {
        let table: ServerTable = reader::read_again(self.server);
        let name = self.catalog_name(&table, context);
        self.check_forms(context);
        let entries = self.entries(context);
        let copied = |mode: &Option<Text<Mode>>| mode.as_ref().map(|mode| *mode.get());
        let state = table
            .state
            .as_ref()
            .map_or_else(ServerState::default, |state| *state.get());
        let zone = entries
            .first()
            .map_or_else(Zone::utc, |(_, entry)| entry.zone.clone());
        let keeps = self.keeps(&entries, &zone, context);
        if state == ServerState::Active {
            self.check_reach(&table, &entries, context);
            check_disks(&entries, context);
        }
        let pgdata = table.pgdata.as_ref();
        if let Some(pgdata) = pgdata.filter(|path| !path.get().is_absolute()) {
            let error = Diagnostic::error("`pgdata` must be an absolute path");
            context.report(error.label(&pgdata.span(), "should begin with `/`"));
        }
        let (tables, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let (name, mode) = (name?, copied(&table.mode).unwrap_or_default());
        // A copy is not read from the server, and neither is its WAL.
        let read = tables.iter().find(|table| table.copy_of.is_none());
        let receive = read.and_then(|table| receive::receive(table, (&name, mode), context));
        Some(Server {
            name,
            mode,
            state,
            labels: table.labels.clone(),
            connection: connection(&table),
            pgdata: pgdata.map(|path| path.get().clone()),
            entries,
            keeps,
            receive,
        })
    }

    fn catalog_name(&self, table: &ServerTable, context: &mut Context<'_>) -> Option<ServerName> {
        let written = table.name.as_ref();
        let span = written.map_or_else(|| self.key.clone(), Text::span);
        let text = written.map_or(self.name, |name| name.get().as_str());
        let name = ServerName::parse(text);
        name.map_err(|error| {
            let error = Diagnostic::error(error.to_string());
            context.report(error.label(&span, "not a name"));
        })
        .ok()
    }

    /// The short form and the long one exclude each other.
    fn check_forms(&self, context: &mut Context<'_>) {
        let Some(backups) = self.raw.get("backups") else {
            return;
        };
        if let Some(destination) = self.raw.get("destination") {
            context.report(
                Diagnostic::error("a server has one destination, or a list of `backups`")
                    .label(&destination.key, "the short form of one entry")
                    .label(&backups.key, "the long form"),
            );
        }
        if matches!(&backups.node.value, Value::Array(entries) if entries.is_empty()) {
            let error = Diagnostic::error(format!("server `{}` is backed up nowhere", self.name));
            context.report(error.label(&backups.node.span, "should have an entry"));
        }
    }

    fn entries(&self, context: &mut Context<'_>) -> Vec<(EntryTable, Entry)> {
        let mut compiled: Vec<(EntryTable, Entry)> = Vec::new();
        for node in self.entries {
            let table: EntryTable = reader::read_again(node);
            let Some(destination) = self.destination(node, &table, context) else {
                continue;
            };
            let twice = |(other, _): &&(EntryTable, Entry)| {
                let other = other.destination.as_ref().map(Text::get);
                other == table.destination.as_ref().map(Text::get)
            };
            if let (Some((first, _)), Some(second)) =
                (compiled.iter().find(twice), &table.destination)
            {
                let message = format!("`{}` has two entries for one destination", self.name);
                let first = first
                    .destination
                    .as_ref()
                    .map(Text::span)
                    .unwrap_or_default();
                context.report(
                    Diagnostic::error(message)
                        .label(&second.span(), "again here")
                        .label(&first, "first here"),
                );
                continue;
            }
            let entry = entry::settings(&table, &destination, context);
            checks::within(&table, &entry, context);
            self.check_said(node, context);
            compiled.push((table, entry));
        }
        self.check_sources(&compiled, context);
        copies::check(self, &compiled, context);
        compiled
    }

    /// No schedule and no retention are fine, if that is what was meant.
    fn check_said(&self, node: &Node, context: &mut Context<'_>) {
        // What was not understood may have said it.
        if context.has_errors() {
            return;
        }
        let retired = self.server.get("state").and_then(|item| item.node.text()) == Some("retired");
        let unsaid = [
            ("schedule", "no backups are taken of it"),
            ("retention", "all of its backups stay for ever"),
        ];
        for (key, consequence) in unsaid {
            let needless = retired || node.get("copy_of").is_some();
            if node.get(key).is_none() && !(needless && key == "schedule") {
                let message = format!("nothing sets a {key} for server `{}`", self.name);
                context.report(
                    Diagnostic::warning(message)
                        .label(self.key, consequence)
                        .help(format!("if that is meant, write `{key} = \"none\"`")),
                );
            }
        }
    }

    fn destination(
        &self,
        node: &Node,
        table: &EntryTable,
        context: &mut Context<'_>,
    ) -> Option<DestinationName> {
        let Some(item) = node.get("destination") else {
            let span = if self.raw.get("backups").is_some() {
                &node.span
            } else {
                self.key
            };
            context.report(
                Diagnostic::error(format!("server `{}` has no destination", self.name))
                    .label(span, "where should its backups live?")
                    .help("`destination = \"NAME\"`, with a `[destinations.NAME]` somewhere"),
            );
            return None;
        };
        let known = self.layers.named(
            "destinations",
            "destination",
            &item.node,
            context.diagnostics,
        );
        known?;
        DestinationName::parse(table.destination.as_ref()?.get()).ok()
    }

    /// Several destinations need to know which one is read from the server.
    fn check_sources(&self, entries: &[(EntryTable, Entry)], context: &mut Context<'_>) {
        let mut read = entries.iter().filter(|(table, _)| table.copy_of.is_none());
        let first = read
            .next()
            .and_then(|(table, _)| table.destination.as_ref());
        for (table, _) in read {
            let (Some(first), Some(further)) = (first, &table.destination) else {
                continue;
            };
            context.report(
                Diagnostic::error(format!("`{}` would be read more than once", self.name))
                    .label(&further.span(), "this destination")
                    .label(&first.span(), "and this one")
                    .help("say which one is read from the server: give the others `copy_of`"),
            );
        }
    }

    /// A server that must be backed up must be reachable.
    fn check_reach(
        &self,
        table: &ServerTable,
        entries: &[(EntryTable, Entry)],
        context: &mut Context<'_>,
    ) {
        let scheduled = entries.iter().find(|(_, entry)| entry.schedule.is_some());
        if scheduled.is_some() && self.server.get("connection").is_none() {
            context.report(
                Diagnostic::error(format!("server `{}` has no `connection`", self.name))
                    .label(self.key, "how is it reached?")
                    .help(
                        "such as `connection = \"host=/run/postgresql user=barkeep\"`; an empty \
                         text takes all from PG* variables",
                    ),
            );
        }
        if let Some(primary) = table
            .primary_connection
            .as_ref()
            .filter(|_| table.connection.is_none())
        {
            let error = Diagnostic::error("`primary_connection` needs a `connection`");
            context.report(error.label(&primary.span(), "the primary of which standby?"));
        }
        let Some(connection) = &table.connection else {
            return;
        };
        let read_here = |(_, entry): &(EntryTable, Entry)| entry.is_read_here();
        if !entries.iter().any(read_here) {
            return;
        }
        let hosts = conninfo::hosts(connection.get());
        if let Some(remote) = hosts.iter().find(|host| !conninfo::is_local(host)) {
            context.report(
                Diagnostic::warning(format!("`{remote}` may be another machine"))
                    .label(&connection.span(), "files are read where barkeep runs")
                    .help(
                        "elsewhere than on that machine, barkeep takes no backups of it; a socket \
                         directory says that it is local",
                    ),
            );
        }
    }

    fn keeps(
        &self,
        entries: &[(EntryTable, Entry)],
        zone: &Zone,
        context: &mut Context<'_>,
    ) -> Vec<DeclaredKeep> {
        let mut kept: Vec<(String, Span)> = Vec::new();
        let mut compiled = Vec::new();
        for node in self.keeps {
            let written: Text<KeepTable> = reader::read_again(node);
            let Some(backup) = &written.get().backup else {
                continue;
            };
            if let Some((_, first)) = kept.iter().find(|(other, _)| other == backup.get()) {
                context.report(
                    Diagnostic::error(format!("`{}` is kept twice", backup.get()))
                        .label(&backup.span(), "again here")
                        .label(first, "first here"),
                );
            }
            kept.push((backup.get().clone(), backup.span()));
            let destinations = keep_destinations(written.get(), entries, context);
            compiled.extend(declared_keep(&written, destinations, zone, context));
        }
        compiled
    }
}

fn connection(table: &ServerTable) -> Option<Connection> {
    let text = |written: &Option<Text<String>>| written.as_ref().map(|text| text.get().clone());
    Some(Connection {
        conninfo: text(&table.connection)?,
        primary_conninfo: text(&table.primary_connection),
        password: table.password.as_ref().map(|secret| secret.get().clone()),
    })
}

fn keep_destinations(
    table: &KeepTable,
    entries: &[(EntryTable, Entry)],
    context: &mut Context<'_>,
) -> BTreeSet<DestinationName> {
    let mut found = BTreeSet::new();
    for written in table.destinations.iter().flatten() {
        let same = |(_, entry): &&(EntryTable, Entry)| entry.destination.as_str() == written.get();
        if let Some((_, entry)) = entries.iter().find(same) {
            found.insert(entry.destination.clone());
        } else {
            let message = format!("the server has no backups in `{}`", written.get());
            let error = Diagnostic::error(message);
            context.report(error.label(&written.span(), "not a destination of this server"));
        }
    }
    found
}

fn declared_keep(
    written: &Text<KeepTable>,
    destinations: BTreeSet<DestinationName>,
    zone: &Zone,
    context: &mut Context<'_>,
) -> Option<DeclaredKeep> {
    let table = written.get();
    for span in [
        table.first_of.as_ref().map(Text::span),
        table.keep_for.as_ref().map(Text::span),
    ]
    .into_iter()
    .flatten()
    {
        let error =
            Diagnostic::error("`first_of` and `for` make a rule, `backup` names one backup");
        context.report(
            error
                .label(&span, "not beside `backup`")
                .help("a keep of one backup ends with `until`"),
        );
    }
    let missing = [("target", table.target.is_none())];
    entry::missing_keys("a backup to keep", written, &missing, context)?;
    Some(DeclaredKeep {
        backup: table.backup.as_ref()?.get().clone(),
        target: *table.target.as_ref()?.get(),
        reason: table.reason.as_ref().map(|reason| reason.get().clone()),
        until: table
            .until
            .as_ref()
            .and_then(|until| ends(until.get().0, zone)),
        destinations,
    })
}

/// A policy may say that snapshots are taken, and leave the disks to the servers; there they must be named.
fn check_disks(entries: &[(EntryTable, Entry)], context: &mut Context<'_>) {
    for (table, entry) in entries {
        let is_taken = entry.method == Method::Snapshot && entry.copy_of.is_none();
        if !is_taken || table.snapshot.is_some() {
            continue;
        }
        if let Some(method) = &table.method {
            let example = "such as `snapshot = { provider = \"aws\", instance = \"pg\", disks = [\"pgdata\"] }`";
            context.report(
                Diagnostic::error("disk snapshots need to know of which disks")
                    .label(&method.span(), "should have `snapshot` beside it")
                    .help(example),
            );
        }
    }
}

/// The instant at which a keep ends: a day is part of it.
pub(super) fn ends(until: Until, zone: &Zone) -> Option<Timestamp> {
    match until {
        Until::Instant(instant) => Some(instant),
        Until::Day(day) => zone.instant(day.succ_opt()?.and_hms_opt(0, 0, 0)?),
    }
}
