//! How a step, and with it a task, ends.
//!
//! Made by the fold of the journal ([`super::run`]), stored with the last entry, told to the bus by the relay.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an attempt or a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The class, for machines.
    pub reason: Reason,
    /// What happened, for people; free of secrets.
    pub message: String,
    /// Whether a further attempt with a fresh context may succeed.
    pub retryable: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

/// The classes of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No model answered: every choice and fallback failed.
    Model,
    /// The step's own deadline (`limits.timeout`) passed.
    Timeout,
    /// `limits.turns` used up with tools still wanted.
    Turns,
    /// `limits.tokens` used up.
    Tokens,
    /// `limits.cost_usd` used up.
    Cost,
    /// The step's code panicked or erred.
    Crash,
    /// The node died again and again under the step without any progress in between.
    CrashLoop,
    /// The journal does not fit what the step would do now.
    Blocked,
    /// The provider refused to answer.
    Refused,
    /// The agent is gone from the configuration, or its spec cannot be read.
    Agent,
}

impl Reason {
    /// The word of the stored form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Timeout => "timeout",
            Self::Turns => "turns",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Crash => "crash",
            Self::CrashLoop => "crash_loop",
            Self::Blocked => "blocked",
            Self::Refused => "refused",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The end of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// It has an answer.
    Succeeded {
        /// The answer.
        output: String,
    },
    /// It has none and will have none.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// It was called off.
    Cancelled {
        /// Who or why.
        reason: String,
    },
}
