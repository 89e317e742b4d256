//! What was found as a configuration that only observes.
//!
//! What can be told only when everything is known is told here: how backups are made where nobody says, which names destinations get, and
//! what lacks.

use std::collections::BTreeSet;

use super::{
    fleet::{Fleet, Keys, Server, ServerIndex},
    note::{Loss, Place},
};
use crate::{
    config::{self, draft::Draft},
    model::{location::Location, names::ServerName},
};

/// The keys of a server in the order in which people read them; others follow.
const ORDER: [&str; 9] = [
    "connection",
    "primary_connection",
    "password",
    "method",
    "schedule",
    "retention",
    "minimum_redundancy",
    "compression",
    "wal.compression",
];

/// What is said of a copy.
const OF_COPIES: [&str; 2] = ["retention", "minimum_redundancy"];

/// What a snapshot has no use for.
const OF_FILES: [&str; 4] = ["compression", "jobs", "max_archive_size", "part_size"];

impl Fleet {
    /// The configuration of every server that has a catalog in a cloud.
    pub(in crate::cli) fn draft(&mut self, time_zone: Option<&str>) -> Draft {
        let mut servers = self.indexes();
        servers.retain(|server| self.complete(*server));
        let mut draft = Draft::new(
            "Taken over by `barkeep import`. Everything is only observed: `barkeep plan` shows what would be \
             done, and `mode` lets it be done, server by server (docs/migration.md).",
        );
        draft.top().set("version", 1);
        let zone = self.time_zone.as_deref().or(time_zone);
        draft.table(&["defaults"]).maybe("time_zone", zone);
        let names = self.destination_names();
        for (destination, name) in self.destinations.iter().zip(&names) {
            let table = draft.table(&["destinations", name]);
            table.set("url", destination.location.to_string());
            for (key, value) in destination.keys.iter() {
                table.set(key, value.clone());
            }
        }
        let mut labels = BTreeSet::new();
        for server in servers {
            let label = self.label(server, &mut labels);
            self.table(&mut draft, server, &label, &names);
        }
        self.notes.sort_by(|one, other| one.place.cmp(&other.place));
        // What every section says is judged in each.
        self.notes.dedup();
        self.losses(&mut draft);
        draft
    }

    /// Settles what nobody has said of a server; whether there is a server at all.
    fn complete(&mut self, server: ServerIndex) -> bool {
        let place = self[server].place.clone();
        let label = self[server].label.clone();
        if self[server].catalog.is_none() {
            let why =
                "its backups are on Barman's own disk, which is not read; give it a destination";
            self.lost(&place, format!("server {label}"), why);
            return false;
        }
        if self[server].keys.get("schedule").is_none() {
            let why = "nothing says when; set `schedule`, or name the crontab with `--crontab`";
            self.lost(&place, format!("the schedule of {label}"), why);
        }
        self.method(server, &place);
        for copy in self.copies(server) {
            self.judge_copy(copy);
        }
        true
    }

    /// Of a copy it can be said how long its backups stay; all else is as what it is a copy of.
    fn judge_copy(&mut self, copy: ServerIndex) {
        let keys = self[copy].keys.iter().map(|(key, _)| key.to_owned());
        let others: Vec<_> = keys
            .filter(|key| !OF_COPIES.contains(&key.as_str()))
            .collect();
        for key in others {
            if let Some((_, place)) = self[copy].keys.take(&key) {
                self.needless(&place, key, "a copy is as what it is a copy of");
            }
        }
    }

    fn method(&mut self, server: ServerIndex, place: &Place) {
        let text = |keys: &Keys, key: &str| {
            let value = keys.get(key).and_then(toml::Value::as_str);
            value.map(str::to_owned)
        };
        let keys = &self[server].keys;
        let connection = text(keys, "connection").unwrap_or_default();
        let is_here = config::is_local(&connection);
        match text(keys, "method").as_deref() {
            Some("stream") => {}
            Some("snapshot") => {
                for key in OF_FILES {
                    if let Some((_, place)) = self[server].keys.take(key) {
                        self.needless(&place, key, "a snapshot is taken by the cloud");
                    }
                }
            }
            Some(_) if is_here => {}
            None if is_here => self.assume(server, "method", "files", place),
            said => {
                if said.is_some() {
                    let why = "the connection leads to another machine, which has to send them";
                    self.lost(place, "reading the server's files", why);
                    self[server].keys.take("method");
                }
                self.set(server, "method", "stream", place);
            }
        }
    }

