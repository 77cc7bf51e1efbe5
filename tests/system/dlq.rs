//! Dead letters by hand, on either bus: found, shown, replayed after the fix in the same trace, removed.

use std::time::Duration;

use serde_json::{Value, json};
use troupe_tests::Stage;
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::wait::until;

use super::agents::ECHO;

const LIMIT: Duration = Duration::from_secs(60);

/// Fails for good whatever it is asked.
fn broken() -> String {
    ECHO.replace("- reply: \"echo: {input}\"", "- {fail: 400}").replace("instructions", "retries: 0\ninstructions")
}

/// The letters, as `troupe dlq ls` shows them.
async fn letters(stage: &Stage, count: usize) -> Vec<Value> {
    until("the dead letters", LIMIT, async || {
        let said = stage.run(&["dlq", "ls", "-o", "json"], LIMIT).await;
        assert_eq!(said.code, 0, "{}", said.err);
        let body: Value = serde_json::from_str(&said.out).expect("JSON and nothing else");
        let letters = body["items"].as_array().cloned().unwrap_or_default();
        (letters.len() == count).then_some(letters)
    })
    .await
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

async fn given_up_shown_replayed_and_removed(mut stage: Stage) {
    stage.agent("echo", &broken());
    let mut node = stage.start().await;
    for n in 0..3 {
        let said = stage.run(&["ask", "echo", &format!("question {n}"), "--wait"], LIMIT).await;
        assert_eq!(said.code, 5, "{}", said.err);
    }
    let found = letters(&stage, 3).await;
    let letter = found.iter().find(|letter| letter["event"]["data"]["input"] == "question 1").expect("one of them");
    assert_eq!((text(letter, "queue"), text(letter, "cause")), ("agent.input.echo", "model"), "{letter}");
    let health = stage.admin().get("/health").await.1;
    assert_eq!(health["components"]["bus"]["dead_letters"], 3, "{health}");

    let id = text(letter, "id");
    let said = stage.run(&["dlq", "show", id], LIMIT).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("question 1") && said.out.contains("Last error"), "{}", said.out);
    assert_eq!(stage.run(&["dlq", "show", "ffffffff-ffff-ffff-ffff-ffffffffffff"], LIMIT).await.code, 3);

    // The fix; what was given up before is still there after a restart.
    node.terminate();
    assert!(node.ended(LIMIT).await.success());
    stage.agent("echo", ECHO);
    let _node = stage.start().await;
    letters(&stage, 3).await;
    let said = stage.run(&["dlq", "replay", id], LIMIT).await;
    assert_eq!(said.code, 0, "{}", said.err);
    let event = said.out.trim().to_owned();
    let task = until("the replayed task", LIMIT, async || {
        let tasks = stage.admin().tasks("echo").await?;
        tasks.into_iter().find(|task| text(task, "event_id") == event && text(task, "status") == "succeeded")
    })
    .await;
    let trace = text(&letter["event"], "traceparent");
    assert_eq!(trace.split('-').nth(1), Some(text(&task, "trace_id")), "the trace of the first question: {task}");

    letters(&stage, 2).await;
    let said = stage.run(&["dlq", "purge", "--all"], LIMIT).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(letters(&stage, 0).await.is_empty());
    let (status, _) = stage.admin().post("/v1/agents/echo/tasks?wait=20s", &[], &json!({"input": "well"})).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn dead_letters_on_the_embedded_bus() {
    given_up_shown_replayed_and_removed(Stage::new()).await;
}

#[tokio::test]
async fn dead_letters_on_rabbitmq() {
    let Some(broker) = RabbitMq::start().await else { return };
    let mut stage = Stage::new();
    let vhost = broker.create("letters", 1).remove(0);
    stage.set("AMQP_URL", &broker.url(&vhost));
    given_up_shown_replayed_and_removed(stage).await;
}
