//! The publishing end: many events under way on one channel, each confirmed to its own caller.
//!
//! Events go out in the order in which their callers came; confirms are awaited side by side, at most a window of them. What the
//! broker has confirmed is durable. When the channel or the connection is lost, every event without its confirm is in doubt:
//! its caller is told so and publishes again, and whoever accepts knows the id. Nothing is sent again here.
//!
//! Callers: the bus (events), its deliveries (the ladder), its streams (entries). A caller that gives up before its event went
//! out takes it back; one that gives up later leaves open what became of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::link::{Link, State};
use super::returned::{Identity, Returned};
use super::{Options, wire};
use crate::bus::Error;

/// What became of a message that the broker has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Durable in every queue that it was routed to.
    Taken,
    /// Mandatory, and no queue wants it.
    Returned,
}

/// A message on its way out.
pub(super) struct Outgoing {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) mandatory: bool,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

impl Outgoing {
    /// What it can be known by when it comes back.
    fn identity(&self) -> Result<Identity, Error> {
        let (exchange, routing_key) = (wire::exchange(&self.exchange)?, wire::name(&self.routing_key)?);
        Ok(Identity::new(exchange, routing_key, self.properties.message_id().clone()))
    }
}

struct Job {
    message: Outgoing,
    reply: oneshot::Sender<Result<Fate, Error>>,
    /// Counts until the message itself is done with, whether its caller still waits or not.
    place: Waiting,
}

/// The callers' side.
pub(super) struct Publisher {
    link: Arc<Link>,
    jobs: mpsc::UnboundedSender<Job>,
    waiting: Arc<AtomicUsize>,
    options: Options,
}

/// The task's side.
pub(super) struct Outbound {
    link: Arc<Link>,
    jobs: mpsc::UnboundedReceiver<Job>,
    window: usize,
}

impl Publisher {
    pub(super) fn new(link: Arc<Link>, options: Options) -> (Self, Outbound) {
        let (jobs, receiver) = mpsc::unbounded_channel();
        let window = options.publish_window.max(1);
        let outbound = Outbound { link: link.clone(), jobs: receiver, window };
        (Self { link, jobs, waiting: Arc::default(), options }, outbound)
    }

    /// Takes a message, here and now, and with it its place in the order. What comes back answers once the broker has confirmed; it is
    /// small, for there may be a window of those who wait for it.
    pub(super) fn publish(&self, message: Outgoing) -> impl Future<Output = Result<Fate, Error>> + Send + use<> {
        let (taken, limit) = (self.take(message), self.options.publish_timeout);
        async move {
            match tokio::time::timeout(limit, taken?).await {
                // Nobody is left who could tell.
                Ok(answer) => answer.unwrap_or_else(|_| Err(lost())),
                Err(_) => Err(unconfirmed(limit)),
            }
        }
    }

    fn take(&self, message: Outgoing) -> Result<oneshot::Receiver<Result<Fate, Error>>, Error> {
        self.link.refuse_hopeless()?;
        let place = Waiting::take(&self.waiting, self.options.publishes_max)?;
        let (reply, answer) = oneshot::channel();
        let closed = || Error::Unavailable("the bus is closed".to_owned());
        self.jobs.send(Job { message, reply, place }).map_err(|_| closed())?;
        Ok(answer)
    }
}

/// What a caller is told whose event's channel has gone.
fn lost() -> Error {
    Error::Unavailable("the channel to the broker was lost, the event may be there".to_owned())
}

/// What a caller is told whose time is over.
pub(super) fn unconfirmed(limit: Duration) -> Error {
    Error::Unavailable(format!(
        "the broker has not confirmed within rabbitmq.publish_timeout = {limit:?}; the event may be there"
    ))
}

/// A message that waits or is under way, counted while it is.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn take(waiting: &Arc<AtomicUsize>, max: usize) -> Result<Self, Error> {
        let place = Self(waiting.clone());
        if waiting.fetch_add(1, Ordering::Relaxed) >= max {
            return Err(Error::Unavailable(format!("rabbitmq.publishes_max = {max} events are under way")));
        }
        Ok(place)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message whose confirm is awaited.
type UnderWay = BoxFuture<'static, Answered>;

/// A message that the broker has answered, or never will; its caller does not know yet.
struct Answered {
    identity: Identity,
    answer: Result<Confirmation, Error>,
    reply: oneshot::Sender<Result<Fate, Error>>,
    place: Waiting,
}

impl Answered {
    /// Tells the caller.
    fn tell(self, returned: &mut Returned) {
        let Self { identity, answer, reply, place } = self;
        let came_back = returned.claim(&identity);
        let fate = match answer {
            Ok(Confirmation::Ack(_)) if came_back => Ok(Fate::Returned),
            Ok(Confirmation::Ack(_)) => Ok(Fate::Taken),
            Ok(Confirmation::Nack(_)) => {
                Err(Error::Unavailable(format!("the broker refused an event for {}", identity.routing_key)))
            }
            Ok(Confirmation::NotRequested) => Err(Error::Internal("the channel confirms nothing".to_owned())),
            Err(error) => Err(error),
        };
        // Whoever hears of it may publish the next at once.
        drop(place);
        reply.send(fate).ok();
    }
}

