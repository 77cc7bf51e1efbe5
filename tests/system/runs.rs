//! Runs from the outside: what a journal says, replayed by the node and, from a file, by nobody but the program itself.

use std::fs;
use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};
use troupe_tests::model::{Answer, Asked, ModelStandIn};
use troupe_tests::{Stage, seed};

use super::agents::two_turns;

const LIMIT: Duration = Duration::from_secs(30);
/// Bytes that are changed, one at a time, each in a file of its own.
const CHANGES: usize = 40;

/// First the clock, then an answer.
fn think(asked: &Asked) -> (Duration, Answer) {
    let answer = match asked.turn {
        0 => Answer::Tool("clock", json!({})),
        _ => Answer::Text(format!("done {}", asked.task)),
    };
    (Duration::ZERO, answer)
}

async fn stage() -> (Stage, ModelStandIn) {
    let model = ModelStandIn::start(think).await;
    let mut stage = Stage::new();
    stage.set("STAND_IN_KEY", "none").agent("crasher", &two_turns(model.base_url()));
    (stage, model)
}

/// Asks, waits, and answers the id of the run.
async fn asked(stage: &Stage, text: &str) -> String {
    let (status, task) = stage.admin().post("/v1/agents/crasher/tasks?wait=20s", &[], &json!({"input": text})).await;
    assert_eq!((status, task["status"].as_str()), (200, Some("succeeded")), "{task}");
    task["runs"][0]["id"].as_str().expect("a run").to_owned()
}

#[tokio::test]
async fn a_recording_replays_without_node_and_network_and_every_change_is_named() {
    let (_, mut rng) = seed::seeded("recording");
    let (mut stage, model) = stage().await;
    let node = stage.start().await;
    let run = asked(&stage, "task-1 please").await;
    let shown = stage.run(&["runs", "show", &run, "-o", "json"], LIMIT).await;
    let shown: Value = serde_json::from_str(&shown.out).expect("JSON and nothing else");
    assert_eq!((shown["status"].as_str(), shown["usage"]["input_tokens"].as_u64()), (Some("complete"), Some(20)));

    let replayed = stage.run(&["runs", "replay", "--verify", &run], LIMIT).await;
    assert_eq!(replayed.code, 0, "{}", replayed.err);
    assert_eq!(replayed.out.lines().count(), 4, "{}", replayed.out);
    let digest = shown["outcome_digest"].as_str().expect("a digest");
    assert!(replayed.err.contains(digest), "{}", replayed.err);
    let recording = stage.run(&["runs", "journal", &run, "-o", "json"], LIMIT).await.out;
    node.kill9();
    drop(model);

    // Nobody listens any more, and nobody is asked.
    stage.set("TROUPE_ADMIN_URL", "http://127.0.0.1:1");
    stage.file("run.json", &recording);
    let replayed = stage.run(&["runs", "replay", "--verify", "run.json", "-o", "json"], LIMIT).await;
    assert_eq!(replayed.code, 0, "{}", replayed.err);
    let report: Value = serde_json::from_str(&replayed.out).expect("JSON and nothing else");
    assert_eq!((report["outcome_digest"].as_str(), report["verified"].as_bool()), (Some(digest), Some(true)));

    let entries: Vec<(usize, usize)> = places(&recording);
    assert_eq!(entries.len(), 3);
    for _ in 0..CHANGES {
        let number = rng.random_range(0..entries.len());
        let (from, to) = entries[number];
        let mut bytes = recording.clone().into_bytes();
        let at = rng.random_range(from..to);
        bytes[at] ^= rng.random_range(1..=u8::MAX);
        fs::write(stage.path("changed.json"), &bytes).expect("a file of the stage");
        let said = stage.run(&["runs", "replay", "--verify", "changed.json"], LIMIT).await;
        let expected = format!("error: entry {number}:");
        assert!(said.code == 3 && said.err.contains(&expected), "byte {at} of entry {number}: {said:?}");
    }
}

/// Where the entries of a recording begin and end.
fn places(recording: &str) -> Vec<(usize, usize)> {
    let mut at = 0;
    let lines = recording.split_inclusive('\n').filter_map(|line| {
        let (begin, text) = (at, line.trim_end().trim_end_matches(','));
        at += line.len();
        text.starts_with("    {\"").then_some((begin + 4, begin + text.len()))
    });
    lines.collect()
}
