//! One server of Barman's configuration.
//!
//! Its catalog is where `basebackups_directory` says, if that is a cloud, or where its hook scripts put backups. What holds for backups on Barman's
//! own disk, as its retention, holds for the cloud only where nothing else is said about that.

use std::{cell::RefCell, collections::BTreeSet};

use toml::Value;

use super::{
    Settings, is_true,
    keys::{self, Fate, KEYS, fate},
};
use crate::{
    cli::import::{
        command_line::{self, Runs, provider},
        fleet::{Catalog, Fleet, ServerIndex},
        note::Place,
        options::{self, Form},
        shell,
    },
    config,
    format::python,
    model::{location::Location, names::ServerName},
};

/// The section of a server, perhaps with a model over it.
pub(super) struct Section<'a> {
    settings: &'a Settings,
    name: &'a str,
    /// Its header.
    place: &'a Place,
    model: Option<String>,
    /// The keys that somebody has asked for.
    asked: RefCell<BTreeSet<String>>,
}

type Found = (String, Place);

impl<'a> Section<'a> {
    pub(super) fn new(settings: &'a Settings, name: &'a str, place: &'a Place) -> Self {
        Self {
            settings,
            name,
            place,
            model: None,
            asked: RefCell::default(),
        }
    }

    /// What a model says counts more.
    pub(super) fn lay_over(&mut self, model: String) {
        self.model = Some(model);
    }

    fn get(&self, key: &str) -> Option<Found> {
        self.asked.borrow_mut().insert(key.to_owned());
        let model = self.model.as_deref().filter(|_| keys::is_of_models(key));
        // A model is not a server of `[barman]`: what it does not say itself is the server's.
        let over = model.filter(|model| self.settings.option(model, key).is_some());
        let over = over.and_then(|model| self.settings.resolved(model, key));
        over.or_else(|| self.settings.resolved(self.name, key))
    }

    pub(super) fn import(&self, fleet: &mut Fleet) {
        if let Some((value, place)) = self.get("active").filter(|(value, _)| !is_true(value)) {
            let what = format!("[{}] active = {value}", self.name);
            fleet.lost(&place, what, "a server that is not active is left out");
            return;
        }
        let server = fleet.server(self.name, self.place);
        fleet[server].description = self.get("description").map(|(text, _)| text);
        let own = self.own_catalog(fleet, server);
        self.hooks(fleet, server);
        let mut reading = Reading {
            section: self,
            fleet,
            server,
            own,
        };
        reading.connection();
        reading.method();
        reading.policy();
        reading.sizes();
        reading.wal();
        reading.store();
        self.unasked(fleet);
    }

    /// Says of each key that nobody has asked for that it says nothing here.
    fn unasked(&self, fleet: &mut Fleet) {
        let asked = self.asked.borrow();
        let own = self.settings.sections.get(self.name).into_iter().flatten();
        for (key, option) in own.filter(|(key, _)| fate(key) == Some(Fate::Read)) {
            if !asked.contains(key) && !["cluster", "model"].contains(&key.as_str()) {
                let why = "it says nothing with the other keys of this server";
                fleet.needless(&option.place, key, why);
            }
        }
    }

    /// The catalog that the server itself keeps in a cloud.
    fn own_catalog(&self, fleet: &mut Fleet, server: ServerIndex) -> Option<Location> {
        let url = |key| {
            let found: Option<Found> = self.get(key);
            found.filter(|(url, _)| url.contains("://"))
        };
        let backups = url("basebackups_directory");
        let wals = url("wals_directory");
        let Some((text, place)) = backups else {
            if let Some((text, place)) = wals {
                let why = "the backups are on Barman's own disk, and a catalog has both";
                fleet.lost(&place, format!("wals_directory = {text}"), why);
            }
            return None;
        };
        let location: Location = match text.parse() {
            Ok(location) => location,
            Err(error) => {
                fleet.lost(&place, format!("basebackups_directory = {text}"), error);
                return None;
            }
        };
        let name = match ServerName::verbatim(self.name) {
            Ok(name) => name,
            Err(error) => {
                fleet.lost(&place, format!("[{}]", self.name), error);
                return None;
            }
        };
        let beside = wals.as_ref().and_then(|(text, _)| text.parse().ok());
        if beside.as_ref() != Some(&location) {
            let why = "WAL must lie beside the backups; it is looked for there";
            fleet.lost(&place, "wals_directory", why);
        }
        let catalog = Catalog {
            location: location.clone(),
            endpoint: None,
            name,
        };
        fleet.with_catalog(&catalog, Some(server), &place);
        Some(location)
    }

