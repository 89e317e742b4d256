//! Layers: built in < defaults < policy < server < entry, leaf by leaf.
//!
//! Layers are laid over one another as trees, so that every leaf keeps the place where it was
//! written. Tables merge key by key; lists replace, and so do the tables that are one value (a
//! schedule, a retention, a codec with its level, a secret's place).

use std::collections::BTreeMap;

use super::{
    diagnostic::Diagnostic,
    nearest::did_you_mean,
    tree::{Item, Node, Table, Value},
};

/// Keys whose tables are one value.
const VALUES: [&str; 5] = [
    "schedule",
    "retention",
    "compression",
    "password",
    "encryption",
];

/// Sections of named tables.
const SECTIONS: [&str; 3] = ["destinations", "policies", "servers"];

/// Keys of a server that mean the server as a whole and not how it is backed up.
const SERVER_ONLY: [&str; 10] = [
    "name",
    "policy",
    "mode",
    "state",
    "labels",
    "connection",
    "primary_connection",
    "password",
    "pgdata",
    "backups",
];

/// Lays a tree over another: its leaves hold, the other's remain where it has none.
#[must_use]
pub fn lay(below: Node, above: &Node) -> Node {
    if matches!(above.value, Value::Broken) && below.table().is_some() {
        return below;
    }
    let (Value::Table(mut table), Value::Table(upper)) = (below.value, &above.value) else {
        return above.clone();
    };
    for (key, item) in upper {
        let replaced = table
            .remove(key)
            .filter(|_| !VALUES.contains(&key.as_str()));
        let node = match replaced {
            Some(lower) => lay(lower.node, &item.node),
            None => item.node.clone(),
        };
        let key_span = item.key.clone();
        table.insert(
            key.clone(),
            Item {
                key: key_span,
                node,
            },
        );
    }
    Node {
        span: above.span.clone(),
        value: Value::Table(table),
    }
}

/// All files as one tree. A name that two of them define is reported with both places.
pub fn combine(files: &[Node], diagnostics: &mut Vec<Diagnostic>) -> Node {
    let mut combined = Node::empty();
    for file in files {
        let (Some(into), Some(from)) = (combined.table_mut(), file.table()) else {
            continue;
        };
        for (key, item) in from {
            match into.get_mut(key) {
                None => {
                    into.insert(key.clone(), item.clone());
                }
                Some(_) if key == "version" || key == "include" => {}
                Some(present) if SECTIONS.contains(&key.as_str()) => {
                    join(key, &mut present.node, &item.node, 1, diagnostics);
                }
                Some(present) => join(key, &mut present.node, &item.node, usize::MAX, diagnostics),
            }
        }
    }
    normalize(&mut combined);
    combined
}

/// Puts the entries of a table into another of the same name; `depth` levels of tables may be in
/// both.
fn join(path: &str, into: &mut Node, from: &Node, depth: usize, diagnostics: &mut Vec<Diagnostic>) {
    let (Value::Table(into), Value::Table(from)) = (&mut into.value, &from.value) else {
        return;
    };
    for (key, item) in from {
        let path = format!("{path}.{key}");
        match into.get_mut(key) {
            None => {
                into.insert(key.clone(), item.clone());
            }
            Some(present) if depth > 1 && both_tables(present, item) => {
                join(&path, &mut present.node, &item.node, depth - 1, diagnostics);
            }
            Some(present) => diagnostics.push(
                Diagnostic::error(format!("`{path}` is defined twice"))
                    .label(&item.key, "defined again here")
                    .label(&present.key, format!("`{path}` is first defined here"))
                    .help("each name is defined in one file; give one of them another name"),
            ),
        }
    }
}

fn both_tables(one: &Item, other: &Item) -> bool {
    one.node.table().is_some() && other.node.table().is_some()
}

/// Rewrites the short form of `wal`, a word, as the table that it stands for, so that layers merge.
fn normalize(node: &mut Node) {
    match &mut node.value {
        Value::Table(table) => {
            if let Some(wal) = table.get_mut("wal")
                && wal.node.text().is_some()
            {
                let key = wal.key.clone();
                let node = wal.node.clone();
                wal.node.value =
                    Value::Table(Table::from([("delivery".to_owned(), Item { key, node })]));
            }
            for item in table.values_mut() {
                normalize(&mut item.node);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalize),
        _ => {}
    }
}

/// The layers of a configuration, all files combined.
#[derive(Debug)]
pub struct Layers<'a> {
    /// What is built in.
    pub builtin: &'a Node,
    /// All files as one tree.
    pub root: &'a Node,
}

/// A server with everything that holds for it.
#[derive(Debug)]
pub struct ServerLayers {
    /// The server's own keys, defaults included.
    pub server: Node,
    /// Its entries, one for the short form, each with all its settings.
    pub entries: Vec<Node>,
    /// What it says of single backups to keep.
    pub keeps: Vec<Node>,
}

