//! The orchestrator: supervisor of the pools and of the recovery, and the registry's voice.
//!
//! Started by the root; messaged by the troupe's handle. Owns one pool for each way of running, further ones where the agents
//! of a mode are too many for one supervisor ([`PoolId`]), the recovery and the vitals, one for one. It does no I/O: agents
//! come prepared ([`Roster`]). When the roster changes it is told, starts the pools that are missing, and tells all of
//! them; one that has nobody any more stays. When it dies, the root starts it again with the roster as it is then, and the recovery finds what was in hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};
use ractor_cluster_derive::RactorMessage;
use troupe_runtime::domain::agent::{AgentName, ExecutionMode};
use troupe_runtime::supervision::{
    ChildContext, ChildEvent, ChildSpec, ChildTimer, Children, ChildrenOptions, Shutdown, Tree,
};

use crate::pool::{Pool, PoolMessage};
use crate::recovery::{FindPool, Recovery};
use crate::registry::AgentView;
use crate::roster::{PoolId, Roster};
use crate::stage::Stage;
use crate::vitals::Vitals;

/// The ways of running that always have a pool; scheduled agents run in the pools of their `runs_as`.
const MODES: [ExecutionMode; 3] = [ExecutionMode::Autonomous, ExecutionMode::Collaborative, ExecutionMode::Continuous];

/// What the orchestrator is told.
#[derive(Debug, RactorMessage)]
pub enum OrchestratorMessage {
    /// How do all agents stand, or the one of this name? Nothing when a pool that is up does not say.
    Agents(Option<AgentName>, RpcReplyPort<Option<Vec<AgentView>>>),
    /// An operator wants an agent's actors started again, with a whole budget; answers whether it is here.
    Reset(AgentName, RpcReplyPort<bool>),
    /// An agent was paused or resumed; answers whether it is here.
    Regate(AgentName, RpcReplyPort<bool>),
    /// The roster is another one.
    Roster,
    /// A child's wait is over.
    Child(ChildTimer),
}

/// The orchestrator.
pub struct Orchestrator {
    stage: Arc<Stage>,
    roster: Roster,
    path: String,
    tree: Tree,
}

/// Its children, and which of them are pools.
pub struct Pools {
    children: Children,
    all: BTreeSet<PoolId>,
    live: Live,
}

/// Where the pools live now.
type Live = Arc<Mutex<BTreeMap<PoolId, ActorRef<PoolMessage>>>>;

impl Orchestrator {
    /// Starts one life of it.
    pub async fn start(stage: Arc<Stage>, roster: Roster, context: ChildContext) -> Result<ActorCell, SpawnErr> {
        let (path, tree) = (context.path.clone(), context.tree.clone());
        context.spawn(Self { stage, roster, path, tree }, ()).await
    }

    fn pool_spec(&self, id: PoolId) -> ChildSpec {
        let (stage, roster) = (self.stage.clone(), self.roster.clone());
        ChildSpec::new(id.to_string(), "pool", move |context| Pool::start(stage.clone(), roster.clone(), id, context))
    }

    /// Starts the pools that the roster has and that are not there.
    async fn open_pools(&self, pools: &mut Pools) -> Result<(), ActorProcessingErr> {
        let mut wanted = self.roster.pools();
        wanted.extend(MODES.map(PoolId::first));
        let missing: Vec<PoolId> = wanted.difference(&pools.all).copied().collect();
        for id in missing {
            pools.all.insert(id);
            let events = pools.children.start(self.pool_spec(id)).await?;
            pools.changed(&events);
        }
        Ok(())
    }

    fn recovery_spec(&self, pools: &Pools) -> ChildSpec {
        let (stage, roster, live) = (self.stage.clone(), self.roster.clone(), pools.live.clone());
        let find: FindPool = Arc::new(move |id| live.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned());
        let start = move |context| Recovery::start(stage.clone(), roster.clone(), find.clone(), context);
        ChildSpec::new("recovery", "recovery", start).shutdown(Shutdown::Kill)
    }
}

