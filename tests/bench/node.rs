//! A node's own parts in this process, its state on either database, and askers in a closed loop.
//!
//! An asker publishes a task's event and waits for the confirmation; its task is over when the answer's event is
//! committed and handed out by the queue of replies, where a real node's reply sender listens. Then it asks again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use troupe_actors::roster::Member;
use troupe_actors::served::Served;
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

use crate::load::{Client, Load, closed_loop};

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
instances: 4
";

/// Who waits for which task.
type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>;

/// A node's parts, and the listener of its replies.
pub(crate) struct Node {
    troupe: Troupe,
    /// What it stands on.
    pub(crate) ports: Arc<Ports>,
    waiting: Waiting,
    /// Answers so far.
    pub(crate) heard: Arc<AtomicUsize>,
    listener: Option<AbortHandle>,
}

/// Where a node stands.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The folder of its embedded parts.
    pub(crate) dir: PathBuf,
    /// Its state, if it is not in the folder.
    pub(crate) database_url: Option<String>,
    /// Its bus, if it is not in the folder.
    pub(crate) amqp_url: Option<String>,
}

/// Somebody who asks and waits for the answer.
struct Asker {
    ports: Arc<Ports>,
    waiting: Waiting,
}

impl Place {
    /// Embedded parts in this folder, with the state there too or in the database of this address.
    pub(crate) fn new(dir: &Path, database_url: Option<&str>) -> Self {
        Self { dir: dir.to_owned(), database_url: database_url.map(str::to_owned), amqp_url: None }
    }

    /// What a node stands on there, without the node.
    pub(crate) async fn open(&self) -> Arc<Ports> {
        let of_models = ModelOptions::default();
        let client = Models::client(&of_models).expect("an HTTP client");
        let models = Models::new(Secrets::new(Vec::new()), client, of_models).expect("models");
        let tools = Tools::new(ToolOptions::default());
        let options = ports::Options {
            database_url: self.database_url.clone().map(Into::into),
            amqp_url: self.amqp_url.clone().map(Into::into),
            ..ports::Options::default()
        };
        Arc::new(Ports::open(&self.dir, options, models, tools, Metrics::new()).await.expect("the ports"))
    }
}

impl Node {
    /// A node that stands there, and somebody who takes its replies.
    pub(crate) async fn start(place: &Place) -> Self {
        let mut node = Self::unheard(place.open().await).await;
        node.listen().await;
        node
    }

    /// A node that stands on this; its replies wait in their queue.
    pub(crate) async fn unheard(ports: Arc<Ports>) -> Self {
        Self::beside(ports, Vec::new()).await
    }

    /// The same, with other agents beside the bench's.
    pub(crate) async fn beside(ports: Arc<Ports>, mut members: Vec<Member>) -> Self {
        let spec = parse_agent("bench.yaml", AGENT, &Agents::default()).expect("the bench's agent");
        let served = Served::prepare(&ports, spec).expect("it can be served");
        members.push(Member { spec: served.spec.clone(), served: Ok(Arc::new(served)) });
        let started = Troupe::start_prepared(ports.clone(), members, stage::Options::default(), Vec::new()).await;
        let (troupe, _over) = started.expect("the troupe");
        Self { troupe, ports, waiting: Waiting::default(), heard: Arc::default(), listener: None }
    }

    /// Takes the replies from now on.
    pub(crate) async fn listen(&mut self) {
        let mut replies = self.ports.bus.consume(REPLY_QUEUE, 1024).await.expect("the replies");
        let (asking, count) = (self.waiting.clone(), self.heard.clone());
        let listener = tokio::spawn(async move {
            loop {
                let deliveries = replies.next(256).await;
                count.fetch_add(deliveries.len(), Ordering::Relaxed);
                for delivery in deliveries {
                    let task = delivery.event.subject.as_deref().expect("an answer names its task");
                    let waiter = asking.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
                    // Nobody waits for what was asked at the end of a round.
                    waiter.map(|waiter| waiter.send(()));
                    delivery.settle.ack();
                }
            }
        });
        self.listener = Some(listener.abort_handle());
    }

    /// Keeps `tasks` in flight for a while.
    pub(crate) async fn load(&self, tasks: usize, duration: Duration) -> Load {
        let asker = |_| Asker { ports: self.ports.clone(), waiting: self.waiting.clone() };
        closed_loop((0..tasks).map(asker).collect(), duration).await.1
    }

    /// Asks so many times, as many askers do who know nothing of each other (a Poisson process: `every` is the mean), whether or not
    /// the answers are there; how long each took, in milliseconds. The same seed makes the same times.
    pub(crate) async fn as_they_come(&self, tasks: usize, every: Duration, seed: u64) -> Vec<f64> {
        let (mut random, mut due, mut asking) = (StdRng::seed_from_u64(seed), Instant::now(), JoinSet::new());
        for _ in 0..tasks {
            due += every.mul_f64(-(1.0 - random.random::<f64>()).ln());
            tokio::time::sleep_until(due.into()).await;
            let mut asker = Asker { ports: self.ports.clone(), waiting: self.waiting.clone() };
            asking.spawn(async move {
                let begun = Instant::now();
                asker.once().await;
                begun.elapsed().as_secs_f64() * 1000.0
            });
        }
        asking.join_all().await
    }

    /// Rows that the bus writes for one event, from publish to acknowledgement.
    pub(crate) async fn rows_of_an_event(&self) -> f64 {
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

    /// Everything that was asked is answered and written; then it ends.
    pub(crate) async fn stop(self) {
        self.troupe.drain(Duration::from_secs(5)).await;
        self.listener.iter().for_each(AbortHandle::abort);
        self.ports.close().await;
    }
}

impl Client for Asker {
    async fn once(&mut self) {
        let agent: AgentName = "bench".parse().expect("a name");
        let event = Event::new(Topic::agent_task(&agent), "/bench", json!({"text": "What is to be done?"}));
        let task = TaskId::derive(&event.id, "bench").to_string();
        let (answered, answer) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(task, answered);
        self.ports.bus.publish(Arc::new(event), Routing::Mandatory).await.expect("published");
        answer.await.expect("an answer");
    }
}
