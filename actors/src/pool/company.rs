//! One agent within its pool: its instances, its inbox, whose turn it is, and how it looks to an operator.
//!
//! Kept by the pool, which calls it and performs what it says; it owns no actor of its own and falls with its pool.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ractor::ActorRef;
use tokio::sync::{Semaphore, watch};
use troupe_runtime::domain::agent::{AgentSpec, ExecutionMode};
use troupe_runtime::supervision::{
    ActorState, ChildSpec, ChildView, Children, MailboxOptions, RestartBudget, Shutdown,
};

use super::message::PoolMessage;
use super::round_robin::RoundRobin;
use crate::agent::{AgentActor, AgentMessage};
use crate::inbox::{Inbox, InboxParts};
use crate::registry::{AgentStatus, AgentView, InstanceView};
use crate::served::Served;
use crate::stage::Stage;
use crate::work::{InHand, Seat, Work};

/// The last segment of an inbox's path.
const INBOX: &str = "inbox";

/// An agent as the pool is given it: ready to be served, or why not.
#[derive(Clone)]
pub struct Member {
    /// Its spec.
    pub spec: Arc<AgentSpec>,
    /// What its steps need, or why it cannot be served.
    pub served: Result<Arc<Served>, String>,
}

/// One agent within its pool.
pub(super) struct Company {
    member: Member,
    /// Each instance's seat and its id among the pool's children.
    seats: Vec<(Seat, String)>,
    since: DateTime<Utc>,
    turn: RoundRobin,
    slots: Arc<Semaphore>,
    open: watch::Sender<bool>,
}

impl Company {
    pub(super) fn new(member: Member, stage: &Stage) -> Self {
        // A continuous agent works in order, one event at a time; the others as far as their instances go.
        let places = match member.spec.runs_as {
            ExecutionMode::Continuous => 1,
            _ => member.spec.instances as usize * stage.options.steps_per_instance_max,
        };
        let agent: Arc<str> = member.spec.name.as_str().into();
        let seat = |instance| {
            let seat = Seat { agent: agent.clone(), instance };
            let id = seat.to_string();
            (seat, id)
        };
        Self {
            seats: (0..member.spec.instances).map(seat).collect(),
            since: stage.ports.clock.now(),
            turn: RoundRobin::default(),
            slots: Arc::new(Semaphore::new(places.min(stage.options.steps_max))),
            open: watch::Sender::new(false),
            member,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.member.spec.name.as_str()
    }

    /// The company and the seat that a child's id speaks of; `None` for an inbox.
    pub(super) fn of<'a>(companies: &'a mut BTreeMap<String, Self>, id: &str) -> Option<(&'a mut Self, Seat)> {
        let (agent, instance) = id.split_once('/')?;
        let seat = Seat { agent: agent.into(), instance: instance.parse().ok()? };
        companies.get_mut(agent).map(|company| (company, seat))
    }

    /// The instances, then the inbox: nothing comes in before somebody can work.
    pub(super) fn child_specs(&self, stage: &Stage, pool: &ActorRef<PoolMessage>) -> Vec<ChildSpec> {
        let Ok(served) = &self.member.served else { return Vec::new() };
        let restart = self.member.spec.restart;
        let budget = RestartBudget { max: restart.max, window: restart.window };
        let mut specs: Vec<ChildSpec> = (self.seats.iter().cloned())
            .map(|(_, id)| {
                let stage = stage.clone();
                ChildSpec::new(id, "agent", move |context| AgentActor::start(stage.clone(), context)).budget(budget)
            })
            .collect();
        let parts = InboxParts {
            stage: stage.clone(),
            served: served.clone(),
            slots: self.slots.clone(),
            open: self.open.subscribe(),
            pool: pool.clone(),
        };
        let inbox = ChildSpec::new(format!("{}/{INBOX}", self.name()), INBOX, move |context| {
            Inbox::start(parts.clone(), context)
        });
        specs.push(inbox.shutdown(Shutdown::Kill));
        specs
    }

