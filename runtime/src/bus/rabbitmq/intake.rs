//! The consuming end of one queue: one channel and one consumer in the broker, however many there are here.
//!
//! Its task is started when the first consumer joins and ends a while after the last one has left. It takes what the broker
//! hands over, puts it on the [shelf](super::shelf), and is the only one that acknowledges. A channel or connection that is
//! lost is its to replace: whatever came over it is forgotten, for the broker hands it out again, and consumers wait. A queue
//! that was deleted is made again as it was declared; one that was removed is the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery as Message;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::acks::{Acks, Tags};
use super::links::Seat;
use super::shelf::{Held, Shelf};
use super::{Inner, PAUSE_FIRST, PAUSE_MAX, topology, wire};
use crate::bus::handing::Handing;
use crate::bus::place::Aging;
use crate::bus::{DeadLetter, Error};

/// Orders that are carried out at once.
const ORDERS_AT_ONCE: usize = 4096;
/// Distance between two looks while the beginning is gathered.
const GATHER_EVERY: Duration = Duration::from_millis(2);

/// The consuming end of one queue.
pub(super) struct Intake {
    bus: Arc<Inner>,
    seat: Seat,
    queue: String,
    shelf: Mutex<Shelf>,
    orders: mpsc::UnboundedSender<Order>,
    /// Somebody has joined or left.
    stir: Notify,
    /// Since when nobody is served.
    idle_since: Mutex<Instant>,
    /// A look at the broker has been ordered.
    looking: AtomicBool,
    /// The task has ended, and its channel with it.
    ended: CancellationToken,
}

/// What the task is to do with its channel.
pub(super) enum Order {
    /// Acknowledge this tag of this life.
    Ack { life: u64, tag: u64 },
    /// Wait until everything that the broker has handed over is here.
    Look,
    /// The same, and tell how it stands.
    Measure(oneshot::Sender<Measured>),
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    /// Events that the broker could hand over.
    pub(super) ready: u64,
    /// Events that are here.
    pub(super) held: u64,
}

/// Why a channel was left.
enum End {
    /// The bus is closed, or nobody consumes any more.
    Over,
    Lost(Error),
}

impl Intake {
    /// An intake, and its orders for [`Intake::run`].
    pub(super) fn new(
        bus: Arc<Inner>,
        seat: Seat,
        queue: &str,
        single: bool,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Order>) {
        let (orders, receiver) = mpsc::unbounded_channel();
        let aging = Aging::new(bus.options.bus.aging);
        let intake = Self {
            bus,
            seat,
            queue: queue.to_owned(),
            shelf: Mutex::new(Shelf::new(single, aging)),
            orders,
            stir: Notify::new(),
            idle_since: Mutex::new(Instant::now()),
            looking: AtomicBool::new(false),
            ended: CancellationToken::new(),
        };
        (Arc::new(intake), receiver)
    }

    pub(super) fn queue(&self) -> &str {
        &self.queue
    }

