//! Ten times more than a node can do: it takes in what its limits allow, says `busy` to the rest, and stays as large as it was.
//!
//! The node has a few places for steps and a queue with a limit; everybody submits as fast as they are answered. What was accepted is
//! done, once; what was refused is not there; the urgent go before those that wait; the backlog is on the disk, or with the
//! broker, and not in the node's memory: its inputs are large enough to show.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use troupe_tests::Stage;
use troupe_tests::node::NodeProcess;
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::wait::until;

use super::database;

/// Takes four tenths of a second for a task, whatever it is asked.
const WORKER: &str = r"
name: worker
type: test
execution_mode: autonomous
llm_config:
  provider: scripted
  model: rules
  script: [{reply: done, delay: 400ms}]
instructions: Work.
";

/// Four places: ten tasks a second at most; and a backlog of which the node keeps little in memory.
const LIMITS: &str = "steps: {per_node_max: 4, per_instance_max: 4, accept_max: 4, prefetch: 8}
bus: {queue_events_max: QUEUE, cache_bytes_max: 1 MiB}
rabbitmq: {lookahead: 16}
";
const WARM: usize = 50;
const SIDE_BY_SIDE: usize = 8;
/// Bytes of an input: four hundred of them are as much as the node itself.
const INPUT: usize = 256 * 1024;
const URGENT: usize = 10;
/// The node may grow by half of the backlog: there are requests under way, too, and an allocator has ways of its own.
const GROWTH_MAX: f64 = 0.5;
const LIMIT: Duration = Duration::from_secs(240);

/// How a node is flooded.
struct Flood {
    /// Events that the queue may hold.
    queue: usize,
    /// Submissions; at a hundred a second that is ten times what can be done meanwhile.
    asked: usize,
    /// Whether the bus hands out by priority.
    in_order: bool,
}

/// Everybody's answers.
#[derive(Debug, Default)]
struct Answers {
    accepted: BTreeSet<String>,
    busy: usize,
}

