//! What a command line of `barman-cloud-*` says of a server: read by the very parsers of these commands.
//!
//! Where it stands tells when it runs; its options tell where backups go, how they are made, and how long they stay.

use super::{
    fleet::{Catalog, Fleet, ServerIndex},
    note::Place,
    options::{self, To},
    shell::{self, Command},
};
use crate::{cli::barman::typed::Typed, config, format::python, model::location::Location};

/// Variables that say the same as an option or a key.
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"];

/// Who runs a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// The server's own machine, from cron.
    OnServer,
    /// A Barman server, which has the backup already.
    AsHook(ServerIndex),
    /// A plugin, on the server's own machine.
    Beside(ServerIndex),
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) server: ServerIndex,
    /// Which of the nine.
    pub(super) program: &'static str,
}

/// Takes in what a command says; `None` if it is none of the nine, or none that can be understood.
pub(super) fn read(
    fleet: &mut Fleet,
    command: &Command,
    runs: Runs,
    place: &Place,
) -> Option<Said> {
    let (program, words) = command.words.split_first()?;
    let typed = match Typed::read(shell::program(program), words)? {
        Ok(typed) => typed,
        Err(complaint) => {
            fleet.lost(place, shell::program(program), complaint);
            return None;
        }
    };
    let (location, name) = match typed.catalog() {
        Ok(found) => found,
        Err(complaint) => {
            fleet.lost(place, typed.program(), complaint);
            return None;
        }
    };
    let catalog = Catalog {
        endpoint: endpoint(&location, &typed, command),
        location,
        name,
    };
    let of = match runs {
        Runs::OnServer => None,
        Runs::AsHook(server) | Runs::Beside(server) => Some(server),
    };
    let server = fleet.with_catalog(&catalog, of, place);
    if let Some(endpoint) = &catalog.endpoint {
        fleet.set_destination(server, "s3.endpoint_url", endpoint.as_str(), place);
    }
    let mut reading = Reading {
        fleet,
        server,
        typed: &typed,
        location: &catalog.location,
        place,
    };
    reading.variables(&command.variables);
    reading.options();
    if typed.program() == "barman-cloud-backup" && !matches!(runs, Runs::AsHook(_)) {
        reading.backup();
    }
    Some(Said {
        server,
        program: typed.program(),
    })
}

/// Barman ignores it for other providers.
fn endpoint(location: &Location, typed: &Typed, command: &Command) -> Option<String> {
    if !matches!(location, Location::S3 { .. }) {
        return None;
    }
    let option = typed.value("endpoint_url").and_then(python::Value::as_str);
    let variables = command.variables.iter();
    let mut variables = variables.filter_map(|variable| variable.split_once('='));
    let variable = variables.find(|(name, _)| ENDPOINTS.contains(name));
    let variable = variable.map(|(_, value)| value);
    option.or(variable).map(str::to_owned)
}

/// A key that an option sets.
enum Key {
    Destination(String),
    Server(&'static str),
}

struct Reading<'a> {
    fleet: &'a mut Fleet,
    server: ServerIndex,
    typed: &'a Typed,
    location: &'a Location,
    place: &'a Place,
}

