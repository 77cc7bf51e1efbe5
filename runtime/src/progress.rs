//! Progress: whether something that takes long still gets on.
//!
//! Whoever waits for a call hands a [`Progress`] along; whoever performs it says [`Progress::made`] for each piece (a try
//! of a model, a piece of its answer, a sign of life of a tool); the one that waits gives up when nothing has come about
//! for too long ([`Progress::stalled`]). So ten minutes of steady work and ten minutes of nothing are two things. It is
//! about one call, in memory, and cannot fail; saying so costs one store, however often it is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// When something last came about. Clones are the same progress.
#[derive(Debug, Clone)]
pub struct Progress {
    begun: Instant,
    /// Microseconds since then.
    last: Arc<AtomicU64>,
}

impl Progress {
    /// It begins now, which is the first thing that comes about.
    #[must_use]
    pub fn begin() -> Self {
        Self { begun: Instant::now(), last: Arc::default() }
    }

    /// Something has come about.
    pub fn made(&self) {
        self.last.fetch_max(self.begun.elapsed().as_micros() as u64, Ordering::AcqRel);
    }

    /// Waits until nothing has come about for `patience`.
    pub async fn stalled(&self, patience: Duration) {
        loop {
            let due = self.begun + Duration::from_micros(self.last.load(Ordering::Acquire)) + patience;
            if Instant::now() >= due {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// Two of a kind are equal only when they are the same: what one makes is no progress of the other.
impl PartialEq for Progress {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.last, &other.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn what_gets_on_is_waited_for_and_what_does_not_is_not() {
        let progress = Progress::begin();
        let begun = Instant::now();
        progress.stalled(PATIENCE).await;
        assert_eq!(begun.elapsed(), PATIENCE);

        let (progress, begun) = (Progress::begin(), Instant::now());
        let worker = progress.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                worker.made();
            }
        });
        progress.stalled(PATIENCE).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(9 * 100) + PATIENCE);
    }
}
