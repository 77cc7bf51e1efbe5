//! How the relay is woken: ends of steps, and hints that there may be some in the outbox. Both may be lost.
//!
//! Handed down with the stage, so that steps need not know where the relay lives, nor in which of its lives it is. The
//! relay puts itself in at each start. Without one, or while there are more ends in memory than there is room for, by number or by
//! what they say, an end goes nowhere; its row in the outbox does not, and the relay reads it there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::ActorRef;
use ractor_cluster_derive::RactorMessage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use troupe_runtime::domain::outcome::Outcome;
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
    /// Bytes that ends may take in memory, and are not taken.
    room: Arc<Semaphore>,
    relay: Arc<Mutex<Option<Ear>>>,
    waiting: Arc<AtomicBool>,
    behind: Arc<AtomicBool>,
}

/// Where one life of the relay hears.
struct Ear {
    relay: ActorRef<RelayMessage>,
    ends: mpsc::Sender<End>,
}

/// An end in memory.
pub struct End {
    pub(super) told: Told,
    /// Given back with it.
    _room: OwnedSemaphorePermit,
}

impl RelayHint {
    /// For a relay for which so many ends may wait in memory; what these and those that are being told say may take so many bytes.
    #[must_use]
    pub fn new(queue: usize, bytes_max: usize) -> Self {
        let room = Arc::new(Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS)));
        Self { queue: queue.max(1), room, relay: Arc::default(), waiting: Arc::default(), behind: Arc::default() }
    }

    /// Something is in the outbox.
    pub fn look(&self) {
        self.behind.store(true, Ordering::Release);
        self.wake(self.ear().as_ref());
    }

    /// This end is in the outbox, and need not be read there.
    pub fn tell(&self, end: Told) {
        let room =
            u32::try_from(bytes(&end)).ok().and_then(|bytes| self.room.clone().try_acquire_many_owned(bytes).ok());
        let ear = self.ear();
        let taken = room.zip(ear.as_ref()).is_some_and(|(room, ear)| {
            let end = End { told: end, _room: room };
            ear.ends.try_send(end).is_ok()
        });
        if !taken {
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
    pub(super) fn begin(&self, relay: ActorRef<RelayMessage>) -> mpsc::Receiver<End> {
        let (sender, ends) = mpsc::channel(self.queue);
        *self.ear() = Some(Ear { relay, ends: sender });
        self.heard();
        ends
    }
}

/// What an end takes in memory by what it says: the question, which nobody else may keep by now, and the answer. The rest of it is small.
fn bytes(end: &Told) -> usize {
    let answer = match &end.outcome {
        Outcome::Succeeded { output } => output,
        Outcome::Failed { failure } => &failure.message,
        Outcome::Cancelled { reason } => reason,
    };
    end.event.data.text().len() + answer.len()
}

#[cfg(test)]
mod tests {
    use ractor::Actor;
    use serde_json::json;
    use troupe_runtime::domain::event::Event;
    use troupe_runtime::domain::ids::TaskId;

    use super::*;

    /// Hears nothing.
    struct Deaf;

    impl Actor for Deaf {
        type Msg = RelayMessage;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<RelayMessage>, (): ()) -> Result<(), ractor::ActorProcessingErr> {
            Ok(())
        }
    }

    /// One whose question and answer are so long together.
    fn end(seq: i64, bytes: usize) -> Told {
        let event = Event::new("agent.input.a".parse().unwrap(), "/test", json!("q"));
        let task = TaskId::derive(&event.id, "a");
        let output = "x".repeat(bytes - event.data.text().len());
        Told {
            seq,
            task,
            step: task.run(0).step(0),
            agent: "a".parse().unwrap(),
            event: Arc::new(event),
            outcome: Outcome::Succeeded { output },
            attempt: 1,
            at: chrono::Utc::now(),
        }
    }

    #[tokio::test]
    async fn what_ends_say_is_bounded_until_they_are_told_and_what_has_no_room_is_left_to_the_outbox() {
        let (relay, life) = Actor::spawn(None, Deaf, ()).await.unwrap();
        let hint = RelayHint::new(10, 1_000);
        let mut ends = hint.begin(relay.clone());
        hint.tell(end(1, 600));
        assert!(!hint.is_behind());
        hint.tell(end(2, 600));
        assert!(hint.is_behind(), "there is no room for it");
        hint.tell(end(3, 400));
        let (first, third) = (ends.recv().await.unwrap(), ends.recv().await.unwrap());
        assert_eq!((first.told.seq, third.told.seq), (1, 3));
        hint.tell(end(4, 3));
        assert!(hint.is_behind(), "those that are being told have their room still");
        drop(first);
        hint.tell(end(5, 600));
        assert!(!hint.is_behind());
        assert_eq!(ends.recv().await.unwrap().told.seq, 5);
        relay.stop(None);
        life.await.unwrap();
    }
}
