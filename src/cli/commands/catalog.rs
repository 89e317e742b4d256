//! `list` and `show`: what is stored.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    cli::{
        Session, args, complain,
        error::{CHECK, Error},
        exit::Exit,
        selection,
        table::Table,
    },
    failure::Failure,
    model::{
        backup::{Backup, BackupId},
        catalog::Catalog,
        names::{DestinationName, ServerName},
        observed::{Knowledge, Observed},
    },
    observe::Depth,
    plan::render::Bytes,
};

#[derive(Serialize)]
struct Listing<'a> {
    format: u32,
    catalogs: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    server: &'a ServerName,
    destination: &'a DestinationName,
    backups: &'a [Backup],
    unreadable: &'a BTreeMap<BackupId, Failure>,
}

pub(in crate::cli) async fn list(arguments: args::List, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(arguments.select.now).await?;
    let servers = selection::servers(&ports.desired, &arguments.select)?;
    if let Some(destination) = &arguments.destination {
        selection::destination(&ports.desired, destination)?;
    }
    let observing = servers
        .iter()
        .map(|server| ports.observe(server, Depth::Backups));
    let observed: Vec<Observed> = futures_util::future::join_all(observing).await;
    let mut exit = Exit::Done;
    let mut catalogs = Vec::new();
    let empty = Catalog::default();
    for observed in &observed {
        for (destination, stored) in &observed.destinations {
            if arguments
                .destination
                .as_ref()
                .is_some_and(|wanted| wanted != destination)
            {
                continue;
            }
            let catalog = match &stored.catalog {
                Knowledge::Known(catalog) => catalog,
                Knowledge::Absent => &empty,
                Knowledge::Unknown(failure) => {
                    let doing = format!("cannot list `{}` in `{destination}`", observed.server);
                    let error = Error::failed(doing, failure.clone()).hinted(CHECK);
                    complain(&error);
                    exit = exit.worst(error.exit());
                    continue;
                }
            };
            catalogs.push(Listed {
                server: &observed.server,
                destination,
                backups: &catalog.backups,
                unreadable: &catalog.unreadable,
            });
        }
    }
    let listing = Listing {
        format: 1,
        catalogs,
    };
    session.output.result(&listing, &listing)?;
    Ok(exit)
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for catalog in &self.catalogs {
            write!(formatter, "{} -> {}", catalog.server, catalog.destination)?;
            if catalog.backups.is_empty() && catalog.unreadable.is_empty() {
                writeln!(formatter, "   no backups")?;
                continue;
            }
            writeln!(formatter, "   {} stored", catalog.stored())?;
            for line in catalog.table().to_string().lines() {
                writeln!(formatter, "  {line}")?;
            }
        }
        Ok(())
    }
}

impl Listed<'_> {
    fn stored(&self) -> Bytes {
        Bytes(self.backups.iter().map(Backup::stored_bytes).sum())
    }

    fn table(&self) -> Table<6> {
        let header = ["BACKUP", "STATUS", "ENDED", "STORED", "KEPT", "NAME"];
        let mut table = Table::new(header);
        for backup in self.backups {
            let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            table.row([
                backup.id.to_string(),
                backup.status.to_string(),
                text(backup.end_time.map(|end| end.to_string())),
                Bytes(backup.stored_bytes()).to_string(),
                text(backup.keep.map(|keep| keep.to_string())),
                text(backup.name.clone()),
            ]);
        }
        for (id, why) in self.unreadable {
            let mut cells: [String; 6] = std::array::from_fn(|_| "-".to_owned());
            id.to_string().clone_into(&mut cells[0]);
            "unreadable".clone_into(&mut cells[1]);
            table.noted(cells, vec![why.to_string()]);
        }
        table
    }
}

pub(in crate::cli) async fn show(arguments: args::Show, session: &Session) -> Result<Exit, Error> {
    let ports = session.ports(None).await?;
    let server = selection::server(&ports.desired, &arguments.server)?;
    let entry = selection::entry(server, arguments.destination.as_ref())?;
    let observed = ports.observe(server, Depth::Backups).await;
    let catalog = selection::catalog(&observed, &entry.destination)?;
    let backup = selection::backup(catalog, &arguments.backup)?;
    session.output.result(&Details(backup), backup)?;
    Ok(Exit::Done)
}

struct Details<'a>(&'a Backup);

impl fmt::Display for Details<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backup = self.0;
        writeln!(formatter, "{}", backup.id)?;
        let mut line = |label: &str, value: Option<String>| match value {
            Some(value) => writeln!(formatter, "  {label:<16} {value}"),
            None => Ok(()),
        };
        line("name", backup.name.clone())?;
        line("status", Some(backup.status.to_string()))?;
        line("error", backup.error.clone())?;
        line(
            "PostgreSQL",
            backup
                .version
                .map(|version| format!("{}.{}", version / 10_000, version % 10_000)),
        )?;
        line(
            "system id",
            backup.system_id.map(|system| system.to_string()),
        )?;
        line("begun", backup.begin_time.map(|time| time.to_string()))?;
        line("ended", backup.end_time.map(|time| time.to_string()))?;
        line("begin LSN", backup.begin_lsn.map(|lsn| lsn.to_string()))?;
        line("end LSN", backup.end_lsn.map(|lsn| lsn.to_string()))?;
        line("begin WAL", backup.begin_wal.map(|wal| wal.to_string()))?;
        line("end WAL", backup.end_wal.map(|wal| wal.to_string()))?;
        line(
            "timeline",
            backup
                .timeline
                .map(|timeline| timeline.number().to_string()),
        )?;
        line(
            "PGDATA",
            backup
                .pgdata
                .as_ref()
                .map(|path| path.display().to_string()),
        )?;
        for space in &backup.tablespaces {
            let value = format!(
                "{} ({}) {}",
                space.name,
                space.oid,
                space.location.display()
            );
            line("tablespace", Some(value))?;
        }
        for archive in &backup.archives {
            let name = crate::format::keys::ArchiveName::from(archive);
            line("archive", Some(format!("{name}  {}", Bytes(archive.bytes))))?;
        }
        for snapshot in &backup.snapshots {
            line("snapshot", Some(snapshot.clone()))?;
        }
        line("stored", Some(Bytes(backup.stored_bytes()).to_string()))?;
        line("kept", backup.keep.map(|keep| keep.to_string()))?;
        line("builds on", backup.parent.as_ref().map(ToString::to_string))
    }
}
