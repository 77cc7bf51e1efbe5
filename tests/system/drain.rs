//! The end of a node: SIGTERM lets a step finish what it is at, and what is cut off goes on in the next life.

use std::time::{Duration, Instant};

use serde_json::json;
use troupe_tests::{Stage, wait};

use super::agents::SLOW;

/// A drain may take 30 s by contract; nothing here should need them.
const LIMIT: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_drain_ends_clean_and_the_step_goes_on_in_the_next_life() {
    let mut stage = Stage::new();
    stage.agent("slow", SLOW);
    let mut node = stage.start().await;
    let admin = stage.admin();
    let (status, task) = admin.post("/v1/agents/slow/tasks", &[], &json!({"input": "please"})).await;
    assert_eq!(status, 202, "{task}");
    let path = format!("/v1/tasks/{}", task["id"].as_str().expect("an id"));
    wait::until("the step", LIMIT, async || (admin.get(&path).await.1["status"] == "running").then_some(())).await;

    let begun = Instant::now();
    node.terminate();
    let status = node.ended(LIMIT).await;
    assert_eq!(status.code(), Some(0), "a drain is no failure:\n{}", node.log());
    println!("the drain with a step in flight took {:?}", begun.elapsed());

    let _node = stage.start().await;
    let (status, task) = admin.get(&format!("{path}?wait=20s")).await;
    assert_eq!((status, task["status"].as_str()), (200, Some("succeeded")), "{task}");
    assert_eq!(task["attempts"], 1, "a step that the drain cut off is no failed attempt: {task}");
    let entries = admin.journal(task["runs"][0]["id"].as_str().expect("a run")).await;
    let results = entries.iter().filter(|entry| entry["kind"] == "model_result").count();
    assert_eq!(results, 2, "{entries:?}");
}

#[tokio::test]
async fn an_idle_node_stops_at_once_and_starts_again() {
    let mut stage = Stage::new();
    stage.agent("slow", SLOW);
    for _ in 0..2 {
        let mut node = stage.start().await;
        let begun = Instant::now();
        node.terminate();
        assert!(node.ended(LIMIT).await.success());
        assert!(begun.elapsed() < Duration::from_secs(5), "an idle node took {:?} to stop", begun.elapsed());
    }
}
