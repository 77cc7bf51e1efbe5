//! The step journal: one entry per non-deterministic act, keyed `(step, seq)`.
//!
//! What a run does next is a pure function of these entries ([`super::run`]); recovery folds the same entries again.
//! The stored form is JSON with [`FORMAT_VERSION`] beside it. An entry's meaning never changes: a new act gets a new
//! kind, and readers of released versions stay ([`Entry::read`]; recorded journals are folded again in `tests/journals.rs`).

use std::fmt;

use chrono::{DateTime, Utc};
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::chat::{Completion, ToolCall};
use super::clarification::{Answer, Clarification};
use super::ids::RunId;
use super::outcome::Failure;

/// Version of the stored form of an entry.
pub const FORMAT_VERSION: u16 = 1;

/// One act and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Place in the step's journal, from 0 without gaps.
    pub seq: u32,
    /// The attempt it belongs to, from 1.
    pub attempt: u32,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// What happened.
    #[serde(flatten)]
    pub act: Act,
}

/// What an entry records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Act {
    /// A model answered.
    ModelResult {
        /// The answer with its usage.
        completion: Completion,
        /// The digest of what was asked ([`super::conversation`]); entries of 0.1.0 have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<String>,
    },
    /// A tool is about to be called (committed before the call, for tools that must not run twice unseen).
    ToolIntent {
        /// The model's id of the call.
        call_id: String,
        /// The tool.
        tool: String,
        /// What was sent along.
        key: String,
    },
    /// A tool answered, or was refused in its name.
    ToolResult {
        /// The model's id of the call.
        call_id: String,
        /// The tool.
        tool: String,
        /// What the model is told.
        content: String,
        /// Whether it is bad news.
        #[serde(default)]
        is_error: bool,
    },
    /// A person was asked; the step waits.
    ClarificationRaised {
        /// The question.
        clarification: Clarification,
    },
    /// A person answered.
    ClarificationAnswered {
        /// Which question.
        clarification_id: String,
        /// What they said.
        answer: Answer,
    },
    /// The attempt is over without an answer.
    AttemptFailed {
        /// Why, and whether another attempt makes sense.
        failure: Failure,
    },
    /// Somebody called the task off.
    Cancelled {
        /// Who or why.
        reason: String,
    },
}

/// Why a stored entry cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// No released version wrote this.
    #[error("format {0}, this version reads {FORMAT_VERSION}; run the newer troupe")]
    Version(i64),
    /// It is not what this version of the format looks like.
    #[error(transparent)]
    Form(#[from] serde_json::Error),
}

impl Entry {
    /// Reads the stored form of a version. Every released one has its reader here, for as long as its journals are about.
    ///
    /// # Errors
    /// [`Unreadable`], with what to do.
    pub fn read(version: i64, text: &str) -> Result<Self, Unreadable> {
        match version {
            1 => Ok(serde_json::from_str(text)?),
            newer => Err(Unreadable::Version(newer)),
        }
    }
}

impl Act {
    /// The word of the stored form.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ModelResult { .. } => "model_result",
            Self::ToolIntent { .. } => "tool_intent",
            Self::ToolResult { .. } => "tool_result",
            Self::ClarificationRaised { .. } => "clarification_raised",
            Self::ClarificationAnswered { .. } => "clarification_answered",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

/// What a second call of a tool would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: it may run again.
    Pure,
    /// Nothing, given the same idempotency key.
    Idempotent,
    /// Something, a second time: intent first, and after a crash a person is asked.
    Unsafe,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pure => "pure",
            Self::Idempotent => "idempotent",
            Self::Unsafe => "unsafe",
        })
    }
}

/// The key under which a call is one call, over attempts and nodes: base32(sha256(run, step, seq, tool, arguments)).
///
/// `seq` is the call's number within its attempt, from 0: entries in between (a question to a person) and further
/// attempts do not change it. Arguments are canonical JSON (sorted keys).
#[must_use]
pub fn idempotency_key(run: RunId, step_no: u32, seq: u32, call: &ToolCall) -> String {
    let mut hash = Sha256::new();
    for part in [run.to_string(), step_no.to_string(), seq.to_string(), call.name.clone(), canonical(&call.arguments)] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    BASE32_NOPAD.encode(&hash.finalize()).to_ascii_lowercase()
}

/// JSON text with sorted keys: `serde_json`'s map is ordered by key.
fn canonical(value: &Value) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::ids::TaskId;

    fn call(name: &str, arguments: Value) -> ToolCall {
        ToolCall { id: "c1".into(), name: name.into(), arguments }
    }

    #[test]
    fn a_key_depends_on_every_part_but_not_on_the_provider_s_call_id() {
        let run = TaskId::derive("e", "a").run(0);
        let base = idempotency_key(run, 0, 1, &call("pay", json!({"to": "x", "sum": 1})));
        assert_eq!(base.len(), 52);
        let mut other = call("pay", json!({"sum": 1, "to": "x"}));
        other.id = "c2".into();
        assert_eq!(base, idempotency_key(run, 0, 1, &other));
        assert_ne!(base, idempotency_key(run, 1, 1, &other));
        assert_ne!(base, idempotency_key(run, 0, 2, &other));
        assert_ne!(base, idempotency_key(run, 0, 1, &call("pay", json!({"sum": 2, "to": "x"}))));
        assert_ne!(base, idempotency_key(run, 0, 1, &call("buy", json!({"sum": 1, "to": "x"}))));
        assert_ne!(base, idempotency_key(TaskId::derive("e", "a").run(1), 0, 1, &other));
    }

    #[test]
    fn the_stored_form_is_pinned() {
        let entry = Entry {
            seq: 3,
            attempt: 1,
            at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            act: Act::ToolResult {
                call_id: "c1".into(),
                tool: "clock".into(),
                content: "noon".into(),
                is_error: false,
            },
        };
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            text,
            r#"{"seq":3,"attempt":1,"at":"2023-11-14T22:13:20Z","kind":"tool_result","call_id":"c1","tool":"clock","content":"noon","is_error":false}"#
        );
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
    }

    #[test]
    fn an_answer_of_a_model_is_pinned_with_and_without_its_request() {
        let old = concat!(
            r#"{"seq":0,"attempt":1,"at":"2023-11-14T22:13:20Z","kind":"model_result","completion":{"text":"hi","#,
            r#""finish":"stop","usage":{"input_tokens":1,"output_tokens":2,"cost_microusd":3},"provider":"p","model":"m"}}"#
        );
        let new = old.replace("\"m\"}}", "\"m\"},\"request\":\"00ff\"}");
        for (text, expected) in [(old, None), (new.as_str(), Some("00ff"))] {
            let entry: Entry = serde_json::from_str(text).unwrap();
            let Act::ModelResult { request, .. } = &entry.act else { panic!("{entry:?}") };
            assert_eq!(request.as_deref(), expected);
            assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        }
    }
}
