//! `/v1/state/{agent}`: what an agent remembers, session by session.
//!
//! Lists come from the store and name no contents; one session shows what is remembered, without its secrets. An agent
//! that is not configured any more is answered like the others: what it remembered is still there. A flush drops what the
//! tiers before the store keep ready, and nothing of what is remembered.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::store::SessionFilter;
use troupe_runtime::store::tiers::Flushed;

use super::params::{Params, Segment, Segments, limit};
use super::problem::{Class, Problem};
use super::verb::clipped;
use super::{Admin, cursor, verb};

/// Which sessions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    cursor: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/state/{agent}`
pub(super) async fn list(
    State(admin): State<Admin>,
    Segment(agent): Segment,
    Params(page): Params<Page>,
) -> Result<Json<Value>, Problem> {
    let limit = limit(page.limit.as_deref(), admin.options().page_default, admin.options().page_max)?;
    let after = page.cursor.map(|text| cursor::read_session(&text)).transpose()?;
    // One more than is shown tells whether there are more.
    let filter = SessionFilter { agent: named(&agent)?, after, limit: limit + 1 };
    let mut sessions = admin.stores().memory.sessions(&filter).await?;
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let next = sessions.last().filter(|_| more).map(|row| cursor::write_session(&row.session));
    admin.show(&json!({"agent": agent, "items": sessions, "next": next}))
}

/// `GET /v1/state/{agent}/{session}`
pub(super) async fn show(
    State(admin): State<Admin>,
    Segments(agent, session): Segments,
) -> Result<Json<Value>, Problem> {
    one(&admin, &agent, &session).await
}

/// `GET /v1/state/{agent}/`: the session without a name.
pub(super) async fn show_nameless(State(admin): State<Admin>, Segment(agent): Segment) -> Result<Json<Value>, Problem> {
    one(&admin, &agent, "").await
}

/// `POST /v1/state/{agent}:flush`
pub(super) async fn act(State(admin): State<Admin>, Segment(segment): Segment) -> Result<Json<Value>, Problem> {
    let (name, _flush) = verb::split(&segment, &["flush"])?;
    let agent = named(name)?;
    let Flushed { process, redis } = admin.ports().cache.flush(&agent).await;
    tracing::info!(agent = name, "an operator flushed the agent's memory from the cache");
    let mut dropped = json!({"in_process": process});
    match redis {
        None => {}
        Some(Ok(memories)) => dropped["redis"] = json!(memories),
        Some(Err(why)) => {
            let why = format!("Redis still has what it keeps of agent {agent}, which does no harm: {why}");
            return Err(Problem::new(Class::Unavailable, (admin.shared.setup.redact)(&why)));
        }
    }
    admin.show(&json!({"agent": agent, "dropped": dropped}))
}

async fn one(admin: &Admin, agent: &str, session: &str) -> Result<Json<Value>, Problem> {
    let name = named(agent)?;
    // No store takes a NUL in a name.
    let loaded = if session.contains('\0') { None } else { admin.stores().memory.load(&name, session).await? };
    let memory = loaded.ok_or_else(|| {
        Problem::not_found(format!("agent {name} remembers nothing of a session {:?}", clipped(session)))
    })?;
    // It is JSON; should it not be, it is shown as the text that it is.
    let body = serde_json::from_str(&memory.body).unwrap_or_else(|_| Value::from(&*memory.body));
    let bytes = memory.body.len();
    admin.show(&json!({"agent": name, "session": session, "version": memory.version, "bytes": bytes, "body": body}))
}

fn named(agent: &str) -> Result<AgentName, Problem> {
    agent.parse().map_err(|_| Problem::not_found(format!("there is no agent {}", clipped(agent))))
}
