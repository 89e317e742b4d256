//! `import`: what Barman, cron and CloudNativePG are told, as a configuration that only observes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::configuration;
use crate::{
    cli::{
        Session,
        args::{self, Format},
        error::Error,
        exit::Exit,
        import::{
            barman::{File, Settings},
            crontab,
            fleet::Fleet,
            kubernetes,
            note::{Loss, Note},
        },
        output,
    },
    config::{compile::compile, load},
};

#[derive(Serialize)]
struct Imported<'a> {
    format: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    configuration: &'a str,
    notes: &'a [Note],
}

pub(in crate::cli) fn run(arguments: &args::Import, session: &Session) -> Result<Exit, Error> {
    if let Some(file) = arguments.output.as_deref() {
        super::new_file::refuse(file)?;
    }
    let mut fleet = Fleet::default();
    of_barman(&arguments.barman, &mut fleet)?;
    for path in &arguments.crontab {
        crontab::import(&mut fleet, &path.display().to_string(), &text(path)?);
    }
    let objects = arguments.kubernetes.iter();
    let objects = objects.map(|path| Ok((path.display().to_string(), text(path)?)));
    let objects = objects.collect::<Result<Vec<_>, Error>>()?;
    kubernetes::import(
        &mut fleet,
        objects.iter().map(|(name, text)| (&**name, &**text)),
    );
    let zone = arguments.time_zone.clone().or_else(zone_here);
    let written = fleet.draft(zone.as_deref()).to_string();
    let is_valid = is_valid(&written);
    if let Some(file) = &arguments.output {
        super::new_file::create(file, &written)?;
    }
    let result = Imported {
        format: 1,
        file: arguments.output.as_deref(),
        configuration: &written,
        notes: &fleet.notes,
    };
    match (&arguments.output, session.output.format()) {
        (None, _) | (_, Format::Json) => session.output.result(&written, &result)?,
        (Some(file), Format::Text) => output::talk(&format!("wrote {}", file.display())),
    }
    for note in &fleet.notes {
        output::talk(note);
    }
    let is_lost = fleet.notes.iter().any(|note| note.loss == Loss::Lost);
    Ok(match (is_valid, is_lost) {
        (false, _) => Exit::Usage,
        (true, true) => Exit::Partial,
        (true, false) => Exit::Done,
    })
}

/// Whether what is written can be used as it is. What is wrong with it has been said when this returns.
fn is_valid(written: &str) -> bool {
    match compile(load::from_texts(&[("what is written", written)])) {
        Ok(compiled) => {
            configuration::say(&compiled.warnings);
            true
        }
        Err(report) => {
            configuration::say(&report);
            false
        }
    }
}

fn of_barman(paths: &[PathBuf], fleet: &mut Fleet) -> Result<(), Error> {
    let mut files = Vec::new();
    for path in paths {
        files.push(file(path)?);
    }
    if let Some(directory) = Settings::read(&files).directory() {
        for path in below(Path::new(&directory)) {
            files.push(file(&path)?);
        }
    }
    // Which model is active is written beside the backups, which may be out of reach.
    let active = |path: &str| fs::read_to_string(path).ok();
    Settings::read(&files).import(fleet, &active);
    Ok(())
}

/// The files of the directory that Barman reads, too; none if it is on another machine.
fn below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let is_read = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "conf")
    };
    let mut paths: Vec<_> = paths.filter(is_read).collect();
    paths.sort();
    paths
}

/// The zone of this machine, which is that of its crontabs.
fn zone_here() -> Option<String> {
    let zone = jiff::tz::TimeZone::system();
    zone.iana_name().map(str::to_owned)
}

fn file(path: &Path) -> Result<File, Error> {
    Ok(File {
        name: path.display().to_string(),
        text: text(path)?,
    })
}

fn text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}
