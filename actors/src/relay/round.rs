//! Ends on their way to the bus, and from there out of the outbox.
//!
//! ```text
//! told, at most a window of them at a time ─► confirmed ─► their rows deleted, all that are there in one go
//! ```
//!
//! Kept by the relay, which feeds it and asks it to [go on](Round::next). Dropping it, or an error, leaves open which of the ends
//! were told: their rows are still there, and they are told again.

use futures::StreamExt as _;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::FuturesUnordered;
use troupe_runtime::bus;
use troupe_runtime::store::{self, Outbox};

/// Ends on their way.
pub(super) struct Round<'a> {
    outbox: &'a dyn Outbox,
    window: usize,
    telling: FuturesUnordered<BoxFuture<'a, Result<i64, bus::Error>>>,
    /// Confirmed; their rows go with the next deletion.
    told: Vec<i64>,
    deleting: Option<BoxFuture<'a, Result<(), store::Error>>>,
}

/// Why an end stays in the outbox.
#[derive(Debug, thiserror::Error)]
pub(super) enum Untold {
    #[error(transparent)]
    Bus(#[from] bus::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl<'a> Round<'a> {
    /// An empty one, for at most `window` ends.
    pub(super) fn new(outbox: &'a dyn Outbox, window: usize) -> Self {
        let window = window.max(1);
        Self { outbox, window, telling: FuturesUnordered::new(), told: Vec::new(), deleting: None }
    }

    pub(super) fn has_room(&self) -> bool {
        self.telling.len() + self.told.len() < self.window
    }

    pub(super) fn is_empty(&self) -> bool {
        self.telling.is_empty() && self.told.is_empty() && self.deleting.is_none()
    }

    /// Takes an end in; `telling` answers its place once the bus has confirmed it.
    pub(super) fn push(&mut self, telling: BoxFuture<'a, Result<i64, bus::Error>>) {
        self.telling.push(telling);
    }

    /// Goes on until one more end is told, or some rows are deleted; pending while it is empty. Can be cancelled.
    pub(super) async fn next(&mut self) -> Result<(), Untold> {
        if self.deleting.is_none() && !self.told.is_empty() {
            self.deleting = Some(self.outbox.told(std::mem::take(&mut self.told)));
        }
        tokio::select! {
            Some(told) = self.telling.next() => self.told.push(told?),
            Some(deleted) = OptionFuture::from(self.deleting.as_mut()) => {
                self.deleting = None;
                deleted?;
            }
            else => std::future::pending().await,
        }
        Ok(())
    }
}
