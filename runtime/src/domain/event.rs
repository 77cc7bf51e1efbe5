//! The event: an immutable fact on the bus, as a CloudEvents 1.0 envelope in JSON.
//!
//! `type` is the topic. Extension attributes carry the trace (`traceparent`, CloudEvents distributed tracing), the
//! `priority` 0–9 and the cause (`causationid`). `retrycount` is advisory here: the bus counts for itself.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use chrono::{DateTime, Utc};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::data::Data;
use super::ids::new_event_id;
use super::text::as_text;
use super::topic::Topic;

/// What most envelopes need around their data, in bytes: their text does not have to grow.
const ENVELOPE_BYTES: usize = 768;
/// Longest id that is taken, in bytes.
pub const ID_BYTES_MAX: usize = 256;

/// An immutable fact on the bus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Always `1.0`.
    #[serde(default = "specversion")]
    pub specversion: String,
    /// Unique; with an agent's name it is the key of the task. Ours are UUIDv7, others are taken as they come.
    pub id: String,
    /// The topic.
    #[serde(rename = "type")]
    pub topic: Topic,
    /// Who made it: `/slack/T123`, `/api`, `/agents/researcher`.
    pub source: String,
    /// When.
    #[serde(default = "Utc::now")]
    pub time: DateTime<Utc>,
    /// What it is about, e.g. a channel and thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The trace that it belongs to.
    #[serde(default = "TraceParent::new")]
    pub traceparent: TraceParent,
    /// 0 (last) to 9 (first).
    #[serde(default)]
    pub priority: Priority,
    /// How often it was retried before; advisory.
    #[serde(default)]
    pub retrycount: u32,
    /// The event that caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causationid: Option<String>,
    /// The payload.
    #[serde(default)]
    pub data: Data,
}

fn specversion() -> String {
    "1.0".to_owned()
}

impl Event {
    /// A new event with a fresh id and trace.
    #[must_use]
    pub fn new(topic: Topic, source: impl Into<String>, data: impl Into<Data>) -> Self {
        Self {
            specversion: specversion(),
            id: new_event_id(),
            topic,
            source: source.into(),
            time: Utc::now(),
            subject: None,
            traceparent: TraceParent::new(),
            priority: Priority::default(),
            retrycount: 0,
            causationid: None,
            data: data.into(),
        }
    }

    /// An event that follows from `cause`, in its trace and with its priority. Whoever gives it an id that is derived makes the same
    /// event whenever it does so again.
    #[must_use]
    pub fn following(cause: &Self, id: String, topic: Topic, source: String, time: DateTime<Utc>, data: Data) -> Self {
        Self {
            specversion: specversion(),
            id,
            topic,
            source,
            time,
            subject: None,
            traceparent: cause.traceparent.child(),
            priority: cause.priority,
            retrycount: 0,
            causationid: Some(cause.id.clone()),
            data,
        }
    }

    /// The same once more, as a new event that this one has caused, in the same trace: for a replay.
    #[must_use]
    pub fn again(self) -> Self {
        Self {
            id: new_event_id(),
            time: Utc::now(),
            traceparent: self.traceparent.child(),
            retrycount: 0,
            causationid: Some(self.id),
            ..self
        }
    }

    /// The envelope as JSON, as it travels and as it is kept.
    ///
    /// # Errors
    /// The serialiser's; all that is in it has JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        let mut json = Vec::with_capacity(ENVELOPE_BYTES + self.data.text().len());
        serde_json::to_writer(&mut json, self)?;
        String::from_utf8(json).map_err(serde::ser::Error::custom)
    }

    /// The text an agent is given: `data.text`, else `data.input`, else the whole data as JSON.
    #[must_use]
    pub fn input(&self) -> String {
        #[derive(Deserialize)]
        struct Said {
            text: String,
        }
        // What most events are, without a tree of the rest. An array would be read as a struct too.
        if self.data.text().starts_with('{')
            && let Ok(Said { text }) = self.data.read()
        {
            return text;
        }
        let mut data = self.data.value();
        for key in ["text", "input"] {
            match data.get_mut(key).map(Value::take) {
                Some(Value::String(text)) => return text,
                Some(Value::Null) | None => {}
                Some(other) => return other.to_string(),
            }
        }
        match data {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }
}

/// Priority 0–9; 9 goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

/// A number that is no priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no priority: 0 (last) to 9 (first)")]
pub struct BadPriority(pub u8);

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

