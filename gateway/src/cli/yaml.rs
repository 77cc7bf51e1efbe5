//! YAML out of JSON, for `-o yaml`: block style, strings plain where that is safe and quoted as in JSON where not.
//!
//! A double-quoted JSON string is a double-quoted YAML string, so quoting too much is never wrong; the list of what may
//! stay plain is short on purpose. Writing is all that the CLI needs: reading stays with the configuration.

use std::fmt::Write as _;

use serde_json::Value;

/// `value` as a YAML document, with a line break at its end.
#[must_use]
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Writes `value` where a block may stand: at the start of a line, indented by `depth` levels.
fn block(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, field) in fields {
                indent(text, depth);
                text.push_str(&scalar(key));
                text.push(':');
                below(text, field, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                block(&mut inner, item, depth + 1);
                indent(text, depth);
                text.push_str("- ");
                // The dash stands in the indentation of the item's first line.
                text.push_str(inner.get((depth + 1) * 2..).unwrap_or_default());
            }
        }
        other => {
            indent(text, depth);
            text.push_str(&leaf(other));
            text.push('\n');
        }
    }
}

/// Writes `value` behind a key.
fn below(text: &mut String, value: &Value, depth: usize) {
    let nested = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        text.push('\n');
        block(text, value, depth + 1);
    } else {
        // Writing to a String cannot fail.
        let _ = writeln!(text, " {}", leaf(value));
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(string) => scalar(string),
        other => other.to_string(),
    }
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

/// Plain when nobody could read anything else into it.
fn scalar(string: &str) -> String {
    let starts_like_a_word = string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let word = string.to_ascii_lowercase();
    let reserved = matches!(word.as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n");
    if starts_like_a_word && string.chars().all(harmless) && !reserved {
        string.to_owned()
    } else {
        Value::String(string.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_readable() {
        let value = json!({"agents": [{"name": "a", "steps": 1, "tags": []}, "plain"], "none": null, "since": "2026-01-01T00:00:00Z"});
        let expected = "agents:\n  - name: a\n    steps: 1\n    tags: []\n  - plain\nnone: null\nsince: \"2026-01-01T00:00:00Z\"\n";
        assert_eq!(document(&value), expected);
    }

    #[test]
    fn what_could_be_read_otherwise_is_quoted() {
        for (string, written) in [
            ("researcher", "researcher"),
            ("/api", "/api"),
            ("true", "\"true\""),
            ("No", "\"No\""),
            ("1e3", "\"1e3\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("- x", "\"- x\""),
            ("line\nbreak", "\"line\\nbreak\""),
        ] {
            assert_eq!(scalar(string), written);
        }
    }

    #[test]
    fn a_yaml_reader_gets_the_same_value_back() {
        let value = json!({
            "text": "with \"quotes\", \\, tabs\tand ünïcode \u{1}", "no": "yes", "empty": {}, "deep": [[1, [2]], {"k": [null, -1.5]}],
            "a key: odd": {"x": ["- y", "#z", "~"]}
        });
        let read: Value = serde_saphyr::from_str(&document(&value)).unwrap();
        assert_eq!(read, value);
    }
}
