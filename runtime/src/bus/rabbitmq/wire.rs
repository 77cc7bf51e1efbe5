//! Events as AMQP messages, and lapin's errors as the bus's: the one table between the two.
//!
//! The body is the event as CloudEvents JSON (structured mode). Beside it travel the id, the priority, the trace and what only
//! the bus knows: how often the event failed and what went wrong first. These headers are the truth; the broker's own counts
//! are never used. A message of somebody else that is no event becomes a dead letter that shows it.

use std::sync::Arc;

use chrono::Utc;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, ErrorKind};
use serde_json::json;

use crate::bus::Error;
use crate::bus::place::now_us;
use crate::domain::event::Event;

/// Header: how often the event failed before; none where it never did, as in what strangers publish.
const RETRYCOUNT: &str = "retrycount";
/// Header: what went wrong first.
const FIRST_ERROR: &str = "firsterror";
/// Header: when it was published.
const SINCE: &str = "publishedat";
/// Header: the trace, where a stranger looks for it.
const TRACEPARENT: &str = "traceparent";
/// Longest text of a short string, in bytes.
const SHORT_BYTES_MAX: usize = 255;
const PERSISTENT: u8 = 2;

/// What the bus knows of an event beside the event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// How often it failed.
    pub(super) retrycount: u32,
    /// What went wrong first.
    pub(super) first_error: Option<String>,
    /// When it was published, in microseconds since 1970, by the clock of who published it.
    pub(super) since: Option<i64>,
}

impl Past {
    /// Of an event that is published now.
    pub(super) fn begins() -> Self {
        Self { since: Some(now_us()), ..Self::default() }
    }
}

/// The properties of an event.
pub(super) fn properties(event: &Event, past: &Past) -> BasicProperties {
    let mut headers = FieldTable::default();
    if past.retrycount > 0 {
        headers.insert(RETRYCOUNT.into(), AMQPValue::LongUInt(past.retrycount));
    }
    headers.insert(TRACEPARENT.into(), text(event.traceparent.as_str()));
    if let Some(since) = past.since {
        headers.insert(SINCE.into(), AMQPValue::LongLongInt(since));
    }
    if let Some(error) = &past.first_error {
        headers.insert(FIRST_ERROR.into(), text(error));
    }
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/cloudevents+json".into())
        .with_priority(event.priority.into())
        .with_headers(headers);
    // A longer id is in the body alone.
    if event.id.len() <= SHORT_BYTES_MAX { properties.with_message_id(event.id.as_str().into()) } else { properties }
}

/// The properties of an entry of a stream, with some headers.
pub(super) fn entry(headers: &[(&str, &str)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), text(value));
    }
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_headers(table)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text.as_bytes()))
}

/// A header's text.
pub(super) fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

/// A header's text.
pub(super) fn header_text(properties: &BasicProperties, name: &str) -> Option<String> {
    match header(properties, name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// A header's number.
pub(super) fn header_number(properties: &BasicProperties, name: &str) -> Option<u64> {
    match header(properties, name)? {
        AMQPValue::ShortShortInt(number) => u64::try_from(*number).ok(),
        AMQPValue::ShortShortUInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => u64::try_from(*number).ok(),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => u64::try_from(*number).ok(),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// What the bus knows of a message.
pub(super) fn past(properties: &BasicProperties) -> Past {
    let retrycount = header_number(properties, RETRYCOUNT).unwrap_or_default();
    Past {
        retrycount: u32::try_from(retrycount).unwrap_or(u32::MAX),
        first_error: header_text(properties, FIRST_ERROR),
        since: header_number(properties, SINCE).and_then(|since| i64::try_from(since).ok()),
    }
}

/// The event of a message, or what a dead letter shows of a message that is none.
pub(super) fn event(
    properties: &BasicProperties,
    routing_key: &str,
    body: &[u8],
) -> Result<Arc<Event>, Box<Unreadable>> {
    let error = match serde_json::from_slice(body) {
        Ok(event) => return Ok(Arc::new(event)),
        Err(error) => error.to_string(),
    };
    let shown: String = String::from_utf8_lossy(body).chars().take(SHOWN_CHARS_MAX).collect();
    let data = json!({ "routing_key": routing_key, "bytes": body.len(), "body": shown });
    let mut event = Event::new(unreadable_topic(), "/rabbitmq", data);
    if let Some(id) = properties.message_id() {
        id.as_str().clone_into(&mut event.id);
    }
    event.time = Utc::now();
    Err(Box::new(Unreadable { event, error }))
}

/// Characters of a message that is no event which its dead letter keeps.
const SHOWN_CHARS_MAX: usize = 64 * 1024;

/// A message that is no event.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// What its dead letter shows.
    pub(super) event: Event,
    /// Why it is none.
    pub(super) error: String,
}

fn unreadable_topic() -> crate::domain::topic::Topic {
    crate::domain::topic::Topic::unreadable()
}

/// A name as AMQP takes it.
pub(super) fn name(text: &str) -> Result<ShortString, Error> {
    if text.is_empty() || text.len() > SHORT_BYTES_MAX {
        return Err(Error::Internal(format!("a name in AMQP has 1 to {SHORT_BYTES_MAX} bytes, not {}", text.len())));
    }
    Ok(text.into())
}

/// The name of an exchange; the default one has none.
pub(super) fn exchange(text: &str) -> Result<ShortString, Error> {
    if text.is_empty() { Ok(ShortString::default()) } else { name(text) }
}

/// What the broker's refusal of something to do with `what` means.
pub(super) fn refused(error: &lapin::Error, what: &str) -> Error {
    let ErrorKind::ProtocolError(refusal) = error.kind() else {
        return Error::Unavailable(format!("{what}: {error}"));
    };
    let said = refusal.get_message().to_string();
    match refusal.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Error::NoQueue(what.to_owned()),
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Error::Misdeclared {
            what: what.to_owned(),
            seen: said,
            advice: format!(
                "let it run empty, delete it (rabbitmqctl delete_queue {what}) and start again: it is then made anew"
            ),
        },
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Error::Misdeclared {
            what: what.to_owned(),
            seen: said,
            advice: "give the user of AMQP_URL the rights to configure, write and read in this vhost".to_owned(),
        },
        _ => Error::Unavailable(format!("{what}: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Priority;

    #[test]
    fn what_the_bus_knows_of_an_event_travels_in_its_headers() {
        let mut event = Event::new("a.b".parse().unwrap(), "/t", json!(1));
        event.priority = Priority::try_from(7).unwrap();
        let known =
            Past { retrycount: 3, first_error: Some("at first".to_owned()), since: Some(1_700_000_000_000_000) };
        let properties = properties(&event, &known);
        assert_eq!(past(&properties), known);
        assert_eq!(properties.priority(), &Some(7));
        assert_eq!(properties.delivery_mode(), &Some(PERSISTENT));
        assert_eq!(header_text(&properties, TRACEPARENT).as_deref(), Some(event.traceparent.as_str()));
        assert_eq!(past(&BasicProperties::default()), Past::default());
    }

    #[test]
    fn a_message_that_is_no_event_is_shown_as_it_is() {
        let properties = BasicProperties::default().with_message_id("theirs".into());
        let unreadable = event(&properties, "their.key", b"{\"no\": \"event\"}").unwrap_err();
        assert_eq!(unreadable.event.id, "theirs");
        assert_eq!(unreadable.event.data.value()["body"], "{\"no\": \"event\"}");
        assert!(unreadable.error.contains("missing field"), "{}", unreadable.error);
    }
}
