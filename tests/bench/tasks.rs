//! Tasks a second: a node's own parts in this process, an agent whose model answers at once, a closed loop of askers.
//!
//! An asker publishes a task's event and waits for the confirmation; its task is over when the answer's event is
//! committed and handed out by the queue of replies, where a real node's reply sender listens. Then it asks again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use troupe_actors::stage;
use troupe_actors::troupe::Troupe;
use troupe_runtime::bus::{QueueSpec, Routing};
use troupe_runtime::config::{Agents, parse_agent};
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::topic::{REPLY_QUEUE, Topic};
use troupe_runtime::model::{ModelOptions, Models};
use troupe_runtime::ports::{self, Ports};
use troupe_runtime::secret::Secrets;
use troupe_runtime::telemetry::Metrics;
use troupe_runtime::tool::{ToolOptions, Tools};

use crate::commits::Commits;
use crate::figure::{Figure, median};

/// What can be asked for.
pub(crate) const NAMES: [&str; 4] = ["tasks_1", "tasks_32", "tasks_256", "rows"];
/// In flight, by name.
const LOADS: [(&str, usize); 3] = [(NAMES[0], 1), (NAMES[1], 32), (NAMES[2], 256)];

const ROUND: Duration = Duration::from_secs(2);
const BASELINE_ROUND: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_secs(1);
/// Events that go through the bus alone, to tell its rows from the store's.
const BARE_EVENTS: usize = 1_000;

const AGENT: &str = r"
name: bench
type: bench
execution_mode: autonomous
llm_config:
  provider: scripted
  model: at-once
  script: [{reply: done}]
instructions: Answer.
instances: 2
";

/// Who waits for which task.
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>;

/// A node's parts, and the listener of its replies.
struct Node {
    troupe: Troupe,
    ports: Arc<Ports>,
    waiting: Waiting,
    listener: AbortHandle,
}

/// What a load came to.
struct Asked {
    /// Tasks in all.
    tasks: usize,
    /// How long each took that ended in time, in milliseconds.
    latencies: Vec<f64>,
}

/// One load, round by round.
#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    baselines: Vec<f64>,
    latencies_ms: Vec<f64>,
}

/// All figures of this file.
pub(crate) async fn measure(dir: &Path, rounds: usize) -> Vec<Figure> {
    let node = Node::start(dir).await;
    let mut commits = Commits::open(dir).await;
    for (_, load) in LOADS {
        node.load(load, WARM_UP).await;
    }
    commits.rate(WARM_UP).await;

    let mut measured = LOADS.map(|_| Rounds::default());
    let mut rows = Vec::new();
    for _ in 0..rounds {
        for ((_, load), of_load) in LOADS.iter().zip(&mut measured) {
            let calm = commits.rate(BASELINE_ROUND).await;
            let before = node.ports.written();
            let Asked { tasks, mut latencies } = node.load(*load, ROUND).await;
            // Before and after, for the disk is not alone.
            of_load.baselines.push(f64::midpoint(calm, commits.rate(BASELINE_ROUND).await));
            // By now the relay has told and forgotten everything, and acknowledgements are on disk.
            let after = node.ports.written();
            if *load == LOADS[LOADS.len() - 1].1 {
                rows.push((after.rows - before.rows) as f64 / tasks as f64);
            }
            of_load.rates.push(latencies.len() as f64 / ROUND.as_secs_f64());
            latencies.sort_by(f64::total_cmp);
            of_load.latencies_ms.append(&mut latencies);
        }
    }
    let bus = node.rows_of_an_event().await;
    let written = node.ports.written();
    node.stop().await;

    let batch = written.operations as f64 / written.transactions as f64;
    let mut figures: Vec<_> =
        LOADS.iter().zip(measured).map(|((name, load), rounds)| rounds.figure(name, *load)).collect();
    // A task is two events: the one it was made from, and its answer.
    let of_bus = rows.iter().map(|_| bus * 2.0).collect();
    let of_store = median(&rows) - bus * 2.0;
    figures.push(Figure {
        name: "rows",
        unit: "rows/task",
        rounds: rows,
        baseline: Some(("by the bus alone", of_bus)),
        conditions: format!(
            "inserted, updated or deleted, 256 in flight; the store's share is {of_store:.1}, one of them the outbox's \
             deletion; {batch:.0} writes in a transaction over the whole run"
        ),
    });
    figures
}

