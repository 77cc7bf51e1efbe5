//! A breaker: after some failures in a row the server is left alone for a while, then one operation tries it again.
//!
//! ```text
//! closed ── failures_max in a row ──► open ── rest over, the next operation ──► half-open (one at a time)
//!    ▲                                 ▲                                            │
//!    └─────────── it succeeds ─────────┼────────────────────────────────────────────┤
//!                                      └─────────────── it fails ───────────────────┘
//! ```
//!
//! Asked by [`super::link`] before every operation, and told afterwards. What comes back from an operation that was begun
//! before the breaker opened decides nothing any more. A try whose caller went away has said nothing: another may try.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// How the breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Everything is asked.
    Closed,
    /// Nothing is asked.
    Open,
    /// One operation tries whether the server is back, or the next one will.
    HalfOpen,
}

enum State {
    Closed { failures: u32 },
    Open { since: Instant },
    Trying { since: Instant },
}

pub(super) struct Breaker {
    failures_max: u32,
    rest: Duration,
    state: Mutex<State>,
}

/// The right to one operation, and the duty to say what came of it.
pub(super) struct Permit<'b> {
    breaker: &'b Breaker,
    tries: bool,
    told: bool,
}

impl Breaker {
    pub(super) const fn new(failures_max: u32, rest: Duration) -> Self {
        Self { failures_max, rest, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Whether an operation may be begun.
    pub(super) fn admit(&self) -> Option<Permit<'_>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = match *state {
            State::Closed { .. } => false,
            State::Open { since } if since.elapsed() >= self.rest => {
                *state = State::Trying { since };
                true
            }
            State::Open { .. } | State::Trying { .. } => return None,
        };
        Some(Permit { breaker: self, tries, told: false })
    }

    pub(super) fn standing(&self) -> Standing {
        match *self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Closed { .. } => Standing::Closed,
            State::Open { since } if since.elapsed() < self.rest => Standing::Open,
            State::Open { .. } | State::Trying { .. } => Standing::HalfOpen,
        }
    }
}

impl Permit<'_> {
    /// Answers whether the breaker is closed because of this.
    pub(super) fn succeeded(mut self) -> bool {
        self.told = true;
        let mut state = self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.tries || matches!(*state, State::Closed { .. }) {
            *state = State::Closed { failures: 0 };
        }
        self.tries
    }

    /// Answers whether the breaker was closed and is open because of this.
    pub(super) fn failed(mut self) -> bool {
        self.told = true;
        let mut state = self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Closed { failures } if *failures + 1 < self.breaker.failures_max => {
                *failures += 1;
                false
            }
            State::Closed { .. } => {
                *state = State::Open { since: Instant::now() };
                true
            }
            State::Trying { .. } if self.tries => {
                *state = State::Open { since: Instant::now() };
                false
            }
            State::Open { .. } | State::Trying { .. } => false,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.tries && !self.told {
            let mut state = self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let State::Trying { since } = *state {
                *state = State::Open { since };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const REST: Duration = Duration::from_secs(5);

    fn fails(breaker: &Breaker) -> bool {
        breaker.admit().is_some_and(Permit::failed)
    }

    fn opened() -> Breaker {
        let breaker = Breaker::new(3, REST);
        assert_eq!([fails(&breaker), fails(&breaker), fails(&breaker)], [false, false, true]);
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn only_failures_in_a_row_count() {
        let breaker = Breaker::new(3, REST);
        for _ in 0..10 {
            assert!(!fails(&breaker) && !fails(&breaker));
            assert!(!breaker.admit().unwrap().succeeded());
        }
        assert_eq!(breaker.standing(), Standing::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_one_lets_one_try_after_its_rest() {
        let breaker = opened();
        advance(REST.saturating_sub(Duration::from_millis(1))).await;
        assert!(breaker.admit().is_none());
        assert_eq!(breaker.standing(), Standing::Open);
        advance(Duration::from_millis(1)).await;
        assert_eq!(breaker.standing(), Standing::HalfOpen);
        let trying = breaker.admit().unwrap();
        assert!(breaker.admit().is_none(), "two try");
        assert!(!trying.failed(), "it was open before");
        advance(REST / 2).await;
        assert!(breaker.admit().is_none(), "one failure is enough to rest again");
        advance(REST).await;
        assert!(breaker.admit().unwrap().succeeded());
        assert_eq!(breaker.standing(), Standing::Closed);
        assert!(!fails(&breaker), "it counts from the beginning");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_before_it_opened_decides_nothing() {
        let breaker = Breaker::new(1, REST);
        let (early, late) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        assert!(fails(&breaker));
        assert!(!early.succeeded());
        assert_eq!(breaker.standing(), Standing::Open);
        advance(REST).await;
        let trying = breaker.admit().unwrap();
        assert!(!late.failed());
        assert!(trying.succeeded());
        assert_eq!(breaker.standing(), Standing::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_whose_caller_went_away_leaves_the_place_to_another() {
        let breaker = opened();
        advance(REST).await;
        drop(breaker.admit().unwrap());
        assert!(breaker.admit().unwrap().succeeded());
        assert_eq!(breaker.standing(), Standing::Closed);
    }
}
