//! The agent actor: starts steps and stays free to answer.
//!
//! Started and restarted by its pool, messaged by the pool only, and by the ends of its steps; a routine with a mailbox of ours
//! (docs/adr/0034), so a ping is answered whenever it comes for its next message. Owns the lives of its steps, which
//! are routines. A life that falls charges the *step's attempts*: the next one records the failed attempt before it does
//! anything else (a person is asked first where a call is in doubt). A fall of the agent actor itself charges its
//! *restart budget*: its steps are cut off with it, the pool starts it again and hands it the same work, and the steps go on
//! from their journals with no attempt charged.

use std::collections::HashMap;
use std::sync::Arc;

use ractor::ActorProcessingErr;
use troupe_runtime::domain::ids::StepId;
use troupe_runtime::supervision::{Alive, ChildContext, Exit, Messages, Routine, ToSelf, Tree};

use crate::stage::Stage;
use crate::step::{Beginning, StepLife};
use crate::work::Work;

/// What it is, in the live tree.
pub(crate) const AGENT: &str = "agent";

/// What an agent actor is told.
#[derive(Debug)]
pub enum AgentMessage {
    /// Do this step.
    Work {
        /// Which.
        work: Arc<Work>,
        /// Whether it may have begun in a former life of an actor.
        begun: bool,
    },
    /// A life of a step is over.
    Over {
        /// Which.
        life: u64,
        /// How it ended.
        exit: Exit,
    },
}

/// An agent actor.
pub struct AgentActor {
    stage: Arc<Stage>,
    path: String,
    tree: Tree,
    to_self: ToSelf<AgentMessage>,
}

/// The steps under way.
#[derive(Default)]
pub struct Steps {
    /// Lives that began so far.
    begun: u64,
    by_life: HashMap<u64, UnderWay>,
    open: HashMap<StepId, Arc<Work>>,
}

struct UnderWay {
    work: Arc<Work>,
    /// Falls of this step's lives under this actor; guards against a step that falls even while its fall is recorded.
    falls: u32,
    /// The life; cut off with this.
    _routine: Routine,
}

impl Steps {
    fn is_open(&self, work: &Arc<Work>) -> bool {
        self.open.get(&work.claim.step).is_some_and(|open| Arc::ptr_eq(open, work))
    }
}

impl AgentActor {
    /// Starts one life of it.
    #[must_use = "an agent actor that is dropped is cut off"]
    pub fn start(stage: Arc<Stage>, context: ChildContext) -> Alive {
        let (path, tree) = (context.path.clone(), context.tree.clone());
        context.attend(|messages| {
            let to_self = messages.to_self();
            Self { stage, path, tree, to_self }.life(messages)
        })
    }

    /// Until it is brought down: its steps are cut off with what is left of it.
    async fn life(self, mut messages: Messages<AgentMessage>) -> Result<(), ActorProcessingErr> {
        let mut steps = Steps::default();
        while let Some(message) = messages.next().await {
            self.handle(message, &mut steps);
        }
        Ok(())
    }

    /// Handles one message; awaits nothing, so the next one and a ping never wait for long.
    fn handle(&self, message: AgentMessage, steps: &mut Steps) {
        match message {
            AgentMessage::Work { work, begun } => {
                // Handed on twice (once before and once after a restart): one life is enough. One that works under an
                // older claim is fenced and counts for nothing.
                if !steps.is_open(&work) && self.stage.in_hand.holds(&work) {
                    let how = if begun { Beginning::Resumed } else { Beginning::Fresh };
                    self.begin(steps, work, 0, how);
                }
            }
            AgentMessage::Over { life, exit } => self.over(steps, life, exit),
        }
    }

    fn begin(&self, steps: &mut Steps, work: Arc<Work>, falls: u32, how: Beginning) {
        steps.begun += 1;
        let life = steps.begun;
        let told = {
            let (to_self, in_hand, work) = (self.to_self.clone(), self.stage.in_hand.clone(), work.clone());
            move |exit: Exit| {
                // Here and not once the actor gets to it: the next one waits for the slot.
                if matches!(exit, Exit::Normal { .. }) {
                    in_hand.drop(&work);
                }
                to_self.send(AgentMessage::Over { life, exit });
            }
        };
        let entry = Arc::new(self.tree.insert(format!("{}/step {}", self.path, work.claim.step), "step"));
        let step = StepLife::new(self.stage.clone(), work.clone(), how);
        let routine = Routine::begin(self.tree.clone(), told, step.begin(entry.clone()));
        entry.reached_by(routine.reach());
        steps.open.insert(work.claim.step, work.clone());
        steps.by_life.insert(life, UnderWay { work, falls, _routine: routine });
    }

    /// A life of a step is over.
    fn over(&self, steps: &mut Steps, life: u64, exit: Exit) {
        let Some(UnderWay { work, falls, .. }) = steps.by_life.remove(&life) else { return };
        if steps.is_open(&work) {
            steps.open.remove(&work.claim.step);
        }
        let cause = match exit {
            Exit::Normal { .. } => return,
            // Claimed anew meanwhile: whoever has that claim goes on.
            _ if !self.stage.in_hand.holds(&work) => return,
            Exit::Killed => "the step was killed".to_owned(),
            Exit::Failed { cause } => cause,
        };
        let spec = &work.served.spec;
        tracing::warn!(agent = %spec.name, step_id = %work.claim.step, task_id = %work.claim.task, cause, "a step fell");
        // Two more than there are attempts: enough for every recorded one and a fall while recording.
        let how = if falls > spec.retries + 2 { Beginning::GivenUp { cause } } else { Beginning::Fallen { cause } };
        if falls > spec.retries + 4 {
            tracing::error!(step_id = %work.claim.step, "a step falls even while it is given up; left to the sweep");
            return self.stage.in_hand.drop(&work);
        }
        self.begin(steps, work, falls + 1, how);
    }
}
