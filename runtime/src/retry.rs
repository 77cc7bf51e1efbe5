//! Waiting before the next try: exponential backoff with full jitter, as a validated policy.
//!
//! Pure: it decides *whether* and *how long*, whoever asks does the sleeping (so that a deadline, a drain or a cancel can
//! cut the wait). Called by the model chain, the Slack replies and whoever else talks to a server that may be busy.
//! A server's own `Retry-After` is a minimum: nobody calls before it. When it asks for more than the policy allows, the
//! answer is to give up rather than to call too early.

use std::time::Duration;

use rand::{Rng, RngExt};

/// The numbers of a [`Backoff`], before validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffOptions {
    /// Calls in all, the first included.
    pub tries: u32,
    /// Upper bound of the first wait; each further bound is twice the one before.
    pub base: Duration,
    /// No computed wait is longer.
    pub cap: Duration,
    /// The longest `Retry-After` that is waited for; a longer one ends the tries.
    pub retry_after_max: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self {
            tries: 3,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(20),
            retry_after_max: Duration::from_mins(1),
        }
    }
}

/// Numbers that make no backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBackoff {
    /// No try at all.
    #[error("a backoff needs at least one try")]
    NoTries,
    /// The first wait would be nothing: a busy loop.
    #[error("a backoff needs a base above zero")]
    NoBase,
    /// The cap would cut the first wait.
    #[error("the cap of a backoff ({cap:?}) must not be below its base ({base:?})")]
    CapBelowBase {
        /// The base that was given.
        base: Duration,
        /// The cap that was given.
        cap: Duration,
    },
}

/// A validated backoff policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    options: BackoffOptions,
}

impl Backoff {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`BadBackoff`] when they make no sense together.
    pub const fn new(options: BackoffOptions) -> Result<Self, BadBackoff> {
        if options.tries == 0 {
            return Err(BadBackoff::NoTries);
        }
        if options.base.is_zero() {
            return Err(BadBackoff::NoBase);
        }
        if options.cap.as_nanos() < options.base.as_nanos() {
            return Err(BadBackoff::CapBelowBase { base: options.base, cap: options.cap });
        }
        Ok(Self { options })
    }

    /// Calls in all, the first included.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        self.options.tries
    }

    /// The wait after the `attempt`-th call (from 1): anything from zero to `base · 2^(attempt-1)`, at most `cap`.
    ///
    /// Full jitter: callers that failed together do not come back together.
    pub fn delay(&self, attempt: u32, rng: &mut impl Rng) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let bound = self.options.base.saturating_mul(1 << doublings).min(self.options.cap);
        bound.mul_f64(rng.random_range(0.0..=1.0))
    }

    /// Whether to call again after the `attempt`-th call (from 1) failed, and how long to wait before.
    ///
    /// `retry_after` is what the other side asked for; the jitter comes on top of it, so that all who were told the same
    /// second do not meet in it. `None`: the tries are used up, or the other side asks for more than `retry_after_max`.
    pub fn next(&self, attempt: u32, retry_after: Option<Duration>, rng: &mut impl Rng) -> Option<Duration> {
        if attempt >= self.options.tries {
            return None;
        }
        let asked = retry_after.unwrap_or_default();
        (asked <= self.options.retry_after_max).then(|| asked + self.delay(attempt, rng))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn options() -> BackoffOptions {
        BackoffOptions::default()
    }

    fn seeded() -> StdRng {
        let seed = rand::random();
        println!("seed {seed}");
        StdRng::seed_from_u64(seed)
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(Backoff::new(BackoffOptions { tries: 0, ..options() }), Err(BadBackoff::NoTries));
        assert_eq!(Backoff::new(BackoffOptions { base: Duration::ZERO, ..options() }), Err(BadBackoff::NoBase));
        let low = BackoffOptions { cap: Duration::from_millis(1), ..options() };
        assert!(matches!(Backoff::new(low), Err(BadBackoff::CapBelowBase { .. })));
        assert_eq!(Backoff::new(options()), Ok(Backoff::default()));
    }

    #[test]
    fn waits_stay_below_a_doubling_bound_and_use_it() {
        let backoff = Backoff::default();
        let mut rng = seeded();
        for (attempt, bound_ms) in [(1, 500), (2, 1_000), (3, 2_000), (6, 16_000), (7, 20_000), (u32::MAX, 20_000)] {
            let bound = Duration::from_millis(bound_ms);
            let waits: Vec<_> = (0..500).map(|_| backoff.delay(attempt, &mut rng)).collect();
            assert!(waits.iter().all(|wait| *wait <= bound), "attempt {attempt} waits longer than {bound:?}");
            assert!(waits.iter().any(|wait| *wait > bound / 2), "attempt {attempt} never uses the upper half");
            assert!(waits.iter().any(|wait| *wait < bound / 2), "attempt {attempt} never uses the lower half");
        }
    }

    #[test]
    fn the_same_seed_waits_the_same() {
        let waits = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            (1..9).map(|attempt| Backoff::default().delay(attempt, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    }

    #[test]
    fn tries_end() {
        let mut rng = seeded();
        let backoff = Backoff::default();
        assert!(backoff.next(1, None, &mut rng).is_some());
        assert!(backoff.next(2, None, &mut rng).is_some());
        assert_eq!(backoff.next(3, None, &mut rng), None);
    }

    #[test]
    fn nobody_calls_before_retry_after() {
        let mut rng = seeded();
        let backoff = Backoff::default();
        let asked = Duration::from_secs(30);
        for _ in 0..200 {
            let wait = backoff.next(1, Some(asked), &mut rng).unwrap();
            assert!(wait >= asked && wait <= asked + Duration::from_millis(500), "{wait:?}");
        }
        assert_eq!(backoff.next(1, Some(Duration::from_secs(61)), &mut rng), None);
    }
}
