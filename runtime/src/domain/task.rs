//! The task: what somebody asked one agent for, and the statuses people see.
//!
//! Spelled here once for the API, the CLI and the store; a word that is none of them is refused where it comes in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A task's status, in the contract's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// On the bus, not accepted yet.
    Received,
    /// A pool has it.
    Running,
    /// A person must answer first.
    Waiting,
    /// It has an answer.
    Succeeded,
    /// It has none and will have none.
    Failed,
    /// It was called off.
    Cancelled,
}

impl TaskStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Received, Self::Running, Self::Waiting, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no status: received, running, waiting, succeeded, failed or cancelled")]
pub struct BadStatus(pub String);

impl FromStr for TaskStatus {
    type Err = BadStatus;

    fn from_str(word: &str) -> Result<Self, BadStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == word).ok_or_else(|| BadStatus(word.to_owned()))
    }
}

/// A run's status: the plan's `PlanRunState` with `cancelled` and `blocked` beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Accepted, nothing done yet.
    NotStarted,
    /// A step is at work.
    InProgress,
    /// A person must answer first.
    NeedClarification,
    /// They have answered; no step has taken it up yet.
    ReadyToResume,
    /// It has an answer.
    Complete,
    /// It has none and will have none.
    Failed,
    /// It was called off.
    Cancelled,
    /// Its journal does not fit what it would do now; a person must look.
    Blocked,
}

impl RunStatus {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::InProgress => "in_progress",
            Self::NeedClarification => "need_clarification",
            Self::ReadyToResume => "ready_to_resume",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Blocked => "blocked",
        }
    }

    /// Whether nothing more will happen by itself.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Complete | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        for status in TaskStatus::ALL {
            assert_eq!(status.as_str().parse::<TaskStatus>().unwrap(), status);
        }
        assert!("done".parse::<TaskStatus>().is_err());
    }
}
