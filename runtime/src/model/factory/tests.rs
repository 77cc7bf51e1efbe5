//! From specs, secrets and options to a chain, and what is said when that cannot be.

use serde_json::json;

use super::*;
use crate::domain::agent::{ScriptAct, ScriptRule};
use crate::domain::chat::Message;
use crate::fault::{Fault, Faulty};
use crate::model::Request;
use crate::model::fault_server::{FaultServer, Reply};

/// Small limits, so that faults show in milliseconds.
pub(in crate::model) fn models(secrets: &[(&str, &str)]) -> Models {
    let secrets = secrets.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    models_of(Secrets::new(secrets))
}

pub(in crate::model) fn models_of(secrets: Secrets) -> Models {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let options = ModelOptions {
        backoff: BackoffOptions {
            base: Duration::from_millis(1),
            cap: Duration::from_millis(5),
            ..BackoffOptions::default()
        },
        idle_timeout: Duration::from_millis(200),
        answer_bytes_max: 64 * 1024,
        tool_calls_max: 4,
        prices: BTreeMap::from([("m".to_owned(), Price { input_usd: 2.0, output_usd: 10.0 })]),
        ..ModelOptions::default()
    };
    Models::new(secrets, Models::client(&options).unwrap(), options).unwrap()
}

pub(in crate::model) fn spec(provider: ProviderKind) -> ModelSpec {
    ModelSpec {
        provider,
        model: "m".into(),
        api_key: None,
        base_url: None,
        timeout: Duration::from_secs(5),
        max_output_tokens: 100,
        script: Vec::new(),
    }
}

fn scripted() -> ModelSpec {
    let rule =
        ScriptRule { when: None, then: ScriptAct::Reply("by script".into()), delay: Duration::ZERO, times: None };
    ModelSpec { script: vec![rule], ..spec(ProviderKind::Scripted) }
}

fn agent() -> AgentName {
    "echo".parse().unwrap()
}

fn ask() -> Request {
    Request { messages: vec![Message::User { text: "hello".into() }].into(), ..Request::default() }
}

fn missing(models: &Models, specs: &[ModelSpec]) -> Vec<String> {
    match models.for_agent(&agent(), specs).err() {
        Some(Error::MissingSecret(MissingSecret { names })) => names,
        other => panic!("no missing secret but {other:?}"),
    }
}

