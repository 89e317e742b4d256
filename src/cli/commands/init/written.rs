//! The text of the new configuration: what was typed, what was found, and why it is written so.

use super::{
    found::{Files, Found},
    place::Place,
};
use crate::{
    cli::{args, calls::program, commands::check},
    config::draft::{Draft, Table},
    model::location::Location,
    plan::render::Bytes,
    postgres::Role,
};

/// The configuration; without what was found, as far as it goes.
pub(super) fn draft(arguments: &args::Init, place: &Place, found: Option<&Found>) -> Draft {
    let server = &arguments.server;
    let mut draft = Draft::new(&format!(
        "How `{server}` is backed up. Written by `barkeep init` {} from what the server and the destination told; \
         docs/configuration.md has every key, and `barkeep validate` says what is wrong with one.",
        env!("CARGO_PKG_VERSION"),
    ));
    if place.is_alone() {
        draft.top().set("version", 1);
    }
    if place.called(&arguments.destination).is_none() {
        let name = arguments.destination_name.as_str();
        destination(draft.table(&["destinations", name]), arguments, found);
    }
    let table = draft.table(&["servers", server.as_str()]);
    self::server(table, arguments, place, found);
    if let Some(policy) = place.policy() {
        draft.verbatim(policy);
    }
    draft
}

fn destination(table: &mut Table, arguments: &args::Init, found: Option<&Found>) {
    let url = &arguments.destination;
    if matches!(url, Location::Directory { .. }) {
        table.comment(
            "A directory is as safe as its disk: let it be another one than the server's.",
        );
    } else {
        table.comment(
            "Credentials are found where the cloud's own tools find them, also by PostgreSQL, which runs \
             archive_command: in the environment, in shared files, or by the machine's role.",
        );
    }
    table.set("url", url.to_string());
    let provider = match url {
        Location::Gcs { .. } => "gcs",
        _ => "s3",
    };
    table
        .maybe("s3.region", arguments.region.as_deref())
        .maybe(
            &format!("{provider}.endpoint_url"),
            arguments.endpoint_url.as_deref(),
        )
        .maybe("s3.profile", arguments.profile.as_deref());
    for (what, result) in found.iter().flat_map(|found| &found.store) {
        able(table, what, result);
    }
}

/// What the store cannot do, with what follows from it; and of what it can, what is not like that everywhere.
fn able(table: &mut Table, what: &str, result: &check::Found) {
    const WORTH_SAYING: [&str; 3] = ["versions", "object lock", "mode"];
    match result {
        check::Found::Good { .. } if !WORTH_SAYING.contains(&what) => return,
        // It may be known the next time.
        check::Found::Limited { why, .. } if why.starts_with("unknown: ") => return,
        check::Found::Good { detail } => table.comment(&format!("{what}: {detail}")),
        check::Found::Limited { why, mend } => table.comment(&format!("{what}: {why}; {mend}")),
        check::Found::Bad { why, .. } => table.comment(&format!("{what}: {why}")),
    };
    match (what, result) {
        ("checksums", check::Found::Bad { .. }) => {
            table.set("s3.checksums", "when_required");
        }
        ("creating once" | "compare and swap", check::Found::Limited { .. }) => {
            table.suggest("single_writer", true);
        }
        ("overwriting", check::Found::Limited { .. }) => {
            table.suggest("control", "another destination");
        }
        _ => {}
    }
}

fn server(table: &mut Table, arguments: &args::Init, place: &Place, found: Option<&Found>) {
    if let Some(found) = found {
        described(table, found);
    }
    let destination = place.called(&arguments.destination);
    let destination = destination.unwrap_or(arguments.destination_name.as_str());
    table
        .set("destination", destination)
        .set("connection", arguments.conninfo.as_str());
    if let Some(file) = &arguments.password_file {
        let file = file.display().to_string();
        let reference = toml::Table::from_iter([("file".to_owned(), file.into())]);
        table.set("password", reference);
    }
    if let Some(found) = found {
        let (why, method) = method(&found.files);
        table.comment(&why).set("method", method);
    }
    table
        .comment("When, how long and how; what is set here counts more.")
        .set("policy", arguments.policy.as_str())
        .maybe("time_zone", arguments.time_zone.as_deref());
    if let Some(found) = found {
        suggested(table, found);
    }
}

/// How backups are made, and why so.
fn method(files: &Files) -> (String, &'static str) {
    match files {
        Files::Here => ("The files can be read here.".to_owned(), "files"),
        Files::Closed => (
            "The files are here, but not for the user who wrote this: the server sends them. As its own user, \
             `files` is faster."
                .to_owned(),
            "stream",
        ),
        Files::Elsewhere(why) => (
            format!("The files cannot be read here ({why}): the server sends them."),
            "stream",
        ),
    }
}

fn described(table: &mut Table, found: &Found) {
    let facts = &found.facts;
    let role = match facts.role {
        Role::Primary => "a primary",
        Role::Standby => "a standby",
    };
    let size = facts.cluster_size.map_or_else(
        || "of a size that the role may not ask for".to_owned(),
        |bytes| format!("of {}", Bytes(bytes)),
    );
    let (major, minor) = (facts.major(), facts.version % 10_000);
    let (system, directory) = (facts.system_id, facts.data_directory.display());
    table.comment(&format!(
        "PostgreSQL {major}.{minor}, {role} {size}, system {system}, in {directory}."
    ));
    let archiving = &facts.archiving;
    let how = match (&archiving.command, &archiving.library) {
        _ if !archiving.is_on() => String::new(),
        (Some(command), _) => format!("; archive_command called {}", program(command)),
        (None, Some(library)) => format!("; archive_library was {library}"),
        (None, None) => "; there was no archive_command".to_owned(),
    };
    let (mode, level) = (&archiving.mode, &found.wal_level);
    table.comment(&format!(
        "archive_mode was {mode} and wal_level {level}{how}."
    ));
    if found.backups > 0 {
        table.comment(&format!(
            "The destination has {} of its backups already: until `barkeep adopt` they are only observed.",
            found.backups
        ));
    }
}

/// What may be wanted beyond the policy.
fn suggested(table: &mut Table, found: &Found) {
    table
        .comment("Not to wait for a checkpoint that PostgreSQL spreads over minutes:")
        .suggest("immediate_checkpoint", true);
    let is_sent = !matches!(found.files, Files::Here);
    match found.facts.summarize_wal {
        Some(true) if is_sent => {
            let every = toml::Table::from_iter([("full_every".to_owned(), "7d".into())]);
            table
                .comment(
                    "summarize_wal is on: between full backups only what has changed need be sent.",
                )
                .suggest("incremental", every);
        }
        Some(false) if is_sent => {
            table.comment(
                "With summarize_wal = on in PostgreSQL backups could be incremental: docs/incrementals.md.",
            );
        }
        _ => {}
    }
    if found.facts.role == Role::Standby {
        table
            .comment("How to reach the primary, which completes the last segment of a backup:")
            .suggest("primary_connection", "host=… user=…");
    }
}
