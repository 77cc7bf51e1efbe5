//! The bus in RabbitMQ, from 3.10 on: quorum queues, publisher confirms, a ladder of queues with a TTL.
//!
//! ```text
//! publish ─► [troupe.events] ─bindings─► agent.input.<agent> ─► intake ─► shelf ─► delivery ─┬─ ack
//!                                              ▲                                             ├─ retry ─► [troupe.retry.<n>ms]
//!                                              └───────────── TTL over ───────────────────────────────────────┘
//!                                                                      troupe.dlq (stream) ◄─┴─ used up, rejected, buried
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | [`link`], [`links`] | a connection that is kept up; one publishes, one does the rest, more consume where there are very many queues |
//! | [`publisher`] | many events under way, each confirmed to its caller |
//! | [`intake`], [`shelf`], [`acks`] | a queue's consumer; what it holds, best first; how it acknowledges |
//! | [`delivery`] | what becomes of one hand-over |
//! | [`log`], [`bindings`], [`letters`] | streams that every node reads: what AMQP cannot be asked for |
//! | [`room`] | limits of queues |
//! | [`declaring`], [`publishing`], [`standing`] | what the bus is asked to do |
//! | [`topology`], [`wire`] | names and arguments; events as messages, errors as ours |
//!
//! Opening needs no broker: it is connected to in the background, and again whenever it is lost. While it is away, what is asked
//! is answered with [`Error::Unavailable`] within its own limit, declarations are kept in mind, and consumers wait. Delivery is at
//! least once: after a lost connection, whatever was not acknowledged comes again. Opened by [`crate::ports`].

mod acks;
mod bindings;
mod declaring;
mod delivery;
mod intake;
mod letters;
mod link;
mod links;
mod log;
mod open;
mod publisher;
mod publishing;
mod returned;
mod room;
mod shelf;
mod standing;
mod topology;
mod wire;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lapin::Channel;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::bindings::Bindings;
use self::declaring::Wanted;
use self::intake::Intake;
use self::letters::Letters;
use self::link::{Link, Target};
use self::links::Links;
use self::log::Log;
pub use self::open::{OpenError, Options, backoff};
use self::publisher::Publisher;
use self::room::{Rooms, Waits};
use super::handing::{Handing, way};
use super::{Bus, Consumer, DeadLetter, Error, Health, PREFETCH_MAX, QueueSpec, Routing, detached};
use crate::domain::event::Event;

/// How long a task waits after the broker refused, at first and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Queues that are asked side by side how they stand.
const ASKED_AT_ONCE: usize = 16;
/// Queues that are declared side by side.
const DECLARED_AT_ONCE: usize = 16;

/// The bus in RabbitMQ.
pub struct RabbitBus {
    inner: Arc<Inner>,
}

/// What the bus shares with its consumers, deliveries and tasks.
struct Inner {
    options: Options,
    place: String,
    target: Target,
    /// Declares and asks; the first that consumes.
    work: Arc<Link>,
    /// All that consume.
    links: Links,
    /// Publishes.
    out: Arc<Link>,
    publisher: Arc<Publisher>,
    bindings: Arc<Log<Bindings>>,
    letters: Arc<Log<Letters>>,
    /// What every node needs is there.
    made: watch::Sender<bool>,
    /// What was declared here, the last word on each queue; and one declaration of a queue at a time.
    wanted: Mutex<HashMap<String, Wanted>>,
    /// How many of them wait for the broker.
    deferred: AtomicUsize,
    declaring: Semaphore,
    intakes: Mutex<HashMap<String, Arc<Intake>>>,
    rooms: Rooms,
    waits: Waits,
    unroutable: AtomicU64,
    closed: CancellationToken,
    /// The connections are closed after those who use them.
    hung_up: CancellationToken,
    tasks: TaskTracker,
    consuming: TaskTracker,
}

impl RabbitBus {
    /// Settles what was acknowledged, ends every consumer and closes the connections. Publishing is refused from now on.
    pub async fn close(&self) {
        self.inner.stop();
        self.inner.tasks.wait().await;
    }
}

impl Drop for RabbitBus {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

#[async_trait]
impl Bus for RabbitBus {
    async fn declare(&self, queue: QueueSpec) -> Result<(), Error> {
        self.inner.refuse_closed()?;
        let inner = self.inner.clone();
        detached(async move { inner.declare(queue).await }).await
    }

    async fn remove_queue(&self, queue: &str) -> Result<(), Error> {
        self.inner.refuse_closed()?;
        let (inner, queue) = (self.inner.clone(), queue.to_owned());
        detached(async move { inner.remove(&queue).await }).await
    }

    async fn publish(&self, event: Arc<Event>, routing: Routing) -> Result<usize, Error> {
        self.inner.refuse_closed()?;
        self.inner.confirmed_in_time(self.inner.publish(&event, routing)).await
    }

    async fn send(&self, queue: &str, event: Arc<Event>) -> Result<(), Error> {
        self.inner.refuse_closed()?;
        self.inner.confirmed_in_time(self.inner.send(queue, &event)).await
    }

