//! Barman's own configuration: `barman.conf` and what lies in its directory, as Barman 3.19 reads them.
//!
//! A section is a server, but for `[barman]`, whose keys hold for all, `[DEFAULT]`, whose keys are in every section, and models, of which the
//! active one lies over its server. Catalogs in a cloud are taken over, be they a server's own or those that its hook scripts fill; one on
//! Barman's own disk is not read.

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

/// Where what holds in every section is said, to every reader of such files.
const EVERYWHERE: &str = "DEFAULT";

/// A file that was read.
#[derive(Clone, Debug)]
pub(in crate::cli) struct File {
    pub(in crate::cli) name: String,
    pub(in crate::cli) text: String,
}

/// What a section says, by its keys.
type Options = BTreeMap<String, Assigned>;

/// What Barman's files say, one section each.
#[derive(Debug, Default)]
pub(in crate::cli) struct Settings {
    /// The sections' headers in the order in which they appear.
    headers: Vec<(String, Place)>,
    sections: BTreeMap<String, Options>,
    /// Values with which Barman would not start: the key, and what stands for nothing in it.
    broken: BTreeMap<Place, (String, String)>,
    strange: Vec<(Place, String)>,
}

impl Settings {
    /// Reads files in the order in which Barman reads them: what comes later counts.
    pub(in crate::cli) fn read<'a>(files: impl IntoIterator<Item = &'a File>) -> Self {
        let mut settings = Self::default();
        for file in files {
            let read = ini::read(&file.name, &file.text);
            settings.strange.extend(read.strange);
            let mut sections: BTreeMap<String, Options> = BTreeMap::new();
            for section in read.sections {
                settings.header(&section.name, section.place);
                let known = sections.entry(section.name).or_default();
                known.extend(
                    section
                        .options
                        .into_iter()
                        .map(|one| (one.key.clone(), one)),
                );
            }
            let everywhere = sections.remove(EVERYWHERE).unwrap_or_default();
            for (name, own) in sections {
                let mut options = everywhere.clone();
                options.extend(own);
                settings.take(&name, &options);
            }
        }
        settings
    }

    fn header(&mut self, name: &str, place: Place) {
        let is_known = self.headers.iter().any(|(known, _)| known == name);
        if !is_known && name != EVERYWHERE {
            self.headers.push((name.to_owned(), place));
        }
    }

    /// Takes in a section of one file. A value may name others of it, and none of any other section or file.
    fn take(&mut self, section: &str, options: &Options) {
        let known = self.sections.entry(section.to_owned()).or_default();
        let lookup = |name: &str| Some(options.get(name)?.value.clone());
        for (key, option) in options {
            let mut option = option.clone();
            match ini::interpolated(&option.value, &lookup) {
                Ok(value) => option.value = value,
                Err(nothing) => {
                    let place = option.place.clone();
                    self.broken.insert(place, (key.clone(), nothing));
                }
            }
            known.insert(key.clone(), option);
        }
    }

    /// The directory of further files.
    pub(in crate::cli) fn directory(&self) -> Option<String> {
        let found = self.resolved(GLOBAL, "configuration_files_directory")?;
        Some(found.0)
    }

    fn option(&self, section: &str, key: &str) -> Option<&Assigned> {
        self.sections.get(section)?.get(key)
    }

    /// Where a key has its value: in a section or, where it is inherited, in that of all.
    fn found<'a>(&'a self, section: &'a str, key: &str) -> Option<(&'a str, &'a Assigned)> {
        let is_inherited = section != GLOBAL && keys::is_inherited(key);
        let inherited = || self.option(GLOBAL, key).filter(|_| is_inherited);
        let own = self.option(section, key);
        // Barman passes over what is no value at all for such a key.
        let own = own.filter(|own| !own.value.is_empty() || !keys::is_checked(key));
        let own = own.map(|option| (section, option));
        own.or_else(|| Some((GLOBAL, inherited()?)))
    }

    /// A value as Barman understands it; none if it is unset.
    fn resolved(&self, section: &str, key: &str) -> Option<(String, Place)> {
        let (of, found) = self.found(section, key)?;
        // What Barman would not start with stays as it is written, and is told of.
        let value = self.interpolated(of, found);
        let value = value.unwrap_or_else(|_| found.value.clone());
        let value = unquoted(&value);
        let is_set = !value.is_empty() && value != "None";
        is_set.then(|| (value.to_owned(), found.place.clone()))
    }

    /// A value that still names something when its file has been read, for it was written `%%(name)s`; the error is what stands for nothing.
    fn interpolated(&self, section: &str, option: &Assigned) -> Result<String, String> {
        ini::interpolated(&option.value, &|name| {
            Some(self.option(section, name)?.value.clone())
        })
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
        let mut broken = self.broken.clone();
        self.judge(GLOBAL, fleet);
        let headers = self.headers.iter().filter(|(name, _)| name != GLOBAL);
        for (section, place) in headers {
            self.judge(section, fleet);
            let own = self.sections[section].values();
            let unresolved = own.filter_map(|option| {
                let nothing = self.interpolated(section, option).err()?;
                Some((option.place.clone(), (option.key.clone(), nothing)))
            });
            broken.extend(unresolved);
            if !self.is_model(section) {
                let mut own = server::Section::new(self, section, place);
                if let Some(model) = self.active_model(section, active) {
                    own.lay_over(model);
                }
                own.import(fleet);
            }
        }
        for (place, (key, nothing)) in broken {
            let why = format!("`{nothing}` stands for nothing there");
            fleet.lost(&place, key, why);
        }
    }

    /// The model that is active over a server: its name is in a file beside its backups. One of another cluster is not.
    fn active_model(
        &self,
        section: &str,
        active: &dyn Fn(&str) -> Option<String>,
    ) -> Option<String> {
        let text = |of: &str, key: &str| Some(self.resolved(of, key)?.0);
        let directory = text(section, "backup_directory");
        let directory =
            directory.or_else(|| Some(format!("{}/{section}", text(GLOBAL, "barman_home")?)));
        let name = active(&format!("{}/.active-model.auto", directory?))?;
        let name = name.trim();
        let cluster = text(section, "cluster").unwrap_or_else(|| section.to_owned());
        let is_its = self.is_model(name) && text(name, "cluster") == Some(cluster);
        is_its.then(|| name.to_owned())
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
