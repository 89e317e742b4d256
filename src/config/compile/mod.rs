//! What was written, as it is meant: layers to a [`Desired`], or everything that is wrong with it.
//!
//! Files are read one by one, so that a mistake is reported where it was made and once; then layers
//! are merged and every server is compiled with all that holds for it. Whatever barkeep cannot do
//! yet is refused: no key is accepted and ignored. Nothing here reads, contacts or resolves
//! anything.

mod azure;
mod checks;
mod copies;
mod destination;
mod entry;
mod gcs;
mod receive;
mod server;
mod service;
mod snapshot;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use super::{
    diagnostic::{Diagnostic, Report, Severity},
    document::Document,
    load::Loaded,
    merge::{self, Layers, ServerLayers},
    reader,
    source::Sources,
    tree::{Item, Node},
};
use crate::model::{
    desired::{Desired, Server},
    names::DestinationName,
    schedule::Zone,
};

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What it means.
    pub desired: Desired,
    /// What should be looked at.
    pub warnings: Report,
    /// Its layers, merged, to be shown.
    pub merged: Merged,
}

/// What holds, with every leaf's origin.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The texts that it comes from.
    pub sources: Arc<Sources>,
    /// The destinations.
    pub destinations: BTreeMap<String, Node>,
    /// The servers.
    pub servers: Vec<(String, MergedServer)>,
}

/// A server as it holds.
#[derive(Clone, Debug)]
pub struct MergedServer {
    /// Its own keys.
    pub server: Node,
    /// Its entries with all their settings.
    pub entries: Vec<Node>,
    /// The single backups that it keeps.
    pub keeps: Vec<Node>,
}

/// Gives what was loaded its meaning, or reports all that is wrong.
pub fn compile(mut loaded: Loaded) -> Result<Compiled, Report> {
    let mut diagnostics = std::mem::take(&mut loaded.diagnostics);
    let incomplete = !diagnostics.is_empty();
    check_each(&mut loaded.files, &mut diagnostics);
    let root = merge::combine(&loaded.files, &mut diagnostics);
    if incomplete {
        // With a file missing or half read, names that are not found and keys that are not set
        // would be noise.
        return Err(Report::new(loaded.sources, diagnostics));
    }
    let layers = Layers {
        builtin: &loaded.builtin,
        root: &root,
    };
    check_policies(&layers, &loaded.zones, &mut diagnostics);
    let mut context = Context {
        zones: &loaded.zones,
        diagnostics: &mut diagnostics,
    };
    let destinations = destination::compile(&root, &mut context);
    let (mut servers, shown) = servers(&layers, &mut context);
    for entry in servers.iter_mut().flat_map(|server| &mut server.entries) {
        if let Some(destination) = destinations.get(&entry.destination) {
            entry.object_lock = destination.object_lock;
            entry.overwriting = destination.overwriting();
        }
    }
    let desired = Desired {
        destinations,
        servers: servers
            .into_iter()
            .map(|server| (server.name.clone(), server))
            .collect(),
        service: service::compile(&root, context.diagnostics),
    };
    checks::places(&root, &desired, &mut diagnostics);
    let sources = loaded.sources;
    let report = Report::new(Arc::clone(&sources), diagnostics);
    if report.count(Severity::Error) > 0 {
        return Err(report);
    }
    let merged = Merged {
        sources,
        destinations: section(&root, "destinations"),
        servers: shown,
    };
    Ok(Compiled {
        desired,
        warnings: report,
        merged,
    })
}

/// What compiling needs at every place.
struct Context<'a> {
    zones: &'a BTreeMap<String, Zone>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Context<'_> {
    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn has_errors(&self) -> bool {
        let error = |one: &Diagnostic| one.severity() == Severity::Error;
        self.diagnostics.iter().any(error)
    }
}

/// Reads every file by itself and says what the main one lacks.
fn check_each(files: &mut [Node], diagnostics: &mut Vec<Diagnostic>) {
    let mut versions = Vec::new();
    for file in files.iter_mut() {
        let document: Option<Document> = reader::read(file, diagnostics);
        versions.push(document.and_then(|document| document.version));
    }
    for version in versions.iter().flatten() {
        if *version.get() != 1 {
            let message = format!("version {} is not known", version.get());
            diagnostics.push(
                Diagnostic::error(message)
                    .label(&version.span(), "should be 1")
                    .help("a newer barkeep may have written this file"),
            );
        }
    }
    let main = files.first().filter(|main| main.get("version").is_none());
    if let Some(main) = main.filter(|_| matches!(versions.first(), Some(None))) {
        diagnostics.push(
            Diagnostic::error("the configuration does not say its version")
                .label(&main.span, "begin with `version = 1`"),
        );
    }
}

/// Compiles each policy for itself, so that one that nobody follows is still right.
fn check_policies(
    layers: &Layers<'_>,
    zones: &BTreeMap<String, Zone>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let nowhere = DestinationName::parse("nowhere").expect("a name");
    let check = |settings: Node, diagnostics: &mut Vec<Diagnostic>| {
        let table = reader::read_again(&settings);
        entry::settings(&table, &nowhere, &mut Context { zones, diagnostics });
    };
    for policy in section(layers.root, "policies").into_values() {
        if let Some(extends) = policy.get("extends") {
            let found = layers.named("policies", "policy", &extends.node, diagnostics);
            if found.is_none() {
                continue;
            }
        }
        check(merge::without(&policy, &["extends"]), diagnostics);
    }
    check(merge::without(&layers.defaults(), &["mode"]), diagnostics);
}

type Servers = (Vec<Server>, Vec<(String, MergedServer)>);

fn servers(layers: &Layers<'_>, context: &mut Context<'_>) -> Servers {
    let mut compiled = Vec::new();
    let mut shown = Vec::new();
    let Some(table) = layers
        .root
        .get("servers")
        .and_then(|item| item.node.table())
    else {
        return (compiled, shown);
    };
    let readable = |(_, item): &(&String, &Item)| item.node.table().is_some();
    for (name, item) in table.iter().filter(readable) {
        let ServerLayers {
            server,
            entries,
            keeps,
        } = layers.server(&item.node, context.diagnostics);
        let written = server::Written {
            name,
            key: &item.key,
            layers,
            raw: &item.node,
            server: &server,
            entries: &entries,
            keeps: &keeps,
        };
        compiled.extend(written.compile(context));
        let server = MergedServer {
            server,
            entries,
            keeps,
        };
        shown.push((name.clone(), server));
    }
    (compiled, shown)
}

fn section(root: &Node, name: &str) -> BTreeMap<String, Node> {
    let table = root.get(name).and_then(|item| item.node.table());
    let named = table.into_iter().flatten();
    named
        .filter(|(_, item)| item.node.table().is_some())
        .map(|(name, item)| (name.clone(), item.node.clone()))
        .collect()
}