    /// Takes in the hook scripts that fill a catalog in a cloud.
    fn hooks(&self, fleet: &mut Fleet, server: ServerIndex) {
        let hooks = KEYS.iter().filter(|(_, fate)| *fate == Fate::Hook);
        for (key, _) in hooks {
            let Some((line, place)) = self.get(key) else {
                continue;
            };
            let mut is_known = false;
            for command in shell::commands(&line) {
                let program = command.words.first().map(|word| shell::program(word));
                is_known |= program.is_some_and(|program| program.starts_with("barman-cloud-"));
                command_line::read(fleet, &command, Runs::AsHook(server), &place);
            }
            if !is_known {
                let why = "there are no hooks; run it before or after `barkeep reconcile --once`";
                fleet.lost(&place, key, why);
            }
        }
    }
}

struct Reading<'a> {
    section: &'a Section<'a>,
    fleet: &'a mut Fleet,
    server: ServerIndex,
    /// Where the server itself keeps its backups, if that is a cloud.
    own: Option<Location>,
}

impl Reading<'_> {
    fn get(&self, key: &str) -> Option<Found> {
        self.section.get(key)
    }

    fn set(&mut self, key: &str, value: impl Into<Value>, place: &Place) {
        self.fleet.set(self.server, key, value, place);
    }

    /// What is said of Barman's own backups.
    fn set_policy(&mut self, key: &str, value: impl Into<Value>, place: &Place) {
        if self.own.is_some() {
            self.set(key, value, place);
        } else {
            self.fleet.assume(self.server, key, value, place);
        }
    }

    fn lost(&mut self, key: &str, value: &str, why: &str, place: &Place) {
        self.fleet.lost(place, format!("{key} = {value}"), why);
    }

    fn connection(&mut self) {
        for (key, to) in [
            ("conninfo", "connection"),
            ("primary_conninfo", "primary_connection"),
        ] {
            let Some((text, place)) = self.get(key) else {
                continue;
            };
            let (without, had_password) = config::without_password(&text);
            self.set(to, without, &place);
            if had_password {
                let file = format!("/etc/barkeep/secrets/{}", self.section.name);
                let why = format!("write it into {file}, readable by barkeep only");
                self.fleet
                    .lost(&place, format!("the password in {key}"), why);
                let reference = toml::Table::from_iter([("file".to_owned(), file.into())]);
                self.set("password", reference, &place);
            }
        }
        let streaming = self.get("streaming_conninfo");
        if let Some((text, place)) = streaming
            && self.get("conninfo").is_none_or(|(plain, _)| plain != text)
        {
            let why = "a server has one `connection`, whose role needs REPLICATION to have files or WAL sent";
            self.fleet.needless(&place, "streaming_conninfo", why);
        }
    }

    fn method(&mut self) {
        let Some((text, place)) = self.get("backup_method") else {
            return;
        };
        match text.to_lowercase().as_str() {
            "postgres" => self.set("method", "stream", &place),
            "local-rsync" | "local-to-cloud" => self.set("method", "files", &place),
            "snapshot" => {
                self.set("method", "snapshot", &place);
                self.snapshot();
            }
            // Whether its files can be read is a matter of where barkeep runs.
            "rsync" => {}
            other => self.lost("backup_method", other, "it is not known", &place),
        }
    }

    fn snapshot(&mut self) {
        let rows = [
            ("snapshot_provider", "provider", Form::Plain),
            ("snapshot_instance", "instance", Form::Plain),
            ("snapshot_gcp_project", "project", Form::Plain),
            ("gcp_project", "project", Form::Plain),
            ("snapshot_zone", "zone", Form::Plain),
            ("gcp_zone", "zone", Form::Plain),
            ("azure_subscription_id", "subscription", Form::Plain),
            ("azure_resource_group", "resource_group", Form::Plain),
            ("azure_credential", "credential", Form::Plain),
            ("aws_region", "region", Form::Plain),
            ("aws_profile", "profile", Form::Plain),
            (
                "aws_await_snapshots_timeout",
                "await_timeout",
                Form::Seconds,
            ),
            ("aws_snapshot_lock_mode", "lock.mode", Form::Plain),
            ("aws_snapshot_lock_duration", "lock.days", Form::Plain),
            (
                "aws_snapshot_lock_cool_off_period",
                "lock.cool_off",
                Form::Hours,
            ),
            (
                "aws_snapshot_lock_expiration_date",
                "lock.until",
                Form::Plain,
            ),
        ];
        for (key, to, form) in rows {
            self.option(key, &format!("snapshot.{to}"), form);
        }
        if let Some((disks, place)) = self.get("snapshot_disks") {
            let disks: Vec<Value> = disks.split(',').map(|disk| disk.trim().into()).collect();
            self.set("snapshot.disks", disks, &place);
        }
    }

    /// A key of the server whose value is a number or a text.
    fn option(&mut self, key: &str, to: &str, form: Form) {
        let Some((text, place)) = self.get(key) else {
            return;
        };
        let value = match text.parse() {
            Ok(number) => python::Value::Int(number),
            Err(_) => python::Value::Str(text.clone()),
        };
        match form.of(&value) {
            Some(value) => self.set(to, value, &place),
            None => self.lost(key, &text, "it cannot be had so", &place),
        }
    }

    fn policy(&mut self) {
        if let Some((text, place)) = self.get("retention_policy") {
            match Form::Retention.of(&python::Value::Str(text.clone())) {
                Some(value) => self.set_policy("retention", value, &place),
                None => self.lost("retention_policy", &text, "it is no policy", &place),
            }
            if self.own.is_none() {
                let why = "Barman's is for its own disk; it is taken for the destination where no \
                           `barman-cloud-backup-delete` says another one";
                self.fleet.needless(&place, "retention_policy", why);
            }
        }
        for (key, to) in [
            ("minimum_redundancy", "minimum_redundancy"),
            ("parallel_jobs", "jobs"),
        ] {
            if let Some((text, place)) = self.get(key) {
                match text.parse::<i64>() {
                    // One good backup stays in any case.
                    Ok(0) => {}
                    Ok(number) => self.set_policy(to, number, &place),
                    Err(_) => self.lost(key, &text, "it is no number", &place),
                }
            }
        }
        if let Some((text, place)) = self.get("immediate_checkpoint") {
            self.set_policy("immediate_checkpoint", is_true(&text), &place);
        }
    }

    fn sizes(&mut self) {
        for (key, to, form) in [
            (
                "cloud_upload_max_archive_size",
                "max_archive_size",
                Form::ArchiveSize,
            ),
            ("cloud_upload_min_chunk_size", "part_size", Form::Bytes),
        ] {
            let Some((text, place)) = self.get(key) else {
                continue;
            };
            let size = si_suffix(&text).map(python::Value::Int);
            match size.and_then(|size| form.of(&size)) {
                Some(value) => self.set_policy(to, value, &place),
                None => self.lost(
                    key,
                    &text,
                    "archives are smaller: `max_archive_size`",
                    &place,
                ),
            }
        }
        let Some((text, place)) = self.get("bandwidth_limit") else {
            return;
        };
        // In units of 1,024 bytes a second.
        match (text.parse::<i64>(), &self.own) {
            (Ok(limit), Some(_)) if limit > 0 => {
                let rate = format!("{}/s", options::size(limit << 10));
                let (fleet, server) = (&mut *self.fleet, self.server);
                fleet.set_destination(server, "max_bandwidth", rate, &place);
                let why = "it holds for all servers of the destination together";
                fleet.needless(&place, "a limit for one server", why);
            }
            (Ok(0), _) => {}
            _ => {
                let why =
                    "it limits the way to Barman; `max_bandwidth` limits the way to a destination";
                self.lost("bandwidth_limit", &text, why, &place);
            }
        }
    }

    fn wal(&mut self) {
        if let Some((text, place)) = self.get("compression") {
            let codec = match text.to_lowercase().as_str() {
                "pigz" | "pygzip" => "gzip".to_owned(),
                "pybzip2" => "bzip2".to_owned(),
                other => other.to_owned(),
            };
            if ["none", "gzip", "bzip2", "xz", "snappy", "zstd", "lz4"].contains(&codec.as_str()) {
                self.set_policy("wal.compression", codec, &place);
            } else {
                self.lost(
                    "compression",
                    &text,
                    "it is no codec of Barman's cloud",
                    &place,
                );
            }
        }
        if let Some((text, place)) = self.get("compression_level") {
            let why = "write `wal.compression = { codec = …, level = … }`";
            self.lost("compression_level", &text, why, &place);
        }
        for key in [
            "backup_compression",
            "backup_compression_level",
            "backup_compression_location",
        ] {
            if let Some((text, place)) = self.get(key) {
                let why = "it is for Barman's own disk; backups have `compression`";
                self.lost(key, &text, why, &place);
            }
        }
        self.option("cloud_wal_restore_parallel", "wal.read_ahead", Form::Plain);
        if let Some((text, place)) = self.get("last_wal_maximum_age") {
            match interval(&text) {
                Some(span) => self.set("wal.max_lag", span, &place),
                None => self.lost("last_wal_maximum_age", &text, "it is no time", &place),
            }
        }
        let streams = self
            .get("streaming_archiver")
            .filter(|(value, _)| is_true(value));
        if let Some((_, place)) = streams {
            self.set("wal.receive", toml::Table::new(), &place);
        }
    }

    /// What a server that keeps its backups in a cloud says of it.
    fn store(&mut self) {
        let Some(location) = self.own.clone() else {
            return;
        };
        if provider(&location) != "s3" {
            return;
        }
        let rows = [
            ("aws_profile", "profile", Form::Plain),
            ("aws_region", "region", Form::Plain),
            ("aws_read_timeout", "read_timeout", Form::Seconds),
            ("aws_encryption", "encryption.sse", Form::Plain),
            ("aws_sse_kms_key_id", "encryption.key", Form::Plain),
        ];
        for (key, to, form) in rows {
            let Some((text, place)) = self.get(key) else {
                continue;
            };
            let number = text.parse().map(python::Value::Int);
            let value = number.unwrap_or_else(|_| python::Value::Str(text.clone()));
            if let Some(value) = form.of(&value) {
                let (fleet, server) = (&mut *self.fleet, self.server);
                fleet.set_destination(server, &format!("s3.{to}"), value, &place);
            }
        }
    }
}

