//! A table of keys as a JSON Schema (draft 2020-12), for editors and `troupe schema`.
//!
//! Made from the same table that the check uses, so what an editor underlines is what the node refuses. Rules between
//! keys are not in the schema; the node says those.

use serde_json::{Map, Value, json};

use super::measure::{DURATION_PATTERN, SIZE_PATTERN};
use super::table::{Key, Kind, Need, Table};
use super::yaml::{YamlBudget, parse};

/// The schema of a whole file.
pub(crate) fn of(table: &Table, title: &str, description: &str) -> Value {
    let mut schema = mapping(table);
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), title.into());
    schema.insert("description".to_owned(), description.into());
    Value::Object(schema)
}

fn mapping(table: &Table) -> Map<String, Value> {
    let properties: Map<String, Value> = table.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        table.keys.iter().filter(|key| matches!(key.need, Need::Required)).map(|key| key.name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("additionalProperties".to_owned(), false.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    if !table.one_of.is_empty() {
        let choices: Vec<Value> = table.one_of.iter().map(|key| json!({"required": [key]})).collect();
        schema.insert("oneOf".to_owned(), choices.into());
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = match value(&key.kind) {
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    schema.insert("description".to_owned(), key.doc.into());
    if let Need::Default(default) = key.need
        && let Some(yaml) = default()
        && let Ok(node) = parse(&"default".into(), &yaml, &YamlBudget::default())
    {
        schema.insert("default".to_owned(), node.to_json());
    }
    Value::Object(schema)
}

fn value(kind: &Kind) -> Value {
    match kind {
        Kind::Truth => json!({"type": "boolean"}),
        Kind::Whole(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Usd(max) => json!({"type": "number", "minimum": 0, "maximum": max / 1_000_000}),
        Kind::Duration(..) => json!({"type": "string", "pattern": DURATION_PATTERN}),
        Kind::Size(min, max) => json!({"anyOf": [
            {"type": "integer", "minimum": min, "maximum": max},
            {"type": "string", "pattern": SIZE_PATTERN},
        ]}),
        Kind::Text(format) | Kind::Secret(format) => match format.pattern {
            Some(pattern) => json!({"type": "string", "pattern": pattern}),
            None => json!({"type": "string"}),
        },
        Kind::Choice(words) => json!({"type": "string", "enum": words}),
        Kind::List(of, max) => json!({"type": "array", "maxItems": max, "items": value(of)}),
        Kind::Map(of, max) => json!({"type": "object", "maxProperties": max, "additionalProperties": value(of)}),
        Kind::Table(table) => Value::Object(mapping(table)),
        Kind::Any => json!({}),
    }
}
