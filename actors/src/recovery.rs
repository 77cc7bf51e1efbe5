//! The recovery: finds running steps that nobody works on, claims them and hands them to their pools.
//!
//! Started and restarted by the orchestrator after the pools; messaged only by its own timer. It owns nothing, and does
//! nothing while the node does not hold its lease.
//!
//! | at every look (`lease.look_every`) | |
//! |---|---|
//! | nodes whose lease has run out | are ended, once this node itself has been here for a while |
//! | steps of nobody who lives | are claimed: of the ended, of those that have left, of this node's own former lives; and forks, which nobody has begun |
//! | ends that nobody who lives would tell | are told here |
//!
//! Every `sweep_every` it also looks for what this life has lost (an actor died between the accepting commit and the
//! hand-over): claimed when it was seen idle twice with some time between, so that a step which is just being handed over
//! is left alone. A step of another node that lives is never touched. A claim raises the epoch: whoever else still works
//! on the step is fenced.
//!
//! A step that cannot be taken up (the spec that it pins cannot be served, a row of it cannot be read) is reported,
//! left alone until the next sweep, and stands in nobody's way. The wait between looks begins when a look has ended:
//! after a time without a store there is one to do, not one for every wait that was missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use ractor_cluster_derive::RactorMessage;
use tokio::time::Instant;
use troupe_runtime::domain::ids::StepId;
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::fault::Faulty as _;
use troupe_runtime::store::{self, NOBODY, Orphan};
use troupe_runtime::supervision::ChildContext;

use crate::pool::message::PoolMessage;
use crate::roster::{PoolId, Roster};
use crate::served::Served;
use crate::stage::Stage;
use crate::work::{Tenure, Work};

/// Where recovered work goes: the agent's pool, asked for anew each time, for a pool may be in its next life.
pub type FindPool = Arc<dyn Fn(PoolId) -> Option<ActorRef<PoolMessage>> + Send + Sync>;

/// The one message: look.
#[derive(Debug, Clone, Copy, RactorMessage)]
pub struct Look;

/// The recovery.
pub struct Recovery {
    stage: Arc<Stage>,
    roster: Roster,
    pool: FindPool,
}

/// What the sweep remembers.
#[derive(Default)]
pub struct Seen {
    /// When the last sweep ended.
    swept: Option<Instant>,
    /// Steps that could not be taken up since then.
    left: HashSet<StepId>,
    /// Steps of this life that were idle at the last sweep, and since when.
    idle: HashMap<StepId, Instant>,
    /// Older specs that recovered runs have pinned, made ready once.
    pinned: HashMap<String, Arc<Served>>,
    /// Agents with steps that wait for them, and specs that cannot be served, reported once.
    missed: HashSet<String>,
    /// Steps that cannot be taken up, reported once.
    stuck: HashSet<StepId>,
}

impl Seen {
    /// One step cannot be taken up, which is said once; an error when none can, for the store does not answer.
    fn pass_over(&mut self, orphan: &Orphan, error: store::Error) -> Result<(), store::Error> {
        if error.fault().is_transient() || error == store::Error::Over {
            return Err(error);
        }
        self.left.insert(orphan.step.id);
        if self.stuck.insert(orphan.step.id) {
            tracing::error!(agent = %orphan.agent, step_id = %orphan.step.id, %error, "a step cannot be taken up again");
        }
        Ok(())
    }
}

impl Recovery {
    /// Starts one life of it.
    pub async fn start(
        stage: Arc<Stage>,
        roster: Roster,
        pool: FindPool,
        context: ChildContext,
    ) -> Result<ActorCell, SpawnErr> {
        context.spawn(Self { stage, roster, pool }, ()).await
    }

