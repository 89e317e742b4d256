//! The JSON Schema of a configuration file, and the reference that is printed from it.

use super::document::Document;

/// The JSON Schema of a configuration file, from the types that read it.
pub fn schema() -> serde_json::Value {
    let schema = schemars::schema_for!(Document);
    schema.to_value()
}