impl Pools {
    /// The agents of all pools that are up, or the one of this name. A pool that is down has nobody; without the answer of
    /// one that is up there is none: half a list would pass for a whole one.
    async fn agents(&self, agent: Option<AgentName>, limit: Duration) -> Option<Vec<AgentView>> {
        let live = self.live();
        let asked = live.iter().map(|pool| pool.call(|port| PoolMessage::Views(agent.clone(), port), Some(limit)));
        let mut views = Vec::new();
        for answer in join_all(asked).await {
            match answer {
                Ok(CallResult::Success(of_pool)) => views.extend(of_pool),
                Ok(CallResult::Timeout) => return None,
                // It falls, or has just fallen.
                Ok(CallResult::SenderError) | Err(_) => {}
            }
        }
        // One that has moved to another pool is shown where it takes work.
        views.sort_by(|a, b| (&a.name, a.is_retired()).cmp(&(&b.name, b.is_retired())));
        views.dedup_by(|b, a| a.name == b.name);
        Some(views)
    }

    /// Asks all pools; whether any of them says yes.
    async fn any(&self, limit: Duration, message: impl Fn(RpcReplyPort<bool>) -> PoolMessage) -> bool {
        let live = self.live();
        let answers = join_all(live.iter().map(|pool| pool.call(&message, Some(limit)))).await;
        answers.iter().any(|answer| matches!(answer, Ok(CallResult::Success(true))))
    }

    fn live(&self) -> Vec<ActorRef<PoolMessage>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn changed(&self, events: &[ChildEvent]) {
        for event in events {
            tracing::debug!(?event, "a pool or the recovery changed");
        }
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        for id in &self.all {
            match self.children.get(&id.to_string()) {
                Some(cell) => live.insert(*id, ActorRef::from(cell)),
                None => live.remove(id),
            };
        }
    }
}

impl Actor for Orchestrator {
    type Msg = OrchestratorMessage;
    type State = Pools;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<OrchestratorMessage>, (): ()) -> Result<Pools, ActorProcessingErr> {
        let options = ChildrenOptions::default();
        let path = self.path.as_str();
        let children = Children::new(&myself, path, self.tree.clone(), options, OrchestratorMessage::Child);
        let mut pools = Pools { children, all: BTreeSet::new(), live: Arc::default() };
        self.open_pools(&mut pools).await?;
        pools.children.start(self.recovery_spec(&pools)).await?;
        pools.children.start(Vitals::child(&self.stage)).await?;
        Ok(pools)
    }

    async fn handle(
        &self,
        _myself: ActorRef<OrchestratorMessage>,
        message: OrchestratorMessage,
        pools: &mut Pools,
    ) -> Result<(), ActorProcessingErr> {
        let limit = self.stage.options.call_timeout;
        match message {
            OrchestratorMessage::Agents(agent, reply) => {
                reply.send(pools.agents(agent, limit).await).ok();
            }
            OrchestratorMessage::Reset(agent, reply) => {
                let known = pools.any(limit, |port| PoolMessage::Reset(agent.clone(), port)).await;
                reply.send(known).ok();
            }
            OrchestratorMessage::Regate(agent, reply) => {
                let known = pools.any(limit, |port| PoolMessage::Regate(agent.clone(), port)).await;
                reply.send(known).ok();
            }
            OrchestratorMessage::Roster => {
                self.open_pools(pools).await?;
                // A pool that is down reads the roster when it is back.
                for pool in pools.live() {
                    pool.cast(PoolMessage::Roster).ok();
                }
            }
            OrchestratorMessage::Child(timer) => {
                let events = pools.children.timer(timer).await;
                pools.changed(&events);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<OrchestratorMessage>,
        event: SupervisionEvent,
        pools: &mut Pools,
    ) -> Result<(), ActorProcessingErr> {
        let events = pools.children.handle(event).await;
        pools.changed(&events);
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<OrchestratorMessage>,
        pools: &mut Pools,
    ) -> Result<(), ActorProcessingErr> {
        pools.children.stop_all().await;
        Ok(())
    }
}
