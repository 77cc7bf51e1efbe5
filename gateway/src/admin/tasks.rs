//! `/v1/tasks`: what was asked, how it stands, what it cost.
//!
//! The store is the truth; what only the bus knows yet is shown as `received` from [`super::recent`].

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use troupe_runtime::domain::task::TaskStatus;
use troupe_runtime::store::{Task, TaskFilter};

use super::identity::Known;
use super::params::{Params, Segment, Wait, limit, moment};
use super::problem::Problem;
use super::{Admin, cursor, identity};

/// How often a wait looks whether the node drains.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which tasks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    status: Option<String>,
    agent: Option<String>,
    since: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/tasks`
pub(super) async fn list(State(admin): State<Admin>, Params(filter): Params<Filter>) -> Result<Json<Value>, Problem> {
    let bad = |error: &dyn std::error::Error| Problem::malformed(error.to_string());
    let limit = limit(filter.limit.as_deref(), admin.options().page_default, admin.options().page_max)?;
    let wanted = TaskFilter {
        agent: filter.agent.map(|name| name.parse()).transpose().map_err(|error| bad(&error))?,
        status: filter.status.map(|word| word.parse::<TaskStatus>()).transpose().map_err(|error| bad(&error))?,
        since: filter.since.map(|text| moment("since", &text, Utc::now())).transpose()?,
        before: filter.cursor.map(|text| cursor::read(&text)).transpose()?,
        // One more than is shown tells whether there are more.
        limit: limit + 1,
    };
    let mut tasks = admin.stores().tasks.tasks(&wanted).await?;
    let more = tasks.len() > limit;
    tasks.truncate(limit);
    let next = tasks.last().filter(|_| more).map(|task| cursor::write(task.place));
    let items: Vec<Value> = tasks.iter().map(stored).collect();
    admin.show(&json!({"items": items, "next": next}))
}

/// `GET /v1/tasks/{id}`, waiting for its end where that is asked for.
pub(super) async fn show(
    State(admin): State<Admin>,
    Segment(id): Segment,
    Params(asked): Params<Wait>,
) -> Result<Json<Value>, Problem> {
    let asked = asked.within(admin.options().wait_max)?;
    let mut known = identity::task(&admin, &id).await?;
    if let Some(limit) = asked {
        known = wait(&admin, known, limit).await?;
    }
    admin.show(&view(&known))
}

/// The task once it has ended, waits for a person, or the limit has passed; a node that drains does not wait.
pub(super) async fn wait(admin: &Admin, mut known: Known, limit: Duration) -> Result<Known, Problem> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(task) = admin.troupe().wait(known.id(), left.min(LOOK_EVERY)).await? {
            known = Known::Stored(Box::new(task));
        }
        let settled =
            matches!(&known, Known::Stored(task) if task.status.is_terminal() || task.status == TaskStatus::Waiting);
        if settled || left.is_zero() || !admin.is_ready() {
            return Ok(known);
        }
    }
}

/// A task as it is shown.
pub(super) fn view(known: &Known) -> Value {
    match known {
        Known::Stored(task) => stored(task),
        Known::Received(submitted) => submitted.view(),
    }
}

/// The stored task, with what a reader would have to work out: its trace, its cost, its runs.
fn stored(task: &Task) -> Value {
    let mut runs = BTreeMap::new();
    for step in &task.steps {
        // The last step of a run is the one that says how the run stands.
        runs.insert(step.run_no, (step.run, step.status.run_with(task.outcome.as_ref())));
    }
    let runs: Vec<Value> =
        runs.iter().map(|(number, (id, status))| json!({"id": id, "number": number, "status": status})).collect();
    let mut view = json!(task);
    view["trace_id"] = json!(task.traceparent.trace_id());
    view["cost_usd"] = json!(task.usage.cost_usd());
    view["attempts"] = json!(task.steps.iter().map(|step| step.attempts).sum::<u32>());
    view["runs"] = Value::from(runs);
    view
}
