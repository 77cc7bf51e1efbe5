//! The keeper: the task that reads on from disk for queues whose memory is drained, and brings back events whose wait is
//! over.
//!
//! It sleeps until it is called or the next wait ends; when nothing is due nothing is polled. It does one thing after
//! the other, on purpose: an event that it brings back is in its queue before any later reading can find it on disk.
//! Called by queues through [`Errands`]. A disk that does not answer keeps it trying, ever more slowly.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::queue::{Cell, Need};
use super::statements::{self, Promote};
use super::{Inner, PAUSE_FIRST, PAUSE_MAX, now_ms};
use crate::bus::place::Place;
use crate::sqlite;

/// Waits that are ended in one transaction.
const PROMOTED_AT_ONCE: u32 = 1024;

/// What the keeper is to do.
#[derive(Default)]
pub(super) struct Errands {
    list: Mutex<List>,
    bell: Notify,
}

#[derive(Default)]
struct List {
    calls: Vec<Arc<Cell>>,
    /// When the next wait ends, in milliseconds since 1970.
    due: Option<i64>,
}

impl Errands {
    fn list<T>(&self, act: impl FnOnce(&mut List) -> T) -> T {
        act(&mut self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A queue has something to be read.
    pub(super) fn call(&self, cell: &Arc<Cell>) {
        self.list(|list| list.calls.push(cell.clone()));
        self.bell.notify_one();
    }

    /// A wait ends then.
    pub(super) fn due_at(&self, due: i64) {
        let sooner = self.list(|list| {
            let sooner = list.due.is_none_or(|before| due < before);
            if sooner {
                list.due = Some(due);
            }
            sooner
        });
        if sooner {
            self.bell.notify_one();
        }
    }

    fn until_due(&self) -> Option<Duration> {
        let due = self.list(|list| list.due)?;
        Some(Duration::from_millis((due - now_ms()).max(0).unsigned_abs()))
    }
}

/// Serves until the bus closes.
pub(super) async fn keeper(inner: Arc<Inner>) {
    let mut pause = PAUSE_FIRST;
    loop {
        let until_due = inner.errands.until_due();
        tokio::select! {
            () = inner.closed.cancelled() => return,
            () = inner.errands.bell.notified() => {}
            () = tokio::time::sleep(until_due.unwrap_or_default()), if until_due.is_some() => {}
        }
        match round(&inner).await {
            Ok(()) => pause = PAUSE_FIRST,
            Err(sqlite::Error::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "queues wait for the disk");
                if inner.closed.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
                pause = (pause * 2).min(PAUSE_MAX);
                inner.errands.bell.notify_one();
            }
        }
    }
}

/// Everything that is to be done now; the last error when something must be done again.
async fn round(inner: &Arc<Inner>) -> Result<(), sqlite::Error> {
    let mut result = promote(inner).await;
    for cell in inner.errands.list(|list| std::mem::take(&mut list.calls)) {
        if let Err(error) = tend(inner, &cell).await {
            inner.errands.list(|list| list.calls.push(cell));
            result = Err(error);
        }
    }
    result
}

/// Brings back what is due.
async fn promote(inner: &Arc<Inner>) -> Result<(), sqlite::Error> {
    let now = now_ms();
    let Some(due) = inner.errands.list(|list| list.due.take_if(|due| *due <= now)) else { return Ok(()) };
    match inner.database.writer().submit(Promote { aging: inner.aging, now, max: PROMOTED_AT_ONCE }).await {
        Ok((events, next)) => {
            for event in events {
                let cell = inner.numbered(event.queue);
                if let Some(cell) = cell {
                    inner.at(&cell, |queue| queue.promoted(event.place, event.retrycount));
                }
            }
            if let Some(next) = next {
                inner.errands.due_at(next);
            }
            Ok(())
        }
        Err(error) => {
            inner.errands.due_at(due);
            Err(error)
        }
    }
}

/// Reads what a queue needs for its next hand-over.
async fn tend(inner: &Arc<Inner>, cell: &Arc<Cell>) -> Result<(), sqlite::Error> {
    let need = cell.lock().need();
    match need {
        Need::Nothing => Ok(()),
        Need::Places { from, limit, taken } => {
            match statements::places(&inner.database, cell.id(), inner.aging, from, limit).await {
                Ok((read, complete)) => {
                    inner.at(cell, |queue| queue.load(&read, complete, taken));
                    Ok(())
                }
                Err(error) => {
                    cell.lock().not_loaded();
                    Err(error)
                }
            }
        }
        Need::Bodies(places) => bodies(inner, cell, &places).await,
    }
}

async fn bodies(inner: &Arc<Inner>, cell: &Arc<Cell>, places: &[Place]) -> Result<(), sqlite::Error> {
    let seqs: Vec<i64> = places.iter().map(|place| place.seq).collect();
    let (read, all) = statements::bodies(&inner.database, &seqs).await?;
    let mut missing: HashMap<i64, Place> = places.iter().map(|place| (place.seq, *place)).collect();
    inner.at(cell, |queue| {
        for body in read {
            let Some(place) = missing.remove(&body.seq) else { continue };
            match body.event {
                Ok(event) => queue.fill(place, event, body.bytes),
                Err(error) => {
                    tracing::error!(queue = cell.name(), seq = body.seq, error, "a stored event cannot be read");
                    queue.skip(place);
                }
            }
        }
        if all {
            for (seq, place) in missing {
                if queue.skip(place) {
                    tracing::error!(queue = cell.name(), seq, "a stored event has vanished from the file");
                }
            }
        }
    });
    Ok(())
}
