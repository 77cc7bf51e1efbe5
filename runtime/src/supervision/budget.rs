//! The restart budget: how often a child may fall before it is left lying.
//!
//! OTP's restart intensity as a pure value: a history of failures inside a sliding window. It is charged when a child
//! fails, before the wait that follows. Failures leave the window by age, so a child that stays up earns its budget
//! back without anybody doing anything.
//!
//! Not to be mixed up with a *step's attempts*, which are counted in the store and end in a dead letter: this budget is
//! about the actor, in memory, and ends in "unavailable". The two share no code and no name.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::domain::agent::RestartLimit;

/// How many restarts within which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartBudget {
    /// Restarts …
    pub max: u32,
    /// … within this time.
    pub window: Duration,
}

impl Default for RestartBudget {
    fn default() -> Self {
        Self { max: 3, window: Duration::from_mins(1) }
    }
}

impl From<RestartLimit> for RestartBudget {
    fn from(limit: RestartLimit) -> Self {
        Self { max: limit.max, window: limit.window }
    }
}

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Within the budget: start it again.
    Restart,
    /// The budget is spent: leave it down and say so.
    Exhausted,
}

/// The failures of one child that still count.
#[derive(Debug, Clone)]
pub struct Restarts {
    budget: RestartBudget,
    recent: VecDeque<Instant>,
}

impl Restarts {
    /// An empty history under a budget.
    #[must_use]
    pub const fn new(budget: RestartBudget) -> Self {
        Self { budget, recent: VecDeque::new() }
    }

    /// Charges one failure at `now` and says what it leads to. A failure that finds the budget spent is not charged:
    /// the history never holds more than `max` entries.
    pub fn record(&mut self, now: Instant) -> Decision {
        while self.recent.front().is_some_and(|&at| now.saturating_duration_since(at) >= self.budget.window) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.budget.max as usize {
            return Decision::Exhausted;
        }
        self.recent.push_back(now);
        Decision::Restart
    }

    /// Forgets all failures; what an operator's reset does.
    pub fn clear(&mut self) {
        self.recent.clear();
    }

    /// The budget this history is held against.
    #[must_use]
    pub const fn budget(&self) -> RestartBudget {
        self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(start: Instant, at: u64) -> Instant {
        start + Duration::from_secs(at)
    }

    #[test]
    fn three_restarts_within_a_minute_are_granted_and_the_fourth_is_not() {
        let (mut history, start) = (Restarts::new(RestartBudget::default()), Instant::now());
        for at in [0, 10, 59] {
            assert_eq!(history.record(seconds(start, at)), Decision::Restart, "at {at} s");
        }
        assert_eq!(history.record(seconds(start, 59)), Decision::Exhausted);
    }

    #[test]
    fn a_failure_leaves_the_window_by_age() {
        let (mut history, start) = (Restarts::new(RestartBudget::default()), Instant::now());
        for at in [0, 1, 2] {
            history.record(seconds(start, at));
        }
        assert_eq!(history.record(seconds(start, 59)), Decision::Exhausted);
        assert_eq!(history.record(seconds(start, 60)), Decision::Restart, "the first one is a minute old");
        assert_eq!(history.record(seconds(start, 60)), Decision::Exhausted, "the second one is not");
    }

    #[test]
    fn clearing_gives_the_whole_budget_back() {
        let (mut history, start) = (Restarts::new(RestartBudget::default()), Instant::now());
        for at in 0..4 {
            history.record(seconds(start, at));
        }
        history.clear();
        let granted = (4..8).filter(|&at| history.record(seconds(start, at)) == Decision::Restart).count();
        assert_eq!(granted, 3);
    }

    #[test]
    fn a_budget_of_none_grants_none_and_time_that_runs_backwards_grants_nothing_more() {
        let now = seconds(Instant::now(), 100);
        let mut none = Restarts::new(RestartBudget { max: 0, window: Duration::from_secs(1) });
        assert_eq!(none.record(now), Decision::Exhausted);

        let mut one = Restarts::new(RestartBudget { max: 1, window: Duration::from_mins(1) });
        assert_eq!(one.record(now), Decision::Restart);
        assert_eq!(one.record(now.checked_sub(Duration::from_secs(90)).unwrap_or(now)), Decision::Exhausted);
    }
}
