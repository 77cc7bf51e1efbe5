//! Anthropic's messages against recorded answers and a server that misbehaves.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::domain::chat::{ToolCall, Usage};
use crate::fault::{Fault, Faulty};
use crate::model::ToolOffer;
use crate::model::factory::tests::{models, spec};
use crate::model::fault_server::{FaultServer, Reply};

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wire/anthropic/", $name))
    };
}

async fn server(reply: Reply) -> (FaultServer, Anthropic) {
    let server = FaultServer::start(vec![reply]).await;
    let spec = ModelSpec {
        base_url: Some(server.base_url.clone()),
        api_key: Some("key-for-tests-0002".into()),
        ..spec(ProviderKind::Anthropic)
    };
    let model = Anthropic::new(&spec, models(&[]).endpoint(&spec));
    (server, model)
}

fn user(text: &str) -> Message {
    Message::User { text: text.into() }
}

async fn complete(reply: Reply) -> Result<Completion, Error> {
    let (_server, model) = server(reply).await;
    model.complete(&Request { messages: vec![user("hello")].into(), ..Request::default() }).await
}

async fn stream(reply: Reply) -> (Result<Completion, Error>, Vec<String>) {
    let (_server, model) = server(reply).await;
    let mut deltas = Vec::new();
    let mut keep = |delta: &str| deltas.push(delta.to_owned());
    let request = Request { messages: vec![user("hello")].into(), ..Request::default() };
    let result = model.complete_streaming(&request, &mut keep).await;
    (result, deltas)
}

fn call(id: &str, arguments: Value) -> ToolCall {
    ToolCall { id: id.into(), name: "clock".into(), arguments }
}

#[tokio::test]
async fn a_message_is_read_with_its_cached_tokens_and_without_its_thoughts() {
    let reply = Reply::Answer(200, "request-id: req_9\r\n", sample!("message.json").into());
    let completion = complete(reply).await.unwrap();
    assert_eq!(completion.text, "A troupe is a company of actors.");
    assert_eq!(completion.finish, Finish::Stop);
    assert_eq!(completion.usage, Usage { input_tokens: 1_112, output_tokens: 23, cost_microusd: 0 });
    assert_eq!(completion.provider, "anthropic");
    assert_eq!(completion.request_id.as_deref(), Some("req_9"));
}

#[tokio::test]
async fn tool_use_is_read() {
    let completion = complete(Reply::ok(sample!("tool_use.json"))).await.unwrap();
    assert_eq!(completion.finish, Finish::ToolCalls);
    assert_eq!(completion.text, "I will look at the clock.");
    let expected = [
        call("toolu_01A09q90qw90lq917835lq9", json!({"offset": "+02:00"})),
        call("toolu_01T1x1fJ34qAmk2tNTrN7Up6", json!({})),
    ];
    assert_eq!(completion.tool_calls, expected);
}

#[tokio::test]
async fn stop_reasons_are_judged_and_unknown_ones_by_what_is_there() {
    let with = |reason: &str| sample!("message.json").replace("end_turn", reason);
    for (reason, finish) in [
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("refusal", Finish::Refused),
        ("stop_sequence", Finish::Stop),
        ("something_new", Finish::Stop),
    ] {
        assert_eq!(complete(Reply::ok(&with(reason))).await.unwrap().finish, finish, "{reason}");
    }
    let odd = sample!("tool_use.json").replace("\"tool_use\",\n  \"stop_seq", "\"something_new\",\n  \"stop_seq");
    assert!(odd.contains("something_new"));
    assert_eq!(complete(Reply::ok(&odd)).await.unwrap().finish, Finish::ToolCalls);
}

