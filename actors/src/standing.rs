//! What is known of agents beyond the lives of their actors: which ones an operator has paused, and what went wrong last
//! with the work of each.
//!
//! Kept on the stage, so a pool that falls finds it again; it ends with the node. Written by the troupe's handle (pause,
//! resume) and by lives of steps (failures), read by pools and by the recovery. It cannot fail, and holds one line for each
//! agent at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

/// The agents that there is something to say about. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Standings(Arc<Mutex<HashMap<String, Standing>>>);

/// What is known of one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether its intake is stopped.
    pub is_paused: bool,
    /// When it was last paused or resumed.
    pub turned: Option<DateTime<Utc>>,
    /// What ended its last step that failed, and when.
    pub failed: Option<(DateTime<Utc>, String)>,
}

impl Standings {
    /// Pauses or resumes an agent; one that stands so already goes on standing so since it did.
    pub fn pause(&self, agent: &str, pause: bool, now: DateTime<Utc>) {
        let mut map = self.map();
        let standing = map.entry(agent.to_owned()).or_default();
        if standing.is_paused != pause {
            (standing.is_paused, standing.turned) = (pause, Some(now));
        }
    }

    /// A step of the agent has failed for good.
    pub fn failed(&self, agent: &str, failure: String, now: DateTime<Utc>) {
        self.map().entry(agent.to_owned()).or_default().failed = Some((now, failure));
    }

    /// What is known of an agent.
    #[must_use]
    pub fn of(&self, agent: &str) -> Standing {
        self.map().get(agent).cloned().unwrap_or_default()
    }

    /// Whether an agent's intake is stopped.
    #[must_use]
    pub fn is_paused(&self, agent: &str) -> bool {
        self.map().get(agent).is_some_and(|standing| standing.is_paused)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_told_once_and_says_since_when() {
        let (standings, at) = (Standings::default(), |second| DateTime::from_timestamp(second, 0).unwrap());
        standings.pause("a", false, at(1));
        assert_eq!(standings.of("a"), Standing::default(), "nobody was paused");
        standings.pause("a", true, at(2));
        standings.pause("a", true, at(3));
        assert_eq!((standings.is_paused("a"), standings.of("a").turned), (true, Some(at(2))));
        assert!(!standings.is_paused("b"));
        standings.failed("a", "no".to_owned(), at(4));
        standings.pause("a", false, at(5));
        assert_eq!(
            standings.of("a"),
            Standing { is_paused: false, turned: Some(at(5)), failed: Some((at(4), "no".to_owned())) }
        );
    }
}
