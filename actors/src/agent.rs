//! The agent actor: starts steps and stays free to answer.
//!
//! Started and restarted by its pool, messaged by the pool only. Owns the step actors that are its children; each is one
//! step. A step actor that falls charges the *step's attempts*: its successor records the failed attempt before it does
//! anything else (a person is asked first where a call is in doubt). A fall of the agent actor itself charges its
//! *restart budget*: ractor cuts its steps off, the pool starts it again and hands it the same work, and the steps go on
//! from their journals with no attempt charged.

use std::collections::HashMap;
use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};
use ractor_cluster_derive::RactorMessage;
use troupe_runtime::domain::ids::StepId;
use troupe_runtime::supervision::{ChildContext, Depth, Exit, Tree};

use crate::stage::Stage;
use crate::step::{Beginning, StepActor};
use crate::work::Work;

/// What an agent actor is told.
#[derive(Debug, RactorMessage)]
pub enum AgentMessage {
    /// Do this step.
    Work {
        /// Which.
        work: Arc<Work>,
        /// Whether it may have begun in a former life of an actor.
        begun: bool,
    },
    /// Are you there?
    Ping(RpcReplyPort<()>),
}

/// An agent actor.
pub struct AgentActor {
    stage: Stage,
    path: String,
    tree: Tree,
    depth: Depth,
}

/// The steps under way.
#[derive(Default)]
pub struct Steps {
    by_actor: HashMap<ActorId, UnderWay>,
    open: HashMap<StepId, Arc<Work>>,
}

struct UnderWay {
    work: Arc<Work>,
    /// Falls of this step's actors in this life; guards against a step that falls even while its fall is recorded.
    falls: u32,
}

impl Steps {
    fn is_open(&self, work: &Arc<Work>) -> bool {
        self.open.get(&work.claim.step).is_some_and(|open| Arc::ptr_eq(open, work))
    }
}

impl AgentActor {
    /// Starts one life of it.
    pub async fn start(stage: Stage, context: ChildContext) -> Result<ActorCell, SpawnErr> {
        let (path, tree, depth) = (context.path.clone(), context.tree.clone(), context.depth.clone());
        context.spawn(Self { stage, path, tree, depth }, ()).await
    }

    async fn begin(&self, myself: &ActorRef<AgentMessage>, steps: &mut Steps, under_way: UnderWay, how: Beginning) {
        let work = under_way.work.clone();
        let place = format!("{}/step {}", self.path, work.claim.step);
        let actor = StepActor::new(self.stage.clone(), work.clone(), how);
        match myself.spawn_linked(None, actor, (self.tree.clone(), place)).await {
            Ok((step, _)) => {
                steps.open.insert(work.claim.step, work);
                steps.by_actor.insert(step.get_id(), under_way);
            }
            Err(error) => {
                tracing::error!(step_id = %work.claim.step, %error, "a step actor could not be started; left to the sweep");
                self.stage.in_hand.drop(&work);
            }
        }
    }

    /// A step actor is gone.
    async fn gone(&self, myself: &ActorRef<AgentMessage>, steps: &mut Steps, cell: &ActorCell, exit: &Exit) {
        let Some(UnderWay { work, falls }) = steps.by_actor.remove(&cell.get_id()) else { return };
        if steps.is_open(&work) {
            steps.open.remove(&work.claim.step);
        }
        let cause = match exit {
            Exit::Normal { .. } => return self.stage.in_hand.drop(&work),
            // Claimed anew meanwhile: whoever has that claim goes on.
            _ if !self.stage.in_hand.holds(&work) => return,
            Exit::Killed => "the step was killed".to_owned(),
            Exit::Failed { cause } => cause.clone(),
        };
        let spec = &work.served.spec;
        tracing::warn!(agent = %spec.name, step_id = %work.claim.step, task_id = %work.claim.task, cause, "a step fell");
        // Two more than there are attempts: enough for every recorded one and a fall while recording.
        let how = if falls > spec.retries + 2 { Beginning::GivenUp { cause } } else { Beginning::Fallen { cause } };
        if falls > spec.retries + 4 {
            tracing::error!(step_id = %work.claim.step, "a step falls even while it is given up; left to the sweep");
            return self.stage.in_hand.drop(&work);
        }
        self.begin(myself, steps, UnderWay { work, falls: falls + 1 }, how).await;
    }
}

impl Actor for AgentActor {
    type Msg = AgentMessage;
    type State = Steps;
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<AgentMessage>, (): ()) -> Result<Steps, ActorProcessingErr> {
        Ok(Steps::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<AgentMessage>,
        message: AgentMessage,
        steps: &mut Steps,
    ) -> Result<(), ActorProcessingErr> {
        self.depth.taken();
        match message {
            AgentMessage::Work { work, begun } => {
                // Handed on twice (once before and once after a restart): one actor is enough. An actor that works
                // under an older claim is fenced and counts for nothing.
                if !steps.is_open(&work) && self.stage.in_hand.holds(&work) {
                    let how = if begun { Beginning::Resumed } else { Beginning::Fresh };
                    // In a box: an agent that idles keeps no room for it.
                    Box::pin(self.begin(&myself, steps, UnderWay { work, falls: 0 }, how)).await;
                }
            }
            AgentMessage::Ping(reply) => {
                reply.send(()).ok();
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<AgentMessage>,
        event: SupervisionEvent,
        steps: &mut Steps,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((cell, exit)) = Exit::of(&event, self.tree.redactor()) {
            Box::pin(self.gone(&myself, steps, cell, &exit)).await;
        }
        Ok(())
    }
}