impl Outbound {
    /// Publishes until the bus closes.
    pub(super) async fn run(mut self, closed: CancellationToken) {
        let mut states = self.link.watch();
        loop {
            let connection = match &*states.borrow_and_update() {
                State::Up(connection) => Some(connection.clone()),
                State::Away(error) => {
                    self.refuse_waiting(error);
                    None
                }
                State::Connecting => None,
            };
            let lasted = match connection {
                Some(connection) => {
                    let link = self.link.clone();
                    tokio::select! {
                        () = closed.cancelled() => None,
                        () = self.serve(&connection) => Some(()),
                        // Everything under way is dropped, which its callers see.
                        _ = link.until_lost(&connection) => Some(()),
                    }
                }
                None => Some(()),
            };
            let changed = async {
                tokio::select! {
                    changed = states.changed() => changed.is_ok(),
                    // A channel alone was lost: a new one, but not as fast as it can be lost.
                    () = tokio::time::sleep(super::PAUSE_FIRST) => true,
                }
            };
            if lasted.is_none() || closed.run_until_cancelled(changed).await != Some(true) {
                return;
            }
        }
    }

    /// Tells those who wait that nothing goes out.
    fn refuse_waiting(&mut self, error: &str) {
        while let Ok(job) = self.jobs.try_recv() {
            job.reply.send(Err(Error::Unavailable(format!("the broker is away: {error}")))).ok();
        }
    }

    /// Publishes on a channel of this connection until it is lost; then everything under way is answered.
    async fn serve(&mut self, connection: &lapin::Connection) {
        let channel = match open(connection).await {
            Ok(channel) => channel,
            Err(error) => {
                tracing::warn!(%error, "no channel to publish on");
                return;
            }
        };
        let mut under_way: FuturesUnordered<UnderWay> = FuturesUnordered::new();
        let mut returned = Returned::default();
        let mut taken = VecDeque::new();
        let mut batch = Vec::new();
        let mut look = tokio::time::interval(super::PAUSE_FIRST);
        loop {
            while under_way.len() < self.window
                && let Some(job) = taken.pop_front()
            {
                under_way.extend(begin(&channel, job));
            }
            if !channel.status().connected() {
                break;
            }
            tokio::select! {
                biased;
                Some(first) = under_way.next(), if !under_way.is_empty() => {
                    tell(all_answered(&channel, first, &mut under_way), &mut returned);
                }
                there = self.jobs.recv_many(&mut batch, self.window), if taken.is_empty() => {
                    if there == 0 {
                        break;
                    }
                    taken.extend(batch.drain(..));
                }
                _ = look.tick() => {}
            }
        }
        // The channel's end is the answer to each of them that has one by now; the others' callers see them dropped.
        if let Some(Some(first)) = under_way.next().now_or_never() {
            tell(all_answered(&channel, first, &mut under_way), &mut returned);
        }
    }
}

async fn open(connection: &lapin::Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Sends a message, here and now, and answers what is left to await; `None` when its caller has gone.
fn begin(channel: &Channel, job: Job) -> Option<UnderWay> {
    let Job { message, reply, place } = job;
    if reply.is_closed() {
        return None;
    }
    let identity = match message.identity() {
        Ok(identity) => identity,
        Err(error) => {
            reply.send(Err(error)).ok();
            return None;
        }
    };
    let mut sending = send(channel.clone(), &identity, message).boxed();
    // The first poll hands its frames over; so they leave in the order in which they came. What is left to await is small, and
    // there may be a window of them.
    let sent = (&mut sending).now_or_never();
    Some(match sent {
        Some(confirm) => {
            drop(sending);
            async move { Answered { answer: confirmed(confirm).await, identity, reply, place } }.boxed()
        }
        None => async move { Answered { answer: confirmed(sending.await).await, identity, reply, place } }.boxed(),
    })
}

/// Hands a message to the client library; it is the library's when this ends.
fn send(
    channel: Channel,
    identity: &Identity,
    message: Outgoing,
) -> impl Future<Output = Result<PublisherConfirm, lapin::Error>> + Send + use<> {
    let Outgoing { mandatory, properties, body, .. } = message;
    let options = BasicPublishOptions { mandatory, immediate: false };
    let (exchange, routing_key) = (identity.exchange.clone(), identity.routing_key.clone());
    async move { channel.basic_publish(exchange, routing_key, options, &body, properties).await }
}

async fn confirmed(sent: Result<PublisherConfirm, lapin::Error>) -> Result<Confirmation, Error> {
    let doubt = |error: lapin::Error| Error::Unavailable(format!("not confirmed, the event may be there: {error}"));
    sent.map_err(doubt)?.await.map_err(doubt)
}

/// Everything that is answered by now, the first of it known.
///
/// lapin settles all messages of one acknowledgement one after the other, and what came back with one of them it may have given
/// to another. While it does so it holds a lock that asking for open confirms takes too: past that, none of them is missing.
fn all_answered(channel: &Channel, first: Answered, under_way: &mut FuturesUnordered<UnderWay>) -> Vec<Answered> {
    let mut answered = vec![first];
    if !under_way.is_empty() {
        drop(channel.wait_for_confirms().now_or_never());
        while let Some(Some(more)) = under_way.next().now_or_never() {
            answered.push(more);
        }
    }
    answered
}

/// Tells each caller what became of its own message.
fn tell(answered: Vec<Answered>, returned: &mut Returned) {
    let came_back = answered.iter().filter_map(|answered| match &answered.answer {
        Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) => Some(Identity::of(message)),
        _ => None,
    });
    came_back.for_each(|identity| returned.note(identity));
    for answered in answered {
        answered.tell(returned);
    }
}
