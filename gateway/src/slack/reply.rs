//! The reply sender: answers on the bus become messages in Slack.
//!
//! ```text
//!             begin, durable before the call        Slack says ok
//!   pending ────────────────────────────► sending ────────────────► sent(ts)
//!      ▲  certainly not there                │ nobody knows: time-out, reset, 5xx, or our own death
//!      └─────────────────────────────────────┤
//!                                            ▼
//!                            look once for our reply_id ── there ──► sent(ts)
//!                              │ not there, or no way to look: send again (the latter counted as doubtful)
//! ```
//!
//! Slack has no idempotency key, so "exactly once" is not on offer; what is: a reply is never lost, is sent again only
//! after a doubt, carries `metadata.event_payload.reply_id` (the task's id), and every doubt is counted.
//!
//! Answers that do not concern Slack pass here too, by the thousand; they are acked without being decoded. Replies in one
//! channel go one after the other, those in different channels side by side. A reply that fails goes back to the bus's
//! retry ladder, and after it to the dead letters, from where an operator may replay it.
//!
//! The node's root runs it; when it ends with an error it is to be started again. What it held is handed out anew.

mod address;
mod errand;
mod pace;
mod text;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use troupe_runtime::bus::{self, Bus, Consumer, Delivery, QueueSpec};
use troupe_runtime::domain::answer::{Answered, Origin};
use troupe_runtime::domain::topic::{REPLY_QUEUE, reply_patterns};
use troupe_runtime::fault::{Fault, Faulty};
use troupe_runtime::live::Live;
use troupe_runtime::store::Replies;
use url::Url;

use self::address::{Address, ResponseHosts};
use self::errand::{Errand, Errands};
use self::pace::Pace;
use self::wire::Wire;
use super::SOURCE_PREFIX;

/// Sends answers to Slack.
pub struct ReplySender {
    bus: Arc<dyn Bus>,
    replies: Arc<dyn Replies>,
    options: ReplyOptions,
    stats: Arc<ReplyStats>,
    wire: Wire,
}

/// What the reply sender is told, and its limits.
#[derive(Debug, Clone)]
pub struct ReplyOptions {
    /// Where the Web API answers (`SLACK_API_BASE`); ends with a slash.
    pub api_base: Url,
    /// `SLACK_BOT_TOKEN` as it is now; without it only slash commands can be answered.
    pub bot_token: Live<Option<SecretString>>,
    /// `SLACK_RESPONSE_HOSTS`: hosts that a `response_url` may have; `*.` stands for any words before.
    pub response_hosts: Vec<String>,
    /// Replies that are sent side by side.
    pub in_flight_max: usize,
    /// Deliveries that are held, sent or waiting for their channel's turn.
    pub prefetch: usize,
    /// Tries before a delivery goes back to the bus.
    pub attempts_max: u32,
    /// Wait before the second try; doubles.
    pub backoff: Duration,
    /// Longest wait between two tries.
    pub backoff_max: Duration,
    /// Longest wait between two tries while the store does not answer.
    pub store_wait_max: Duration,
    /// How often the bus brings a failed delivery back ([`bus::Options::retry_ladder`]'s length).
    pub redeliveries_max: u32,
    /// Longest call.
    pub request_timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait that Slack may ask for.
    pub retry_after_max: Duration,
    /// Largest answer of Slack's that is read, in bytes.
    pub answer_bytes_max: usize,
    /// Pages of a thread that are looked through for an earlier try.
    pub pages_max: usize,
    /// Characters of a message; Slack cuts silently above 40,000.
    pub text_chars_max: usize,
}

impl ReplyOptions {
    /// The limits that suit Slack, for a Web API at this base.
    #[must_use]
    pub fn new(api_base: Url) -> Self {
        Self {
            api_base,
            bot_token: Live::default(),
            response_hosts: ["hooks.slack.com", "hooks.slack-gov.com", "*.slack.com"].map(str::to_owned).to_vec(),
            in_flight_max: 64,
            prefetch: 2_048,
            attempts_max: 4,
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(8),
            store_wait_max: Duration::from_secs(1),
            redeliveries_max: 5,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            retry_after_max: Duration::from_secs(300),
            answer_bytes_max: 8 * 1024 * 1024,
            pages_max: 5,
            text_chars_max: 39_000,
        }
    }
}

