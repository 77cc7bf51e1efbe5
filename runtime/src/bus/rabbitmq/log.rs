//! A log in the broker that every node reads: a stream, followed from its first entry on and folded into a state.
//!
//! AMQP can neither list bindings nor look into a queue without taking from it. A stream can be read by everybody, again and
//! again, in one order; so what must be known of both is written there. An entry is durable when it is confirmed, and whoever
//! wrote it waits until it comes back: then this node's state has it. After each connection a node appends a mark, and when
//! that comes back it knows everything from before.
//!
//! Called by the bindings and the dead letters. While the broker is away the state stays as it was; asking for a fresh one is
//! answered with [`Error::Unavailable`]. A stream that was deleted is read anew from its beginning.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::AMQPValue;
use lapin::{Channel, Consumer};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::link::Link;
use super::publisher::{Fate, Outgoing, Publisher};
use super::{Options, PAUSE_FIRST, topology, wire};
use crate::bus::Error;

/// Entries that the broker sends ahead.
const ENTRIES_AHEAD: u16 = 1_000;
/// Entries that may lie between two that are read in one go.
const GAP_MAX: u64 = 500;
/// Header: what an entry is.
const KIND: &str = "entry";
const MARK: &str = "mark";
/// Header: what an entry is about; a mark's is whose it is.
const SUBJECT: &str = "subject";
/// Header that the broker adds: where an entry stands.
const OFFSET: &str = "x-stream-offset";

/// What the entries of a log add up to.
pub(super) trait Fold: Default + Send + 'static {
    /// Takes in one entry.
    fn apply(&mut self, entry: &Entry);
}

/// One entry.
pub(super) struct Entry {
    /// Where it stands.
    pub(super) offset: u64,
    /// What it is; empty for a message that none of us has written.
    pub(super) kind: String,
    /// What it is about.
    pub(super) subject: String,
    /// The message itself.
    pub(super) message: Delivery,
}

/// A log and what it adds up to.
pub(super) struct Log<S> {
    name: &'static str,
    link: Arc<Link>,
    publisher: Arc<Publisher>,
    options: Options,
    state: Mutex<S>,
    seen: watch::Sender<Seen>,
}

/// How far a log was read.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// The next entry.
    next: u64,
    /// Everything from before the connection is known.
    caught_up: bool,
    /// That was so once.
    ever: bool,
}

impl<S: Fold> Log<S> {
    pub(super) fn new(name: &'static str, link: Arc<Link>, publisher: Arc<Publisher>, options: Options) -> Arc<Self> {
        let (seen, _) = watch::channel(Seen::default());
        Arc::new(Self { name, link, publisher, options, state: Mutex::default(), seen })
    }

