//! The data of an event: JSON that is carried, and read only by those whom it concerns.
//!
//! Most events are looked at for where they go, not for what they say; a decoded tree takes two to three times the memory of its
//! text, and each hand that it goes through would copy it. So it stays the text that it came as, shared, in the order in which its
//! sender wrote it. Whatever comes from outside has been checked here once: it can be decoded, always, within `serde_json`'s limits.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// JSON, as text. A clone is the same text.
#[derive(Clone)]
pub struct Data(Arc<RawValue>);

impl Data {
    /// The JSON of a value.
    ///
    /// # Errors
    /// When it has none: a key that is no text, or its own serialiser's refusal.
    pub fn of<T: Serialize>(value: &T) -> serde_json::Result<Self> {
        to_raw_value(value).map(|raw| Self(raw.into()))
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// The whole tree, decoded anew at each call.
    #[must_use]
    pub fn value(&self) -> Value {
        // It can be decoded; should that ever be untrue, nothing is said by it.
        self.read().unwrap_or_default()
    }

    /// What a reader wants of it.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn read<'data, T: Deserialize<'data>>(&'data self) -> serde_json::Result<T> {
        serde_json::from_str(self.text())
    }
}

impl From<Value> for Data {
    fn from(value: Value) -> Self {
        // A tree of JSON has a text.
        Self::of(&value).unwrap_or_default()
    }
}

impl Default for Data {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned().into())
    }
}

/// By what it says, not by how it is written.
impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text() || self.value() == other.value()
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        // Taken as text, a number may be too large, a text have half a character, or all of it lie too deep to be decoded.
        serde_json::from_str::<Decodable>(raw.get()).map_err(de::Error::custom)?;
        Ok(Self(raw.into()))
    }
}

/// Reads everything and keeps nothing.
struct Decodable;

impl<'de> Deserialize<'de> for Decodable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Decodable {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_str, from_value, json, to_string, to_value};

    use super::*;

    #[test]
    fn it_is_carried_as_it_came() {
        let text = r#"{"b": 1, "a": [1.50, "\u00e9"]}"#;
        let data: Data = from_str(text).unwrap();
        assert_eq!((data.text(), to_string(&data).unwrap().as_str()), (text, text));
        assert_eq!(data.value(), json!({"a": [1.5, "é"], "b": 1}));
        assert_eq!(to_value(&data).unwrap(), data.value());
        assert_eq!(from_value::<Data>(data.value()).unwrap(), data, "written in another way");
        assert_ne!(data, json!({"a": 1}).into());
        assert_eq!(Data::default(), Value::Null.into());
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_where_it_comes_in() {
        let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        for bad in ["", "{", "1e999", r#""\ud800""#, r#"{"a": [1e999]}"#, &deep] {
            let (data, tree) = (from_str::<Data>(bad), from_str::<Value>(bad));
            assert!(data.is_err() && tree.is_err(), "{}", bad.chars().take(20).collect::<String>());
        }
        for good in ["null", "7", "-1.5e3", "[[]]", r#"{"": {}}"#, "18446744073709551615", r#""\ud834\udd1e""#] {
            assert_eq!(from_str::<Data>(good).unwrap().value(), from_str::<Value>(good).unwrap());
        }
    }
}
