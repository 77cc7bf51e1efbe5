//! `/v1/agents`: the registry, restarts and pauses, queues of removed agents, and the way in for tasks from programs.
//!
//! A submission is answered once the bus or the spool has it: from then on it is not lost. A registry that does not
//! answer (its actor is being restarted) is a 503, and submissions go on, for they do not need it.

use axum::Json;
use axum::extract::State;
use axum::http::header::{HeaderName, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Value, json};
use troupe_actors::registry::{AgentFilter, AgentStatus};
use troupe_actors::troupe::Submission;
use troupe_runtime::domain::agent::{AgentName, ExecutionMode};
use troupe_runtime::domain::event::Priority;
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::domain::topic::inbox_queue;

use super::Admin;
use super::identity::Known;
use super::params::{Body, Params, Segment, Wait, word};
use super::problem::Problem;
use super::recent::Submitted;
use super::{tasks, verb};
use crate::spool::Stray;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const STATUSES: [AgentStatus; 6] = [
    AgentStatus::Starting,
    AgentStatus::Ready,
    AgentStatus::Busy,
    AgentStatus::Paused,
    AgentStatus::Unavailable,
    AgentStatus::Retired,
];

/// Which agents.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    status: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    execution_mode: Option<String>,
}

/// What is asked of an agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    input: Value,
    #[serde(default)]
    priority: Priority,
    session: Option<String>,
}

/// `GET /v1/agents`
pub(super) async fn list(State(admin): State<Admin>, Params(filter): Params<Filter>) -> Result<Json<Value>, Problem> {
    if let Some(status) = &filter.status {
        word("status", status, STATUSES.iter().map(|status| status.as_str()))?;
    }
    if let Some(mode) = &filter.execution_mode {
        word("execution_mode", mode, ExecutionMode::ALL.iter().map(|mode| mode.as_str()))?;
    }
    let Filter { status, kind, execution_mode } = filter;
    let agents = admin.troupe().agents(AgentFilter { status, kind, execution_mode }).await?;
    admin.show(&json!({"items": agents}))
}

/// `GET /v1/agents/{name}`
pub(super) async fn show(State(admin): State<Admin>, Segment(name): Segment) -> Result<Json<Value>, Problem> {
    let agent = admin.troupe().agent(&name).await?;
    let mut view = json!(agent);
    // Its instances' falls, the latest first: what a list of agents has no room for.
    let mut falls: Vec<_> =
        agent.instances.iter().flat_map(|instance| admin.troupe().tree().ledger().of(&instance.path)).collect();
    falls.sort_by_key(|fall| std::cmp::Reverse(fall.at));
    view["falls"] = json!(falls);
    admin.show(&view)
}

/// `POST /v1/agents/{name}:restart`, `:pause`, `:resume`
pub(super) async fn act(State(admin): State<Admin>, Segment(segment): Segment) -> Result<Json<Value>, Problem> {
    let (name, verb) = verb::split(&segment, &["restart", "pause", "resume"])?;
    let known = admin.troupe().agent(name).await?;
    match verb {
        "restart" => admin.troupe().restart(&known.name).await?,
        verb => admin.troupe().pause(&known.name, verb == "pause").await?,
    }
    tracing::info!(agent = name, verb, "an operator acts on the agent");
    admin.show(&admin.troupe().agent(name).await?)
}

/// `DELETE /v1/agents/{name}`: the queue of an agent that is gone from the configuration.
pub(super) async fn drop_queue(State(admin): State<Admin>, Segment(name): Segment) -> Result<StatusCode, Problem> {
    admin.troupe().drop_queue(&name).await?;
    tracing::info!(agent = name, "an operator dropped the queue of a removed agent");
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/agents/{name}/tasks`
pub(super) async fn submit(
    State(admin): State<Admin>,
    Segment(agent): Segment,
    Params(wait): Params<Wait>,
    headers: HeaderMap,
    Body(asked): Body<Asked>,
) -> Result<Response, Problem> {
    admin.takes_work()?;
    let options = admin.options();
    let wait = wait.within(options.wait_max)?;
    let idempotency_key = idempotency_key(&headers, options.key_bytes_max)?;
    let Asked { input, priority, session } = checked(asked, options.key_bytes_max)?;
    let submission = Submission { input, priority, session, idempotency_key };
    let (id, event) = admin.troupe().asked(&agent, submission).await?;
    if let Ok(name) = agent.parse() {
        admin.spool().has_room(&inbox_queue(&name))?;
    }
    admin.spool().publish(event, Stray::Bury).await?;
    let submitted = Submitted { id, agent, at: Utc::now() };
    admin.shared.recent.add(submitted.clone());

    let known = match wait {
        Some(wait) => tasks::wait(&admin, Known::Received(submitted), wait).await?,
        None => Known::Received(submitted),
    };
    let over = matches!(&known, Known::Stored(task) if task.status.is_terminal());
    // A task that waits for a person has an outcome of its own: nothing more will happen by waiting.
    let settled = over || matches!(&known, Known::Stored(task) if task.status == TaskStatus::Waiting);
    let status = if wait.is_some() && settled { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, admin.show(&tasks::view(&known))?).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/v1/tasks/{id}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

fn checked(asked: Asked, bytes_max: usize) -> Result<Asked, Problem> {
    let nothing = match &asked.input {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    };
    if nothing {
        return Err(Problem::invalid("input is empty; it is a text or any JSON"));
    }
    let bad = |session: &String| session.is_empty() || session.len() > bytes_max || session.contains(char::is_control);
    if asked.session.as_ref().is_some_and(bad) {
        return Err(Problem::invalid(format!("session is no text of 1 to {bytes_max} bytes")));
    }
    Ok(asked)
}

pub(super) fn idempotency_key(headers: &HeaderMap, bytes_max: usize) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.trim().is_empty() && key.len() <= bytes_max => Ok(Some(key.trim().to_owned())),
        _ => Err(Problem::malformed(format!("Idempotency-Key is no text of 1 to {bytes_max} visible characters"))),
    }
}

/// An agent's name and mode, for the metrics.
pub(super) async fn modes(admin: &Admin) -> Result<Vec<(AgentName, ExecutionMode)>, Problem> {
    let agents = admin.troupe().agents(AgentFilter::default()).await?;
    Ok(agents.into_iter().map(|agent| (agent.name, agent.execution_mode)).collect())
}
