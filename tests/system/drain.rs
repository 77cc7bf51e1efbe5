//! The end of a node: SIGTERM lets a step finish what it is at, and what is cut off goes on in the next life; a second signal waits for
//! nothing; `troupe nodes drain` does the same as the first. Under load and with sick servers: [`super::draining`].

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use troupe_tests::model::{Answer, ModelStandIn};
use troupe_tests::{Stage, wait};

use super::agents::{ECHO, SLOW, two_turns};

/// A drain may take 30 s by contract; nothing here should need them.
const LIMIT: Duration = Duration::from_secs(15);
/// What waits for nothing is over by then, on a busy machine too.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A model that answers once its gate is open, and the agent `crasher` that asks it.
async fn gated(stage: &mut Stage) -> (ModelStandIn, watch::Sender<bool>) {
    let gate = watch::Sender::new(false);
    let shut = gate.subscribe();
    let think = move |_: &_| (Duration::ZERO, Answer::Gated(shut.clone(), Box::new(Answer::Text("done".to_owned()))));
    let model = ModelStandIn::start(think).await;
    let spec = two_turns(model.base_url()).replace("timeout: 10s", "timeout: 120s");
    stage.set("STAND_IN_KEY", "none").agent("crasher", &spec);
    (model, gate)
}

/// Gives it a task and waits for the call; answers where the task is.
async fn called(stage: &Stage, model: &ModelStandIn) -> String {
    let (status, task) = stage.admin().post("/v1/agents/crasher/tasks", &[], &json!({"input": "task-1"})).await;
    assert_eq!(status, 202, "{task}");
    wait::until("the call", LIMIT, async || (model.calls().len() == 1).then_some(())).await;
    format!("/v1/tasks/{}", task["id"].as_str().expect("an id"))
}

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

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once() {
    let mut stage = Stage::new();
    let (model, gate) = gated(&mut stage).await;
    let mut node = stage.start().await;
    let admin = stage.admin();
    let task = called(&stage, &model).await;

    node.terminate();
    wait::until("a node that is not ready", LIMIT, async || (admin.status("/readyz").await == Some(503)).then_some(()))
        .await;
    assert_eq!(admin.status("/livez").await, Some(200), "whoever watches over it is not to kill it for draining");
    let (status, nodes) = admin.get("/v1/nodes").await;
    assert_eq!((status, &nodes["items"][0]["state"]), (200, &json!("draining")), "{nodes}");
    assert_eq!(nodes["items"][0]["steps"], 1, "{nodes}");
    let run = task.replace("/v1/tasks/", "/v1/runs/");
    let event = json!({"type": "news.today", "source": "/test", "data": {}});
    for (path, body) in [
        ("/v1/agents/crasher/tasks", &json!({"input": "task-2"})),
        ("/v1/events", &event),
        (&*format!("{run}:fork"), &json!({"from_step": 1})),
    ] {
        let (status, refusal) = admin.post(path, &[], body).await;
        assert_eq!(status, 503, "{path}: a node that drains takes nothing new: {refusal}");
        assert!(refusal["detail"].as_str().is_some_and(|detail| detail.contains("it drains")), "{path}: {refusal}");
    }

    let begun = Instant::now();
    node.terminate();
    let status = node.ended(AT_ONCE).await;
    println!("after the second signal the node was gone in {:?}", begun.elapsed());
    assert_eq!(status.code(), Some(1), "{}", node.log());

    gate.send_replace(true);
    let _node = stage.start().await;
    let (status, task) = admin.get(&format!("{task}?wait=20s")).await;
    assert_eq!((status, task["status"].as_str()), (200, Some("succeeded")), "{task}");
    assert_eq!(task["attempts"], 1, "the second signal is no failed attempt either: {task}");
}

#[tokio::test]
async fn a_node_is_drained_by_command() {
    let mut stage = Stage::new();
    let (model, gate) = gated(&mut stage).await;
    stage.agent("echo", ECHO).set("TROUPE_NODE_NAME", "former");
    let mut former = stage.start().await;
    former.terminate();
    assert!(former.ended(LIMIT).await.success());

    stage.set("TROUPE_NODE_NAME", "stage");
    let mut node = stage.start().await;
    let task = called(&stage, &model).await;
    let listed = stage.run(&["nodes", "ls"], LIMIT).await;
    let rows: Vec<Vec<&str>> = listed.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        (rows.len(), rows[1][0], rows[1][1], rows[1][2], rows[1][4]),
        (3, "stage", "alive", "true", "1"),
        "{rows:?}"
    );
    assert_eq!((rows[2][0], rows[2][1], rows[2][2]), ("former", "gone", "false"), "{rows:?}");
    let unknown = stage.run(&["nodes", "drain", "stag"], LIMIT).await;
    assert!(unknown.code == 3 && unknown.err.contains("stage"), "{}: {}", unknown.code, unknown.err);
    let other = stage.run(&["nodes", "drain", "former"], LIMIT).await;
    assert!(other.code == 4 && other.err.contains("another process"), "{}: {}", other.code, other.err);

    let drained = stage.run(&["nodes", "drain", "stage", "--wait", "1s"], LIMIT).await;
    assert_eq!(drained.code, 124, "it has a step in hand: {}", drained.err);
    // Asked again it is what it was, and whoever waits hears of the end. The step ends once the node has taken the question.
    let patient = ["nodes", "drain", "stage", "--wait"];
    let asked = async {
        wait::until("the second question", LIMIT, async || (drains_asked(&stage).await == 2).then_some(())).await;
        gate.send_replace(true);
    };
    let (again, ()) = tokio::join!(stage.run(&patient, LIMIT), asked);
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(node.ended(LIMIT).await.code(), Some(0), "{}", node.log());

    let _node = stage.start().await;
    let (_, task) = stage.admin().get(&format!("{task}?wait=20s")).await;
    assert_eq!((task["status"].as_str(), &task["attempts"]), (Some("succeeded"), &json!(1)), "{task}");
    assert_eq!(model.calls().len(), 1, "the answer that came during the drain was kept");
}

/// How often the node was asked to drain, and does.
async fn drains_asked(stage: &Stage) -> usize {
    let metrics = stage.admin().text("/metrics").await;
    let line = metrics.lines().find(|line| {
        let said = ["/v1/nodes", r#"method="POST""#, r#"status="202""#];
        line.starts_with("troupe_http_requests_total") && said.iter().all(|said| line.contains(said))
    });
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}
