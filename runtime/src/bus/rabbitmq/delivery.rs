//! The broker's side of a delivery: acknowledged, sent up the ladder, or buried.
//!
//! An acknowledgement waits for nobody: the intake sends it with others. What failed is published first (to the ladder, or as a
//! dead letter), confirmed, and only then acknowledged: a crash in between leads to a second one, never to none. What the broker
//! does not take goes back to its place after a while, for at once would be a circle as fast as it can refuse.
//! Called by whoever holds a [`Delivery`](crate::bus::Delivery).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use uuid::Uuid;

use super::PAUSE_MAX;
use super::intake::Intake;
use super::publisher::{Fate, Outgoing};
use super::shelf::{Held, Settled};
use super::topology;
use super::wire::{self, Past};
use crate::bus::{DeadLetter, Error, Settle, clipped, detached};

/// One hand-over of one event.
pub(super) struct Handle {
    intake: Arc<Intake>,
    seq: i64,
    token: u64,
    unsettled: bool,
}

impl Handle {
    pub(super) const fn new(intake: Arc<Intake>, seq: i64, token: u64) -> Self {
        Self { intake, seq, token, unsettled: true }
    }

    /// Its holder decides.
    fn decide(&mut self) -> Option<Settled> {
        self.unsettled = false;
        self.intake.at(|shelf| shelf.settle(self.seq, self.token))
    }

    fn stale(&self) -> Error {
        Error::Unavailable(format!(
            "the consumer of this delivery from queue {} is gone; the event was handed out again",
            self.intake.queue()
        ))
    }

    /// Does what the holder decided, then acknowledges; what cannot be done is put back after `pause`.
    async fn after<W>(&self, settled: Settled, pause: Duration, work: W) -> Result<(), Error>
    where
        W: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (intake, seq, token) = (self.intake.clone(), self.seq, self.token);
        detached(async move {
            let done = work.await;
            match &done {
                Ok(()) => intake.acknowledge((seq, token), settled.life, settled.held.tag),
                Err(_) => intake.put_back_later(seq, token, pause),
            }
            done
        })
        .await
    }

    async fn give_up(&self, settled: Settled, cause: &str, error: &str) -> Result<(), Error> {
        let Held { event, past, .. } = &settled.held;
        let letter = DeadLetter {
            id: Uuid::now_v7().hyphenated().to_string(),
            queue: self.intake.queue().to_owned(),
            event: (**event).clone(),
            cause: cause.to_owned(),
            attempts: past.retrycount.saturating_add(1),
            first_error: past.first_error.clone().unwrap_or_else(|| error.to_owned()),
            last_error: error.to_owned(),
            at: Utc::now(),
        };
        let letters = self.intake.bus().letters.clone();
        self.after(settled, PAUSE_MAX, async move { letters.bury(letter).await }).await
    }
}

#[async_trait]
impl Settle for Handle {
    fn ack(mut self: Box<Self>) {
        if let Some(settled) = self.decide() {
            self.intake.acknowledge((self.seq, self.token), settled.life, settled.held.tag);
        }
    }

    async fn retry(mut self: Box<Self>, cause: &str) -> Result<(), Error> {
        let Some(settled) = self.decide() else { return Err(self.stale()) };
        let (event, past) = (&settled.held.event, &settled.held.past);
        let bus = self.intake.bus().clone();
        let Some(wait) = bus.options.bus.retry_ladder.get(past.retrycount as usize).copied() else {
            return self.give_up(settled, "retries", cause).await;
        };
        let first_error = past.first_error.clone().or_else(|| Some(clipped(cause)));
        let past = Past { retrycount: past.retrycount + 1, first_error, since: past.since };
        let name = topology::retry_name(wait);
        let properties = wire::properties(event, &past);
        let (event, queue) = (event.clone(), self.intake.queue().to_owned());
        let work = async move {
            let body = serde_json::to_vec(&*event).map_err(|error| Error::Internal(format!("event: {error}")))?;
            let (exchange, routing_key) = (name.clone(), queue.clone());
            let message = Outgoing { exchange, routing_key, mandatory: true, properties, body };
            match bus.publisher.publish(message).await? {
                Fate::Taken => {
                    bus.waits.begin(&queue, wait);
                    Ok(())
                }
                Fate::Returned => Err(Error::Unavailable(format!("{name} is bound to no queue"))),
            }
        };
        self.after(settled, wait.min(PAUSE_MAX), work).await
    }

    async fn reject(mut self: Box<Self>, cause: &str) -> Result<(), Error> {
        let Some(settled) = self.decide() else { return Err(self.stale()) };
        self.give_up(settled, "rejected", cause).await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.unsettled {
            self.intake.at(|shelf| shelf.put_back(self.seq, self.token));
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("queue", &self.intake.queue()).field("seq", &self.seq).finish_non_exhaustive()
    }
}
