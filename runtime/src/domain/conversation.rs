//! The conversation of an attempt, and the digest of the request that it makes.
//!
//! Owned by the fold of a journal ([`super::run`]). Each message is hashed once, when it comes: the digest of a request is
//! the end of a chain over the digest of the pinned spec (instructions, models, tools) and all messages so far. It stands
//! beside the answer in the journal, so that a fold which would ask something else is noticed at the entry where it begins
//! to. What the binary and not the spec decides (a tool's description, how a wire spells a message) is left out: an
//! upgrade blocks no run.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::chat::Message;

/// First link of the chain; another way to hash needs another.
const CHAIN: &str = "troupe request 1";

/// Messages, oldest first, and the digest of asking a model with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Shared with the request that is under way; nothing is said meanwhile.
    messages: Arc<Vec<Message>>,
    digest: [u8; 32],
}

impl Conversation {
    /// What an attempt begins with: the digest of the spec that the run pins, and what was asked.
    #[must_use]
    pub fn new(spec_digest: &str, input: &str) -> Self {
        let mut conversation = Self { messages: Arc::default(), digest: link(&[], &[CHAIN, spec_digest]) };
        conversation.push(Message::User { text: input.to_owned() });
        conversation
    }

    /// Somebody says something.
    pub fn push(&mut self, message: Message) {
        self.digest = match &message {
            Message::User { text } => link(&self.digest, &["user", text]),
            Message::Assistant { text, tool_calls } => {
                let said = link(&self.digest, &["assistant", text]);
                tool_calls.iter().fold(said, |digest, call| {
                    // Sorted keys: the map is ordered.
                    link(&digest, &["call", &call.id, &call.name, &call.arguments.to_string()])
                })
            }
            Message::Tool { call_id, tool, content, is_error } => {
                let word = if *is_error { "error" } else { "ok" };
                link(&self.digest, &["tool", call_id, tool, word, content])
            }
        };
        Arc::make_mut(&mut self.messages).push(message);
    }

    /// All of it.
    #[must_use]
    pub const fn messages(&self) -> &Arc<Vec<Message>> {
        &self.messages
    }

    /// SHA-256 of asking a model with all of it, hex.
    #[must_use]
    pub fn request(&self) -> String {
        hex::encode(self.digest)
    }
}

/// The next digest of the chain: the one before and length-prefixed parts.
fn link(before: &[u8], parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(before);
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::chat::ToolCall;
    use super::*;

    fn call(id: &str, name: &str, city: &str) -> ToolCall {
        ToolCall { id: id.into(), name: name.into(), arguments: json!({"city": city}) }
    }

    fn told(spec: &str, input: &str, messages: Vec<Message>) -> String {
        let mut conversation = Conversation::new(spec, input);
        for message in messages {
            conversation.push(message);
        }
        conversation.request()
    }

    #[test]
    fn every_part_of_a_request_changes_its_digest() {
        let assistant =
            |text: &str, tool_calls: Vec<ToolCall>| vec![Message::Assistant { text: text.into(), tool_calls }];
        let tool = |call_id: &str, tool: &str, content: &str, is_error| {
            vec![Message::Tool { call_id: call_id.into(), tool: tool.into(), content: content.into(), is_error }]
        };
        let requests = [
            told("s", "hi", vec![]),
            told("t", "hi", vec![]),
            told("s", "ho", vec![]),
            told("s", "hi", assistant("x", vec![])),
            told("s", "hi", assistant("y", vec![])),
            told("s", "hi", assistant("x", vec![call("1", "look", "Rome")])),
            told("s", "hi", assistant("x", vec![call("2", "look", "Rome")])),
            told("s", "hi", assistant("x", vec![call("1", "find", "Rome")])),
            told("s", "hi", assistant("x", vec![call("1", "look", "Oslo")])),
            told("s", "hi", assistant("x", vec![call("1", "look", "Rome"), call("2", "look", "Rome")])),
            told("s", "hi", tool("1", "look", "rain", false)),
            told("s", "hi", tool("2", "look", "rain", false)),
            told("s", "hi", tool("1", "find", "rain", false)),
            told("s", "hi", tool("1", "look", "sun", false)),
            told("s", "hi", tool("1", "look", "rain", true)),
            told("s", "hi", vec![Message::User { text: "x".into() }]),
        ];
        for (n, one) in requests.iter().enumerate() {
            assert!(!requests[..n].contains(one), "{n}");
        }
        assert_eq!(requests[5], told("s", "hi", assistant("x", vec![call("1", "look", "Rome")])));
    }

    #[test]
    fn the_digest_is_pinned() {
        let expected = "e4f5a772a361d7594b44e6f0ed534d30e637ab5b208296f5c96537612545ebaf";
        assert_eq!(told("s", "hi", vec![Message::Assistant { text: "ho".into(), tool_calls: vec![] }]), expected);
    }
}
