//! `GET /v1/events`: events as they pass, as server-sent events.
//!
//! | field | is |
//! |---|---|
//! | `id`, `data` | an event's id, and the event as a `CloudEvent` in JSON, without its secrets |
//! | `event: gap`, `data: {"missed": n}` | so many events passed that this reader was too slow for |
//! | `event: gap`, `data: {"after": id}` | it comes again after that event; what has passed meanwhile is not kept |
//!
//! A tail is for people: what it shows is gone when it is shown. It ends when the reader goes or the node stops.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{self, KeepAlive};
use futures::stream::{self, Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use troupe_runtime::bus::tap::{Passed, Tap};
use troupe_runtime::domain::event::ID_BYTES_MAX;
use troupe_runtime::domain::topic::TopicPattern;

use super::Admin;
use super::params::Params;
use super::problem::{Class, Problem};
use super::verb::clipped;

/// The name of what stands for events that are not shown.
const GAP: &str = "gap";
const EVERYTHING: &str = "#";

/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    topic: Option<String>,
}

/// `GET /v1/events?topic=slack.#`
pub(super) async fn tail(
    State(admin): State<Admin>,
    Params(filter): Params<Filter>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let pattern = filter.topic.as_deref().unwrap_or(EVERYTHING);
    let pattern: TopicPattern =
        pattern.parse().map_err(|error| Problem::malformed(format!("topic: {error}")).with("field", "topic"))?;
    let options = admin.options();
    let tap = admin.ports().taps.open(pattern, options.tail_events_max, options.tails_max).map_err(|_| {
        let limit = options.tails_max;
        Problem::new(Class::Unavailable, format!("admin.tails_max = {limit} tails are open; end one, or come later"))
    })?;
    let keep_alive = KeepAlive::new().interval(options.tail_keep_alive);
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let first =
        after.filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX).map(|id| gap(&json!({"after": clipped(&id)})));
    let shown = stream::unfold((admin.clone(), tap), |(admin, mut tap): (Admin, Tap)| async move {
        let passed = tap.next().await?;
        Some((shown(&admin, &passed), (admin, tap)))
    });
    Ok(Sse::new(stream::iter(first).chain(shown).map(Ok)).keep_alive(keep_alive))
}

fn shown(admin: &Admin, passed: &Passed) -> sse::Event {
    match passed {
        Passed::Missed(missed) => gap(&json!({"missed": missed})),
        Passed::Event(event) => match admin.show(&**event) {
            // An id with a line break would be two fields.
            Ok(body) if !event.id.contains(['\r', '\n', '\0']) => {
                sse::Event::default().id(&event.id).data(body.0.to_string())
            }
            Ok(body) => sse::Event::default().data(body.0.to_string()),
            // Cannot be written, so it is as if it had been missed.
            Err(_) => gap(&json!({"missed": 1})),
        },
    }
}

fn gap(what: &Value) -> sse::Event {
    sse::Event::default().event(GAP).data(what.to_string())
}
