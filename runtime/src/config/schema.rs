//! A table of keys as a JSON Schema (draft 2020-12), for editors and `troupe schema`.
//!
//! Made from the same table that the check uses, so what an editor underlines is what the node refuses. Rules between
//! keys are not in the schema; the node says those.

use serde_json::{Map, Value, json};

use super::measure::{DURATION_PATTERN, SIZE_PATTERN};
use super::table::{Change, Key, Kind, Need, Table};
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
    let doc = match key.change {
        Change::Restart => format!("{} A change needs a restart of the node.", key.doc),
        Change::Live | Change::Parts => key.doc.to_owned(),
    };
    schema.insert("description".to_owned(), doc.into());
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

#[cfg(test)]
mod tests {
    use super::super::located::Node;
    use super::super::{agent_schema, node_schema};
    use super::*;

    /// What of draft 2020-12 our schemas use, as a judge that knows nothing of tables.
    fn accepts(schema: &Value, value: &Value) -> bool {
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let all = |key: &str, judge: &dyn Fn(&Value) -> bool| schema.get(key).is_none_or(judge);
        let shape = match schema.get("type").and_then(Value::as_str) {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_u64(),
            Some("number") => value.is_number(),
            Some(other) => panic!("a new type {other}"),
            None => true,
        };
        let text = value.as_str();
        let inside = value.as_f64().is_none_or(|n| {
            number("minimum").is_none_or(|min| n >= min) && number("maximum").is_none_or(|max| n <= max)
        });
        let properties = value.as_object().is_none_or(|map| {
            map.iter().all(|(key, value)| match schema.pointer("/properties").and_then(|known| known.get(key)) {
                Some(property) => value.is_null() || accepts(property, value),
                None => match schema.get("additionalProperties") {
                    Some(Value::Bool(allowed)) => *allowed,
                    Some(of) => accepts(of, value),
                    None => true,
                },
            })
        });
        let items = value.as_array().is_none_or(|items| all("items", &|of| items.iter().all(|item| accepts(of, item))));
        let words = |list: &Value| list.as_array().unwrap().clone();
        shape
            && inside
            && properties
            && items
            && all("required", &|keys| words(keys).iter().all(|key| value.get(key.as_str().unwrap()).is_some()))
            && all("enum", &|choice| words(choice).contains(value))
            && all("pattern", &|of| {
                text.is_none_or(|text| regex::Regex::new(of.as_str().unwrap()).unwrap().is_match(text))
            })
            && all("oneOf", &|of| words(of).iter().filter(|schema| accepts(schema, value)).count() == 1)
            && all("anyOf", &|of| words(of).iter().any(|schema| accepts(schema, value)))
    }

    fn file(path: &str) -> Option<Value> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = std::fs::read_to_string(path).unwrap();
        parse(&"f".into(), &text, &YamlBudget::default()).ok().as_ref().map(Node::to_json)
    }

    #[test]
    fn the_schema_accepts_what_loads() {
        let schema = agent_schema();
        let specs = ["autonomous", "collaborative", "continuous", "scheduled"];
        let examples = specs.map(|mode| format!("../config/agents/example-{mode}.yaml"));
        for path in
            examples.iter().map(String::as_str).chain(["testdata/specs/full.yaml", "testdata/specs/writer.yaml"])
        {
            assert!(accepts(&schema, &file(path).unwrap()), "{path}");
        }
    }

    #[test]
    fn the_schema_refuses_what_is_refused() {
        let schema = agent_schema();
        for name in [
            "01-unknown-key",
            "02-missing-key",
            "03-wrong-type",
            "04-bad-duration",
            "06-unknown-provider",
            "07-unknown-tool",
        ] {
            assert!(!accepts(&schema, &file(&format!("testdata/specs/broken/{name}.yaml")).unwrap()), "{name}");
        }
    }

    #[test]
    fn the_defaults_of_the_node_fit_its_schema() {
        let schema = node_schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let mut defaults = 0;
        let mut open = vec![&schema];
        while let Some(schema) = open.pop() {
            for property in schema["properties"].as_object().into_iter().flat_map(Map::values) {
                if let Some(default) = property.get("default") {
                    assert!(accepts(property, default), "{property:#}");
                    defaults += 1;
                }
                open.push(property);
            }
        }
        assert!(defaults > 40, "{defaults}");
        assert!(accepts(&schema, &json!({"steps": {"per_node_max": 1}, "bus": {"event_bytes_max": "64 KiB"}})));
        assert!(!accepts(&schema, &json!({"steps": {"per_node_max": 0}})));
        assert!(!accepts(&schema, &json!({"stops": {}})));
    }
}
