//! `/v1/results`: how steps ended, by agent and time: what was said, what it cost, how long it took.
//!
//! Read from `execution_results`, where a row never changes: a page that was read once is the same when it is read again.

use axum::Json;
use axum::extract::State;
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Value, json};
use troupe_runtime::domain::agent::BadAgentName;
use troupe_runtime::domain::step::StepStatus;
use troupe_runtime::store::{ResultFilter, ResultRow};

use super::params::{Params, Segment, limit, moment, word};
use super::problem::Problem;
use super::verb::clipped;
use super::{Admin, cursor, identity};

/// Which results.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    agent: Option<String>,
    status: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/results`
pub(super) async fn list(State(admin): State<Admin>, Params(filter): Params<Filter>) -> Result<Json<Value>, Problem> {
    let limit = limit(filter.limit.as_deref(), admin.options().page_default, admin.options().page_max)?;
    let now = Utc::now();
    let bad = |error: BadAgentName| Problem::malformed(error.to_string());
    let wanted = ResultFilter {
        agent: filter.agent.map(|name| name.parse()).transpose().map_err(bad)?,
        status: filter.status.as_deref().map(ended).transpose()?,
        since: filter.since.map(|text| moment("since", &text, now)).transpose()?,
        until: filter.until.map(|text| moment("until", &text, now)).transpose()?,
        after: filter.cursor.map(|text| cursor::read_result(&text)).transpose()?,
        // One more than is shown tells whether there are more.
        limit: limit + 1,
    };
    let mut results = admin.stores().results.results(&wanted).await?;
    let more = results.len() > limit;
    results.truncate(limit);
    let next = results.last().filter(|_| more).map(|result| cursor::write_result(result.place()));
    let items: Vec<Value> = results.iter().map(view).collect();
    admin.show(&json!({"items": items, "next": next}))
}

/// `GET /v1/results/{id}`; the id may be a step's, a run's or a task's: then it is that of the last step that has ended.
pub(super) async fn show(State(admin): State<Admin>, Segment(id): Segment) -> Result<Json<Value>, Problem> {
    let found = identity::run(&admin, &id).await?;
    for step in found.steps().collect::<Vec<_>>().into_iter().rev() {
        if let Some(result) = admin.stores().results.result(step.id).await? {
            return admin.show(&view(&result));
        }
    }
    let status = found.task.status;
    Err(Problem::not_found(format!("{} has no result yet: its task is {status}", clipped(&id))))
}

/// A status that steps end in.
fn ended(text: &str) -> Result<StepStatus, Problem> {
    let statuses = || StepStatus::ALL.into_iter().filter(|status| status.is_terminal());
    word("status", text, statuses().map(StepStatus::as_str))?;
    statuses().find(|status| status.as_str() == text).ok_or_else(|| Problem::malformed("status"))
}

/// The row, with what a reader would have to work out: its cost in dollars, the time since its task was accepted.
fn view(result: &ResultRow) -> Value {
    let mut view = json!(result);
    view["cost_usd"] = json!(result.usage.cost_usd());
    view["duration_ms"] =
        json!(result.accepted_at.map(|accepted| (result.ended_at - accepted).num_milliseconds().max(0)));
    view
}
