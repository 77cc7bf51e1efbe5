//! What there is in the broker: names, arguments, and how it is made.
//!
//! ```text
//! [topic] troupe.events ──bindings──► agent.input.<agent>, troupe.replies …      quorum, one a QueueSpec
//! [fanout] troupe.retry.<n>ms ──────► troupe.retry.<n>ms    quorum, TTL; expired: to the queue named by the routing key
//! [stream] troupe.bindings   which patterns each queue is bound to: AMQP cannot list them
//! [stream] troupe.dlq        dead letters, and which of them are gone
//! ```
//!
//! Everything is durable and made by whoever comes first; making it again is free. The arguments of a thing never change under
//! one name, for the broker refuses that with 406: what may differ from one node to the next is part of the name. A work queue
//! returns what is handed back to its head, which in 3.10 takes a delivery limit.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ExchangeKind};

use super::wire;
use crate::bus::Error;

/// Where events are published.
pub(super) const EVENTS: &str = "troupe.events";
/// The dead letters.
pub(super) const DEAD_LETTERS: &str = "troupe.dlq";
/// Which patterns each queue is bound to.
pub(super) const BINDINGS: &str = "troupe.bindings";

/// Deliveries after which the broker itself buries an event. It counts every connection that is lost with the event in the
/// look-ahead, handed out or not; so it is high, a brake for what kills process after process and nothing else.
const DELIVERY_LIMIT: i32 = 1_000;

/// The exchange and the queue of one wait of the ladder.
pub(super) fn retry_name(wait: Duration) -> String {
    format!("troupe.retry.{}ms", wait.as_millis())
}

/// Makes what every node needs.
///
/// # Errors
/// [`Error::Misdeclared`] when the broker has something else under one of the names.
pub(super) async fn make(channel: &Channel, ladder: &[Duration]) -> Result<(), Error> {
    make_exchange(channel, EVENTS, ExchangeKind::Topic).await?;
    for stream in [BINDINGS, DEAD_LETTERS] {
        make_queue(channel, stream, table(&[("x-queue-type", text("stream"))])).await?;
    }
    for wait in ladder {
        let name = retry_name(*wait);
        // A millisecond more: the broker counts in whole ones, and the wait is a promise.
        let ttl = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX).saturating_add(1);
        let arguments = [
            ("x-queue-type", text("quorum")),
            ("x-message-ttl", AMQPValue::LongLongInt(ttl)),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ];
        make_exchange(channel, &name, ExchangeKind::Fanout).await?;
        make_queue(channel, &name, table(&arguments)).await?;
        channel
            .queue_bind(
                wire::name(&name)?,
                wire::name(&name)?,
                "".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(|error| wire::refused(&error, &name))?;
    }
    Ok(())
}

/// Makes a work queue.
///
/// # Errors
/// [`Error::Misdeclared`] when there is one that was made in another way.
pub(super) async fn make_work_queue(channel: &Channel, queue: &str, single_active: bool) -> Result<(), Error> {
    let mut arguments = vec![
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(DEAD_LETTERS)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ];
    if single_active {
        arguments.push(("x-single-active-consumer", AMQPValue::Boolean(true)));
    }
    make_queue(channel, queue, table(&arguments)).await
}

/// How many events a queue has ready; the broker closes the channel when there is no such queue.
///
/// # Errors
/// [`Error::NoQueue`].
pub(super) async fn ready(channel: &Channel, queue: &str) -> Result<u64, Error> {
    look(channel, queue).await.map(|(ready, _)| ready)
}

/// The same, and how many consume it, on all nodes.
///
/// # Errors
/// [`Error::NoQueue`].
pub(super) async fn look(channel: &Channel, queue: &str) -> Result<(u64, u32), Error> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel
        .queue_declare(wire::name(queue)?, options, FieldTable::default())
        .await
        .map_err(|error| wire::refused(&error, queue))?;
    Ok((found.message_count().into(), found.consumer_count()))
}

/// Deletes a queue, with whatever is in it; answers how much that was.
///
/// # Errors
/// [`Error::Unavailable`]. A queue that is not there is no error.
pub(super) async fn delete(channel: &Channel, queue: &str) -> Result<u32, Error> {
    channel
        .queue_delete(wire::name(queue)?, QueueDeleteOptions::default())
        .await
        .map_err(|error| wire::refused(&error, queue))
}

async fn make_exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> Result<(), Error> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel
        .exchange_declare(wire::name(name)?, kind, options, FieldTable::default())
        .await
        .map_err(|error| wire::refused(&error, name))
}

async fn make_queue(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), Error> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel
        .queue_declare(wire::name(name)?, options, arguments)
        .await
        .map(drop)
        .map_err(|error| wire::refused(&error, name))
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// A table of arguments.
pub(super) fn table(arguments: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    table
}
