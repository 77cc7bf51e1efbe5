//! The embedded bus's side of a delivery, and the task that makes acknowledgements durable.
//!
//! An acknowledgement waits for nobody: it is noted, and the acker turns whatever was noted into one delete. A consumer
//! gets its next delivery for it after that delete is durable, so that no more acknowledgements can wait than
//! deliveries were handed out, and a full disk stops the hand-over instead of filling the memory.
//! Who calls: whoever holds a [`Delivery`](crate::bus::Delivery). A disk that does not answer keeps the acker trying.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::letters::GiveUp;
use super::queue::Cell;
use super::statements::{Delay, Remove};
use super::{Inner, now_ms};
use crate::bus::{Error, Settle, clipped, detached};
use crate::sqlite;

/// Acknowledgements in one delete.
const ACKS_AT_ONCE: usize = 4096;

/// One hand-over of one event.
pub(super) struct Handle {
    inner: Arc<Inner>,
    cell: Arc<Cell>,
    seq: i64,
    token: u64,
    unsettled: bool,
}

/// An acknowledgement that is not durable yet.
pub(super) struct Ack {
    cell: Arc<Cell>,
    seq: i64,
    token: u64,
    retried: bool,
}

impl Handle {
    pub(super) const fn new(inner: Arc<Inner>, cell: Arc<Cell>, seq: i64, token: u64) -> Self {
        Self { inner, cell, seq, token, unsettled: true }
    }

    fn stale(&self) -> Error {
        Error::Unavailable(format!(
            "the consumer of this delivery from queue {} is gone; the event was handed out again",
            self.cell.name()
        ))
    }

    /// Ends the delivery with a dead letter.
    async fn give_up(&mut self, cause: &'static str, error: &str, attempts: u32) -> Result<(), Error> {
        let (inner, cell, seq, token) = (self.inner.clone(), self.cell.clone(), self.seq, self.token);
        let id = Uuid::now_v7().hyphenated().to_string();
        let operation = GiveUp { seq, id, cause, attempts, error: clipped(error), at: now_ms() };
        detached(async move {
            let written = inner.database.writer().submit(operation).await;
            match &written {
                Ok(()) => inner.at(&cell, |queue| queue.settled(seq, token, true)),
                Err(_) => put_back_later(inner, cell, seq, token, super::PAUSE_MAX),
            }
            Ok(written?)
        })
        .await
    }

    /// Lets the event wait for its next delivery.
    async fn delay(&mut self, delay: Delay, wait: Duration) -> Result<(), Error> {
        let (inner, cell, seq, token) = (self.inner.clone(), self.cell.clone(), self.seq, self.token);
        let due_at = delay.due_at;
        detached(async move {
            match inner.database.writer().submit(delay).await {
                Ok(()) => {
                    inner.at(&cell, |queue| queue.settled(seq, token, false));
                    inner.errands.due_at(due_at);
                    Ok(())
                }
                Err(error) => {
                    put_back_later(inner, cell, seq, token, wait);
                    Err(error.into())
                }
            }
        })
        .await
    }
}

#[async_trait]
impl Settle for Handle {
    fn ack(mut self: Box<Self>) {
        self.unsettled = false;
        let (cell, seq, token) = (self.cell.clone(), self.seq, self.token);
        let settled = cell.lock().settle(seq, token);
        if let Some((_, retrycount)) = settled {
            // An error means that the bus is closed: the event is handed out again at the next start.
            self.inner.acks.send(Ack { cell, seq, token, retried: retrycount > 0 }).ok();
        }
    }

    async fn retry(mut self: Box<Self>, cause: &str) -> Result<(), Error> {
        self.unsettled = false;
        let settled = self.cell.lock().settle(self.seq, self.token);
        let Some((place, retrycount)) = settled else { return Err(self.stale()) };
        let Some(wait) = self.inner.options.retry_ladder.get(retrycount as usize).copied() else {
            return self.give_up("retries", cause, retrycount + 1).await;
        };
        let delay = Delay {
            place,
            queue: self.cell.id(),
            retrycount: retrycount + 1,
            // A millisecond more: both ends are cut to whole ones, and the wait is a promise.
            due_at: now_ms() + wait.as_millis() as i64 + 1,
            cause: clipped(cause),
        };
        self.delay(delay, wait).await
    }

    async fn reject(mut self: Box<Self>, cause: &str) -> Result<(), Error> {
        self.unsettled = false;
        let settled = self.cell.lock().settle(self.seq, self.token);
        let Some((_, retrycount)) = settled else { return Err(self.stale()) };
        self.give_up("rejected", cause, retrycount + 1).await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.unsettled {
            self.inner.at(&self.cell, |queue| queue.put_back(self.seq, self.token));
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("queue", &self.cell.name()).field("seq", &self.seq).finish_non_exhaustive()
    }
}

/// Hands an event out again whose settlement the disk refused: at once would be a circle as fast as it can refuse.
fn put_back_later(inner: Arc<Inner>, cell: Arc<Cell>, seq: i64, token: u64, wait: Duration) {
    tokio::spawn(async move {
        if inner.closed.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            inner.at(&cell, |queue| queue.put_back(seq, token));
        }
    });
}

/// Makes acknowledgements durable until the bus closes, then those that are still there.
pub(super) async fn acker(inner: Arc<Inner>, mut acks: mpsc::UnboundedReceiver<Ack>) {
    let mut taken = Vec::new();
    loop {
        let there = tokio::select! {
            biased;
            there = acks.recv_many(&mut taken, ACKS_AT_ONCE) => there,
            () = inner.closed.cancelled() => break,
        };
        if there == 0 {
            return;
        }
        remove(&inner, &mut taken).await;
    }
    acks.close();
    while acks.recv_many(&mut taken, ACKS_AT_ONCE).await > 0 {
        remove(&inner, &mut taken).await;
    }
}

async fn remove(inner: &Arc<Inner>, acks: &mut Vec<Ack>) {
    let mut pause = super::PAUSE_FIRST;
    loop {
        let operation =
            Remove { seqs: acks.iter().map(|ack| ack.seq).collect(), retried: acks.iter().any(|ack| ack.retried) };
        match inner.database.writer().submit(operation).await {
            Ok(()) => break,
            Err(error) if matches!(error, sqlite::Error::Closed) || inner.closed.is_cancelled() => {
                tracing::warn!(%error, events = acks.len(), "acknowledgements are lost; the events will come again");
                acks.clear();
                return;
            }
            Err(error) => tracing::warn!(%error, events = acks.len(), "acknowledgements wait for the disk"),
        }
        inner.closed.run_until_cancelled(tokio::time::sleep(pause)).await;
        pause = (pause * 2).min(super::PAUSE_MAX);
    }
    let mut by_queue: HashMap<i64, Vec<Ack>> = HashMap::new();
    for ack in acks.drain(..) {
        by_queue.entry(ack.cell.id()).or_default().push(ack);
    }
    for acks in by_queue.into_values() {
        let Some(cell) = acks.first().map(|ack| ack.cell.clone()) else { continue };
        inner.at(&cell, |queue| {
            for ack in &acks {
                queue.settled(ack.seq, ack.token, true);
            }
        });
    }
}
