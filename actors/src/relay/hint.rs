//! How the relay is woken: a hint that any step may give and that may be lost.
//!
//! Handed down with the stage, so that steps need not know where the relay lives, nor in which of its lives it is. The
//! relay puts itself in at each start; without one, hints go nowhere and the relay's own timer finds what they meant.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ractor::ActorRef;
use ractor_cluster_derive::RactorMessage;

/// What the relay is told.
#[derive(Debug, Clone, Copy, RactorMessage)]
pub enum RelayMessage {
    /// Something may be in the outbox.
    Look,
}

/// How steps wake the relay: at most one message waits, however many steps end. Cheap to clone.
#[derive(Clone, Default)]
pub struct RelayHint {
    relay: Arc<Mutex<Option<ActorRef<RelayMessage>>>>,
    waiting: Arc<AtomicBool>,
}

impl RelayHint {
    /// Something is in the outbox.
    pub fn look(&self) {
        if !self.waiting.swap(true, Ordering::AcqRel) {
            let relay = self.relay.lock().unwrap_or_else(PoisonError::into_inner);
            // Lost when the relay is down; it looks by itself when it is back.
            relay.as_ref().map(|relay| relay.cast(RelayMessage::Look));
        }
    }

    pub(super) fn heard(&self) {
        self.waiting.store(false, Ordering::Release);
    }

    pub(super) fn set(&self, relay: ActorRef<RelayMessage>) {
        *self.relay.lock().unwrap_or_else(PoisonError::into_inner) = Some(relay);
        self.heard();
    }
}