    /// Looks once at what the dead have left, and now and then at what this node has itself.
    async fn look(&self, own: Incarnation, seen: &mut Seen) -> Result<(), store::Error> {
        let (stores, options) = (&self.stage.ports.stores, &self.stage.options);
        // Who was away itself gives the others the time to come back.
        if self.stage.lease.is_settled(options.lease.ttl / 2) {
            for gone in stores.nodes.end_expired(own).await? {
                tracing::warn!(incarnation = %gone, "the lease of a node has run out; its work is taken over");
            }
        }
        if stores.outbox.inherit(own).await? > 0 {
            self.stage.relay.look();
        }
        let sweeps = seen.swept.is_none_or(|swept| swept.elapsed() >= options.sweep_every);
        if sweeps {
            seen.left.clear();
        }
        let (page, mut after) = (options.orphans_max, i64::MIN);
        loop {
            let mut orphans = stores.steps.orphans(after, page).await?;
            let Some(last) = orphans.last() else { break };
            after = last.place;
            orphans.retain(|orphan| !seen.left.contains(&orphan.step.id));
            self.take_up(own, orphans, seen).await?;
        }
        if sweeps {
            self.sweep(own, seen).await?;
            seen.swept = Some(Instant::now());
        }
        Ok(())
    }

    /// Goes once through the running steps of this node, oldest first, for those that it has lost.
    async fn sweep(&self, own: Incarnation, seen: &mut Seen) -> Result<(), store::Error> {
        let (mut after, mut idle) = (i64::MIN, HashMap::new());
        loop {
            let mut owned = self.stage.ports.stores.steps.owned(own, after, self.stage.options.orphans_max).await?;
            let Some(last) = owned.last() else { break };
            after = last.place;
            owned.retain(|orphan| self.is_lost(orphan, seen, &mut idle));
            self.take_up(own, owned, seen).await?;
        }
        seen.idle = idle;
        Ok(())
    }

    /// Whether nobody works on a step of this life, and nobody did at the sweep before.
    fn is_lost(&self, orphan: &Orphan, seen: &Seen, idle: &mut HashMap<StepId, Instant>) -> bool {
        let step = orphan.step.id;
        if self.stage.in_hand.has(step) {
            return false;
        }
        let since = seen.idle.get(&step).copied().unwrap_or_else(Instant::now);
        let lost = since.elapsed() >= self.stage.options.sweep_every / 2;
        if !lost {
            idle.insert(step, since);
        }
        lost
    }

    /// Claims steps and hands them to their pools. Side by side: the claims share commits. What is wrong with one of
    /// them is not the others' affair; only a store that does not answer ends the sweep.
    async fn take_up(&self, own: Incarnation, orphans: Vec<Orphan>, seen: &mut Seen) -> Result<(), store::Error> {
        let mut ready = Vec::with_capacity(orphans.len());
        for orphan in orphans {
            match self.served(&orphan, seen).await {
                Ok(Some(served)) => ready.push((orphan, served)),
                Ok(None) => drop(seen.left.insert(orphan.step.id)),
                Err(error) => seen.pass_over(&orphan, error)?,
            }
        }
        let handed = join_all(ready.iter().map(|(orphan, served)| self.hand_over(own, orphan, served))).await;
        ready.iter().zip(handed).try_for_each(|((orphan, _), handed)| handed.or_else(|e| seen.pass_over(orphan, e)))
    }

    /// Claims one step and hands it to its pool; nothing when somebody else was faster or the pool is down.
    async fn hand_over(&self, own: Incarnation, orphan: &Orphan, served: &Arc<Served>) -> Result<(), store::Error> {
        let place = self.roster.pool_for(orphan.agent.as_str(), served.mode());
        let Some(pool) = (self.pool)(place) else { return Ok(()) };
        let Some(work) = self.claim(own, orphan, served.clone()).await? else { return Ok(()) };
        tracing::info!(
            trace_id = work.event.traceparent.trace_id(),
            task_id = %orphan.task,
            step_id = %orphan.step.id,
            agent = %orphan.agent,
            epoch = %work.claim.epoch,
            former = %orphan.step.owner,
            "a step is taken up again from its journal"
        );
        if pool.cast(PoolMessage::Recovered(vec![Arc::new(work)])).is_err() {
            tracing::warn!(step_id = %orphan.step.id, "its pool is down; the next sweeps try again");
        }
        Ok(())
    }

