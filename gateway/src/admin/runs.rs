//! `/v1/runs/{id}/journal`: what a run decided and observed, in order, as recovery reads it.
//!
//! Read from the journal itself, entry by entry, so what people see cannot differ from what recovery does.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::params::Segment;
use super::problem::Problem;
use super::{Admin, identity};

/// `GET /v1/runs/{id}/journal`; the id may be a run's, a step's or a task's.
pub(super) async fn journal(State(admin): State<Admin>, Segment(id): Segment) -> Result<Json<Value>, Problem> {
    let found = identity::run(&admin, &id).await?;
    let mut entries = Vec::new();
    for step in found.steps() {
        for entry in admin.stores().journal.entries(step.id).await? {
            let mut entry = json!(entry);
            entry["step_id"] = json!(step.id);
            entry["step_no"] = json!(step.step_no);
            entries.push(entry);
        }
    }
    let status = found.steps().last().map(|step| step.status.run());
    admin.show(&json!({
        "task_id": found.task.id,
        "run_id": found.run,
        "step_id": found.step,
        "agent": found.task.agent,
        "status": status,
        "entries": entries,
    }))
}
