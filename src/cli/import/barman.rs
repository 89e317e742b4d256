//! Barman's own configuration: `barman.conf` and what lies in its directory, as Barman 3.19 reads them.
//!
//! A section is a server, but for `[barman]`, whose keys hold for all, and for models, of which the active one lies over its server. Catalogs in a
//! cloud are taken over, be they a server's own or those that its hook scripts fill; one on Barman's own disk is not read.

pub(in crate::cli) mod keys;
mod server;

use std::collections::BTreeMap;

use self::keys::Fate;
use super::{
    fleet::Fleet,
    ini::{self, Assigned},
    note::Place,
};

/// Where what holds for all servers is said.
const GLOBAL: &str = "barman";

/// A file that was read.
#[derive(Clone, Debug)]
pub(in crate::cli) struct File {
    pub(in crate::cli) name: String,
    pub(in crate::cli) text: String,
}

/// What Barman's files say, one section each.
#[derive(Debug, Default)]
pub(in crate::cli) struct Settings {
    /// The sections' headers in the order in which they appear.
    headers: Vec<(String, Place)>,
    sections: BTreeMap<String, BTreeMap<String, Assigned>>,
    strange: Vec<(Place, String)>,
}

impl Settings {
    /// Reads files in the order in which Barman reads them: what comes later counts.
    pub(in crate::cli) fn read<'a>(files: impl IntoIterator<Item = &'a File>) -> Self {
        let mut settings = Self::default();
        for file in files {
            let read = ini::read(&file.name, &file.text);
            settings.strange.extend(read.strange);
            for section in read.sections {
                let mut headers = settings.headers.iter();
                if headers.all(|(name, _)| *name != section.name) {
                    let header = (section.name.clone(), section.place);
                    settings.headers.push(header);
                }
                let known = settings.sections.entry(section.name).or_default();
                let options = section.options.into_iter();
                known.extend(options.map(|option| (option.key.clone(), option)));
            }
        }
        settings
    }

    /// The directory of further files.
    pub(in crate::cli) fn directory(&self) -> Option<String> {
        let found = self.resolved(GLOBAL, "configuration_files_directory")?;
        Some(found.0)
    }

    fn option(&self, section: &str, key: &str) -> Option<&Assigned> {
        self.sections.get(section)?.get(key)
    }

    /// A value as Barman understands it, of a section or, where it is inherited, of all; none if it is unset.
    fn resolved(&self, section: &str, key: &str) -> Option<(String, Place)> {
        let own = self.option(section, key);
        let inherited = || keys::is_inherited(key).then(|| self.option(GLOBAL, key));
        let found = own.or_else(|| inherited().flatten())?;
        let lookup = |name: &str| self.lookup(section, name);
        // What nobody knows stays as it is written; Barman would not start with it.
        let value = ini::interpolated(&found.value, &lookup);
        let value = value.unwrap_or_else(|_| found.value.clone());
        let value = unquoted(&value);
        let is_set = !value.is_empty() && value != "None";
        is_set.then(|| (value.to_owned(), found.place.clone()))
    }

    /// What a name in another option's value stands for.
    fn lookup(&self, section: &str, name: &str) -> Option<String> {
        if name == "name" {
            return Some(section.to_owned());
        }
        let found = self.option(section, name);
        let found = found.or_else(|| self.option(GLOBAL, name));
        let found = found.map(|found| found.value.clone());
        found
            .or_else(|| (name == "backup_directory").then(|| "%(barman_home)s/%(name)s".to_owned()))
    }

    fn is_model(&self, section: &str) -> bool {
        let model = self.option(section, "model");
        model.is_some_and(|model| is_true(&model.value))
    }

    /// Takes every server into a fleet. `active` gives the content of a file, if there is such a one: it names a server's active model.
    pub(in crate::cli) fn import(
        &self,
        fleet: &mut Fleet,
        active: &dyn Fn(&str) -> Option<String>,
    ) {
        for (place, text) in &self.strange {
            fleet.lost(place, text, "it is no option of a section");
        }
        self.judge(GLOBAL, fleet);
        let headers = self.headers.iter().filter(|(name, _)| name != GLOBAL);
        for (section, place) in headers {
            self.judge(section, fleet);
            if !self.is_model(section) {
                let mut own = server::Section::new(self, section, place);
                if let Some(model) = self.active_model(section, active) {
                    own.lay_over(model);
                }
                own.import(fleet);
            }
        }
    }

    /// The model that is active over a server: its name is in a file beside its backups.
    fn active_model(
        &self,
        section: &str,
        active: &dyn Fn(&str) -> Option<String>,
    ) -> Option<String> {
        let directory = self.resolved(section, "backup_directory");
        let directory = match directory {
            Some((directory, _)) => directory,
            None => format!("{}/{section}", self.resolved(GLOBAL, "barman_home")?.0),
        };
        let name = active(&format!("{directory}/.active-model.auto"))?;
        let name = name.trim();
        (self.is_model(name)).then(|| name.to_owned())
    }

    /// Says of each key that is not read what becomes of it.
    fn judge(&self, section: &str, fleet: &mut Fleet) {
        for option in self
            .sections
            .get(section)
            .into_iter()
            .flat_map(BTreeMap::values)
        {
            let Assigned { key, value, place } = option;
            match keys::fate(key) {
                Some(Fate::Read | Fate::Hook) => {}
                Some(Fate::Needless(why)) => fleet.needless(place, key, why),
                Some(Fate::Lost(why)) if !is_off(value) => fleet.lost(place, key, why),
                Some(Fate::Lost(_)) => fleet.needless(place, key, "it is off"),
                None => fleet.lost(place, key, "Barman does not know it either"),
            }
        }
    }
}

/// A value in quotes means what is in them.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = value.strip_prefix(quote);
        if let Some(inner) = inner.and_then(|inner| inner.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

fn is_true(value: &str) -> bool {
    ["true", "t", "yes", "1", "on"].contains(&value.to_lowercase().as_str())
}

fn is_off(value: &str) -> bool {
    ["", "none", "off", "false", "f", "no", "n", "0"].contains(&value.to_lowercase().as_str())
}
