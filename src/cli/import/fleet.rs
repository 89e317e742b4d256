//! What is found in other programs' configurations, gathered: destinations, servers, and what has no equivalent.
//!
//! A catalog is what tells one server from another: a hook script, a line of a crontab and a section of a file that name the same one speak of
//! one server. Where two of them say different things, the first counts and the other is noted. A second catalog of one server is a copy of
//! the first.

use std::fmt;

use toml::Value;

use super::note::{Loss, Note, Place};
use crate::model::{location::Location, names::ServerName};

/// Everything that was found.
#[derive(Debug, Default)]
pub(in crate::cli) struct Fleet {
    pub(super) destinations: Vec<Destination>,
    pub(super) servers: Vec<Server>,
    /// What is not taken over.
    pub(in crate::cli) notes: Vec<Note>,
    /// The zone in which schedules were meant.
    pub(super) time_zone: Option<String>,
}

/// A store, and how it is reached.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) location: Location,
    pub(super) endpoint: Option<String>,
    pub(super) keys: Keys,
}

/// A server by the index under which the fleet knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerIndex(usize);

/// A server.
#[derive(Debug)]
pub(super) struct Server {
    /// What it is called where it was found.
    pub(super) label: String,
    /// The destination, and its name there.
    pub(super) catalog: Option<(usize, ServerName)>,
    /// The server that this is another catalog of.
    pub(super) copy_of: Option<ServerIndex>,
    pub(super) description: Option<String>,
    pub(super) place: Place,
    pub(super) keys: Keys,
}

/// Where backups are, and whose.
#[derive(Clone, Debug)]
pub(super) struct Catalog {
    pub(super) location: Location,
    pub(super) endpoint: Option<String>,
    pub(super) name: ServerName,
}

/// How much it counts who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It is about this catalog.
    Said,
    /// It is about something near it, and counts if nothing else is said.
    Assumed,
}

/// Keys with their values, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    key: String,
    value: Value,
    weight: Weight,
    place: Place,
}

