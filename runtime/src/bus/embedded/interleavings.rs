//! Tests: the conformance suite, a model under random interleavings, and what only this adapter promises.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use sqlx::Connection as _;
use tempfile::TempDir;

use super::EmbeddedBus;
use crate::bus::conformance::{BoxHarness, Harness, cases};
use crate::bus::{Bus, Consumer, Delivery, Error, Options, QueueSpec, Routing};
use crate::domain::event::{Event, Priority};
use crate::sqlite::{self, Database};

/// A folder, and what is open in it.
struct Node {
    dir: TempDir,
    options: Options,
    file: sqlite::Options,
    open: Option<(Arc<EmbeddedBus>, Database)>,
}

impl Node {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            options: Options::default(),
            file: sqlite::Options::default(),
            open: None,
        }
    }

    async fn start(&mut self) -> Arc<EmbeddedBus> {
        let database = self.unlocked().await;
        let bus = EmbeddedBus::open(database.clone(), self.options.clone()).await.unwrap();
        self.open = Some((bus.clone(), database));
        bus
    }

    /// The lock goes with the last of the former life's tasks.
    async fn unlocked(&self) -> Database {
        for _ in 0..10_000 {
            match Database::open(self.dir.path(), &self.file).await {
                Err(sqlite::Error::InUse(_)) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
        panic!("something still holds the bus");
    }

    /// A connection that nobody knows of.
    async fn another_connection(&self) -> sqlx::SqliteConnection {
        let url = format!("sqlite://{}", self.dir.path().join(sqlite::FILE_NAME).display());
        sqlx::SqliteConnection::connect(&url).await.unwrap()
    }

    /// Nothing is flushed; only the file is closed, so that it can be opened again.
    async fn crash(&mut self) {
        if let Some((bus, database)) = self.open.take() {
            drop(bus);
            database.close().await;
        }
    }
}

#[async_trait]
impl Harness for Node {
    async fn open(&mut self, options: Options) -> Result<Arc<dyn Bus>, String> {
        self.options = options;
        Ok(self.start().await)
    }

    async fn reopen(&mut self) -> Result<Arc<dyn Bus>, String> {
        self.crash().await;
        Ok(self.start().await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_bus_does_what_every_bus_does() {
    let mut failures = Vec::new();
    for case in cases() {
        let since = Instant::now();
        let harness: BoxHarness = Box::new(Node::new());
        let verdict = (case.run)(harness).await;
        println!("{:>5} ms  {}", since.elapsed().as_millis(), case.name);
        if let Err(wrong) = verdict {
            failures.push(format!("{}: {wrong}", case.name));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn event(priority: u8, number: usize) -> Arc<Event> {
    let mut event = Event::new("t".parse().unwrap(), "/test", json!({ "number": number, "text": "x".repeat(200) }));
    event.priority = Priority::try_from(priority).unwrap();
    Arc::new(event)
}

fn number(delivery: &Delivery) -> usize {
    usize::try_from(delivery.event.data.value()["number"].as_u64().unwrap()).unwrap()
}

async fn declare_q(bus: &EmbeddedBus) {
    let bindings = vec!["t".parse().unwrap()];
    bus.declare(QueueSpec { name: "q".to_owned(), bindings, single_active_consumer: false }).await.unwrap();
}

async fn next(consumer: &mut Consumer) -> Delivery {
    tokio::time::timeout(Duration::from_secs(20), consumer.deliveries.recv()).await.unwrap().unwrap()
}

async fn depth(bus: &EmbeddedBus) -> u64 {
    bus.health().await.unwrap().depths[0].1
}

async fn until_depth(bus: &EmbeddedBus, reached: impl Fn(u64) -> bool) {
    while !reached(depth(bus).await) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What the bus must still hold, by number, with the retries so far.
#[derive(Default)]
struct Model {
    published: usize,
    waiting: BTreeMap<usize, u32>,
    /// Acknowledged, but not known to be durable.
    settling: BTreeMap<usize, u32>,
    /// Acknowledged right before a crash: may come again.
    doubtful: BTreeMap<usize, u32>,
}

impl Model {
    fn delivered(&self, delivery: &Delivery) {
        let n = number(delivery);
        let known = self.waiting.get(&n).or_else(|| self.doubtful.get(&n));
        assert_eq!(Some(&delivery.retrycount), known, "{n}: delivered after its acknowledgement, or never published");
    }

    fn acknowledged(&mut self, n: usize) {
        let retries = self.waiting.remove(&n).or_else(|| self.doubtful.remove(&n)).unwrap();
        self.settling.insert(n, retries);
    }

    fn retried(&mut self, n: usize) {
        *self.waiting.get_mut(&n).or_else(|| self.doubtful.get_mut(&n)).unwrap() += 1;
    }
}

/// One life of a node, with its consumers by number and what they hold.
struct Life {
    bus: Arc<EmbeddedBus>,
    consumers: BTreeMap<usize, Consumer>,
    held: Vec<(usize, Delivery)>,
}

impl Life {
    /// A delivery, and whether its consumer lives: what a dead consumer's delivery is told has no effect.
    fn any_held(&mut self, rng: &mut StdRng) -> Option<(bool, Delivery)> {
        let index = (!self.held.is_empty()).then(|| rng.random_range(0..self.held.len()))?;
        let (consumer, delivery) = self.held.swap_remove(index);
        Some((self.consumers.contains_key(&consumer), delivery))
    }

    async fn act(&mut self, rng: &mut StdRng, model: &mut Model) {
        match rng.random_range(0..100) {
            0..25 => {
                let batch: Vec<_> = (0..rng.random_range(1..8))
                    .map(|_| {
                        model.published += 1;
                        model.waiting.insert(model.published, 0);
                        self.bus.publish(event(rng.random_range(0..10), model.published), Routing::Mandatory)
                    })
                    .collect();
                for published in join_all(batch).await {
                    published.unwrap();
                }
            }
            25..35 if self.consumers.len() < 3 => {
                let consumer = self.bus.consume("q", rng.random_range(1..6)).await.unwrap();
                self.consumers.insert(rng.random_range(0..usize::MAX), consumer);
            }
            35..40 => drop(self.consumers.pop_first()),
            40..70 => {
                for (id, consumer) in &mut self.consumers {
                    if let Some(delivery) = consumer.deliveries.try_recv() {
                        model.delivered(&delivery);
                        self.held.push((*id, delivery));
                    }
                }
            }
            70..82 => {
                if let Some((alive, delivery)) = self.any_held(rng) {
                    let n = number(&delivery);
                    delivery.settle.ack();
                    if alive {
                        model.acknowledged(n);
                    }
                }
            }
            82..90 => {
                if let Some((alive, delivery)) = self.any_held(rng) {
                    let n = number(&delivery);
                    assert_eq!(delivery.settle.retry("again").await.is_ok(), alive);
                    if alive {
                        model.retried(n);
                    }
                }
            }
            90..95 => drop(self.any_held(rng)),
            _ => tokio::task::yield_now().await,
        }
    }
}

async fn interleave(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut node = Node::new();
    node.options = Options {
        index_events_max: rng.random_range(1..12),
        cache_bytes_max: rng.random_range(0..4000),
        retry_ladder: vec![Duration::from_millis(1); 100],
        ..Options::default()
    };
    let mut model = Model::default();
    for _ in 0..4 {
        let mut life = Life { bus: node.start().await, consumers: BTreeMap::new(), held: Vec::new() };
        declare_q(&life.bus).await;
        for _ in 0..rng.random_range(20..120) {
            life.act(&mut rng, &mut model).await;
        }
        if rng.random() {
            life.bus.close().await;
        } else {
            model.doubtful.append(&mut model.settling);
        }
        model.settling.clear();
        drop(life);
        node.crash().await;
    }
    let bus = node.start().await;
    let mut consumer = bus.consume("q", 7).await.unwrap();
    while !model.waiting.is_empty() {
        let delivery = next(&mut consumer).await;
        model.delivered(&delivery);
        model.acknowledged(number(&delivery));
        delivery.settle.ack();
    }
    while depth(&bus).await > 0 {
        if let Some(delivery) = consumer.deliveries.try_recv() {
            model.delivered(&delivery);
            model.acknowledged(number(&delivery));
            delivery.settle.ack();
        }
        tokio::task::yield_now().await;
    }
    assert!(consumer.deliveries.try_recv().is_none(), "an event is there that the queue does not count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_nothing_is_lost_and_nothing_comes_after_its_acknowledgement() {
    let first: u64 = rand::rng().random_range(0..1 << 32);
    for seed in first..first + 8 {
        println!("seed {seed}");
        tokio::time::timeout(Duration::from_secs(60), interleave(seed)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_times_what_memory_may_hold_stays_on_disk() {
    let mut node = Node::new();
    node.options = Options { index_events_max: 100, cache_bytes_max: 10_000, ..Options::default() };
    let bus = node.start().await;
    declare_q(&bus).await;
    for published in join_all((0..1000).map(|n| bus.publish(event(5, n), Routing::Mandatory))).await {
        published.unwrap();
    }
    let mut consumer = bus.consume("q", 10).await.unwrap();
    let in_memory = |bus: &EmbeddedBus| {
        let cell = bus.inner.cell("q").unwrap();
        let places = cell.lock().in_memory();
        (places, bus.inner.cache.used())
    };
    for n in 0..1000 {
        let delivery = next(&mut consumer).await;
        assert_eq!(number(&delivery), n);
        let (places, bytes) = in_memory(&bus);
        assert!(places <= 100 && bytes <= 10_000 + 10 * 600, "{places} places, {bytes} bytes");
        delivery.settle.ack();
    }
    until_depth(&bus, |depth| depth == 0).await;
    assert_eq!(in_memory(&bus), (0, 0));
}

#[tokio::test]
async fn closing_makes_acknowledgements_durable_ends_consumers_and_refuses_the_rest() {
    let mut node = Node::new();
    let bus = node.start().await;
    declare_q(&bus).await;
    let mut consumer = bus.consume("q", 10).await.unwrap();
    for n in 0..10 {
        bus.publish(event(5, n), Routing::Mandatory).await.unwrap();
    }
    for _ in 0..4 {
        next(&mut consumer).await.settle.ack();
    }
    bus.close().await;
    assert!(matches!(bus.publish(event(5, 10), Routing::Mandatory).await, Err(Error::Unavailable(_))));
    while let Some(delivery) = consumer.deliveries.recv().await {
        drop(delivery);
    }
    drop((consumer, bus));
    node.crash().await;
    let bus = node.start().await;
    assert_eq!(depth(&bus).await, 6);
}

#[tokio::test]
async fn a_publisher_that_gives_up_waiting_leaves_no_event_behind_the_consumer_s_back() {
    let mut node = Node::new();
    let bus = node.start().await;
    declare_q(&bus).await;
    let mut consumer = bus.consume("q", 1).await.unwrap();
    let mut publishing = bus.publish(event(5, 1), Routing::Mandatory);
    assert!(futures::poll!(&mut publishing).is_pending());
    drop(publishing);
    assert_eq!(number(&next(&mut consumer).await), 1);
}

#[tokio::test]
async fn what_the_caller_asked_for_in_vain_costs_no_write() {
    let mut node = Node::new();
    let bus = node.start().await;
    declare_q(&bus).await;
    let before = bus.inner.database.writer().written();
    declare_q(&bus).await;
    let nobody = Event::new("nobody".parse().unwrap(), "/test", json!({}));
    assert_eq!(bus.publish(Arc::new(nobody), Routing::Optional).await.unwrap(), 0);
    assert_eq!(bus.inner.database.writer().written(), before);
}

#[tokio::test]
async fn a_disk_that_does_not_answer_refuses_publishing_and_lets_the_rest_wait() {
    let mut node = Node::new();
    node.file.busy_timeout = Duration::from_millis(10);
    node.options.retry_ladder = vec![Duration::from_millis(1); 5];
    let bus = node.start().await;
    declare_q(&bus).await;
    for n in 0..2 {
        bus.publish(event(5, n), Routing::Mandatory).await.unwrap();
    }
    let mut consumer = bus.consume("q", 2).await.unwrap();
    let (acknowledged, failed) = (next(&mut consumer).await, next(&mut consumer).await);

    let mut blocker = node.another_connection().await;
    sqlx::query("begin immediate").execute(&mut blocker).await.unwrap();
    acknowledged.settle.ack();
    let refused = bus.publish(event(5, 2), Routing::Mandatory).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    let refused = failed.settle.retry("why").await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    let again = next(&mut consumer).await;
    assert_eq!((number(&again), again.retrycount, depth(&bus).await), (1, 0, 2));

    sqlx::query("rollback").execute(&mut blocker).await.unwrap();
    until_depth(&bus, |depth| depth == 1).await;
    again.settle.ack();
    bus.publish(event(5, 3), Routing::Mandatory).await.unwrap();
    assert_eq!(number(&next(&mut consumer).await), 3);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_does_not_hold_up_the_others() {
    let mut node = Node::new();
    let bus = node.start().await;
    declare_q(&bus).await;
    for n in 0..3 {
        bus.publish(event(5, n), Routing::Mandatory).await.unwrap();
    }
    drop(bus);
    node.crash().await;
    let mut file = node.another_connection().await;
    sqlx::query(
        "update bus_messages set body = '{' where seq = (select seq from bus_messages order by seq limit 1 offset 1)",
    )
    .execute(&mut file)
    .await
    .unwrap();
    file.close().await.unwrap();
    let bus = node.start().await;
    let mut consumer = bus.consume("q", 1).await.unwrap();
    for n in [0, 2] {
        let delivery = next(&mut consumer).await;
        assert_eq!(number(&delivery), n);
        delivery.settle.ack();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_events_pass_quickly_and_in_few_transactions() {
    let mut node = Node::new();
    let bus = node.start().await;
    declare_q(&bus).await;
    let mut consumer = bus.consume("q", 512).await.unwrap();
    let since = Instant::now();
    let publishers = (0..256).map(|publisher| {
        let bus = bus.clone();
        tokio::spawn(async move {
            for n in (publisher..10_000).step_by(256) {
                bus.publish(event(5, n), Routing::Mandatory).await.unwrap();
            }
        })
    });
    let publishers = join_all(publishers);
    let consuming = async {
        let mut left = 10_000;
        while left > 0 {
            for delivery in consumer.next(256).await {
                left -= 1;
                delivery.settle.ack();
            }
        }
        until_depth(&bus, |depth| depth == 0).await;
    };
    tokio::join!(publishers, consuming);
    let written = bus.inner.database.writer().written();
    println!("{:?}, {written:?}", since.elapsed());
    // One row in and one row out for each event, and a few for the queue itself.
    assert!(written.rows <= 20_000 + 5, "{written:?}");
    assert!(written.transactions < 1_000, "{written:?}");
}
