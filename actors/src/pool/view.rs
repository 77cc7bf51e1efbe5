//! How one agent of a pool looks to an operator: status and since when, its instances, what they have in hand.
//!
//! Called by the company for every look at the registry. Nothing here is remembered but the level; the rest is read from
//! the children, the work in hand and the live tree, so a look is never older than the moment.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use troupe_runtime::domain::ids::{StepId, TaskId};
use troupe_runtime::supervision::{ChildView, Children, Tree};

use super::company::Company;
use super::level::{Level, standing};
use crate::registry::{AgentStatus, AgentView, CurrentStep, InstanceView};
use crate::stage::Stage;
use crate::work::Seat;

/// What a look at the registry is made from.
pub(super) struct Look<'pool> {
    /// What the actors stand on.
    pub(super) stage: &'pool Stage,
    /// The live tree.
    pub(super) tree: &'pool Tree,
    /// The pool's path.
    pub(super) pool: &'pool str,
    /// The pool's children.
    pub(super) children: &'pool Children,
    /// The steps at each seat.
    pub(super) at_work: HashMap<Seat, Vec<(StepId, TaskId)>>,
}

/// One agent as the registry shows it.
pub(super) fn agent(company: &Company, look: &Look<'_>) -> AgentView {
    let spec = &company.member().spec;
    let standing = look.stage.standings.of(company.name());
    let children = company.seats().iter().chain(&company.leaving);
    let children: Vec<(&Seat, ChildView)> =
        children.filter_map(|(seat, id)| Some((seat, look.children.view(id)?))).collect();
    let instances: Vec<InstanceView> = children.iter().map(|(seat, child)| instance(look, child, seat)).collect();
    let busy = instances.iter().any(|instance| instance.status == AgentStatus::Busy);
    let (level, since) = company.level();
    let desk = look.stage.in_hand.desk(company.name());
    let latest = |times: [Option<DateTime<Utc>>; 2]| times.into_iter().flatten().fold(since, DateTime::max);
    let (status, since) = match level {
        _ if company.retired => (AgentStatus::Retired, since),
        Level::Down => (AgentStatus::Unavailable, since),
        _ if standing.is_paused => (AgentStatus::Paused, latest([standing.turned, None])),
        Level::Starting => (AgentStatus::Starting, since),
        Level::Up if busy => (AgentStatus::Busy, latest([desk.map(|desk| desk.since), standing.turned])),
        Level::Up => (AgentStatus::Ready, latest([desk.map(|desk| desk.since), standing.turned])),
    };
    let mut reasons = children.iter().filter_map(|(_, child)| child.reason.clone());
    let fallen = instances.iter().find_map(|instance| instance.last_error.clone());
    AgentView {
        name: spec.name.clone(),
        kind: spec.kind.clone(),
        execution_mode: spec.execution_mode,
        status,
        reason: match status {
            AgentStatus::Unavailable => reasons.next_back(),
            AgentStatus::Retired => Some("it is gone from the configuration; its steps finish".to_owned()),
            _ => None,
        },
        since,
        subscriptions: spec.subscriptions.iter().map(ToString::to_string).collect(),
        model: spec.models.first().map(|m| format!("{}/{}", m.provider.as_str(), m.model)).unwrap_or_default(),
        spec_digest: company.member().digest(),
        steps: instances.iter().map(|instance| instance.steps).sum(),
        restarts: instances.iter().map(|instance| instance.restarts).sum(),
        last_error: fallen,
        last_failure: standing.failed.as_ref().map(|(_, failure)| failure.clone()),
        last_failure_at: standing.failed.map(|(at, _)| at),
        problems: Vec::new(),
        instances,
    }
}

fn instance(look: &Look<'_>, child: &ChildView, seat: &Seat) -> InstanceView {
    let path = format!("{}/{}", look.pool, child.id);
    let steps = look.at_work.get(seat).map(Vec::as_slice).unwrap_or_default();
    let status = match standing(child) {
        AgentStatus::Ready if !steps.is_empty() => AgentStatus::Busy,
        status => status,
    };
    let shown = steps.iter().take(look.stage.options.steps_shown_max);
    InstanceView {
        status,
        since: child.since,
        steps: steps.len(),
        current: shown.map(|(step, task)| current(look.tree, &path, *step, *task)).collect(),
        restarts: child.restarts,
        reason: child.reason.clone(),
        last_error: child.last_error.clone(),
        path,
    }
}

fn current(tree: &Tree, path: &str, step: StepId, task: TaskId) -> CurrentStep {
    let actor = tree.get(&format!("{path}/step {step}"));
    let since = actor.as_ref().map(|actor| actor.since);
    CurrentStep {
        step_id: step.to_string(),
        task_id: task.to_string(),
        since,
        doing: actor.and_then(|actor| actor.step),
    }
}
