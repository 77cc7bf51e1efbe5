//! One child's life: started, ended, charged to the budget, given up.
//!
//! Each method here takes one child from one phase to the next and says so: in the live tree, in the log when it is a
//! failure, and by the event it returns. Which child may start when is decided in `order.rs`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use ractor::{ActorStatus, SpawnErr};
use tokio::time::Instant;

use super::{ChildEvent, ChildTimer, Children};
use crate::supervision::alive::{Alive, Desk};
use crate::supervision::backoff::Backoff;
use crate::supervision::budget::{Decision, RestartBudget, Restarts};
use crate::supervision::cause::{CAUSE_CHARS_MAX, clip, panic_text};
use crate::supervision::child::{ChildContext, ChildSpec, ChildView};
use crate::supervision::exit::{Exit, Restart};
use crate::supervision::tree::{ActorState, Entry};
use crate::supervision::wake::Wake;

/// A child and where it stands.
pub(super) struct Child {
    pub(super) spec: ChildSpec,
    pub(super) phase: Phase,
    pub(super) alive: Option<Alive>,
    pub(super) entry: Entry,
    /// The wait that counts; timers with another number are of the past.
    pub(super) generation: u64,
    /// Starts so far, failed ones too.
    lives: u32,
    history: Restarts,
    backoff: Backoff,
    running_since: Instant,
    last_error: Option<String>,
    /// Why its present life is to end and to be followed by another one, when somebody has asked for that.
    pub(super) asked: Option<String>,
    /// Whether its last start came to a life.
    started: bool,
}

/// Where a child stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be started as soon as the order allows.
    Waiting,
    Running,
    /// Asked to stop.
    Stopping(Then),
    BackingOff {
        until: Instant,
    },
    Unavailable {
        reason: String,
    },
    Stopped {
        reason: String,
    },
}

/// What follows when a child that was asked to stop has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Forget it.
    Remove,
    /// Start it again when its turn comes.
    Wait,
}

impl Children {
    /// Begins one life of the child at `place`.
    pub(super) async fn begin(&mut self, place: u64) -> Option<ChildEvent> {
        let child = self.places.get_mut(&place)?;
        let restarts = child.lives;
        child.lives = child.lives.saturating_add(1);
        child.generation = next_generation();
        child.entry.starting();
        let (wake, parent, id) = (Arc::clone(&self.wake), Arc::clone(&self.path), child.spec.id.clone());
        let life = child.generation;
        let told =
            Box::new(move |exit| wake(Duration::ZERO, ChildTimer { parent, id, wake: Wake::Over { life, exit } }));
        let context = ChildContext {
            supervisor: self.supervisor.clone(),
            path: child.entry.path().to_owned(),
            tree: self.tree.clone(),
            restarts,
            desk: Desk { told, tree: self.tree.clone(), number: life },
        };
        match launch(&child.spec, context).await.map_err(|text| self.tree.cause(&text)) {
            Ok(alive) => {
                self.by_actor.extend(alive.actor().map(|cell| (cell.get_id(), place)));
                child.entry.running(alive.reach(), restarts);
                child.alive = Some(alive);
                child.phase = Phase::Running;
                child.started = true;
                child.asked = None;
                child.running_since = Instant::now();
                let id = child.spec.id.clone();
                Some(if restarts == 0 { ChildEvent::Started { id } } else { ChildEvent::Restarted { id, restarts } })
            }
            Err(cause) if child.spec.restart == Restart::Temporary => self.forget(place, cause),
            Err(cause) => {
                child.started = false;
                self.charge(place, &cause)
            }
        }
    }

    /// The present life of the child at `place` has ended.
    pub(super) fn ended(&mut self, place: u64, exit: &Exit) -> Option<ChildEvent> {
        let child = self.places.get_mut(&place)?;
        child.alive = None;
        child.generation = next_generation();
        child.backoff.lived(child.running_since.elapsed());
        if let Some(event) = self.asked_for(place) {
            return Some(event);
        }
        let child = self.places.get_mut(&place)?;
        if let Exit::Failed { cause } = exit {
            child.remember(cause);
            if !exit.calls_for(child.spec.restart) {
                tracing::warn!(path = child.entry.path(), cause, "child fell, it is not wanted back");
            }
        }
        match child.phase {
            Phase::Stopping(Then::Remove) => self.forget(place, exit.to_string()),
            Phase::Stopping(Then::Wait) => {
                child.wait_for_turn();
                None
            }
            _ if exit.calls_for(child.spec.restart) => self.charge(place, &exit.to_string()),
            _ if child.spec.restart == Restart::Temporary => self.forget(place, exit.to_string()),
            _ => {
                let (id, reason) = (child.spec.id.clone(), exit.to_string());
                child.entry.down(ActorState::Stopped);
                child.phase = Phase::Stopped { reason: reason.clone() };
                Some(ChildEvent::Ended { id, reason })
            }
        }
    }

