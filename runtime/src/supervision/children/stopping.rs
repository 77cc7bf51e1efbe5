//! Bringing children down: one while the supervisor goes on, or all because it ends.
//!
//! [`Children::remove`] does not wait: the child is asked, a timer bounds its patience, and its end arrives as an
//! event. [`Children::stop_all`] is the one place where a supervisor waits, because nothing comes after it: a parent
//! that stopped first would have its children cut off without their `post_stop`.

use std::time::Duration;

use super::life::{Child, Phase, Then};
use super::{ChildEvent, Children, ChildrenError, Strategy};
use crate::supervision::alive::Alive;
use crate::supervision::child::Shutdown;
use futures::future::join_all;

impl Children {
    /// Takes a child out. One that runs is brought down as its spec says; [`ChildEvent::Ended`] follows when it is
    /// gone, and until then its name is taken. One that is down is gone at once.
    pub async fn remove(&mut self, id: &str) -> Result<Vec<ChildEvent>, ChildrenError> {
        let place = self.place(id)?;
        match self.places.get_mut(&place) {
            Some(child) if matches!(child.phase, Phase::Stopping(_)) => child.phase = Phase::Stopping(Then::Remove),
            Some(child) if child.alive.is_some() => self.ask_to_stop(place, Then::Remove),
            _ => {
                let mut events: Vec<ChildEvent> = self.forget(place, "removed".to_owned()).into_iter().collect();
                events.extend(self.settle(place).await);
                return Ok(events);
            }
        }
        Ok(Vec::new())
    }

    /// Brings all children down, for good; call it in `post_stop`, or in a handler just before stopping.
    ///
    /// [`Strategy::RestForOne`]: one after the other in reverse order of starting, for they stand on one another.
    /// [`Strategy::OneForOne`]: asked in reverse order and waited for together, so that two hundred agents drain in
    /// the time of the slowest. Either way each has its own shutdown time, is killed after it, and is gone (or found
    /// to be stuck, and logged) when this returns.
    pub async fn stop_all(&mut self) -> Vec<ChildEvent> {
        self.closing = true;
        self.by_id.clear();
        self.by_actor.clear();
        let children: Vec<Box<Child>> = std::mem::take(&mut self.places).into_values().rev().collect();
        let kill_wait = self.options.kill_wait;
        let stop = |mut child: Box<Child>| async move {
            let reason = match child.alive.take() {
                Some(alive) => {
                    child.entry.stopping();
                    stop_one(alive, &child, kill_wait).await
                }
                None => "was down".to_owned(),
            };
            ChildEvent::Ended { id: child.spec.id, reason }
        };
        match self.options.strategy {
            Strategy::OneForOne => join_all(children.into_iter().map(stop)).await,
            Strategy::RestForOne => {
                let mut events = Vec::with_capacity(children.len());
                for child in children {
                    events.push(stop(child).await);
                }
                events
            }
        }
    }

    /// Asks the child at `place` to stop, as its spec says, and arms the end of its patience.
    pub(super) fn ask_to_stop(&mut self, place: u64, then: Then) {
        let Some(child) = self.places.get_mut(&place) else { return };
        let Some(alive) = &child.alive else { return };
        child.phase = Phase::Stopping(then);
        child.entry.stopping();
        match child.spec.shutdown {
            Shutdown::Kill => alive.kill(),
            Shutdown::Drain(patience) => {
                alive.drain();
                self.arm(place, patience);
            }
        }
    }
}

async fn stop_one(mut alive: Alive, child: &Child, kill_wait: Duration) -> String {
    let mut manner = "killed".to_owned();
    if let Shutdown::Drain(patience) = child.spec.shutdown {
        alive.drain();
        if alive.ends_within(patience).await {
            return "drained".to_owned();
        }
        manner = format!("killed, not drained within {} ms", patience.as_millis());
        tracing::warn!(
            path = child.entry.path(),
            patience_ms = patience.as_millis() as u64,
            "child did not drain, killed"
        );
    }
    alive.kill();
    if !alive.ends_within(kill_wait).await {
        let path = child.entry.path();
        tracing::error!(path, "killed child reaches no await, a handler blocks its thread; it is left behind");
        return format!("{manner}, does not end");
    }
    manner
}
