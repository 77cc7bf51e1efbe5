//! One agent within its pool: its instances, its inbox, whose turn it is, and whether anybody could work.
//!
//! Kept by the pool, which calls it and performs what it says; it owns no actor of its own and falls with its pool.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ractor::{ActorRef, SpawnErr};
use tokio::sync::watch;
use troupe_runtime::domain::agent::{AgentSpec, ExecutionMode};
use troupe_runtime::supervision::{ChildSpec, Children, MailboxOptions, RestartBudget, Shutdown};

use super::level::Level;
use super::message::PoolMessage;
use super::round_robin::RoundRobin;
use crate::agent::{AGENT, AgentActor, AgentMessage};
use crate::inbox::{Gate, Inbox, InboxParts, Terms};
use crate::places::Places;
use crate::prepared::Prepared;
use crate::roster::{Member, PoolId};
use crate::stage::Stage;
use crate::work::{InHand, Seat, Work};

/// The last segment of an inbox's path.
const INBOX: &str = "inbox";
/// Restarts that an inbox is granted beyond an instance's: it must not give up an agent that comes ready at the last try.
const INBOX_RESTARTS_MORE: u32 = 2;

/// What is accepted ahead is taken from other nodes, so it is a part of what the agent does at a time.
const PLACES_FOR_ONE_AHEAD: usize = 4;

/// One agent within its pool.
pub(super) struct Company {
    pool: PoolId,
    pub(super) member: Member,
    /// Each instance's seat and its id among the pool's children.
    pub(super) seats: Vec<(Seat, String)>,
    level: (Level, DateTime<Utc>),
    pub(super) prepared: Prepared,
    turn: RoundRobin,
    pub(super) places: Places,
    /// What the inbox may take in.
    pub(super) gate: watch::Sender<Gate>,
    /// Seats that get no more work, and go when theirs is done.
    pub(super) leaving: Vec<(Seat, String)>,
    /// Gone from the configuration, or from this pool: it finishes what it has.
    pub(super) retired: bool,
}

impl Company {
    pub(super) fn new(member: Member, pool: PoolId, stage: &Stage) -> Self {
        let (at_work, ahead) = places(&member.spec, stage);
        let places = Places::new(at_work, ahead);
        Self {
            pool,
            seats: seats(&member.spec, pool),
            level: (Level::Starting, stage.ports.clock.now()),
            prepared: Prepared::new(
                stage.ports.clone(),
                member.spec.clone(),
                member.served.as_ref().ok().cloned(),
                stage.late.clone(),
            ),
            turn: RoundRobin::default(),
            gate: watch::Sender::new(Gate { terms: terms(&member, &places), open: false }),
            places,
            leaving: Vec::new(),
            retired: false,
            member,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.member.spec.name.as_str()
    }

    /// The company and the seat that a child's id speaks of; `None` for an inbox.
    pub(super) fn of<'a>(companies: &'a mut BTreeMap<String, Self>, id: &str) -> Option<(&'a mut Self, Seat)> {
        let (agent, instance) = id.split_once('/')?;
        let (company, instance) = (companies.get_mut(agent)?, instance.parse().ok()?);
        let seat = Seat { pool: company.pool, agent: agent.into(), instance };
        Some((company, seat))
    }

    /// The instances, then the inbox: nothing comes in before somebody can work.
    pub(super) fn child_specs(&self, stage: &Arc<Stage>, pool: &ActorRef<PoolMessage>) -> Vec<ChildSpec> {
        let (budget, backoff) = (self.budget(), stage.options.backoff);
        let mut specs: Vec<ChildSpec> = (self.seats.iter().cloned())
            .map(|(_, id)| {
                let (stage, prepared) = (stage.clone(), self.prepared.clone());
                let start = move |context| {
                    let (stage, prepared) = (stage.clone(), prepared.clone());
                    async move {
                        prepared.get().map_err(unprepared)?;
                        Ok(AgentActor::start(stage, context))
                    }
                };
                ChildSpec::new(id, AGENT, start).budget(budget).backoff(backoff)
            })
            .collect();
        if self.retired {
            return specs;
        }
        let prepared = self.prepared.clone();
        let parts = InboxParts {
            stage: stage.clone(),
            agent: self.member.spec.name.clone(),
            gate: self.gate.subscribe(),
            pool: pool.clone(),
        };
        let start = move |context| {
            let (prepared, parts) = (prepared.clone(), parts.clone());
            async move {
                prepared.get().map_err(unprepared)?;
                Ok(Inbox::start(parts, context))
            }
        };
        let more = inbox_budget(budget);
        let inbox = ChildSpec::new(self.inbox_id(), INBOX, start).budget(more).backoff(backoff);
        specs.push(inbox.shutdown(Shutdown::Kill));
        specs
    }

