//! Asking against a small real server that answers with what a node would say, one line of its script after the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::cli::printer::tests::captured;
use crate::client::ClientOptions;

/// What the node says, in order, the last one for ever; and what it was asked.
#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn play(State(script): State<Script>, request: Request) -> Response {
    let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    script.asked.lock().unwrap().push(format!("{} {} {key}", request.method(), request.uri().path()));
    let mut answers = script.answers.lock().unwrap();
    let (status, body) = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

async fn node(answers: &[(u16, Value)]) -> (Client, Script) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let script = Script { answers: Arc::new(Mutex::new(answers.to_vec().into())), asked: Arc::default() };
    let app = Router::new().fallback(play).with_state(script.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (Client::new(ClientOptions { url, ..ClientOptions::default() }).unwrap(), script)
}

fn task(status: &str, outcome: &Value) -> (u16, Value) {
    (200, json!({"id": "t1", "status": status, "outcome": outcome}))
}

fn args(wait: Option<Duration>) -> AskArgs {
    AskArgs { agent: "guide".into(), text: "why?".into(), wait, session: None, priority: None }
}

/// Runs it; the code and both streams.
async fn asked(answers: &[(u16, Value)], wait: Option<Duration>, format: Format) -> (u8, String, String) {
    let (client, _) = node(answers).await;
    let (mut printer, out, err) = captured(format);
    let exit = match run(args(wait), &client, &mut printer).await {
        Ok(exit) => exit,
        Err(error) => {
            printer.error(&error.to_string());
            error.exit()
        }
    };
    (exit.code(), out.text(), err.text())
}

fn accepted() -> (u16, Value) {
    (202, json!({"id": "t1", "status": "received"}))
}

const LONG: Option<Duration> = Some(Duration::from_secs(60));

#[tokio::test]
async fn without_a_wait_the_id_is_the_answer() {
    let (code, out, err) = asked(&[accepted()], None, Format::Table).await;
    assert_eq!((code, out.as_str()), (0, "t1\n"));
    assert!(err.contains("troupe tasks show t1"), "{err}");
    let (_, out, _) = asked(&[(202, json!({"task_id": "t9"}))], None, Format::Name).await;
    assert_eq!(out, "t9\n");
}

#[tokio::test]
async fn the_answer_is_all_that_stdout_has() {
    let script = [
        accepted(),
        (404, json!({"detail": "not yet"})),
        task("running", &Value::Null),
        task("succeeded", &json!({"status": "succeeded", "output": "because"})),
    ];
    let (code, out, err) = asked(&script, LONG, Format::Table).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "because\n", ""));
    let (_, out, _) = asked(&script, LONG, Format::Json).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["outcome"]["output"], "because");
}

#[tokio::test]
async fn each_end_has_its_code_and_its_line() {
    let failure = json!({"status": "failed", "failure": {"reason": "turns", "message": "12 turns used"}});
    let table = [
        (task("failed", &failure), 5, "error: the task failed: turns: 12 turns used; look at `troupe runs journal t1`"),
        (task("cancelled", &json!({"reason": "by U1"})), 5, "error: the task was called off: by U1"),
        (task("waiting", &Value::Null), 6, "error: the task waits for a person"),
    ];
    for (answer, code, line) in table {
        let (exit, out, err) = asked(&[accepted(), answer], LONG, Format::Table).await;
        assert_eq!((exit, out.as_str()), (code, ""));
        assert!(err.starts_with(line), "{err}");
    }
}

#[tokio::test]
async fn a_wait_that_is_over_names_the_task() {
    let script = [accepted(), task("running", &Value::Null)];
    let (code, out, err) = asked(&script, Some(Duration::from_millis(20)), Format::Table).await;
    assert_eq!((code, out.as_str()), (124, ""));
    assert_eq!(err, "error: no answer within 20 ms; it goes on: `troupe tasks show t1`\n");
}

#[tokio::test]
async fn an_unknown_agent_is_told_at_once() {
    let script = [(404, json!({"detail": "there is no agent guid; did you mean guide?"}))];
    let (code, out, err) = asked(&script, LONG, Format::Table).await;
    assert_eq!((code, out.as_str(), err.as_str()), (3, "", "error: there is no agent guid; did you mean guide?\n"));
}

#[tokio::test]
async fn a_repeated_submission_keeps_its_key() {
    let (client, script) = node(&[(503, json!({"detail": "disk full"})), accepted()]).await;
    let (mut printer, out, _) = captured(Format::Name);
    run(args(None), &client, &mut printer).await.unwrap();
    assert_eq!(out.text(), "t1\n");
    let asked = script.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
    assert!(asked[0].len() > "POST /v1/agents/guide/tasks ".len() + 30, "{asked:?}");
}

#[tokio::test]
async fn a_submission_is_not_repeated_for_ever() {
    let (client, script) = node(&[(503, json!({"detail": "disk full"}))]).await;
    let (mut printer, _, _) = captured(Format::Table);
    let error = run(args(None), &client, &mut printer).await.unwrap_err();
    assert_eq!(error.to_string(), "disk full");
    assert_eq!(script.asked.lock().unwrap().len() as u32, AskOptions::new(false).tries);
}

#[tokio::test]
async fn a_node_that_goes_away_is_waited_for() {
    let ended = task("succeeded", &json!({"output": "because"}));
    let script = [accepted(), task("running", &Value::Null), (503, json!({"detail": "the node drains"})), ended];
    let (code, out, err) = asked(&script, LONG, Format::Table).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "because\n", "the node drains; waiting for it\n"));
}
