//! `/v1/dead-letters`: events that were given up, to be looked at, replayed or removed.
//!
//! A replay is one act of the bus: the letter goes when its event is in the queue again, so a failure leaves it here. An
//! event that had no queue (its letter names its topic for one) is published by its topic.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Value, json};
use troupe_runtime::bus::{DeadLetter, Routing};
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::new_event_id;

use super::params::{Params, Segment, limit};
use super::problem::Problem;
use super::verb::clipped;
use super::{Admin, verb};

/// Which letters. The cursor is the id of the last letter of the page before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    cursor: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/dead-letters`
pub(super) async fn list(State(admin): State<Admin>, Params(page): Params<Page>) -> Result<Json<Value>, Problem> {
    let limit = limit(page.limit.as_deref(), admin.options().page_default, admin.options().page_max)?;
    let mut letters = admin.ports().bus.dead_letters(limit + 1, page.cursor.as_deref()).await?;
    let more = letters.len() > limit;
    letters.truncate(limit);
    let next = letters.last().filter(|_| more).map(|letter| letter.id.clone());
    admin.show(&json!({"items": letters, "next": next}))
}

/// `GET /v1/dead-letters/{id}`
pub(super) async fn show(State(admin): State<Admin>, Segment(id): Segment) -> Result<Json<Value>, Problem> {
    admin.show(&letter(&admin, &id).await?)
}

/// `POST /v1/dead-letters/{id}:replay`
pub(super) async fn act(State(admin): State<Admin>, Segment(segment): Segment) -> Result<Json<Value>, Problem> {
    let (id, _replay) = verb::split(&segment, &["replay"])?;
    admin.takes_work()?;
    let letter = letter(&admin, id).await?;
    let event = if letter.queue == letter.event.topic.as_str() {
        again(&admin, &letter).await?
    } else {
        admin.ports().bus.replay(&letter.id).await?.ok_or_else(|| missing(id))?
    };
    tracing::info!(dead_letter = letter.id, event_id = event.id, queue = letter.queue, "a dead letter was replayed");
    admin.show(&json!({"id": letter.id, "queue": letter.queue, "event": event}))
}

/// `DELETE /v1/dead-letters/{id}`
pub(super) async fn remove(State(admin): State<Admin>, Segment(id): Segment) -> Result<StatusCode, Problem> {
    if !admin.ports().bus.purge(&id).await? {
        return Err(missing(&id));
    }
    tracing::info!(dead_letter = id, "a dead letter was removed");
    Ok(StatusCode::NO_CONTENT)
}

/// Publishes the event of a letter that never had a queue: by its topic, for which there may be one by now. The letter
/// goes when the bus has the event; a crash in between leaves both.
async fn again(admin: &Admin, letter: &DeadLetter) -> Result<Event, Problem> {
    let old = letter.event.clone();
    let event = Event {
        id: new_event_id(),
        time: Utc::now(),
        traceparent: old.traceparent.child(),
        retrycount: 0,
        causationid: Some(old.id),
        ..old
    };
    admin.ports().bus.publish(Arc::new(event.clone()), Routing::Mandatory).await?;
    admin.ports().bus.purge(&letter.id).await?;
    Ok(event)
}

async fn letter(admin: &Admin, id: &str) -> Result<DeadLetter, Problem> {
    admin.ports().bus.dead_letter(id).await?.ok_or_else(|| missing(id))
}

fn missing(id: &str) -> Problem {
    Problem::not_found(format!("there is no dead letter {}", clipped(id)))
}