    /// A name for each destination: `primary` if there is one, else after the bucket.
    fn destination_names(&self) -> Vec<String> {
        if self.destinations.len() == 1 {
            return vec!["primary".to_owned()];
        }
        let mut taken = BTreeSet::new();
        let name = |location: &Location| match location {
            Location::S3 { bucket, .. } | Location::Gcs { bucket, .. } => bucket.clone(),
            Location::Azure { container, .. } => container.clone(),
            Location::Directory { .. } => "directory".to_owned(),
        };
        let destinations = self.destinations.iter();
        destinations
            .map(|destination| free(&name(&destination.location), &mut taken))
            .collect()
    }

    fn label(&self, server: ServerIndex, taken: &mut BTreeSet<String>) -> String {
        let label = &self[server].label;
        let catalog = self[server]
            .catalog
            .as_ref()
            .map(|(_, name)| name.to_string());
        let label = match ServerName::parse(label) {
            Ok(_) => label.clone(),
            Err(_) => catalog.unwrap_or_default(),
        };
        free(&label, taken)
    }

    fn table(&self, draft: &mut Draft, index: ServerIndex, label: &str, names: &[String]) {
        let server = &self[index];
        let (destination, name) = server.catalog.as_ref().expect("it is complete");
        let table = draft.table(&["servers", label]);
        if let Some(description) = &server.description {
            table.comment(description);
        }
        table.comment(&format!("From {}.", server.place));
        if name.as_str() != label {
            table.set("name", name.as_str());
        }
        table.set("mode", "observe");
        let copies = self.copies(index);
        if copies.is_empty() {
            table.set("destination", names[*destination].as_str());
        }
        let ordered = ORDER
            .iter()
            .filter_map(|key| Some((*key, server.keys.get(key)?)));
        let others = server.keys.iter().filter(|(key, _)| !ORDER.contains(key));
        for (key, value) in ordered.chain(others) {
            table.set(key, value.clone());
        }
        let original = names[*destination].as_str();
        if !copies.is_empty() {
            let table = draft.entry(&["servers", label, "backups"]);
            table.set("destination", original);
        }
        for copy in copies {
            let Server {
                catalog,
                keys,
                place,
                ..
            } = &self[copy];
            let (destination, _) = catalog.as_ref().expect("it was made for one");
            let table = draft.entry(&["servers", label, "backups"]);
            table.comment(&format!("From {place}."));
            table.set("destination", names[*destination].as_str());
            table.set("copy_of", original).set("wal", "healed");
            // Where nobody deletes, all stays.
            let retention = keys.get("retention").cloned();
            table.set("retention", retention.unwrap_or_else(|| "none".into()));
            table.maybe(
                "minimum_redundancy",
                keys.get("minimum_redundancy").cloned(),
            );
        }
    }

    /// What is lost stands in the file, too, for whoever reads it later.
    fn losses(&self, draft: &mut Draft) {
        let lost: Vec<_> = self
            .notes
            .iter()
            .filter(|note| note.loss == Loss::Lost)
            .map(|note| format!("# {}: {}: {}", note.place, note.what, note.why))
            .collect();
        if !lost.is_empty() {
            draft.verbatim(&format!("# What has no equivalent:\n{}", lost.join("\n")));
        }
    }
}

/// A name that nobody has yet.
fn free(wanted: &str, taken: &mut BTreeSet<String>) -> String {
    let names = (1..).map(|number| match number {
        1 => wanted.to_owned(),
        number => format!("{wanted}-{number}"),
    });
    let mut names = names.filter(|name| !taken.contains(name));
    let name = names.next().expect("there is always another number");
    taken.insert(name.clone());
    name
}
