//! Ends on their way to the bus, and from there out of the outbox.
//!
//! ```text
//! told, at most a window of them at a time ─► confirmed, at most a window of them ─► their rows deleted, all that are there in one go
//! ```
//!
//! Kept by the relay, which feeds it and asks it to [go on](Round::next). What goes wrong with one of them is not the others' affair: no more
//! are taken, those that are there go their way, and [the end of it](Round::close) says what it was. Dropping it leaves open which of
//! the ends were told: their rows are still there, and they are told again.

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
    /// What went wrong first.
    failure: Option<Untold>,
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
    /// An empty one, for at most `window` ends that are being told, and as many whose rows wait to be deleted: a commit that takes its time
    /// holds up nothing until then.
    pub(super) fn new(outbox: &'a dyn Outbox, window: usize) -> Self {
        let window = window.max(1);
        Self { outbox, window, telling: FuturesUnordered::new(), told: Vec::new(), deleting: None, failure: None }
    }

    pub(super) fn has_room(&self) -> bool {
        self.failure.is_none() && self.telling.len() < self.window && self.told.len() < self.window
    }

    pub(super) const fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.telling.is_empty() && self.told.is_empty() && self.deleting.is_none()
    }

    /// Takes an end in; `telling` answers its place once the bus has confirmed it.
    pub(super) fn push(&mut self, telling: BoxFuture<'a, Result<i64, bus::Error>>) {
        self.telling.push(telling);
    }

    /// Goes on until one more end is told or not, or some rows are deleted; pending while it is empty. Can be cancelled.
    pub(super) async fn next(&mut self) {
        if self.deleting.is_none() && !self.told.is_empty() {
            self.deleting = Some(self.outbox.told(std::mem::take(&mut self.told)));
        }
        let done = tokio::select! {
            Some(told) = self.telling.next() => told.map(|place| self.told.push(place)).map_err(Untold::from),
            Some(deleted) = OptionFuture::from(self.deleting.as_mut()) => {
                self.deleting = None;
                deleted.map_err(Untold::from)
            }
            else => std::future::pending().await,
        };
        if let Err(failure) = done {
            self.failure.get_or_insert(failure);
        }
    }

    /// Sees all of them through.
    pub(super) async fn close(mut self) -> Result<(), Untold> {
        while !self.is_empty() {
            self.next().await;
        }
        self.failure.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use futures::FutureExt as _;
    use troupe_runtime::domain::step::Incarnation;
    use troupe_runtime::store::Told;

    use super::*;

    /// Notes what is deleted.
    #[derive(Default)]
    struct Notes {
        deleted: Mutex<Vec<Vec<i64>>>,
        /// Deletions do not end.
        is_stuck: bool,
    }

    impl Notes {
        fn stuck() -> Self {
            Self { is_stuck: true, ..Self::default() }
        }
    }

    #[async_trait]
    impl Outbox for Notes {
        async fn pending(&self, _: Incarnation, _: i64, _: usize) -> Result<Vec<Told>, store::Error> {
            Ok(Vec::new())
        }

        async fn inherit(&self, _: Incarnation) -> Result<u64, store::Error> {
            Ok(0)
        }

        async fn told(&self, seqs: Vec<i64>) -> Result<(), store::Error> {
            self.deleted.lock().unwrap().push(seqs);
            if self.is_stuck {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_deletion_that_takes_its_time_holds_up_none_that_can_be_told() {
        let stuck = Notes::stuck();
        let mut round = Round::new(&stuck, 2);
        // The first of them is on its way out of the outbox for ever, the second one waits for that.
        for place in 0..2 {
            round.push(std::future::ready(Ok(place)).boxed());
            round.next().await;
        }
        round.push(std::future::pending().boxed());
        assert_eq!((round.telling.len(), round.told.len()), (1, 1));
        assert!(round.has_room(), "what waits for its deletion takes nobody's place");
        round.push(std::future::ready(Ok(2)).boxed());
        round.next().await;
        assert_eq!((round.telling.len(), round.told.len()), (1, 2));
        assert!(!round.has_room(), "and no more than a window waits for it");
    }

    #[tokio::test]
    async fn one_that_cannot_be_told_holds_up_none_that_is_there() {
        let notes = Notes::default();
        let mut round = Round::new(&notes, 4);
        round.push(async { Err(bus::Error::Unavailable("its queue is full".to_owned())) }.boxed());
        for place in [7, 8] {
            // Not at once: the failure is known before.
            round.push(tokio::task::yield_now().map(move |()| Ok(place)).boxed());
        }
        while !round.has_failed() {
            round.next().await;
        }
        assert!(!round.has_room(), "no more are taken");
        assert!(matches!(round.close().await, Err(Untold::Bus(bus::Error::Unavailable(_)))));
        let mut deleted = notes.deleted.lock().unwrap().concat();
        deleted.sort_unstable();
        assert_eq!(deleted, [7, 8]);
    }
}
