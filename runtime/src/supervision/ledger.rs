//! The restart ledger: which actor fell, when, why, what it had in hand, and what came of it.
//!
//! ```text
//!   12:00:01  …/researcher/0   index out of bounds       again after 480 ms   step 0198…, step 0199…
//!   12:00:03  …/researcher/0   3 pings without answer    unavailable
//! ```
//!
//! Written by [`super::Children`] for everything that it starts again or gives up, and completed by a supervisor that
//! knows what the actor had in hand. It is kept by the [`super::Tree`], so it outlives the actors, their supervisors and
//! their entries in the tree; it ends with the process. Nothing is decided by it. It cannot fail: what is over its ends
//! pushes the oldest out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::cause::{CAUSE_CHARS_MAX, clip};

/// The ends of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerOptions {
    /// Falls that are kept of one actor; the oldest goes first.
    pub per_actor_max: usize,
    /// Actors of which falls are kept; the one that has not fallen for longest goes first.
    pub actors_max: usize,
    /// Steps that are named in one fall.
    pub steps_max: usize,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self { per_actor_max: 16, actors_max: 4096, steps_max: 16 }
    }
}

/// One fall of one actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fall {
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub path: String,
    /// Why.
    pub cause: String,
    /// What came of it.
    pub then: Then,
    /// Milliseconds of the wait before it is started again; 0 where somebody asked for it.
    pub after_ms: Option<u64>,
    /// Steps that it had in hand, the first of them.
    pub steps: Vec<String>,
    /// How many it had.
    pub steps_in_hand: usize,
}

/// What came of a fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// It is started again.
    Restarted,
    /// Its budget was spent.
    Unavailable,
}

/// The falls of this process. Clones are handles on the same ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    options: LedgerOptions,
    falls: Arc<Mutex<BTreeMap<String, VecDeque<Fall>>>>,
}

impl Ledger {
    /// Nobody has fallen yet.
    #[must_use]
    pub fn new(options: LedgerOptions) -> Self {
        Self { options, falls: Arc::default() }
    }

    /// The falls of the actor at a path, oldest first.
    #[must_use]
    pub fn of(&self, path: &str) -> Vec<Fall> {
        self.falls().get(path).map(|falls| falls.iter().cloned().collect()).unwrap_or_default()
    }

    /// The last fall of the actor at a path found it with these steps in hand.
    pub fn had_in_hand(&self, path: &str, steps: &[String]) {
        if let Some(fall) = self.falls().get_mut(path).and_then(VecDeque::back_mut) {
            fall.steps_in_hand = steps.len();
            fall.steps = steps.iter().take(self.options.steps_max).cloned().collect();
        }
    }

    /// Writes a fall down; `after` is the wait before the restart, `None` when there is none.
    pub(super) fn fell(&self, at: DateTime<Utc>, path: &str, cause: &str, after: Option<Duration>) {
        let fall = Fall {
            at,
            path: path.to_owned(),
            cause: clip(cause, CAUSE_CHARS_MAX),
            then: if after.is_some() { Then::Restarted } else { Then::Unavailable },
            after_ms: after.map(|wait| wait.as_millis() as u64),
            steps: Vec::new(),
            steps_in_hand: 0,
        };
        let mut all = self.falls();
        let falls = all.entry(fall.path.clone()).or_default();
        falls.push_back(fall);
        while falls.len() > self.options.per_actor_max.max(1) {
            falls.pop_front();
        }
        while all.len() > self.options.actors_max.max(1) {
            let longest_ago = all.iter().min_by_key(|(_, falls)| falls.back().map(|fall| fall.at));
            let Some(path) = longest_ago.map(|(path, _)| path.clone()) else { break };
            all.remove(&path);
        }
    }

    fn falls(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<Fall>>> {
        // Every change is one push or one removal: a poisoned map is a whole one.
        self.falls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new(LedgerOptions::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn a_fall_says_who_when_why_what_was_in_hand_and_what_came_of_it() {
        let ledger = Ledger::default();
        ledger.fell(at(1), "a/0", "tripped", Some(Duration::from_millis(500)));
        ledger.had_in_hand("a/0", &["s1".to_owned(), "s2".to_owned()]);
        ledger.fell(at(2), "a/0", "tripped again", None);
        let falls = ledger.of("a/0");
        assert_eq!(
            (falls[0].cause.as_str(), falls[0].then, falls[0].after_ms),
            ("tripped", Then::Restarted, Some(500))
        );
        assert_eq!((falls[0].steps.len(), falls[0].steps_in_hand), (2, 2));
        assert_eq!((falls[1].then, falls[1].after_ms, falls[1].steps_in_hand), (Then::Unavailable, None, 0));
        assert!(ledger.of("a/1").is_empty());
        ledger.had_in_hand("a/1", &["s".to_owned()]);
        assert!(ledger.of("a/1").is_empty(), "who did not fall has no line");
    }

    #[test]
    fn it_keeps_the_newest_of_each_and_the_latest_to_fall() {
        let ledger = Ledger::new(LedgerOptions { per_actor_max: 2, actors_max: 2, steps_max: 1 });
        for second in 1..=5 {
            ledger.fell(at(second), "noisy", &format!("fall {second}"), None);
        }
        let causes: Vec<_> = ledger.of("noisy").into_iter().map(|fall| fall.cause).collect();
        assert_eq!(causes, ["fall 4", "fall 5"]);
        ledger.had_in_hand("noisy", &["s1".to_owned(), "s2".to_owned()]);
        assert_eq!((ledger.of("noisy")[1].steps.len(), ledger.of("noisy")[1].steps_in_hand), (1, 2));
        ledger.fell(at(6), "b", "x", None);
        ledger.fell(at(7), "c", "x", None);
        assert_eq!((ledger.of("noisy").len(), ledger.of("b").len(), ledger.of("c").len()), (0, 1, 1));
    }
}