    pub(super) fn child_ids(&self) -> Vec<String> {
        let instances = self.seats.iter().map(|(_, id)| id.clone());
        if self.member.served.is_ok() {
            instances.chain([format!("{}/{INBOX}", self.name())]).collect()
        } else {
            Vec::new()
        }
    }

    /// Gives a step to the next instance that lives; without one it stays in hand, unseated.
    pub(super) fn assign(&mut self, children: &Children, in_hand: &InHand, work: Arc<Work>, begun: bool) {
        let live = |n: usize| children.get(&self.seats[n].1).is_some();
        let Some(picked) = self.turn.pick(self.seats.len(), live) else { return in_hand.unseat(work.claim.step) };
        let (seat, id) = &self.seats[picked];
        // Bounded by the slots that the work itself holds, so never refused here.
        let options = MailboxOptions { limit: usize::MAX, ..MailboxOptions::default() };
        let Some(mailbox) = children.mailbox::<AgentMessage>(id, options) else { return };
        in_hand.seat(work.claim.step, seat);
        // An instance that dies now is handed its seat's work again when it is back.
        mailbox.cast(AgentMessage::Work { work, begun }).ok();
    }

    /// Opens the inbox while an instance lives, closes it while none does.
    pub(super) fn gate(&self, children: &Children) {
        let open = self.seats.iter().any(|(_, id)| children.get(id).is_some());
        self.open.send_if_modified(|was| std::mem::replace(was, open) != open);
    }

    /// How it looks to an operator.
    pub(super) fn view(&self, pool: &str, children: &[ChildView], counts: &HashMap<Seat, usize>) -> AgentView {
        let spec = &self.member.spec;
        let instances: Vec<InstanceView> = (self.seats.iter())
            .filter_map(|(seat, id)| {
                let child = children.iter().find(|child| child.id == *id)?;
                Some(instance(pool, child, counts.get(seat).copied().unwrap_or_default()))
            })
            .collect();
        let best = |wanted: AgentStatus| instances.iter().any(|instance| instance.status == wanted);
        let (status, reason) = if let Err(reason) = &self.member.served {
            (AgentStatus::Unavailable, Some(reason.clone()))
        } else {
            let order = [AgentStatus::Busy, AgentStatus::Ready, AgentStatus::Starting];
            let status = order.into_iter().find(|status| best(*status)).unwrap_or(AgentStatus::Unavailable);
            let reason = children.iter().filter(|child| owns(self, child)).find_map(|child| child.reason.clone());
            (status, reason.filter(|_| status == AgentStatus::Unavailable))
        };
        AgentView {
            name: spec.name.clone(),
            kind: spec.kind.clone(),
            execution_mode: spec.execution_mode,
            status,
            reason,
            since: self.since,
            subscriptions: spec.subscriptions.iter().map(ToString::to_string).collect(),
            model: spec.models.first().map(|m| format!("{}/{}", m.provider.as_str(), m.model)).unwrap_or_default(),
            spec_digest: spec.digest(),
            steps: instances.iter().map(|instance| instance.steps).sum(),
            restarts: instances.iter().map(|instance| instance.restarts).sum(),
            last_error: instances.iter().find_map(|instance| instance.last_error.clone()),
            instances,
        }
    }
}

fn owns(company: &Company, child: &ChildView) -> bool {
    child.id.split('/').next() == Some(company.name())
}

fn instance(pool: &str, child: &ChildView, steps: usize) -> InstanceView {
    let status = match child.state {
        ActorState::Running if steps > 0 => AgentStatus::Busy,
        ActorState::Running => AgentStatus::Ready,
        ActorState::Unavailable | ActorState::Stopped => AgentStatus::Unavailable,
        _ => AgentStatus::Starting,
    };
    InstanceView {
        path: format!("{pool}/{}", child.id),
        status,
        steps,
        restarts: child.restarts,
        last_error: child.last_error.clone(),
    }
}