    pub(super) const fn bus(&self) -> &Arc<Inner> {
        &self.bus
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the shelf, then hands out what can be handed out.
    pub(super) fn at<T>(self: &Arc<Self>, act: impl FnOnce(&mut Shelf) -> T) -> T {
        let mut locked = self.shelf();
        let answer = act(&mut locked);
        let gone = locked.hand_over(self);
        let wants_look = !locked.awaited().is_empty();
        drop(locked);
        drop(gone);
        if wants_look && !self.looking.swap(true, Ordering::AcqRel) {
            self.orders.send(Order::Look).ok();
        }
        answer
    }

    /// Serves one more consumer; answers its number.
    pub(super) fn join(self: &Arc<Self>, way: Handing, prefetch: usize) -> u64 {
        let consumer = self.at(|shelf| shelf.join(way, prefetch));
        self.stir.notify_one();
        consumer
    }

    /// A consumer is gone.
    pub(super) fn part(self: &Arc<Self>, consumer: u64) {
        let gone = self.at(|shelf| shelf.part(consumer));
        drop(gone);
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.stir.notify_one();
    }

    /// Consumers see the end.
    pub(super) fn dismiss(&self) {
        let gone = self.shelf().dismiss();
        drop(gone);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.shelf().is_idle()
    }

    /// An event is done: its consumer gets its next one, the broker hears of it.
    pub(super) fn acknowledge(self: &Arc<Self>, (seq, token): (i64, u64), life: u64, tag: u64) {
        // An error means that the task is over, and with it the channel: the event is handed out again.
        self.orders.send(Order::Ack { life, tag }).ok();
        self.at(|shelf| shelf.settled(seq, token));
    }

    /// Ends now, when nobody is served here, and not after a while; answers once the channel is closed, or somebody has joined.
    pub(super) async fn linger_no_more(&self) {
        let long_ago = Instant::now().checked_sub(self.bus.options.linger);
        while self.is_idle() && !self.ended.is_cancelled() {
            if let Some(long_ago) = long_ago {
                *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = long_ago;
            }
            self.stir.notify_one();
            tokio::time::timeout(PAUSE_FIRST, self.ended.cancelled()).await.ok();
        }
    }

    /// Hands an event out again, after a while.
    pub(super) fn put_back_later(self: Arc<Self>, seq: i64, token: u64, wait: Duration) {
        tokio::spawn(async move {
            if self.bus.closed.run_until_cancelled(sleep(wait)).await.is_some() {
                self.at(|shelf| shelf.put_back(seq, token));
            }
        });
    }

    /// How the queue stands; `None` when there is no channel to ask on.
    pub(super) async fn measure(&self) -> Option<Measured> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Measure(reply)).ok()?;
        answer.await.ok()
    }

    /// Consumes until the bus closes, or nobody has consumed here for a while.
    pub(super) async fn run(self: Arc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut pause = PAUSE_FIRST;
        loop {
            let Some(connection) = self.connection(&mut orders).await else { break };
            let begun = Instant::now();
            let end = self.live(&connection, &mut orders).await;
            let forgotten = self.shelf().lose();
            drop(forgotten);
            let End::Lost(error) = end else { break };
            tracing::warn!(queue = self.queue, %error, "the channel of a queue is lost; it is opened anew");
            if let Error::NoQueue(_) = error
                && let Err(error) = self.bus.make_again(&self.queue).await
            {
                // Nobody knows of it any more: it was removed, and whoever consumes it sees the end.
                if let Error::NoQueue(_) = error {
                    break;
                }
                tracing::warn!(queue = self.queue, %error, "the queue is gone, or not there yet");
            }
            pause = if begun.elapsed() > PAUSE_MAX { PAUSE_FIRST } else { (pause * 2).min(PAUSE_MAX) };
            if self.bus.closed.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        self.dismiss();
        self.bus.forget(&self);
        self.ended.cancel();
    }

    /// Waits for a connection; what is ordered meanwhile cannot be done. `None` when it is over.
    async fn connection(
        self: &Arc<Self>,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> Option<Arc<lapin::Connection>> {
        let coming = self.seat.link.some_day(&self.bus.closed);
        tokio::pin!(coming);
        loop {
            tokio::select! {
                connection = &mut coming => return connection,
                order = orders.recv() => {
                    if matches!(order?, Order::Look) {
                        self.looking.store(false, Ordering::Release);
                    }
                }
                () = self.idle_for_long() => return None,
            }
        }
    }

    /// Ends when nobody has consumed for [`linger`](super::Options::linger), and nobody will any more.
    async fn idle_for_long(self: &Arc<Self>) {
        loop {
            if !self.is_idle() {
                self.stir.notified().await;
                continue;
            }
            let since = *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
            tokio::select! {
                () = sleep_until(since + self.bus.options.linger) => {
                    if self.bus.forget_idle(self) {
                        return;
                    }
                }
                () = self.stir.notified() => {}
            }
        }
    }

    /// One life of the channel.
    async fn live(
        self: &Arc<Self>,
        connection: &Arc<lapin::Connection>,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> End {
        let life = async {
            let mut life = Life::begin(self, connection).await?;
            life.serve(orders).await?;
            life.channel.close(200, "over".into()).await.ok();
            Ok(())
        };
        let ended = tokio::select! {
            ended = life => ended,
            error = self.seat.link.until_lost(connection) => Err(error),
        };
        ended.map_or_else(End::Lost, |()| End::Over)
    }
}

/// One life of the channel.
struct Life<'a> {
    intake: &'a Arc<Intake>,
    channel: Channel,
    messages: Consumer,
    tags: Tags,
    number: u64,
}

impl<'a> Life<'a> {
    async fn begin(intake: &'a Arc<Intake>, connection: &lapin::Connection) -> Result<Self, Error> {
        let queue = intake.queue.as_str();
        let refused = |error: lapin::Error| wire::refused(&error, queue);
        let channel = connection.create_channel().await.map_err(refused)?;
        channel.basic_qos(intake.bus.options.lookahead, BasicQosOptions::default()).await.map_err(refused)?;
        let number = intake.shelf().begin();
        let options = BasicConsumeOptions::default();
        let messages = channel
            .basic_consume(wire::name(queue)?, "".into(), options, FieldTable::default())
            .await
            .map_err(refused)?;
        Ok(Self { intake, channel, messages, tags: Tags::default(), number })
    }

    async fn serve(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Result<(), Error> {
        self.gather().await?;
        let mut taken = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = self.intake.bus.closed.cancelled() => break,
                there = orders.recv_many(&mut taken, ORDERS_AT_ONCE) => {
                    if there == 0 {
                        break;
                    }
                    self.obey(&mut taken).await?;
                }
                message = self.messages.next() => {
                    self.take(message)?;
                    self.take_all()?;
                    self.intake.at(|_| ());
                }
                () = self.intake.idle_for_long() => break,
            }
        }
        while let Ok(order) = orders.try_recv() {
            taken.push(order);
        }
        self.obey(&mut taken).await
    }

    /// Takes what was there at the beginning, before anything is handed out: the best may be the last of it.
    async fn gather(&mut self) -> Result<(), Error> {
        let lookahead = usize::from(self.intake.bus.options.lookahead);
        let until = Instant::now() + self.intake.bus.options.gather_timeout;
        while self.look().await? > 0 && self.intake.shelf().held() < lookahead && Instant::now() < until {
            sleep(GATHER_EVERY).await;
        }
        self.intake.at(Shelf::gathered);
        Ok(())
    }

    /// Waits until everything is here that the broker has handed over; answers what it could hand over beside that.
    ///
    /// The first answer may overtake deliveries inside the broker's channel, the second one cannot.
    async fn look(&mut self) -> Result<u64, Error> {
        topology::ready(&self.channel, &self.intake.queue).await?;
        let ready = topology::ready(&self.channel, &self.intake.queue).await?;
        self.take_all()?;
        Ok(ready)
    }

    async fn obey(&mut self, orders: &mut Vec<Order>) -> Result<(), Error> {
        let (mut done, mut look, mut asked) = (Vec::new(), false, Vec::new());
        for order in orders.drain(..) {
            match order {
                Order::Ack { life, tag } if life == self.number => done.push(tag),
                // Of an earlier channel: the broker has handed it out again.
                Order::Ack { .. } => {}
                Order::Look => look = true,
                Order::Measure(reply) => asked.push(reply),
            }
        }
        self.acknowledge(done).await?;
        if !look && asked.is_empty() {
            return Ok(());
        }
        if look {
            self.intake.looking.store(false, Ordering::Release);
        }
        let awaited = self.intake.shelf().awaited();
        let ready = self.look().await?;
        let held = self.intake.at(|shelf| {
            shelf.nothing_is_on_the_way(&awaited);
            shelf.held() as u64
        });
        for reply in asked {
            reply.send(Measured { ready, held }).ok();
        }
        Ok(())
    }

    async fn acknowledge(&mut self, done: Vec<u64>) -> Result<(), Error> {
        let Acks { up_to, single } = self.tags.done(done);
        let all = up_to.map(|tag| (tag, true)).into_iter().chain(single.into_iter().map(|tag| (tag, false)));
        for (tag, multiple) in all {
            let sent = self.channel.basic_ack(tag, BasicAckOptions { multiple }).await;
            sent.map_err(|error| wire::refused(&error, &self.intake.queue))?;
        }
        Ok(())
    }

    /// Takes all that have arrived.
    fn take_all(&mut self) -> Result<(), Error> {
        while let Some(message) = self.messages.next().now_or_never() {
            self.take(message)?;
        }
        Ok(())
    }

    fn take(&mut self, message: Option<Result<Message, lapin::Error>>) -> Result<(), Error> {
        let queue = &self.intake.queue;
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(wire::refused(&error, queue)),
            // The broker has ended the consumer: its queue was deleted, or moves.
            None => return Err(Error::NoQueue(queue.clone())),
        };
        let (properties, tag) = (&message.properties, message.delivery_tag);
        self.tags.came(tag);
        let past = wire::past(properties);
        match wire::event(properties, message.routing_key.as_str(), &message.data) {
            Ok(event) => {
                let held = Held { event, past, tag, redelivered: message.redelivered };
                self.intake.shelf().put(held);
            }
            Err(unreadable) => {
                let letter = DeadLetter {
                    id: format!("{queue}-{}", unreadable.event.id),
                    queue: queue.clone(),
                    event: unreadable.event,
                    cause: "unreadable".to_owned(),
                    attempts: past.retrycount.saturating_add(1),
                    first_error: unreadable.error.clone(),
                    last_error: unreadable.error,
                    at: chrono::Utc::now(),
                };
                self.bury(letter, tag);
            }
        }
        Ok(())
    }

    /// Makes a dead letter of a message that nobody could be given; it is acknowledged once that is durable.
    fn bury(&self, letter: DeadLetter, tag: u64) {
        let (intake, life) = (self.intake.clone(), self.number);
        tokio::spawn(async move {
            let mut pause = PAUSE_FIRST;
            while let Err(error) = intake.bus.letters.bury(letter.clone()).await {
                tracing::warn!(queue = intake.queue, %error, "a message that is no event waits for its dead letter");
                if intake.bus.closed.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
                pause = (pause * 2).min(PAUSE_MAX);
            }
            intake.orders.send(Order::Ack { life, tag }).ok();
        });
    }
}
