//! Where the new configuration stands: alone, or beside one that is there already, of which it becomes a part.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        args,
        commands::{configuration, new_file},
        error::Error,
    },
    config::{self, Compiled, Staged, compile::compile, load, shipped},
    model::location::Location,
};

/// Where the new configuration stands.
pub(super) struct Place {
    /// What it is a part of.
    main: Option<Main>,
    /// Its own file.
    file: Option<PathBuf>,
    /// What commands are given that are to read it.
    configuration: PathBuf,
    /// The policy's table, if the new file has to bring it.
    policy: Option<&'static str>,
}

/// A configuration that is there already.
struct Main {
    path: PathBuf,
    destinations: Vec<(String, Location)>,
}

impl Place {
    /// Looks what is there already.
    pub(super) fn of(arguments: &args::Init, config: &Path) -> Result<Self, Error> {
        let file = arguments.output.clone();
        if let Some(file) = &file {
            new_file::refuse(file)?;
        }
        let is_beside = file.is_some() && config.exists();
        let main = is_beside.then(|| Main::read(config)).transpose()?;
        let is_known = main.is_some() && knows_policy(config, &arguments.policy);
        let policy = shipped::table(&arguments.policy).filter(|_| !is_known);
        if policy.is_none() && !is_known {
            let (policy, shipped) = (&arguments.policy, shipped::names().collect::<Vec<_>>());
            return Err(Error::Usage(format!(
                "there is no policy `{policy}`; ready-made are {}",
                shipped.join(", ")
            )));
        }
        let alone = file.clone().filter(|_| main.is_none());
        Ok(Self {
            configuration: alone.unwrap_or_else(|| config.to_owned()),
            main,
            file,
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
        let compiled = match (&self.main, &self.file) {
            (Some(main), Some(place)) => beside(&main.path, place, text)?,
            _ => compile(load::from_texts(&[("the new configuration", text)])),
        };
        compiled.map_err(|report| {
            configuration::say(&report);
            Error::Usage("what was asked for makes no valid configuration".to_owned())
        })
    }
}

fn beside(
    main: &Path,
    place: &Path,
    text: &str,
) -> Result<Result<Compiled, config::Report>, Error> {
    let failed = |source| Error::File {
        doing: "write",
        path: std::env::temp_dir(),
        source,
    };
    let mut staged = tempfile::NamedTempFile::new().map_err(failed)?;
    staged.write_all(text.as_bytes()).map_err(failed)?;
    let place = std::path::absolute(place).map_err(failed)?;
    let file = staged.path().to_owned();
    Ok(config::read(main, Some(&Staged { place, file })))
}

impl Main {
    fn read(path: &Path) -> Result<Self, Error> {
        let desired = configuration::load(path, configuration::Warnings::Untold)?;
        let destinations = desired.destinations.into_iter();
        Ok(Self {
            path: path.to_owned(),
            destinations: destinations
                .map(|(name, destination)| (name.to_string(), destination.location))
                .collect(),
        })
    }
}

fn knows_policy(config: &Path, name: &str) -> bool {
    let loaded = load::load(config, None);
    let mut policies = loaded.files.iter().filter_map(|file| file.get("policies"));
    policies.any(|policies| policies.node.get(name).is_some())
}
