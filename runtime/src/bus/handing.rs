//! The way from a queue to its consumer: deliveries that were handed over and are not looked at yet.
//!
//! An adapter hands over under its queue's lock, and no more than the consumer's prefetch allows (the [line](super::line) counts);
//! so this waits for nobody and needs no bound of its own. There is one for each agent of a node, most of them idle: while nothing
//! is in it, it takes some 200 bytes (a channel of tokio's keeps room for 32 deliveries from the start).
//!
//! When the consumer goes, what it has not looked at is dropped with it, which hands it back. When the adapter goes, or ends the
//! consumer, the consumer sees the end after what was handed over.

use futures::StreamExt as _;
use futures::channel::mpsc;

use super::Delivery;

/// Both ends of a way.
#[must_use]
pub fn way() -> (Handing, Deliveries) {
    let (sender, receiver) = mpsc::unbounded();
    (Handing(sender), Deliveries(receiver))
}

/// The adapter's end.
#[derive(Debug)]
pub struct Handing(mpsc::UnboundedSender<Delivery>);

/// The consumer's end.
#[derive(Debug)]
pub struct Deliveries(mpsc::UnboundedReceiver<Delivery>);

impl Handing {
    /// Whether the consumer has gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Hands a delivery over.
    ///
    /// # Errors
    /// The delivery, when the consumer has gone. Dropping it hands it back, which must not be done under a queue's lock.
    pub fn hand(&self, delivery: Delivery) -> Result<(), Delivery> {
        self.0.unbounded_send(delivery).map_err(mpsc::TrySendError::into_inner)
    }
}

impl Deliveries {
    /// Waits for the next one; `None` when there will be none. Cancelled, it has taken nothing.
    pub async fn recv(&mut self) -> Option<Delivery> {
        self.0.next().await
    }

    /// The next one, if it is there.
    pub fn try_recv(&mut self) -> Option<Delivery> {
        self.0.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::bus::{Error, Settle};
    use crate::domain::event::Event;

    /// Counts those that were dropped unsettled.
    #[derive(Debug)]
    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[async_trait]
    impl Settle for Counted {
        fn ack(self: Box<Self>) {}

        async fn retry(self: Box<Self>, _cause: &str) -> Result<(), Error> {
            Ok(())
        }

        async fn reject(self: Box<Self>, _cause: &str) -> Result<(), Error> {
            Ok(())
        }
    }

    fn delivery(number: u32, back: &Arc<AtomicUsize>) -> Delivery {
        let event = Arc::new(Event::new("t".parse().unwrap(), "/test", json!(number)));
        Delivery { event, retrycount: number, redelivered: false, settle: Box::new(Counted(back.clone())) }
    }

    #[tokio::test]
    async fn what_was_handed_over_comes_in_order_and_then_the_end() {
        let back = Arc::default();
        let (handing, mut deliveries) = way();
        for number in 0..100 {
            handing.hand(delivery(number, &back)).unwrap();
        }
        assert_eq!(deliveries.try_recv().unwrap().retrycount, 0);
        drop(handing);
        for number in 1..100 {
            assert_eq!(deliveries.recv().await.unwrap().retrycount, number);
        }
        assert!(deliveries.recv().await.is_none() && deliveries.try_recv().is_none());
    }

    #[tokio::test]
    async fn what_a_consumer_has_not_looked_at_goes_back_with_it() {
        let back = Arc::default();
        let (handing, deliveries) = way();
        for number in 0..3 {
            handing.hand(delivery(number, &back)).unwrap();
        }
        assert!(!handing.is_closed());
        drop(deliveries);
        assert!(handing.is_closed());
        assert_eq!(back.load(Ordering::Relaxed), 3);
        let late = handing.hand(delivery(3, &back)).unwrap_err();
        assert_eq!(back.load(Ordering::Relaxed), 3, "it is the caller's to drop");
        drop(late);
        assert_eq!(back.load(Ordering::Relaxed), 4);
    }
}
