//! The lean pipe: what RabbitMQ and PostgreSQL allow whoever keeps every promise, without a product.
//!
//! ```text
//! quorum queue ─► task, by its event's id, and narrow state, committed ─► ack ─► last entry (the result), state, outbox, committed
//!              ─► output published and confirmed ─► outbox row deleted
//! ```
//!
//! One writer takes whatever waits, up to 256 operations, into one transaction, with one statement a kind. One tokio task a
//! message. The product is held against this in the same run; nothing of it is used here. What goes over the wire is as long as
//! what the product sends ([`Texts`]): its events have an envelope, and its answers carry the question.
//!
//! It comes in two shapes: [`Shape::Lean`], and the same with what a bus of topics with retries asks of the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Deliveries that are not acknowledged yet.
const PREFETCH: u16 = 1_000;
/// Publishes that await their confirm.
const WINDOW: usize = 1_000;
/// Operations of a transaction, and how many wait.
const BATCH: usize = 256;
const QUEUE: usize = 4_096;

/// The queues, which are also what is published to where topics lead there.
const IN: &str = "agent.pipe.in";
const OUT: &str = "agent.pipe.out";
/// The exchange of the [routed](Shape::Routed) pipe.
const EVENTS: &str = "pipe.events";

const TABLES: &str = "\
    create table tasks (id uuid primary key, body text not null); \
    create table states (id uuid primary key, owner bigint not null, epoch bigint not null, status text not null) \
        with (fillfactor = 50); \
    create table results (id uuid primary key, agent text not null, at timestamptz not null, body text not null); \
    create index results_by_agent on results (agent, at); \
    create table outbox (id uuid primary key)";

const ACCEPT: [&str; 2] = [
    "insert into tasks select * from unnest($1::uuid[], $2::text[]) on conflict do nothing",
    "insert into states select id, 1, 1, 'running' from unnest($1::uuid[]) as n (id) on conflict do nothing",
];
const COMPLETE: [&str; 3] = [
    "insert into results select n.id, 'bench', now(), n.body from unnest($1::uuid[], $2::text[]) as n (id, body) \
     join states s on s.id = n.id and s.epoch = 1",
    "update states set status = 'succeeded' where id = any($1) and epoch = 1 and status = 'running'",
    "insert into outbox select * from unnest($1::uuid[])",
];
const TOLD: &str = "delete from outbox where id = any($1)";

/// What the pipe asks of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Quorum queues, published to by name, and messages without headers: the least there can be.
    Lean,
    /// A topic exchange, queues with a dead-letter route and a limit of deliveries, and an event's headers: as the product has to.
    Routed,
}

/// The pipe, with its queues and tables.
pub(crate) struct Pipe {
    broker: Connection,
    database: String,
    texts: Texts,
    shape: Shape,
}

/// What goes over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    /// What is asked, each time under another id.
    pub(crate) question: String,
    /// The id in it.
    pub(crate) id: String,
    /// What is answered.
    pub(crate) answer: Arc<str>,
}

/// What the pipe reads of an event: delivered twice, it is the same task.
#[derive(serde::Deserialize)]
struct Envelope {
    id: uuid::Uuid,
}

/// Told the place of each message, in the order of delivery, when its output is confirmed.
pub(crate) type Confirmed = Arc<dyn Fn(usize, Instant) + Send + Sync>;

/// What the writer is asked for.
enum Write {
    Accept(uuid::Uuid, String, u64),
    Complete(uuid::Uuid, String),
    Told(uuid::Uuid),
}

type Job = (Write, oneshot::Sender<()>);

impl Pipe {
    /// On an empty database and a vhost with nothing of that name in it.
    pub(crate) async fn open(broker: &str, database: &str, texts: Texts, shape: Shape) -> Self {
        let broker = Connection::connect(broker, ConnectionProperties::default()).await.expect("the broker");
        let channel = broker.create_channel().await.expect("a channel");
        for name in [IN, OUT] {
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(name.into(), options, shape.arguments()).await.expect("a queue");
        }
        if shape == Shape::Routed {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let made = channel.exchange_declare(EVENTS.into(), ExchangeKind::Topic, options, FieldTable::default());
            made.await.expect("an exchange");
            for (queue, pattern) in [(IN, IN), (OUT, "agent.*.out")] {
                let (options, none) = (QueueBindOptions::default(), FieldTable::default());
                let bound = channel.queue_bind(queue.into(), EVENTS.into(), pattern.into(), options, none);
                bound.await.expect("a binding");
            }
        }
        let mut connection = PgConnection::connect(database).await.expect("the database");
        sqlx::raw_sql(TABLES).execute(&mut connection).await.expect("tables");
        Self { broker, database: database.to_owned(), texts, shape }
    }

