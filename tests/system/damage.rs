//! Damaged rows, on the real binary: the step that stands on one is blocked, and nobody else notices.

use std::time::Duration;

use serde_json::{Value, json};
use troupe_runtime::store::conformance::{Cell, Raw};
use troupe_tests::admin::Admin;
use troupe_tests::cells::InFile;
use troupe_tests::{Stage, wait};

use super::agents::SLOW;

const LIMIT: Duration = Duration::from_secs(15);

/// A task that waits for its second turn.
async fn under_way(admin: &Admin) -> Value {
    let (status, task) = admin.post("/v1/agents/slow/tasks", &[], &json!({"input": "please"})).await;
    assert_eq!(status, 202, "{task}");
    let path = format!("/v1/tasks/{}", task["id"].as_str().expect("an id"));
    wait::until("two entries", LIMIT, async || {
        let (_, task) = admin.get(&path).await;
        let run = task["runs"][0]["id"].as_str()?.to_owned();
        (admin.journal(&run).await.len() == 2).then_some(task)
    })
    .await
}

async fn flip(stage: &Stage, cell: &Cell) {
    let mut file = InFile::open(&stage.path("data")).await;
    let Ok(Raw::Text(mut text)) = file.peek(cell).await else { panic!("{cell:?} is no text") };
    let middle = text.len() / 2;
    text[middle] ^= 1;
    assert_eq!(file.poke(cell, &Raw::Text(text)).await, Ok(true));
}

fn id<T: serde::de::DeserializeOwned>(id: &Value) -> T {
    serde_json::from_value(id.clone()).expect("an id")
}

#[tokio::test]
async fn one_changed_byte_blocks_its_step_and_nobody_else() {
    let mut stage = Stage::new();
    stage.agent("slow", SLOW).file("node.yaml", "steps: {sweep_every: 100ms}");
    let config = stage.path("node.yaml");
    stage.set("TROUPE_CONFIG", &config.to_string_lossy());
    let (node, admin) = (stage.start().await, stage.admin());
    let (entry, event, whole) = tokio::join!(under_way(&admin), under_way(&admin), under_way(&admin));
    node.kill9();

    let step = &entry["steps"][0]["id"];
    flip(&stage, &Cell::entry(id(step), 1)).await;
    flip(&stage, &Cell::event(id(&event["id"]))).await;

    let node = stage.start().await;
    let ended = |task: &Value| format!("/v1/tasks/{}?wait=10s", task["id"].as_str().expect("an id"));
    let (_, blocked) = admin.get(&ended(&entry)).await;
    let failure = &blocked["outcome"]["failure"];
    assert_eq!((&blocked["status"], &failure["reason"]), (&json!("failed"), &json!("blocked")), "{blocked}");
    let message = failure["message"].as_str().expect("a message");
    let place = format!("journal, step {}, entry 1, body", step.as_str().expect("an id"));
    assert!(message.contains(&place), "{message}");
    let (_, succeeded) = admin.get(&ended(&whole)).await;
    assert_eq!(succeeded["status"], "succeeded", "{succeeded}");

    // Where an operator sees it, once for all sweeps; and the node is well.
    let (_, letters) = admin.get("/v1/dead-letters").await;
    assert_eq!(letters["items"][0]["cause"], "blocked", "{letters}");
    let (status, damaged) = admin.get(&format!("/v1/tasks/{}", event["id"].as_str().expect("an id"))).await;
    assert!(status == 500 && damaged["detail"].as_str().is_some_and(|text| text.contains("tasks, task")), "{damaged}");
    for _ in 0..3 {
        let (_, listed) = admin.get("/v1/tasks").await;
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
    }
    // Two seconds of work for somebody else, and ten sweeps a second.
    let (_, other) = admin.get(&ended(&under_way(&admin).await)).await;
    assert_eq!(other["status"], "succeeded", "{other}");
    for (said, times) in [("cannot be taken up again", 1), ("left out of the list", 1), ("fell", 0)] {
        let lines = node.log().lines().filter(|line| line.contains(said)).count();
        assert_eq!(lines, times, "{said}:\n{}", node.log());
    }
    assert_eq!(admin.status("/health").await, Some(200));
}