    /// Charges a failure to the budget, and arms the wait or gives the child up.
    fn charge(&mut self, place: u64, cause: &str) -> Option<ChildEvent> {
        let child = self.places.get_mut(&place)?;
        child.remember(cause);
        let (id, path) = (child.spec.id.clone(), child.entry.path());
        if child.history.record(Instant::now().into_std()) == Decision::Restart {
            let after = child.backoff.next(&mut rand::rng());
            tracing::warn!(path, cause, after_ms = after.as_millis() as u64, "child fell, it is restarted");
            self.tree.fell(path, cause, Some(after));
            child.entry.down(ActorState::Restarting);
            child.phase = Phase::BackingOff { until: Instant::now() + after };
            self.arm(place, after);
            return Some(ChildEvent::Restarting { id, after, cause: clip(cause, CAUSE_CHARS_MAX) });
        }
        let budget = child.history.budget();
        let reason = format!("more than {} restarts within {} s, last: {cause}", budget.max, budget.window.as_secs());
        let reason = clip(&reason, CAUSE_CHARS_MAX);
        tracing::error!(path, reason, "child is unavailable, mend the cause and reset it");
        self.tree.fell(path, cause, None);
        child.entry.down(ActorState::Unavailable);
        child.phase = Phase::Unavailable { reason: reason.clone() };
        if let Some(after) = child.spec.revive_after {
            self.arm(place, after);
        }
        Some(ChildEvent::Unavailable { id, reason })
    }

    /// Sends the supervisor a timer for the wait that begins now at `place`.
    pub(super) fn arm(&mut self, place: u64, after: Duration) {
        if let Some(child) = self.places.get_mut(&place) {
            child.generation = next_generation();
            let (parent, id) = (Arc::clone(&self.path), child.spec.id.clone());
            (self.wake)(after, ChildTimer { parent, id, wake: Wake::Wait(child.generation) });
        }
    }

    /// Takes a dead child off every list.
    pub(super) fn forget(&mut self, place: u64, reason: String) -> Option<ChildEvent> {
        let child = self.places.remove(&place)?;
        self.by_id.remove(&child.spec.id);
        Some(ChildEvent::Ended { id: child.spec.id, reason })
    }
}

impl Child {
    /// A child that waits for its first turn.
    pub(super) fn new(spec: ChildSpec, entry: Entry) -> Self {
        entry.down(ActorState::Waiting);
        Self {
            phase: Phase::Waiting,
            alive: None,
            entry,
            generation: next_generation(),
            lives: 0,
            history: Restarts::new(spec.budget),
            backoff: Backoff::new(spec.backoff),
            running_since: Instant::now(),
            last_error: None,
            asked: None,
            started: true,
            spec,
        }
    }

    /// Its turn to start may come at any time; timers of the past are void.
    pub(super) fn wait_for_turn(&mut self) {
        self.generation = next_generation();
        self.phase = Phase::Waiting;
        self.entry.down(ActorState::Waiting);
    }

    /// The budget is whole again.
    pub(super) fn forgive(&mut self) {
        self.history.clear();
        self.backoff.reset();
    }

    /// Another budget, and a whole one.
    pub(super) fn grant(&mut self, budget: RestartBudget) {
        self.spec.budget = budget;
        self.history = Restarts::new(budget);
    }

    fn remember(&mut self, cause: &str) {
        self.entry.failed(cause);
        self.last_error = Some(clip(cause, CAUSE_CHARS_MAX));
    }

    /// What a snapshot shows.
    pub(super) fn view(&self) -> ChildView {
        let (state, reason) = match &self.phase {
            Phase::Waiting => (ActorState::Waiting, None),
            Phase::Running => (ActorState::Running, None),
            Phase::Stopping(_) => (ActorState::Stopping, None),
            Phase::BackingOff { .. } => (ActorState::Restarting, self.last_error.clone()),
            Phase::Unavailable { reason } => (ActorState::Unavailable, Some(reason.clone())),
            Phase::Stopped { reason } => (ActorState::Stopped, Some(reason.clone())),
        };
        let starts_in_ms = match self.phase {
            Phase::BackingOff { until } => Some(until.saturating_duration_since(Instant::now()).as_millis() as u64),
            _ => None,
        };
        ChildView {
            id: self.spec.id.clone(),
            kind: self.spec.kind,
            state,
            since: self.entry.since(),
            started: self.started,
            reason,
            starts_in_ms,
            restarts: self.lives.saturating_sub(1),
            last_error: self.last_error.clone(),
            mailbox_depth: self.alive.as_ref().and_then(Alive::mailbox).map_or(0, |mailbox| mailbox.depth()),
        }
    }
}

/// One attempt at a life, whatever the start function does: fail, panic, or never come back.
async fn launch(spec: &ChildSpec, context: ChildContext) -> Result<Alive, String> {
    let supervisor = context.supervisor.clone();
    let start = Arc::clone(&spec.start);
    let attempt = AssertUnwindSafe(async move { start(context).await }).catch_unwind();
    let alive = match tokio::time::timeout(spec.start_timeout, attempt).await {
        Err(_) => return Err(format!("did not start within {} ms", spec.start_timeout.as_millis())),
        Ok(Err(panic)) => return Err(format!("start function panicked: {}", panic_text(panic.as_ref()))),
        Ok(Ok(Err(SpawnErr::StartupFailed(error)))) => return Err(format!("did not start: {error}")),
        Ok(Ok(Err(error))) => return Err(format!("did not start: {error}")),
        Ok(Ok(Ok(alive))) => alive,
    };
    // An actor that is not linked would end without anybody being told. Read in this order: a linked one that has
    // ended already is unlinked again, but is past running by then.
    if let Some(cell) = alive.actor()
        && cell.try_get_supervisor().is_none_or(|linked| linked != supervisor)
        && cell.get_status() < ActorStatus::Stopping
    {
        cell.kill();
        return Err("start function did not link the actor to its supervisor".to_owned());
    }
    Ok(alive)
}

/// Numbers no two waits of this process alike, so that no timer is mistaken for another's.
fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
