//! A mailbox with an end: a counted, bounded way to send to an actor.
//!
//! ractor's mailboxes are unbounded and nobody can ask how full they are. A [`Mailbox`] counts what it sent and what
//! the actor took, refuses with [`Busy`] over its limit, and shows its depth in the live [`super::Tree`].
//!
//! ```text
//!   sender ── cast / call ──► +1 ── ractor's queue ──► handle(): depth.taken() ── −1
//!                refused: Busy{depth, retry_after}
//! ```
//!
//! The actor calls [`Depth::taken`] once for each message that comes by this way, first thing in its handler; messages
//! it sends itself (timers) are not counted. When an actor dies its queue dies with it, so every life of a child has a
//! [`Depth`] of its own ([`super::ChildContext::depth`]) and nothing is carried over.
//!
//! `Ok` from a cast means "queued", never "handled": whatever must not be lost is a row before it is a message.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, RpcReplyPort};

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

/// How many messages wait for one life of an actor. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Depth(Arc<AtomicUsize>);

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
    /// The actor is gone or is draining; ask for its successor.
    #[error("the actor is gone or draining, look it up again")]
    Closed,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Over the limit: certainly not handled.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// No answer in time, or the actor went away. It may have handled the message, may handle it still, or never will:
    /// only the store knows. Time-out and closed are one case because a remote actor does not tell them apart.
    #[error("no answer within {} ms, the outcome is unknown", .waited.as_millis())]
    Unknown {
        /// The time the caller allowed.
        waited: Duration,
    },
}

/// A bounded way to send to one life of an actor.
pub struct Mailbox<M> {
    actor: ActorRef<M>,
    depth: Depth,
    options: MailboxOptions,
}

impl Depth {
    /// A message was taken out; the actor calls this first thing in its handler.
    pub fn taken(&self) {
        let one_less = |waiting: usize| Some(waiting.saturating_sub(1));
        // Never below zero, whoever miscounts: an under-run would refuse everything for ever.
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).ok();
    }

    /// Messages waiting now.
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Takes a place, or says how many are taken when there is none below `limit`.
    fn enter(&self, limit: usize) -> Result<(), usize> {
        let one_more = |waiting: usize| (waiting < limit).then_some(waiting + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).map(|_| ())
    }
}

impl<M: Message> Mailbox<M> {
    /// The way to `actor`, which takes from `depth`.
    #[must_use]
    pub const fn new(actor: ActorRef<M>, depth: Depth, options: MailboxOptions) -> Self {
        Self { actor, depth, options }
    }

    /// Queues a message.
    pub fn cast(&self, message: M) -> Result<(), CastError> {
        self.enter()?;
        self.actor.cast(message).map_err(|_| {
            self.depth.taken();
            CastError::Closed
        })
    }

    /// Queues a message and waits for its answer, never longer than `timeout`. Giving up does not cancel the work: put
    /// a deadline into the message when that matters.
    pub async fn call<T, F>(&self, timeout: Duration, message: F) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: FnOnce(RpcReplyPort<T>) -> M,
    {
        self.enter()?;
        match self.actor.call(message, Some(timeout)).await {
            Ok(CallResult::Success(answer)) => Ok(answer),
            Ok(CallResult::Timeout | CallResult::SenderError) => Err(CallError::Unknown { waited: timeout }),
            Err(_) => {
                self.depth.taken();
                Err(CallError::Unknown { waited: timeout })
            }
        }
    }

