//! A configuration as it holds: every leaf with its value, and where it came from.
//!
//! What is printed is a configuration itself: without includes, policies or defaults, and with the
//! same meaning.

use std::fmt::Write;

use serde::Serialize;

use super::{
    compile::{Merged, MergedServer},
    source::{Sources, Span},
    tree::{Node, Table, Value},
};

/// Whether every leaf says where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origins {
    /// As a comment behind it: `# policies/gold.toml:7`.
    Shown,
    /// Not.
    Hidden,
}

/// Tables that are one value and stay on one line.
const INLINE: [&str; 5] = [
    "schedule",
    "retention",
    "compression",
    "password",
    "encryption",
];
/// The width to which leaves with origins are padded.
const LEAF_WIDTH: usize = 60;

/// One value, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leaf {
    /// The table that it stands in: `servers.orders.backups[0]`.
    pub table: String,
    /// Its key, dotted where tables lie in tables.
    pub key: String,
    /// `built in`, or a file and its line.
    pub origin: String,
}

/// Prints what holds, as TOML.
pub fn show(merged: &Merged, origins: Origins) -> String {
    page(merged, origins).text
}

/// Every value that holds, with where it came from.
pub fn leaves(merged: &Merged) -> Vec<Leaf> {
    page(merged, Origins::Hidden).leaves
}

fn page(merged: &Merged, origins: Origins) -> Page<'_> {
    let mut page = Page {
        sources: &merged.sources,
        origins,
        table: String::new(),
        text: "version = 1\n".to_owned(),
        leaves: Vec::new(),
    };
    for (name, destination) in &merged.destinations {
        page.header(&format!("destinations.{}", key(name)), None);
        page.values("", destination);
    }
    for (name, server) in &merged.servers {
        page.server(&key(name), server);
    }
    page
}

struct Page<'a> {
    sources: &'a Sources,
    origins: Origins,
    table: String,
    text: String,
    leaves: Vec<Leaf>,
}

impl Page<'_> {
    fn server(&mut self, name: &str, merged: &MergedServer) {
        self.header(&format!("servers.{name}"), None);
        let own = super::merge::without(&merged.server, &["backups", "policy"]);
        self.values("", &own);
        for (index, keep) in merged.keeps.iter().enumerate() {
            self.header(&format!("servers.{name}.keep"), Some(index));
            self.values("", keep);
        }
        for (index, entry) in merged.entries.iter().enumerate() {
            self.header(&format!("servers.{name}.backups"), Some(index));
            // The policy's settings are printed in full, so naming it would only say them twice.
            self.values("", &super::merge::without(entry, &["policy"]));
        }
    }

    /// Begins a table, or the next one of a list of tables.
    fn header(&mut self, table: &str, index: Option<usize>) {
        let header = match index {
            None => format!("[{table}]"),
            Some(_) => format!("[[{table}]]"),
        };
        let index = index.map(|index| format!("[{index}]")).unwrap_or_default();
        self.table = format!("{table}{index}");
        let _ = write!(self.text, "\n{header}\n");
    }

    fn values(&mut self, prefix: &str, node: &Node) {
        for (name, item) in node.table().into_iter().flatten() {
            let path = format!("{prefix}{}", key(name));
            match item.node.table() {
                Some(_) if !INLINE.contains(&name.as_str()) => {
                    self.values(&format!("{path}."), &item.node);
                }
                _ => self.leaf(&path, &item.node, &item.key),
            }
        }
    }

    fn leaf(&mut self, path: &str, node: &Node, at: &Span) {
        self.leaves.push(Leaf {
            table: self.table.clone(),
            key: path.to_owned(),
            origin: self.origin(at),
        });
        let leaf = format!("{path} = {}", value(node));
        let _ = match self.origins {
            Origins::Hidden => writeln!(self.text, "{leaf}"),
            Origins::Shown => writeln!(self.text, "{leaf:<LEAF_WIDTH$} # {}", self.origin(at)),
        };
    }

    fn origin(&self, span: &Span) -> String {
        let place = self.sources.place(span);
        match place.file.as_str() {
            "built in" => place.file,
            file => format!("{file}:{}", place.line),
        }
    }
}

/// A key, quoted if it must be.
pub(super) fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A value on one line.
pub(super) fn value(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => inline(table),
        Value::Broken => String::new(),
    }
}

fn inline(table: &Table) -> String {
    let pair = |(name, item): (&String, &super::tree::Item)| {
        format!("{} = {}", key(name), value(&item.node))
    };
    let pairs: Vec<String> = table.iter().map(pair).collect();
    format!("{{ {} }}", pairs.join(", "))
}
