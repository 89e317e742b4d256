//! Files in: the only place where a configuration comes from outside.
//!
//! Reads the main file and what it includes, refuses files that everybody could change, and loads
//! the time zones that are named. It contacts nothing, reads no secret and follows no reference to
//! one. A configuration holds no secrets, so it may be readable by everybody; whoever could change
//! it could have any command run, so it must not be writable by everybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use super::{
    diagnostic::Diagnostic,
    inline_secret,
    source::Sources,
    tree::{self, Node, Value},
};
use crate::model::schedule::Zone;

/// Where the configuration is if nobody says: the variable `BARKEEP_CONFIG`, else
/// `/etc/barkeep/barkeep.toml`.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment names the configuration file"
)]
pub fn default_path() -> PathBuf {
    std::env::var_os("BARKEEP_CONFIG")
        .map_or_else(|| PathBuf::from("/etc/barkeep/barkeep.toml"), PathBuf::from)
}

/// A file that stands in for another one, which may not exist yet.
#[derive(Clone, Debug)]
pub struct Staged {
    /// The place it will have; if relative, below the main file's directory.
    pub place: PathBuf,
    /// Where it is now.
    pub file: PathBuf,
}

/// Everything that was read, before anybody has asked what it means.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The texts.
    pub sources: Arc<Sources>,
    /// What holds when nobody says anything.
    pub builtin: Node,
    /// One tree for each file, the main file first.
    pub files: Vec<Node>,
    /// The time zones that are named, under their names.
    pub zones: BTreeMap<String, Zone>,
    /// What was wrong so far. If there is anything, some of the configuration may be missing.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a configuration and everything that it includes.
pub fn load(path: &Path, staged: Option<&Staged>) -> Loaded {
    let directory = path.parent().unwrap_or(Path::new(""));
    let staged = staged.map(|staged| Staged {
        place: plain(&directory.join(&staged.place)),
        file: staged.file.clone(),
    });
    let mut reader = Reader::new(staged);
    reader.file(path);
    if let Some(staged) = &reader.staged
        && !reader.seen.contains(&staged.place)
    {
        let place = staged.place.display();
        let message = format!("`{place}` is not part of this configuration");
        reader
            .diagnostics
            .push(Diagnostic::error(message).help("no `include` would read it"));
    }
    reader.finish()
}

/// The same from texts that are in memory already; nothing is included.
pub fn from_texts(texts: &[(&str, &str)]) -> Loaded {
    let mut reader = Reader::new(None);
    for (name, text) in texts {
        reader.text(name, text);
    }
    reader.finish()
}

struct Reader {
    sources: Sources,
    builtin: Node,
    files: Vec<Node>,
    seen: BTreeSet<PathBuf>,
    staged: Option<Staged>,
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn new(staged: Option<Staged>) -> Self {
        let mut sources = Sources::default();
        let mut diagnostics = Vec::new();
        let start = sources.add("built in", include_str!("builtin.toml"));
        let builtin = tree::parse(&sources, start, &mut diagnostics);
        Self {
            sources,
            builtin,
            files: Vec::new(),
            seen: BTreeSet::new(),
            staged,
            diagnostics,
        }
    }

    fn finish(self) -> Loaded {
        let mut names = BTreeSet::from(["UTC".to_owned()]);
        for tree in &self.files {
            zone_names(tree, &mut names);
        }
        let zone = |name: String| {
            let zone = jiff::tz::TimeZone::get(&name).ok()?;
            Some((name.clone(), Zone::new(name, zone)))
        };
        Loaded {
            sources: Arc::new(self.sources),
            builtin: self.builtin,
            files: self.files,
            zones: names.into_iter().filter_map(zone).collect(),
            diagnostics: self.diagnostics,
        }
    }

    /// Reads a file and what it includes, unless it has been read.
    fn file(&mut self, path: &Path) {
        if !self.seen.insert(plain(path)) {
            return;
        }
        match self.read(path) {
            Ok(text) => {
                let index = self.text(&path.display().to_string(), &text);
                let directory = path.parent().unwrap_or(Path::new(""));
                self.included(index, directory);
            }
            Err(message) => self.diagnostics.push(Diagnostic::error(message)),
        }
    }

    fn text(&mut self, name: &str, text: &str) -> usize {
        let start = self.sources.add(name, text);
        let mut tree = tree::parse(&self.sources, start, &mut self.diagnostics);
        inline_secret::refuse(&mut tree, &mut self.sources, &mut self.diagnostics);
        self.files.push(tree);
        self.files.len() - 1
    }