#[tokio::test]
async fn errors_carry_their_class() {
    let overloaded = Reply::Answer(529, "retry-after: 2\r\n", sample!("error_529.json").into());
    let error = complete(overloaded).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Transient { retry_after: Some(Duration::from_secs(2)) });
    assert_eq!(error.to_string(), "anthropic/m answered 529: Overloaded");
    let error = complete(Reply::status(402, r#"{"error":{"message":"billing"}}"#)).await.unwrap_err();
    assert!(matches!(error, Error::NoCredit { .. }));
    for odd in ["{}", "[]", &sample!("message.json")[..200]] {
        let error = complete(Reply::ok(odd)).await.unwrap_err();
        assert!(matches!(error, Error::BadAnswer { .. }) && error.fault().is_transient(), "{odd}: {error:?}");
    }
    assert!(matches!(complete(Reply::Reset).await.unwrap_err(), Error::Connect { .. }));
}

#[tokio::test]
async fn what_is_sent_is_the_wire_s() {
    let (server, model) = server(Reply::ok(sample!("message.json"))).await;
    let tool = |id: &str, is_error| Message::Tool {
        call_id: id.into(),
        tool: "clock".into(),
        content: "noon".into(),
        is_error,
    };
    let request = Request {
        instructions: "Be brief.".into(),
        messages: vec![
            user("time?"),
            Message::Assistant {
                text: " ".into(),
                tool_calls: vec![call("c.1", json!({"offset": "Z"})), call("c2", Value::Null)],
            },
            tool("c.1", false),
            tool("c2", true),
            user("and now?"),
        ]
        .into(),
        tools: vec![ToolOffer {
            name: "clock".into(),
            description: "the time".into(),
            parameters: json!({"type": "object"}),
        }]
        .into(),
        force_tool: Some("clock".into()),
        deadline: None,
        progress: None,
    };
    model.complete(&request).await.unwrap();
    let seen = server.seen().remove(0);
    assert!(seen.head.starts_with("post /v1/messages http/1.1"), "{}", seen.head);
    assert!(seen.head.contains("x-api-key: key-for-tests-0002"));
    assert!(seen.head.contains("anthropic-version: 2023-06-01"));
    assert_eq!(
        seen.body,
        json!({
            "model": "m",
            "max_tokens": 100,
            "system": "Be brief.",
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "time?"}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "c_1", "name": "clock", "input": {"offset": "Z"}},
                    {"type": "tool_use", "id": "c2", "name": "clock", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "c_1", "content": "noon"},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "noon", "is_error": true},
                    {"type": "text", "text": "and now?"},
                ]},
            ],
            "tools": [{"name": "clock", "description": "the time", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "tool", "name": "clock"},
        })
    );
}

#[test]
fn a_message_without_text_is_still_a_message() {
    let sent = messages(&[user("")]);
    assert_eq!(sent, [json!({"role": "user", "content": [{"type": "text", "text": NO_TEXT}]})]);
}

#[tokio::test]
async fn a_stream_is_put_together() {
    let (result, deltas) = stream(Reply::stream(sample!("message.sse"))).await;
    let completion = result.unwrap();
    assert_eq!(deltas, ["Let me", " check."]);
    assert_eq!(completion.text, "Let me check.");
    assert_eq!(completion.finish, Finish::ToolCalls);
    assert_eq!(completion.usage, Usage { input_tokens: 500, output_tokens: 89, cost_microusd: 0 });
    let expected = [call("toolu_01T1x1fJ34qAmk2tNTrN7Up6", json!({"offset": "Z"})), call("toolu_02", json!({}))];
    assert_eq!(completion.tool_calls, expected);
}

#[tokio::test]
async fn a_stream_that_fails_says_how() {
    let (result, _) = stream(Reply::stream(sample!("error.sse"))).await;
    assert!(matches!(result.unwrap_err(), Error::Status { status: 529, .. }));
    let begun = &sample!("message.sse")[..sample!("message.sse").find("message_delta").unwrap()];
    let (result, deltas) = stream(Reply::stream(begun)).await;
    assert!(matches!(result.unwrap_err(), Error::BadAnswer { .. }));
    assert_eq!(deltas.concat(), "Let me check.");
    let (result, _) = stream(Reply::Stream { events: begun.into(), then_hang: true }).await;
    assert!(matches!(result.unwrap_err(), Error::Timeout { .. }));
}