    /// Does something with the state as it is.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut S) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until everything is known that was there when the connection came about.
    pub(super) async fn caught_up(&self) -> Result<(), Error> {
        let mut seen = self.seen.subscribe();
        let limit = self.options.answer_timeout;
        if seen.borrow().caught_up {
            return Ok(());
        }
        // Known to be away: say so at once.
        let known = async {
            self.link.live().await?;
            seen.wait_for(|seen| seen.caught_up).await.map(drop).map_err(|_| closed())
        };
        timeout(limit, known)
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable(format!("{} cannot be read within {limit:?}", self.name))))
    }

    /// Waits until that was so once, for whom an older state will do.
    pub(super) async fn caught_up_once(&self) -> Result<(), Error> {
        if self.seen.borrow().ever { Ok(()) } else { self.caught_up().await }
    }

    /// Waits until the state is so, as long as an answer may take; `false` when it does not come to be.
    pub(super) async fn until(&self, mut so: impl FnMut(&mut S) -> bool) -> bool {
        let mut seen = self.seen.subscribe();
        let reached = seen.wait_for(|_| self.with(&mut so));
        timeout(self.options.answer_timeout, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    /// Appends an entry; durable on return, known here a moment later.
    pub(super) async fn append(&self, kind: &str, subject: &str, body: Vec<u8>) -> Result<(), Error> {
        let message = Outgoing {
            exchange: String::new(),
            routing_key: self.name.to_owned(),
            mandatory: true,
            properties: wire::entry(&[(KIND, kind), (SUBJECT, subject)]),
            body,
        };
        match self.publisher.publish(message).await? {
            Fate::Taken => Ok(()),
            Fate::Returned => Err(Error::Unavailable(format!("stream {} is gone", self.name))),
        }
    }

    /// Reads until the bus closes.
    ///
    /// `made` says when the stream is there for the first time.
    pub(super) async fn follow(self: Arc<Self>, mut made: watch::Receiver<bool>, closed: CancellationToken) {
        if closed.run_until_cancelled(made.wait_for(|made| *made)).await.is_none() {
            return;
        }
        while let Some(connection) = self.link.some_day(&closed).await {
            let ended = tokio::select! {
                () = closed.cancelled() => return,
                ended = self.read(&connection) => ended,
                error = self.link.until_lost(&connection) => Err(error),
            };
            self.seen.send_modify(|seen| seen.caught_up = false);
            if let Err(error) = ended {
                tracing::debug!(stream = self.name, %error, "reading begins anew");
            }
            if closed.run_until_cancelled(sleep(PAUSE_FIRST)).await.is_none() {
                return;
            }
        }
    }

    /// Reads on from where it was, until the connection is lost.
    async fn read(&self, connection: &lapin::Connection) -> Result<(), Error> {
        let from = self.seen.borrow().next;
        let channel = connection.create_channel().await.map_err(|error| wire::refused(&error, self.name))?;
        let mut entries = subscribe(&channel, self.name, from).await?;
        let nonce = Uuid::new_v4().hyphenated().to_string();
        let mark = self.mark(&nonce);
        tokio::pin!(mark);
        let mut marked = false;
        loop {
            tokio::select! {
                biased;
                () = &mut mark, if !marked => marked = true,
                first = entries.next() => {
                    let read = all(first, &mut entries, &channel).await;
                    self.take(read.map_err(|error| wire::refused(&error, self.name))?, &nonce);
                }
                // The mark was written and does not come: this is another stream than the one that we have read.
                () = sleep(self.options.answer_timeout), if marked && !self.seen.borrow().caught_up => {
                    self.with(|state| *state = S::default());
                    self.seen.send_modify(|seen| seen.next = 0);
                    return Err(Error::Unavailable(format!("stream {} was replaced", self.name)));
                }
            }
        }
    }

    /// Appends this life's mark, however often that takes.
    async fn mark(&self, nonce: &str) {
        while let Err(error) = self.append(MARK, nonce, Vec::new()).await {
            tracing::debug!(stream = self.name, %error, "no mark yet");
            sleep(PAUSE_FIRST).await;
        }
    }

    fn take(&self, read: Vec<Entry>, nonce: &str) {
        let mut caught_up = false;
        let mut next = self.seen.borrow().next;
        self.with(|state| {
            for entry in read.into_iter().filter(|entry| entry.offset >= next).collect::<Vec<_>>() {
                next = entry.offset + 1;
                if entry.kind == MARK {
                    caught_up |= entry.subject == nonce;
                } else {
                    state.apply(&entry);
                }
            }
        });
        self.seen.send_modify(|seen| {
            seen.next = next;
            seen.caught_up |= caught_up;
            seen.ever |= caught_up;
        });
    }

    /// Reads these entries once more, by their places.
    pub(super) async fn fetch(&self, offsets: &[u64]) -> Result<BTreeMap<u64, Entry>, Error> {
        let limit = self.options.answer_timeout;
        timeout(limit, self.fetch_all(offsets))
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable(format!("{} cannot be read within {limit:?}", self.name))))
    }

    async fn fetch_all(&self, offsets: &[u64]) -> Result<BTreeMap<u64, Entry>, Error> {
        let mut wanted: Vec<u64> = offsets.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = BTreeMap::new();
        for run in wanted.chunk_by(|a, b| b - a <= GAP_MAX) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let channel = self.link.channel().await?;
            let mut entries = subscribe(&channel, self.name, *first).await?;
            let mut at = None;
            while at.is_none_or(|at| at < *last) {
                let first = entries.next().await;
                let read = all(first, &mut entries, &channel).await;
                let read = read.map_err(|error| wire::refused(&error, self.name))?;
                for entry in read {
                    at = at.max(Some(entry.offset));
                    if run.binary_search(&entry.offset).is_ok() {
                        found.insert(entry.offset, entry);
                    }
                }
            }
            channel.close(200, "read".into()).await.ok();
        }
        Ok(found)
    }
}

async fn subscribe(channel: &Channel, stream: &str, from: u64) -> Result<Consumer, Error> {
    let refused = |error: lapin::Error| wire::refused(&error, stream);
    channel.basic_qos(ENTRIES_AHEAD, BasicQosOptions::default()).await.map_err(refused)?;
    let offset = AMQPValue::LongLongInt(i64::try_from(from).unwrap_or(i64::MAX));
    let arguments = topology::table(&[("x-stream-offset", offset)]);
    let options = BasicConsumeOptions::default();
    channel.basic_consume(wire::name(stream)?, "".into(), options, arguments).await.map_err(refused)
}

/// This entry and all that have arrived after it; asks for as many more.
async fn all(
    first: Option<Result<Delivery, lapin::Error>>,
    entries: &mut Consumer,
    channel: &Channel,
) -> Result<Vec<Entry>, lapin::Error> {
    let ended = || lapin::Error::from(lapin::ErrorKind::InvalidChannelState(lapin::ChannelState::Closed, "stream"));
    let mut read = vec![entry(first.ok_or_else(ended)??)];
    while read.len() < usize::from(ENTRIES_AHEAD)
        && let Some(more) = entries.next().now_or_never()
    {
        read.push(entry(more.ok_or_else(ended)??));
    }
    if let Some(last) = read.last() {
        channel.basic_ack(last.message.delivery_tag, BasicAckOptions { multiple: true }).await?;
    }
    Ok(read)
}

fn entry(message: Delivery) -> Entry {
    Entry {
        offset: wire::header_number(&message.properties, OFFSET).unwrap_or_default(),
        kind: wire::header_text(&message.properties, KIND).unwrap_or_default(),
        subject: wire::header_text(&message.properties, SUBJECT).unwrap_or_default(),
        message,
    }
}

fn closed() -> Error {
    Error::Unavailable("the bus is closed".to_owned())
}