    async fn claim(
        &self,
        own: Incarnation,
        orphan: &Orphan,
        served: Arc<Served>,
    ) -> Result<Option<Work>, store::Error> {
        let stores = &self.stage.ports.stores;
        let (step, seen) = (orphan.step.id, orphan.step.epoch);
        let slot = self.stage.slots.clone().try_acquire_owned().ok();
        // What nobody has begun (a fork) waits for a free place, and while its agent is paused. The others are taken up beyond the slots: they were
        // accepted in a former life, and leaving them would be leaving them for ever.
        let waits = slot.is_none() || self.stage.standings.is_paused(orphan.agent.as_str());
        if waits && orphan.step.owner == NOBODY {
            return Ok(None);
        }
        let Some(event) = stores.tasks.event(orphan.task).await? else { return Ok(None) };
        let Some(claim) = stores.steps.claim(step, seen, own).await? else { return Ok(None) };
        Ok(Some(Work {
            claim,
            tenure: Tenure::of(claim),
            run: orphan.step.run,
            step_no: orphan.step.step_no,
            copied: orphan.step.copied,
            accepted_at: event.time,
            event: Arc::new(event),
            served,
            // As seen before this claim; one more by now.
            claims: orphan.step.claims + 1,
            slots: slot.into_iter().collect(),
            places: None,
        }))
    }

    /// What the step's pinned spec needs; `None` when it cannot be had now.
    async fn served(&self, orphan: &Orphan, seen: &mut Seen) -> Result<Option<Arc<Served>>, store::Error> {
        let current = self.roster.served(orphan.agent.as_str()).or_else(|| self.stage.late.get(orphan.agent.as_str()));
        if current.is_none() && self.roster.knows(orphan.agent.as_str()) {
            // Not claimed: nobody here could work on it, and each claim without progress counts against the step.
            if seen.missed.insert(orphan.agent.to_string()) {
                tracing::warn!(agent = %orphan.agent, step_id = %orphan.step.id, "the agent cannot be served; its steps wait");
            }
            return Ok(None);
        }
        // Changed or gone from the configuration: its run goes on with the spec that it has pinned.
        if let Some(current) = current.filter(|current| *current.digest == *orphan.spec_digest) {
            return Ok(Some(current));
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
                // The digest that the run pins, whatever this version would write for the same spec.
                let served = Arc::new(Served { digest: orphan.spec_digest.as_str().into(), ..served });
                seen.pinned.insert(orphan.spec_digest.clone(), served.clone());
                Ok(Some(served))
            }
            Err(reason) => {
                if seen.missed.insert(orphan.spec_digest.clone()) {
                    tracing::error!(agent = %orphan.agent, step_id = %orphan.step.id, %reason, "its pinned spec cannot be served; its steps wait");
                }
                Ok(None)
            }
        }
    }
}

impl Actor for Recovery {
    type Msg = Look;
    type State = Seen;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Look>, (): ()) -> Result<Seen, ActorProcessingErr> {
        myself.cast(Look)?;
        Ok(Seen::default())
    }

    async fn handle(&self, myself: ActorRef<Look>, Look: Look, seen: &mut Seen) -> Result<(), ActorProcessingErr> {
        if self.stage.drain.is_cancelled() {
            return Ok(());
        }
        let mut wait = self.stage.options.lease.look_every;
        if let Some(own) = self.stage.lease.own()
            && let Err(error) = self.look(own, seen).await
        {
            tracing::warn!(%error, "the search for orphaned steps waits for the store");
            wait = wait.min(self.stage.options.store_wait_max);
        }
        drop(myself.send_after(wait, || Look));
        Ok(())
    }
}
