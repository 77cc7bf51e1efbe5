//! Work in hand: a claimed step with what is needed to do it, and the list of all steps that this node works on.
//!
//! The list is how a pool knows what to hand on again when an agent actor dies, and how the sweep knows a lost step
//! from a busy one. It is a memory of this life only; the truth is the step's row.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;
use troupe_runtime::clock::Clock;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::{RunId, StepId, TaskId};
use troupe_runtime::domain::step::Epoch;
use troupe_runtime::store::Claim;

use crate::places::Places;
use crate::roster::PoolId;
use crate::served::Served;

/// A claimed step with what is needed to do it.
pub struct Work {
    /// As it was taken up; ours until somebody claims it with a higher epoch. [`Work::held`] has the epoch of now.
    pub claim: Claim,
    /// How its actors hold it.
    pub tenure: Tenure,
    /// The run.
    pub run: RunId,
    /// The step's number in the run.
    pub step_no: u32,
    /// Entries at the head of its journal that a fork took over.
    pub copied: u32,
    /// What its task was made from: what was asked, and in which trace.
    pub event: Arc<Event>,
    /// When the task was accepted.
    pub accepted_at: DateTime<Utc>,
    /// Who does it, with what.
    pub served: Arc<Served>,
    /// Claims since the journal last grew.
    pub claims: u32,
    /// The slots it takes up; free again when the work is gone.
    pub slots: Vec<OwnedSemaphorePermit>,
    /// Where it waits for its turn to make calls; what was taken up after a fall waits for nothing.
    pub places: Option<Places>,
}

/// How the actors of a claimed step hold it, one after the other.
#[derive(Debug)]
pub struct Tenure {
    epoch: AtomicI64,
    begun: AtomicBool,
}

impl Tenure {
    /// Nobody has begun yet.
    #[must_use]
    pub const fn of(claim: Claim) -> Self {
        Self { epoch: AtomicI64::new(claim.epoch.0), begun: AtomicBool::new(false) }
    }
}

impl Work {
    /// The claim as it is now.
    #[must_use]
    pub fn held(&self) -> Claim {
        Claim { epoch: Epoch(self.tenure.epoch.load(Ordering::Acquire)), ..self.claim }
    }

    /// An actor begins; answers whether one has begun before, whose last write may still be on its way.
    pub fn begin(&self) -> bool {
        self.tenure.begun.swap(true, Ordering::AcqRel)
    }

    /// The epoch was raised by ourselves.
    pub fn renew(&self, epoch: Epoch) {
        self.tenure.epoch.store(epoch.0, Ordering::Release);
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({} for {})", self.claim.step, self.served.spec.name)
    }
}

/// One of the agent actors of an agent: `researcher/0` of its pool. One that moves to another pool has other seats there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat {
    /// Where it stands.
    pub pool: PoolId,
    /// The agent.
    pub agent: Arc<str>,
    /// Which of its instances.
    pub instance: u32,
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.agent, self.instance)
    }
}

/// All steps that this node works on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InHand {
    clock: Arc<dyn Clock>,
    tables: Arc<Mutex<Tables>>,
}

#[derive(Debug, Default)]
struct Tables {
    held: HashMap<StepId, Held>,
    /// By agent.
    desks: HashMap<Arc<str>, Desk>,
}

#[derive(Debug)]
struct Held {
    work: Arc<Work>,
    seat: Option<Seat>,
}

/// How many steps somebody sits at for one agent, and since when there are none, or some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desk {
    /// How many.
    pub steps: usize,
    /// When they became some, or none.
    pub since: DateTime<Utc>,
}

impl Tables {
    fn sit(&mut self, agent: &Arc<str>, clock: &dyn Clock) {
        let desk = self.desks.entry(agent.clone()).or_insert_with(|| Desk { steps: 0, since: clock.now() });
        desk.steps += 1;
        if desk.steps == 1 {
            desk.since = clock.now();
        }
    }

    fn rise(&mut self, agent: &str, clock: &dyn Clock) {
        let Some(desk) = self.desks.get_mut(agent).filter(|desk| desk.steps > 0) else { return };
        desk.steps -= 1;
        if desk.steps == 0 {
            desk.since = clock.now();
        }
    }
}

