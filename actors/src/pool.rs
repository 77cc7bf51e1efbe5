//! The pool: supervisor of agents of one execution mode on one node; of all of them, while they are not too many.
//!
//! Started by the orchestrator, which has several for a mode with more agents than one supervisor is to look after (the
//! [roster](crate::roster) says who is in which; none knows of the others); messaged by the orchestrator, by its own inboxes and by the recovery. Owns the instances
//! (agent actors) and the inbox of each agent, one for one: a fall is nobody else's affair. Work goes round robin over
//! the instances that live. When an instance falls, what it had in hand is handed to its next life, which goes on from
//! the journals; when its restart budget is spent, to the others. When no instance is left the inbox closes, and what
//! comes stays on the bus. When the roster changes, so do the companies ([`changing`]). When the pool itself dies the
//! orchestrator starts it again with the agents as they are then, and the recovery finds what was in hand.

mod changing;
mod company;
mod level;
pub mod message;
mod round_robin;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::supervision::{ChildContext, ChildEvent, Children, ChildrenOptions, Tree};

use self::company::Company;
pub use self::message::PoolMessage;
use self::view::Look;
use crate::registry::AgentView;
use crate::roster::{PoolId, Roster};
use crate::stage::Stage;
use crate::work::Work;

/// A pool.
pub struct Pool {
    stage: Arc<Stage>,
    roster: Roster,
    id: PoolId,
    path: String,
    tree: Tree,
}

/// The agents of the pool and their actors.
pub struct Troop {
    children: Children,
    companies: BTreeMap<String, Company>,
    /// Agents some of whose children have ended and may have to be started again.
    ended: BTreeSet<String>,
    /// A look at those that leave is on its way.
    tidying: bool,
}

impl Pool {
    /// Starts one life of it.
    pub async fn start(
        stage: Arc<Stage>,
        roster: Roster,
        id: PoolId,
        context: ChildContext,
    ) -> Result<ActorCell, SpawnErr> {
        let (path, tree) = (context.path.clone(), context.tree.clone());
        context.spawn(Self { stage, roster, id, path, tree }, ()).await
    }

    /// Takes work in hand and gives it to somebody who lives.
    fn hand_on(&self, troop: &mut Troop, work: Vec<Arc<Work>>, begun: bool) {
        for work in work {
            self.stage.in_hand.take(work.clone());
            self.assign(troop, work, begun);
        }
    }

    fn assign(&self, troop: &mut Troop, work: Arc<Work>, begun: bool) {
        self.welcome(troop, &work);
        if let Some(company) = troop.companies.get_mut(work.served.spec.name.as_str()) {
            company.assign(&troop.children, &self.stage.in_hand, work, begun);
        }
    }

    /// What children went through.
    fn changed(&self, troop: &mut Troop, events: Vec<ChildEvent>) {
        for event in events {
            match event {
                ChildEvent::Started { id } | ChildEvent::Restarted { id, .. } => self.back(troop, &id),
                ChildEvent::Restarting { id, .. } => {
                    let agent = id.split('/').next().unwrap_or_default();
                    if let Some(company) = troop.companies.get(agent) {
                        self.stage.ports.metrics.agent_restarted(&company.member.spec.name);
                    }
                    self.write_down(troop, &id);
                    self.gate(troop, &id);
                }
                ChildEvent::Unavailable { id, .. } => {
                    self.write_down(troop, &id);
                    self.gate(troop, &id);
                    self.rehome(troop, &id);
                }
                ChildEvent::Ended { id, .. } => {
                    troop.ended.extend(id.split('/').next().map(str::to_owned));
                    self.gate(troop, &id);
                }
                ChildEvent::NotMine => {}
            }
        }
    }

    /// An instance lives (again): it gets what it had in hand, and what waits for anybody.
    fn back(&self, troop: &mut Troop, id: &str) {
        self.gate(troop, id);
        let Some((company, seat)) = Company::of(&mut troop.companies, id) else { return };
        let mut work = self.stage.in_hand.of_seat(&seat);
        work.extend(self.stage.in_hand.unseated(&seat.agent));
        for work in work {
            company.assign(&troop.children, &self.stage.in_hand, work, true);
        }
    }