impl TryFrom<u8> for Priority {
    type Error = BadPriority;

    fn try_from(number: u8) -> Result<Self, BadPriority> {
        if number <= 9 { Ok(Self(number)) } else { Err(BadPriority(number)) }
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// Bytes of a [`TraceParent`].
const TRACE_PARENT_BYTES: usize = 55;

/// W3C Trace Context: `00-<trace id>-<parent id>-<flags>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceParent(String);

as_text!(TraceParent);

/// A text that is no traceparent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent (W3C Trace Context, section 3.2): {0:?}")]
pub struct BadTraceParent(pub String);

impl TraceParent {
    /// A fresh, sampled trace.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
    pub fn new() -> Self {
        let mut rng = rand::rng();
        let (trace, span): (u128, u64) = (rng.random(), rng.random());
        Self::made(format_args!("00-{:032x}-{:016x}-01", trace | 1, span | 1))
    }

    /// A child of this trace: same trace id, fresh parent id.
    #[must_use]
    pub fn child(&self) -> Self {
        let span: u64 = rand::rng().random();
        Self::made(format_args!("00-{}-{:016x}-{}", self.trace_id(), span | 1, &self.0[53..]))
    }

    fn made(text: fmt::Arguments<'_>) -> Self {
        let mut made = String::with_capacity(TRACE_PARENT_BYTES);
        // A string takes everything.
        made.write_fmt(text).ok();
        Self(made)
    }

    /// The 32 hex digits that every span and log line of the task share.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }

    /// The whole header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TraceParent {
    type Err = BadTraceParent;

    fn from_str(text: &str) -> Result<Self, BadTraceParent> {
        let lower_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let nonzero = |part: &str| part.bytes().any(|b| b != b'0');
        let mut parts = text.split('-');
        match std::array::from_fn(|_| parts.next()) {
            [Some("00"), Some(trace), Some(span), Some(flags), None]
                if trace.len() == 32
                    && span.len() == 16
                    && flags.len() == 2
                    && lower_hex(trace)
                    && lower_hex(span)
                    && lower_hex(flags)
                    && nonzero(trace)
                    && nonzero(span) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(BadTraceParent(text.chars().take(80).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_envelope_survives_the_wire_and_fills_what_is_optional() {
        let topic: Topic = "agent.task.a".parse().unwrap();
        let event = Event::new(topic, "/api", json!({"text": "hello"}));
        let wire = serde_json::to_value(&event).unwrap();
        assert_eq!(wire["specversion"], "1.0");
        assert_eq!(wire["type"], "agent.task.a");
        assert_eq!(serde_json::from_value::<Event>(wire).unwrap(), event);

        let short: Event =
            serde_json::from_value(json!({"id": "x", "type": "a.b", "source": "/t", "data": {"n": 1}})).unwrap();
        assert_eq!(u8::from(short.priority), 5);
        assert_eq!(short.input(), r#"{"n":1}"#);
    }

    #[test]
    fn bad_priorities_and_traces_are_refused() {
        assert!(serde_json::from_value::<Priority>(json!(10)).is_err());
        let trace = TraceParent::new();
        assert_eq!(trace.child().trace_id(), trace.trace_id());
        assert_ne!(trace.child(), trace);
        for bad in ["", "00-1-2-3", &trace.as_str().to_uppercase().replace("00-", "01-")] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
        let zero = format!("00-{}-{}-01", "0".repeat(32), "1".repeat(16));
        assert!(zero.parse::<TraceParent>().is_err());
    }

    #[test]
    fn the_input_is_text_where_there_is_text() {
        let topic: Topic = "a".parse().unwrap();
        let input = |data| Event::new(topic.clone(), "/t", data).input();
        assert_eq!(input(json!({"text": "hi", "input": "no"})), "hi");
        assert_eq!(input(json!({"input": {"a": 1}})), r#"{"a":1}"#);
        assert_eq!(input(json!("plain")), "plain");
        assert_eq!(input(json!({"text": null, "input": "hi"})), "hi");
        assert_eq!(input(json!({"text": ["hi"]})), r#"["hi"]"#);
        assert_eq!(input(serde_json::from_str(r#"{"text": "no", "text": "hi"}"#).unwrap()), "hi");
        assert_eq!(input(json!(["hi"])), r#"["hi"]"#);
    }
}
