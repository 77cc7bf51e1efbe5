//! `POST /v1/events`: one `CloudEvent` in structured JSON, onto the bus.
//!
//! Mandatory: an event that nobody would get is the caller's mistake and is told. An attribute that the envelope does
//! not carry is refused as well, for it would be lost without a word.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use troupe_runtime::domain::event::{Event, ID_BYTES_MAX};

use super::Admin;
use super::params::Body;
use super::problem::Problem;
use super::verb::clipped;
use crate::spool::{Stray, Taken};

/// Attributes that are carried.
const CARRIED: [&str; 11] = [
    "specversion",
    "id",
    "type",
    "source",
    "time",
    "subject",
    "traceparent",
    "priority",
    "retrycount",
    "causationid",
    "data",
];
/// Attributes that say what is so anyway.
const UNDERSTOOD: [&str; 3] = ["datacontenttype", "dataschema", "tracestate"];

/// Publishes an event.
pub(super) async fn publish(
    State(admin): State<Admin>,
    Body(body): Body<Map<String, Value>>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    admin.takes_work()?;
    let event = event(body)?;
    let (id, topic, trace) = (event.id.clone(), event.topic.clone(), event.traceparent.trace_id().to_owned());
    let (queues, spooled) = match admin.spool().publish(Arc::new(event), Stray::Bury).await? {
        Taken::Published(queues) => (Some(queues), false),
        // How many queues want it is found out when the bus is back.
        Taken::Spooled => (None, true),
    };
    let answer = json!({"id": id, "type": topic, "queues": queues, "spooled": spooled, "trace_id": trace});
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

fn event(mut body: Map<String, Value>) -> Result<Event, Problem> {
    let known = |name: &&String| CARRIED.contains(&name.as_str()) || UNDERSTOOD.contains(&name.as_str());
    if let Some(strange) = body.keys().find(|name| !known(name)) {
        let detail = format!("attribute {:?} is not carried; put it into data", clipped(strange));
        return Err(wrong(&clipped(strange), detail));
    }
    let json =
        |kind: &Value| kind.as_str().is_some_and(|kind| kind.starts_with("application/") && kind.contains("json"));
    if body.get("datacontenttype").is_some_and(|kind| !json(kind)) {
        return Err(wrong("datacontenttype", "datacontenttype: only JSON is carried"));
    }
    if body.get("specversion").is_some_and(|version| version != "1.0") {
        return Err(wrong("specversion", "specversion: only 1.0 is understood"));
    }
    body.retain(|name, _| CARRIED.contains(&name.as_str()));
    let event: Event = serde_path_to_error::deserialize(Value::Object(body)).map_err(|error| {
        let text = error.inner().to_string();
        // What is missing has no path of its own.
        let missing = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let field = missing.map_or_else(|| error.path().to_string(), str::to_owned);
        wrong(&field, format!("{field}: {text}"))
    })?;
    if event.id.is_empty() || event.id.len() > ID_BYTES_MAX {
        return Err(wrong("id", format!("id has 1 to {ID_BYTES_MAX} bytes")));
    }
    if event.source.is_empty() || event.source.len() > ID_BYTES_MAX {
        return Err(wrong("source", format!("source has 1 to {ID_BYTES_MAX} bytes")));
    }
    Ok(event)
}

/// A refusal that names the attribute for programs too.
fn wrong(field: &str, detail: impl Into<String>) -> Problem {
    Problem::invalid(detail).with("field", field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Event, Problem> {
        let Value::Object(body) = body else { panic!("an object") };
        event(body)
    }

    #[test]
    fn a_cloud_event_is_read_and_its_content_type_understood() {
        let body = json!({"specversion": "1.0", "id": "e1", "source": "/test", "type": "a.b", "priority": 9,
            "datacontenttype": "application/json", "data": {"text": "hi"}});
        let event = read(body).unwrap();
        assert_eq!((event.id.as_str(), event.topic.as_str(), event.input().as_str()), ("e1", "a.b", "hi"));
    }

    #[test]
    fn what_would_be_lost_or_makes_no_sense_is_refused() {
        let good = json!({"id": "e1", "source": "/test", "type": "a.b"});
        assert!(read(good.clone()).is_ok());
        let with = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            read(body).is_err()
        };
        assert!(with("myextension", json!("x")));
        assert!(with("data_base64", json!("eA==")));
        assert!(with("specversion", json!("0.3")));
        assert!(with("datacontenttype", json!("text/xml")));
        assert!(with("type", json!("a..b")));
        assert!(with("type", json!("slack.#")));
        assert!(with("id", json!("")));
        assert!(with("id", json!("x".repeat(257))));
        assert!(with("priority", json!(10)));
        assert!(with("traceparent", json!("nonsense")));
        assert!(read(json!({"id": "e1", "type": "a.b"})).is_err(), "no source");
    }
}
