//! How the relay is woken: ends of steps, and hints that there may be some in the outbox. Both may be lost.
//!
//! Handed down with the stage, so that steps need not know where the relay lives, nor in which of its lives it is. The
//! relay puts itself in at each start. Without one, or while more ends wait than there is room for, an end goes nowhere; its row in
//! the outbox does not, and the relay reads it there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::ActorRef;
use ractor_cluster_derive::RactorMessage;
use tokio::sync::mpsc;
use troupe_runtime::store::Told;

/// What the relay is told.
#[derive(Debug, Clone, Copy, RactorMessage)]
pub enum RelayMessage {
    /// Ends wait in memory, or something may be in the outbox.
    Look,
    /// It is time to look into the outbox again.
    Sweep,
}

/// How steps wake the relay: at most one message waits, however many steps end. Cheap to clone.
#[derive(Clone)]
pub struct RelayHint {
    queue: usize,
    relay: Arc<Mutex<Option<Ear>>>,
    waiting: Arc<AtomicBool>,
    behind: Arc<AtomicBool>,
}

/// Where one life of the relay hears.
struct Ear {
    relay: ActorRef<RelayMessage>,
    ends: mpsc::Sender<Told>,
}

impl RelayHint {
    /// For a relay for which so many ends may wait in memory.
    #[must_use]
    pub fn new(queue: usize) -> Self {
        Self { queue: queue.max(1), relay: Arc::default(), waiting: Arc::default(), behind: Arc::default() }
    }

    /// Something is in the outbox.
    pub fn look(&self) {
        self.behind.store(true, Ordering::Release);
        self.wake(self.ear().as_ref());
    }

    /// This end is in the outbox, and need not be read there.
    pub fn tell(&self, end: Told) {
        let ear = self.ear();
        if ear.as_ref().is_none_or(|ear| ear.ends.try_send(end).is_err()) {
            self.behind.store(true, Ordering::Release);
        }
        self.wake(ear.as_ref());
    }

    fn wake(&self, ear: Option<&Ear>) {
        if let Some(ear) = ear
            && !self.waiting.swap(true, Ordering::AcqRel)
        {
            // Lost when the relay is down; it looks by itself when it is back.
            ear.relay.cast(RelayMessage::Look).ok();
        }
    }

    fn ear(&self) -> MutexGuard<'_, Option<Ear>> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relay has begun to look: what comes from now on wakes it again.
    pub(super) fn heard(&self) {
        self.waiting.store(false, Ordering::Release);
    }

    /// Whether the outbox holds what did not come by memory, as far as is known; asked once.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.swap(false, Ordering::AcqRel)
    }

    /// The same, without forgetting it.
    pub(super) fn may_be_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// A life of the relay begins; what waited for the one before is in the outbox.
    pub(super) fn begin(&self, relay: ActorRef<RelayMessage>) -> mpsc::Receiver<Told> {
        let (sender, ends) = mpsc::channel(self.queue);
        *self.ear() = Some(Ear { relay, ends: sender });
        self.heard();
        ends
    }
}
