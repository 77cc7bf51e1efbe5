//! One agent within its pool: its instances, its inbox, whose turn it is, and whether anybody could work.
//!
//! Kept by the pool, which calls it and performs what it says; it owns no actor of its own and falls with its pool.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ractor::{ActorRef, SpawnErr};
use tokio::sync::{Semaphore, watch};
use troupe_runtime::domain::agent::{AgentSpec, ExecutionMode};
use troupe_runtime::supervision::{ChildSpec, Children, MailboxOptions, RestartBudget, Shutdown};

use super::message::PoolMessage;
use super::round_robin::RoundRobin;
use super::view::Level;
use crate::agent::{AgentActor, AgentMessage};
use crate::inbox::{Inbox, InboxParts};
use crate::prepared::Prepared;
use crate::served::Served;
use crate::stage::Stage;
use crate::work::{InHand, Seat, Work};

/// The last segment of an inbox's path.
const INBOX: &str = "inbox";
/// Restarts that an inbox is granted beyond an instance's: it must not give up an agent that comes ready at the last try.
const INBOX_RESTARTS_MORE: u32 = 2;

/// What an instance is, in the live tree.
pub(crate) const AGENT: &str = "agent";

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
    level: (Level, DateTime<Utc>),
    prepared: Prepared,
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
            level: (Level::Starting, stage.ports.clock.now()),
            prepared: Prepared::new(
                stage.ports.clone(),
                member.spec.clone(),
                member.served.as_ref().ok().cloned(),
                stage.late.clone(),
            ),
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
        let (restart, backoff) = (self.member.spec.restart, stage.options.backoff);
        let budget = RestartBudget { max: restart.max, window: restart.window };
        let mut specs: Vec<ChildSpec> = (self.seats.iter().cloned())
            .map(|(_, id)| {
                let (stage, prepared) = (stage.clone(), self.prepared.clone());
                let start = move |context| {
                    let (stage, prepared) = (stage.clone(), prepared.clone());
                    async move {
                        prepared.get().map_err(unprepared)?;
                        AgentActor::start(stage, context).await
                    }
                };
                ChildSpec::new(id, AGENT, start).budget(budget).backoff(backoff)
            })
            .collect();
        let (stage, prepared, pool) = (stage.clone(), self.prepared.clone(), pool.clone());
        let (slots, open) = (self.slots.clone(), self.open.subscribe());
        let start = move |context| {
            let prepared = prepared.clone();
            let parts = |served| InboxParts {
                stage: stage.clone(),
                served,
                slots: slots.clone(),
                open: open.clone(),
                pool: pool.clone(),
            };
            let parts = prepared.get().map(parts);
            async move { Inbox::start(parts.map_err(unprepared)?, context).await }
        };
        let more = RestartBudget { max: budget.max.saturating_add(INBOX_RESTARTS_MORE), ..budget };
        let inbox = ChildSpec::new(format!("{}/{INBOX}", self.name()), INBOX, start).budget(more).backoff(backoff);
        specs.push(inbox.shutdown(Shutdown::Kill));
        specs
    }

    pub(super) fn child_ids(&self) -> Vec<String> {
        let instances = self.seats.iter().map(|(_, id)| id.clone());
        instances.chain([format!("{}/{INBOX}", self.name())]).collect()
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

    /// Opens the inbox while an instance lives, closes it while none does or the agent is paused.
    pub(super) fn gate(&mut self, children: &Children, stage: &Stage) {
        let level = Level::of(self.seats.iter().filter_map(|(_, id)| children.view(id)));
        if level != self.level.0 {
            self.level = (level, stage.ports.clock.now());
        }
        let open = level == Level::Up && !stage.standings.is_paused(self.name());
        self.open.send_if_modified(|was| std::mem::replace(was, open) != open);
    }

    /// Whether anybody could work, and since when that is so.
    pub(super) const fn level(&self) -> (Level, DateTime<Utc>) {
        self.level
    }

    /// Each instance's seat and its id among the pool's children.
    pub(super) fn seats(&self) -> &[(Seat, String)] {
        &self.seats
    }

    /// The agent as the pool was given it.
    pub(super) const fn member(&self) -> &Member {
        &self.member
    }
}

/// A start that failed because the agent is not ready to be served.
fn unprepared(reason: String) -> SpawnErr {
    SpawnErr::StartupFailed(reason.into())
}
