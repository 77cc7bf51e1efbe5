//! Lives of nodes and their leases: who may write, who is gone, and whose work may be taken over.
//!
//! ```text
//!            renew (also late)
//!           ┌────────────┐
//!  start ─► held ─(ttl)─► run out ─ end_expired, by another ─► over     never held again: `resume` is another life
//!            └──────── release, or another start under the same name ─► over
//! ```
//!
//! A lease runs by the database's clock. One that has run out still counts as long as nobody has ended it: when the
//! database was away, everybody renews and goes on with what they had. Ending and renewing meet in one row and one of
//! them wins. What runs out is not work but the right to begin any: what is written is decided by the epochs.
//!
//! Called by the node's lease (an actor), by the recovery, by health checks, and by whoever asks which nodes there are.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::Error;
use crate::domain::step::Incarnation;

/// Lives of nodes.
#[async_trait]
pub trait Nodes: Send + Sync {
    /// A process starts as the node `name`: its incarnation is higher than every one before, and holds a lease for `ttl`.
    /// The incarnation before it under this name is over. What is written through this store from now on is written for
    /// the new one.
    async fn start(&self, name: &str, ttl: Duration) -> Result<Incarnation, Error>;

    /// The node whose incarnation `former` is over goes on as another one, as in [`Nodes::start`]. `None` when some
    /// other process has started under its name.
    async fn resume(&self, former: Incarnation, ttl: Duration) -> Result<Option<Incarnation>, Error>;

    /// Holds the lease for another `ttl` from now, whether it has run out or not, unless it was ended.
    async fn renew(&self, own: Incarnation, ttl: Duration) -> Result<Renewal, Error>;

    /// The node leaves: its work is anybody's at once. Saying so again, or of one that is over, does no harm.
    async fn release(&self, own: Incarnation) -> Result<(), Error>;

    /// Ends every incarnation but `own` whose lease has run out; answers those that this call has ended.
    async fn end_expired(&self, own: Incarnation) -> Result<Vec<Incarnation>, Error>;

    /// The nodes that have ever started here, each in its latest life: those that are not over first, then the latest first;
    /// at most `limit` of them.
    async fn list(&self, limit: usize) -> Result<Vec<NodeRow>, Error>;

    /// Answers when the store can read and write.
    async fn ping(&self) -> Result<(), Error>;
}

/// A node as the database knows it, by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its latest life.
    pub incarnation: Incarnation,
    /// When that began.
    pub started_at: DateTime<Utc>,
    /// Until when it may begin work.
    pub lease_until: DateTime<Utc>,
    /// Whether that is still to come, by the clock that leases run by.
    pub is_held: bool,
    /// When it was over: it has left, or another has seen that its lease had run out.
    pub ended_at: Option<DateTime<Utc>>,
}

/// What came of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease is held.
    Held,
    /// It was ended: others may have the work by now. The node goes on with [`Nodes::resume`].
    TakenOver,
    /// Another process has started under this node's name; there can be one.
    Superseded,
}
