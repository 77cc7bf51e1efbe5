//! The places of one agent on this node: how many of its steps are at work, and how many are accepted meanwhile.
//!
//! A step is at work while it makes its calls. Before that it is accepted and after that it is ended, and both are transactions that
//! take their time: with as many steps accepted as may be at work, a model's place was empty while the next step was being accepted.
//! So a few more are accepted *ahead* and wait here; the rest of the backlog stays on the bus, where other nodes find it.
//!
//! ```text
//!   bus ──► slot ──► accepted ──► place ──► calls ──► last call has ended: the place is free
//!                                                        └──► ended and committed: the slot is free
//! ```
//!
//! Made by the agent's company and handed on with its terms: the inbox takes slots, the life of a step takes a place. What
//! recovery takes up was accepted before, and goes on beyond both.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The right to make calls.
pub type Place = OwnedSemaphorePermit;

/// The places of one agent. Clones share them.
#[derive(Debug, Clone)]
pub struct Places {
    /// For every step that is in hand.
    pub slots: Arc<Semaphore>,
    at_work: Arc<Semaphore>,
    counts: (usize, usize),
}

impl Places {
    /// For so many at work, and so many ahead of them.
    #[must_use]
    pub fn new(at_work: usize, ahead: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(at_work + ahead)),
            at_work: Arc::new(Semaphore::new(at_work)),
            counts: (at_work, ahead),
        }
    }

    /// Whether there are so many.
    #[must_use]
    pub fn are(&self, at_work: usize, ahead: usize) -> bool {
        self.counts == (at_work, ahead)
    }

    /// A place, if one is free and nobody waits for it.
    #[must_use]
    pub fn free(&self) -> Option<Place> {
        self.at_work.clone().try_acquire_owned().ok()
    }

    /// Waits for a place, behind those that wait already. Nobody closes them, so there is one in the end.
    pub async fn next(&self) -> Option<Place> {
        self.at_work.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_waits_comes_in_turn_and_slots_are_more_than_places() {
        let places = Places::new(1, 2);
        assert!(places.are(1, 2) && places.slots.available_permits() == 3);
        let first = places.free().expect("it is free");
        let (second, third) = (places.next(), places.next());
        tokio::pin!(second, third);
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(places.free().is_none(), "it is the next one's");
        assert!(third.as_mut().now_or_never().is_none());
        let second = second.now_or_never().flatten().expect("its turn");
        drop(second);
        assert!(third.now_or_never().flatten().is_some());
    }
}
