//! The bus port: durable queues, reached by topics.
//!
//! An adapter MUST confirm a publish only after the event is durable in every queue that it was routed to; MUST keep a
//! delivery until it is acknowledged, retried or buried, and hand it out again when its consumer dies; MUST hand out by
//! priority (9 first) and, within one priority, by age: in the order in which one publisher began to publish, whether
//! or not it waited in between; an event that has waited for [`Options::aging`] longer goes before one that is one priority
//! more urgent. It MAY deliver twice: whoever accepts is unique by event id.
//!
//! ```text
//! publish ─► bindings ─► queue ─► delivery ─┬─ ack      gone
//!                          ▲                ├─ retry    back after 1, 2, 4, 8, 16 s, then the dead letters
//!                          └────────────────┴─ bury     the dead letters at once
//! ```
//!
//! Adapters: [`embedded`] and [`rabbitmq`]. The behaviour is [`conformance`]; both run it unchanged. [`tap`]
//! shows people what passes, over either of them.

pub mod conformance;
pub mod embedded;
pub mod handing;
mod line;
mod place;
pub mod rabbitmq;
mod routes;
pub mod tap;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use self::handing::Deliveries;
use crate::domain::event::Event;
use crate::domain::topic::TopicPattern;
use crate::fault::{Fault, Faulty};

/// Most deliveries that one consumer may hold, as in AMQP.
const PREFETCH_MAX: usize = 65_535;
/// Longest error text that is kept, in characters.
const ERROR_CHARS_MAX: usize = 2_000;

/// A queue and what reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSpec {
    /// Its name.
    pub name: String,
    /// An event goes here when any of these matches its topic.
    pub bindings: Vec<TopicPattern>,
    /// Only one consumer is served at a time; another takes over when it is gone.
    pub single_active_consumer: bool,
}

/// What becomes of an event that no queue wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// It is an error of the publisher ([`Error::Unroutable`]): commands, hand-overs.
    Mandatory,
    /// Nobody needs to listen: facts.
    Optional,
}

/// Durable queues, reached by topics.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Makes the queue when it is missing and sets its bindings to exactly these.
    ///
    /// A bus that is away may keep this in mind and do it when it is back: then it answers [`Error::Deferred`].
    async fn declare(&self, queue: QueueSpec) -> Result<(), Error>;

    /// Removes a queue that holds nothing, with its bindings.
    ///
    /// # Errors
    /// [`Error::NoQueue`]; [`Error::Kept`] when it holds events, wherever they are (waiting, handed out, between two
    /// deliveries), or when somebody consumes it. Then everything is as it was.
    async fn remove_queue(&self, queue: &str) -> Result<(), Error>;

    /// Publishes one event; returns once it is durable, with the number of queues it went to.
    ///
    /// Cancelling leaves open whether it was published.
    async fn publish(&self, event: Arc<Event>, routing: Routing) -> Result<usize, Error>;

    /// Puts an event into one queue whatever its topic, for a hand-over to one agent; durable on return.
    async fn send(&self, queue: &str, event: Arc<Event>) -> Result<(), Error>;

    /// Starts to consume a queue, with at most `prefetch` deliveries unsettled.
    ///
    /// While the bus is away, the consumer of a queue that was declared here waits.
    async fn consume(&self, queue: &str, prefetch: usize) -> Result<Consumer, Error>;

    /// Puts an event that was already settled among the dead letters (a task that failed for good).
    ///
    /// The same `letter.id` twice is one dead letter.
    async fn bury(&self, letter: DeadLetter) -> Result<(), Error>;

    /// Dead letters, newest first, at most `limit`, those before `before` when given.
    async fn dead_letters(&self, limit: usize, before: Option<&str>) -> Result<Vec<DeadLetter>, Error>;

    /// One dead letter by its id.
    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>, Error>;

    /// Publishes the event of a dead letter to its queue again, as a new event caused by the old one in the same trace,
    /// and removes the letter, in one act. Answers the new event.
    async fn replay(&self, id: &str) -> Result<Option<Event>, Error>;

    /// Removes a dead letter; `false` when there is none.
    async fn purge(&self, id: &str) -> Result<bool, Error>;

    /// How the queues stand.
    async fn health(&self) -> Result<Health, Error>;
}

