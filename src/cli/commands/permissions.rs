//! `permissions`: what the clouds must grant, for each destination and each role.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{Session, args, commands::configuration, error::Error, exit::Exit},
    model::{desired::Destination, names::DestinationName},
    store::permission::{Role, document},
};

#[derive(Serialize)]
struct Permissions {
    format: u32,
    permissions: Vec<Entry>,
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
    let permissions = Permissions {
        format: 1,
        permissions: entries.collect(),
    };
    session.output.result(&permissions, &permissions)?;
    Ok(Exit::Done)
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

impl fmt::Display for Permissions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.permissions.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            writeln!(formatter, "{entry}")?;
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
