//! The client against a small real server, and against addresses where nobody is.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response as Answer};
use tokio::net::TcpListener;

use super::*;

/// What the server was asked, in order.
type Asked = Arc<Mutex<Vec<String>>>;

async fn record(State(asked): State<Asked>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(body, 1024).await.unwrap();
    let line = format!(
        "{} {} auth={} key={} body={}",
        parts.method,
        parts.uri,
        header("authorization"),
        header("idempotency-key"),
        String::from_utf8_lossy(&body)
    );
    asked.lock().unwrap().push(line);
    match parts.uri.path() {
        "/v1/agents/nobody" => {
            let problem =
                r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no agent nobody"}"#;
            (StatusCode::NOT_FOUND, [("content-type", "application/problem+json")], problem).into_response()
        }
        "/v1/agents/html" => "<html>".into_response(),
        "/v1/agents/elsewhere" => (StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]).into_response(),
        "/v1/agents/huge" => format!("\"{}\"", "x".repeat(5_000)).into_response(),
        "/v1/agents/mute" => std::future::pending().await,
        "/health" => (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"unhealthy"}"#).into_response(),
        "/metrics" => "a 1\n".into_response(),
        _ if parts.method == "DELETE" => StatusCode::NO_CONTENT.into_response(),
        _ => r#"{"agents":[{"name":"a"}]}"#.into_response(),
    }
}

async fn server() -> (String, Asked) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let asked = Asked::default();
    let app = Router::new().fallback(record).with_state(Arc::clone(&asked));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

fn client(url: &str) -> Client {
    let token = Some(SecretString::from("s3cret"));
    Client::new(ClientOptions { url: url.to_owned(), token, body_bytes_max: 2_000, ..ClientOptions::default() })
        .unwrap()
}

#[tokio::test]
async fn every_call_goes_where_the_contract_says() {
    let (url, asked) = server().await;
    let client = client(&url);
    let ask = Ask { input: "why".into(), priority: Some(7), session: None, idempotency_key: "k1".into() };
    client.submit("researcher", &ask).await.unwrap();
    client.tasks(&[("status", "running".to_owned()), ("limit", "5".to_owned())]).await.unwrap();
    client.task("018f", Duration::from_secs(20)).await.unwrap();
    client.task("018f", Duration::ZERO).await.unwrap();
    client.act_on_agent("researcher", "restart").await.unwrap();
    client.act_on_actor("root/orchestrator/autonomous/researcher/0", "kill").await.unwrap();
    client.journal("r1").await.unwrap();
    client.run("r1").await.unwrap();
    client.replay_run("r1").await.unwrap();
    client.replay("d1").await.unwrap();
    assert_eq!(client.purge("d1").await.unwrap(), Value::Null);
    let asked: Vec<String> = asked.lock().unwrap().iter().map(|line| line.replace(" auth=Bearer s3cret", "")).collect();
    assert_eq!(
        asked,
        [
            r#"POST /v1/agents/researcher/tasks key=k1 body={"input":"why","priority":7}"#,
            "GET /v1/tasks?status=running&limit=5 key= body=",
            "GET /v1/tasks/018f?wait=20000ms key= body=",
            "GET /v1/tasks/018f key= body=",
            "POST /v1/agents/researcher:restart key= body=",
            "POST /v1/actors/root/orchestrator/autonomous/researcher/0:kill key= body=",
            "GET /v1/runs/r1/journal key= body=",
            "GET /v1/runs/r1 key= body=",
            "POST /v1/runs/r1:replay key= body=",
            "POST /v1/dead-letters/d1:replay key= body=",
            "DELETE /v1/dead-letters/d1 key= body=",
        ]
    );
}

#[tokio::test]
async fn what_a_person_typed_stays_one_segment() {
    let (url, asked) = server().await;
    client(&format!("{url}/base/")).agent("../x/y?z#w").await.unwrap();
    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("GET /base/v1/agents/..%2Fx%2Fy%3Fz%23w "), "{}", asked[0]);
}

#[tokio::test]
async fn a_refusal_comes_as_its_problem() {
    let (url, _) = server().await;
    let error = client(&url).agent("nobody").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no agent nobody");
    assert!(matches!(error, Error::Refused(Problem { status: 404, .. })), "{error:?}");
}

#[tokio::test]
async fn an_unhealthy_node_still_tells_its_health() {
    let (url, _) = server().await;
    assert_eq!(client(&url).health().await.unwrap()["status"], "unhealthy");
    assert_eq!(client(&url).metrics().await.unwrap(), "a 1\n");
}

#[tokio::test]
async fn strangers_are_recognised() {
    let (url, _) = server().await;
    for (name, hint) in
        [("html", "is no JSON"), ("elsewhere", "it redirects with status 302"), ("huge", "over 2000 bytes")]
    {
        let error = client(&url).agent(name).await.unwrap_err();
        assert!(matches!(&error, Error::NotOurs { why, .. } if why.contains(hint)), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn a_missing_node_says_how_to_start_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let error = client(&url).agents(&[]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no node answers at {url}; start one with `troupe up`"));
    assert!(error.is_passing());
}

#[tokio::test]
async fn a_mute_node_is_given_up() {
    let (url, _) = server().await;
    let options = ClientOptions { url, timeout: Duration::from_millis(50), ..ClientOptions::default() };
    let error = Client::new(options).unwrap().agent("mute").await.unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
}

#[test]
fn an_address_must_be_one_and_a_token_is_not_shown() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    for url in ["", "localhost:8081", "ftp://x", "mailto:x"] {
        let options = ClientOptions { url: url.to_owned(), ..ClientOptions::default() };
        assert!(matches!(Client::new(options), Err(Error::BadUrl { .. })), "{url} passed");
    }
    let options = ClientOptions { token: Some(SecretString::from("s3cret")), ..ClientOptions::default() };
    assert!(!format!("{options:?}").contains("s3cret"));
}

#[test]
fn the_list_of_an_answer_is_found() {
    assert_eq!(items(&json!([1, 2])).len(), 2);
    assert_eq!(items(&json!({"next": null, "tasks": [1]})).len(), 1);
    assert!(items(&json!({"next": null})).is_empty());
}
