//! What a turn used and what it cost.
//!
//! Providers count tokens themselves; where one does not (many local servers while streaming, the scripted model), the
//! count is estimated from the text, so that a token limit ends a loop there too. Called by the adapters and the chain.

use serde_json::Value;

use crate::domain::chat::{Message, ToolCall, Usage};

use super::Request;

/// What a model costs, in US dollars per million tokens, as providers print it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Per million tokens of the prompt.
    pub input_usd: f64,
    /// Per million tokens of the answer.
    pub output_usd: f64,
}

impl Price {
    /// The cost of `usage` in millionths of a dollar: a dollar per million tokens is one of those per token.
    pub(super) fn cost_microusd(&self, usage: &Usage) -> u64 {
        let cost = self.input_usd * usage.input_tokens as f64 + self.output_usd * usage.output_tokens as f64;
        cost.round() as u64
    }
}

/// An estimate for an answer whose provider does not count.
pub(super) fn estimated(request: &Request, text: &str, tool_calls: &[ToolCall]) -> Usage {
    let spoken = tokens(&request.instructions) + request.messages.iter().map(of_message).sum::<u64>();
    let offered: u64 = request.tools.iter().map(|tool| tokens(&tool.description) + of_json(&tool.parameters)).sum();
    Usage {
        input_tokens: spoken + offered,
        output_tokens: tokens(text) + tool_calls.iter().map(of_call).sum::<u64>(),
        cost_microusd: 0,
    }
}

/// Words by four thirds, rounded up: what common tokenizers make of plain English, and the same on every machine.
fn tokens(text: &str) -> u64 {
    (words(text) * 4).div_ceil(3)
}

/// Where no byte is beyond ASCII, blanks are looked for byte by byte: a prompt is counted at every turn, and decoding its characters takes
/// many times as long.
fn words(text: &str) -> u64 {
    if !text.is_ascii() {
        return text.split_whitespace().count() as u64;
    }
    let (mut words, mut within) = (0, false);
    for byte in text.bytes() {
        // What Unicode calls White_Space below 0x80; `u8::is_ascii_whitespace` leaves out the vertical tab.
        let blank = matches!(byte, b' ' | b'\t'..=b'\r');
        words += u64::from(!blank && !within);
        within = !blank;
    }
    words
}

fn of_message(message: &Message) -> u64 {
    let calls = match message {
        Message::Assistant { tool_calls, .. } => tool_calls.iter().map(of_call).sum(),
        Message::User { .. } | Message::Tool { .. } => 0,
    };
    tokens(message.text()) + calls
}

fn of_call(call: &ToolCall) -> u64 {
    1 + of_json(&call.arguments)
}

/// JSON has few blanks, so words say nothing: four characters to a token.
fn of_json(value: &Value) -> u64 {
    (value.to_string().len() as u64).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_price_is_per_million_tokens() {
        let price = Price { input_usd: 0.25, output_usd: 2.0 };
        let usage = Usage { input_tokens: 1_000, output_tokens: 10, cost_microusd: 0 };
        assert_eq!(price.cost_microusd(&usage), 270);
        assert_eq!(Price { input_usd: 0.0, output_usd: 0.0 }.cost_microusd(&usage), 0);
    }

    #[test]
    fn words_are_what_unicode_says() {
        let all: String = (0..=0x2100_u32).filter_map(char::from_u32).flat_map(|c| [c, 'x', 'y']).collect();
        let (ascii, _) = all.split_at(0x80 * 3);
        assert!(ascii.is_ascii() && !all.is_ascii());
        for text in [ascii, &all, "", " ", " a", "a ", "a\u{b}b \r\n c", "a\u{a0}b"] {
            assert_eq!(words(text), text.split_whitespace().count() as u64, "{text:?}");
        }
    }

    #[test]
    fn an_estimate_is_exact_and_grows_with_the_conversation() {
        let mut request = Request {
            instructions: "be short please".into(),
            messages: vec![Message::User { text: "what is the time".into() }].into(),
            ..Request::default()
        };
        let first = estimated(&request, "it is noon", &[]);
        assert_eq!((first.input_tokens, first.output_tokens), (4 + 6, 4));
        let call = ToolCall { id: "c".into(), name: "clock".into(), arguments: json!({"offset": "+02:00"}) };
        assert_eq!(estimated(&request, "", std::slice::from_ref(&call)).output_tokens, 1 + 5);
        Arc::make_mut(&mut request.messages).push(Message::Assistant { text: String::new(), tool_calls: vec![call] });
        assert_eq!(estimated(&request, "it is noon", &[]).input_tokens, 10 + 6);
    }
}