#[test]
fn every_missing_key_is_named() {
    let own = ModelSpec { api_key: Some("${OWN_KEY}".into()), ..spec(ProviderKind::Openai) };
    let specs = [spec(ProviderKind::Anthropic), spec(ProviderKind::Openai), own.clone()];
    assert_eq!(missing(&models(&[]), &specs), ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OWN_KEY"]);
    assert_eq!(missing(&models(&[("OPENAI_API_KEY", "k")]), &specs), ["ANTHROPIC_API_KEY", "OWN_KEY"]);
    let local = ModelSpec { base_url: Some("${LOCAL}".into()), ..spec(ProviderKind::Openai) };
    assert_eq!(missing(&models(&[]), &[local]), ["LOCAL"]);
    let error = models(&[]).for_agent(&agent(), &[own]).err().unwrap();
    assert_eq!(error.fault(), Fault::Permanent);
}

#[tokio::test]
async fn the_script_stands_in_for_models_without_a_key() {
    let models = models(&[]);
    let specs = [spec(ProviderKind::Anthropic), spec(ProviderKind::Openai), scripted()];
    let model = models.for_agent(&agent(), &specs).unwrap();
    let completion = model.complete(&ask()).await.unwrap();
    assert_eq!((completion.text.as_str(), completion.provider.as_str()), ("by script", "scripted"));
    assert_eq!(models.scripted_calls().snapshot(), [(agent(), 0, 1)]);
}

#[tokio::test]
async fn a_model_that_is_given_its_key_later_answers_from_then_on() {
    let chat = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wire/openai/chat.json"));
    let (server, dir) = (FaultServer::start(vec![Reply::ok(chat)]).await, tempfile::tempdir().unwrap());
    let key = dir.path().join("key");
    let keyless = ModelSpec {
        base_url: Some(server.base_url.clone()),
        api_key: Some(format!("${{file:{}}}", key.display())),
        ..spec(ProviderKind::Openai)
    };
    let secrets = Secrets::default();
    let model = models_of(secrets.clone()).for_agent(&agent(), &[keyless, scripted()]).unwrap();
    assert_eq!(model.complete(&ask()).await.unwrap().provider, "scripted");
    std::fs::write(&key, "key-for-tests-0004").unwrap();
    assert_eq!(secrets.renew(), []);
    assert_eq!(model.complete(&ask()).await.unwrap().provider, "openai");
}

#[tokio::test]
async fn addresses_and_keys_come_from_the_usual_variables() {
    let chat = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wire/openai/chat.json"));
    let message = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wire/anthropic/message.json"));
    let openai = FaultServer::start(vec![Reply::ok(chat)]).await;
    let anthropic = FaultServer::start(vec![Reply::ok(message)]).await;
    let without_version = anthropic.base_url.trim_end_matches("v1");
    let models = models(&[
        ("OPENAI_BASE_URL", &openai.base_url),
        ("ANTHROPIC_BASE_URL", without_version),
        ("ANTHROPIC_API_KEY", "key-for-tests-0003"),
    ]);
    let ask = ask();
    let local = models.for_agent(&agent(), &[spec(ProviderKind::Openai)]).unwrap();
    let completion = local.complete(&ask).await.unwrap();
    assert_eq!(completion.usage.cost_microusd, 31 * 2 + 74 * 10, "the price of the spec's model name");
    assert!(!openai.seen()[0].head.contains("authorization"), "a local server needs no key");
    models.for_agent(&agent(), &[spec(ProviderKind::Anthropic)]).unwrap().complete(&ask).await.unwrap();
    assert!(anthropic.seen()[0].head.contains("x-api-key: key-for-tests-0003"));
    assert!(anthropic.seen()[0].head.starts_with("post /v1/messages "));
}

#[tokio::test]
async fn a_broken_provider_is_repeated_and_then_replaced() {
    let server = FaultServer::start(vec![Reply::Reset, Reply::status(500, ""), Reply::ok("{}")]).await;
    let models = models(&[]);
    let broken = ModelSpec { base_url: Some(server.base_url.clone()), ..spec(ProviderKind::Openai) };
    let model = models.for_agent(&agent(), &[broken.clone(), scripted()]).unwrap();
    assert_eq!(model.complete(&ask()).await.unwrap().text, "by script");
    assert_eq!(server.seen().len(), 3, "three tries");

    let server = FaultServer::start(vec![Reply::status(400, "")]).await;
    let refused = ModelSpec { base_url: Some(server.base_url.clone()), ..broken };
    let model = models.for_agent(&agent(), &[refused.clone(), scripted()]).unwrap();
    assert_eq!(model.complete(&ask()).await.unwrap().text, "by script");
    assert_eq!(server.seen().len(), 1, "repeating a bad request makes no sense");
    let alone = models.for_agent(&agent(), &[refused]).unwrap().complete(&ask()).await.unwrap_err();
    assert!(matches!(alone, Error::Status { status: 400, .. }), "alone it speaks for itself: {alone:?}");
}

#[tokio::test]
async fn a_server_that_hangs_is_left_at_the_limit() {
    let server = FaultServer::start(vec![Reply::Hang]).await;
    let hanging = ModelSpec {
        base_url: Some(server.base_url.clone()),
        timeout: Duration::from_millis(150),
        ..spec(ProviderKind::Openai)
    };
    let model = models(&[]).for_agent(&agent(), &[hanging]).unwrap();
    let error = model.complete(&ask()).await.unwrap_err();
    assert_eq!(error, Error::Timeout { model: "openai/m".into(), after: Duration::from_millis(150) });
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn endless_tool_calls_are_one_call_each_and_too_many_at_once_are_refused() {
    let call = |id: usize| json!({"id": format!("c{id}"), "function": {"name": "clock", "arguments": "{}"}});
    let answer = |calls: usize| {
        let calls: Vec<_> = (0..calls).map(call).collect();
        json!({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}).to_string()
    };
    let server = FaultServer::start(vec![Reply::ok(&answer(1))]).await;
    let one = ModelSpec { base_url: Some(server.base_url.clone()), ..spec(ProviderKind::Openai) };
    let model = models(&[]).for_agent(&agent(), &[one]).unwrap();
    let mut request = ask();
    for turn in 1..=3 {
        let completion = model.complete(&request).await.unwrap();
        assert_eq!(server.seen().len(), turn);
        let tool_calls = completion.tool_calls;
        Arc::make_mut(&mut request.messages).push(Message::Assistant { text: String::new(), tool_calls });
    }
    let server = FaultServer::start(vec![Reply::ok(&answer(5))]).await;
    let many = ModelSpec { base_url: Some(server.base_url.clone()), ..spec(ProviderKind::Openai) };
    let error = models(&[]).for_agent(&agent(), &[many]).unwrap().complete(&ask()).await.unwrap_err();
    assert!(error.to_string().contains("tool_calls_max is 4"), "{error}");
}

#[test]
fn bad_addresses_and_keys_are_refused_without_showing_them() {
    let models = models(&[]);
    for (base_url, api_key) in
        [("ftp://hidden-1/", "k"), ("hidden-1", "k"), ("http://x/", "hidden-1\nx"), ("file:///hidden-1", "k")]
    {
        let bad = ModelSpec {
            base_url: Some(base_url.into()),
            api_key: Some(api_key.into()),
            ..spec(ProviderKind::Anthropic)
        };
        let error = models.for_agent(&agent(), &[bad]).err().unwrap();
        assert!(matches!(error, Error::BadSpec { .. }), "{base_url}: {error:?}");
        assert!(!error.to_string().contains("hidden-1"), "{error}");
    }
    assert!(matches!(models.for_agent(&agent(), &[]).err(), Some(Error::BadSpec { .. })));
}