/// How the queues stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `embedded` or `rabbitmq`.
    pub adapter: &'static str,
    /// Each queue's events that nobody has settled yet, by name.
    pub depths: Vec<(String, u64)>,
    /// Dead letters.
    pub dead_letters: u64,
    /// Mandatory events that found no queue since the start.
    pub unroutable: u64,
    /// How it stands with the broker, where there is one.
    pub connection: Option<Connection>,
}

/// How it stands with the broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// Where it is, without its password.
    pub place: String,
    /// `connected`, `connecting` or `away`.
    pub state: &'static str,
    /// Why the broker takes no events now: it is short of memory or disk.
    pub blocked: Option<String>,
    /// Why it is away.
    pub error: Option<String>,
    /// Connections that were lost since the start.
    pub lost: u64,
}

impl Connection {
    /// Whether there is a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == "connected"
    }

    /// Whether events can be published and are delivered.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.is_connected() && self.blocked.is_none()
    }
}

/// An event that was rejected for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Unique; time-ordered (UUIDv7) unless the burier has an id of its own.
    pub id: String,
    /// The queue that it came from and that a replay goes to.
    pub queue: String,
    /// The event itself, with its trace.
    pub event: Event,
    /// Why it is here, in a word: `retries`, `rejected`, or the failure's reason.
    pub cause: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong first.
    pub first_error: String,
    /// What went wrong last.
    pub last_error: String,
    /// When it was given up.
    pub at: DateTime<Utc>,
}

impl DeadLetter {
    /// Cuts its errors to what is kept.
    fn clip(&mut self) {
        self.first_error = clipped(&self.first_error);
        self.last_error = clipped(&self.last_error);
    }
}

/// One hand-over of an event to a consumer. Dropped unsettled, it is handed out again.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Arc<Event>,
    /// How often it failed before, 0 on the first hand-over.
    pub retrycount: u32,
    /// Whether it may have been handed out before.
    pub redelivered: bool,
    /// How the adapter settles it.
    pub settle: Box<dyn Settle>,
}

/// The adapter's side of a delivery; dropping it unsettled returns the event to its queue at once.
#[async_trait]
pub trait Settle: Send + Sync + std::fmt::Debug {
    /// Done: it goes. Returns without waiting for the disk; a lost acknowledgement leads to a redelivery.
    fn ack(self: Box<Self>);
    /// Failed: back after the ladder's wait, or to the dead letters once the ladder is used up. Durable on return.
    async fn retry(self: Box<Self>, cause: &str) -> Result<(), Error>;
    /// Hopeless: to the dead letters at once. Durable on return.
    async fn reject(self: Box<Self>, cause: &str) -> Result<(), Error>;
}

/// The consuming end of a queue. Dropping it returns what is unsettled.
#[derive(Debug)]
pub struct Consumer {
    /// Where the adapter puts deliveries; bounded by the prefetch.
    pub deliveries: Deliveries,
    /// Ends the consumer in the adapter when it is dropped.
    pub guard: Box<dyn std::any::Any + Send + Sync>,
}

impl Consumer {
    /// Waits for at least one delivery and takes up to `max` of those that are there; empty when the queue is gone.
    pub async fn next(&mut self, max: usize) -> Vec<Delivery> {
        let mut taken: Vec<Delivery> = self.deliveries.recv().await.into_iter().collect();
        while !taken.is_empty()
            && taken.len() < max
            && let Some(more) = self.deliveries.try_recv()
        {
            taken.push(more);
        }
        taken
    }
}