    /// Publishes so many messages, confirmed; answers how many a second.
    pub(crate) async fn fill(&self, messages: usize) -> f64 {
        let channel = confirming(&self.broker).await;
        let room = Arc::new(Semaphore::new(WINDOW));
        let begun = Instant::now();
        for _ in 0..messages {
            let place = room.clone().acquire_owned().await.expect("open");
            let confirm = self.shape.publish(&channel, IN, &self.texts.asked()).await;
            tokio::spawn(async move {
                confirm.await.expect("a confirm");
                drop(place);
            });
        }
        let _all = room.acquire_many(WINDOW as u32).await.expect("open");
        messages as f64 / begun.elapsed().as_secs_f64()
    }

    /// Publishes so many messages at this pace; answers when each was handed over.
    pub(crate) async fn paced(&self, messages: usize, every: Duration) -> Vec<Instant> {
        let channel = confirming(&self.broker).await;
        let mut pace = tokio::time::interval(every);
        let (mut begun, mut confirms) = (Vec::with_capacity(messages), Vec::with_capacity(messages));
        for _ in 0..messages {
            pace.tick().await;
            begun.push(Instant::now());
            confirms.push(self.shape.publish(&channel, IN, &self.texts.asked()).await);
        }
        for confirm in confirms {
            confirm.await.expect("a confirm");
        }
        begun
    }

    /// Takes so many messages and does nothing but acknowledge them, many at once; answers how many a second.
    pub(crate) async fn consume(&self, messages: usize) -> f64 {
        let (channel, mut deliveries) = self.consumer("raw").await;
        let (mut taken, mut begun) = (0, Instant::now());
        while taken < messages {
            let delivery = deliveries.next().await.expect("a consumer").expect("a delivery");
            if taken == 0 {
                begun = Instant::now();
            }
            taken += 1;
            if taken % 64 == 0 || taken == messages {
                let multiple = BasicAckOptions { multiple: true };
                channel.basic_ack(delivery.delivery_tag, multiple).await.expect("an acknowledgement");
            }
        }
        let rate = messages as f64 / begun.elapsed().as_secs_f64();
        channel.close(200, "done".into()).await.expect("it closes");
        rate
    }

    /// Works off so many messages; answers how many a second, from the first output to the last.
    pub(crate) async fn drain(&self, messages: usize) -> f64 {
        self.work(messages, Arc::new(|_, _| ())).await
    }

    /// The same, and says when each output was confirmed.
    pub(crate) async fn work(&self, messages: usize, confirmed: Confirmed) -> f64 {
        let (channel, mut deliveries) = self.consumer("pipe").await;
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let connection = PgConnection::connect(&self.database).await.expect("the database");
        let writer = tokio::spawn(write(connection, channel.clone(), waiting));
        let out = confirming(&self.broker).await;
        let told = Arc::new(AtomicU64::new(0));
        let (first, mut was_first) = oneshot::channel();
        let first = Arc::new(std::sync::Mutex::new(Some(first)));
        let mut tasks = tokio::task::JoinSet::new();
        for place in 0..messages {
            let delivery = deliveries.next().await.expect("a consumer").expect("a delivery");
            let body = String::from_utf8(delivery.data).expect("text");
            let Envelope { id } = serde_json::from_str(&body).expect("an event");
            // In the order of delivery: an acknowledgement is for all before it.
            let accepted = submit(&jobs, Write::Accept(id, body, delivery.delivery_tag)).await;
            let (jobs, out, told, first) = (jobs.clone(), out.clone(), told.clone(), first.clone());
            let (confirmed, text, shape) = (confirmed.clone(), self.texts.answer.clone(), self.shape);
            tasks.spawn(async move {
                accepted.await.expect("accepted");
                let result = format!("{{\"seq\":0,\"act\":{{\"text\":\"{}\"}}}}", "done ".repeat(80));
                submit(&jobs, Write::Complete(id, result)).await.await.expect("completed");
                shape.publish(&out, OUT, &text).await.await.expect("a confirm");
                confirmed(place, Instant::now());
                if told.fetch_add(1, Ordering::Relaxed) == 0
                    && let Some(first) = first.lock().ok().and_then(|mut first| first.take())
                {
                    first.send(Instant::now()).ok();
                }
                submit(&jobs, Write::Told(id)).await.await.expect("told");
            });
        }
        while tasks.join_next().await.is_some() {}
        let begun = was_first.try_recv().expect("the first output");
        let rate = (messages - 1) as f64 / begun.elapsed().as_secs_f64();
        drop(jobs);
        writer.await.expect("the writer");
        channel.queue_purge(OUT.into(), QueuePurgeOptions::default()).await.expect("it is emptied");
        channel.close(200, "done".into()).await.expect("it closes");
        rate
    }

