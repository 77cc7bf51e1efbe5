//! How steps ended, found by agent and time: the table `execution_results`, for people and for programs that add up.
//!
//! The rows are written with the end of a step ([`super::Steps::complete`]) and never change; a list is read from its
//! newest row towards older ones. The admin API is the one caller. A row that cannot be read is reported and left out
//! of lists; asked for by its step it fails that call.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Error;
use crate::domain::agent::AgentName;
use crate::domain::chat::Usage;
use crate::domain::ids::{StepId, TaskId};
use crate::domain::outcome::Outcome;
use crate::domain::step::StepStatus;

/// Results that a list answers when its caller names no number.
pub(super) const LIST_DEFAULT: usize = 100;

/// How steps ended.
#[async_trait]
pub trait Results: Send + Sync {
    /// Results, newest first; those of one time by their steps' ids, so that a page goes on where the one before ended,
    /// whatever came in between. One that cannot be read is left out.
    async fn results(&self, filter: &ResultFilter) -> Result<Vec<ResultRow>, Error>;

    /// The result of one step; `None` while it has not ended.
    async fn result(&self, step: StepId) -> Result<Option<ResultRow>, Error>;
}

/// Which results.
#[derive(Debug, Clone, Default)]
pub struct ResultFilter {
    /// Of this agent.
    pub agent: Option<AgentName>,
    /// In this status; one that no step ends in finds nothing.
    pub status: Option<StepStatus>,
    /// Ended at or after.
    pub since: Option<DateTime<Utc>>,
    /// Ended before.
    pub until: Option<DateTime<Utc>>,
    /// Behind this place in the order.
    pub after: Option<ResultPlace>,
    /// At most; 0 = 100.
    pub limit: usize,
}

/// A place in the order of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultPlace {
    /// When the step ended, to the millisecond.
    pub at: DateTime<Utc>,
    /// Which step, among those of one time.
    pub step: StepId,
}

/// How one step ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultRow {
    /// Which step.
    pub step_id: StepId,
    /// Of which task.
    pub task_id: TaskId,
    /// Who worked on it.
    pub agent: AgentName,
    /// How it stands for good.
    pub status: StepStatus,
    /// The attempt that ended it.
    pub attempt: u32,
    /// When its task was accepted; `None` when the task is not kept any more.
    pub accepted_at: Option<DateTime<Utc>>,
    /// When it ended, by the clock of the node that worked on it.
    pub ended_at: DateTime<Utc>,
    /// How it ended.
    pub outcome: Outcome,
    /// What all its model calls used.
    pub usage: Usage,
}

impl ResultRow {
    /// Its place in the order.
    #[must_use]
    pub const fn place(&self) -> ResultPlace {
        ResultPlace { at: self.ended_at, step: self.step_id }
    }
}