impl Keys {
    /// Sets a key. What contradicts what is there is given back with what counts.
    fn set(&mut self, entry: Entry) -> Option<Note> {
        let Some(known) = self.0.iter_mut().find(|known| known.key == entry.key) else {
            self.0.push(entry);
            return None;
        };
        if known.value == entry.value || entry.weight == Weight::Assumed {
            return None;
        }
        if known.weight == Weight::Assumed {
            *known = entry;
            return None;
        }
        let (key, value) = (&known.key, &known.value);
        Some(Note {
            place: entry.place,
            loss: Loss::Lost,
            what: format!("{key} = {}", entry.value),
            why: format!("{} says {value}, which counts", known.place),
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        let found = self.0.iter().find(|entry| entry.key == key);
        found.map(|entry| &entry.value)
    }

    /// Takes a key out.
    pub(super) fn take(&mut self, key: &str) -> Option<(Value, Place)> {
        let at = self.0.iter().position(|entry| entry.key == key)?;
        let entry = self.0.remove(at);
        Some((entry.value, entry.place))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0
            .iter()
            .map(|entry| (entry.key.as_str(), &entry.value))
    }
}

impl Fleet {
    /// A server that has no catalog yet.
    pub(super) fn server(&mut self, label: &str, place: &Place) -> ServerIndex {
        self.servers.push(Server {
            label: label.to_owned(),
            catalog: None,
            copy_of: None,
            description: None,
            place: place.clone(),
            keys: Keys::default(),
        });
        ServerIndex(self.servers.len() - 1)
    }

    /// The server whose catalog this is: one that is known, `of` if that has none yet, or a new one.
    pub(super) fn with_catalog(
        &mut self,
        catalog: &Catalog,
        of: Option<ServerIndex>,
        place: &Place,
    ) -> ServerIndex {
        let destination = self.destination(catalog);
        let known = self.servers.iter().position(|server| {
            let own = server.catalog.as_ref();
            own.is_some_and(|(at, name)| *at == destination && *name == catalog.name)
        });
        if let Some(known) = known {
            return ServerIndex(known);
        }
        let index = match of {
            Some(index) if self[index].catalog.is_none() => index,
            // What was found first is read from the server, as Barman's own backups before what its hooks make of them.
            Some(index) if self[index].is_called(&catalog.name) => {
                let label = self[index].label.clone();
                let copy = self.server(&label, place);
                self[copy].copy_of = Some(index);
                copy
            }
            Some(index) => {
                let what = format!("{} {}", catalog.location, catalog.name);
                let why = "a second catalog, and a copy has the name of what it is a copy of";
                self.lost(place, what, why);
                return index;
            }
            None => self.called(&catalog.name, place),
        };
        self.servers[index.0].catalog = Some((destination, catalog.name.clone()));
        index
    }

    /// The server of this name that has no catalog yet, as one of Barman's whose cloud only a crontab knows; or a new one.
    fn called(&mut self, name: &ServerName, place: &Place) -> ServerIndex {
        let label = name.to_string();
        let known = self.labelled(&label);
        let known = known.filter(|index| self[*index].catalog.is_none());
        known.unwrap_or_else(|| self.server(&label, place))
    }

    fn destination(&mut self, catalog: &Catalog) -> usize {
        let same = |known: &Destination| {
            known.location == catalog.location && known.endpoint == catalog.endpoint
        };
        if let Some(known) = self.destinations.iter().position(same) {
            return known;
        }
        self.destinations.push(Destination {
            location: catalog.location.clone(),
            endpoint: catalog.endpoint.clone(),
            keys: Keys::default(),
        });
        self.destinations.len() - 1
    }

    /// The server that a label means.
    pub(super) fn labelled(&self, label: &str) -> Option<ServerIndex> {
        let mut servers = self.servers.iter();
        servers
            .position(|server| server.label == label)
            .map(ServerIndex)
    }

    /// All servers, without their further catalogs.
    pub(super) fn indexes(&self) -> Vec<ServerIndex> {
        let all = (0..self.servers.len()).map(ServerIndex);
        all.filter(|index| self[*index].copy_of.is_none()).collect()
    }

    /// The further catalogs of a server.
    pub(super) fn copies(&self, server: ServerIndex) -> Vec<ServerIndex> {
        let all = (0..self.servers.len()).map(ServerIndex);
        all.filter(|index| self[*index].copy_of == Some(server))
            .collect()
    }

    /// Sets a key of a server.
    pub(super) fn set(
        &mut self,
        server: ServerIndex,
        key: &str,
        value: impl Into<Value>,
        place: &Place,
    ) {
        self.weigh(server, (key, value.into()), Weight::Said, place);
    }

    /// The same for what counts only if nobody else says anything.
    pub(super) fn assume(
        &mut self,
        server: ServerIndex,
        key: &str,
        value: impl Into<Value>,
        place: &Place,
    ) {
        self.weigh(server, (key, value.into()), Weight::Assumed, place);
    }

    fn weigh(
        &mut self,
        server: ServerIndex,
        (key, value): (&str, Value),
        weight: Weight,
        place: &Place,
    ) {
        let note = self.servers[server.0].keys.set(Entry {
            key: key.to_owned(),
            value,
            weight,
            place: place.clone(),
        });
        self.notes.extend(note);
    }

    /// Sets a key of a server's destination.
    pub(super) fn set_destination(
        &mut self,
        server: ServerIndex,
        key: &str,
        value: impl Into<Value>,
        place: &Place,
    ) {
        let Some((destination, _)) = self[server].catalog else {
            return;
        };
        let note = self.destinations[destination].keys.set(Entry {
            key: key.to_owned(),
            value: value.into(),
            weight: Weight::Said,
            place: place.clone(),
        });
        self.notes.extend(note);
    }

    /// Says that something is lost.
    pub(super) fn lost(&mut self, place: &Place, what: impl fmt::Display, why: impl fmt::Display) {
        self.note(place, Loss::Lost, what, why);
    }

    /// Says that something is not needed.
    pub(super) fn needless(
        &mut self,
        place: &Place,
        what: impl fmt::Display,
        why: impl fmt::Display,
    ) {
        self.note(place, Loss::Needless, what, why);
    }

    fn note(&mut self, place: &Place, loss: Loss, what: impl fmt::Display, why: impl fmt::Display) {
        self.notes.push(Note {
            place: place.clone(),
            loss,
            what: what.to_string(),
            why: why.to_string(),
        });
    }
}

impl Server {
    fn is_called(&self, name: &ServerName) -> bool {
        let own = self.catalog.as_ref();
        own.is_some_and(|(_, own)| own == name)
    }
}

impl std::ops::Index<ServerIndex> for Fleet {
    type Output = Server;
    fn index(&self, index: ServerIndex) -> &Server {
        &self.servers[index.0]
    }
}

impl std::ops::IndexMut<ServerIndex> for Fleet {
    fn index_mut(&mut self, index: ServerIndex) -> &mut Server {
        &mut self.servers[index.0]
    }
}
