//! Asking an agent through the API and the command line: the answer, the same key twice, a name that nobody has.

use std::time::Duration;

use serde_json::{Value, json};
use troupe_tests::Stage;

use super::agents::ECHO;

const LIMIT: Duration = Duration::from_secs(30);

fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.agent("echo", ECHO);
    stage
}

#[tokio::test]
async fn an_unknown_agent_is_404_and_exit_3_with_the_nearest_name() {
    let stage = stage();
    let _node = stage.start().await;
    let (status, problem) = stage.admin().post("/v1/agents/ecko/tasks", &[], &json!({"input": "hi"})).await;
    assert_eq!(status, 404, "{problem}");
    assert_eq!(problem["status"], 404, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("echo")), "{problem}");

    let said = stage.run(&["ask", "ecko", "hi"], LIMIT).await;
    assert_eq!(said.code, 3, "{}\n{}", said.out, said.err);
    assert!(said.err.contains("echo"), "{}", said.err);
    assert_eq!(said.out, "");
}

#[tokio::test]
async fn an_answer_comes_on_stdout_and_alone() {
    let stage = stage();
    let _node = stage.start().await;
    let said = stage.run(&["ask", "echo", "good morning", "--wait"], LIMIT).await;
    assert_eq!((said.code, said.out.trim()), (0, "echo: good morning"), "{}", said.err);

    let said = stage.run(&["tasks", "ls", "-o", "json"], LIMIT).await;
    assert_eq!(said.code, 0, "{}", said.err);
    let tasks: Value = serde_json::from_str(&said.out).expect("JSON and nothing else");
    let items = tasks["items"].as_array().or_else(|| tasks.as_array()).expect("a list");
    assert_eq!((items.len(), items[0]["status"].as_str()), (1, Some("succeeded")), "{tasks}");

    let id = items[0]["id"].as_str().expect("an id");
    let said = stage.run(&["runs", "journal", id, "-o", "json"], LIMIT).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.out.matches("model_result").count(), 1, "{}", said.out);
    let said = stage.run(&["tasks", "show", "00000000"], LIMIT).await;
    assert_eq!(said.code, 3, "{}\n{}", said.out, said.err);
}

#[tokio::test]
async fn nobody_at_home_is_one_line() {
    let said = stage().run(&["agents", "ls"], LIMIT).await;
    assert_eq!(said.code, 1, "{}\n{}", said.out, said.err);
    assert!(said.err.contains("troupe up"), "{}", said.err);
    assert_eq!(said.err.trim().lines().count(), 1, "{}", said.err);
}

#[tokio::test]
async fn the_same_key_is_the_same_task_over_a_restart() {
    let stage = stage();
    let node = stage.start().await;
    let admin = stage.admin();
    let (key, body) = ([("Idempotency-Key", "order-17")], json!({"input": "once"}));
    let (status, first) = admin.post("/v1/agents/echo/tasks?wait=20s", &key, &body).await;
    assert_eq!((status, first["status"].as_str()), (200, Some("succeeded")), "{first}");
    let (_, second) = admin.post("/v1/agents/echo/tasks", &key, &body).await;
    assert_eq!(first["id"], second["id"]);
    node.kill9();

    let _node = stage.start().await;
    let (_, third) = admin.post("/v1/agents/echo/tasks?wait=20s", &key, &body).await;
    assert_eq!(first["id"], third["id"]);
    let (status, problem) = admin.post("/v1/agents/echo/tasks", &key, &json!({"input": "another"})).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(admin.tasks("echo").await.map(|tasks| tasks.len()), Some(1));
}
