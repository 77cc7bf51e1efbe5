//! The words of Anthropic's answers, as far as we read them; unknown blocks and events are ignored.
//!
//! Lenient on purpose, as new kinds of blocks and events come without a new version; [`super::Anthropic`] decides what an
//! answer needs to be one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::domain::chat::{ToolCall, Usage};

#[derive(Debug, Default, Deserialize)]
pub(super) struct WireAnswer {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) content: Option<Vec<Block>>,
    pub(super) stop_reason: Option<String>,
    pub(super) usage: Option<WireUsage>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse(WireCall),
    /// Thinking and whatever comes next.
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireCall {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    input: Value,
}

impl WireCall {
    /// An input that is no object becomes `null`: the run tells the model so instead of calling the tool.
    pub(super) fn into_call(self) -> ToolCall {
        let arguments = if self.input.is_object() { self.input } else { Value::Null };
        ToolCall { id: self.id, name: self.name, arguments }
    }
}

/// Counts may come in parts: the prompt's at the start of a stream, the answer's at its end.
#[derive(Debug, Default, Deserialize)]
pub(super) struct WireUsage {
    #[serde(rename = "input_tokens")]
    input: Option<u64>,
    #[serde(rename = "cache_creation_input_tokens")]
    cache_written: Option<u64>,
    #[serde(rename = "cache_read_input_tokens")]
    cache_read: Option<u64>,
    #[serde(rename = "output_tokens")]
    output: Option<u64>,
}

impl WireUsage {
    fn updated(&self, later: &Self) -> Self {
        Self {
            input: later.input.or(self.input),
            cache_written: later.cache_written.or(self.cache_written),
            cache_read: later.cache_read.or(self.cache_read),
            output: later.output.or(self.output),
        }
    }
}

impl From<WireUsage> for Usage {
    /// The cached part of a prompt is part of the prompt.
    fn from(usage: WireUsage) -> Self {
        let input = [usage.input, usage.cache_written, usage.cache_read];
        Self {
            input_tokens: input.into_iter().flatten().fold(0, u64::saturating_add),
            output_tokens: usage.output.unwrap_or_default(),
            cost_microusd: 0,
        }
    }
}

/// One event of a stream.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event {
    MessageStart {
        message: WireAnswer,
    },
    ContentBlockStart {
        index: u32,
        content_block: Block,
    },
    ContentBlockDelta {
        index: u32,
        delta: Delta,
    },
    MessageDelta {
        delta: End,
        usage: Option<WireUsage>,
    },
    MessageStop,
    Error {
        error: Value,
    },
    /// `ping`, `content_block_stop` and whatever comes next.
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    /// Thinking, signatures, citations.
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
pub(super) struct End {
    stop_reason: Option<String>,
}

/// A streamed answer while it comes.
#[derive(Default)]
pub(super) struct PartialAnswer {
    whole: WireAnswer,
    blocks: BTreeMap<u32, (Block, String)>,
}

impl PartialAnswer {
    /// Adds an event; the answer is its text, for whoever reads along.
    pub(super) fn add(&mut self, event: Event) -> Option<String> {
        match event {
            Event::MessageStart { message } => self.whole = message,
            Event::ContentBlockStart { index, content_block } => {
                self.blocks.insert(index, (content_block, String::new()));
            }
            Event::ContentBlockDelta { index, delta } => return self.add_delta(index, delta),
            Event::MessageDelta { delta, usage } => {
                self.whole.stop_reason = delta.stop_reason.or(self.whole.stop_reason.take());
                let before = self.whole.usage.take();
                self.whole.usage = match (before, usage) {
                    (Some(before), Some(later)) => Some(before.updated(&later)),
                    (before, later) => later.or(before),
                };
            }
            Event::MessageStop | Event::Error { .. } | Event::Other => {}
        }
        None
    }

    /// The whole answer.
    pub(super) fn finish(self) -> WireAnswer {
        let blocks = self.blocks.into_values().map(|(block, json)| match block {
            Block::ToolUse(call) => {
                // No piece at all: the input of a tool that takes none stood in the start event.
                let empty = || if call.input.is_object() { call.input.clone() } else { Value::Object(Map::new()) };
                let input =
                    if json.trim().is_empty() { empty() } else { serde_json::from_str(&json).unwrap_or(Value::Null) };
                Block::ToolUse(WireCall { input, ..call })
            }
            other @ (Block::Text { .. } | Block::Other) => other,
        });
        WireAnswer { content: Some(blocks.collect()), ..self.whole }
    }

    fn add_delta(&mut self, index: u32, delta: Delta) -> Option<String> {
        let (block, json) = self.blocks.get_mut(&index)?;
        match (block, delta) {
            (Block::Text { text }, Delta::Text { text: more }) => {
                text.push_str(&more);
                Some(more)
            }
            (Block::ToolUse(_), Delta::InputJson { partial_json }) => {
                json.push_str(&partial_json);
                None
            }
            _ => None,
        }
    }
}
