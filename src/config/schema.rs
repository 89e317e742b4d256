//! The JSON Schema of a configuration file, from the types that read it.

use serde_json::{Map, Value, json};

use super::document::Document;

/// The JSON Schema of a configuration file.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    without_null(&mut schema);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_may_be_null() {
        let text = schema().to_string();
        assert!(!text.contains("null"), "{text}");
    }
}
