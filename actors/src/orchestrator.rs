//! The orchestrator: supervisor of the pools and of the recovery, and the registry's voice.
//!
//! Started by the root; messaged by the troupe's handle. Owns one pool for each way of running, the recovery and the
//! vitals, one for one. It does no I/O: agents come prepared ([`Roster`]). When the roster changes it is told, and tells its
//! pools. When it dies, the root starts it again with the roster as it is then, and the recovery finds what was in hand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};
use ractor_cluster_derive::RactorMessage;
use troupe_runtime::domain::agent::{AgentName, ExecutionMode};
use troupe_runtime::supervision::{
    ChildContext, ChildEvent, ChildSpec, ChildTimer, Children, ChildrenOptions, Shutdown, Tree,
};

use crate::pool::{Pool, PoolMessage};
use crate::recovery::{FindPool, Recovery};
use crate::registry::AgentView;
use crate::roster::Roster;
use crate::stage::Stage;
use crate::vitals::Vitals;

/// The ways of running that have a pool; scheduled agents run in the pool of their `runs_as`.
const POOLS: [ExecutionMode; 3] = [ExecutionMode::Autonomous, ExecutionMode::Collaborative, ExecutionMode::Continuous];

/// What the orchestrator is told.
#[derive(Debug, RactorMessage)]
pub enum OrchestratorMessage {
    /// How do all agents stand?
    Agents(RpcReplyPort<Vec<AgentView>>),
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
    stage: Stage,
    roster: Roster,
    path: String,
    tree: Tree,
}

/// Its children, and where the pools live now.
pub struct Pools {
    children: Children,
    live: Arc<Mutex<BTreeMap<ExecutionMode, ActorRef<PoolMessage>>>>,
}

impl Orchestrator {
    /// Starts one life of it.
    pub async fn start(stage: Stage, roster: Roster, context: ChildContext) -> Result<ActorCell, SpawnErr> {
        let (path, tree) = (context.path.clone(), context.tree.clone());
        context.spawn(Self { stage, roster, path, tree }, ()).await
    }

    fn pool_spec(&self, mode: ExecutionMode) -> ChildSpec {
        let (stage, roster) = (self.stage.clone(), self.roster.clone());
        ChildSpec::new(mode.as_str(), "pool", move |context| Pool::start(stage.clone(), roster.clone(), mode, context))
    }

    fn recovery_spec(&self, pools: &Pools) -> ChildSpec {
        let (stage, roster, live) = (self.stage.clone(), self.roster.clone(), pools.live.clone());
        let find: FindPool =
            Arc::new(move |mode| live.lock().unwrap_or_else(PoisonError::into_inner).get(&mode).cloned());
        let start = move |context| Recovery::start(stage.clone(), roster.clone(), find.clone(), context);
        ChildSpec::new("recovery", "recovery", start).shutdown(Shutdown::Kill)
    }

    async fn agents(pools: &Pools, limit: Duration) -> Vec<AgentView> {
        let live: Vec<_> = pools.live.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let asked = live.iter().map(|pool| pool.call(PoolMessage::Views, Some(limit)));
        let answers = join_all(asked).await;
        let views = answers.into_iter().filter_map(|answer| match answer {
            Ok(ractor::rpc::CallResult::Success(views)) => Some(views),
            _ => None,
        });
        views.flatten().collect()
    }
}

impl Pools {
    /// Asks all pools; whether any of them says yes.
    async fn any(&self, limit: Duration, message: impl Fn(RpcReplyPort<bool>) -> PoolMessage) -> bool {
        let live: Vec<_> = self.live.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let answers = join_all(live.iter().map(|pool| pool.call(&message, Some(limit)))).await;
        answers.iter().any(|answer| matches!(answer, Ok(ractor::rpc::CallResult::Success(true))))
    }

    fn changed(&self, events: &[ChildEvent]) {
        for event in events {
            tracing::debug!(?event, "a pool or the recovery changed");
        }
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        for mode in POOLS {
            match self.children.get(mode.as_str()) {
                Some(cell) => live.insert(mode, ActorRef::from(cell)),
                None => live.remove(&mode),
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
        let mut pools = Pools { children, live: Arc::default() };
        for mode in POOLS {
            pools.children.start(self.pool_spec(mode)).await?;
        }
        pools.changed(&[]);
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
            OrchestratorMessage::Agents(reply) => {
                let mut views = Self::agents(pools, limit).await;
                // One that has moved to another pool is shown where it takes work.
                views.sort_by(|a, b| (&a.name, a.is_retired()).cmp(&(&b.name, b.is_retired())));
                views.dedup_by(|b, a| a.name == b.name);
                reply.send(views).ok();
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
                // A pool that is down reads the roster when it is back.
                for pool in pools.live.lock().unwrap_or_else(PoisonError::into_inner).values() {
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
