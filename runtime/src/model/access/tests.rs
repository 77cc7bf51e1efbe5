//! Keys that change under running agents, against a server that wants the new one.

use std::fs;

use super::super::factory::tests::{models_of, spec};
use super::super::fault_server::{FaultServer, Reply};
use super::super::{Model, Request};
use super::*;

const CHAT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/wire/openai/chat.json"));

/// A model whose key is in a file, and the file.
async fn stage(replies: Vec<Reply>) -> (FaultServer, Secrets, Arc<dyn Model>, tempfile::NamedTempFile) {
    let (server, file) = (FaultServer::start(replies).await, tempfile::NamedTempFile::new().unwrap());
    fs::write(file.path(), "key-number-one\n").unwrap();
    let spec = ModelSpec {
        base_url: Some(server.base_url.clone()),
        api_key: Some(format!("${{file:{}}}", file.path().display())),
        ..spec(ProviderKind::Openai)
    };
    let secrets = Secrets::default();
    let model = models_of(secrets.clone()).for_agent(&"echo".parse().unwrap(), &[spec]).unwrap();
    (server, secrets, model, file)
}

fn keys(server: &FaultServer) -> Vec<String> {
    let key = |head: &str| Some(head.split_once("authorization: bearer ")?.1.lines().next()?.to_owned());
    server.seen().iter().filter_map(|seen| key(&seen.head)).collect()
}

#[tokio::test]
async fn the_next_call_has_the_new_key() {
    let (server, secrets, model, file) = stage(vec![Reply::ok(CHAT)]).await;
    model.complete(&Request::default()).await.unwrap();
    fs::write(file.path(), "key-number-two\n").unwrap();
    model.complete(&Request::default()).await.unwrap();
    assert_eq!(secrets.renew(), []);
    model.complete(&Request::default()).await.unwrap();
    assert_eq!(keys(&server), ["key-number-one", "key-number-one", "key-number-two"], "whoever renews decides when");
}

#[tokio::test]
async fn a_call_that_is_refused_looks_for_a_new_key_and_is_made_again_once() {
    let refusal = Reply::status(401, r#"{"error":{"message":"bad key: key-number-one"}}"#);
    let (server, _, model, file) = stage(vec![refusal.clone(), Reply::ok(CHAT), refusal]).await;
    fs::write(file.path(), "key-number-two\n").unwrap();
    model.complete(&Request::default()).await.unwrap();
    assert_eq!(keys(&server), ["key-number-one", "key-number-two"]);

    let refused = model.complete(&Request::default()).await.unwrap_err();
    assert_eq!(keys(&server).len(), 3, "the same key is not tried again");
    assert_eq!(refused.to_string(), "openai/m answered 401: bad key: ***", "the former key is masked still");
}

#[tokio::test]
async fn an_answer_that_quotes_the_key_is_kept_without_it() {
    let call = r#"{"id":"c","function":{"name":"say","arguments":"{\"to\":[\"key-number-one!\"]}"}}"#;
    let answer = format!(r#"{{"choices":[{{"message":{{"content":"it is key-number-one","tool_calls":[{call}]}}}}]}}"#);
    let (_server, _, model, _file) = stage(vec![Reply::ok(&answer)]).await;
    let completion = model.complete(&Request::default()).await.unwrap();
    assert_eq!(completion.text, "it is ***");
    assert_eq!(completion.tool_calls[0].arguments, serde_json::json!({"to": ["***!"]}));
}

#[tokio::test]
async fn a_value_that_cannot_be_used_leaves_the_last_one() {
    let (server, secrets, model, file) = stage(vec![Reply::ok(CHAT)]).await;
    for bad in ["two\nlines", "", "\u{7}"] {
        fs::write(file.path(), bad).unwrap();
        let _ = secrets.renew();
        model.complete(&Request::default()).await.unwrap();
    }
    assert_eq!(keys(&server), ["key-number-one"; 3]);
}
