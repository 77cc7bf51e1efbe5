//! The tree of a configuration in which every key and every value knows where it stands.
//!
//! [`super::yaml`] makes it from a file, [`super::node`] lays variables and flags over it, [`super::check`] holds it
//! against a table of keys, and the decoders read it. Reading never fails here: a value of the wrong shape reads as
//! `None`, because the check has already said so with its place.

use std::fmt::Write as _;

use super::problem::At;

/// How much of a text is quoted in a message.
const QUOTE_CHARS_MAX: usize = 40;

/// A value and where it stands.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// A value of YAML's core schema.
#[derive(Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Whole(i128),
    /// A number with a point or an exponent, as written: money is read from its digits, not from a float.
    Decimal(String),
    Text(String),
    /// A value of a variable or a flag, which has no quotes to tell a number from a text: reads as either.
    Loose(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: At,
    pub(crate) node: Node,
}

/// Places do not matter for equality: two ways to write one thing are equal.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for At {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Value {
    /// What a plain (unquoted) scalar means.
    pub(crate) fn plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Self::Text(text.to_owned());
        }
        let whole = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
            (Some(hex), _) => i128::from_str_radix(hex, 16),
            (_, Some(octal)) => i128::from_str_radix(octal, 8),
            _ => text.parse(),
        };
        match whole {
            Ok(number) => Self::Whole(number),
            Err(_) if is_decimal(digits) => Self::Decimal(text.to_owned()),
            Err(_) => Self::Text(text.to_owned()),
        }
    }
}

impl Node {
    /// The value of `key`; `None` when it is absent, empty or this is no mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node).filter(|node| node.value != Value::Null)
    }

    /// The key with its value, empty or not.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries of a mapping; empty otherwise.
    pub(crate) fn entries(&self) -> &[Entry] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items of a list; empty otherwise.
    pub(crate) fn items(&self) -> &[Self] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// A text.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Value::Text(text) | Value::Loose(text) = &self.value { Some(text) } else { None }
    }

    /// A whole number that is not negative and fits.
    pub(crate) fn whole(&self) -> Option<u64> {
        match &self.value {
            Value::Whole(number) => u64::try_from(*number).ok(),
            Value::Loose(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The digits of a number, as written.
    pub(crate) fn digits(&self) -> Option<String> {
        match &self.value {
            Value::Whole(number) => Some(number.to_string()),
            Value::Decimal(text) | Value::Loose(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// What may be an amount with a unit: texts, and bare numbers that lack one.
    pub(crate) fn amount(&self) -> Option<String> {
        self.text().map(str::to_owned).or_else(|| self.digits())
    }

    /// What stands here, for a message: `the number 60`, `the text "yes"`, `a list`.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(truth) => truth.to_string(),
            Value::Whole(number) => format!("the number {number}"),
            Value::Decimal(text) => format!("the number {}", short(text)),
            Value::Text(text) | Value::Loose(text) => format!("{:?}", short(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The kind of what stands here and nothing of its content: for secrets.
    pub(crate) fn found_kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Whole(_) | Value::Decimal(_) => "a number",
            Value::Text(_) | Value::Loose(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The same without places, as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(truth) => (*truth).into(),
            Value::Whole(number) => i64::try_from(*number)
                .map(Json::from)
                .or_else(|_| u64::try_from(*number).map(Json::from))
                .unwrap_or_else(|_| number.to_string().into()),
            Value::Decimal(text) => text.parse::<f64>().map_or_else(|_| Json::from(text.as_str()), Json::from),
            Value::Text(text) | Value::Loose(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
        }
    }
}

/// A text cut for a message.
pub(crate) fn short(text: &str) -> String {
    let mut cut: String = text.chars().take(QUOTE_CHARS_MAX).collect();
    if cut.len() < text.len() {
        let _ = write!(cut, "…");
    }
    cut
}

/// Digits with at most one point and one exponent.
fn is_decimal(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'))
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_yaml_1_2_says() {
        assert!(Value::plain("~") == Value::Null);
        assert!(Value::plain("true") == Value::Bool(true));
        assert!(Value::plain("yes") == Value::Text("yes".into()));
        assert!(Value::plain("-12") == Value::Whole(-12));
        assert!(Value::plain("0x10") == Value::Whole(16));
        assert!(Value::plain("0.50") == Value::Decimal("0.50".into()));
        assert!(Value::plain("1e3") == Value::Decimal("1e3".into()));
        for text in ["60s", "1.2.3", "12:30", "2026-01-01", ".", "-", "0xzz", "1e999"] {
            assert!(Value::plain(text) == Value::Text(text.into()), "{text}");
        }
    }

    #[test]
    fn a_variable_reads_as_what_is_asked_for() {
        let node = Node { at: At::named("X"), value: Value::Loose("12".into()) };
        assert_eq!((node.text(), node.whole()), (Some("12"), Some(12)));
    }

    #[test]
    fn long_texts_are_cut_in_messages() {
        let node = Node { at: At::named("X"), value: Value::Text("ü".repeat(100)) };
        assert_eq!(node.found().chars().count(), QUOTE_CHARS_MAX + 3);
    }
}