/// What the reply sender has done, for telemetry.
#[derive(Debug, Default)]
pub struct ReplyStats {
    /// Replies that are there.
    pub sent: AtomicU64,
    /// Messages sent although an earlier one may have arrived and could not be looked for.
    pub doubtful: AtomicU64,
    /// Doubts that were settled by finding the earlier message.
    pub reconciled: AtomicU64,
    /// Replies given up; each is a dead letter.
    pub given_up: AtomicU64,
    /// Deliveries that went back to the bus's retry ladder.
    pub retried: AtomicU64,
    /// 429s of Slack's.
    pub rate_limited: AtomicU64,
    /// Answers that did not concern Slack.
    pub passed: AtomicU64,
}

/// Why the reply sender cannot be made or has ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client cannot be made.
    #[error("the HTTP client for Slack cannot be made: {0}")]
    Client(String),
    /// The bus refused the queue.
    #[error("the reply queue: {0}")]
    Bus(#[from] bus::Error),
    /// The bus has ended the consumer.
    #[error("the bus has closed the reply queue; start the reply sender again")]
    Closed,
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Client(_) => Fault::Permanent,
            Self::Bus(error) => error.fault(),
            Self::Closed => Fault::transient(),
        }
    }
}

impl ReplySender {
    /// A sender between this bus and Slack.
    pub fn new(bus: Arc<dyn Bus>, replies: Arc<dyn Replies>, options: ReplyOptions) -> Result<Self, Error> {
        let wire = Wire::new(&options).map_err(|error| Error::Client(error.without_url().to_string()))?;
        Ok(Self { bus, replies, options, stats: Arc::default(), wire })
    }

    /// The same, counting into `stats`: one count over all lives of a sender.
    #[must_use]
    pub fn counting_in(self, stats: Arc<ReplyStats>) -> Self {
        Self { stats, ..self }
    }

    /// What it has done so far; stays readable when the sender is gone.
    #[must_use]
    pub fn stats(&self) -> Arc<ReplyStats> {
        Arc::clone(&self.stats)
    }

    /// Sends until `drain` is cancelled; then calls under way are finished and everything else goes back to the bus.
    pub async fn run(self, drain: CancellationToken) -> Result<(), Error> {
        let queue =
            QueueSpec { name: REPLY_QUEUE.to_owned(), bindings: reply_patterns(), single_active_consumer: false };
        bus::Error::unless_deferred(self.bus.declare(queue).await)?;
        let consumer = self.bus.consume(REPLY_QUEUE, self.options.prefetch).await?;
        let hosts = ResponseHosts(self.options.response_hosts.clone());
        let in_flight_max = self.options.in_flight_max.max(1);
        let errands = Errands {
            replies: self.replies,
            wire: self.wire,
            pace: Pace::default(),
            stats: Arc::clone(&self.stats),
            options: self.options,
            drain: drain.clone(),
        };
        let lanes = Lanes::new(Arc::new(errands), in_flight_max);
        Loop { consumer, hosts, stats: self.stats, lanes }.run(&drain).await
    }
}

/// The receiving side: sorts deliveries into lanes.
struct Loop {
    consumer: Consumer,
    hosts: ResponseHosts,
    stats: Arc<ReplyStats>,
    lanes: Lanes,
}

/// Deliveries taken at once.
const BATCH: usize = 256;

