//! What the role may do, and where the server's WAL goes: asked of the server itself, with the statements that mend it.

use std::path::Path;

use super::{Found, bad};
use crate::{
    cli::calls,
    failure::{Failure, Kind},
    model::desired::{Method, Server},
    postgres::{Archiving, Error, grants::Lacking},
    reconcile::Ports,
};

/// Rows for a server that answers.
pub(super) async fn check(
    ports: &Ports,
    server: &Server,
    config: &Path,
) -> Vec<(&'static str, Found)> {
    let Some(Ok(connector)) = ports.connector(server) else {
        return Vec::new();
    };
    let role = connector.target().user.clone();
    let asked = async {
        let session = connector.connect().await?;
        let told = async {
            let (archiving, sending) = (session.archiving().await?, session.sending(None).await?);
            Ok::<_, Error>((session.lacking(&role).await?, archiving, sending.wal_level))
        };
        let told = told.await;
        session.close().await;
        told
    };
    match asked.await {
        Ok((lacking, archiving, wal_level)) => {
            let mut rows = vec![("rights", rights(server, &lacking))];
            rows.extend(archives(server, config, &archiving, &wal_level));
            rows
        }
        Err(error) => {
            let failure = Failure::of(error.kind(), &error).hinted(error.hint());
            vec![("rights", bad(&failure, "see docs/postgresql-role.md"))]
        }
    }
}

fn rights(server: &Server, lacking: &[Lacking]) -> Found {
    // The server itself begins and ends what it sends.
    let begins = |method: Method| method != Method::Stream;
    let begins = server.entries.iter().any(|entry| begins(entry.method));
    let lacking: Vec<_> = lacking
        .iter()
        .filter(|lacking| begins || !lacking.stops_backups)
        .collect();
    let statements = lacking.iter().map(|lacking| lacking.statement.as_str());
    let mend = statements.collect::<Vec<_>>().join("; ");
    if lacking.iter().any(|lacking| lacking.stops_backups) {
        return Found::Bad {
            why: "the role may not begin or end a backup".to_owned(),
            mend,
            kind: Kind::Failed,
        };
    }
    if lacking.is_empty() {
        let detail = "the role has all that a backup needs".to_owned();
        return Found::Good { detail };
    }
    Found::Limited {
        why: "the role lacks rights that docs/postgresql-role.md lists".to_owned(),
        mend,
    }
}

fn archives(
    server: &Server,
    config: &Path,
    archiving: &Archiving,
    wal_level: &str,
) -> Vec<(&'static str, Found)> {
    let command = calls::archive_command(config, &server.name).unwrap_or_default();
    let statements = calls::have_archived(archiving, wal_level, &command);
    let mend = statements.join(" ");
    let missing = |why: &str, mend: String| Found::Bad {
        why: why.to_owned(),
        mend,
        kind: Kind::Failed,
    };
    if !archiving.is_on() && server.receive.is_some() {
        let detail = "off, and WAL is received".to_owned();
        return vec![("archive_mode", Found::Good { detail })];
    }
    if !archiving.is_on() {
        let mend = format!("{mend} then restart PostgreSQL");
        return vec![("archive_mode", missing("it is off", mend))];
    }
    let mode = Found::Good {
        detail: archiving.mode.clone(),
    };
    let called = match (&archiving.command, &archiving.library) {
        (None, None) => missing("it is empty, and WAL piles up in pg_wal", mend),
        // Whatever puts WAL there is seen by what is there.
        _ if server.receive.is_some() => return vec![("archive_mode", mode)],
        (Some(command), None) => match calls::program(command) {
            known @ ("barkeep" | "barman-cloud-wal-archive") => Found::Good {
                detail: format!("it calls {known}"),
            },
            other => Found::Limited {
                why: format!("it calls {other}"),
                mend: format!("if that does not put WAL into each destination: {mend}"),
            },
        },
        (_, Some(library)) => Found::Limited {
            why: format!("archive_library is {library}"),
            mend: format!("if that does not put WAL into each destination: {mend}"),
        },
    };
    vec![("archive_mode", mode), ("archive_command", called)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{compile::compile, load::from_texts};

    fn found(mode: &str, command: Option<&str>) -> String {
        let text = "version = 1\n[destinations.d]\nurl = \"file:///srv/b\"\n\
                    [servers.orders]\ndestination = \"d\"\nconnection = \"\"\n";
        let compiled = compile(from_texts(&[("here", text)])).expect("it is valid");
        let server = &compiled.desired.servers["orders"];
        let archiving = Archiving {
            mode: mode.to_owned(),
            command: command.map(str::to_owned),
            library: None,
            archiver: crate::postgres::Archiver::default(),
            oldest_ready: None,
        };
        let rows = archives(server, Path::new("/c.toml"), &archiving, "replica");
        let (what, last) = rows.last().expect("a row");
        match last {
            Found::Good { detail } => format!("{what}: {detail}"),
            Found::Limited { why, mend } | Found::Bad { why, mend, .. } => {
                format!("{what}: {why}: {mend}")
            }
        }
    }

    #[test]
    fn where_wal_goes_is_told_with_the_statements_that_mend_it() {
        let off = found("off", None);
        assert!(
            off.starts_with("archive_mode: it is off: ALTER SYSTEM SET archive_mode = 'on';"),
            "{off}"
        );
        assert!(
            off.ends_with("wal-archive orders %p'; then restart PostgreSQL"),
            "{off}"
        );
        let empty = found("on", None);
        assert!(empty.starts_with("archive_command: it is empty"), "{empty}");
        assert!(empty.ends_with("SELECT pg_reload_conf();"), "{empty}");
        let ours = found("on", Some("/usr/bin/barkeep wal-archive orders %p"));
        assert_eq!(ours, "archive_command: it calls barkeep");
        let other = found("on", Some("PASSWORD=x cp %p /srv"));
        assert!(
            other.starts_with("archive_command: it calls cp: if that"),
            "{other}"
        );
        assert!(!other.contains("PASSWORD"), "{other}");
    }
}
