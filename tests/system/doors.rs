//! The doors of the real binary: what Slack may send and what strangers get; health, metrics, and a log without secrets.

use std::time::Duration;

use secrecy::SecretString;
use troupe_gateway::stand_in::requests::{Asker, SignedRequest};
use troupe_gateway::stand_in::{SIGNING_SECRET, SlackStandIn};
use troupe_tests::{Stage, slack};

use super::agents::ECHO;

const LIMIT: Duration = Duration::from_secs(30);

async fn status(stage: &Stage, request: &SignedRequest) -> u16 {
    let sent = slack::send(&slack::client(), &stage.public_url(request.path), request).await;
    sent.expect("an answer").0
}

fn command(asker: &Asker) -> SignedRequest {
    asker.slash_command("/echo", "canary-question", "t-1", "http://127.0.0.1:9/commands/1")
}

#[tokio::test]
async fn only_what_slack_signed_just_now_gets_in() {
    let slack = SlackStandIn::start().await.expect("a stand-in");
    let mut stage = Stage::new();
    stage.slack(&slack).agent("echo", ECHO);
    let node = stage.start().await;

    let stranger = Asker { secret: SecretString::from("guessed"), ..Asker::default() };
    assert_eq!(status(&stage, &command(&stranger)).await, 401);
    for skew in [-3_600, 3_600] {
        let now = std::time::UNIX_EPOCH.elapsed().expect("a time after 1970").as_secs() as i64;
        let asker = Asker { timestamp: Some(now + skew), ..Asker::default() };
        assert_eq!(status(&stage, &command(&asker)).await, 401, "signed {skew} s from now");
    }
    let mut odd = command(&Asker::default());
    odd.headers.retain(|(name, _)| *name != "x-slack-request-timestamp");
    odd.headers.push(("x-slack-request-timestamp", "today".to_owned()));
    assert_eq!(status(&stage, &odd).await, 401);
    let large = Asker::default().signed("application/json", format!("{{\"a\":\"{}\"}}", "x".repeat(1024 * 1024)));
    assert_eq!(status(&stage, &large).await, 413);
    assert_eq!(status(&stage, &Asker::default().signed("application/json", "{".to_owned())).await, 400);

    let log = node.log();
    for secret in [SIGNING_SECRET, "canary-question", "guessed"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    assert_eq!(stage.admin().tasks("echo").await.map(|tasks| tasks.len()), Some(0), "nothing got in");
}

#[tokio::test]
async fn a_command_is_answered_once_however_often_it_comes() {
    let slack = SlackStandIn::start().await.expect("a stand-in");
    let mut stage = Stage::new();
    stage.slack(&slack).agent("echo", ECHO);
    let _node = stage.start().await;
    let request = Asker::default().slash_command("/echo", "hello", "t-2", &slack.response_url(2));
    for _ in 0..3 {
        assert_eq!(status(&stage, &request).await, 200);
    }
    let another = Asker::default().slash_command("/echo", "goodbye", "t-3", &slack.response_url(3));
    assert_eq!(status(&stage, &another).await, 200);
    assert!(slack.wait_for(2, LIMIT).await, "{:?}", slack.replies());
    let mut texts: Vec<_> = slack.replies().into_iter().map(|reply| reply.text).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["echo: goodbye", "echo: hello"]);
    assert_eq!(stage.admin().tasks("echo").await.map(|tasks| tasks.len()), Some(2));
}

#[tokio::test]
async fn without_a_signing_secret_slack_is_told_to_come_later() {
    let mut stage = Stage::new();
    stage.agent("echo", ECHO);
    let _node = stage.start().await;
    assert_eq!(status(&stage, &command(&Asker::default())).await, 503);
}

#[tokio::test]
async fn health_and_metrics_answer_on_their_own_listeners() {
    let mut stage = Stage::new();
    stage.agent("echo", ECHO);
    let _node = stage.start().await;
    let admin = stage.admin();
    for path in ["/livez", "/readyz", "/health"] {
        assert_eq!(admin.status(path).await, Some(200), "{path}");
    }
    let (_, task) = admin.post("/v1/agents/echo/tasks?wait=20s", &[], &serde_json::json!({"input": "hi"})).await;
    assert_eq!(task["status"], "succeeded", "{task}");
    let metrics = admin.text("/metrics").await;
    for name in [
        "agent_task_duration_seconds_bucket",
        "agent_task_success_total",
        "agent_queue_depth",
        "troupe_scripted_model_calls_total",
    ] {
        let line = metrics.lines().find(|line| line.starts_with(name) && line.contains("agent=\"echo\""));
        assert!(line.is_some(), "{name} for echo is missing in:\n{metrics}");
    }
    let public = slack::client().get(stage.public_url("/health")).send().await.expect("an answer");
    assert_eq!(public.status(), 200);
    assert_eq!(public.text().await.expect("a body").replace(' ', ""), r#"{"status":"healthy"}"#);
    let hidden = slack::client().get(stage.public_url("/v1/agents")).send().await.expect("an answer");
    assert_eq!(hidden.status(), 404, "the admin API is not on the public listener");
}
