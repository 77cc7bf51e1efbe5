//! The words of chat completions, as far as we read them; whatever else a server sends is ignored.
//!
//! Lenient on purpose: every field that some server leaves out is optional here, and [`super::OpenAi`] decides what an
//! answer needs to be one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::chat::{ToolCall, Usage};

#[derive(Debug, Default, Deserialize)]
pub(super) struct WireAnswer {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) choices: Vec<Choice>,
    pub(super) usage: Option<WireUsage>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Choice {
    #[serde(default)]
    pub(super) message: WireMessage,
    pub(super) finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct WireMessage {
    pub(super) content: Option<Content>,
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Option<Vec<WireCall>>,
}

/// Text, or a list of parts of which the texts count.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
pub(super) struct Part {
    #[serde(default)]
    text: String,
}

impl Content {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().map(|part| part.text).collect(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct WireCall {
    index: Option<u32>,
    id: Option<String>,
    #[serde(default)]
    function: Function,
}

#[derive(Debug, Default, Deserialize)]
struct Function {
    name: Option<String>,
    /// JSON as text by the book; some servers send the object itself.
    arguments: Option<Value>,
}

impl WireCall {
    /// Arguments that are no JSON become `null`: the run tells the model so instead of calling the tool. The raw text is
    /// not kept, as it may be half of anything. No arguments at all are those of a tool that takes none.
    pub(super) fn into_call(self) -> ToolCall {
        let arguments = match self.function.arguments {
            None => Value::Object(serde_json::Map::new()),
            Some(Value::String(text)) if text.trim().is_empty() => Value::Object(serde_json::Map::new()),
            Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::Null),
            Some(object) => object,
        };
        ToolCall { id: self.id.unwrap_or_default(), name: self.function.name.unwrap_or_default(), arguments }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WireUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl From<WireUsage> for Usage {
    fn from(usage: WireUsage) -> Self {
        Self { input_tokens: usage.prompt_tokens, output_tokens: usage.completion_tokens, cost_microusd: 0 }
    }
}

/// A piece of a streamed answer.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk {
    id: Option<String>,
    model: Option<String>,
    #[serde(default)]
    choices: Vec<ChunkChoice>,
    usage: Option<WireUsage>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ChunkChoice {
    #[serde(default)]
    delta: WireMessage,
    finish_reason: Option<String>,
}

/// A streamed answer while it comes.
#[derive(Default)]
pub(super) struct PartialAnswer {
    whole: WireAnswer,
    text: String,
    refusal: String,
    calls: BTreeMap<u32, WireCall>,
    finish_reason: Option<String>,
}

impl PartialAnswer {
    /// Adds a piece; the answer is its text, for whoever reads along.
    pub(super) fn add(&mut self, chunk: Chunk) -> String {
        self.whole.id = self.whole.id.take().or(chunk.id);
        self.whole.model = self.whole.model.take().or(chunk.model);
        self.whole.usage = chunk.usage.or(self.whole.usage.take());
        let Some(choice) = chunk.choices.into_iter().next() else { return String::new() };
        self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        for call in choice.delta.tool_calls.into_iter().flatten() {
            self.add_call(call);
        }
        let mut delta = choice.delta.content.map(Content::into_text).unwrap_or_default();
        self.text.push_str(&delta);
        if let Some(refusal) = choice.delta.refusal {
            self.refusal.push_str(&refusal);
            delta.push_str(&refusal);
        }
        delta
    }

    /// The whole answer; `None` when the stream ended before the model did.
    pub(super) fn finish(self) -> Option<WireAnswer> {
        let finish_reason = Some(self.finish_reason?);
        let message = WireMessage {
            content: Some(Content::Text(self.text)),
            refusal: Some(self.refusal),
            tool_calls: Some(self.calls.into_values().collect()),
        };
        Some(WireAnswer { choices: vec![Choice { message, finish_reason }], ..self.whole })
    }

    /// A call comes in pieces that name its place; a server that names none sends each call whole.
    fn add_call(&mut self, piece: WireCall) {
        let next = self.calls.last_key_value().map_or(0, |(index, _)| index + 1);
        let call = self.calls.entry(piece.index.unwrap_or(next)).or_default();
        call.id = call.id.take().or(piece.id);
        call.function.name = call.function.name.take().or(piece.function.name);
        call.function.arguments = match (call.function.arguments.take(), piece.function.arguments) {
            (Some(Value::String(mut text)), Some(Value::String(more))) => {
                text.push_str(&more);
                Some(Value::String(text))
            }
            (before, after) => after.or(before),
        };
    }
}
