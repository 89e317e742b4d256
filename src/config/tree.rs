//! A TOML document as a tree whose keys and values know where they were written.
//!
//! Layers are merged on this form, because a leaf then keeps its origin whatever it means, and
//! types are read from it by [`super::reader`].

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::{
    diagnostic::Diagnostic,
    source::{Sources, Span},
};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where; for a table with a header of its own, the header.
    pub span: Span,
    /// What.
    pub value: Value,
}

/// What was written.
#[derive(Clone, Debug)]
pub enum Value {
    /// A text, or a date, which is read like one.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A list.
    Array(Vec<Node>),
    /// A table, written with a header, with dots or inline.
    Table(Table),
    /// Something that could not be read; the error has been reported, and nobody stumbles over it
    /// again.
    Broken,
}

/// The entries of a table in the order of their keys.
pub type Table = BTreeMap<String, Item>;

/// An entry of a table.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where the key was written.
    pub key: Span,
    /// Its value.
    pub node: Node,
}

impl Node {
    /// A table without entries, found nowhere.
    pub fn empty() -> Self {
        Self {
            span: 0..0,
            value: Value::Table(Table::new()),
        }
    }

    /// The entries, if this is a table.
    pub fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The entries to change, if this is a table.
    pub fn table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The entry of a table.
    pub fn get(&self, key: &str) -> Option<&Item> {
        self.table()?.get(key)
    }

    /// The text, if this is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "text",
            Value::Integer(_) => "a number",
            Value::Float(_) => "a number with a fraction",
            Value::Boolean(_) => "true or false",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
            Value::Broken => "nothing readable",
        }
    }
}

/// Parses a text that has been taken into the sources, and reports everything that is not TOML.
/// What can be read is in the tree nevertheless.
pub fn parse(sources: &Sources, start: usize, diagnostics: &mut Vec<Diagnostic>) -> Node {
    let text = &sources.source(&(start..start)).text;
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken = !errors.is_empty();
    for error in errors {
        let span = error.span().unwrap_or_default();
        let span = span.start + start..span.end + start;
        diagnostics.push(Diagnostic::error("not TOML").label(&span, error.message()));
    }
    let span = start..start;
    let mut node = Node {
        span,
        value: Value::Table(entries(table.into_inner(), start)),
    };
    if broken {
        mark_guessed(&mut node);
    }
    node
}

/// Values that the parser made up to go on after an error were written nowhere; nothing should be
/// said about them.
fn mark_guessed(node: &mut Node) {
    match &mut node.value {
        Value::Table(table) => table
            .values_mut()
            .for_each(|item| mark_guessed(&mut item.node)),
        Value::Array(items) => items.iter_mut().for_each(mark_guessed),
        _ if node.span.is_empty() => node.value = Value::Broken,
        _ => {}
    }
}

fn entries(table: DeTable<'_>, start: usize) -> Table {
    let item = |(key, value): (toml::Spanned<_>, toml::Spanned<_>)| {
        let span = shifted(&key.span(), start);
        let name: std::borrow::Cow<'_, str> = key.into_inner();
        let node = node(value, start);
        (name.into_owned(), Item { key: span, node })
    };
    table.into_iter().map(item).collect()
}

fn node(value: toml::Spanned<DeValue<'_>>, start: usize) -> Node {
    let span = shifted(&value.span(), start);
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or(Value::Broken, Value::Integer)
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Value::Boolean(boolean),
        DeValue::Datetime(datetime) => Value::Text(datetime.to_string()),
        DeValue::Array(array) => {
            Value::Array(array.into_iter().map(|item| node(item, start)).collect())
        }
        DeValue::Table(table) => Value::Table(entries(table, start)),
    };
    Node { span, value }
}

fn shifted(span: &Span, start: usize) -> Span {
    span.start + start..span.end + start
}