    async fn consumer(&self, tag: &str) -> (Channel, lapin::Consumer) {
        let channel = self.broker.create_channel().await.expect("a channel");
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("a prefetch");
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(IN.into(), tag.into(), options, FieldTable::default()).await;
        (channel, consumer.expect("a consumer"))
    }
}

impl Texts {
    /// The question once more, as another event.
    fn asked(&self) -> String {
        self.question.replacen(&self.id, &uuid::Uuid::now_v7().to_string(), 1)
    }
}

async fn confirming(broker: &Connection) -> Channel {
    let channel = broker.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    channel
}

impl Shape {
    fn arguments(self) -> FieldTable {
        let mut arguments = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(LongString::from(text));
        arguments.insert("x-queue-type".into(), text("quorum"));
        if self == Self::Routed {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1_000));
            arguments.insert("x-dead-letter-exchange".into(), text(""));
            arguments.insert("x-dead-letter-routing-key".into(), text("pipe.dead"));
            arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
            arguments.insert("x-overflow".into(), text("reject-publish"));
        }
        arguments
    }

    /// Sends one message; what comes back waits for its confirm.
    async fn publish(self, channel: &Channel, queue: &str, body: &str) -> lapin::PublisherConfirm {
        let (exchange, properties) = match self {
            Self::Lean => ("", BasicProperties::default()),
            Self::Routed => (EVENTS, headers()),
        };
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = properties.with_delivery_mode(2);
        let sent = channel.basic_publish(exchange.into(), queue.into(), options, body.as_bytes(), properties);
        sent.await.expect("published")
    }
}

/// What travels beside an event, made for each as it must be.
fn headers() -> BasicProperties {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(LongString::from(trace)));
    headers.insert("publishedat".into(), AMQPValue::LongLongInt(chrono::Utc::now().timestamp_micros()));
    BasicProperties::default()
        .with_content_type("application/cloudevents+json".into())
        .with_priority(4)
        .with_message_id(uuid::Uuid::now_v7().to_string().into())
        .with_headers(headers)
}

async fn submit(jobs: &mpsc::Sender<Job>, write: Write) -> oneshot::Receiver<()> {
    let (reply, answer) = oneshot::channel();
    jobs.send((write, reply)).await.expect("the writer");
    answer
}

/// The one writer.
async fn write(mut connection: PgConnection, channel: Channel, mut waiting: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut jobs, BATCH).await > 0 {
        let (mut accepted, mut bodies, mut ended, mut results, mut told) = (vec![], vec![], vec![], vec![], vec![]);
        let (mut replies, mut tag) = (Vec::with_capacity(jobs.len()), None);
        for (write, reply) in jobs.drain(..) {
            replies.push(reply);
            match write {
                Write::Accept(id, body, of) => {
                    accepted.push(id);
                    bodies.push(body);
                    tag = Some(of);
                }
                Write::Complete(id, body) => {
                    ended.push(id);
                    results.push(body);
                }
                Write::Told(id) => told.push(id),
            }
        }
        let mut transaction = connection.begin().await.expect("a transaction");
        if !accepted.is_empty() {
            let tasks = sqlx::query(ACCEPT[0]).bind(&accepted).bind(&bodies);
            tasks.execute(&mut *transaction).await.expect("tasks");
            sqlx::query(ACCEPT[1]).bind(&accepted).execute(&mut *transaction).await.expect("states");
        }
        if !ended.is_empty() {
            let entries = sqlx::query(COMPLETE[0]).bind(&ended).bind(&results);
            entries.execute(&mut *transaction).await.expect("results");
            for statement in &COMPLETE[1..] {
                sqlx::query(*statement).bind(&ended).execute(&mut *transaction).await.expect("states and outbox");
            }
        }
        if !told.is_empty() {
            sqlx::query(TOLD).bind(&told).execute(&mut *transaction).await.expect("told");
        }
        transaction.commit().await.expect("a commit");
        if let Some(tag) = tag {
            channel.basic_ack(tag, BasicAckOptions { multiple: true }).await.expect("an acknowledgement");
        }
        for reply in replies {
            reply.send(()).ok();
        }
    }
}

/// Long enough for whatever is counted here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
