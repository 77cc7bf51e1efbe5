//! Chat completions against recorded answers and a server that misbehaves.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::domain::chat::Usage;
use crate::fault::{Fault, Faulty};
use crate::model::factory::tests::{models, spec};
use crate::model::fault_server::{FaultServer, Reply};
use crate::model::{Models, ToolOffer};

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wire/openai/", $name))
    };
}

async fn server(reply: Reply) -> (FaultServer, OpenAi) {
    let server = FaultServer::start(vec![reply]).await;
    let spec = ModelSpec {
        base_url: Some(server.base_url.clone()),
        api_key: Some("key-for-tests-0001".into()),
        ..spec(ProviderKind::Openai)
    };
    let models: Models = models(&[]);
    let model = OpenAi::new(&spec, models.endpoint(&spec));
    (server, model)
}

fn ask(text: &str) -> Request {
    Request { messages: vec![Message::User { text: text.into() }].into(), ..Request::default() }
}

async fn complete(reply: Reply) -> Result<Completion, Error> {
    let (_server, model) = server(reply).await;
    timeout(Duration::from_secs(10), model.complete(&ask("hello"))).await.expect("the call hangs")
}

async fn stream(reply: Reply) -> (Result<Completion, Error>, Vec<String>) {
    let (_server, model) = server(reply).await;
    let mut deltas = Vec::new();
    let mut keep = |delta: &str| deltas.push(delta.to_owned());
    let request = ask("hello");
    let call = timeout(Duration::from_secs(10), model.complete_streaming(&request, &mut keep));
    let result = call.await.expect("the call hangs");
    (result, deltas)
}

const fn used(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage { input_tokens, output_tokens, cost_microusd: 0 }
}

#[tokio::test]
async fn a_chat_is_read() {
    let reply = Reply::Answer(200, "x-request-id: req_77\r\n", sample!("chat.json").into());
    let completion = complete(reply).await.unwrap();
    assert_eq!(completion.text, "A troupe is a company of actors.");
    assert_eq!(completion.finish, Finish::Stop);
    assert_eq!(completion.usage, used(31, 74));
    assert_eq!(completion.model, "gpt-5-mini-2025-08-07");
    assert_eq!(completion.provider, "openai");
    assert_eq!(completion.request_id.as_deref(), Some("req_77"));
}

#[tokio::test]
async fn tool_calls_are_read_and_unreadable_arguments_become_null() {
    let completion = complete(Reply::ok(sample!("tool_calls.json"))).await.unwrap();
    assert_eq!(completion.finish, Finish::ToolCalls);
    assert_eq!(completion.text, "");
    let arguments: Vec<_> = completion.tool_calls.iter().map(|call| call.arguments.clone()).collect();
    assert_eq!(arguments, [json!({"offset": "+02:00"}), Value::Null, json!({})]);
    assert_eq!(completion.tool_calls[0].id, "call_p3sX0yGdT5kVbQnZ1uWcE8rA");
    assert_eq!(completion.request_id.as_deref(), Some("chatcmpl-CQ8wAe4oHq7Lr2sD8yUuK1fMnB3c"));
}

#[tokio::test]
async fn a_forced_tool_that_ends_with_stop_is_a_tool_call() {
    let completion = complete(Reply::ok(sample!("forced_tool.json"))).await.unwrap();
    assert_eq!(completion.finish, Finish::ToolCalls);
    assert_eq!(completion.tool_calls[0].name, "clock");
    assert_eq!(completion.tool_calls[0].arguments, json!({}));
}

#[tokio::test]
async fn unknown_words_and_missing_fields_are_met() {
    let completion = complete(Reply::ok(sample!("odd.json"))).await.unwrap();
    assert_eq!(completion.text, "Two parts, one text.");
    assert_eq!(completion.finish, Finish::Stop);
    assert_eq!(completion.model, "m", "the name of the spec where the server names none");
    assert_eq!(completion.usage, used(2, 6), "estimated where the server does not count");
}

#[tokio::test]
async fn a_refusal_is_a_finish_and_its_words_are_the_text() {
    let completion = complete(Reply::ok(sample!("filtered.json"))).await.unwrap();
    assert_eq!(completion.finish, Finish::Refused);
    assert_eq!(completion.text, "I cannot help with that.");
}

