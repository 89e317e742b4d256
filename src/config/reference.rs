//! The reference of every key, as a page of Markdown, from the JSON Schema.
//!
//! `docs/configuration.md` is this page; a test compares them, so that a key without a word about
//! it cannot be added.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{
    schema::{properties, schema, table_of},
    source::Sources,
    tree::{self, Node},
};

/// What the page says before its tables.
const INTRODUCTION: &str = include_str!("introduction.md");

/// The page.
pub fn reference() -> String {
    let schema = schema();
    let mut sources = Sources::default();
    let start = sources.add("built in", include_str!("builtin.toml"));
    let builtin = tree::parse(&sources, start, &mut Vec::new());
    let mut page = Page {
        schema: &schema,
        defaults: builtin
            .get("defaults")
            .map_or_else(Node::empty, |item| item.node.clone()),
        text: INTRODUCTION.to_owned(),
    };
    page.table("The top level", "Document", "", &|_| true);
    page.table("Settings", "PolicyTable", "", &|key| {
        page_of_settings(&schema, key)
    });
    let sections = [
        ("[defaults]", "DefaultsTable"),
        ("[destinations.NAME]", "DestinationTable"),
        ("[policies.NAME]", "PolicyTable"),
        ("[servers.NAME]", "ServerTable"),
        ("[[servers.NAME.backups]]", "EntryTable"),
        ("[service]", "ServiceTable"),
    ];
    for (title, table) in sections {
        let title = format!("`{title}`");
        page.table(&title, table, "", &|key| {
            !page_of_settings(&schema, key) || table == "DestinationTable"
        });
    }
    page.text
}

/// Whether a key is one of the settings, which every layer knows.
fn page_of_settings(schema: &Value, key: &str) -> bool {
    let layers = ["DefaultsTable", "PolicyTable", "ServerTable", "EntryTable"];
    let known = |table: &&str| properties(schema, table).is_some_and(|all| all.contains_key(key));
    layers.iter().all(known)
}

struct Page<'a> {
    schema: &'a Value,
    defaults: Node,
    text: String,
}

impl Page<'_> {
    fn table(&mut self, title: &str, table: &str, path: &str, wanted: &dyn Fn(&str) -> bool) {
        let empty = Map::new();
        let properties = properties(self.schema, table).unwrap_or(&empty);
        let wanted = properties.iter().filter(|(key, _)| wanted(key));
        let wanted: Vec<(&String, &Value)> = wanted.collect();
        let level = if path.is_empty() { "##" } else { "###" };
        let _ = write!(self.text, "\n{level} {title}\n\n");
        self.text
            .push_str("| key | value | built in | meaning |\n|---|---|---|---|\n");
        for (key, property) in &wanted {
            self.row(key, property, path);
        }
        for (key, property) in wanted {
            let Some(nested) = table_of(property) else {
                continue;
            };
            // The tables of the top level have sections of their own.
            if table != "Document" && nested != "EntryTable" {
                let path = format!("{path}{key}.");
                let title = format!("`{}`", path.trim_end_matches('.'));
                self.table(&title, nested, &path, &|_| true);
            }
        }
    }

    fn row(&mut self, key: &str, property: &Value, path: &str) {
        let meaning = property.get("description").and_then(Value::as_str);
        let meaning = meaning.unwrap_or_default();
        let kind = self.kind(property);
        let default = self.default(&format!("{path}{key}"));
        let row = format!("| `{key}` | {kind} | {default} | {meaning} |");
        let _ = writeln!(self.text, "{row}");
    }

    fn default(&self, path: &str) -> String {
        let mut node = &self.defaults;
        for key in path.split('.') {
            match node.get(key) {
                Some(item) => node = &item.node,
                None => return String::new(),
            }
        }
        match node.table() {
            Some(_) => String::new(),
            None => format!("`{}`", super::origin::value(node)),
        }
    }

    /// What kind of value a property has, in words.
    fn kind(&self, property: &Value) -> String {
        if let Some(title) = property.get("title").and_then(Value::as_str) {
            return title.replace('|', "\\|");
        }
        if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
            let name = reference.strip_prefix("#/$defs/").unwrap_or(reference);
            let referred = self.schema.get("$defs").and_then(|all| all.get(name));
            return referred.map_or_else(String::new, |referred| self.referred(name, referred));
        }
        if let Some(choices) = property.get("anyOf").and_then(Value::as_array) {
            let kinds: Vec<String> = choices.iter().map(|choice| self.kind(choice)).collect();
            return kinds.join("; or ");
        }
        if let Some(words) = property.get("enum").and_then(Value::as_array) {
            return quoted(words.iter());
        }
        match property.get("type").and_then(Value::as_str) {
            Some("integer") => "a number".to_owned(),
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("array") => {
                let items = property.get("items").map(|items| self.kind(items));
                format!("a list: {}", items.unwrap_or_default())
            }
            Some("object") => "a table".to_owned(),
            _ => "text".to_owned(),
        }
    }

    fn referred(&self, name: &str, referred: &Value) -> String {
        if name.ends_with("Table") {
            return "a table".to_owned();
        }
        if referred.get("enum").is_some() {
            return self.kind(referred);
        }
        let choices = referred.get("oneOf").and_then(Value::as_array);
        let choices = choices.map(Vec::as_slice).unwrap_or_default();
        if choices.iter().all(|choice| choice.get("const").is_some()) {
            return quoted(choices.iter().filter_map(|choice| choice.get("const")));
        }
        "a table with one key".to_owned()
    }
}

fn quoted<'a>(words: impl Iterator<Item = &'a Value>) -> String {
    let words = words.filter_map(Value::as_str);
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    words.join(", ")
}
