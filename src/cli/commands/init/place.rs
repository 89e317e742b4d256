//! Where the new configuration stands: alone, or beside one that is there already, of which it becomes a part.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{
    cli::{
        args, calls,
        commands::{configuration, new_file},
        error::Error,
    },
    config::{
        self, Compiled, Staged,
        compile::compile,
        load, shipped,
        tree::{Node, Table},
    },
    model::location::Location,
};

/// Where the new configuration stands.
pub(super) struct Place {
    /// What it is a part of.
    main: Option<Main>,
    /// What commands are given that are to read it.
    configuration: PathBuf,
    /// The policy's table, if the new file has to bring it.
    policy: Option<&'static str>,
}

/// The configuration that is there already, without what the new file takes the place of.
struct Main {
    path: PathBuf,
    /// The new file's place in it.
    place: PathBuf,
    destinations: Vec<(String, Location)>,
    policies: Vec<String>,
}

impl Place {
    /// Looks what is there already.
    pub(super) fn of(arguments: &args::Init, config: &Path) -> Result<Self, Error> {
        let output = arguments.output.as_deref();
        output.map_or(Ok(()), new_file::refuse)?;
        let beside = output
            .filter(|_| config.exists())
            .map(calls::absolute)
            .transpose()?;
        let place = arguments.place.clone().or(beside);
        let main = place.map(|place| Main::read(config, place)).transpose()?;
        let mut known = main.iter().flat_map(|main| &main.policies);
        let is_known = known.any(|known| *known == arguments.policy);
        let policy = shipped::table(&arguments.policy).filter(|_| !is_known);
        if policy.is_none() && !is_known {
            let (policy, shipped) = (&arguments.policy, shipped::names().collect::<Vec<_>>());
            return Err(Error::Usage(format!(
                "there is no policy `{policy}`; ready-made are {}",
                shipped.join(", ")
            )));
        }
        let alone = output.filter(|_| main.is_none());
        Ok(Self {
            configuration: alone.unwrap_or(config).to_owned(),
            main,
            policy,
        })
    }

    /// Whether it needs nothing beside it.
    pub(super) fn is_alone(&self) -> bool {
        self.main.is_none()
    }

    /// What commands are given that are to read it.
    pub(super) fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// The policy's table, if the new file has to bring it.
    pub(super) fn policy(&self) -> Option<&'static str> {
        self.policy
    }

    /// What a location is called in the configuration that is there.
    pub(super) fn called(&self, location: &Location) -> Option<&str> {
        let known = self.main.iter().flat_map(|main| &main.destinations);
        let mut same = known.filter(|(_, known)| known == location);
        same.next().map(|(name, _)| name.as_str())
    }

    /// What a text means in its place. What is wrong with it has been said when this returns.
    pub(super) fn compiled(&self, text: &str) -> Result<Compiled, Error> {
        let compiled = match &self.main {
            Some(main) => main.staged(text, |staged| config::read(&main.path, Some(staged)))?,
            None => compile(load::from_texts(&[("the new configuration", text)])),
        };
        compiled.map_err(|report| {
            configuration::say(&report);
            Error::Usage("what was asked for makes no valid configuration".to_owned())
        })
    }
}

impl Main {
    /// Reads names only: whether all of it holds is seen when the new file is in its place.
    fn read(path: &Path, place: PathBuf) -> Result<Self, Error> {
        let mut main = Self {
            path: path.to_owned(),
            place,
            destinations: Vec::new(),
            policies: Vec::new(),
        };
        let loaded = main.staged("", |staged| load::load(path, Some(staged)))?;
        let tables = |name| {
            loaded
                .files
                .iter()
                .filter_map(move |file| table(file, name))
        };
        for (name, item) in tables("destinations").flatten() {
            let url = item.node.get("url").and_then(|url| url.node.text());
            if let Some(location) = url.and_then(|url| url.parse().ok()) {
                main.destinations.push((name.clone(), location));
            }
        }
        let policies = tables("policies").flat_map(|policies| policies.keys().cloned());
        main.policies = policies.collect();
        Ok(main)
    }

    /// Has a text stand in the new file's place.
    fn staged<T>(&self, text: &str, read: impl FnOnce(&Staged) -> T) -> Result<T, Error> {
        let failed = |source| Error::File {
            doing: "write",
            path: std::env::temp_dir(),
            source,
        };
        let mut file = NamedTempFile::new().map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        Ok(read(&Staged {
            place: self.place.clone(),
            file: file.path().to_owned(),
        }))
    }
}

fn table<'a>(file: &'a Node, name: &str) -> Option<&'a Table> {
    file.get(name)?.node.table()
}