/// Limits of a bus.
#[derive(Debug, Clone)]
pub struct Options {
    /// The waits before the second, third … delivery; after the last one the event is a dead letter.
    pub retry_ladder: Vec<Duration>,
    /// Largest event, in bytes of JSON.
    pub event_bytes_max: usize,
    /// Events that a queue may hold; more are refused.
    pub queue_events_max: u64,
    /// Memory for bodies of events that wait, in bytes; beyond it they are read from disk when their turn comes.
    pub cache_bytes_max: usize,
    /// Events of one queue whose places are kept in memory; the others are read from disk when their turn comes.
    pub index_events_max: usize,
    /// What a priority is worth: an event goes before a more urgent one once it has waited for so much longer.
    pub aging: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retry_ladder: [1, 2, 4, 8, 16].map(Duration::from_secs).to_vec(),
            event_bytes_max: 1024 * 1024,
            queue_events_max: 10_000_000,
            cache_bytes_max: 32 * 1024 * 1024,
            index_events_max: 20_000,
            aging: Duration::from_mins(1),
        }
    }
}

impl Options {
    /// The event as JSON, within its limit.
    fn body(&self, event: &Event) -> Result<String, Error> {
        let body = event.json().map_err(|error| Error::Internal(format!("event: {error}")))?;
        if body.len() > self.event_bytes_max {
            return Err(Error::TooLarge { bytes: body.len(), limit: self.event_bytes_max });
        }
        Ok(body)
    }
}

/// Why the bus did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A mandatory event that no queue wants.
    #[error("no queue is bound to topic {0}")]
    Unroutable(String),
    /// There is no such queue.
    #[error("there is no queue {0}")]
    NoQueue(String),
    /// The queue cannot be removed now.
    #[error("queue {queue} is kept: {why}")]
    Kept {
        /// Which.
        queue: String,
        /// What is in it, or who needs it.
        why: String,
    },
    /// The event is over the limit.
    #[error("the event has {bytes} bytes, more than bus.event_bytes_max = {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The queue is over its limit.
    #[error("queue {queue} holds bus.queue_events_max = {limit} events")]
    QueueFull {
        /// Which.
        queue: String,
        /// The limit.
        limit: u64,
    },
    /// The broker has a queue or an exchange of this name that was made in another way.
    #[error("{what} is not what it should be: {seen}; {advice}")]
    Misdeclared {
        /// Which.
        what: String,
        /// What the broker says.
        seen: String,
        /// What to do.
        advice: String,
    },
    /// The broker is away; what was declared is kept in mind and made when it is back.
    #[error("the bus does not answer, the declaration waits: {0}")]
    Deferred(String),
    /// The broker or the disk does not take it now.
    #[error("the bus does not answer: {0}")]
    Unavailable(String),
    /// Something of ours is wrong.
    #[error("bus: {0}")]
    Internal(String),
}

impl Error {
    /// A declaration that is made sooner or later is no failure for whoever can wait.
    pub fn unless_deferred(declared: Result<(), Self>) -> Result<(), Self> {
        match declared {
            Err(Self::Deferred(why)) => {
                tracing::warn!(why, "a queue is declared when the broker is back");
                Ok(())
            }
            declared => declared,
        }
    }
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Unroutable(_)
            | Self::NoQueue(_)
            | Self::Kept { .. }
            | Self::TooLarge { .. }
            | Self::Misdeclared { .. } => Fault::Permanent,
            Self::QueueFull { .. } | Self::Deferred(_) | Self::Unavailable(_) => Fault::transient(),
            Self::Internal(_) => Fault::Bug,
        }
    }
}

impl Error {
    /// The queue holds so many events.
    fn holds(queue: &str, events: u64) -> Self {
        let why = if events == 1 { "1 event is in it".to_owned() } else { format!("{events} events are in it") };
        Self::Kept { queue: queue.to_owned(), why }
    }

    /// Somebody consumes the queue.
    fn consumed(queue: &str) -> Self {
        Self::Kept { queue: queue.to_owned(), why: "somebody consumes it".to_owned() }
    }
}

/// An error text as it is kept.
fn clipped(text: &str) -> String {
    text.chars().take(ERROR_CHARS_MAX).collect()
}

/// Runs to its end even when the caller goes away.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    match tokio::spawn(work).await {
        Ok(answer) => answer,
        Err(error) if error.is_cancelled() => Err(Error::Unavailable("the node is stopping".to_owned())),
        Err(error) => Err(Error::Internal(error.to_string())),
    }
}
