//! Dead letters from the outside: an agent that always fails is tried at the ladder's times, given up, and its event is done
//! once the agent is mended, in the same trace. On RabbitMQ and PostgreSQL.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use troupe_tests::Stage;
use troupe_tests::model::{Answer, ModelStandIn};
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::wait::until;

use super::agents::two_turns;
use super::database;

const LIMIT: Duration = Duration::from_secs(30);
/// The waits before the second, third … try.
const LADDER: [u64; 5] = [1, 2, 4, 8, 16];
/// A try is this much of its wait late, at most; and never early by more.
const LATE: f64 = 0.1;

/// Each try is one call of the model; the waits are those of the ladder.
const SETTINGS: &str = "steps:\n  attempt_backoff: 1s\nmodels:\n  tries: 1\n";

/// What the command lists.
async fn letters(stage: &Stage) -> Vec<Value> {
    let said = stage.run(&["dlq", "ls", "-o", "json"], LIMIT).await;
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    let listed: Value = serde_json::from_str(&said.out).expect("a document");
    listed.as_array().or_else(|| listed["items"].as_array()).expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_always_fails_is_given_up_and_its_event_is_done_once_it_is_mended() {
    let Some(broker) = RabbitMq::start().await else { return };
    let Some((_server, mut stage, _)) = database::stage().await else { return };
    let calls = Arc::<Mutex<Vec<Instant>>>::default();
    let seen = calls.clone();
    let model = ModelStandIn::start(move |asked| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        let fails = asked.body["model"] == "broken";
        (Duration::ZERO, if fails { Answer::Status(500) } else { Answer::Text("done".to_owned()) })
    })
    .await;
    let spec = format!("{}retries: {}\n", two_turns(model.base_url()), LADDER.len());
    let settings = stage.path("node.yaml");
    stage.file("node.yaml", SETTINGS).set("TROUPE_CONFIG", &settings.to_string_lossy());
    stage.agent("crasher", &spec.replace("model: stand-in", "model: broken"));
    stage.set("STAND_IN_KEY", "none").set("AMQP_URL", &broker.url("/"));
    let (mut node, admin) = (stage.start().await, stage.admin());

    let (status, asked) = admin.post("/v1/agents/crasher/tasks", &[], &json!({"input": "task-1 please"})).await;
    assert_eq!(status, 202, "{asked}");
    let letter = until("the dead letter", LIMIT * 3, async || letters(&stage).await.pop()).await;
    let begun: Vec<Instant> = calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let waits: Vec<f64> = begun.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    println!("tries after {waits:.3?} s");
    assert_eq!(waits.len(), LADDER.len(), "one try and {} more", LADDER.len());
    for (wait, rung) in waits.iter().zip(LADDER) {
        let off = wait / rung as f64 - 1.0;
        assert!(off.abs() < LATE, "a try after {wait:.3} s instead of {rung}");
    }
    let id = letter["id"].as_str().expect("an id").to_owned();
    let shown = stage.run(&["dlq", "show", &id, "-o", "json"], LIMIT).await;
    let letter: Value = serde_json::from_str(&shown.out).expect("a document");
    assert_eq!(
        (letter["attempts"].as_u64(), letter["queue"].as_str()),
        (Some(6), Some("agent.input.crasher")),
        "{letter}"
    );
    for error in ["first_error", "last_error"] {
        assert!(letter[error].as_str().is_some_and(|error| error.contains("500")), "{error}: {letter}");
    }
    let failed = admin.tasks("crasher").await.expect("an answer").pop().expect("a task");
    assert_eq!(failed["status"], "failed", "{failed}");

    node.terminate();
    node.ended(LIMIT).await;
    stage.agent("crasher", &spec);
    node = stage.start().await;
    let replayed = stage.run(&["dlq", "replay", &id], LIMIT).await;
    assert_eq!(replayed.code, 0, "{}\n{}", replayed.out, replayed.err);
    let done = until("the end of the task", LIMIT, async || {
        let tasks = admin.tasks("crasher").await?;
        tasks.into_iter().find(|task| task["status"] == "succeeded")
    })
    .await;
    assert_eq!(done["outcome"]["output"], "done", "{done}");
    let trace =
        |task: &Value| task["traceparent"].as_str().expect("a trace").split('-').nth(1).expect("an id").to_owned();
    assert_eq!(trace(&done), trace(&failed), "the trace goes on");
    assert!(letters(&stage).await.is_empty(), "the letter is gone");
    drop(node);
}
