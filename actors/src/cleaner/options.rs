//! What is kept for how long, and how it goes: a part of the [limits](crate::stage::Options) of the acting side.
//!
//! Made from the node file, which names each of them; read by the cleaner alone. Beside it, and not in it, because the stage has
//! them and the cleaner stands on the stage.

use std::time::Duration;

/// What is kept for how long, and how it goes.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long entries are kept after the end of their step.
    pub keep: Duration,
    /// How long everything else of a task is kept: what was asked, and how it ended.
    pub keep_results: Duration,
    /// From the end of one round to the next.
    pub every: Duration,
    /// Steps or tasks that go in one transaction.
    pub batch: usize,
    /// The wait between two batches.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let days = |days: u64| Duration::from_hours(24 * days);
        Self {
            keep: days(30),
            keep_results: days(90),
            every: Duration::from_hours(1),
            batch: 250,
            pause: Duration::from_millis(100),
        }
    }
}