#[tokio::test]
async fn answers_without_an_answer_are_transient() {
    for reply in [
        Reply::ok(sample!("no_choices.json")),
        Reply::ok("{}"),
        Reply::ok("not json"),
        Reply::ok(&sample!("chat.json")[..300]),
        Reply::ok(r#"{"choices": 7}"#),
    ] {
        let error = complete(reply.clone()).await.unwrap_err();
        assert!(matches!(error, Error::BadAnswer { .. }), "{reply:?} gave {error:?}");
        assert!(error.fault().is_transient());
    }
}

#[tokio::test]
async fn broken_connections_are_transient() {
    for reply in [Reply::Cut(sample!("chat.json").into()), Reply::Reset] {
        let error = complete(reply.clone()).await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{reply:?} gave {error:?}");
        assert!(error.fault().is_transient());
        assert!(!error.to_string().contains("127.0.0.1"), "addresses may hold tokens: {error}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let error = complete(Reply::Endless).await.unwrap_err();
    assert_eq!(error, Error::TooLarge { model: "openai/m".into(), limit: 64 * 1024 });
    assert_eq!(error.fault(), Fault::Permanent);
}

#[tokio::test]
async fn refusals_of_the_server_carry_its_words_and_its_wait_but_no_key() {
    let limited = Reply::Answer(429, "retry-after: 3\r\n", sample!("error_429.json").into());
    let error = complete(limited).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Transient { retry_after: Some(Duration::from_secs(3)) });
    assert!(error.to_string().starts_with("openai/m answered 429: Rate limit reached"), "{error}");

    let error = complete(Reply::status(401, sample!("error_401.json"))).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Permanent);
    assert!(error.to_string().contains("Incorrect API key provided: ***."), "{error}");
    assert!(!format!("{error:?}").contains("key-for-tests"));

    let error = complete(Reply::status(429, sample!("error_quota.json"))).await.unwrap_err();
    assert!(matches!(error, Error::NoCredit { .. }));

    let error = complete(Reply::status(500, &"long ".repeat(1_000))).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 500, message, .. } if message.chars().count() == 300));

    let error = complete(Reply::ok(sample!("error_inside.json"))).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 502, .. }), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_key() {
    let elsewhere = FaultServer::start(vec![Reply::ok(sample!("chat.json"))]).await;
    let location = format!("location: {}/chat/completions\r\n", elsewhere.base_url);
    let error = complete(Reply::Answer(307, location.leak(), String::new())).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 307, .. }));
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn what_is_sent_is_the_wire_s() {
    let (server, model) = server(Reply::ok(sample!("chat.json"))).await;
    let call = |id: &str, arguments| ToolCall { id: id.into(), name: "clock".into(), arguments };
    let request = Request {
        instructions: "Be brief.".into(),
        messages: vec![
            Message::User { text: "time?".into() },
            Message::Assistant {
                text: String::new(),
                tool_calls: vec![call("c1", json!({"offset": "Z"})), call("c2", Value::Null)],
            },
            Message::Tool { call_id: "c1".into(), tool: "clock".into(), content: "noon".into(), is_error: false },
            Message::Tool { call_id: "c2".into(), tool: "clock".into(), content: "no".into(), is_error: true },
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
    assert!(seen.head.starts_with("post /v1/chat/completions http/1.1"), "{}", seen.head);
    assert!(seen.head.contains("authorization: bearer key-for-tests-0001"), "{}", seen.head);
    let function = |arguments: &str| json!({"name": "clock", "arguments": arguments});
    assert_eq!(
        seen.body,
        json!({
            "model": "m",
            "max_tokens": 100,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "time?"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c1", "type": "function", "function": function("{\"offset\":\"Z\"}")},
                    {"id": "c2", "type": "function", "function": function("{}")},
                ]},
                {"role": "tool", "tool_call_id": "c1", "content": "noon"},
                {"role": "tool", "tool_call_id": "c2", "content": "error: no"},
            ],
            "tools": [{"type": "function", "function":
                {"name": "clock", "description": "the time", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "clock"}},
        })
    );
}

#[tokio::test]
async fn a_streamed_chat_comes_in_pieces() {
    let (server, model) = server(Reply::stream(sample!("chat.sse"))).await;
    let mut deltas = Vec::new();
    let mut keep = |delta: &str| deltas.push(delta.to_owned());
    let completion = model.complete_streaming(&ask("hello"), &mut keep).await.unwrap();
    assert_eq!(deltas, ["The show ", "goes on — ", "toujours."]);
    assert_eq!(completion.text, "The show goes on — toujours.");
    assert_eq!(completion.usage, used(18, 9));
    assert_eq!(completion.finish, Finish::Stop);
    let body = &server.seen()[0].body;
    assert_eq!((&body["stream"], &body["stream_options"]), (&json!(true), &json!({"include_usage": true})));
}

#[tokio::test]
async fn streamed_tool_calls_are_put_together() {
    let (result, deltas) = stream(Reply::stream(sample!("tool_calls.sse"))).await;
    let completion = result.unwrap();
    assert!(deltas.is_empty());
    let call = |id: &str, name: &str, arguments| ToolCall { id: id.into(), name: name.into(), arguments };
    let expected =
        [call("call_aaa", "clock", json!({"offset": "-05:00"})), call("call_bbb", "wait", json!({"seconds": 1}))];
    assert_eq!(completion.tool_calls, expected);
    assert_eq!(completion.finish, Finish::ToolCalls);
}

#[tokio::test]
async fn a_local_server_s_stream_without_usage_is_estimated() {
    let (result, deltas) = stream(Reply::stream(sample!("local.sse"))).await;
    let completion = result.unwrap();
    assert_eq!(deltas, ["Hello", " there"]);
    assert_eq!(completion.finish, Finish::Length);
    assert_eq!(completion.usage, used(2, 3));
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_read_whole() {
    let (result, deltas) = stream(Reply::ok(sample!("chat.json"))).await;
    assert_eq!(deltas, [result.unwrap().text]);
}

#[tokio::test]
async fn a_stream_that_breaks_off_or_falls_silent_is_transient() {
    let begun = &sample!("chat.sse")[..sample!("chat.sse").find("toujours").unwrap()];
    let (result, deltas) = stream(Reply::stream(begun)).await;
    assert!(matches!(result.unwrap_err(), Error::BadAnswer { .. }));
    assert_eq!(deltas.len(), 2);

    let (result, _) = stream(Reply::Stream { events: begun.to_owned(), then_hang: true }).await;
    let error = result.unwrap_err();
    assert_eq!(error, Error::Timeout { model: "openai/m".into(), after: Duration::from_millis(200) });

    let (result, _) = stream(Reply::stream("data: {\"error\":{\"message\":\"busy\",\"code\":503}}\n\n")).await;
    assert!(matches!(result.unwrap_err(), Error::Status { status: 503, .. }));

    let (result, _) = stream(Reply::stream(&": ping\n".repeat(20_000))).await;
    assert!(matches!(result.unwrap_err(), Error::TooLarge { .. }));
}
