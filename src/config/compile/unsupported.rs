//! Keys of the schema whose feature barkeep does not have yet.
//!
//! They are known, so that a file for a later version is understood and not merely unknown; but
//! none is ever accepted and ignored. Supporting one means giving it a place in `Desired` and
//! removing it here.

use crate::config::{
    diagnostic::Diagnostic,
    tree::{Item, Node, Value},
};

/// Settings, wherever settings stand.
pub(in crate::config) const SETTINGS: [&str; 3] = ["manage_keeps", "retire_after", "verify"];

/// Reports every key that is not supported yet.
pub(super) fn refuse(root: &Node, diagnostics: &mut Vec<Diagnostic>) {
    if let Some(defaults) = root.get("defaults") {
        settings(&defaults.node, diagnostics);
    }
    for policy in named(root, "policies") {
        settings(policy, diagnostics);
    }
    for server in named(root, "servers") {
        settings(server, diagnostics);
        if let Some(Value::Array(entries)) = server.get("backups").map(|item| &item.node.value) {
            for entry in entries {
                settings(entry, diagnostics);
            }
        }
    }
}

fn named<'a>(root: &'a Node, section: &str) -> impl Iterator<Item = &'a Node> + use<'a> {
    let table = root.get(section).and_then(|item| item.node.table());
    table.into_iter().flatten().map(|(_, item)| &item.node)
}

fn settings(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    keys(node, &SETTINGS, diagnostics);
}

fn keys(node: &Node, paths: &[&str], diagnostics: &mut Vec<Diagnostic>) {
    for path in paths {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let outer = node.get(first);
        let found = match rest {
            "" => outer,
            rest => outer.and_then(|item| item.node.get(rest)),
        };
        if let Some(item) = found {
            diagnostics.push(not_yet(path, item));
        }
    }
}

fn not_yet(key: &str, item: &Item) -> Diagnostic {
    Diagnostic::error(format!("`{key}` is not supported yet")).label(&item.key, "not supported yet")
}
