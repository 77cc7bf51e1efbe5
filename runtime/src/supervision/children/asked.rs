//! What a supervisor is asked to do about a child from outside: start it again, or give up on a life that does not answer.
//!
//! Either is asked of the [`super::super::Tree`] by path and arrives as a timer message without a wait, or is asked of
//! [`Children`] directly by the actor that holds it. Where nobody is meant any more (the child has moved on, the
//! supervisor stops) nothing happens.

use std::time::Duration;

use super::life::Phase;
use super::{ChildEvent, Children, ChildrenError};
use crate::supervision::alive::Alive;
use crate::supervision::exit::Exit;

impl Children {
    /// What an operator's restart does: the budget is whole again, a child that is down is started at once, one that
    /// runs is cut off as by a crash, and started again at once and without a charge. [`ChildEvent::Restarting`] follows
    /// when it has ended.
    pub async fn restart(&mut self, id: &str, why: &str) -> Result<Vec<ChildEvent>, ChildrenError> {
        let place = self.place(id)?;
        Ok(self.restart_at(place, why).await)
    }

    pub(super) async fn restart_at(&mut self, place: u64, why: &str) -> Vec<ChildEvent> {
        let Some(child) = self.places.get_mut(&place) else { return Vec::new() };
        match child.phase {
            Phase::Running => {
                child.forgive();
                child.asked = Some(why.to_owned());
                child.alive.iter().for_each(Alive::kill);
            }
            Phase::BackingOff { .. } | Phase::Unavailable { .. } | Phase::Stopped { .. } => {
                child.forgive();
                child.wait_for_turn();
            }
            Phase::Waiting | Phase::Stopping(_) => {}
        }
        self.settle(place).await
    }

    /// Counts the present life of a child, a routine, as fallen and cuts it off, whether its end is ever told or not: one that
    /// blocks its thread reaches no await. Such a one is left behind, and ends at its next await.
    pub(super) async fn give_up_on(&mut self, place: u64, life: u64, cause: &str) -> Vec<ChildEvent> {
        let Some(child) = self.places.get_mut(&place) else { return Vec::new() };
        if child.phase != Phase::Running || !child.alive.as_ref().is_some_and(|alive| alive.is_routine(life)) {
            return Vec::new();
        }
        tracing::error!(path = child.entry.path(), cause, "child does not answer, it is cut off");
        let mut events: Vec<ChildEvent> =
            self.ended(place, &Exit::Failed { cause: cause.to_owned() }).into_iter().collect();
        events.extend(self.settle(place).await);
        events
    }

    /// The end of a life that was asked for: no charge, no wait.
    pub(super) fn asked_for(&mut self, place: u64) -> Option<ChildEvent> {
        let child = self.places.get_mut(&place)?;
        let why = child.asked.take()?;
        if child.phase != Phase::Running {
            return None;
        }
        let (id, path) = (child.spec.id.clone(), child.entry.path());
        tracing::warn!(path, why, "child is started again");
        self.tree.fell(path, &why, Some(Duration::ZERO));
        child.wait_for_turn();
        Some(ChildEvent::Restarting { id, after: Duration::ZERO, cause: why })
    }
}