impl Reading<'_> {
    fn variables(&mut self, variables: &[String]) {
        for (name, value) in variables.iter().filter_map(|text| text.split_once('=')) {
            if name.starts_with("AWS_") && provider(self.location) != "s3" {
                let why = "the destination is not on S3";
                self.fleet.needless(self.place, name, why);
            } else if REGIONS.contains(&name) {
                self.destination("s3.region", value);
            } else if name == "AWS_PROFILE" {
                self.destination("s3.profile", value);
            } else if !ENDPOINTS.contains(&name) {
                // Its value may be a secret.
                let why = "set it where barkeep and PostgreSQL find it";
                self.fleet.lost(self.place, name, why);
            }
        }
    }

    fn options(&mut self) {
        for (name, value) in self.typed.given() {
            let provider = provider(self.location);
            let to = options::of(name);
            let (key, form) = match to {
                To::Store(of, ..) if of != provider => {
                    let why = "Barman ignores it for this provider";
                    self.fleet.needless(self.place, option(name), why);
                    continue;
                }
                To::Store(_, key, form) | To::AnyStore(key, form) => {
                    (Key::Destination(format!("{provider}.{key}")), form)
                }
                To::Destination(key, form) => (Key::Destination(key.to_owned()), form),
                To::Server(key, form) => (Key::Server(key), form),
                To::Needless(why) => {
                    self.fleet.needless(self.place, option(name), why);
                    continue;
                }
                To::Lost(why) => {
                    self.fleet.lost(self.place, option(name), why);
                    continue;
                }
                To::Apart => continue,
            };
            match (key, form.of(value)) {
                (Key::Destination(key), Some(value)) => self.destination(&key, value),
                (Key::Server(key), Some(value)) => {
                    self.fleet.set(self.server, key, value, self.place);
                }
                (_, None) => self.strange(name, value),
            }
        }
        let is_policy = self.has("retention_policy");
        // 0, Barman's default, which is less than barkeep ever keeps.
        if is_policy && self.typed.value("minimum_redundancy") == Some(&python::Value::Int(0)) {
            let (server, place) = (self.server, self.place);
            self.fleet.set(server, "minimum_redundancy", 1, place);
        }
        self.compression();
        self.credentials();
    }

    fn destination(&mut self, key: &str, value: impl Into<toml::Value>) {
        self.fleet
            .set_destination(self.server, key, value, self.place);
    }

    fn strange(&mut self, name: &str, value: &python::Value) {
        let why = format!("`{value}` has none");
        self.fleet.lost(self.place, option(name), why);
    }

    fn compression(&mut self) {
        let Some(codec) = self
            .typed
            .value("compression")
            .and_then(python::Value::as_str)
        else {
            return;
        };
        let codec = options::codec(codec);
        let level = self.typed.value("compression_level");
        let level = level.and_then(|level| match level {
            python::Value::Int(number) => i64::try_from(*number).ok().map(toml::Value::from),
            python::Value::Str(word) if !word.is_empty() => Some(word.as_str().into()),
            _ => None,
        });
        let value = match level {
            None => toml::Value::from(codec),
            Some(level) => toml::Value::Table(toml::Table::from_iter([
                ("codec".to_owned(), codec.into()),
                ("level".to_owned(), level),
            ])),
        };
        let key = match self.typed.program() {
            "barman-cloud-wal-archive" => "wal.compression",
            _ => "compression",
        };
        self.fleet.set(self.server, key, value, self.place);
    }

    /// Whose credentials a request carries, for objects and for disks.
    fn credentials(&mut self) {
        let is_snapshot = self.has("snapshot_instance");
        for (option, of, key) in [
            ("aws_profile", "s3", "profile"),
            ("azure_credential", "azure", "credential"),
        ] {
            let value = self.typed.value(option).and_then(python::Value::as_str);
            let Some(value) = value.filter(|_| provider(self.location) == of) else {
                continue;
            };
            self.destination(&format!("{of}.{key}"), value);
            if is_snapshot {
                let key = format!("snapshot.{key}");
                self.fleet.set(self.server, &key, value, self.place);
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        !matches!(self.typed.value(name), None | Some(python::Value::None))
    }

    /// How a backup on the server's machine reaches the server, and what of it it takes.
    fn backup(&mut self) {
        if self.has("snapshot_instance") {
            let provider = match provider(self.location) {
                "s3" => "aws",
                "gcs" => "gcp",
                other => other,
            };
            let set = [("method", "snapshot"), ("snapshot.provider", provider)];
            for (key, value) in set {
                self.fleet.set(self.server, key, value, self.place);
            }
        }
        let text = |name| self.typed.value(name).and_then(python::Value::as_str);
        let database = text("dbname").unwrap_or_default();
        let mut connection = if database.contains('=') || database.contains("://") {
            database.to_owned()
        } else {
            format!("dbname={}", config::quoted(database))
        };
        for keyword in ["host", "port", "user"] {
            if let Some(value) = text(keyword) {
                connection.extend([" ", keyword, "=", &config::quoted(value)]);
            }
        }
        // What a section of Barman's own says of the server is said on purpose.
        self.fleet
            .assume(self.server, "connection", connection, self.place);
    }
}

/// What the keys of a provider are below.
pub(super) fn provider(location: &Location) -> &'static str {
    match location {
        Location::Azure { .. } => "azure",
        Location::Gcs { .. } => "gcs",
        Location::S3 { .. } | Location::Directory { .. } => "s3",
    }
}

fn option(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}
