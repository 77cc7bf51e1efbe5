//! Who may start when: the two strategies.
//!
//! ```text
//!   rest for one, `b` falls:      a run   b BACKING OFF   c run        d run
//!   reverse stop, one at a time:  a run   b backing off   c run        d STOPPING
//!                                 a run   b backing off   c STOPPING   d waiting
//!   b's wait is over:             a run   b STARTING      c waiting    d waiting
//!   in order:                     a run   b run           c STARTING   d waiting   …
//! ```
//!
//! Nothing here waits for a child to end: each end arrives as a supervision event, and each event looks at the row
//! again from the front. The row is broken at the first child that is down but wanted; everything after it comes down
//! from the back; then it starts when its own wait is over, and the front moves on. A second fall in the middle of a
//! recovery needs no case of its own.
//!
//! A child that became unavailable keeps those after it down: they stand on it. A child that ended for good, or that
//! was removed, holds up nobody.

use super::life::{Phase, Then};
use super::{ChildEvent, Children, Strategy};
use crate::supervision::exit::Restart;

impl Children {
    /// Starts whatever may be started now that something changed at `place`.
    pub(super) async fn settle(&mut self, place: u64) -> Vec<ChildEvent> {
        match self.options.strategy {
            Strategy::RestForOne => self.settle_in_order().await,
            Strategy::OneForOne if self.places.get(&place).is_some_and(|child| child.phase == Phase::Waiting) => {
                self.begin(place).await.into_iter().collect()
            }
            Strategy::OneForOne => Vec::new(),
        }
    }

    async fn settle_in_order(&mut self) -> Vec<ChildEvent> {
        let mut events = Vec::new();
        while let Some(broken) = self.first_broken() {
            if let Some(last) = self.last_alive_after(broken) {
                self.bring_down_for_now(last);
                break;
            }
            if self.places.get(&broken).is_none_or(|child| child.phase != Phase::Waiting) {
                break;
            }
            events.extend(self.begin(broken).await);
        }
        events
    }

    /// The first child that is down, or going down, but wanted.
    fn first_broken(&self) -> Option<u64> {
        let broken = |phase: &Phase| match phase {
            Phase::Waiting | Phase::BackingOff { .. } | Phase::Unavailable { .. } | Phase::Stopping(Then::Wait) => true,
            Phase::Running | Phase::Stopping(Then::Remove) | Phase::Stopped { .. } => false,
        };
        self.places.iter().find(|(_, child)| broken(&child.phase)).map(|(place, _)| *place)
    }

    fn last_alive_after(&self, broken: u64) -> Option<u64> {
        self.places.range(broken + 1..).rev().find(|(_, child)| child.alive.is_some()).map(|(place, _)| *place)
    }

    /// Asks the child at `place` to stop until its turn comes again; a temporary one has no second turn.
    fn bring_down_for_now(&mut self, place: u64) {
        if let Some(child) = self.places.get(&place).filter(|child| child.phase == Phase::Running) {
            let temporary = child.spec.restart == Restart::Temporary;
            self.ask_to_stop(place, if temporary { Then::Remove } else { Then::Wait });
        }
    }
}
