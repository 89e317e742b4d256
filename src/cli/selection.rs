//! Which servers, destinations and backups a command line means.

use super::{
    args::Select,
    error::{CHECK, Error},
};
use crate::{
    failure::{Failure, Kind},
    model::{
        backup::Backup,
        catalog::Catalog,
        desired::{Desired, Entry, Server},
        names::{DestinationName, ServerName},
        observed::{Knowledge, Observed},
        recovery,
    },
    reconcile::Ports,
    store::Archive,
};

/// The servers that are selected, in order of name.
pub(super) fn servers<'a>(desired: &'a Desired, select: &Select) -> Result<Vec<&'a Server>, Error> {
    for name in &select.servers {
        server(desired, name)?;
    }
    let all = desired.servers.values();
    let selected: Vec<_> = all.filter(|server| is_selected(select, server)).collect();
    if selected.is_empty() && !select.select.is_empty() {
        return Err(Error::NothingSelected);
    }
    Ok(selected)
}

/// Whether a server has one of the names, if there are any, and all the labels.
pub(super) fn is_selected(select: &Select, server: &Server) -> bool {
    let named = select.servers.is_empty() || select.servers.contains(&server.name);
    let has = |(key, value): &(String, String)| server.labels.get(key) == Some(value);
    named && select.select.iter().all(has)
}

/// One server by its name.
pub(super) fn server<'a>(desired: &'a Desired, name: &ServerName) -> Result<&'a Server, Error> {
    let found = desired.servers.values().find(|server| server.name == *name);
    found.ok_or_else(|| Error::NoSuchServer {
        server: name.clone(),
        known: desired
            .servers
            .values()
            .map(|server| server.name.to_string())
            .collect(),
    })
}

/// Checks that a destination is configured.
pub(super) fn destination(desired: &Desired, name: &DestinationName) -> Result<(), Error> {
    if desired.destinations.contains_key(name) {
        return Ok(());
    }
    let known = desired.destinations.keys().map(ToString::to_string);
    Err(Error::UnknownDestination {
        destination: name.clone(),
        known: known.collect(),
    })
}

/// The entry of a server that a command is about: the one named, or the only one.
pub(super) fn entry<'a>(
    server: &'a Server,
    destination: Option<&DestinationName>,
) -> Result<&'a Entry, Error> {
    match (destination, &server.entries[..]) {
        (Some(name), _) => server.entry(name).ok_or_else(|| Error::NoSuchDestination {
            server: server.name.clone(),
            destination: name.clone(),
            known: destinations(server),
        }),
        (None, [only]) => Ok(only),
        (None, _) => Err(Error::WhichDestination {
            server: server.name.clone(),
            known: destinations(server),
        }),
    }
}

fn destinations(server: &Server) -> Vec<String> {
    let entries = server.entries.iter();
    entries.map(|entry| entry.destination.to_string()).collect()
}

/// A server's catalog in the destination of one of its entries, opened.
pub(super) fn archive(ports: &Ports, server: &Server, entry: &Entry) -> Result<Archive, Error> {
    match ports.archives(server).remove(&entry.destination) {
        Some(Ok(archive)) => Ok(archive),
        Some(Err(failure)) => Err(Error::failed("cannot open the destination", failure)),
        None => Err(Error::Usage("the destination is not configured".to_owned())),
    }
}

/// The catalog that was read in a destination.
pub(super) fn catalog<'a>(
    observed: &'a Observed,
    destination: &DestinationName,
) -> Result<&'a Catalog, Error> {
    let doing = || {
        format!(
            "cannot read the catalog of `{}` in `{destination}`",
            observed.server
        )
    };
    match observed
        .destinations
        .get(destination)
        .map(|stored| &stored.catalog)
    {
        Some(Knowledge::Known(catalog)) => Ok(catalog),
        Some(Knowledge::Unknown(failure)) => {
            Err(Error::failed(doing(), failure.clone()).hinted(CHECK))
        }
        Some(Knowledge::Absent) | None => Err(Error::failed(
            doing(),
            Failure::new(Kind::NotFound, "there is nothing in it"),
        )),
    }
}

/// The backup that a text means: an id, a name, or a shortcut.
pub(super) fn backup<'a>(catalog: &'a Catalog, text: &str) -> Result<&'a Backup, Error> {
    let found = recovery::resolve(catalog, text).map_err(|error| {
        Error::failed("cannot find the backup", Failure::of(error.kind(), &error))
            .hinted("`barkeep list` shows all; an id, a name, `latest` and `oldest` are understood")
    })?;
    catalog.backup(&found).ok_or_else(|| {
        let unknown = Failure::new(Kind::NotFound, "it is not in the catalog");
        Error::failed(format!("cannot find backup `{text}`"), unknown)
    })
}