impl Loop {
    async fn run(mut self, drain: &CancellationToken) -> Result<(), Error> {
        let ended = loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => break Ok(()),
                () = self.lanes.one_done() => {}
                batch = self.consumer.next(BATCH) => {
                    if batch.is_empty() {
                        break Err(Error::Closed);
                    }
                    for delivery in batch {
                        self.sort(delivery).await;
                    }
                }
            }
        };
        self.lanes.finish().await;
        ended
    }

    /// Acks what is not for Slack, rejects what cannot be sent, and lines the rest up.
    async fn sort(&mut self, delivery: Delivery) {
        let ours = Origin::source_in(&delivery.event.data).is_some_and(|source| source.starts_with(SOURCE_PREFIX));
        let answer = if ours { delivery.event.data.read::<Answered>().map(Some) } else { Ok(None) };
        let addressed = match answer {
            Ok(None) => None,
            Ok(Some(answer)) => match Address::of(&answer, &self.hosts) {
                None => None,
                Some(Ok(address)) => Some((answer, address)),
                Some(Err(error)) => return self.refuse(delivery, &error.to_string()).await,
            },
            Err(error) => return self.refuse(delivery, &format!("no answer that can be read: {error}")).await,
        };
        match addressed {
            None => {
                self.stats.passed.fetch_add(1, Ordering::Relaxed);
                delivery.settle.ack();
            }
            Some((answer, address)) => self.lanes.line_up(Errand { delivery, answer, address }),
        }
    }

    async fn refuse(&self, delivery: Delivery, cause: &str) {
        self.stats.given_up.fetch_add(1, Ordering::Relaxed);
        let trace_id = delivery.event.traceparent.trace_id().to_owned();
        tracing::error!(component = "slack", trace_id, event_id = %delivery.event.id, cause, "a reply cannot be sent");
        if let Err(error) = delivery.settle.reject(cause).await {
            tracing::error!(component = "slack", trace_id, %error, "the bus did not take a dead letter");
        }
    }
}

/// Workspace and channel.
type LaneKey = (String, String);

/// One line of errands per channel; the first of each is being run, at most so many at once.
struct Lanes {
    errands: Arc<Errands>,
    in_flight_max: usize,
    /// What waits behind the errand that is being run, or before any is.
    waiting: HashMap<LaneKey, VecDeque<Errand>>,
    /// Lanes with something waiting and nothing being run, in the order in which they became so.
    ready: VecDeque<LaneKey>,
    running: JoinSet<()>,
    keys: HashMap<Id, LaneKey>,
}

impl Lanes {
    fn new(errands: Arc<Errands>, in_flight_max: usize) -> Self {
        Self {
            errands,
            in_flight_max,
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            running: JoinSet::new(),
            keys: HashMap::new(),
        }
    }

    fn line_up(&mut self, errand: Errand) {
        let key = (errand.address.team.clone(), errand.address.channel.clone());
        // A lane that is in the map is ready or being run already.
        if !self.waiting.contains_key(&key) {
            self.ready.push_back(key.clone());
        }
        self.waiting.entry(key).or_default().push_back(errand);
        self.start();
    }

    fn start(&mut self) {
        while self.running.len() < self.in_flight_max {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(errand) = self.waiting.get_mut(&key).and_then(VecDeque::pop_front) else {
                self.waiting.remove(&key);
                continue;
            };
            let errands = Arc::clone(&self.errands);
            // Owned by the set; an errand that panics drops its delivery, which the bus hands out again.
            let handle = self.running.spawn(async move { errands.run(errand).await });
            self.keys.insert(handle.id(), key);
        }
    }

    /// Waits for one errand to end (for ever when none runs) and starts the next of its lane.
    async fn one_done(&mut self) {
        let id = match self.running.join_next_with_id().await {
            None => return std::future::pending().await,
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => {
                tracing::error!(component = "slack", %error, "a reply's errand has ended in a panic");
                error.id()
            }
        };
        if let Some(key) = self.keys.remove(&id) {
            if self.waiting.get(&key).is_some_and(|lane| !lane.is_empty()) {
                self.ready.push_back(key);
            } else {
                self.waiting.remove(&key);
            }
        }
        self.start();
    }

    /// Lets what runs end; what waits goes back to the bus.
    async fn finish(mut self) {
        self.waiting.clear();
        while self.running.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