impl InHand {
    /// Nothing is in hand yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, tables: Arc::default() }
    }

    /// Takes a step in hand; nobody sits at it yet.
    pub fn take(&self, work: Arc<Work>) {
        let mut tables = self.tables();
        let before = tables.held.insert(work.claim.step, Held { work, seat: None });
        if let Some(seat) = before.as_ref().and_then(|held| held.seat.as_ref()) {
            tables.rise(&seat.agent, &*self.clock);
        }
        drop(tables);
        // The slots it may free wake others: outside the lock.
        drop(before);
    }

    /// Somebody is given a step.
    pub fn seat(&self, step: StepId, seat: &Seat) {
        let mut tables = self.tables();
        let Some(held) = tables.held.get_mut(&step) else { return };
        if held.seat.replace(seat.clone()).is_none() {
            tables.sit(&seat.agent, &*self.clock);
        }
    }

    /// Nobody sits at a step any more.
    pub fn unseat(&self, step: StepId) {
        let mut tables = self.tables();
        if let Some(seat) = tables.held.get_mut(&step).and_then(|held| held.seat.take()) {
            tables.rise(&seat.agent, &*self.clock);
        }
    }

    /// The step has ended, or is somebody else's. What was claimed anew meanwhile stays.
    pub fn drop(&self, work: &Arc<Work>) {
        let mut tables = self.tables();
        let held = if is(&tables.held, work) { tables.held.remove(&work.claim.step) } else { None };
        if let Some(seat) = held.as_ref().and_then(|held| held.seat.as_ref()) {
            tables.rise(&seat.agent, &*self.clock);
        }
        drop(tables);
        // The slots it frees wake others: outside the lock.
        drop(held);
    }

    /// Nothing is in hand any more: the node's life is over, and its claims with it.
    pub fn clear(&self) {
        let mut tables = self.tables();
        let all = std::mem::take(&mut tables.held);
        let now = self.clock.now();
        for desk in tables.desks.values_mut().filter(|desk| desk.steps > 0) {
            *desk = Desk { steps: 0, since: now };
        }
        drop(tables);
        // The slots they free wake others: outside the lock.
        drop(all);
    }

    /// Whether this very claim of a step is in hand.
    #[must_use]
    pub fn holds(&self, work: &Arc<Work>) -> bool {
        is(&self.tables().held, work)
    }

    /// Whether somebody works on it, or is about to.
    #[must_use]
    pub fn has(&self, step: StepId) -> bool {
        self.tables().held.contains_key(&step)
    }

    /// What was on the table of a seat that fell.
    #[must_use]
    pub fn of_seat(&self, seat: &Seat) -> Vec<Arc<Work>> {
        let held = &self.tables().held;
        held.values().filter(|held| held.seat.as_ref() == Some(seat)).map(|held| held.work.clone()).collect()
    }

    /// What an agent has in hand that nobody sits at.
    #[must_use]
    pub fn unseated(&self, agent: &str) -> Vec<Arc<Work>> {
        let of_agent = |held: &&Held| held.seat.is_none() && held.work.served.spec.name.as_str() == agent;
        self.tables().held.values().filter(of_agent).map(|held| held.work.clone()).collect()
    }

    /// The agents that have something in hand in a pool, or something that nobody sits at.
    #[must_use]
    pub fn agents(&self, pool: PoolId) -> HashSet<String> {
        let here = |held: &&Held| held.seat.as_ref().is_none_or(|seat| seat.pool == pool);
        let name = |held: &Held| held.work.served.spec.name.as_str().to_owned();
        self.tables().held.values().filter(here).map(name).collect()
    }

    /// The steps at each seat of a pool, those that were asked first in front.
    #[must_use]
    pub fn by_seat(&self, pool: PoolId) -> HashMap<Seat, Vec<(StepId, TaskId)>> {
        let mut seats: HashMap<Seat, Vec<(DateTime<Utc>, StepId, TaskId)>> = HashMap::new();
        for held in self.tables().held.values() {
            if let Some(seat) = held.seat.as_ref().filter(|seat| seat.pool == pool) {
                let Work { accepted_at, claim, .. } = &*held.work;
                seats.entry(seat.clone()).or_default().push((*accepted_at, claim.step, claim.task));
            }
        }
        let in_order = |mut steps: Vec<_>| {
            steps.sort_unstable();
            steps.into_iter().map(|(_, step, task)| (step, task)).collect()
        };
        seats.into_iter().map(|(seat, steps)| (seat, in_order(steps))).collect()
    }

    /// How much an agent's actors have before them; `None` when they never had anything.
    #[must_use]
    pub fn desk(&self, agent: &str) -> Option<Desk> {
        self.tables().desks.get(agent).copied()
    }

    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables().held.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables().held.is_empty()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is(map: &HashMap<StepId, Held>, work: &Arc<Work>) -> bool {
    map.get(&work.claim.step).is_some_and(|held| Arc::ptr_eq(&held.work, work))
}
