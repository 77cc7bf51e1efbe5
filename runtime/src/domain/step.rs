//! A step's place in the store: who owns it, under which epoch, how far its life has come.
//!
//! A run of one step has no row of its own: its step's status is the run's ([`StepStatus::run`]) and the task's
//! ([`StepStatus::task`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::outcome::{Failure, Outcome, Reason};
use super::task::{RunStatus, TaskStatus};

/// One life of a node; a restarted node has a higher one and owns nothing of its former life until it claims it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub i64);

/// The fencing number of a claim: every write names it, and a write that names an old one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a step's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Claimed; somebody works on it or will take it up.
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

impl StepStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Running, Self::Waiting, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The word of the stored form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status that the stored word names.
    #[must_use]
    pub fn from_stored(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// What a run of this one step is.
    #[must_use]
    pub const fn run(self) -> RunStatus {
        match self {
            Self::Running => RunStatus::InProgress,
            Self::Waiting => RunStatus::NeedClarification,
            Self::Succeeded => RunStatus::Complete,
            Self::Failed => RunStatus::Failed,
            Self::Cancelled => RunStatus::Cancelled,
        }
    }

    /// The same once its outcome is known: a journal that does not fit is for a person to look at.
    #[must_use]
    pub const fn run_with(self, outcome: Option<&Outcome>) -> RunStatus {
        match outcome {
            Some(Outcome::Failed { failure: Failure { reason: Reason::Blocked, .. } }) => RunStatus::Blocked,
            _ => self.run(),
        }
    }

    /// What a task of this one step is.
    #[must_use]
    pub const fn task(self) -> TaskStatus {
        match self {
            Self::Running => TaskStatus::Running,
            Self::Waiting => TaskStatus::Waiting,
            Self::Succeeded => TaskStatus::Succeeded,
            Self::Failed => TaskStatus::Failed,
            Self::Cancelled => TaskStatus::Cancelled,
        }
    }
}

impl fmt::Display for StepStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_words_come_back() {
        for status in StepStatus::ALL {
            assert_eq!(StepStatus::from_stored(status.as_str()), Some(status));
            assert_eq!(status.is_terminal(), status.task().is_terminal());
            assert_eq!(status.is_terminal(), status.run().is_terminal());
        }
        assert_eq!(StepStatus::from_stored("done"), None);
    }

    #[test]
    fn a_run_whose_journal_did_not_fit_is_blocked() {
        let failed = |reason| Outcome::Failed { failure: Failure { reason, message: String::new(), retryable: false } };
        assert_eq!(StepStatus::Failed.run_with(Some(&failed(Reason::Blocked))), RunStatus::Blocked);
        assert_eq!(StepStatus::Failed.run_with(Some(&failed(Reason::Turns))), RunStatus::Failed);
        assert_eq!(StepStatus::Running.run_with(None), RunStatus::InProgress);
    }
}