    async fn consume(&self, queue: &str, prefetch: usize) -> Result<Consumer, Error> {
        self.inner.refuse_closed()?;
        let single_active = self.inner.single_active(queue).await?;
        let prefetch = prefetch.clamp(1, PREFETCH_MAX);
        let (handing, deliveries) = way();
        let (intake, consumer) = self.inner.join(queue, single_active, handing, prefetch);
        Ok(Consumer { deliveries, guard: Box::new(Guard { intake, consumer }) })
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), Error> {
        self.inner.refuse_closed()?;
        self.inner.letters.bury(letter).await
    }

    async fn dead_letters(&self, limit: usize, before: Option<&str>) -> Result<Vec<DeadLetter>, Error> {
        self.inner.letters.list(limit, before).await
    }

    async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>, Error> {
        self.inner.letters.one(id).await
    }

    /// Two acts here, for AMQP has no transaction over a queue and a stream: a crash in between leaves the letter, and a
    /// second replay is a second event.
    async fn replay(&self, id: &str) -> Result<Option<Event>, Error> {
        self.inner.refuse_closed()?;
        let Some(letter) = self.inner.letters.one(id).await? else { return Ok(None) };
        let (inner, id) = (self.inner.clone(), id.to_owned());
        detached(async move {
            let event = Arc::new(letter.event.again());
            inner.send(&letter.queue, &event).await?;
            inner.letters.purge(&id).await?;
            Ok(Some(Event::clone(&event)))
        })
        .await
    }

    async fn purge(&self, id: &str) -> Result<bool, Error> {
        self.inner.refuse_closed()?;
        self.inner.letters.purge(id).await
    }

    async fn health(&self) -> Result<Health, Error> {
        Ok(self.inner.health().await)
    }
}

/// Ends a consumer when it is dropped.
struct Guard {
    intake: Arc<Intake>,
    consumer: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.intake.part(self.consumer);
    }
}

impl Inner {
    fn refuse_closed(&self) -> Result<(), Error> {
        if self.closed.is_cancelled() { Err(Error::Unavailable("the bus is closed".to_owned())) } else { Ok(()) }
    }

    fn stop(&self) {
        self.closed.cancel();
        for intake in self.intakes(|intakes| intakes.values().cloned().collect::<Vec<_>>()) {
            intake.dismiss();
        }
    }

    fn intakes<T>(&self, act: impl FnOnce(&mut HashMap<String, Arc<Intake>>) -> T) -> T {
        act(&mut self.intakes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wanted<T>(&self, act: impl FnOnce(&mut HashMap<String, Wanted>) -> T) -> T {
        act(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Within the time that an answer may take.
    async fn in_time<T>(&self, what: &str, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let limit = self.options.answer_timeout;
        let late = || Error::Unavailable(format!("{}: no answer for {what} within {limit:?}", self.place));
        timeout(limit, asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// A channel to ask on, once what every node needs is there.
    async fn channel(&self) -> Result<Channel, Error> {
        let channel = self.work.channel().await?;
        let mut made = self.made.subscribe();
        made.wait_for(|made| *made).await.map_err(|_| Error::Unavailable("the bus is closed".to_owned()))?;
        Ok(channel)
    }
}

/// Consuming.
impl Inner {
    /// Whether the queue serves one consumer at a time.
    async fn single_active(&self, queue: &str) -> Result<bool, Error> {
        if let Some(wanted) = self.wanted(|wanted| wanted.get(queue).map(|w| w.spec.single_active_consumer)) {
            return Ok(wanted);
        }
        self.bindings.caught_up().await?;
        let known = self.bindings.with(|bindings| bindings.known(queue).map(|known| known.declared.single_active));
        known.ok_or_else(|| Error::NoQueue(queue.to_owned()))
    }

    /// Serves one more consumer of a queue.
    fn join(self: &Arc<Self>, queue: &str, single_active: bool, way: Handing, prefetch: usize) -> (Arc<Intake>, u64) {
        self.intakes(|intakes| {
            let intake = intakes.entry(queue.to_owned()).or_insert_with(|| {
                let seat = self.links.seat(|| self.another_link());
                let (intake, orders) = Intake::new(self.clone(), seat, queue, single_active);
                self.consuming.spawn(intake.clone().run(orders));
                intake
            });
            let consumer = intake.join(way, prefetch);
            (intake.clone(), consumer)
        })
    }

    /// One more connection that consumes.
    fn another_link(&self) -> Arc<Link> {
        let link = Link::new(self.place.clone());
        let keeping = link.clone().keep(self.target.clone(), self.options.clone(), "consumes", self.hung_up.clone());
        self.tasks.spawn(keeping);
        link
    }

    /// Forgets an intake when nobody consumes there; whether it did.
    fn forget_idle(&self, intake: &Arc<Intake>) -> bool {
        self.intakes(|intakes| {
            let idle = intake.is_idle();
            if idle {
                intakes.retain(|_, other| !Arc::ptr_eq(other, intake));
            }
            idle
        })
    }

    /// Forgets an intake that is over.
    fn forget(&self, intake: &Arc<Intake>) {
        self.intakes(|intakes| intakes.retain(|_, other| !Arc::ptr_eq(other, intake)));
    }
}
