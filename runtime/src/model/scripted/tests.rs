//! What the rules of a script do, on the scripted model alone.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::domain::chat::Message;
use crate::fault::{Fault, Faulty};

fn rule(when: Option<&str>, then: ScriptAct) -> ScriptRule {
    ScriptRule { when: when.map(str::to_owned), then, delay: Duration::ZERO, times: None }
}

fn reply(when: Option<&str>, text: &str) -> ScriptRule {
    rule(when, ScriptAct::Reply(text.to_owned()))
}

fn spec(script: Vec<ScriptRule>) -> ModelSpec {
    ModelSpec {
        provider: ProviderKind::Scripted,
        model: "demo".into(),
        api_key: None,
        base_url: None,
        timeout: Duration::from_mins(1),
        max_output_tokens: 100,
        script,
    }
}

fn agent() -> AgentName {
    "echo".parse().unwrap()
}

fn model(script: Vec<ScriptRule>) -> ScriptedModel {
    ScriptedModel::new(&agent(), &spec(script), &ScriptedCalls::default()).unwrap()
}

fn ask(text: &str) -> Request {
    Request { messages: vec![Message::User { text: text.into() }].into(), ..Request::default() }
}

async fn text(model: &ScriptedModel, input: &str) -> String {
    model.complete(&ask(input)).await.unwrap().text
}

#[tokio::test]
async fn the_first_matching_rule_answers() {
    let model = model(vec![reply(Some("(?i)^hello"), "hi"), reply(Some("l+o"), "lo"), reply(None, "else")]);
    assert_eq!(text(&model, "Hello you").await, "hi");
    assert_eq!(text(&model, "a yellow one").await, "lo");
    assert_eq!(text(&model, "").await, "else");
}

#[tokio::test]
async fn groups_and_the_input_are_filled_in_once() {
    let model = model(vec![reply(Some(r"^(\w+) (\w+)?( never)?"), "{2}-{1}-{3}|{input}|{9}{x}{")]);
    assert_eq!(text(&model, "one {input}").await, "-one-|one {input}|{x}{");
    assert_eq!(text(&model, "one two").await, "two-one-|one two|{x}{");
}

#[tokio::test]
async fn a_tool_is_asked_for_with_filled_arguments_and_an_id_of_its_place() {
    let then = ScriptAct::Tool { name: "search".into(), arguments: json!({"q": "{1}", "n": 3, "all": ["{input}"]}) };
    let model = model(vec![rule(Some("find (.*)"), then)]);
    let mut request = ask("find rust");
    let first = model.complete(&request).await.unwrap();
    assert_eq!(first.finish, Finish::ToolCalls);
    assert_eq!(first.tool_calls[0].arguments, json!({"q": "rust", "n": 3, "all": ["find rust"]}));
    Arc::make_mut(&mut request.messages).push(Message::User { text: "find more".into() });
    assert_ne!(first.tool_calls[0].id, model.complete(&request).await.unwrap().tool_calls[0].id);
}

#[tokio::test]
async fn a_rule_is_used_up_over_all_instances_of_an_agent() {
    let script = vec![ScriptRule { times: Some(2), ..reply(None, "early") }, reply(None, "late")];
    let calls = ScriptedCalls::default();
    let build = |script: &Vec<ScriptRule>| ScriptedModel::new(&agent(), &spec(script.clone()), &calls).unwrap();
    let (one, other) = (build(&script), build(&script));
    assert_eq!(text(&one, "x").await, "early");
    assert_eq!(text(&other, "x").await, "early");
    assert_eq!(text(&one, "x").await, "late");
    assert_eq!(calls.snapshot(), [(agent(), 0, 2), (agent(), 1, 1)]);
    assert_eq!(calls.total(), 3);
    let changed = vec![ScriptRule { times: Some(1), ..reply(None, "new") }];
    assert_eq!(text(&build(&changed), "x").await, "new");
}

#[tokio::test]
async fn a_failure_looks_like_a_server_s() {
    let error = model(vec![rule(None, ScriptAct::Fail(503))]).complete(&ask("x")).await.unwrap_err();
    assert!(error.fault().is_transient());
    assert_eq!(error.to_string(), "scripted/demo answered 503: rule 0 of the script says so");
}

#[tokio::test]
async fn no_rule_is_a_permanent_error_that_shows_where_to_look() {
    let error = model(vec![reply(Some("^never$"), "")]).complete(&ask(&"é".repeat(200))).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Permanent);
    assert_eq!(error, Error::NoRule { agent: "echo".into(), last: "é".repeat(80) });
    assert!(error.to_string().contains("agent echo"));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_counted_when_it_starts_and_takes_its_delay() {
    let calls = ScriptedCalls::default();
    let script = vec![ScriptRule { delay: Duration::from_secs(5), ..reply(None, "done") }];
    let model = ScriptedModel::new(&agent(), &spec(script), &calls).unwrap();
    let cut = tokio::time::timeout(Duration::from_secs(1), model.complete(&ask("x"))).await;
    assert!(cut.is_err());
    assert_eq!(calls.total(), 1);
    let start = Instant::now();
    assert_eq!(text(&model, "x").await, "done");
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[test]
fn a_broken_pattern_is_named_when_the_model_is_built() {
    let error = ScriptedModel::new(&agent(), &spec(vec![reply(Some("("), "")]), &ScriptedCalls::default());
    let message = error.err().unwrap().to_string();
    assert!(message.contains("scripted/demo") && message.contains("rule 0"), "{message}");
}

#[tokio::test]
async fn usage_is_the_same_every_time() {
    let model = model(vec![reply(None, "four words of answer")]);
    let one = model.complete(&ask("two words")).await.unwrap().usage;
    assert_eq!((one.input_tokens, one.output_tokens), (3, 6));
    assert_eq!(one, model.complete(&ask("two words")).await.unwrap().usage);
}