/// A number of bytes as Barman's configuration writes it: `k` is 1,000, `Ki` 1,024.
fn si_suffix(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: i128 = number.parse().ok()?;
    let units = ["", "k", "Ki", "M", "Mi", "G", "Gi", "T", "Ti"];
    let at = units.iter().position(|known| *known == unit.trim())?;
    let power = u32::try_from(at.div_ceil(2)).ok()?;
    let base: i128 = if at > 0 && at % 2 == 0 { 1024 } else { 1000 };
    number.checked_mul(base.pow(power))
}

/// A time as Barman's configuration writes it, such as `2 HOURS`.
fn interval(text: &str) -> Option<String> {
    let (number, unit) = text.trim().split_once(char::is_whitespace)?;
    let number: u32 = number.parse().ok()?;
    let unit = unit.trim().to_lowercase();
    Some(match unit.trim_end_matches('s') {
        "hour" => format!("{number}h"),
        "day" => format!("{number}d"),
        "week" => format!("{}d", number * 7),
        "month" => format!("{}d", number * 31),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_as_barman_reads_them() {
        let sizes = ["100Gi", "1 k", "5", "1M", "x"].map(si_suffix);
        assert_eq!(
            sizes,
            [Some(100 << 30), Some(1000), Some(5), Some(1_000_000), None]
        );
        let times = ["2 HOURS", "1 week", "1 MONTH", "5"].map(interval);
        let expected = [Some("2h"), Some("7d"), Some("31d"), None];
        assert_eq!(times.each_ref().map(Option::as_deref), expected);
    }
}