    pub(super) fn child_ids(&self) -> Vec<String> {
        let instances = self.seats.iter().map(|(_, id)| id.clone());
        instances.chain([self.inbox_id()]).collect()
    }

    pub(super) fn inbox_id(&self) -> String {
        format!("{}/{INBOX}", self.name())
    }

    pub(super) fn budget(&self) -> RestartBudget {
        let restart = self.member.spec.restart;
        RestartBudget { max: restart.max, window: restart.window }
    }

    /// Gives a step to the next instance that lives; without one it stays in hand, unseated.
    pub(super) fn assign(&mut self, children: &Children, in_hand: &InHand, work: Arc<Work>, begun: bool) {
        let live = |n: usize| children.runs(&self.seats[n].1);
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
        let up = level == Level::Up;
        // Of an agent that came ready late.
        let late = if up && !self.retired { self.prepared.ready() } else { None };
        let open = up && !stage.standings.is_paused(self.name());
        self.gate.send_if_modified(|gate| {
            let comes = late.filter(|_| gate.terms.is_none());
            let comes = comes.map(|served| gate.terms = Some(Terms { served, places: self.places.clone() })).is_some();
            std::mem::replace(&mut gate.open, open) != open || comes
        });
    }

    /// Whether anybody could work, and since when that is so.
    pub(super) const fn level(&self) -> (Level, DateTime<Utc>) {
        self.level
    }

    /// Each instance's seat and its id among the pool's children.
    pub(super) fn seats(&self) -> &[(Seat, String)] {
        &self.seats
    }

    /// Where it works.
    pub(super) const fn pool(&self) -> PoolId {
        self.pool
    }

    /// The agent as the pool was given it.
    pub(super) const fn member(&self) -> &Member {
        &self.member
    }
}

/// How many steps of the agent are at work at a time, and how many are accepted ahead of them. A continuous agent works in
/// order, one event at a time; the others as far as their instances go.
pub(super) fn places(spec: &AgentSpec, stage: &Stage) -> (usize, usize) {
    if spec.runs_as == ExecutionMode::Continuous {
        return (1, 0);
    }
    let options = &stage.options;
    let at_work = (spec.instances as usize * options.steps_per_instance_max).min(options.steps_max);
    (at_work, (at_work / PLACES_FOR_ONE_AHEAD).min(options.ahead_max))
}

pub(super) fn seats(spec: &AgentSpec, pool: PoolId) -> Vec<(Seat, String)> {
    let agent: Arc<str> = spec.name.as_str().into();
    let seat = |instance| {
        let seat = Seat { pool, agent: agent.clone(), instance };
        let id = seat.to_string();
        (seat, id)
    };
    (0..spec.instances).map(seat).collect()
}

pub(super) fn terms(member: &Member, places: &Places) -> Option<Terms> {
    let served = member.served.as_ref().ok()?.clone();
    Some(Terms { served, places: places.clone() })
}

pub(super) fn inbox_budget(of_instances: RestartBudget) -> RestartBudget {
    RestartBudget { max: of_instances.max.saturating_add(INBOX_RESTARTS_MORE), ..of_instances }
}

/// A start that failed because the agent is not ready to be served.
fn unprepared(reason: String) -> SpawnErr {
    SpawnErr::StartupFailed(reason.into())
}
