//! Chat completions: the wire of `OpenAI` and of the many servers that speak it.
//!
//! One try of one turn, whole or streamed; built by [`super::Models`], called by the [`super::chain`]. The wire's words are
//! in [`wire`]. Differences between servers are met here: an answer that was to be streamed and is not, a missing `usage`
//! (estimated), `finish_reason` values nobody knows (judged by what is there), tool arguments that are no JSON.

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::domain::agent::{ModelSpec, ProviderKind};
use crate::domain::chat::{Completion, Finish, Message, ToolCall};

use super::call::Endpoint;
use super::{Error, Model, OnDelta, Request, usage};

mod wire;

use wire::{Chunk, PartialAnswer, WireAnswer};

/// Where `OpenAI` itself answers.
pub(super) const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";

/// A model behind chat completions.
pub(super) struct OpenAi {
    endpoint: Endpoint,
    model: String,
    max_output_tokens: u32,
}

impl OpenAi {
    /// The model of `spec` at `endpoint`.
    pub(super) fn new(spec: &ModelSpec, endpoint: Endpoint) -> Self {
        Self { endpoint, model: spec.model.clone(), max_output_tokens: spec.max_output_tokens }
    }

    fn body(&self, request: &Request) -> Value {
        let mut messages = Vec::with_capacity(request.messages.len() + 1);
        if !request.instructions.is_empty() {
            messages.push(json!({"role": "system", "content": &*request.instructions}));
        }
        messages.extend(request.messages.iter().map(message));
        let mut body = json!({"model": self.model, "messages": messages});
        // OpenAI's newer models refuse `max_tokens`, most other servers know nothing else.
        let limit = if self.endpoint.is_at("api.openai.com") { "max_completion_tokens" } else { "max_tokens" };
        body[limit] = self.max_output_tokens.into();
        if !request.tools.is_empty() {
            body["tools"] = request
                .tools
                .iter()
                .map(|tool| {
                    let function =
                        json!({"name": tool.name, "description": tool.description, "parameters": tool.parameters});
                    json!({"type": "function", "function": function})
                })
                .collect();
        }
        if let Some(name) = &request.force_tool {
            body["tool_choice"] = json!({"type": "function", "function": {"name": name}});
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
        if let Some(error) = &answer.error {
            return Err(self.reported(error));
        }
        let choice = answer.choices.into_iter().next().ok_or_else(|| self.endpoint.bad("it holds no choices"))?;
        let mut text = choice.message.content.map(wire::Content::into_text).unwrap_or_default();
        let refusal = choice.message.refusal.filter(|refusal| !refusal.is_empty());
        let refused = refusal.is_some();
        if let Some(refusal) = refusal {
            text.push_str(&refusal);
        }
        let tool_calls: Vec<_> =
            choice.message.tool_calls.into_iter().flatten().map(wire::WireCall::into_call).collect();
        let finish = if refused { Finish::Refused } else { finish(choice.finish_reason.as_deref(), &tool_calls) };
        Ok(Completion {
            usage: answer.usage.map_or_else(|| usage::estimated(request, &text, &tool_calls), Into::into),
            text,
            tool_calls,
            finish,
            provider: ProviderKind::Openai.as_str().to_owned(),
            model: answer.model.filter(|model| !model.is_empty()).unwrap_or_else(|| self.model.clone()),
            request_id: header_id.or(answer.id),
        })
    }

    /// An error inside an answer whose status was good, as gateways and streams have it.
    fn reported(&self, error: &Value) -> Error {
        let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        // Without a status of its own: the provider broke off, and may do better.
        let status = status.filter(|status| (400..600).contains(status)).unwrap_or(500);
        self.endpoint.refused(status, None, json!({"error": error}).to_string().as_bytes())
    }
}

#[async_trait]
impl Model for OpenAi {
    async fn complete(&self, request: &Request) -> Result<Completion, Error> {
        let mut answer = self.endpoint.post(&self.body(request)).await?;
        let header_id = answer.request_id.take();
        self.completion(request, self.endpoint.read(answer).await?, header_id)
    }

    async fn complete_streaming(&self, request: &Request, on_delta: OnDelta<'_>) -> Result<Completion, Error> {
        let mut body = self.body(request);
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
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
            let data = data?;
            if data.trim() == "[DONE]" {
                break;
            }
            let chunk: Chunk = self.endpoint.parse(data.as_bytes())?;
            if let Some(error) = &chunk.error {
                return Err(self.reported(error));
            }
            let delta = partial.add(chunk);
            if !delta.is_empty() {
                on_delta(&delta);
            }
        }
        let whole = partial.finish().ok_or_else(|| self.endpoint.bad("the stream broke off"))?;
        self.completion(request, whole, header_id)
    }
}

/// One of our messages in the wire's words.
fn message(message: &Message) -> Value {
    match message {
        Message::User { text } => json!({"role": "user", "content": text}),
        Message::Assistant { text, tool_calls } if tool_calls.is_empty() => {
            json!({"role": "assistant", "content": text})
        }
        Message::Assistant { text, tool_calls } => {
            let calls: Vec<_> = tool_calls.iter().map(call).collect();
            let content = if text.is_empty() { Value::Null } else { text.as_str().into() };
            json!({"role": "assistant", "content": content, "tool_calls": calls})
        }
        Message::Tool { call_id, content, is_error, .. } => {
            // The wire has no flag for it, so the model is told in words.
            let content = if *is_error { format!("error: {content}") } else { content.clone() };
            json!({"role": "tool", "tool_call_id": call_id, "content": content})
        }
    }
}

fn call(call: &ToolCall) -> Value {
    // Unreadable arguments are kept as null; the wire wants an object.
    let arguments = if call.arguments.is_null() { "{}".to_owned() } else { call.arguments.to_string() };
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}

/// Why it stopped. A forced tool ends with `stop`, and some servers say nothing or a word of their own: then what is
/// there decides.
fn finish(reason: Option<&str>, tool_calls: &[ToolCall]) -> Finish {
    match reason {
        Some("length") => Finish::Length,
        Some("content_filter") => Finish::Refused,
        _ if tool_calls.is_empty() => Finish::Stop,
        _ => Finish::ToolCalls,
    }
}

#[cfg(test)]
mod tests;
