//! A mailbox with an end: a counted, bounded way to send to a routine, and the routine's own end of it.
//!
//! ractor's mailboxes are unbounded, nobody can ask how full they are, and four of them take 6 KiB before there is a message.
//! An actor that supervises nobody has this one instead ([`super::ChildContext::attend`], docs/adr/0034): no room for messages
//! before there are any, a refusal ([`Busy`]) over its limit, its depth in the live [`super::Tree`].
//!
//! ```text
//!   sender ── cast / call ──► +1 ──┐
//!             refused: Busy        ├──► queue ──► Messages::next() ── −1 ──► the routine's loop
//!   the routine itself ── ToSelf ──┤
//!   Life::ping ────────────────────┘            answered on the way, by whoever comes back to next()
//! ```
//!
//! A routine handles one message after the other, so a ping is answered by one that comes back for its next message: it lives
//! *and* holds up nobody. What it sends itself and pings count to no limit. When a life ends its queue ends with it, and the
//! next one begins empty.
//!
//! `Ok` from a cast means "queued", never "handled": whatever must not be lost is a row before it is a message.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc;
use ractor::RpcReplyPort;
use tokio::sync::oneshot;
use tokio::task::coop::cooperative;

use crate::fault::{Fault, Faulty};

/// The ends of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxOptions {
    /// Messages that may wait; the next one is refused.
    pub limit: usize,
    /// The wait that a refusal suggests.
    pub retry_after: Duration,
}

impl Default for MailboxOptions {
    fn default() -> Self {
        Self { limit: 1_024, retry_after: Duration::from_millis(100) }
    }
}

/// The mailbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("mailbox full with {depth} waiting, try again in {} ms", .retry_after.as_millis())]
pub struct Busy {
    /// Messages waiting.
    pub depth: usize,
    /// When to come again.
    pub retry_after: Duration,
}

/// Why a cast was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CastError {
    /// Over the limit.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// Whoever read it is gone or is draining; ask for its successor.
    #[error("the actor is gone or draining, look it up again")]
    Closed,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Over the limit: certainly not handled.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// No answer in time, or whoever should give it went away. The message may have been handled, may be still, or never will:
    /// only the store knows. Time-out and closed are one case because somebody remote does not tell them apart.
    #[error("no answer within {} ms, the outcome is unknown", .waited.as_millis())]
    Unknown {
        /// The time the caller allowed.
        waited: Duration,
    },
}

/// A bounded way to send to one life of a routine.
pub struct Mailbox<M> {
    post: Arc<Post<M>>,
    options: MailboxOptions,
}

/// The routine's end; dropping it ends what waits, unanswered.
pub struct Messages<M> {
    queue: mpsc::UnboundedReceiver<Letter<M>>,
    post: Arc<Post<M>>,
}

/// How a routine, or what it has begun, sends to the routine itself; counts to no limit.
pub struct ToSelf<M>(Arc<Post<M>>);

/// A mailbox whatever its messages are: what the supervisor and the live tree know of it.
pub trait AnyMailbox: Send + Sync {
    /// Whose it is; no two lives of this process are alike.
    fn life(&self) -> u64;
    /// Messages waiting now.
    fn depth(&self) -> usize;
    /// Takes nothing more; what waits is handled still.
    fn close(&self);
    /// Asks whether anybody comes for the next message; `None` when nobody will.
    fn ping(&self) -> Option<oneshot::Receiver<()>>;
    /// As what it is.
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// What all ends of a mailbox share.
struct Post<M> {
    life: u64,
    waiting: AtomicUsize,
    way: mpsc::UnboundedSender<Letter<M>>,
}

/// What lies in the queue.
enum Letter<M> {
    /// From outside, counted.
    Sent(M),
    /// From the routine itself.
    Own(M),
    /// Are you there?
    Ping(oneshot::Sender<()>),
}

impl<M: Send + 'static> Mailbox<M> {
    /// A mailbox of nobody whom a supervisor knows.
    #[must_use]
    pub fn open(options: MailboxOptions) -> (Self, Messages<M>) {
        let messages = Messages::of_life(0);
        (Self { post: Arc::clone(&messages.post), options }, messages)
    }

