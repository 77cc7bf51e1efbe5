//! What every bus does, written once and run against each adapter.
//!
//! A case gets a [`Harness`], opens a bus with the limits that it needs and answers what it saw wrong, in words.
//! Nothing here knows an adapter, sleeps, or panics: cases wait for conditions, [`PATIENCE`] at most. Where a case must
//! show that something does *not* happen, it looks for [`A_WHILE`]; that can miss a fault but never invent one.
//!
//! Called by the embedded adapter's own tests and by the system tests against a broker.

mod delivery;
mod letters;
mod limits;
mod removal;
mod retries;
mod routing;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::json;

use super::{Bus, Consumer, Delivery, Error, Options, QueueSpec, Routing};
use crate::domain::event::{Event, Priority};

/// How long a case waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long a case looks for what must not happen.
pub const A_WHILE: Duration = Duration::from_millis(60);

/// How a case gets its bus.
#[async_trait]
pub trait Harness: Send {
    /// Opens a bus on storage with nothing in it.
    async fn open(&mut self, options: Options) -> Result<Arc<dyn Bus>, String>;

    /// The process dies and starts again: the same storage, the same options, nothing settled that was not. The case
    /// has let go of the bus and of everything that came from it.
    async fn reopen(&mut self) -> Result<Arc<dyn Bus>, String>;
}

/// A harness, for one case.
pub type BoxHarness = Box<dyn Harness>;
/// What a case saw wrong.
pub type Verdict = Result<(), String>;

/// One thing that a bus does.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it does, as a sentence in snake case.
    pub name: &'static str,
    /// Tries it.
    pub run: fn(BoxHarness) -> BoxFuture<'static, Verdict>,
}

/// Everything that a bus does.
#[must_use]
pub fn cases() -> Vec<Case> {
    [routing::cases(), delivery::cases(), retries::cases(), letters::cases(), limits::cases(), removal::cases()]
        .concat()
}

/// Lists the functions of a module as cases under their own names.
macro_rules! list {
    ($($name:ident),+ $(,)?) => {
        pub(super) fn cases() -> Vec<super::Case> {
            vec![$(super::Case { name: stringify!($name), run: |harness| Box::pin($name(harness)) }),+]
        }
    };
}
use list;

/// Fails with `what` unless `fact`.
fn ensure(fact: bool, what: impl FnOnce() -> String) -> Verdict {
    if fact { Ok(()) } else { Err(what()) }
}

/// Fails unless both are equal, and shows them.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Verdict {
    ensure(found == expected, || format!("{what}: {found:?} instead of {expected:?}"))
}

/// An error of the bus where there should be none.
fn failed(error: impl std::fmt::Display) -> String {
    format!("the bus refused: {error}")
}

/// Makes a queue.
async fn declare(bus: &dyn Bus, name: &str, patterns: &[&str]) -> Verdict {
    let mut bindings = Vec::new();
    for pattern in patterns {
        bindings.push(pattern.parse().map_err(failed)?);
    }
    bus.declare(QueueSpec { name: name.to_owned(), bindings, single_active_consumer: false }).await.map_err(failed)
}

/// Makes the queue `q` that gets everything at `t`.
async fn declare_q(bus: &dyn Bus) -> Verdict {
    declare(bus, "q", &["t"]).await
}

/// An event at `topic` that carries a number.
fn event(topic: &str, priority: u8, number: usize) -> Result<Arc<Event>, String> {
    let mut event = Event::new(topic.parse().map_err(failed)?, "/conformance", json!({ "number": number }));
    event.priority = Priority::try_from(priority).map_err(failed)?;
    Ok(Arc::new(event))
}

/// The number that an event carries.
fn number(event: &Event) -> usize {
    event.data.value()["number"].as_u64().map_or(usize::MAX, |number| number as usize)
}

/// Publishes an event at `t` with a number, priority 5.
async fn publish(bus: &dyn Bus, number: usize) -> Verdict {
    publish_at(bus, 5, number).await
}

/// Publishes an event at `t` with a priority and a number.
async fn publish_at(bus: &dyn Bus, priority: u8, number: usize) -> Verdict {
    let queues = bus.publish(event("t", priority, number)?, Routing::Mandatory).await.map_err(failed)?;
    same("queues that took the event", &queues, &1)
}

/// Consumes `q`.
async fn consume(bus: &dyn Bus, prefetch: usize) -> Result<Consumer, String> {
    bus.consume("q", prefetch).await.map_err(failed)
}

/// Waits for the next delivery.
async fn next(consumer: &mut Consumer) -> Result<Delivery, String> {
    match tokio::time::timeout(PATIENCE, consumer.deliveries.recv()).await {
        Ok(Some(delivery)) => Ok(delivery),
        Ok(None) => Err("the consumer has ended".to_owned()),
        Err(_) => Err(format!("no delivery within {PATIENCE:?}")),
    }
}

/// Waits for the next `count` deliveries and keeps them unsettled.
async fn take(consumer: &mut Consumer, count: usize) -> Result<Vec<Delivery>, String> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        let delivery = next(consumer).await.map_err(|error| format!("after {} of {count}: {error}", taken.len()))?;
        taken.push(delivery);
    }
    Ok(taken)
}

/// The numbers of deliveries.
fn numbers(deliveries: &[Delivery]) -> Vec<usize> {
    deliveries.iter().map(|delivery| number(&delivery.event)).collect()
}

/// Takes and acknowledges `count` deliveries, one after the other; answers their numbers.
async fn drain(consumer: &mut Consumer, count: usize) -> Result<Vec<usize>, String> {
    let mut drained = Vec::with_capacity(count);
    while drained.len() < count {
        let delivery = next(consumer).await.map_err(|error| format!("after {} of {count}: {error}", drained.len()))?;
        drained.push(number(&delivery.event));
        delivery.settle.ack();
    }
    Ok(drained)
}

/// Looks whether the consumer is given something that it should not get.
async fn nothing_more(consumer: &mut Consumer) -> Verdict {
    match tokio::time::timeout(A_WHILE, consumer.deliveries.recv()).await {
        Ok(Some(delivery)) => Err(format!("event {} was handed out and should not be", number(&delivery.event))),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Waits until queue `name` holds `depth` events.
async fn until_depth(bus: &dyn Bus, name: &str, depth: u64) -> Verdict {
    let reached = async {
        loop {
            let health = bus.health().await.map_err(failed)?;
            let found = health.depths.iter().find(|(queue, _)| queue == name).map(|(_, depth)| *depth);
            if found == Some(depth) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached)
        .await
        .unwrap_or_else(|_| Err(format!("queue {name} does not come to hold {depth} events")))
}

/// Whether the refusal is the one that was expected.
fn refused<T>(what: &str, result: Result<T, Error>, expected: impl Fn(&Error) -> bool) -> Verdict {
    match result {
        Ok(_) => Err(format!("{what} was not refused")),
        Err(error) => ensure(expected(&error), || format!("{what} was refused in the wrong way: {error}")),
    }
}
