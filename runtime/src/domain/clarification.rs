//! The words for a question to a person that parks a run until it is answered.
//!
//! Only raising is wired so far (an `unsafe` call in doubt, a tool whose rule is `ask`); asking, answering and expiry
//! arrive with clarifications.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A question to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clarification {
    /// Unique within the run.
    pub id: String,
    /// What kind of answer is wanted.
    pub category: Category,
    /// The question, for people.
    pub guidance: String,
    /// The tool call it is about, by the model's id.
    pub call_id: String,
    /// SHA-256 over the exact action that a yes would allow; a changed action needs a new question.
    pub action_digest: String,
}

/// What kind of answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Go somewhere and do something.
    Action,
    /// A text.
    Input,
    /// One of several.
    MultipleChoice,
    /// Is this value right?
    ValueConfirmation,
    /// May this be done? Only `true` is a yes.
    UserVerification,
    /// Anything else.
    Custom,
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// They answered.
    Given(Value),
    /// They declined.
    Declined,
}

impl Answer {
    /// Whether this allows an action: only a boolean `true` does.
    #[must_use]
    pub fn approves(&self) -> bool {
        *self == Self::Given(Value::Bool(true))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn approval_fails_closed() {
        assert!(Answer::Given(json!(true)).approves());
        for no in [json!("true"), json!("no"), json!(1), json!(null), json!(false)] {
            assert!(!Answer::Given(no).approves());
        }
        assert!(!Answer::Declined.approves());
    }
}