impl Layers<'_> {
    /// What holds for a server that says nothing.
    pub fn defaults(&self) -> Node {
        let none = Node::empty();
        let of = |root: &Node| {
            root.get("defaults")
                .map_or(none.clone(), |item| item.node.clone())
        };
        lay(of(self.builtin), &of(self.root))
    }

    /// A policy laid over the one that it extends; errors are reported.
    pub fn policy(&self, name: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Node> {
        let policy = self.named("policies", "policy", name, diagnostics)?;
        policy.table()?;
        let Some(extends) = policy.get("extends") else {
            return Some(without(policy, &[]));
        };
        let base = self.named("policies", "policy", &extends.node, diagnostics)?;
        if let Some(further) = base.get("extends") {
            let message = "a policy that is extended cannot extend another";
            diagnostics.push(
                Diagnostic::error(message)
                    .label(&extends.node.span, "this policy extends one")
                    .label(&further.node.span, "that itself extends one here")
                    .help(
                        "policies are extended once, so that their meaning is found in two places \
                         at most",
                    ),
            );
            return None;
        }
        Some(without(&lay(base.clone(), policy), &["extends"]))
    }

    /// A table that is referred to by name; an unknown name is reported.
    pub fn named(
        &self,
        section: &str,
        what: &str,
        name: &Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<&Node> {
        let text = name.text()?;
        let named = self.root.get(section).and_then(|item| item.node.table());
        if let Some(found) = named.and_then(|table| table.get(text)) {
            return Some(&found.node);
        }
        let known: Vec<&str> = named
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(String::as_str)
            .collect();
        let help = did_you_mean(text, known.iter().copied()).unwrap_or_else(|| match known[..] {
            [] => format!("nothing is defined under `[{section}]`; is its file included?"),
            _ => format!("known: {}", known.join(", ")),
        });
        diagnostics.push(
            Diagnostic::error(format!("there is no {what} `{text}`"))
                .label(&name.span, "not defined")
                .help(help),
        );
        None
    }

    /// Everything that holds for a server.
    pub fn server(&self, server: &Node, diagnostics: &mut Vec<Diagnostic>) -> ServerLayers {
        let defaults = self.defaults();
        let (own, keeps) = split_keeps(server);
        let policy_name = own
            .get("policy")
            .or_else(|| defaults.get("policy"))
            .cloned();
        let settings_below = without(&defaults, &["policy", "mode"]);
        let mut of_server = Node::empty();
        for key in SERVER_ONLY {
            let item = own.get(key).or_else(|| defaults.get(key));
            if let (Some(table), Some(item)) = (of_server.table_mut(), item) {
                table.insert(key.to_owned(), item.clone());
            }
        }
        of_server.span = server.span.clone();
        let own_settings = without(&own, &SERVER_ONLY);
        let short = [Node::empty()];
        let entries = match own.get("backups").map(|item| &item.node.value) {
            Some(Value::Array(entries)) => &entries[..],
            _ => &short[..],
        };
        let readable = entries.iter().filter(|entry| entry.table().is_some());
        let laid = readable.map(|entry| {
            let policy = entry.get("policy").cloned().or_else(|| policy_name.clone());
            let mut settings = settings_below.clone();
            if let Some(name) = policy {
                let policy = self.policy(&name.node, diagnostics);
                settings = lay(settings, &policy.unwrap_or_else(Node::empty));
                if let Some(table) = settings.table_mut() {
                    table.insert("policy".to_owned(), name);
                }
            }
            let span = if entry.span.is_empty() {
                &server.span
            } else {
                &entry.span
            };
            let span = span.clone();
            Node {
                span,
                ..lay(lay(settings, &own_settings), entry)
            }
        });
        let entries = laid.collect();
        ServerLayers {
            server: of_server,
            entries,
            keeps,
        }
    }
}

/// A table without some of its keys.
#[must_use]
pub fn without(node: &Node, keys: &[&str]) -> Node {
    let mut rest = node.clone();
    if let Some(table) = rest.table_mut() {
        table.retain(|key, _| !keys.contains(&key.as_str()));
    }
    rest
}

/// Takes the single backups out of a server's `keep`. Rules, or an empty list, stay and replace the
/// policy's.
fn split_keeps(server: &Node) -> (Node, Vec<Node>) {
    let mut own = server.clone();
    let Some(table) = own.table_mut() else {
        return (own, Vec::new());
    };
    let mut single = Vec::new();
    if let Some(Item { node, .. }) = table.get_mut("keep")
        && let Value::Array(items) = &mut node.value
    {
        let all = std::mem::take(items);
        let some = !all.is_empty();
        let (keeps, rules): (Vec<Node>, Vec<Node>) = all
            .into_iter()
            .partition(|item| item.get("backup").is_some());
        let only_single = some && rules.is_empty();
        *items = rules;
        single = keeps;
        if only_single {
            table.remove("keep");
        }
    }
    (own, single)
}
