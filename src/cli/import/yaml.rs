//! YAML or JSON as a tree whose parts know their lines. Scalars are texts: what they mean, whoever reads them knows.

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};

use super::note::Place;

/// A part of a document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a part is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Nothing,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Reads all documents of a text. The error has the line and the complaint.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Node>, (Place, String)> {
    let documents = MarkedYaml::load_from_str(text).map_err(|error| {
        let line = error.marker().line();
        (Place::new(file, line), error.info().to_owned())
    })?;
    let mut nodes = Vec::new();
    for document in &documents {
        let node = node(document, file);
        // What `kubectl get` prints of several objects.
        match node.get("items").map(|items| &items.value) {
            Some(Value::List(items)) if node.text("kind").as_deref() == Some("List") => {
                nodes.extend(items.iter().cloned());
            }
            _ => nodes.push(node),
        }
    }
    Ok(nodes)
}

fn node(yaml: &MarkedYaml<'_>, file: &str) -> Node {
    let value = match &yaml.data {
        YamlData::Value(scalar) => scalar_value(scalar),
        YamlData::Representation(text, ..) => Value::Scalar(text.to_string()),
        YamlData::Tagged(_, inner) => return node(inner, file),
        YamlData::Sequence(items) => {
            Value::List(items.iter().map(|item| node(item, file)).collect())
        }
        YamlData::Mapping(entries) => {
            let entry = |(key, value): (&MarkedYaml<'_>, &MarkedYaml<'_>)| {
                let mut value = node(value, file);
                // Where the key is: a value may begin on a line below.
                value.place.line = key.span.start.line();
                match node(key, file).value {
                    Value::Scalar(key) => Some((key, value)),
                    _ => None,
                }
            };
            Value::Map(entries.iter().filter_map(entry).collect())
        }
        YamlData::Alias(_) | YamlData::BadValue => Value::Nothing,
    };
    Node {
        place: Place::new(file, yaml.span.start.line()),
        value,
    }
}

fn scalar_value(scalar: &Scalar<'_>) -> Value {
    Value::Scalar(match scalar {
        Scalar::Null => return Value::Nothing,
        Scalar::Boolean(flag) => flag.to_string(),
        Scalar::Integer(number) => number.to_string(),
        Scalar::FloatingPoint(number) => number.to_string(),
        Scalar::String(text) => text.to_string(),
    })
}

impl Node {
    /// The part behind a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let found = self.entries().iter().find(|(known, _)| known == key);
        found.map(|(_, node)| node)
    }

    /// The part behind several keys, each in the part of the one before.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a map.
    pub(super) fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text behind a key.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.get(key)?.scalar()
    }

    /// The text that this is.
    pub(super) fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Scalar(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Whether a key is set to true.
    pub(super) fn is_true(&self, key: &str) -> bool {
        self.text(key).as_deref() == Some("true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_know_their_lines_in_yaml_and_json() {
        let yaml = "a:\n  - b: 1\n    c: true\n---\n\nd: x\n";
        let read_yaml = read("f", yaml).expect("it is YAML");
        let first = read_yaml[0].get("a").expect("a").items()[0].clone();
        assert_eq!(
            (first.text("b").as_deref(), first.is_true("c")),
            (Some("1"), true)
        );
        assert_eq!(first.get("c").expect("c").place.line, 3);
        assert_eq!(read_yaml[1].get("d").expect("d").place.line, 6);
        let json = "{\"kind\": \"List\", \"items\": [\n{\"a\": {\"b\":\n \"c\"}}]}";
        let read_json = read("f", json).expect("it is JSON");
        let inner = read_json[0].at(&["a", "b"]).expect("it is there");
        assert_eq!(
            (inner.scalar().as_deref(), inner.place.line),
            (Some("c"), 2)
        );
        let (place, _) = read("f", "a:\n - b\n  c: [").expect_err("it is not");
        assert!(place.line >= 2, "{place}");
    }
}
