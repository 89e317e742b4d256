//! `permissions`: what the clouds must grant, for each destination and each role.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{Session, args, commands::configuration, error::Error, exit::Exit},
    model::{
        desired::{Desired, Destination},
        names::{DestinationName, ServerName},
    },
    snapshot::permission::{self, Use},
    store::permission::{Role, document},
};

#[derive(Serialize)]
struct Rights {
    format: u32,
    permissions: Vec<Entry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<Snapshots>,
}

/// What whoever takes, deletes or restores snapshots of a server's disks needs.
#[derive(Serialize)]
struct Snapshots {
    server: ServerName,
    destination: DestinationName,
    role: &'static str,
    document: Value,
}

#[derive(Serialize)]
struct Entry {
    destination: DestinationName,
    url: String,
    role: Role,
    /// None for a directory.
    document: Option<Value>,
    notes: Vec<String>,
}

pub(in crate::cli) fn run(arguments: &args::Permissions, session: &Session) -> Result<Exit, Error> {
    let desired = configuration::load(&session.config, session.warnings)?;
    if let Some(destination) = &arguments.destination
        && !desired.destinations.contains_key(destination)
    {
        return Err(Error::UnknownDestination {
            destination: destination.clone(),
            known: desired
                .destinations
                .keys()
                .map(ToString::to_string)
                .collect(),
        });
    }
    let wanted = arguments.destination.as_ref();
    let destinations = desired.destinations.values();
    let destinations =
        destinations.filter(|destination| wanted.is_none_or(|name| *name == destination.name));
    let roles = Role::ALL.into_iter();
    let roles = roles.filter(|role| arguments.role.is_none_or(|wanted| wanted == *role));
    let entries = destinations.flat_map(|destination| {
        let entry = |role| entry(destination, role);
        roles.clone().map(entry)
    });
    let rights = Rights {
        format: 1,
        permissions: entries.collect(),
        snapshots: match arguments.role {
            None => snapshots(&desired, wanted),
            Some(_) => Vec::new(),
        },
    };
    session.output.result(&rights, &rights)?;
    Ok(Exit::Done)
}

/// One for each use of each server's snapshots.
fn snapshots(desired: &Desired, wanted: Option<&DestinationName>) -> Vec<Snapshots> {
    let mut found = Vec::new();
    for server in desired.servers.values() {
        let entries = server.entries.iter();
        for entry in entries.filter(|entry| wanted.is_none_or(|name| *name == entry.destination)) {
            let options = entry.snapshot.iter();
            found.extend(options.flat_map(|options| {
                Use::ALL.map(|use_| Snapshots {
                    server: server.name.clone(),
                    destination: entry.destination.clone(),
                    role: use_.as_str(),
                    document: permission::document(&options.place, use_),
                })
            }));
        }
    }
    found
}

fn entry(destination: &Destination, role: Role) -> Entry {
    let (document, notes) = match document(role, destination) {
        Some(written) => (Some(written.document), written.notes),
        None => {
            let note = "a directory has the rights of its file system";
            (None, vec![note.to_owned()])
        }
    };
    Entry {
        destination: destination.name.clone(),
        url: destination.location.to_string(),
        role,
        document,
        notes,
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.permissions.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            writeln!(formatter, "{entry}")?;
        }
        for Snapshots {
            server,
            destination,
            role,
            document,
        } in &self.snapshots
        {
            writeln!(
                formatter,
                "\n# {role} snapshots of {server} for {destination}"
            )?;
            writeln!(formatter, "{document:#}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            destination,
            url,
            role,
            ..
        } = self;
        write!(formatter, "# {role} of {destination}, {url}")?;
        for note in &self.notes {
            write!(formatter, "\n# {note}")?;
        }
        match &self.document {
            Some(document) => write!(formatter, "\n{document:#}"),
            None => Ok(()),
        }
    }
}