    /// The way into `mailbox`, if `M` is what it takes.
    pub(super) fn of(mailbox: &Arc<dyn AnyMailbox>, options: MailboxOptions) -> Option<Self> {
        let post = Arc::clone(mailbox).any().downcast().ok()?;
        Some(Self { post, options })
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When too many wait, or nobody reads any more.
    pub fn cast(&self, message: M) -> Result<(), CastError> {
        let limit = self.options.limit;
        let one_more = |waiting: usize| (waiting < limit).then_some(waiting + 1);
        (self.post.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more))
            .map_err(|depth| Busy { depth, retry_after: self.options.retry_after })?;
        self.post.way.unbounded_send(Letter::Sent(message)).map_err(|_| {
            self.post.taken();
            CastError::Closed
        })
    }

    /// Queues a message and waits for its answer, never longer than `timeout`. Giving up does not cancel the work: put
    /// a deadline into the message when that matters.
    ///
    /// # Errors
    /// When too many wait, or there is no answer.
    pub async fn call<T, F>(&self, timeout: Duration, message: F) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: FnOnce(RpcReplyPort<T>) -> M,
    {
        let (reply, answer) = oneshot::channel();
        let unknown = CallError::Unknown { waited: timeout };
        match self.cast(message(reply.into())) {
            Ok(()) => {}
            Err(CastError::Busy(busy)) => return Err(busy.into()),
            Err(CastError::Closed) => return Err(unknown),
        }
        tokio::time::timeout(timeout, answer).await.map_err(|_| unknown)?.map_err(|_| unknown)
    }

    /// Messages waiting now.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.post.depth()
    }
}

impl<M: Send + 'static> Messages<M> {
    /// The mailbox of a life.
    pub(super) fn of_life(life: u64) -> Self {
        let (way, queue) = mpsc::unbounded();
        Self { queue, post: Arc::new(Post { life, waiting: AtomicUsize::new(0), way }) }
    }

    /// The mailbox as those know it who send nothing.
    pub(super) fn mailbox(&self) -> Arc<dyn AnyMailbox> {
        Arc::<Post<M>>::clone(&self.post)
    }

    /// Waits for the next message; `None` when the routine is to come to its end. Cancelled, it has taken nothing.
    pub async fn next(&mut self) -> Option<M> {
        loop {
            // Within tokio's budget: a queue that is never empty would have the thread to itself.
            match cooperative(self.queue.next()).await? {
                Letter::Sent(message) => {
                    self.post.taken();
                    return Some(message);
                }
                Letter::Own(message) => return Some(message),
                // Whoever asked may have stopped to wait.
                Letter::Ping(reply) => drop(reply.send(())),
            }
        }
    }

    /// A way for the routine to send to itself.
    #[must_use]
    pub fn to_self(&self) -> ToSelf<M> {
        ToSelf(Arc::clone(&self.post))
    }
}

impl<M> ToSelf<M> {
    /// Queues a message; one that ends with the routine is nobody's.
    pub fn send(&self, message: M) {
        self.0.way.unbounded_send(Letter::Own(message)).ok();
    }
}

impl<M> Post<M> {
    fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<M: Send + 'static> AnyMailbox for Post<M> {
    fn life(&self) -> u64 {
        self.life
    }

    fn depth(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.way.close_channel();
    }

    fn ping(&self) -> Option<oneshot::Receiver<()>> {
        let (reply, answer) = oneshot::channel();
        self.way.unbounded_send(Letter::Ping(reply)).ok().map(|()| answer)
    }

    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { post: Arc::clone(&self.post), options: self.options }
    }
}

impl<M> Clone for ToSelf<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("life", &self.post.life).finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn AnyMailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyMailbox").field("life", &self.life()).field("depth", &self.depth()).finish()
    }
}

impl Faulty for CastError {
    fn fault(&self) -> Fault {
        match self {
            Self::Busy(busy) => Fault::Transient { retry_after: Some(busy.retry_after) },
            Self::Closed => Fault::transient(),
        }
    }
}

impl Faulty for CallError {
    fn fault(&self) -> Fault {
        match self {
            Self::Busy(busy) => Fault::Transient { retry_after: Some(busy.retry_after) },
            Self::Unknown { .. } => Fault::transient(),
        }
    }
}

#[cfg(test)]
mod tests;
