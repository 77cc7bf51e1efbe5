//! `/v1/runs/{id}`: how a run stands, what it decided and observed, and whether that fits. Forks are [`super::forks`]'.
//!
//! Read from the journal itself, entry by entry, so what people see cannot differ from what recovery does. The journal is
//! answered as a recording ([`crate::recording`]): a file of it can be replayed without a node. A damaged entry is a
//! finding of the replay, and a 500 that names it (`entry`) everywhere else.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};
use troupe_actors::served;
use troupe_runtime::domain::journal::Entry;
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::run::Brief;
use troupe_runtime::domain::step::StepStatus;
use troupe_runtime::domain::task::RunStatus;
use troupe_runtime::store::{self, Step};

use super::identity::Found;
use super::params::Segment;
use super::problem::Problem;
use super::{Admin, forks, identity, masking, verb};
use crate::recording::{FORMAT, Finding, Head, Report, sealed};

/// `GET /v1/runs/{id}`; the id may be a run's, a step's or a task's.
pub(super) async fn show(State(admin): State<Admin>, Segment(id): Segment) -> Result<Json<Value>, Problem> {
    let found = identity::run(&admin, &id).await?;
    let task = &found.task;
    let steps: Vec<&Step> = found.steps().collect();
    admin.show(&json!({
        "run_id": found.run,
        "task_id": task.id,
        "agent": task.agent,
        "execution_mode": task.execution_mode,
        "status": status(&found),
        "number": steps.last().map(|step| step.run_no),
        "forked_from": task.forked_from,
        "input": task.input,
        "spec_digest": task.spec_digest,
        "created_at": task.created_at,
        "ended_at": task.ended_at,
        "attempts": steps.iter().map(|step| step.attempts).sum::<u32>(),
        "usage": task.usage,
        "cost_usd": task.usage.cost_usd(),
        "outcome": task.outcome,
        "outcome_digest": task.outcome.as_ref().map(Outcome::digest),
        "trace_id": task.traceparent.trace_id(),
        "steps": steps,
    }))
}

/// `GET /v1/runs/{id}/journal`: the recording.
pub(super) async fn journal(State(admin): State<Admin>, Segment(id): Segment) -> Result<Json<Value>, Problem> {
    let mut found = identity::run(&admin, &id).await?;
    let entries = entries(&admin, &mut found).await??;
    let head = head(&admin, &found).await?;
    let step = found.steps().last();
    let numbered = |entry: &Entry| {
        let mut entry = json!(entry);
        entry["step_id"] = json!(step.map(|step| step.id));
        entry["step_no"] = json!(step.map(|step| step.step_no));
        entry
    };
    Ok(Json(masked(&admin, &head, entries.iter().map(numbered).collect())))
}

/// `POST /v1/runs/{id}:replay` and `:fork`
pub(super) async fn act(
    State(admin): State<Admin>,
    Segment(segment): Segment,
    request: Request,
) -> Result<Response, Problem> {
    match verb::split(&segment, &["replay", "fork"])? {
        (id, "fork") => forks::make(&admin, id, request).await,
        (id, _replay) => Ok(replay(&admin, id).await?.into_response()),
    }
}

async fn replay(admin: &Admin, id: &str) -> Result<Json<Value>, Problem> {
    let report = match identity::run(admin, id).await {
        Ok(found) => replayed(admin, found).await?,
        Err(problem) => match problem.entry() {
            Some(number) => Report::unreadable(Finding::entry(number, problem.detail())),
            None => return Err(problem),
        },
    };
    admin.show(&report)
}

async fn replayed(admin: &Admin, mut found: Found) -> Result<Report, Problem> {
    let (entries, damage) = match entries(admin, &mut found).await? {
        Ok(entries) => (entries, None),
        Err(store::Error::Corrupt(damage)) => {
            let why = if damage.entry.is_some() { damage.cause } else { damage.to_string() };
            (Vec::new(), Some(Finding { entry: damage.entry, why }))
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Report::new(&head(admin, &found).await?, &entries, damage))
}

/// The entries of the run, and its task as it stood when they were read. The inner error is the journal's own.
async fn entries(admin: &Admin, found: &mut Found) -> Result<Result<Vec<Entry>, store::Error>, Problem> {
    let Some(step) = found.steps().last().map(|step| step.id) else { return Ok(Ok(Vec::new())) };
    loop {
        let entries = match admin.stores().journal.entries(step).await {
            Err(error) => return Ok(Err(error)),
            Ok(entries) => entries,
        };
        match admin.stores().tasks.task(found.task.id).await? {
            // It ended in between: what was read is not all. It ends once.
            Some(now) if now.outcome.is_some() != found.task.outcome.is_some() => *found.task = now,
            _ => return Ok(Ok(entries)),
        }
    }
}

async fn head(admin: &Admin, found: &Found) -> Result<Head, Problem> {
    let task = &found.task;
    let spec = admin.stores().specs.spec(&task.spec_digest).await?;
    let step = found.steps().last();
    let tools = spec.as_ref().and_then(|spec| served::terms(admin.ports(), spec).ok());
    let brief = spec.as_ref().zip(step).zip(tools).map(|((spec, step), tools)| Brief {
        run: found.run,
        step_no: step.step_no,
        input: task.input.clone(),
        limits: spec.limits,
        retries: spec.retries,
        tools,
        spec_digest: task.spec_digest.clone(),
        copied: step.copied,
    });
    Ok(Head {
        format: FORMAT,
        task_id: task.id,
        run_id: found.run,
        step_id: found.step,
        agent: task.agent.clone(),
        status: status(found),
        spec_digest: task.spec_digest.clone(),
        spec: spec.map(|spec| json!(spec)),
        brief,
        usage: task.usage,
        outcome: task.outcome.clone(),
        outcome_digest: task.outcome.as_ref().map(Outcome::digest),
        masked: false,
    })
}

/// Head and entries without their secrets, sealed after that.
fn masked(admin: &Admin, head: &Head, mut entries: Vec<Value>) -> Value {
    let redact = &admin.shared.setup.redact;
    let Value::Object(mut head) = json!(head) else { return Value::Null };
    let needed = |head: &Map<String, Value>| (head.get("brief").cloned(), head.get("outcome").cloned());
    let before = (needed(&head), entries.clone());
    head.values_mut().chain(entries.iter_mut()).for_each(|value| masking::mask(value, redact));
    let masked = before != (needed(&head), entries.clone());
    head.insert("masked".to_owned(), Value::from(masked));
    sealed(head, entries)
}

fn status(found: &Found) -> RunStatus {
    let step = found.steps().last().map_or(StepStatus::Running, |step| step.status);
    step.run_with(found.task.outcome.as_ref())
}
