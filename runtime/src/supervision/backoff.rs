//! The wait before a restart: doubling, capped, with jitter; forgotten after a healthy life.
//!
//! Doubling spares a dependency that is already down. Jitter keeps two hundred agents that fell over the same outage
//! from coming back in the same millisecond. The cap bounds what a person has to wait for. Pure: the caller brings the
//! random numbers and does the waiting (in [`super::Children`] by a timer message, never by sleeping).

use std::time::Duration;

use rand::{Rng, RngExt};

/// More doublings than this are the same as this many; keeps the arithmetic inside `u32`.
const DOUBLINGS_MAX: u32 = 31;

/// The shape of the wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffOptions {
    /// The wait before the first restart.
    pub first: Duration,
    /// No wait is longer.
    pub cap: Duration,
    /// Part of the wait by which it may differ either way, 0 to 1.
    pub jitter: f64,
    /// A life this long counts as healthy: the next wait is `first` again.
    pub healthy_after: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            cap: Duration::from_secs(30),
            jitter: 0.2,
            healthy_after: Duration::from_mins(1),
        }
    }
}

/// Where one child stands in its row of waits.
#[derive(Debug, Clone)]
pub struct Backoff {
    options: BackoffOptions,
    failures: u32,
}

impl Backoff {
    /// The beginning of a row.
    #[must_use]
    pub const fn new(options: BackoffOptions) -> Self {
        Self { options, failures: 0 }
    }

    /// The next wait, which is one step further along the row.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let Self { options, failures } = self;
        let exact = options.first.saturating_mul(1 << (*failures).min(DOUBLINGS_MAX)).min(options.cap);
        *failures = failures.saturating_add(1);
        let jitter = if options.jitter.is_finite() { options.jitter.clamp(0.0, 1.0) } else { 0.0 };
        let seconds = exact.as_secs_f64() * rng.random_range(1.0 - jitter..=1.0 + jitter);
        Duration::try_from_secs_f64(seconds).map_or(options.cap, |wait| wait.min(options.cap))
    }

    /// Told how long a life was when it ends: a healthy one starts the row afresh.
    pub fn lived(&mut self, life: Duration) {
        if life >= self.options.healthy_after {
            self.reset();
        }
    }

    /// Starts the row afresh.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn row(options: BackoffOptions, length: usize) -> Vec<Duration> {
        let seed = rand::rng().random();
        println!("seed {seed}");
        let (mut backoff, mut rng) = (Backoff::new(options), StdRng::seed_from_u64(seed));
        (0..length).map(|_| backoff.next(&mut rng)).collect()
    }

    #[test]
    fn without_jitter_the_wait_doubles_up_to_the_cap() {
        let options = BackoffOptions { jitter: 0.0, cap: Duration::from_secs(3), ..BackoffOptions::default() };
        let millis: Vec<u128> = row(options, 5).iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [500, 1_000, 2_000, 3_000, 3_000]);
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_does_differ() {
        let options = BackoffOptions::default();
        let mut firsts = Vec::new();
        for _ in 0..200 {
            for (nth, wait) in row(options, 4).into_iter().enumerate() {
                let exact = 0.5 * f64::from(1 << nth);
                let wait = wait.as_secs_f64();
                assert!((exact * 0.8 - 1e-6..=exact * 1.2 + 1e-6).contains(&wait), "wait {nth}: {wait} around {exact}");
                if nth == 0 {
                    firsts.push(wait);
                }
            }
        }
        assert!(firsts.iter().any(|wait| (wait - firsts[0]).abs() > 1e-6), "two hundred equal waits are no jitter");
    }

    #[test]
    fn the_cap_holds_over_jitter_and_over_any_number_of_failures() {
        let options = BackoffOptions { jitter: 1.0, ..BackoffOptions::default() };
        assert!(row(options, 5_000).iter().all(|wait| *wait <= options.cap));
    }

    #[test]
    fn only_a_healthy_life_starts_the_row_afresh() {
        let options = BackoffOptions { jitter: 0.0, ..BackoffOptions::default() };
        let (mut backoff, mut rng) = (Backoff::new(options), rand::rng());
        backoff.next(&mut rng);
        backoff.lived(Duration::from_secs(59));
        assert_eq!(backoff.next(&mut rng), Duration::from_secs(1));
        backoff.lived(Duration::from_mins(1));
        assert_eq!(backoff.next(&mut rng), Duration::from_millis(500));
    }

    #[test]
    fn nonsense_options_give_a_wait_all_the_same() {
        let options = BackoffOptions { first: Duration::MAX, jitter: f64::NAN, ..BackoffOptions::default() };
        assert_eq!(row(options, 1), [options.cap]);
    }
}
