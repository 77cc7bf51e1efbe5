//! Work in hand: a claimed step with what is needed to do it, and the list of all steps that this node works on.
//!
//! The list is how a pool knows what to hand on again when an agent actor dies, and how the sweep knows a lost step
//! from a busy one. It is a memory of this life only; the truth is the step's row.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::OwnedSemaphorePermit;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::{RunId, StepId};
use troupe_runtime::domain::step::Epoch;
use troupe_runtime::store::Claim;

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
    /// The places it takes up; free again when the work is gone.
    pub slots: Vec<OwnedSemaphorePermit>,
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

/// One of the agent actors of an agent: `researcher/0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat {
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
#[derive(Debug, Clone, Default)]
pub struct InHand(Arc<Mutex<HashMap<StepId, Held>>>);

#[derive(Debug)]
struct Held {
    work: Arc<Work>,
    seat: Option<Seat>,
}

impl InHand {
    /// Takes a step in hand; nobody sits at it yet.
    pub fn take(&self, work: Arc<Work>) {
        self.map().insert(work.claim.step, Held { work, seat: None });
    }

    /// Somebody is given a step.
    pub fn seat(&self, step: StepId, seat: &Seat) {
        if let Some(held) = self.map().get_mut(&step) {
            held.seat = Some(seat.clone());
        }
    }

    /// Nobody sits at a step any more.
    pub fn unseat(&self, step: StepId) {
        if let Some(held) = self.map().get_mut(&step) {
            held.seat = None;
        }
    }

    /// The step has ended, or is somebody else's. What was claimed anew meanwhile stays.
    pub fn drop(&self, work: &Arc<Work>) {
        let mut map = self.map();
        let held = if is(&map, work) { map.remove(&work.claim.step) } else { None };
        drop(map);
        // The slots it frees wake others: outside the lock.
        drop(held);
    }

    /// Nothing is in hand any more: the node's life is over, and its claims with it.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.map());
        // The slots they free wake others: outside the lock.
        drop(all);
    }

    /// Whether this very claim of a step is in hand.
    #[must_use]
    pub fn holds(&self, work: &Arc<Work>) -> bool {
        is(&self.map(), work)
    }

    /// Whether somebody works on it, or is about to.
    #[must_use]
    pub fn has(&self, step: StepId) -> bool {
        self.map().contains_key(&step)
    }

    /// What was on the table of a seat that fell.
    #[must_use]
    pub fn of_seat(&self, seat: &Seat) -> Vec<Arc<Work>> {
        self.map().values().filter(|held| held.seat.as_ref() == Some(seat)).map(|held| held.work.clone()).collect()
    }

    /// What an agent has in hand that nobody sits at.
    #[must_use]
    pub fn unseated(&self, agent: &str) -> Vec<Arc<Work>> {
        let of_agent = |held: &&Held| held.seat.is_none() && held.work.served.spec.name.as_str() == agent;
        self.map().values().filter(of_agent).map(|held| held.work.clone()).collect()
    }

    /// How many steps each seat of an agent has.
    #[must_use]
    pub fn counts(&self) -> HashMap<Seat, usize> {
        let mut counts = HashMap::new();
        for seat in self.map().values().filter_map(|held| held.seat.as_ref()) {
            *counts.entry(seat.clone()).or_default() += 1;
        }
        counts
    }

    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map().is_empty()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<StepId, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is(map: &HashMap<StepId, Held>, work: &Arc<Work>) -> bool {
    map.get(&work.claim.step).is_some_and(|held| Arc::ptr_eq(&held.work, work))
}