/// Submits a task; its id, or that the node is busy.
async fn submit(client: &reqwest::Client, url: &str, input: &str, priority: u8) -> Option<String> {
    let answer = client.post(url).json(&json!({"input": input, "priority": priority})).send().await.expect("an answer");
    let (status, wait) = (answer.status().as_u16(), answer.headers().get("retry-after").cloned());
    let body: Value = answer.json().await.expect("JSON");
    if status == 202 {
        return Some(body["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!((status, &body["type"]), (429, &json!("urn:troupe:problem:busy")), "{body}");
    assert_eq!(body["queue"], "agent.input.worker", "{body}");
    let wait = wait.and_then(|wait| wait.to_str().ok()?.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| wait > 0), "busy without a Retry-After: {wait:?}");
    None
}

async fn flooded(client: &reqwest::Client, url: &str, asked: usize) -> Answers {
    let input = "x".repeat(INPUT);
    let submitted = (0..asked).map(|number| {
        let input = format!("{number} {input}");
        async move { submit(client, url, &input, 0).await }
    });
    let answers: Vec<_> = futures::stream::iter(submitted).buffer_unordered(SIDE_BY_SIDE).collect().await;
    let busy = answers.iter().filter(|answer| answer.is_none()).count();
    Answers { accepted: answers.into_iter().flatten().collect(), busy }
}

/// Events in the queue and before it.
fn waiting_in(bus: &Value) -> Option<u64> {
    Some(bus["depths"]["agent.input.worker"].as_u64()? + bus["spool"]["events"].as_u64()?)
}

fn resident(node: &NodeProcess) -> u64 {
    node.resident_bytes().expect("the memory of a node that runs")
}

async fn overloaded(what: &str, mut stage: Stage, Flood { queue, asked, in_order }: Flood) {
    stage.agent("worker", WORKER).file("config/node.yaml", &LIMITS.replace("QUEUE", &queue.to_string()));
    let node = stage.start().await;
    let (admin, client) = (stage.admin(), reqwest::Client::builder().no_proxy().build().expect("a client"));
    let url = format!("{}/v1/agents/worker/tasks", stage.get("TROUPE_ADMIN_URL").expect("an address"));

    // A first flood, so that caches, pools and threads have the size that they take at work.
    let mut all = flooded(&client, &url, WARM).await;
    let before = resident(&node);
    let flood = flooded(&client, &url, asked).await;
    let (mut most, mut urgent) = (resident(&node), BTreeSet::new());
    while urgent.len() < URGENT {
        // They wait for a place in the queue like everybody.
        match submit(&client, &url, "urgent", 9).await {
            Some(id) => drop(urgent.insert(id)),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    let (status, health) = admin.get("/health").await;
    assert_eq!(status, 200, "a node with much to do is not sick: {health}");
    let backlog = waiting_in(&health["components"]["bus"]).expect("its depth") * INPUT as u64;
    assert!(flood.busy > 0 && !flood.accepted.is_empty(), "{} accepted, {} busy", flood.accepted.len(), flood.busy);
    all.accepted.extend(flood.accepted);
    let waiting = all.accepted.clone();
    all.accepted.extend(urgent.iter().cloned());

    until("an empty queue", LIMIT, async || {
        most = most.max(resident(&node));
        let (_, health) = admin.try_get("/health").await?;
        (waiting_in(&health["components"]["bus"])? == 0).then_some(())
    })
    .await;
    // Not before: a list of all of them is as large as all of them.
    let tasks = until("the end of everything", LIMIT, async || {
        let over = |task: &Value| matches!(task["status"].as_str(), Some("succeeded" | "failed" | "cancelled"));
        let tasks = admin.tasks("worker").await?;
        (tasks.len() >= all.accepted.len() && tasks.iter().all(over)).then_some(tasks)
    })
    .await;
    let done: BTreeSet<String> = tasks.iter().map(|task| task["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(done, all.accepted, "what was accepted and nothing else");
    assert!(tasks.iter().all(|task| task["status"] == "succeeded" && task["attempts"] == 1), "not all ended well");

    let ended = |ids: &BTreeSet<String>| {
        let mut at: Vec<&str> = (tasks.iter())
            .filter(|task| task["id"].as_str().is_some_and(|id| ids.contains(id)))
            .map(|task| task["ended_at"].as_str().expect("an end"))
            .collect();
        at.sort_unstable();
        at.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let (last, others) = (ended(&urgent).pop().expect("an urgent one"), ended(&waiting));
    let overtaken = others.iter().filter(|at| **at > last).count();
    println!(
        "{what}: {} of {} accepted, {} busy; {overtaken} ended after the last of {URGENT} urgent ones; {} MiB resident before \
         the flood, {} MiB at most in it, with a backlog of {} MiB",
        all.accepted.len(),
        asked + WARM + URGENT,
        flood.busy + all.busy,
        before >> 20,
        most >> 20,
        backlog >> 20
    );
    let growth = most.saturating_sub(before) as f64;
    assert!(growth < backlog as f64 * GROWTH_MAX, "grown from {before} to {most} bytes with a backlog of {backlog}");
    if in_order {
        assert!(
            overtaken > others.len() / 4,
            "the urgent have waited: {overtaken} of {} ended after them",
            others.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooded_node_says_busy_and_stays_as_large_as_it_was() {
    overloaded("embedded", Stage::new(), Flood { queue: 400, asked: 800, in_order: true }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooded_node_leaves_the_backlog_with_its_broker() {
    let Some(broker) = RabbitMq::start().await else { return };
    let Some((_server, mut stage, _)) = database::stage().await else { return };
    stage.set("AMQP_URL", &broker.url("/"));
    // The broker's queues know no priorities: within what a node has taken ahead they count, behind it they do not.
    // Publishing is slower there, so less makes a flood.
    overloaded("PostgreSQL and RabbitMQ", stage, Flood { queue: 200, asked: 600, in_order: false }).await;
}
