//! Frames: what goes out in small ones (the headers of an event must fit into one, its body goes over many), and what comes in in
//! the largest ones that a broker takes unless told otherwise, from strangers.

use std::sync::Arc;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use tokio::time::timeout;
use troupe_runtime::bus::rabbitmq::Options;
use troupe_runtime::bus::{self, Bus, Routing};
use troupe_runtime::domain::event::Event;
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::wait::PATIENCE;

use crate::faults::{Outcome, Run, failed, open, queue};

/// Every case.
pub(crate) const CASES: [(&str, Run); 2] = [
    ("the_longest_error_and_the_largest_event_go_through_the_smallest_frame", |broker, url| {
        Box::pin(smallest(broker, url))
    }),
    ("the_longest_headers_of_a_stranger_come_in", |broker, url| Box::pin(longest_headers(broker, url))),
];

/// The least that the node file takes.
const SMALLEST: u32 = 16 * 1024;
/// A header that leaves a frame of 128 KiB some room for the other properties, for what frames a frame, and for the counts that the
/// broker adds.
const HEADER_BYTES: usize = 128 * 1024 - 1024;
/// A character of four bytes.
const WIDE: &str = "\u{1d11e}";

async fn smallest(_broker: &mut RabbitMq, url: String) -> Outcome {
    let of_bus = bus::Options { retry_ladder: vec![Duration::from_millis(10)], ..bus::Options::default() };
    let most = of_bus.event_bytes_max - 1024;
    let bus = open(&url, Options { bus: of_bus, publish_frame_bytes: SMALLEST, ..Options::default() })?;
    bus.declare(queue(false)).await.map_err(failed)?;
    let mut consumer = bus.consume("q", 1).await.map_err(failed)?;
    let large = Arc::new(Event::new("t".parse().unwrap(), "/frames", json!({ "text": "x".repeat(most) })));
    bus.publish(large.clone(), Routing::Mandatory).await.map_err(failed)?;

    let error = WIDE.repeat(2_000);
    for retrycount in [0, 1] {
        let delivery = timeout(PATIENCE, consumer.deliveries.recv()).await.ok().flatten().ok_or("no delivery")?;
        if delivery.event.data != large.data || delivery.retrycount != retrycount {
            return Err(format!("delivery {} is another event", delivery.retrycount));
        }
        delivery.settle.retry(&error).await.map_err(failed)?;
    }
    let letters = timeout(PATIENCE, bus.dead_letters(1, None)).await.map_err(|_| "no answer")?.map_err(failed)?;
    let [letter] = &letters[..] else { return Err(format!("{} dead letters", letters.len())) };
    if (letter.first_error.as_str(), letter.event.data == large.data) != (error.as_str(), true) {
        return Err("the dead letter has lost something".to_owned());
    }
    bus.close().await;
    Ok(format!("{} bytes of event and {} of error in frames of {SMALLEST}", most, error.len()))
}

async fn longest_headers(_broker: &mut RabbitMq, url: String) -> Outcome {
    let bus = open(&url, Options::default())?;
    bus.declare(queue(false)).await.map_err(failed)?;
    let stranger = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await.map_err(failed)?;
    let channel = stranger.create_channel().await.map_err(failed)?;
    let event = Event::new("t".parse().unwrap(), "/stranger", json!({ "text": "short" }));
    let body = serde_json::to_vec(&event).map_err(failed)?;
    let mut headers = FieldTable::default();
    headers.insert("long".into(), AMQPValue::LongString("x".repeat(HEADER_BYTES).into()));
    let properties = BasicProperties::default().with_headers(headers);
    let sent = channel.basic_publish("".into(), "q".into(), BasicPublishOptions::default(), &body, properties).await;
    sent.map_err(failed)?.await.map_err(failed)?;

    let mut consumer = bus.consume("q", 1).await.map_err(failed)?;
    let delivery = timeout(PATIENCE, consumer.deliveries.recv()).await.ok().flatten().ok_or("no delivery")?;
    if delivery.event.id != event.id {
        return Err("another event came in".to_owned());
    }
    delivery.settle.ack();
    let lost = bus.health().await.map_err(failed)?.connection.map(|connection| connection.lost);
    if lost != Some(0) {
        return Err(format!("connections were lost for it: {lost:?}"));
    }
    bus.close().await;
    stranger.close(200, "done".into()).await.ok();
    Ok(format!("a header of {HEADER_BYTES} bytes"))
}
