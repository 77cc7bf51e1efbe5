//! Messages: the wire of Anthropic.
//!
//! One try of one turn, whole or streamed; built by [`super::Models`], called by the [`super::chain`]. The wire's answers
//! are in [`wire`]. It is stricter than ours: messages alternate, results of tools stand together in one user message,
//! no text is empty and ids are plain; all of that is made here, so that a conversation begun with another provider goes
//! on with this one.

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::domain::agent::{ModelSpec, ProviderKind};
use crate::domain::chat::{Completion, Finish, Message};

use super::call::Endpoint;
use super::{Error, Model, OnDelta, Request, usage};

mod wire;

use wire::{Block, Event, PartialAnswer, WireAnswer};

/// Where Anthropic itself answers.
pub(super) const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";
/// The version of the wire that is spoken here.
pub(super) const VERSION: &str = "2023-06-01";
/// The wire refuses a message without text; this stands in its place.
const NO_TEXT: &str = "(no text)";

/// A model behind Anthropic's messages.
pub(super) struct Anthropic {
    endpoint: Endpoint,
    model: String,
    max_output_tokens: u32,
}

impl Anthropic {
    /// The model of `spec` at `endpoint`.
    pub(super) fn new(spec: &ModelSpec, endpoint: Endpoint) -> Self {
        Self { endpoint, model: spec.model.clone(), max_output_tokens: spec.max_output_tokens }
    }

    fn body(&self, request: &Request) -> Value {
        let mut body = json!({
            "model": self.model,
            "max_tokens": self.max_output_tokens,
            "messages": messages(&request.messages),
        });
        if !request.instructions.trim().is_empty() {
            body["system"] = (&*request.instructions).into();
        }
        if !request.tools.is_empty() {
            body["tools"] = request
                .tools
                .iter()
                .map(
                    |tool| json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters}),
                )
                .collect();
        }
        if let Some(name) = &request.force_tool {
            body["tool_choice"] = json!({"type": "tool", "name": name});
        }
        body
    }

    /// Makes one of ours of the wire's whole answer.
    fn completion(
        &self,
        request: &Request,
        answer: WireAnswer,
        header_id: Option<String>,
    ) -> Result<Completion, Error> {
        let blocks = answer.content.ok_or_else(|| self.endpoint.bad("it holds no content"))?;
        let mut text = String::new();
        let mut tool_calls = Vec::new();
        for block in blocks {
            match block {
                Block::Text { text: more } => text.push_str(&more),
                Block::ToolUse(call) => tool_calls.push(call.into_call()),
                Block::Other => {}
            }
        }
        let finish = match answer.stop_reason.as_deref() {
            Some("max_tokens" | "model_context_window_exceeded") => Finish::Length,
            Some("refusal") => Finish::Refused,
            _ if tool_calls.is_empty() => Finish::Stop,
            _ => Finish::ToolCalls,
        };
        Ok(Completion {
            usage: answer.usage.map_or_else(|| usage::estimated(request, &text, &tool_calls), Into::into),
            text,
            tool_calls,
            finish,
            provider: ProviderKind::Anthropic.as_str().to_owned(),
            model: answer.model.unwrap_or_else(|| self.model.clone()),
            request_id: header_id.or(answer.id),
        })
    }

    /// An error inside a stream: its type says which status it would have been.
    fn reported(&self, error: &Value) -> Error {
        let status = match error.get("type").and_then(Value::as_str) {
            Some("invalid_request_error") => 400,
            Some("authentication_error") => 401,
            Some("billing_error") => 402,
            Some("permission_error") => 403,
            Some("not_found_error") => 404,
            Some("request_too_large") => 413,
            Some("rate_limit_error") => 429,
            Some("timeout_error") => 504,
            Some("overloaded_error") => 529,
            _ => 500,
        };
        self.endpoint.refused(status, None, json!({"error": error}).to_string().as_bytes())
    }
}

#[async_trait]
impl Model for Anthropic {
    async fn complete(&self, request: &Request) -> Result<Completion, Error> {
        let mut answer = self.endpoint.post(&self.body(request)).await?;
        let header_id = answer.request_id.take();
        self.completion(request, self.endpoint.read(answer).await?, header_id)
    }

    async fn complete_streaming(&self, request: &Request, on_delta: OnDelta<'_>) -> Result<Completion, Error> {
        let mut body = self.body(request);
        body["stream"] = true.into();
        let mut answer = self.endpoint.post(&body).await?;
        let header_id = answer.request_id.take();
        if !answer.is_stream() {
            let completion = self.completion(request, self.endpoint.read(answer).await?, header_id)?;
            on_delta(&completion.text);
            return Ok(completion);
        }
        let mut partial = PartialAnswer::default();
        let mut events = self.endpoint.events(answer);
        while let Some(data) = events.next().await {
            match self.endpoint.parse(data?.as_bytes())? {
                Event::Error { error } => return Err(self.reported(&error)),
                Event::MessageStop => {
                    return self.completion(request, partial.finish(), header_id);
                }
                event => {
                    if let Some(delta) = partial.add(event).filter(|delta| !delta.is_empty()) {
                        on_delta(&delta);
                    }
                }
            }
        }
        Err(self.endpoint.bad("the stream broke off"))
    }
}

/// Our conversation in the wire's words: neighbours of one role become one message.
fn messages(conversation: &[Message]) -> Vec<Value> {
    let mut merged: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in conversation {
        let (role, blocks) = blocks(message);
        match merged.last_mut() {
            Some((last, content)) if *last == role => content.extend(blocks),
            _ => merged.push((role, blocks)),
        }
    }
    let content = |mut blocks: Vec<Value>| {
        if blocks.is_empty() {
            blocks.push(json!({"type": "text", "text": NO_TEXT}));
        }
        blocks
    };
    merged.into_iter().map(|(role, blocks)| json!({"role": role, "content": content(blocks)})).collect()
}

fn blocks(message: &Message) -> (&'static str, Vec<Value>) {
    let words = |text: &str| (!text.trim().is_empty()).then(|| json!({"type": "text", "text": text}));
    match message {
        Message::User { text } => ("user", words(text).into_iter().collect()),
        Message::Assistant { text, tool_calls } => {
            let calls = tool_calls.iter().map(|call| {
                // Unreadable arguments are kept as null; the wire wants an object.
                let input = if call.arguments.is_object() { call.arguments.clone() } else { json!({}) };
                json!({"type": "tool_use", "id": plain(&call.id), "name": call.name, "input": input})
            });
            ("assistant", words(text).into_iter().chain(calls).collect())
        }
        Message::Tool { call_id, content, is_error, .. } => {
            let mut result = json!({"type": "tool_result", "tool_use_id": plain(call_id), "content": content});
            if *is_error {
                result["is_error"] = true.into();
            }
            ("user", vec![result])
        }
    }
}

/// Ids of other providers may hold characters that this wire refuses.
fn plain(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests;
