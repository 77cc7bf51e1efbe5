//! How a step, and with it a task, ends.
//!
//! Made by the fold of the journal ([`super::run`]), stored with the last entry, told to the bus by the relay.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
    /// A call made no progress for too long.
    Stalled,
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
    /// What was to be recorded is larger than the store keeps.
    TooLarge,
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
            Self::Stalled => "stalled",
            Self::Turns => "turns",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Crash => "crash",
            Self::CrashLoop => "crash_loop",
            Self::Blocked => "blocked",
            Self::TooLarge => "too_large",
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

impl Outcome {
    /// SHA-256 over the canonical JSON (sorted keys, no blanks), hex: what a replay is held against, and what anybody can
    /// compute from the outcome as it is shown (`jq -cSj .outcome | sha256sum`).
    #[must_use]
    pub fn digest(&self) -> String {
        // Serialising a value of this type cannot fail, and a JSON object is ordered by its keys.
        let text = serde_json::to_value(self).unwrap_or_default().to_string();
        hex::encode(Sha256::digest(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_a_digest_that_a_shell_can_compute() {
        let succeeded = Outcome::Succeeded { output: "Grüße, \"you\"".to_owned() };
        // printf '{"output":"Grüße, \\"you\\"","status":"succeeded"}' | sha256sum
        let expected = "0259d1e1bcd42a5223a922460bd610c40fa346f7d6d2941d275ec9e5d7af160f";
        assert_eq!(succeeded.digest(), expected);
        let failure = Failure { reason: Reason::Turns, message: "x".to_owned(), retryable: false };
        // printf '{"failure":{"message":"x","reason":"turns","retryable":false},"status":"failed"}' | sha256sum
        let expected = "d08899174c9bc01cc70e87aa20552567197fe18316d8b18045d1086c4f60d2ba";
        assert_eq!(Outcome::Failed { failure }.digest(), expected);
    }
}
