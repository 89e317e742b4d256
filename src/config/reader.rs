//! Typed values out of a [`tree`](super::tree), with every error and not only the first.
//!
//! serde stops at the first error. Here the offending node is then marked broken, and reading
//! starts again without it, until nothing is wrong any more; configurations are small. Errors keep
//! their structure (an unknown key knows the known ones), so that messages are made here and never
//! parsed.

use std::{fmt, vec};

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor, value::StrDeserializer,
};
use serde_spanned::de::{SpannedDeserializer, is_spanned};

use super::{
    diagnostic::Diagnostic,
    nearest::did_you_mean,
    source::Span,
    tree::{Item, Node, Value},
};

/// Reads a type from a tree. What cannot be read is reported, marked as broken in the tree, and
/// absent from the value.
///
/// `None` only if the tree as a whole is something else, which has been reported too.
pub(super) fn read<T: DeserializeOwned>(
    node: &mut Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<T> {
    loop {
        let error = match T::deserialize(Reading(node)) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let whole = error.path.is_empty();
        let offending = find(node, &error.path);
        let span = error.key.clone().unwrap_or_else(|| offending.span.clone());
        diagnostics.push(error.diagnostic(&span, offending));
        offending.value = Value::Broken;
        if whole {
            return None;
        }
    }
}

/// Reads a type from a tree that has been read before, so that no error is left in it.
pub(super) fn read_again<T: DeserializeOwned>(node: &Node) -> T {
    T::deserialize(Reading(node))
        .expect("every layer of the tree has been read, and what was wrong removed")
}

fn find<'a>(node: &'a mut Node, path: &[Step]) -> &'a mut Node {
    // Innermost step last in the path's own order, which is from the inside out.
    let mut current = node;
    for step in path.iter().rev() {
        current = match (step, &mut current.value) {
            (Step::Key(key), Value::Table(table)) => {
                &mut table.get_mut(key).expect("the reader was there").node
            }
            (Step::Index(index), Value::Array(items)) => {
                items.get_mut(*index).expect("the reader was there")
            }
            _ => unreachable!("a path leads through tables and lists"),
        };
    }
    current
}

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// Why a node is not what it should be.
#[derive(Debug)]
struct Error {
    what: What,
    /// From the inside out.
    path: Vec<Step>,
    /// Where the key is, if the key and not the value is wrong.
    key: Option<Span>,
}

#[derive(Debug)]
enum What {
    Key {
        found: String,
        known: &'static [&'static str],
    },
    Word {
        found: String,
        known: &'static [&'static str],
    },
    Type {
        expected: String,
    },
    Missing(&'static str),
    Other(String),
}

impl Error {
    fn new(what: What) -> Self {
        Self {
            what,
            path: Vec::new(),
            key: None,
        }
    }

    fn at(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    fn diagnostic(self, span: &Span, node: &Node) -> Diagnostic {
        match self.what {
            What::Key { found, known } => {
                let help = did_you_mean(&found, known.iter().copied());
                let help = help.unwrap_or_else(|| format!("known keys here: {}", listed(known)));
                Diagnostic::error(format!("unknown key `{found}`"))
                    .label(span, "not known here")
                    .help(help)
            }
            What::Word { found, known } => Diagnostic::error(format!("unknown value `{found}`"))
                .label(span, format!("one of {}", listed(known)))
                .help_if(did_you_mean(&found, known.iter().copied())),
            What::Type { expected } => {
                Diagnostic::error(format!("expected {expected}, found {}", node.kind()))
                    .label(span, format!("should be {expected}"))
            }
            What::Missing(key) => Diagnostic::error(format!("`{key}` is missing"))
                .label(span, format!("should have a key `{key}`")),
            What::Other(message) => Diagnostic::error(message).label(span, "here"),
        }
    }
}

/// What a type expects, in the words of the file and not of the program.
fn in_words(expected: &str) -> String {
    let words = match expected {
        "a string" | "path string" => "text",
        "a boolean" => "true or false",
        "u32" | "i64" | "usize" => "a whole number",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    words.to_owned()
}

fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.what)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Other(message.to_string()))
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = in_words(&expected.to_string());
        Self::new(What::Type { expected })
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = in_words(&expected.to_string());
        match found {
            de::Unexpected::Signed(number) => {
                Self::new(What::Other(format!("`{number}` is not {expected}")))
            }
            found => Self::new(What::Other(format!("{found} is not {expected}"))),
        }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let found = field.to_owned();
        Self::new(What::Key { found, known })
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let found = variant.to_owned();
        Self::new(What::Word { found, known })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(What::Missing(field))
    }
}

/// A node that is being read.
#[derive(Clone, Copy)]
struct Reading<'de>(&'de Node);

impl<'de> Deserializer<'de> for Reading<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
            }),
            Value::Table(table) => visitor.visit_map(Entries {
                entries: table.iter().collect::<Vec<_>>().into_iter(),
                value: None,
            }),
            Value::Broken => visitor.visit_none(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.value {
            Value::Broken => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if is_spanned(name) {
            return visitor.visit_map(SpannedDeserializer::new(self, self.0.span.clone()));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            // Not `invalid_type`: the visitor's own expectation is `enum Name`, which means nothing
            // to people.
            Value::Table(table) if table.len() == 1 => {
                let entries = table.iter().collect::<Vec<_>>().into_iter();
                let entries = Entries {
                    entries,
                    value: None,
                };
                visitor.visit_enum(de::value::MapAccessDeserializer::new(entries))
            }
            Value::Table(_) => Err(de::Error::custom("expected a table with exactly one key")),
            _ => Err(Error::new(What::Type {
                expected: "text".to_owned(),
            })),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Reading<'de> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

struct Items<'de> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let readable = |(_, node): &(usize, &Node)| !matches!(node.value, Value::Broken);
        let Some((index, node)) = self.items.find(readable) else {
            return Ok(None);
        };
        let value = seed.deserialize(Reading(node));
        value
            .map(Some)
            .map_err(|error| error.at(Step::Index(index)))
    }
}

struct Entries<'de> {
    entries: vec::IntoIter<(&'de String, &'de Item)>,
    value: Option<(&'de String, &'de Item)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let readable = |(_, item): &(&String, &Item)| !matches!(item.node.value, Value::Broken);
        let Some((key, item)) = self.entries.find(readable) else {
            return Ok(None);
        };
        self.value = Some((key, item));
        let name: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|mut error| {
            error.key = Some(item.key.clone());
            error.at(Step::Key(key.clone()))
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, item) = self.value.take().expect("a key comes before its value");
        let value = seed.deserialize(Reading(&item.node));
        value.map_err(|error| error.at(Step::Key(key.clone())))
    }
}