impl Rounds {
    fn figure(mut self, name: &'static str, load: usize) -> Figure {
        self.latencies_ms.sort_by(f64::total_cmp);
        let at = |share: f64| self.latencies_ms[((self.latencies_ms.len() - 1) as f64 * share) as usize];
        Figure {
            name,
            unit: "tasks/s",
            rounds: self.rates,
            baseline: Some(("commits/s, one client", self.baselines)),
            conditions: format!(
                "{load} in flight; from publish to answer p50 {:.1} ms, p99 {:.1} ms",
                at(0.5),
                at(0.99)
            ),
        }
    }
}

impl Node {
    async fn start(dir: &Path) -> Self {
        let of_models = ModelOptions::default();
        let client = Models::client(&of_models).expect("an HTTP client");
        let models = Models::new(Secrets::new(Vec::new()), client, of_models).expect("models");
        let tools = Tools::new(ToolOptions::default());
        let data = dir.join("data");
        let opened = Ports::open(&data, "bench", ports::Options::default(), models, tools, Metrics::new()).await;
        let ports = Arc::new(opened.expect("the ports"));
        let spec = parse_agent("bench.yaml", AGENT, &Agents::default()).expect("the bench's agent");
        let started = Troupe::start(ports.clone(), vec![spec], stage::Options::default(), Vec::new()).await;
        let (troupe, _over) = started.expect("the troupe");
        let waiting = Waiting::default();
        let mut replies = ports.bus.consume(REPLY_QUEUE, 1024).await.expect("the replies");
        let heard = waiting.clone();
        let listener = tokio::spawn(async move {
            loop {
                let deliveries = replies.next(256).await;
                for delivery in deliveries {
                    let task = delivery.event.subject.as_deref().expect("an answer names its task");
                    let waiter = heard.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
                    // Nobody waits for what was asked at the end of a round.
                    waiter.map(|waiter| waiter.send(()));
                    delivery.settle.ack();
                }
            }
        });
        Self { troupe, ports, waiting, listener: listener.abort_handle() }
    }

    /// Keeps `load` tasks in flight for a while.
    async fn load(&self, load: usize, duration: Duration) -> Asked {
        let end = Instant::now() + duration;
        let mut askers = JoinSet::new();
        for _ in 0..load {
            let (ports, waiting) = (self.ports.clone(), self.waiting.clone());
            askers.spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let begun = Instant::now();
                    ask(&ports, &waiting).await;
                    if Instant::now() > end {
                        return latencies;
                    }
                    latencies.push(begun.elapsed().as_secs_f64() * 1000.0);
                }
            });
        }
        let latencies = askers.join_all().await.concat();
        // Each asker's last task ended after the time was over.
        Asked { tasks: latencies.len() + load, latencies }
    }

    /// Rows that the bus writes for one event, from publish to acknowledgement.
    async fn rows_of_an_event(&self) -> f64 {
        let bus = &self.ports.bus;
        let queue = QueueSpec {
            name: "bench.bare".to_owned(),
            bindings: vec!["bench.bare".parse().expect("a pattern")],
            single_active_consumer: false,
        };
        bus.declare(queue).await.expect("a queue");
        let mut consumer = bus.consume("bench.bare", BARE_EVENTS).await.expect("the queue");
        let before = self.ports.written().rows;
        let topic: Topic = "bench.bare".parse().expect("a topic");
        let event = |_| Arc::new(Event::new(topic.clone(), "/bench", json!({"text": "x"})));
        let published = (0..BARE_EVENTS).map(event).map(|event| bus.publish(event, Routing::Mandatory));
        futures::future::try_join_all(published).await.expect("published");
        for _ in 0..BARE_EVENTS {
            consumer.next(1).await.into_iter().for_each(|delivery| delivery.settle.ack());
        }
        // Acknowledgements are written without anybody waiting; two rows an event are the least there can be.
        let all = (BARE_EVENTS * 2) as u64;
        troupe_tests::wait::until("the acknowledgements", Duration::from_secs(10), async || {
            (self.ports.written().rows >= before + all).then_some(())
        })
        .await;
        (self.ports.written().rows - before) as f64 / BARE_EVENTS as f64
    }

    async fn stop(self) {
        self.troupe.drain(Duration::from_secs(5)).await;
        self.listener.abort();
        self.ports.close().await;
    }
}

/// One task, from its publication to its answer.
async fn ask(ports: &Ports, waiting: &Waiting) {
    let agent: AgentName = "bench".parse().expect("a name");
    let event = Event::new(Topic::agent_task(&agent), "/bench", json!({"text": "What is to be done?"}));
    let task = TaskId::derive(&event.id, "bench").to_string();
    let (answered, answer) = oneshot::channel();
    waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(task, answered);
    ports.bus.publish(Arc::new(event), Routing::Mandatory).await.expect("published");
    answer.await.expect("an answer");
}
