//! The conversation with a model: messages, tool calls, what one call of a model answered and what it used.
//!
//! Provider-neutral; the adapters of [`crate::model`] translate to and from the wire. These types are journaled, so a
//! change here is a change of the journal format (see [`crate::domain::journal`]).

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One message of a conversation, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// What the person or the event asked.
    User {
        /// Plain text.
        text: String,
    },
    /// What the model said, and the tools it wants called.
    Assistant {
        /// Plain text; empty when the model only asked for tools.
        text: String,
        /// In the order in which the model asked for them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// What a tool answered.
    Tool {
        /// The id of the call that this answers.
        call_id: String,
        /// The name of the tool.
        tool: String,
        /// What the model is told.
        content: String,
        /// Whether the tool failed; the model may try another way.
        #[serde(default)]
        is_error: bool,
    },
}

impl Message {
    /// The text of the message, whoever spoke.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::User { text } | Self::Assistant { text, .. } => text,
            Self::Tool { content, .. } => content,
        }
    }
}

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOffer {
    /// The name the model calls it by.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// A model's wish to have a tool called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's id of the call, unique within the conversation.
    pub id: String,
    /// The tool's name as the model knows it.
    pub name: String,
    /// The arguments, an object as the tool's schema demands; `null` when the model sent something unreadable.
    pub arguments: Value,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It was done.
    Stop,
    /// It wants tools called.
    ToolCalls,
    /// It ran into `max_output_tokens`.
    Length,
    /// The provider withheld the answer.
    Refused,
}

/// What a call of a model consumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Cost in millionths of a US dollar; 0 when the price of the model is not known.
    #[serde(default)]
    pub cost_microusd: u64,
}

impl Usage {
    /// Prompt and answer together.
    #[must_use]
    pub const fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// The cost in US dollars, for people.
    #[must_use]
    pub const fn cost_usd(&self) -> f64 {
        self.cost_microusd as f64 / 1e6
    }

    /// Adds another call's usage.
    pub const fn add(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_microusd = self.cost_microusd.saturating_add(other.cost_microusd);
    }
}

/// The answer of one model call: a *turn* together with the tool calls it asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// What the model said.
    pub text: String,
    /// What it wants called before it goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it stopped.
    pub finish: Finish,
    /// What it used.
    pub usage: Usage,
    /// Which provider answered (a fallback may have).
    pub provider: String,
    /// Which model answered.
    pub model: String,
    /// The provider's id of the answer, for their support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}
