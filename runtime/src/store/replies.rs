//! Answers on their way back to where the question came from: how the reply of each task stands.
//!
//! Written by the reply sender before and after each try, so that a doubt outlives the node that had it.

use async_trait::async_trait;
use serde::Serialize;

use super::Error;
use crate::domain::ids::TaskId;

/// Answers on their way back to where the question came from.
#[async_trait]
pub trait Replies: Send + Sync {
    /// Marks the reply of a task as being sent, before the call; answers how it stood.
    async fn begin(&self, task: TaskId) -> Result<ReplyState, Error>;

    /// The call came back without a doubt: sent (with Slack's `ts` where there is one), or not sent for this reason.
    async fn settle(&self, task: TaskId, outcome: ReplyOutcome) -> Result<(), Error>;

    /// How a reply stands.
    async fn reply(&self, task: TaskId) -> Result<Option<ReplyRow>, Error>;
}

/// How a reply stood before this try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyState {
    /// Nothing was sent, for certain.
    Clear,
    /// An earlier try ended without an answer: it may have been sent. Counted in the row.
    Doubtful,
    /// It was sent: do not send again.
    Sent,
    /// It was given up.
    GivenUp,
}

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// It is there.
    Sent {
        /// Slack's id of the message.
        ts: Option<String>,
    },
    /// It is certainly not there; another try may follow.
    NotSent {
        /// Why.
        error: String,
    },
    /// No try will follow.
    GivenUp {
        /// Why.
        error: String,
    },
}

/// A reply as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplyRow {
    /// `sending`, `pending`, `sent` or `given_up`.
    pub status: String,
    /// Tries begun.
    pub attempts: u32,
    /// Tries begun while it was not known whether the one before had arrived.
    pub doubtful: u32,
    /// Slack's id of the message.
    pub ts: Option<String>,
    /// What went wrong last.
    pub last_error: Option<String>,
}