    /// Messages waiting now.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth.get()
    }

    /// The actor behind, for what a mailbox does not do (its id, its status). Casting past the mailbox is not counted.
    #[must_use]
    pub const fn actor(&self) -> &ActorRef<M> {
        &self.actor
    }

    fn enter(&self) -> Result<(), Busy> {
        self.depth.enter(self.options.limit).map_err(|depth| Busy { depth, retry_after: self.options.retry_after })
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { actor: self.actor.clone(), depth: self.depth.clone(), options: self.options }
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("actor", &self.actor).field("depth", &self.depth.get()).finish_non_exhaustive()
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
mod tests {
    use ractor::{Actor, ActorProcessingErr};
    use ractor_cluster_derive::RactorMessage;
    use tokio::sync::oneshot;

    use super::*;

    /// Answers echoes; can be held up, and can forget to answer.
    struct Clerk;

    #[derive(RactorMessage)]
    enum ClerkMessage {
        Echo(u32, RpcReplyPort<u32>),
        Hold(oneshot::Receiver<()>),
        Forget(#[expect(dead_code, reason = "held until it is dropped unanswered")] RpcReplyPort<u32>),
        Note,
    }

    impl Actor for Clerk {
        type Msg = ClerkMessage;
        type State = Depth;
        type Arguments = Depth;

        async fn pre_start(&self, _: ActorRef<ClerkMessage>, depth: Depth) -> Result<Depth, ActorProcessingErr> {
            Ok(depth)
        }

        async fn handle(
            &self,
            _: ActorRef<ClerkMessage>,
            message: ClerkMessage,
            depth: &mut Depth,
        ) -> Result<(), ActorProcessingErr> {
            depth.taken();
            match message {
                ClerkMessage::Echo(number, reply) => drop(reply.send(number)),
                ClerkMessage::Hold(until) => drop(until.await),
                ClerkMessage::Forget(_) | ClerkMessage::Note => {}
            }
            Ok(())
        }
    }

    async fn clerk(limit: usize) -> Mailbox<ClerkMessage> {
        let depth = Depth::default();
        let (actor, _) = Actor::spawn(None, Clerk, depth.clone()).await.expect("a clerk");
        Mailbox::new(actor, depth, MailboxOptions { limit, ..MailboxOptions::default() })
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_full_mailbox_refuses_and_takes_again_once_it_is_read() {
        let mailbox = clerk(2).await;
        let (release, held) = oneshot::channel();
        mailbox.cast(ClerkMessage::Hold(held)).expect("empty");
        while mailbox.depth() > 0 {
            tokio::task::yield_now().await;
        }
        mailbox.cast(ClerkMessage::Note).expect("one waits");
        mailbox.cast(ClerkMessage::Note).expect("two wait");

        let busy = Busy { depth: 2, retry_after: MailboxOptions::default().retry_after };
        assert_eq!(mailbox.cast(ClerkMessage::Note), Err(CastError::Busy(busy)));
        let refused = mailbox.call(SECOND, |reply| ClerkMessage::Echo(1, reply)).await;
        assert_eq!(refused, Err(CallError::Busy(busy)));
        assert_eq!(CastError::Busy(busy).fault(), Fault::Transient { retry_after: Some(busy.retry_after) });
        assert_eq!(mailbox.depth(), 2, "a refusal takes no place");

        release.send(()).expect("the clerk waits");
        while mailbox.depth() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(mailbox.call(SECOND, |reply| ClerkMessage::Echo(7, reply)).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_unknown_whether_late_forgotten_or_gone() {
        let mailbox = clerk(8).await;
        let unknown = Err(CallError::Unknown { waited: SECOND });
        assert_eq!(mailbox.call(SECOND, ClerkMessage::Forget).await, unknown);

        let (_release, held) = oneshot::channel();
        mailbox.cast(ClerkMessage::Hold(held)).expect("empty");
        let before = tokio::time::Instant::now();
        assert_eq!(mailbox.call(SECOND, |reply| ClerkMessage::Echo(1, reply)).await, unknown);
        assert_eq!(before.elapsed().as_secs(), 1);

        mailbox.actor().kill();
        mailbox.actor().wait(None).await.expect("dead");
        assert_eq!(mailbox.call(SECOND, |reply| ClerkMessage::Echo(1, reply)).await, unknown);
        assert_eq!(mailbox.cast(ClerkMessage::Note), Err(CastError::Closed));
        assert_eq!(mailbox.depth(), 1, "only the echo that died in the queue is left, what was refused is not counted");
    }

    #[test]
    fn a_depth_never_goes_below_zero() {
        let depth = Depth::default();
        depth.taken();
        assert_eq!(depth.get(), 0);
        assert_eq!(depth.enter(1), Ok(()));
        assert_eq!(depth.enter(1), Err(1));
    }
}
