//! Words that are read from text: checked where it stands, kept once.
//!
//! Names, topics and traces arrive in every event and are cloned with it. serde's `try_from = "String"` would keep the text, check
//! it and throw it away, and its `into = "String"` copies a word to write it; here a word is parsed from the reader's own bytes.
//!
//! Used by the words of this module's neighbours. A text that is no such word is the reader's error, with the word's own message.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// Reads a word.
pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    deserializer.deserialize_str(Word(PhantomData))
}

struct Word<T>(PhantomData<T>);

impl<T: FromStr<Err: Display>> Visitor<'_> for Word<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// serde by the word's text, for a type with `as_str` and `FromStr`.
macro_rules! as_text {
    ($($word:ty),+) => {$(
        impl serde::Serialize for $word {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $word {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::domain::text::parsed(deserializer)
            }
        }

        impl std::fmt::Display for $word {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
}

pub(super) use as_text;

#[cfg(test)]
mod tests {
    use serde_json::{from_str, from_value, json, to_string};

    use super::super::event::TraceParent;
    use super::super::name::AgentName;
    use super::super::topic::{Topic, TopicPattern};

    #[test]
    fn a_word_is_its_text_on_the_wire() {
        let topic: Topic = from_str(r#""agent.task.a""#).unwrap();
        assert_eq!(to_string(&topic).unwrap(), r#""agent.task.a""#);
        // Escaped, it cannot be borrowed; from a value, it is owned.
        assert_eq!(from_str::<Topic>(r#""agent.\u0074ask.a""#).unwrap(), topic);
        assert_eq!(from_value::<Topic>(json!("agent.task.a")).unwrap(), topic);
        assert_eq!(from_str::<TopicPattern>(r#""agent.#""#).unwrap().to_string(), "agent.#");
        let trace = TraceParent::new();
        assert_eq!(from_str::<TraceParent>(&to_string(&trace).unwrap()).unwrap(), trace);
    }

    #[test]
    fn what_is_no_word_is_refused_with_its_reason() {
        let error = from_str::<AgentName>(r#""Big One""#).unwrap_err().to_string();
        assert!(error.starts_with(r#""Big One" is no agent name"#), "{error}");
        let error = from_value::<Topic>(json!(7)).unwrap_err().to_string();
        assert!(error.contains("expected a string"), "{error}");
    }
}