    fn read(&self, path: &Path) -> Result<String, String> {
        let staged = self
            .staged
            .as_ref()
            .filter(|staged| staged.place == plain(path));
        let actual = staged.map_or(path, |staged| staged.file.as_path());
        let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", actual.display());
        let mode = fs::metadata(actual).map_err(failed)?.permissions().mode();
        if staged.is_none() && mode & 0o002 != 0 {
            let path = path.display();
            return Err(format!(
                "everybody may change `{path}`; restrict it with `chmod o-w`"
            ));
        }
        let bytes = fs::read(actual).map_err(failed)?;
        String::from_utf8(bytes).map_err(|_| format!("`{}` is not UTF-8 text", actual.display()))
    }

    /// Follows the `include` of a file.
    fn included(&mut self, index: usize, directory: &Path) {
        let Some(Value::Array(items)) = self.files[index]
            .get("include")
            .map(|item| &item.node.value)
        else {
            return;
        };
        for item in items.clone() {
            let Some(pattern) = item.text() else { continue };
            let found = self.expand(directory, Path::new(pattern));
            if found.is_empty() && !is_pattern(pattern) {
                let missing = Diagnostic::error(format!("there is no file `{pattern}`"));
                let missing = missing.label(&item.span, "cannot be included");
                self.diagnostics.push(missing.help(format!(
                    "paths are relative to the including file: `{}`",
                    directory.join(pattern).display()
                )));
            }
            for path in found {
                self.file(&path);
            }
        }
    }

    /// The files that a path with `*` and `?` in its components names, in the order of their names.
    fn expand(&self, directory: &Path, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![directory.to_owned()];
        for component in pattern.components() {
            let step = |base: &PathBuf| match component {
                Component::Normal(name) if is_pattern(&name.to_string_lossy()) => {
                    self.matching(base, &name.to_string_lossy())
                }
                Component::ParentDir => vec![above(base)],
                component => vec![base.join(component)],
            };
            found = found.iter().flat_map(step).collect();
        }
        found.retain(|path| path.is_file() || self.is_staged(path));
        found
    }

    fn is_staged(&self, path: &Path) -> bool {
        self.staged
            .as_ref()
            .is_some_and(|staged| staged.place == plain(path))
    }

    fn matching(&self, directory: &Path, pattern: &str) -> Vec<PathBuf> {
        let here = if directory == Path::new("") {
            Path::new(".")
        } else {
            directory
        };
        let listed = fs::read_dir(here).into_iter().flatten().flatten();
        let mut names: BTreeSet<_> = listed.map(|entry| entry.file_name()).collect();
        if let Some(staged) = &self.staged
            && staged.place.parent() == here.canonicalize().ok().as_deref()
        {
            names.extend(staged.place.file_name().map(ToOwned::to_owned));
        }
        let wanted = |name: &std::ffi::OsString| {
            let name = name.to_string_lossy();
            !name.starts_with('.') && matches(pattern, &name)
        };
        names.retain(wanted);
        names.into_iter().map(|name| directory.join(name)).collect()
    }
}

/// A path that can be compared, also of a file that does not exist yet.
fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let resolved = absolute
        .parent()
        .and_then(|parent| parent.canonicalize().ok());
    match (resolved, absolute.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => absolute,
    }
}

/// The directory above another, spelled without `..` where that is the same.
fn above(directory: &Path) -> PathBuf {
    let named = matches!(
        directory.components().next_back(),
        Some(Component::Normal(_))
    );
    match directory
        .parent()
        .filter(|_| named && !directory.is_symlink())
    {
        Some(parent) => parent.to_owned(),
        None => directory.join(".."),
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether a name fits a pattern of `*` (any characters) and `?` (one).
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = rest.as_str();
            let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.any(|at| matches(rest, &name[at..]))
        }
        Some(first) => {
            let mut name = name.chars();
            let fits = name
                .next()
                .is_some_and(|found| first == '?' || first == found);
            fits && matches(rest.as_str(), name.as_str())
        }
    }
}

fn zone_names(node: &Node, names: &mut BTreeSet<String>) {
    match &node.value {
        Value::Table(table) => {
            let zone = table.get("time_zone");
            names.extend(zone.and_then(|item| item.node.text().map(ToOwned::to_owned)));
            for item in table.values() {
                zone_names(&item.node, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| zone_names(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_names() {
        let cases = [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml.bak", false),
            ("?-*.toml", "1-x.toml", true),
            ("?-*.toml", "10-x.toml", false),
            ("*", "", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
