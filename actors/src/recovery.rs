//! The recovery: finds running steps that nobody works on, claims them and hands them to their pools.
//!
//! Started and restarted by the orchestrator after the pools; messaged only by its own timer. It owns nothing. What a
//! former life of the node left is claimed at once, at the start; what this life has lost (an actor died between the
//! accepting commit and the hand-over) is claimed when it was seen idle in two sweeps running, so that a step which is
//! just being handed over is left alone. A claim raises the epoch: whoever else still works on the step is fenced.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use ractor_cluster_derive::RactorMessage;
use troupe_runtime::domain::agent::ExecutionMode;
use troupe_runtime::domain::ids::StepId;
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::store::{self, Orphan};
use troupe_runtime::supervision::ChildContext;

use crate::pool::message::PoolMessage;
use crate::served::Served;
use crate::stage::Stage;
use crate::work::Work;

/// Where recovered work goes: the pool of each mode, asked for anew each time, for a pool may be in its next life.
pub type FindPool = Arc<dyn Fn(ExecutionMode) -> Option<ActorRef<PoolMessage>> + Send + Sync>;

/// The one message: look.
#[derive(Debug, Clone, Copy, RactorMessage)]
pub struct Sweep;

/// The recovery.
pub struct Recovery {
    stage: Stage,
    current: Arc<BTreeMap<String, Arc<Served>>>,
    pool: FindPool,
}

/// What the sweep remembers.
#[derive(Default)]
pub struct Seen {
    /// Steps of this life that were idle at the last sweep.
    idle: HashSet<StepId>,
    /// Older specs that recovered runs have pinned, made ready once.
    pinned: HashMap<String, Arc<Served>>,
}

impl Recovery {
    /// Starts one life of it.
    pub async fn start(
        stage: Stage,
        current: Arc<BTreeMap<String, Arc<Served>>>,
        pool: FindPool,
        context: ChildContext,
    ) -> Result<ActorCell, SpawnErr> {
        context.spawn(Self { stage, current, pool }, ()).await
    }

    async fn sweep(&self, seen: &mut Seen) -> Result<(), store::Error> {
        let ports = &self.stage.ports;
        let (mine, limit) = (ports.incarnation, self.stage.options.orphans_max);
        // What former lives left comes first and cannot hide behind what is idle: it is claimed until none is left.
        loop {
            let orphans = ports.stores.steps.orphans(mine, limit).await?;
            let full = orphans.len() == limit;
            let claimed = self.take_up(orphans, seen).await?;
            if !full || claimed == 0 {
                break;
            }
        }
        let everything = Incarnation(mine.0 + 1);
        let running = ports.stores.steps.orphans(everything, self.stage.options.steps_max + limit).await?;
        let idle: Vec<Orphan> = running.into_iter().filter(|o| !self.stage.in_hand.has(o.step.id)).collect();
        let before = std::mem::replace(&mut seen.idle, idle.iter().map(|orphan| orphan.step.id).collect());
        let lost = idle.into_iter().filter(|orphan| before.contains(&orphan.step.id)).collect();
        self.take_up(lost, seen).await.map(drop)
    }

    /// Claims steps and hands them to their pools; answers how many it got. Side by side: the claims share commits.
    async fn take_up(&self, orphans: Vec<Orphan>, seen: &mut Seen) -> Result<usize, store::Error> {
        let mut ready = Vec::with_capacity(orphans.len());
        for orphan in orphans {
            if let Some(served) = self.served(&orphan, seen).await? {
                ready.push((orphan, served));
            }
        }
        let handed = join_all(ready.iter().map(|(orphan, served)| self.hand_over(orphan, served))).await;
        handed.into_iter().try_fold(0, |count, handed| Ok(count + usize::from(handed?)))
    }

    /// Claims one step and hands it to its pool; `false` when somebody else was faster or the pool is down.
    async fn hand_over(&self, orphan: &Orphan, served: &Arc<Served>) -> Result<bool, store::Error> {
        let Some(pool) = (self.pool)(served.mode()) else { return Ok(false) };
        let Some(work) = self.claim(orphan, served.clone()).await? else { return Ok(false) };
        tracing::info!(
            trace_id = work.trace.trace_id(),
            task_id = %orphan.task,
            step_id = %orphan.step.id,
            agent = %orphan.agent,
            epoch = %work.claim.epoch,
            "a step is taken up again from its journal"
        );
        if pool.cast(PoolMessage::Recovered(vec![Arc::new(work)])).is_err() {
            tracing::warn!(step_id = %orphan.step.id, "its pool is down; the next sweep tries again");
        }
        Ok(true)
    }

    async fn claim(&self, orphan: &Orphan, served: Arc<Served>) -> Result<Option<Work>, store::Error> {
        let stores = &self.stage.ports.stores;
        let (step, seen) = (orphan.step.id, orphan.step.epoch);
        let Some(event) = stores.tasks.event(orphan.task).await? else { return Ok(None) };
        let Some(claim) = stores.steps.claim(step, seen, self.stage.ports.incarnation).await? else { return Ok(None) };
        Ok(Some(Work {
            claim,
            run: orphan.step.run,
            step_no: orphan.step.step_no,
            input: event.input(),
            trace: event.traceparent.clone(),
            accepted_at: event.time,
            served,
            // As seen before this claim; one more by now.
            claims: orphan.step.claims + 1,
            // Taken up beyond the slots: it was accepted in a former life, and leaving it would be leaving it for ever.
            slots: self.stage.slots.clone().try_acquire_owned().into_iter().collect(),
        }))
    }

    /// What the step's pinned spec needs; `None` when it cannot be had now.
    async fn served(&self, orphan: &Orphan, seen: &mut Seen) -> Result<Option<Arc<Served>>, store::Error> {
        let current = self.current.get(orphan.agent.as_str());
        if let Some(served) = current.filter(|served| *served.digest == *orphan.spec_digest) {
            return Ok(Some(served.clone()));
        }
        if let Some(served) = seen.pinned.get(&orphan.spec_digest) {
            return Ok(Some(served.clone()));
        }
        let Some(spec) = self.stage.ports.stores.specs.spec(&orphan.spec_digest).await? else {
            tracing::error!(agent = %orphan.agent, step_id = %orphan.step.id, "the spec that this step pins is gone");
            return Ok(None);
        };
        match Served::prepare(&self.stage.ports, spec) {
            Ok(served) => {
                let served = Arc::new(served);
                seen.pinned.insert(orphan.spec_digest.clone(), served.clone());
                Ok(Some(served))
            }
            Err(reason) => {
                tracing::error!(agent = %orphan.agent, step_id = %orphan.step.id, %reason, "its pinned spec cannot be served");
                Ok(None)
            }
        }
    }
}

impl Actor for Recovery {
    type Msg = Sweep;
    type State = Seen;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Sweep>, (): ()) -> Result<Seen, ActorProcessingErr> {
        myself.cast(Sweep)?;
        drop(myself.send_interval(self.stage.options.sweep_every, || Sweep));
        Ok(Seen::default())
    }

    async fn handle(&self, _myself: ActorRef<Sweep>, Sweep: Sweep, seen: &mut Seen) -> Result<(), ActorProcessingErr> {
        if self.stage.drain.is_cancelled() {
            return Ok(());
        }
        if let Err(error) = self.sweep(seen).await {
            tracing::warn!(%error, "the sweep for orphaned steps waits for the store");
        }
        Ok(())
    }
}