    /// The ledger has the fall already; what lay at the seat is known here.
    fn write_down(&self, troop: &mut Troop, id: &str) {
        let Some((_, seat)) = Company::of(&mut troop.companies, id) else { return };
        let mut steps = self.stage.in_hand.of_seat(&seat);
        steps.sort_unstable_by_key(|work| work.accepted_at);
        let steps: Vec<String> = steps.iter().map(|work| work.claim.step.to_string()).collect();
        self.tree.ledger().had_in_hand(&format!("{}/{id}", self.path), &steps);
    }

    /// Opens or closes the inbox of the agent that `id` belongs to.
    fn gate(&self, troop: &mut Troop, id: &str) {
        let agent = id.split('/').next().unwrap_or_default();
        if let Some(company) = troop.companies.get_mut(agent) {
            company.gate(&troop.children, &self.stage);
        }
    }

    /// How the agents stand, or the one.
    fn views(&self, troop: &Troop, agent: Option<&AgentName>) -> Vec<AgentView> {
        let look = Look {
            stage: &self.stage,
            tree: &self.tree,
            pool: &self.path,
            children: &troop.children,
            at_work: self.stage.in_hand.by_seat(self.id),
        };
        match agent {
            Some(agent) => {
                troop.companies.get(agent.as_str()).map(|company| view::agent(company, &look)).into_iter().collect()
            }
            None => troop.companies.values().map(|company| view::agent(company, &look)).collect(),
        }
    }

    /// An instance stays down: the others get what it had.
    fn rehome(&self, troop: &mut Troop, id: &str) {
        let Some((company, seat)) = Company::of(&mut troop.companies, id) else { return };
        for work in self.stage.in_hand.of_seat(&seat) {
            company.assign(&troop.children, &self.stage.in_hand, work, true);
        }
    }
}

impl Actor for Pool {
    type Msg = PoolMessage;
    type State = Troop;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<PoolMessage>, (): ()) -> Result<Troop, ActorProcessingErr> {
        let options = ChildrenOptions::default();
        let children = Children::new(&myself, self.path.as_str(), self.tree.clone(), options, PoolMessage::Child);
        let (companies, ended) = (BTreeMap::new(), BTreeSet::new());
        let mut troop = Troop { children, companies, ended, tidying: false };
        self.follow_roster(&myself, &mut troop).await?;
        Ok(troop)
    }

    async fn handle(
        &self,
        myself: ActorRef<PoolMessage>,
        message: PoolMessage,
        troop: &mut Troop,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PoolMessage::Accepted(work) => self.hand_on(troop, work, false),
            PoolMessage::Recovered(work) => self.hand_on(troop, work, true),
            PoolMessage::Views(agent, reply) => {
                reply.send(self.views(troop, agent.as_ref())).ok();
            }
            PoolMessage::Reset(agent, reply) => {
                let ids = troop.companies.get(agent.as_str()).map(Company::child_ids).unwrap_or_default();
                let known = !ids.is_empty();
                for id in ids {
                    let events = troop.children.restart(&id, "an operator asked for it").await?;
                    self.changed(troop, events);
                }
                reply.send(known).ok();
            }
            PoolMessage::Regate(agent, reply) => {
                self.gate(troop, agent.as_str());
                reply.send(troop.companies.contains_key(agent.as_str())).ok();
            }
            PoolMessage::Roster => self.follow_roster(&myself, troop).await?,
            PoolMessage::Tidy => {
                troop.tidying = false;
                self.tidy(&myself, troop).await?;
            }
            PoolMessage::Child(timer) => {
                let events = troop.children.timer(timer).await;
                self.changed(troop, events);
            }
        }
        self.after(&myself, troop).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<PoolMessage>,
        event: SupervisionEvent,
        troop: &mut Troop,
    ) -> Result<(), ActorProcessingErr> {
        let events = troop.children.handle(event).await;
        self.changed(troop, events);
        self.after(&myself, troop).await
    }

    async fn post_stop(&self, _myself: ActorRef<PoolMessage>, troop: &mut Troop) -> Result<(), ActorProcessingErr> {
        troop.children.stop_all().await;
        Ok(())
    }
}
