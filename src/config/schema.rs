//! The JSON Schema of a configuration file, from the types that read it.

use serde_json::{Map, Value, json};

use super::{compile::unsupported::SETTINGS, document::Document};

/// The tables that hold settings.
const SETTINGS_TABLES: [&str; 4] = ["DefaultsTable", "PolicyTable", "ServerTable", "EntryTable"];
/// What the description of a key says whose feature does not exist.
pub(super) const NOT_YET: &str = "Not supported yet.";

/// The JSON Schema of a configuration file.
///
/// Keys that are known but not supported yet say so in their descriptions.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    without_null(&mut schema);
    for table in SETTINGS_TABLES {
        for path in SETTINGS {
            mark(&mut schema, table, path);
        }
    }
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), json!("barkeep configuration"));
    }
    schema
}

/// The properties of a table of the schema.
pub(super) fn properties<'a>(schema: &'a Value, table: &str) -> Option<&'a Map<String, Value>> {
    let table = match table {
        "Document" => schema,
        table => schema.get("$defs")?.get(table)?,
    };
    table.get("properties")?.as_object()
}

/// The table that a property holds, also as its long form or as an element of a list.
pub(super) fn table_of(property: &Value) -> Option<&str> {
    if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
        let name = reference.strip_prefix("#/$defs/")?;
        return name.ends_with("Table").then_some(name);
    }
    if let Some(choices) = property.get("anyOf").and_then(Value::as_array) {
        return choices.iter().find_map(table_of);
    }
    let nested = property
        .get("items")
        .or_else(|| property.get("additionalProperties"));
    nested.and_then(table_of)
}

/// TOML has no null: an optional key is simply absent.
fn without_null(value: &mut Value) {
    let Value::Object(object) = value else {
        if let Value::Array(items) = value {
            items.iter_mut().for_each(without_null);
        }
        return;
    };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|one| one != "null"));
        if let [Value::Object(only)] = &choices[..] {
            let only = only.clone();
            object.remove("anyOf");
            for (key, one) in only {
                object.entry(key).or_insert(one);
            }
        }
    }
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    object.values_mut().for_each(without_null);
}

/// Says of a key, given by its path from a table, that it is not supported yet.
fn mark(schema: &mut Value, table: &str, path: &str) {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    if !rest.is_empty() {
        let nested = properties(schema, table)
            .and_then(|all| all.get(key))
            .and_then(table_of);
        if let Some(nested) = nested.map(ToOwned::to_owned) {
            mark(schema, &nested, rest);
        }
        return;
    }
    let table = match table {
        "Document" => Some(schema),
        table => schema.get_mut("$defs").and_then(|all| all.get_mut(table)),
    };
    let property = table
        .and_then(|table| table.get_mut("properties"))
        .and_then(|all| all.get_mut(key));
    if let Some(Value::String(text)) = property.and_then(|property| property.get_mut("description"))
        && !text.ends_with(NOT_YET)
    {
        text.push(' ');
        text.push_str(NOT_YET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a key of a table, given by its path, says that it is not supported yet.
    fn is_marked(schema: &Value, table: &str, path: &str) -> bool {
        let (key, rest) = path.split_once('.').unwrap_or((path, ""));
        let property = properties(schema, table).and_then(|all| all.get(key));
        let property = property.unwrap_or_else(|| panic!("`{table}` has no key `{path}`"));
        if rest.is_empty() {
            let text = property.get("description").and_then(Value::as_str);
            return text.is_some_and(|text| text.ends_with(NOT_YET));
        }
        is_marked(schema, table_of(property).expect("a table"), rest)
    }

    #[test]
    fn every_key_that_is_refused_exists_and_says_so() {
        let schema = schema();
        for path in SETTINGS {
            assert!(is_marked(&schema, "EntryTable", path), "{path}");
        }
        assert!(!is_marked(&schema, "EntryTable", "wal.compression.codec"));
    }

    #[test]
    fn no_key_may_be_null() {
        let text = schema().to_string();
        assert!(!text.contains("null"), "{text}");
    }
}
