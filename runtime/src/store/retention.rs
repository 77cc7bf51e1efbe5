//! What is kept for how long, and deleted after it.
//!
//! ```text
//! a step ends ──── keep ────► its entries go          ── keep_results ────► the whole task goes
//!                  (journal)   how it ended stays         task, step, result, reply
//! ```
//!
//! Deleted is what has ended, and whose end was told: a step that runs or waits stays whatever its age, and so does an end
//! that is still in the outbox. The deleting statements say so themselves; nothing that was found out before decides.
//! Ages are by the database's clock: a node whose own clock is wrong deletes nothing early. A task's row is what makes
//! a second delivery of its event a duplicate, so nothing is kept for less than [`KEEP_MIN`].
//!
//! Called by the cleaner, batch by batch. Several nodes may clean at once: one does, the others are told that nothing is
//! left to do. What fails has deleted nothing.

use std::time::Duration;

use async_trait::async_trait;

use super::Error;

/// The shortest time that anything is kept: an event may be delivered again for as long.
pub const KEEP_MIN: Duration = Duration::from_hours(72);

/// Deletes what is old.
#[async_trait]
pub trait Retention: Send + Sync {
    /// Deletes the entries of about `limit` steps (and those that ended within the same millisecond as the last of them)
    /// that ended longer ago than `keep`. The last entry, which is the result, stays. What this has passed once is not
    /// looked at again: an end that is told only after `keep` has its entries until its task goes.
    async fn clean_journals(&self, keep: Duration, limit: usize) -> Result<Cleaned, Error>;

    /// Deletes at most `limit` tasks whose step ended longer ago than `keep`, with everything that is theirs.
    async fn clean_tasks(&self, keep: Duration, limit: usize) -> Result<Cleaned, Error>;
}

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Steps whose entries went, or tasks.
    pub things: u64,
    /// Rows of theirs.
    pub rows: u64,
    /// Whether there may be more.
    pub more: bool,
}

/// The table of how far journals are clean, and the row in it: what ended before has no entries left.
pub(super) const JOURNALS: &str = "journals";
